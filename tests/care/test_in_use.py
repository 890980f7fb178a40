"""What containers run on is never taken from under them; what is damaged is told of until it can be replaced."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from damages import archive_digest, blob_path, flip, kinds, layer_path
from foreign import image_archive

import pylxc
from pylxc.runtime import rootless


@pytest.fixture
def box_archive() -> bytes:
    """An archive of an image with a static busybox, in an order that pylxc does not pack in."""
    files = {"data": b"x" * 9000, "busybox": Path("/bin/busybox").read_bytes()}
    return image_archive(files, "box:latest", 0o755)


@pytest.fixture
def box(engine: pylxc.Engine, box_archive: bytes) -> pylxc.Image:
    return pylxc.Image.load(io.BytesIO(box_archive), engine=engine)


def test_a_tree_that_a_container_runs_on_is_left_until_it_has_ended(engine, box, box_archive):
    with pylxc.start(box, ["/busybox", "sleep", "1000"], engine=engine) as container:
        rootless.as_owner(flip, layer_path(box, "data"))
        (problem,) = engine.repair().left
        assert problem.kind == "layer"
        assert f"in use by container {container.id[:12]}" in problem.remedy
        assert container.exec(["/busybox", "wc", "-c", "/data"]).text.split()[0] == "9000"
        with pytest.raises(pylxc.StoreError, match=r"damaged.*store repair"):
            pylxc.run(box, ["/busybox", "true"], engine=engine)
        with pytest.raises(pylxc.StoreError, match="in use by container"):
            pylxc.Image.load(io.BytesIO(box_archive), engine=engine)
        assert container.exec(["/busybox", "wc", "-c", "/data"]).text.split()[0] == "9000"
        container.kill()
        container.wait()
        assert engine.repair().ok
    box.verify()
    assert pylxc.run(box, ["/busybox", "wc", "-c", "/data"], engine=engine).text.split()[0] == "9000"


def test_a_run_without_a_trace_of_its_own_is_seen_as_well(engine, box):
    with pylxc.popen(box, ["/busybox", "cat"], engine=engine) as process:
        rootless.as_owner(flip, layer_path(box, "data"))
        (problem,) = engine.repair().left
        assert "in use by container" in problem.remedy
        assert process.communicate(b"still here") == (b"still here", b"")
    assert engine.repair().ok


def test_what_a_lease_relies_on_is_left(engine, box):
    rootless.as_owner(flip, layer_path(box, "data"))
    with engine.store.leases.take() as lease:
        lease.protect([box.layers[0].digest])
        (problem,) = engine.repair().left
        assert "in use by a build or a transfer" in problem.remedy
    assert engine.repair().ok


def test_a_stopped_container_goes_on_over_the_tree_that_was_put_in_place(engine, box):
    container = pylxc.create(box, ["/busybox", "wc", "-c", "/data"], engine=engine)
    rootless.as_owner(flip, layer_path(box, "data"))
    assert engine.repair().ok
    container.start()
    assert container.wait() == 0
    container.remove()


def test_a_damaged_archive_does_not_keep_an_image_from_running(engine, box):
    flip(blob_path(box, archive_digest(box)))
    assert kinds(engine.check()) == ["archive"]
    assert not engine.repair().ok
    assert pylxc.run(box, ["/busybox", "true"], engine=engine).ok
