"""Container.commit of one that has ended: what it wrote becomes the layer itself, and comes back when it is needed."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_commit import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pylxc

pytestmark = pytest.mark.root  # an ordinary user's containers are copied

WRITE = "mkdir -p /d/e; echo one >/d/f; ln /d/f /d/g; rm /etc/passwd; rm -r /tmp; mkdir /tmp; echo x >>/etc/group; sync"
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10


@contextmanager
def ended(box, script: str = WRITE, **options) -> Iterator[pylxc.Container]:
    """A container that has written something and ended."""
    with box.start("sh", "-c", script, **options) as container:
        container.wait(timeout=20)
        yield container


def upper_of(container: pylxc.Container) -> Path:
    return Path(container._directory(), "upper")


def tree_of(image: pylxc.Image, engine: pylxc.Engine) -> Path:
    return Path(engine.store.layers.path(image.layers[-1].digest))


def is_given(container: pylxc.Container) -> bool:
    return container._engine.store.uppers.layer_of(container.id) is not None


def assert_whole(engine: pylxc.Engine) -> None:
    assert engine.check().problems == ()
    assert engine.store.leases.abandoned() == []


@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"privileged": True}], ids=str)
def test_it_is_the_tree_itself_and_what_a_copy_would_be(box, monkeypatch, options):
    with ended(box, **options) as container:
        inode = (upper_of(container) / "d/f").stat().st_ino
        with monkeypatch.context() as patched:
            patched.setattr("pylxc.build.commit.adopted", copied)
            copy = container.commit()
        digest = copy.layers[-1].digest
        assert (tree_of(copy, box.engine) / "d/f").stat().st_ino != inode
        copy.remove()
        image = container.commit()
        assert image.layers[-1].digest == digest
        assert is_given(container)
        assert not upper_of(container).exists()
        assert (tree_of(image, box.engine) / "d/f").stat().st_ino == inode
        image.verify()
        assert_whole(box.engine)


def copied(*_: object) -> Iterator[None]:
    """Refuse, as where it has to be copied."""
    yield from ()


def test_where_the_layer_is_there_already_nothing_is_done(box, monkeypatch):
    with ended(box) as container:
        with monkeypatch.context() as patched:
            patched.setattr("pylxc.build.commit.adopted", copied)
            copy = container.commit()
        assert container.commit().layers == copy.layers
        assert not is_given(container)
        assert_whole(box.engine)


def test_nothing_of_overlayfs_is_left_in_the_tree(box):
    with ended(box) as container:
        before = os.listxattr(upper_of(container) / "etc/group")
        assert any(name.startswith("user.overlay.") for name in before), "the test is of no use"
        tree = tree_of(container.commit(), box.engine)
    marks = {
        (str(path.relative_to(tree)), name)
        for path in (tree, *tree.rglob("*"))
        if not path.is_symlink()
        for name in os.listxattr(path)
    }
    assert {mark for mark in marks if mark[1].startswith("user.overlay.")} == {("tmp", "user.overlay.opaque")}


@pytest.mark.parametrize("first", ["start", "copy_in", "copy_out", "open"])
def test_it_comes_back_and_may_be_changed(box, tmp_path, first):
    with ended(
        box, "[ -e /d/f ] && echo again >>/d/f; " + WRITE.replace("echo one >/d/f", "echo one >>/d/f")
    ) as container:
        before = container.diff()
        image = container.commit("committed")
        assert is_given(container)
        assert container.diff() == before
        if first == "start":
            container.start()
            container.wait(timeout=20)
            with container.open("/d/f") as file:
                assert file.read() == "one\nagain\none\n"
        elif first == "copy_in":
            (tmp_path / "new").write_text("new")
            container.copy_in(tmp_path / "new", "/d/f")
        elif first == "copy_out":
            container.copy_out("/d/f", tmp_path / "out")
            assert (tmp_path / "out").read_text() == "one\n"
        else:
            with container.open("/d/f", "a") as file:
                file.write("two\n")
        assert not is_given(container)
        image.verify()
        assert box.run("cat", "/d/f", image=image).text == "one\n"
        if first != "start":
            assert container.diff() == before
        assert_whole(box.engine)
    image.remove()


def test_once_more(box):
    with ended(box, "date +%s%N >>/now") as container:
        first = container.commit()
        again = container.commit(changes=["LABEL again=yes"])
        assert first.layers == again.layers
        assert first.id != again.id
        container.restart()
        container.wait(timeout=20)
        assert is_given(container) is False
        third = container.commit()
        assert third.layers[:-1] == first.layers[:-1]
        assert third.layers[-1] != first.layers[-1]
        assert len(box.run("cat", "/now", image=third).text.split()) == 2
        for image in (first, again, third):
            image.verify()
        assert_whole(box.engine)


def test_the_image_goes_and_the_container_goes_on(box):
    with ended(box) as container:
        before = shown(container)
        container.commit("committed").remove()
        assert_whole(box.engine)
        box.engine.prune(containers=False)
        assert is_given(container)
        place = Path(box.engine.store.uppers.place(container.id))
        inode = (place / "d/f").stat().st_ino
        assert container.diff()
        assert shown(container) == before
        assert (upper_of(container) / "d/f").stat().st_ino == inode, "nobody else wanted the tree"
        assert_whole(box.engine)


def test_its_room_is_the_images_while_there_is_one(box):
    with ended(box, "head -c 5000000 /dev/zero | tr '\\0' x >/large") as container:
        before = box.engine.disk_usage()
        image = container.commit("committed")
        with_image = box.engine.disk_usage()
        assert with_image.images.size - before.images.size > 5_000_000
        assert with_image.containers.size < before.containers.size - 4_900_000
        image.remove()
        after = box.engine.disk_usage()
        assert after.containers.size > before.containers.size - 100_000
        assert after.containers.reclaimable > before.containers.reclaimable - 100_000


def test_the_container_goes_and_the_image_stays(box):
    with ended(box) as container:
        image = container.commit("committed")
        assert is_given(container)
        container.remove()
        image.verify()
        assert box.run("cat", "/d/g", image=image).text == "one\n"
        assert_whole(box.engine)
    image.remove()
    assert_whole(box.engine)


def test_the_last_of_both_takes_the_layer_along(box):
    with ended(box) as container:
        image = container.commit("committed")
        tree = tree_of(image, box.engine)
        image.remove()
        assert tree.is_dir()
    assert not tree.exists()
    assert_whole(box.engine)


# -- where it has to be a copy -----------------------------------------------------------------------------------------


def assert_copied(container: pylxc.Container, engine: pylxc.Engine) -> pylxc.Image:
    image = container.commit()
    assert not is_given(container)
    assert upper_of(container).is_dir()
    image.verify()
    return image


def test_a_socket_is_in_no_layer(box):
    with ended(box) as container:
        os.mknod(upper_of(container) / "socket", stat.S_IFSOCK | 0o600)
        image = assert_copied(container, box.engine)
        assert (upper_of(container) / "socket").is_socket()
        assert not (tree_of(image, box.engine) / "socket").exists()


def test_a_file_that_has_a_name_elsewhere(box, tmp_path):
    with ended(box) as container:
        elsewhere = upper_of(container).parent / "elsewhere"
        os.link(upper_of(container) / "d/f", elsewhere)
        image = assert_copied(container, box.engine)
        elsewhere.write_text("changed")
        assert (tree_of(image, box.engine) / "d/f").read_text() == "one\n"


def test_a_file_that_cannot_be_changed(box):
    with ended(box) as container, (upper_of(container) / "d/f").open() as file:
        set_flags(file.fileno(), IMMUTABLE)
        try:
            assert_copied(container, box.engine)
        finally:
            set_flags(file.fileno(), 0)


def set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("L", flags))


@pytest.mark.parametrize("kind", ["file", "directory", "path"])
def test_what_somebody_was_handed_keeps_it_from_being_the_layer(box, kind):
    """A descriptor outlives the container: whoever has it could write to the layer, or make files in it."""
    with box.start("sh", "-c", f"{WRITE}; echo ready; sleep 1000", userns="host") as container:
        container.wait_ready(log="ready")
        root = f"/proc/{container.status().pid}/root"
        flags = {"file": os.O_RDWR, "directory": os.O_RDONLY | os.O_DIRECTORY, "path": os.O_PATH}[kind]
        fd = os.open(f"{root}/d/f" if kind == "file" else f"{root}/d", flags)
        try:
            container.stop(timeout=0)
            image = assert_copied(container, box.engine)
            if kind == "file":
                os.write(fd, b"changed")
            else:
                os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            assert (upper_of(container) / ("d/f" if kind == "file" else "d/made")).exists()
            image.verify()
        finally:
            os.close(fd)
        container.start()
        container.stop(timeout=0)
        container.commit()
        assert is_given(container), "nobody has it any more"


def test_a_time_that_is_given(box, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with ended(box) as container:
        image = assert_copied(container, box.engine)
        assert (tree_of(image, box.engine) / "d/f").stat().st_mtime == 1000000000


def test_one_that_runs(box):
    with box.start("sh", "-c", f"{WRITE}; echo ready; sleep 1000") as container:
        container.wait_ready(log="ready")
        assert_copied(container, box.engine)


def test_the_directories_of_the_host(box):
    host = box.engine.host_image()
    with ended(box, "echo x >/usr/written; echo y >/written", image=host) as container:
        image = container.commit()
        assert is_given(container)
        image.verify()
        assert box.run("cat", "/usr/written", "/written", image=image).text == "x\ny\n"
        container.start()
        container.wait(timeout=20)
        assert container.status().exit_code == 0
        assert_whole(box.engine)
