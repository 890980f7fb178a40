"""What a kill, a full disk, a read-only disk or a damaged file do to a store: nothing that the next one cannot mend.

The disks are real ones of a few megabytes; kills and failures at each single call are in tests/crashes.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import pylxc

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
TIMEOUT = 60  # s


# -- kills


def test_a_killed_build_and_import_are_tidied_by_a_process_that_opens_the_store_later(tmp_path, check_whole):
    root = tmp_path / "store"
    ready, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        engine = pylxc.Engine(root)
        with engine.store.leases.take() as lease:
            staged = Path(lease.stage())
            (staged / "half").write_text("half")
            engine.commit_layer(lease, str(staged), "half an import")
            Path(lease.stage(), "more").write_text("more")
            os.write(write, b"!")
            signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(write)
    # While it lives, nothing of it is touched by others.
    engine = pylxc.Engine(root)
    assert len(os.listdir(root / "layers")) == 1
    assert len(os.listdir(root / "staging")) == 1
    engine.store.layers.remove_unused(["sha256:" + os.listdir(root / "layers")[0]])
    assert len(os.listdir(root / "layers")) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    check_whole(root)
    assert os.listdir(root / "layers") == []


def test_rubbish_of_a_power_loss_is_removed_after_the_next_boot(tmp_path, tree, check_whole):
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(tree(file="content"), "app", engine=engine)
    (engine.root / "layers" / ("0" * 64)).mkdir()
    (engine.root / "oci/blobs/sha256" / ("0" * 64)).write_bytes(b"")
    (engine.root / "oci/index.json").write_bytes(b"")
    (engine.root / "boot").write_text("the boot before")
    check_whole(engine.root)
    assert pylxc.Image.get("app", engine=pylxc.Engine(engine.root)) == image


# -- disks


@pytest.fixture
def disk(tmp_path):
    """Where :func:`run_on_disk` mounts a small file system, in a mount namespace of its own."""
    return tmp_path / "disk"


def run_on_disk(  # noqa: PLR0913  the operands of one operation
    disk: Path,
    program: str,
    *arguments: Path,
    kind: str = "tmpfs",
    size: str = "2M",
    after: str = "",
    options: str = "",
) -> str:
    """Run a Python program in a private mount namespace with a small disk; returns what it printed.

    The program finds the disk as ``disk``; ``after`` are shell words between mounting and running, ``options`` are
    mkfs.ext4's.
    """
    disk.mkdir(exist_ok=True)
    if kind == "tmpfs":
        mount = f"mount -t tmpfs -o size={size} tmpfs {disk}"
    else:
        image = disk.with_suffix(".img")
        mount = f"truncate -s {size} {image} && mkfs.ext4 -q -m 0 {options} {image} && mount -o loop {image} {disk}"
    header = f"import os, sys, pylxc\nfrom pathlib import Path\ndisk = Path({str(disk)!r})\narguments = sys.argv[1:]\n"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'{mount}\n{after}\nexec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", header + program, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FLAGS = """
import fcntl
import struct

def is_spread(path):
    fd = os.open(path, os.O_RDONLY)
    return bool(struct.unpack("l", fcntl.ioctl(fd, 0x80086601, bytes(8)))[0] & 0x20000)  # FS_IOC_GETFLAGS, FS_TOPDIR_FL

with pylxc.Engine(disk / "store").store.leases.take() as lease:
    print(is_spread(lease.directory), is_spread(lease.stage()))
"""


def test_trees_are_laid_apart_from_each_other(disk):
    assert run_on_disk(disk, FLAGS, kind="ext4", size="8M").split() == ["True", "False"]


PLACES = """
import shutil
import time

with pylxc.Engine(disk / "store").store.leases.take() as lease:
    places = [Path(lease.stage()) for _ in range(5)]
    for place in places:
        for number in range(3500):
            (place / str(number)).touch()
    for place in places:
        shutil.rmtree(place.parent)
    time.sleep(1.1)  # s: what was removed in this second is not passed over yet
    for _ in range(12):
        place = Path(lease.stage())
        print(place.stat().st_ino % (1 << 12))
        shutil.rmtree(place.parent)
"""


def test_no_tree_is_put_where_one_was_just_removed(disk):
    """Without a journal ext4 passes over what was removed lately, inode by inode, for each file that it makes there."""
    options = "-b 1024 -N 65536 -O ^has_journal,^flex_bg"  # 16 places of 4,096 inodes
    found = run_on_disk(disk, PLACES, kind="ext4", size="128M", options=options).split()
    assert len(found) == 12
    assert sum(int(number) > 3000 for number in found) <= 3, found  # of all tries the best may be one of the five


FULL = """
def fill(but=0):
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        if but:
            file.truncate(file.tell() - but)

def refused(call):
    try:
        call()
    except pylxc.StoreError as error:
        assert "full" in str(error), str(error)
    else:
        raise AssertionError("there was room")

def whole(engine):
    for name in ("staging", "trash"):
        assert os.listdir(engine.root / name) == [], (name, os.listdir(engine.root / name))
    images = pylxc.Image.list(engine=engine)
    digests = {layer.digest.removeprefix("sha256:") for image in images for layer in image.layers}
    assert set(os.listdir(engine.root / "layers")) == digests
    assert len(os.listdir(engine.root / "oci/blobs/sha256")) == 2 * len(images)

engine = pylxc.Engine(disk / "store")
"""


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_refuses_an_import_and_keeps_nothing_of_it(kind, disk, tree):
    program = (
        FULL
        + """
small = pylxc.Image.from_directory(arguments[0], "small", engine=engine)
refused(lambda: pylxc.Image.from_directory(arguments[1], "big", engine=engine))
whole(engine)
assert [image.refs for image in pylxc.Image.list(engine=engine)] == [("small:latest",)]
whole(pylxc.Engine(engine.root))
"""
    )
    size = "2M" if kind == "tmpfs" else "6M"
    run_on_disk(disk, program, tree(file="x"), tree(file="x" * (6 << 20)), kind=kind, size=size)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_an_image_can_be_removed_on_a_full_disk_by_a_new_process(kind, disk, tree):
    program = (
        FULL
        + """
import subprocess
for name, directory in zip(("one", "two"), arguments):
    pylxc.Image.from_directory(directory, name, engine=engine)
fill()
for name in ("one", "two"):  # a new process each, as `pylxc rmi` is
    words = f"import pylxc; e = pylxc.Engine({str(engine.root)!r}); pylxc.Image.get({name!r}, engine=e).remove()"
    subprocess.run([sys.executable, "-c", words], check=True)
assert pylxc.Image.list(engine=engine) == []
whole(engine)
"""
    )
    size = "2M" if kind == "tmpfs" else "6M"
    run_on_disk(disk, program, tree(file="one"), tree(file="two"), kind=kind, size=size)


@pytest.mark.parametrize("left", range(0, 160, 20))
def test_whatever_space_is_left_an_import_succeeds_or_leaves_nothing(left, disk, tree):
    program = (
        FULL
        + f"""
pylxc.Image.from_directory(arguments[0], "small", engine=engine)
fill({left} << 10)
before = {{image.id for image in pylxc.Image.list(engine=engine)}}
try:
    made = pylxc.Image.from_directory(arguments[1], "other", engine=engine)
except pylxc.StoreError as error:
    assert "full" in str(error), str(error)
    assert {{image.id for image in pylxc.Image.list(engine=engine)}} == before
    print("refused")
else:
    made.remove()
    print("made")
whole(engine)
pylxc.Image.get("small", engine=engine).remove()
whole(engine)
"""
    )
    said = run_on_disk(disk, program, tree(file="one"), tree(file="two")).strip()
    assert said == ("refused" if left == 0 else said)


def test_a_new_store_on_a_full_disk_is_refused_with_one_clear_error(disk):
    program = (
        FULL
        + """
fill()
refused(lambda: engine.store)
"""
    )
    run_on_disk(disk, program)


def test_an_index_that_cannot_be_made_anew_on_a_full_disk_says_so(disk, tree):
    program = (
        FULL
        + """
pylxc.Image.from_directory(arguments[0], "one", engine=engine)
engine.store.close()
with open(disk / "store/pylxc.db", "r+b") as index:
    index.write(b"!" * 64)
refusals = 0
for left in range(0, 2 << 20, 16 << 10):  # whatever it is that there is no room for
    for reserve in (disk / "store").glob("reserve*"):
        os.truncate(reserve, 0)
    fill(left)
    engine = pylxc.Engine(disk / "store")
    try:
        engine.repair()
        break
    except pylxc.StoreError as error:
        assert "full" in str(error), str(error)
        refusals += 1
    finally:
        os.unlink(disk / "ballast")
assert refusals > 10
engine.repair()
assert engine.check().ok
pylxc.Image.get("one", engine=engine).verify()
"""
    )
    run_on_disk(disk, program, tree(file="x"))


def test_a_container_can_be_removed_on_a_full_disk(disk, tree):
    program = (
        FULL
        + """
image = pylxc.Image.from_directory(arguments[0], "one", engine=engine)
container = pylxc.create("one", ["x"], engine=engine)
fill()
container.remove()
assert os.listdir(engine.root / "containers") == []
refused(lambda: [pylxc.create("one", ["x"], engine=engine) for _ in range(1000)])
"""
    )
    run_on_disk(disk, program, tree(file="one"))


@pytest.mark.parametrize("made_before", [False, True])
def test_writing_to_a_read_only_disk_is_refused_with_one_clear_error(made_before, disk):
    root = disk / "store"
    make = f"{sys.executable} -c 'import pylxc; pylxc.Engine(\"{root}\").store'\n" if made_before else ""
    program = """
try:
    pylxc.Image.scratch(engine=pylxc.Engine(disk / "store"))
except pylxc.StoreError as error:
    assert str(disk / "store") in str(error) and "PYLXC_ROOT" in str(error), str(error)
else:
    raise AssertionError
"""
    run_on_disk(disk, program, after=f"{make}mount -o remount,ro {disk}")


# -- what lies at the path


def refusal(root: Path) -> str:
    with pytest.raises(pylxc.StoreError) as caught:
        pylxc.Image.list(engine=pylxc.Engine(root))
    assert str(root) in caught.value.path
    return str(caught.value)


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "not a directory" in refusal(tmp_path / "file/below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    root = tmp_path / "store"
    assert pylxc.Image.list(engine=pylxc.Engine(root)) == []
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        index.execute("PRAGMA user_version=99")
    assert "newer pylxc (schema 99)" in refusal(root)
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        assert index.execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize(
    "damage", [lambda _: b"not a database at all" * 1000, lambda old: old[:4096] + bytes(len(old) - 4096)]
)
def test_a_damaged_index_is_reported(damage, tmp_path):
    root = tmp_path / "store"
    make = f"import pylxc; pylxc.Image.scratch(engine=pylxc.Engine({str(root)!r}))"
    subprocess.run([sys.executable, "-c", make], env=ENVIRONMENT, timeout=TIMEOUT, check=True)
    assert not (root / "pylxc.db-wal").exists()
    index = root / "pylxc.db"
    index.write_bytes(damage(index.read_bytes()))
    assert "is damaged" in refusal(root)
