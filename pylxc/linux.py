"""The low-level layer: the system calls of namespaces and mounts, typed, for those who need them.

Flags are ``IntFlag`` classes whose members bear the kernel's names; descriptors are plain ints, close-on-exec and the
caller's to close; a failure is an ``OSError`` whose text begins with the call's name. Nothing is retried.

Invariant: each function is one system call. They act on the calling thread or process: a program that only wants
containers has no use for them.

Example:
    >>> from pylxc import linux                                                     # doctest: +SKIP
    >>> with_proc = linux.fsopen("proc")
    >>> linux.fsconfig(with_proc, linux.FsConfig.CMD_CREATE)
    >>> mount = linux.fsmount(with_proc, attributes=linux.MountAttr.NOSUID | linux.MountAttr.NOEXEC)

"""

from __future__ import annotations

import os
import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from pylxc._native import ffi, lib
from pylxc.runtime.native import pidfd_open as _pidfd_open

if TYPE_CHECKING:
    Path = str | bytes | os.PathLike[str]

__all__ = [
    "AT_FDCWD",
    "AtFlag",
    "CloneFlag",
    "FsConfig",
    "InotifyFlag",
    "InotifyInitFlag",
    "MountAttr",
    "MountFlag",
    "MoveMountFlag",
    "OpenTreeFlag",
    "ResolveFlag",
    "UmountFlag",
    "clone",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "inotify_add_watch",
    "inotify_init1",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "setns",
    "umount",
    "unshare",
]

AT_FDCWD = -100
_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC, FSPICK_CLOEXEC


class CloneFlag(IntFlag):
    """CLONE_* of clone(2), unshare(2) and setns(2)."""

    NEWTIME = 0x80
    VM = 0x100
    FS = 0x200
    FILES = 0x400
    SIGHAND = 0x800
    PIDFD = 0x1000
    VFORK = 0x4000
    PARENT = 0x8000
    NEWNS = 0x20000
    NEWCGROUP = 0x2000000
    NEWUTS = 0x4000000
    NEWIPC = 0x8000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000


# What clone() refuses: shared memory and tables, and what it sees to itself.
_SHARING = CloneFlag.VM | CloneFlag.FS | CloneFlag.FILES | CloneFlag.SIGHAND | CloneFlag.VFORK
_SHARING |= CloneFlag.PIDFD | CloneFlag.PARENT


class MountFlag(IntFlag):
    """MS_* of mount(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    REMOUNT = 0x20
    NOATIME = 0x400
    BIND = 0x1000
    MOVE = 0x2000
    REC = 0x4000
    PRIVATE = 0x40000
    SLAVE = 0x80000
    SHARED = 0x100000
    RELATIME = 0x200000


class UmountFlag(IntFlag):
    """MNT_* and UMOUNT_NOFOLLOW of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class MountAttr(IntFlag):
    """MOUNT_ATTR_* of mount_setattr(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


class OpenTreeFlag(IntFlag):
    """OPEN_TREE_CLONE of open_tree(2)."""

    CLONE = 1


class MoveMountFlag(IntFlag):
    """MOVE_MOUNT_* of move_mount(2)."""

    F_SYMLINKS = 0x1
    F_AUTOMOUNTS = 0x2
    F_EMPTY_PATH = 0x4
    T_SYMLINKS = 0x10
    T_AUTOMOUNTS = 0x20
    T_EMPTY_PATH = 0x40


class AtFlag(IntFlag):
    """AT_* that the calls here take."""

    SYMLINK_NOFOLLOW = 0x100
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


class ResolveFlag(IntFlag):
    """RESOLVE_* of openat2(2)."""

    NO_XDEV = 0x1
    NO_MAGICLINKS = 0x2
    NO_SYMLINKS = 0x4
    BENEATH = 0x8
    IN_ROOT = 0x10
    CACHED = 0x20


class FsConfig(IntEnum):
    """FSCONFIG_* of fsconfig(2)."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_BINARY = 2
    SET_PATH = 3
    SET_PATH_EMPTY = 4
    SET_FD = 5
    CMD_CREATE = 6
    CMD_RECONFIGURE = 7


class InotifyInitFlag(IntFlag):
    """IN_* of inotify_init1(2)."""

    NONBLOCK = os.O_NONBLOCK


class InotifyFlag(IntFlag):
    """IN_* of inotify_add_watch(2), and of what is read from the descriptor (inotify(7))."""

    ACCESS = 0x1
    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    CLOSE_NOWRITE = 0x10
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    DONT_FOLLOW = 0x2000000
    EXCL_UNLINK = 0x4000000
    MASK_CREATE = 0x10000000
    MASK_ADD = 0x20000000
    ISDIR = 0x40000000
    ONESHOT = 0x80000000


def _call(name: str, *operands: object) -> int:
    """Make a call; strings and buffers are passed by address and kept until it returns."""
    keep = []
    words = []
    for operand in (*operands, *(0,) * (5 - len(operands))):
        if isinstance(operand, int):
            words.append(operand & 0xFFFFFFFFFFFFFFFF)
            continue
        buffer = ffi.NULL if operand is None else ffi.from_buffer(operand)
        keep.append(buffer)
        words.append(int(ffi.cast("uintptr_t", buffer)))
    answer = lib.pylxc_syscall(getattr(lib, f"PYLXC_CALL_{name.upper()}"), *words)
    if answer < 0:
        raise OSError(ffi.errno, f"{name}: {os.strerror(ffi.errno)}")
    return int(answer)


def _text(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(path) + b"\0"


def clone(flags: CloneFlag = CloneFlag(0)) -> tuple[int, int]:
    """Fork into new namespaces (clone3(2)); return ``(pid, pidfd)`` in the parent, ``(0, -1)`` in the child.

    The child goes on as after ``os.fork()``, with the same cautions: make it in a program without other threads. Flags
    that share memory or the like (``VM``, ``FILES``, ``SIGHAND``, ``VFORK``…) are refused: Python could not live so.

    Raises OSError; ValueError for a flag that is refused.
    """
    import ctypes  # noqa: PLC0415  only here; it calls without giving up the interpreter's lock, which a fork must hold

    shared = flags & _SHARING
    if shared:
        raise ValueError(f"clone: {shared!r} cannot be used from Python")
    pid_fd = ctypes.c_int(-1)
    sigchld = 17
    arguments = struct.pack("=11Q", flags | CloneFlag.PIDFD, ctypes.addressof(pid_fd), 0, 0, sigchld, *(0,) * 6)
    buffer = ctypes.create_string_buffer(arguments, len(arguments))
    libc = ctypes.PyDLL(None, use_errno=True)
    number = lib.pylxc_syscall_number(lib.PYLXC_CALL_CLONE3)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = libc.syscall(ctypes.c_long(number), buffer, ctypes.c_size_t(len(arguments)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return pid, pid_fd.value


def unshare(flags: CloneFlag) -> None:
    """Leave the namespaces shared so far (unshare(2)). Raises OSError."""
    _call("unshare", flags)


def setns(fd: int, flags: CloneFlag = CloneFlag(0)) -> None:
    """Enter namespaces: of one type by a namespace's descriptor, of several by a pidfd (setns(2)). Raises OSError."""
    _call("setns", fd, flags)


def mount(
    source: Path | None, target: Path, kind: str | None = None, flags: MountFlag = MountFlag(0), data: str | None = None
) -> None:
    """Mount, the old way (mount(2)): ``kind`` is the type of the file system. Raises OSError."""
    _call("mount", _text(source), _text(target), _text(kind), flags, _text(data))


def umount(target: Path, flags: UmountFlag = UmountFlag(0)) -> None:
    """Unmount (umount2(2)). Raises OSError."""
    _call("umount2", _text(target), flags)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Make a mount the root of the mount namespace (pivot_root(2)). Raises OSError."""
    _call("pivot_root", _text(new_root), _text(put_old))


def open_tree(directory: int, path: Path, flags: OpenTreeFlag = OpenTreeFlag(0), at: AtFlag = AtFlag(0)) -> int:
    """Open a mount, or with CLONE a detached copy of it (open_tree(2)). Return a descriptor. Raises OSError."""
    return _call("open_tree", directory, _text(path), flags | at | os.O_CLOEXEC)


def move_mount(
    from_directory: int, from_path: Path, to_directory: int, to_path: Path, flags: MoveMountFlag = MoveMountFlag(0)
) -> None:
    """Attach a detached mount, or move one (move_mount(2)). Raises OSError."""
    _call("move_mount", from_directory, _text(from_path), to_directory, _text(to_path), flags)


def fsopen(kind: str) -> int:
    """Begin a new file system of a type (fsopen(2)). Return a descriptor. Raises OSError."""
    return _call("fsopen", _text(kind), _CLOEXEC)


def fsconfig(fs: int, command: FsConfig, key: str | None = None, value: Path | None = None, aux: int = 0) -> None:
    """Configure, create or reconfigure a file system (fsconfig(2)). Raises OSError."""
    _call("fsconfig", fs, command, _text(key), _text(value), aux)


def fsmount(fs: int, attributes: MountAttr = MountAttr(0)) -> int:
    """Make a detached mount of a created file system (fsmount(2)). Return a descriptor. Raises OSError."""
    return _call("fsmount", fs, _CLOEXEC, attributes)


def fspick(directory: int, path: Path) -> int:
    """Take up a mounted file system to reconfigure it (fspick(2)). Return a descriptor. Raises OSError."""
    return _call("fspick", directory, _text(path), _CLOEXEC)


def mount_setattr(  # noqa: PLR0913  the call's own operands
    directory: int,
    path: Path,
    at: AtFlag = AtFlag(0),
    *,
    attr_set: MountAttr = MountAttr(0),
    attr_clr: MountAttr = MountAttr(0),
    propagation: MountFlag = MountFlag(0),
    userns_fd: int = 0,
) -> None:
    """Change attributes of a mount, or with RECURSIVE of a tree (mount_setattr(2)). Raises OSError."""
    attributes = struct.pack("=4Q", attr_set, attr_clr, propagation, userns_fd)
    _call("mount_setattr", directory, _text(path), at, attributes, len(attributes))


def openat2(directory: int, path: Path, flags: int, resolve: ResolveFlag = ResolveFlag(0), mode: int = 0) -> int:
    """Open a path with rules for its resolution (openat2(2)). Return a descriptor. Raises OSError."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    return _call("openat2", directory, _text(path), how, len(how))


def pidfd_open(pid: int) -> int:
    """Open a descriptor of a process (pidfd_open(2)). Raises OSError."""
    return _pidfd_open(pid)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send a signal to the process behind a descriptor (pidfd_send_signal(2)). Raises OSError."""
    if lib.pylxc_pidfd_send_signal(pidfd, signal) < 0:
        raise OSError(ffi.errno, f"pidfd_send_signal: {os.strerror(ffi.errno)}")


def pidfd_getfd(pidfd: int, target: int) -> int:
    """Return a copy of another process's descriptor (pidfd_getfd(2)). Raises OSError."""
    return _call("pidfd_getfd", pidfd, target)


def inotify_init1(flags: InotifyInitFlag = InotifyInitFlag(0)) -> int:
    """Return a descriptor from which changes of files can be read (inotify_init1(2)). Raises OSError."""
    return _call("inotify_init1", flags | os.O_CLOEXEC)


def inotify_add_watch(inotify: int, path: Path, mask: InotifyFlag) -> int:
    """Watch a file, or a directory and what is in it (inotify_add_watch(2)). Return the watch's number.

    Raises OSError.
    """
    return _call("inotify_add_watch", inotify, _text(path), mask)
