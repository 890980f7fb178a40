"""A repair that is killed at any point is finished by the next one; prune and removals work on a full disk.

The kills come before calls of the kernel and of SQLite, one by one; the disks are real ones of a few megabytes.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from foreign import image_archive
from stores import add_image, calls_of, container, killed_at
from test_store_faults import FULL, disk, run_on_disk

import pylxc
from pylxc.store import layers

__all__ = ["disk"]

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def damaged(tmp_path, tree):
    """A store with some damage of every kind, all of which can be mended; what to copy, and the images."""
    root = tmp_path / "template"
    engine = pylxc.Engine(root)
    came = pylxc.Image.load(
        io.BytesIO(image_archive({"zebra": b"x" * 5000, "apple": b"x" * 5000}, "came:1")), engine=engine
    )
    made = pylxc.Image.from_directory(tree(file="content"), "made:1", engine=engine)
    made.save(io.BytesIO())
    (archive,) = engine.store.blobs.of_layer(made.layers[0].digest)
    (Path(engine.layer_directory(came.layers[0].digest)) / "apple").write_bytes(b"")
    os.truncate(engine.store.blobs.path(archive.digest), 3)
    (root / "layers" / ("0" * 64)).mkdir()
    engine.store.close()
    return root, {came.id, made.id}


def copied(template: Path, root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", template, root], check=True)
    return root


def kill_and_finish(number: int, template: Path, root: Path, ids: set[str], spoil) -> None:
    copied(template, root)
    spoil(root, ids)
    assert killed_at(number, lambda: pylxc.Engine(root).repair())
    engine = pylxc.Engine(root)
    report = engine.repair()
    assert report.left == (), number
    assert engine.check().ok
    images = pylxc.Image.list(engine=engine)
    assert {image.id for image in images} == ids
    assert sorted(ref for image in images for ref in image.refs) == ["came:1", "made:1"]
    for image in images:
        image.verify()
    for name in ("staging", "trash"):
        assert os.listdir(root / name) == []
    engine.store.close()


def no_layout(root: Path, ids: set[str]) -> None:
    """What the index can say anew."""
    (root / "oci/index.json").write_bytes(b"")
    for image in ids:
        (root / "oci/blobs/sha256" / image[7:]).unlink()


def no_index(root: Path, _ids: set[str]) -> None:
    """What the layout can say anew."""
    os.truncate(root / "pylxc.db", 5000)


@pytest.mark.parametrize("spoil", [no_layout, no_index])
@pytest.mark.parametrize("points", [pytest.param(0, marks=pytest.mark.slow), 6])
def test_a_repair_that_is_killed_is_finished_by_the_next(points, spoil, damaged, tmp_path):
    template, ids = damaged
    root = copied(template, tmp_path / "store")
    spoil(root, ids)
    last = calls_of(lambda: pylxc.Engine(root).repair())
    assert last > 100
    for number in range(last) if not points else [last * point // points for point in range(points)]:
        kill_and_finish(number, template, root, ids, spoil)


def test_a_tree_comes_back_when_a_container_was_made_while_it_was_replaced(store, monkeypatch):
    image = add_image(store, "app", "content")
    (layer,) = image.layers
    store.layers.mark(layer.digest, "for this test")
    before = os.stat(store.layers.path(layer.digest)).st_ino

    def made_meanwhile(_path: str) -> None:
        store.containers.add(container(image.id, "late"))

    monkeypatch.setattr(layers, "sync_filesystem", made_meanwhile)
    with store.leases.take() as lease:
        staged = Path(lease.stage(), "tree")
        staged.mkdir()
        with pytest.raises(pylxc.StoreError, match="in use by container"):
            store.layers.replace(lease, str(staged), layer.digest)
        assert os.stat(store.layers.path(layer.digest)).st_ino == before
        monkeypatch.undo()
        store.containers.remove(container(image.id, "late").id)
        store.layers.replace(lease, str(staged), layer.digest)
        assert os.stat(store.layers.path(layer.digest)).st_ino != before
    assert store.layers.damaged() == {}


def test_two_repairs_at_once(damaged, tmp_path):
    template, ids = damaged
    root = copied(template, tmp_path / "store")
    no_layout(root, ids)
    program = f"import pylxc; sys.exit(not pylxc.Engine({str(root)!r}).repair().ok)"
    children = [subprocess.Popen([sys.executable, "-c", f"import sys; {program}"]) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    engine = pylxc.Engine(root)
    assert engine.check().ok
    assert {image.id for image in pylxc.Image.list(engine=engine)} == ids


def test_checks_and_repairs_find_nothing_in_a_store_that_others_work_on(tmp_path, tree):
    root = tmp_path / "store"
    engine = pylxc.Engine(root)
    pylxc.Image.from_directory(tree(file="base"), "base", engine=engine)
    program = (
        "import sys, pylxc\n"
        f"engine = pylxc.Engine({str(root)!r})\n"
        "for _ in range(12):\n"
        "    image = pylxc.Image.from_directory(sys.argv[1], 'more', engine=engine)\n"
        "    image.save('/dev/null')\n"
        "    image.remove()\n"
    )
    words = [sys.executable, "-c", program, tree(file="x" * 100000)]
    worker = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    rounds = 0
    while worker.poll() is None or not rounds:
        assert engine.check().problems == ()
        assert engine.repair() == pylxc.RepairReport((), ())
        rounds += 1
    assert worker.returncode == 0
    assert engine.check().ok


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_prune_and_removals_on_a_full_disk(kind, disk, tree):
    program = (
        FULL
        + """
for name, directory in zip(("one", "two", "three"), arguments):
    pylxc.Image.from_directory(directory, name, engine=engine)
pylxc.Image.get("two", engine=engine).untag("two")
container = pylxc.create("three", ["x"], volumes=["/data"], detach=True, engine=engine)
volume = pylxc.Volume.create("named", engine=engine)
(volume.path / "file").write_bytes(b"x" * 10000)
fill()
volume.remove()
fill()
gone = engine.prune()
assert (gone.containers, len(gone.images)) == ((container.id,), 1), gone
fill()
gone = engine.prune(all=True, volumes=True)
assert (gone.containers, len(gone.images)) == ((), 2), gone
assert pylxc.Volume.list(engine=engine) == []
whole(engine)
assert engine.check().ok
assert engine.disk_usage().size == 0
"""
    )
    size = "3M" if kind == "tmpfs" else "6M"
    run_on_disk(disk, program, *(tree(file=name) for name in ("one", "two", "three")), kind=kind, size=size)


def test_a_check_and_a_repair_on_a_full_disk(disk, tree):
    program = (
        FULL
        + """
image = pylxc.Image.from_directory(arguments[0], "one", engine=engine)
fill()
assert engine.check().ok
(disk / "ballast").write_bytes(b"")
file = Path(engine.layer_directory(image.layers[0].digest), "file")
file.write_text("changed")
(engine.root / "layers" / ("0" * 64)).mkdir()
fill()
assert sorted(problem.kind for problem in engine.check().problems) == ["layer", "stray"]
assert [problem.kind for problem in engine.repair().left] == ["layer"]
"""
    )
    run_on_disk(disk, program, tree(file="content"))
