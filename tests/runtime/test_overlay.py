"""Root file systems at the edges of what overlayfs takes, by the way of new kernels and by that of old ones."""

from __future__ import annotations

import errno
import io
import os

import pytest
from boxes import NOTHING, entries
from pictures import Layout, layer_tar, packed

import pylxc
from pylxc import engine as module
from pylxc.runtime import isolation, native, process, rootless
from pylxc.runtime import plan as p

# Linux < 6.5 has the one way only.
WAYS = [False, True] if module.kernel_is(6, 5) else [True]
MOST = {False: 300, True: 205}


def output(tree: isolation.Tree, script: str) -> bytes:
    """Run a script on a root file system, without anything else of a container."""
    plan = p.Plan(clone_flags=isolation.NEWNS)
    isolation.add_tree(plan, tree)
    plan.add(p.PIVOT)
    plan.add(p.EXEC, "/bin/sh", "-c", script)
    reading, writing = os.pipe()
    try:
        rootless.apply(plan)
        child = native.spawn(plan, [-1, writing, -1])
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        with os.fdopen(reading, "rb") as out:
            return out.read()
    finally:
        process.finish(child)


@pytest.fixture
def busybox_lowers(box):
    return box.engine.lowers([layer.digest for layer in box.engine.image("busybox").layers])[0]


def layers(directory, count: int) -> tuple[str, ...]:
    """Make layers with a file each, and one that all have; the topmost is number 0."""
    made = []
    for number in range(count):
        path = directory / f"odd: na,me\\{number}"
        path.mkdir(parents=True)
        (path / f"file{number}").write_text("")
        (path / "top").write_text(f"{number}\n")
        made.append(str(path))
    return tuple(made)


@pytest.mark.parametrize(("joined", "count"), [(way, count) for way in WAYS for count in (2, MOST[way])])
def test_many_layers_of_odd_names(box, busybox_lowers, tmp_path, joined, count):
    tree = isolation.Tree(
        lowers=(*layers(tmp_path, count), *busybox_lowers), scaffold=box.engine.scaffold, joined=joined
    )
    assert output(tree, "cat /top; ls / | grep -c file; touch /x 2>/dev/null || echo ro") == b"0\n%d\nro\n" % count


@pytest.mark.parametrize("joined", WAYS)
def test_a_writable_side(box, busybox_lowers, tmp_path, joined):
    tree = isolation.Tree(
        lowers=busybox_lowers,
        scaffold=box.engine.scaffold,
        upper=str(tmp_path / "upper"),
        work=str(tmp_path / "work"),
        joined=joined,
    )
    isolation.prepare_upper(tree)
    assert output(tree, "echo new > /new; rm /etc/passwd; ls /etc") == b"group\nhostname\nhosts\nresolv.conf\n"
    assert (tmp_path / "upper/new").read_text() == "new\n"
    assert os.stat(tmp_path / "upper/etc/passwd").st_rdev == 0


@pytest.mark.parametrize("joined", WAYS)
def test_whole_containers_in_both_ways(box, monkeypatch, joined):
    old_ways(monkeypatch, joined=joined)
    tree = box.create("true", remove=True)
    assert tree._tree(once=True).joined is joined
    tree.remove()
    script = "echo written > /file; echo too > /usr/file && cat /file /usr/file"
    for image in ("busybox", "host"):
        place = "/usr" if image == "host" else "/tmp"
        assert box.sh(script.replace("/usr", place), image=image).text == "written\ntoo\n"
        assert box.sh("touch /x 2>/dev/null || echo ro", image=image, read_only=True).text == "ro\n"
        with box.start("sleep", "100", image=image) as container:
            assert container.exec(["sh", "-c", script.replace("/usr", place)]).text == "written\ntoo\n"


def old_ways(monkeypatch: pytest.MonkeyPatch, *, joined: bool) -> None:
    """Let the engine do what it does below Linux 6.5."""
    real = module.kernel_is
    monkeypatch.setattr(module, "kernel_is", lambda *version: real(*version) and not (joined and version >= (6, 5)))


def test_an_image_of_two_hundred_layers(box, monkeypatch):
    """From an archive; each layer adds a file, and changes one that all have."""
    with box.engine.image("busybox").layers[0].tar() as stream:
        base = stream.read()
    made = Layout()
    more = [layer_tar({f"files/{number}": b"", "files/last": b"%d\n" % number}) for number in range(199)]
    made.top(made.image(base, *more))
    image = pylxc.Image.load(io.BytesIO(packed(made)), engine=box.engine)
    assert len(image.layers) == 200
    script = "ls /files | wc -l; cat /files/last; echo x > /files/new && cat /files/new"
    try:
        for joined in WAYS:
            old_ways(monkeypatch, joined=joined)
            assert box.sh(script, image=image).text.split() == ["200", "198", "x"]
            with box.start("sleep", "100", image=image) as container:
                assert container.exec(["sh", "-c", script]).text.split() == ["200", "198", "x"]
    finally:
        image.remove()


@pytest.mark.parametrize("joined", WAYS)
def test_a_layer_that_is_gone(box, busybox_lowers, tmp_path, joined):
    tree = isolation.Tree(lowers=(str(tmp_path / "gone"), *busybox_lowers), scaffold=box.engine.scaffold, joined=joined)
    with pytest.raises(pylxc.SpawnError) as caught:
        output(tree, "true")
    assert (caught.value.stage, caught.value.errno) == ("root", errno.ENOENT)


def test_more_layers_than_the_old_way_takes(box, busybox_lowers, tmp_path):
    lowers = (*layers(tmp_path, 300), *busybox_lowers)
    tree = isolation.Tree(lowers=lowers, scaffold=box.engine.scaffold, joined=True)
    with pytest.raises(pylxc.SpawnError) as caught:
        output(tree, "true")
    assert (caught.value.stage, caught.value.errno) == ("root", errno.E2BIG)


def test_a_store_that_lies_deep(busybox_root, tmp_path):
    engine = pylxc.Engine(tmp_path / ("d" * 120) / ("e" * 120) / "store")
    image = pylxc.Image.from_directory(busybox_root, engine=engine)
    for found in (image, "host"):
        assert pylxc.run(found, ["sh", "-c", "echo fine > /tmp/x && cat /tmp/x"], engine=engine).text == "fine\n"
    with pylxc.start(image, ["sleep", "100"], engine=engine) as container:
        assert container.exec(["echo", "fine"]).text == "fine\n"
    assert entries(engine) == NOTHING
