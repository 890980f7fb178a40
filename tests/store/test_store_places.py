"""Where a store cannot be, or cannot grow: one clear error, and what was there stays whole."""

import errno
import io
import os
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from archives import ACL, ACL_OF_1000
from stores import add_image, add_layer, close, container, document, names, problems, run_in_child

import pylxc
from pylxc.errors import StoreError
from pylxc.store import Store, layout

MOUNT = 'set -e; mount -t tmpfs -o "$1",mode=700 tmpfs "$2"; shift 2; exec "$@"'
LIMIT = 120  # s
REMOVERS = 3


def on_a_disk(options, place, function):
    """Run a function of this file on a tmpfs with these options, in a mount namespace and a process of its own."""
    place.mkdir()
    program = f"import sys; sys.path[:0] = sys.argv[2:]; import {__name__}; {__name__}.{function.__name__}(sys.argv[1])"
    python = [sys.executable, "-W", "error", "-c", program, str(place), *sys.path]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh", options, str(place), *python]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert list(place.iterdir()) == []


def fill(disk, leave=0):
    """Fill a file system but for so many bytes."""
    filler = Path(disk, "filler")
    filler.unlink(missing_ok=True)
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - leave, 1))


def expect_whole(root):
    found = problems(root)
    if found:  # pytest does not explain assertions in another process
        raise AssertionError(found)


def expect_nothing(store, root):
    expect_whole(root)
    if store.images.list() or names(root / "layers"):
        raise AssertionError(store.images.list())


def expect_full(work):
    with pytest.raises(StoreError, match=r"the disk is full.*removing images"):
        work()


def add_large(store, ref):
    """Add an image of one empty file and a large configuration: all that needs space is the store's own work."""
    with store.leases.take() as lease:
        layer = add_layer(store, lease, "")
        return store.images.add(document(layer.digest, labels={"large": "x" * 20_000}), ref, lease)


def grow_at_every_fill(disk):
    root = Path(disk, "store")
    store = Store(root)
    kept = add_image(store, "kept", "kept")
    refused = 0
    for pages in range(100):
        fill(disk, pages * 4096)
        try:
            image = add_large(store, "new")
        except StoreError as error:
            if "the disk is full" not in error.reason:
                raise
            refused += 1
        else:
            store.containers.add(container(image.id, "box"))
            store.containers.remove(store.containers.get("box").id)
            store.images.remove(image.id)
        expect_whole(root)
        if store.images.list() != [kept]:
            raise AssertionError(store.images.list())
    if not 3 < refused < 97:
        raise AssertionError(refused)


def test_growing_on_a_full_disk_leaves_nothing_half_made(tmp_path):
    on_a_disk("size=8m", tmp_path / "disk", grow_at_every_fill)


def free_a_full_disk(disk):
    root = Path(disk, "store")
    store = Store(root)
    images = [add_large(store, "large"), add_image(store, "small", "one")]
    store.containers.add(container(images[1].id, "box"))
    close(store)
    (root / "boot").unlink()  # as after a start of the machine
    fill(disk)
    store = Store(root)
    fill(disk)
    expect_full(lambda: add_large(store, "more"))
    store.containers.remove(store.containers.get("box").id)
    fill(disk)
    store.images.untag(images[0].id, "large")
    for image in images:
        fill(disk)
        store.images.remove(image.id)
    expect_nothing(store, root)


def test_removing_needs_no_space(tmp_path):
    on_a_disk("size=8m", tmp_path / "disk", free_a_full_disk)


def take_inodes(disk):
    """Make files until no more can be made."""
    free = os.statvfs(disk).f_favail
    with pytest.raises(OSError, match="No space left"):
        for _ in range(free + 1):
            Path(disk, "inodes", os.urandom(8).hex()).touch()


def free_without_inodes(disk):
    root = Path(disk, "store")
    Path(disk, "inodes").mkdir()
    store = Store(root)
    images = [add_image(store, name, name) for name in ("one", "two", "three")]
    take_inodes(disk)
    expect_full(lambda: add_image(store, "more", "more"))
    store.images.untag(images[0].id, "one")
    take_inodes(disk)
    store.images.remove(images[0].id)
    close(store)
    take_inodes(disk)
    (root / "boot").unlink()  # as after a start of the machine
    store = Store(root)
    for image in images[1:]:
        take_inodes(disk)
        store.images.remove(image.id)
    expect_nothing(store, root)


def test_removing_needs_no_inodes(tmp_path):
    on_a_disk("size=60m,nr_inodes=200", tmp_path / "disk", free_without_inodes)


def save_from_a_full_disk(disk):
    engine = pylxc.Engine(Path(disk, "store"))
    with tempfile.TemporaryDirectory() as elsewhere:
        Path(elsewhere, "tree").mkdir()
        image = pylxc.Image.from_directory(Path(elsewhere, "tree"), "app", engine=engine)
        Path(disk, "inodes").mkdir()
        for number, run_out in enumerate((lambda _: None, fill, take_inodes)):
            run_out(disk)
            image.save(Path(elsewhere, f"{number}.tar"))
        archives = {path.read_bytes() for path in Path(elsewhere).glob("*.tar")}
    if len(archives) != 1 or names(engine.root / "staging"):
        raise AssertionError(archives)
    close(engine.store)


def test_saving_onto_another_disk_needs_no_space(tmp_path):
    on_a_disk("size=60m,nr_inodes=200", tmp_path / "disk", save_from_a_full_disk)


def remount(disk, mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True, timeout=LIMIT)


def make_and_save(root):
    """Make an image, with the archive of its layer; return the engine."""
    engine = pylxc.Engine(root)
    (root.parent / "tree").mkdir(exist_ok=True)
    pylxc.Image.from_directory(root.parent / "tree", "app", engine=engine).save(os.devnull)
    return engine


def expect_to_be_read(root, out):
    engine = pylxc.Engine(root)
    image = pylxc.Image.get("app", engine=engine)
    image.save(out)
    if pylxc.Container.list(all=True, engine=engine) or not engine.check().ok:
        raise AssertionError(engine.check())
    for work in (lambda: image.tag("other"), image.remove, lambda: pylxc.create(image, ["true"], engine=engine)):
        with pytest.raises(StoreError, match="is on a read-only file system"):
            work()
    close(engine.store)


def read_what_cannot_be_written(disk):
    root, outs = Path(disk, "store"), (io.BytesIO(), io.BytesIO())
    close(make_and_save(root).store)
    for out, journal in zip(outs, (False, True), strict=True):
        if journal and run_in_child(lambda: make_and_save(root).image("app").tag("more")):
            raise AssertionError(journal)
        if Path(root, "pylxc.db-wal").exists() != journal:
            raise AssertionError(os.listdir(root))
        remount(disk, "ro")
        expect_to_be_read(root, out)
        remount(disk, "rw")
    if b"more:latest" in outs[0].getvalue() or b"more:latest" not in outs[1].getvalue():
        raise AssertionError(outs)


def test_a_read_only_disk_can_be_read(tmp_path):
    on_a_disk("size=60m", tmp_path / "disk", read_what_cannot_be_written)


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    kind = layout._filesystem_type(str(tmp_path))
    assert kind == subprocess.check_output(["findmnt", "-n", "-o", "FSTYPE", "-T", tmp_path], text=True).strip()
    monkeypatch.setattr(layout, "NETWORK_FILESYSTEMS", {kind})
    with pytest.raises(StoreError, match=f"lies on {kind}, whose locks cannot be relied upon"):
        Store(tmp_path / "store")
    assert names(tmp_path / "store") == set()


def test_a_path_that_is_too_long_is_refused(tmp_path):
    directory = tmp_path
    for _ in range(5):
        directory /= "é" * 100
    with pytest.raises(StoreError, match="the path is too long"):
        Store(directory)
    assert names(tmp_path) == set()
    root = f"{tmp_path}/" + "y" * 200
    root += "/" + "z" * (layout.LONGEST - len(root) - 1)
    close(Store(root))


def test_others_cannot_look_into_a_store(store, tmp_path):
    add_image(store, "app", "one")
    root = tmp_path / "store"
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    for path in root.rglob("*"):
        if "layers" not in path.relative_to(root).parts[:1] or path.name == "layers":
            assert path.is_file() or stat.S_IMODE(path.stat().st_mode) == 0o700, path
    assert stat.S_IMODE((root / "pylxc.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "pylxc.db-wal").stat().st_mode) == 0o600


def test_rubbish_that_cannot_be_removed_keeps_nobody_from_working(store, tmp_path, monkeypatch):
    trash = tmp_path / "store/trash"
    (trash / "stuck").mkdir()
    (trash / "loose").mkdir()
    remove_tree = layout.native.remove_tree

    def refuse(parent, name):
        if name == "stuck":
            raise PermissionError(1, "Operation not permitted")
        remove_tree(parent, name)

    monkeypatch.setattr(layout.native, "remove_tree", refuse)
    close(Store(tmp_path / "store"))
    assert names(trash) == {"stuck"}
    monkeypatch.undo()
    close(Store(tmp_path / "store"))
    assert names(trash) == set()
    assert store.images.list() == []


def test_what_was_staged_and_cannot_be_removed_fails_nobody(store, tmp_path, monkeypatch):
    def refuse(_parent, _name):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(layout.native, "remove_tree", refuse)
    add_image(store, "app", "one")
    trash = tmp_path / "store/trash"
    assert len(names(trash)) == 1
    monkeypatch.undo()
    close(Store(tmp_path / "store"))
    assert names(trash) == set()
    expect_whole(tmp_path / "store")


@contextmanager
def opened(directory):
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def test_several_remove_the_same_tree(tmp_path):
    """They go through it in the same order, so they meet in one directory after another."""
    together = threading.Barrier(REMOVERS)

    def remove(parent):
        together.wait(LIMIT)
        try:
            layout.native.remove_tree(parent, "tree")
        except FileNotFoundError:  # it came late
            assert names(tmp_path) == set()

    with opened(tmp_path) as parent, ThreadPoolExecutor(REMOVERS) as removers:
        for _ in range(5):
            for number in range(100):
                for path in ("bin", "etc", "x/y/z"):
                    (tmp_path / f"tree/{number}" / path).mkdir(parents=True)
            list(removers.map(remove, [parent] * REMOVERS))
            assert names(tmp_path) == set()


def remove_no_further(disk):
    tree, outside = Path(disk, "tree"), Path(disk, "outside")
    (tree / "d/mount").mkdir(parents=True)
    (outside / "kept").mkdir(parents=True)
    (tree / "d/link").symlink_to(outside)
    subprocess.run(["mount", "--bind", outside, tree / "d/mount"], check=True, timeout=LIMIT)
    with opened(disk) as parent:
        with pytest.raises(OSError, match="remove tree") as caught:
            layout.native.remove_tree(parent, "tree")
        subprocess.run(["umount", tree / "d/mount"], check=True, timeout=LIMIT)
        layout.native.remove_tree(parent, "tree")
    if caught.value.errno != errno.EBUSY or names(Path(disk)) != {"outside"} or names(outside) != {"kept"}:
        raise AssertionError(caught.value)


def test_removing_follows_no_link_and_crosses_no_mount(tmp_path):
    on_a_disk("size=1m", tmp_path / "disk", remove_no_further)


def test_what_the_directory_around_it_hands_down_is_in_no_layer(tmp_path, tree):
    source = tree(file="content")
    os.setxattr(tmp_path, ACL, ACL_OF_1000)
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(source, engine=engine)
    image.verify()
    for path in Path(engine.layer_directory(image.layers[0].digest)).rglob("*"):
        assert os.listxattr(path) == []
    close(engine.store)
