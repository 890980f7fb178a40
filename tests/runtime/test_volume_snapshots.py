"""Snapshots of volumes: all that a volume has, as it is; shared blocks where the file system can; nothing half made."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pylxc
from pylxc.store import duplicate

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


def fill(top: Path, *, as_root: bool) -> None:
    """One of each kind of file, with all the metadata that there is."""
    (top / "deep/er").mkdir(parents=True)
    (top / "deep/er/file").write_text("deep")
    (top / "first").write_text("linked")
    os.link(top / "first", top / "deep/second")
    with (top / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(8 * MIB)
        file.write(b"end")
        file.truncate(16 * MIB)
    (top / "link").symlink_to("/etc/shadow")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "pipe", 0o640)
    os.mknod(top / "socket", stat.S_IFSOCK | 0o600)  # bind(2) takes short paths only
    os.setxattr(top / "first", "user.colour", b"blue")
    os.setxattr(top / "deep", "user.colour", b"red")
    (top / "closed").write_bytes(os.urandom(3 * MIB))
    if as_root:
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.setxattr(top / "link", "trusted.mark", b"on a link", follow_symlinks=False)
        for name, owner in (("first", 70), ("link", 71), ("pipe", 72), ("deep", 73)):
            os.chown(top / name, owner, owner + 1, follow_symlinks=False)
        # After the owner, whose change would take them.
        os.setxattr(top / "holes", "security.capability", bytes.fromhex("0000000200200000000000000000000000000000"))
    os.chmod(top / "first", 0o4751)
    os.chmod(top / "closed", 0o000)
    os.chmod(top / "deep", 0o1755)
    os.chmod(top, 0o2775)
    for place, _, names in os.walk(top, topdown=False):
        for name in names:
            os.utime(Path(place, name), ns=(1, 1_234_567_891), follow_symlinks=False)
        os.utime(place, ns=(2, 2_345_678_912))


def told(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is to know of all that is in a directory."""
    found: dict[str, tuple[object, ...]] = {}
    groups: dict[int, str] = {}
    for place, directories, names in os.walk(top):
        directories.sort()
        for name in ["", *sorted(names), *directories]:
            path = Path(place, name)
            now = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(now.st_mode) else os.readlink(path) if path.is_symlink() else ""
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            first = groups.setdefault(now.st_ino, str(path.relative_to(top)))
            times = now.st_mtime_ns
            facts = (now.st_mode, now.st_uid, now.st_gid, now.st_rdev, times, content, attributes, first)
            found[str(path.relative_to(top))] = facts
    return found


@pytest.fixture
def shelf(engine: pylxc.Engine) -> Iterator[pylxc.Volume]:
    made = pylxc.Volume.create("shelf", labels={"tier": "db"}, engine=engine)
    yield made
    for volume in pylxc.Volume.list(engine=engine):
        volume.remove()
    assert os.listdir(engine.root / "volumes") == []


def test_a_snapshot_is_all_that_the_volume_was(engine: pylxc.Engine, shelf: pylxc.Volume) -> None:
    fill(shelf.path, as_root=os.geteuid() == 0)
    before = told(shelf.path) if os.geteuid() == 0 else {}
    copy = shelf.snapshot("copy")
    assert (copy.name, copy.labels, copy.anonymous) == ("copy", {"tier": "db"}, False)
    assert pylxc.Volume.get("copy", engine=engine) == copy
    if os.geteuid() == 0:
        assert told(copy.path) == before == told(shelf.path)
    assert os.stat(copy.path / "holes").st_blocks * 512 <= os.stat(shelf.path / "holes").st_blocks * 512 < MIB
    (shelf.path / "deep/er/file").write_text("later")
    assert (copy.path / "deep/er/file").read_text() == "deep"
    assert shelf.snapshot("other", labels=["a=b"]).labels == {"a": "b"}
    assert engine.check().ok


def test_what_cannot_be(engine: pylxc.Engine, shelf: pylxc.Volume) -> None:
    with pytest.raises(pylxc.Conflict, match="shelf: there is a volume of this name"):
        shelf.snapshot("shelf")
    with pytest.raises(pylxc.SpecError) as caught:
        shelf.snapshot("a/b")
    assert caught.value.option == "name"
    gone = pylxc.Volume.create("gone", engine=engine)
    gone.remove()
    with pytest.raises(pylxc.VolumeNotFound):
        gone.snapshot("copy")
    assert [volume.name for volume in pylxc.Volume.list(engine=engine)] == ["shelf"]


@pytest.mark.root
def test_containers_have_a_snapshot_of_a_volume_that_another_one_writes_to(
    engine: pylxc.Engine, busybox: pylxc.Image, shelf: pylxc.Volume
) -> None:
    loop = (
        "n=0; while :; do n=$((n+1)); echo $n >/data/new; mv /data/new /data/$((n % 50)); rm -f /data/$((n % 7)); done"
    )
    with pylxc.start(busybox, ["sh", "-c", loop], volumes={"shelf": "/data"}, engine=engine) as writer:
        for number in range(5):
            shelf.snapshot(f"copy{number}")
        assert writer.status() == "running"
    script = "for file in /data/*; do grep -q '^[0-9]*$' $file || exit 1; done; touch /data/mine"
    assert pylxc.run(busybox, ["sh", "-c", script], volumes={"copy4": "/data"}, engine=engine).ok


def test_links_that_take_the_place_of_directories_lead_nowhere(tmp_path: Path) -> None:
    """The source belongs to whoever is in the container: a racer exchanges a directory for a link to a secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("secret")
    source = tmp_path / "source"
    (source / "swapped").mkdir(parents=True)
    (source / "swapped/key").write_text("public")
    (source / "link").symlink_to(tmp_path / "secret")
    over = threading.Event()

    def race() -> None:
        while not over.is_set():
            for one, other in (("swapped", "kept"), ("link", "swapped"), ("swapped", "link"), ("kept", "swapped")):
                os.rename(source / one, source / other)

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for number in range(300):
            copy = tmp_path / f"copy{number}"
            copy.mkdir()
            duplicate.duplicate(str(source), str(copy))
            found = [path.read_text() for path in copy.rglob("key") if not path.parent.is_symlink()]
            assert set(found) <= {"public"}
    finally:
        over.set()
        racer.join()


SNAPSHOT = """
import os, pylxc, signal, sys
from pylxc.store import duplicate
made = duplicate._settle
def settle(*operands):
    made(*operands)
    os.kill(os.getpid(), signal.SIGKILL)
duplicate._settle = settle
pylxc.Volume.get("shelf", engine=pylxc.Engine(sys.argv[1])).snapshot("copy")
"""


def test_of_a_snapshot_that_was_killed_nothing_is_left(engine: pylxc.Engine, shelf: pylxc.Volume) -> None:
    (shelf.path / "file").write_text("x")
    done = subprocess.run([sys.executable, "-c", SNAPSHOT, str(engine.root)], check=False)
    assert done.returncode == -9
    engine.reopen()
    assert [volume.name for volume in pylxc.Volume.list(engine=engine)] == ["shelf"]
    assert os.listdir(engine.root / "volumes") == ["shelf"]
    assert os.listdir(engine.root / "staging") == []
    assert (shelf.snapshot("copy").path / "file").read_text() == "x"


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks, on a file of 128 MiB that is mostly a hole."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, stdin=subprocess.DEVNULL, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, place], check=True, stdin=subprocess.DEVNULL, timeout=60)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


@pytest.mark.root
def test_where_the_file_system_can_a_snapshot_shares_its_blocks(btrfs: Path) -> None:
    engine = pylxc.Engine(btrfs / "store")
    try:
        _share(engine, btrfs)
    finally:
        engine.store.close()


def _share(engine: pylxc.Engine, place: Path) -> None:
    shelf = pylxc.Volume.create("shelf", engine=engine)
    fill(shelf.path, as_root=True)
    (shelf.path / "large").write_bytes(os.urandom(40 * MIB))
    before = told(shelf.path)
    copies = [shelf.snapshot(f"copy{number}") for number in range(3)]  # more than there is room for
    assert all(told(copy.path) == before for copy in copies)
    os.sync()
    room = os.statvfs(place)
    assert (room.f_blocks - room.f_bfree) * room.f_frsize < 80 * MIB
    with (shelf.path / "large").open("r+b") as file:
        file.write(b"changed")
    assert told(copies[0].path) == before


@pytest.mark.root
def test_without_any_way_to_share_it_is_a_copy(
    engine: pylxc.Engine, shelf: pylxc.Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no such thing here")

    fill(shelf.path, as_root=True)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    copy = shelf.snapshot("copy")
    monkeypatch.undo()
    assert told(copy.path) == told(shelf.path)
    assert os.stat(copy.path / "holes").st_blocks * 512 < MIB
