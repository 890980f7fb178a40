"""Each wrapper does the one call that it names, on the real kernel."""

from __future__ import annotations

import errno
import os
import signal
import struct
from pathlib import Path

import pytest

from pylxc import linux
from pylxc.linux import (
    AtFlag,
    CloneFlag,
    FsConfig,
    InotifyFlag,
    InotifyInitFlag,
    MountAttr,
    MountFlag,
    MoveMountFlag,
    OpenTreeFlag,
    ResolveFlag,
)

pytestmark = pytest.mark.root


def in_child(flags: CloneFlag, work) -> bytes:
    """Run ``work`` in a clone; return what it returns. A failure there is a failure here."""
    reading, writing = os.pipe()
    pid, pidfd = linux.clone(flags)
    if pid == 0:
        status = 1
        try:
            os.write(writing, work())
            status = 0
        except BaseException as error:  # noqa: BLE001  told to the parent, which fails
            os.write(writing, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    assert status == 0, said.decode()
    return said


def test_clone_makes_a_pid_namespace() -> None:
    assert in_child(CloneFlag.NEWPID, lambda: str(os.getpid()).encode()) == b"1"


def test_clone_refuses_shared_memory() -> None:
    with pytest.raises(ValueError, match="VM"):
        linux.clone(CloneFlag.VM)


def test_unshare_gives_a_hostname_of_its_own() -> None:
    before = os.uname().nodename

    def work() -> bytes:
        linux.unshare(CloneFlag.NEWUTS)
        Path("/proc/sys/kernel/hostname").write_text("elsewhere")
        return os.uname().nodename.encode()

    assert in_child(CloneFlag(0), work) == b"elsewhere"
    assert os.uname().nodename == before


def test_setns_enters_by_pidfd() -> None:
    reading, writing = os.pipe()
    pid, pidfd = linux.clone(CloneFlag.NEWUTS)
    if pid == 0:
        Path("/proc/sys/kernel/hostname").write_text("there")
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)

    def work() -> bytes:
        linux.setns(pidfd, CloneFlag.NEWUTS)
        return os.uname().nodename.encode()

    try:
        assert in_child(CloneFlag(0), work) == b"there"
    finally:
        linux.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (pidfd, reading, writing):
            os.close(fd)


def test_old_mount_api(tmp_path: Path) -> None:
    def work() -> bytes:
        linux.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        linux.mount("tmpfs", tmp_path, "tmpfs", MountFlag.NOSUID, "size=64k")
        (tmp_path / "inside").write_text("x")
        linux.umount(tmp_path, linux.UmountFlag.DETACH)
        return b",".join(os.fsencode(name) for name in os.listdir(tmp_path))

    assert in_child(CloneFlag.NEWNS, work) == b""


def test_new_mount_api_and_attributes(tmp_path: Path) -> None:
    (tmp_path / "at").mkdir()

    def work() -> bytes:
        linux.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        fs = linux.fsopen("tmpfs")
        linux.fsconfig(fs, FsConfig.SET_STRING, "mode", "0700")
        linux.fsconfig(fs, FsConfig.CMD_CREATE)
        made = linux.fsmount(fs, MountAttr.NODEV)
        linux.move_mount(made, "", linux.AT_FDCWD, tmp_path / "at", MoveMountFlag.F_EMPTY_PATH)
        (tmp_path / "at/file").write_text("kept")
        copy = linux.open_tree(linux.AT_FDCWD, tmp_path / "at", OpenTreeFlag.CLONE)
        linux.mount_setattr(copy, "", AtFlag.EMPTY_PATH, attr_set=MountAttr.RDONLY)
        inside = linux.openat2(copy, "file", os.O_RDONLY, ResolveFlag.BENEATH)
        with pytest.raises(OSError, match="Read-only"):
            os.open("file", os.O_WRONLY, dir_fd=copy)
        return os.read(inside, 10)

    assert in_child(CloneFlag.NEWNS, work) == b"kept"
    assert os.listdir(tmp_path / "at") == []


def test_pivot_root(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()

    def work() -> bytes:
        linux.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        linux.mount("tmpfs", tmp_path / "new", "tmpfs")
        os.chdir(tmp_path / "new")
        linux.pivot_root(".", ".")
        linux.umount(".", linux.UmountFlag.DETACH)
        return repr(os.listdir("/")).encode()

    assert in_child(CloneFlag.NEWNS, work) == b"[]"


def test_openat2_stays_in_its_root(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    top = os.open(tmp_path, os.O_PATH)
    with pytest.raises(FileNotFoundError, match="openat2"):
        linux.openat2(top, "link", os.O_RDONLY, ResolveFlag.IN_ROOT)
    with pytest.raises(OSError, match="openat2") as caught:
        linux.openat2(top, "../x", os.O_RDONLY, ResolveFlag.BENEATH)
    assert caught.value.errno == errno.EXDEV
    os.close(top)


def test_pidfd_getfd_copies(tmp_path: Path) -> None:
    own = linux.pidfd_open(os.getpid())
    with open(tmp_path / "file", "w+b") as file:
        copy = linux.pidfd_getfd(own, file.fileno())
        os.write(copy, b"through the copy")
        assert (tmp_path / "file").read_bytes() == b"through the copy"
    os.close(copy)
    os.close(own)


def test_inotify_tells_of_changes(tmp_path: Path) -> None:
    inotify = linux.inotify_init1(InotifyInitFlag.NONBLOCK)
    assert not os.get_inheritable(inotify)
    watch = linux.inotify_add_watch(inotify, tmp_path, InotifyFlag.CREATE | InotifyFlag.DELETE)
    with pytest.raises(BlockingIOError):
        os.read(inotify, 4096)
    (tmp_path / "directory").mkdir()
    said = os.read(inotify, 4096)
    number, mask, _, length = struct.unpack_from("=iIII", said)
    assert (number, InotifyFlag(mask)) == (watch, InotifyFlag.CREATE | InotifyFlag.ISDIR)
    assert said[16 : 16 + length].rstrip(b"\0") == b"directory"
    with pytest.raises(FileNotFoundError, match="inotify_add_watch"):
        linux.inotify_add_watch(inotify, tmp_path / "missing", InotifyFlag.CREATE)
    os.close(inotify)


def test_failure_names_the_call() -> None:
    with pytest.raises(OSError, match=r"^\[Errno 9\] setns: Bad file descriptor$"):
        linux.setns(10_000, CloneFlag.NEWNET)
    with pytest.raises(OSError, match="fsopen") as caught:
        linux.fsopen("no-such-file-system")
    assert caught.value.errno == errno.ENODEV
