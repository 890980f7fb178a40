"""Reads a directory that nobody vouches for without being led out of it.

Hides the walk by descriptors and the links. Invariant: nothing outside the directory is opened through it, whatever
links it holds or grows meanwhile.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import IO, TYPE_CHECKING, ClassVar, Literal, TypeVar

from pylxc.scoped import Scoped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
Kind = Literal["file", "directory", "symlink", "fifo", "character", "block", "hardlink"]
KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
}

CHANGED = "it changed while the build read it: let no one write to the context meanwhile"
SHORTER = "it became shorter while the build read it"
_LINK_LIMIT = 40  # as the kernel's (path_resolution(7))
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContextError(ValueError):
    """The context cannot give what a step asks for. Fields: ``path``, ``reason``. The executor names the step."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ConfinedTree(Scoped):
    """A directory opened for reading. Every path is walked by descriptor, and no component may be a link.

    Links are followed by :meth:`resolve` alone, which takes the root for "/" and for the parent of the root.
    """

    called = "the context"  # what errors call it
    kinds: ClassVar[dict[int, Kind]] = KINDS  # of what can be copied, by S_IFMT of the mode

    def __init__(self, root: str) -> None:
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Files come in the order of their directories, so the last one opened is mostly the one needed.
        self._last: tuple[str, int] = ("", self._fd)

    def close(self) -> None:
        """Give the descriptors back."""
        self._forget()
        os.close(self._fd)

    def _leave(self) -> None:
        self.close()

    def _forget(self) -> None:
        if self._last[1] != self._fd:
            os.close(self._last[1])
        self._last = ("", self._fd)

    def _directory(self, path: str) -> int:
        """Give a descriptor of a directory, which stays this object's own."""
        if path == self._last[0]:
            return self._last[1]
        fd = self._fd
        for part in filter(None, path.split("/")):
            try:
                following = os.open(part, _OPEN_DIRECTORY, dir_fd=fd)
            finally:
                if fd != self._fd:
                    os.close(fd)
            fd = following
        self._forget()
        self._last = (path, fd)
        return fd

    def lstat(self, path: str) -> os.stat_result:
        """Give a path's status; of a link, the link's own."""
        parent, name = posixpath.split(path)
        return os.stat(name or ".", dir_fd=self._directory(parent), follow_symlinks=False)

    def readlink(self, path: str) -> str:
        """Give a link's text."""
        parent, name = posixpath.split(path)
        return os.readlink(name, dir_fd=self._directory(parent))

    def names(self, path: str) -> list[str]:
        """Give the names in a directory, in byte order."""
        return in_byte_order(os.listdir(self._directory(path)), str)  # noqa: PTH208  by descriptor

    def attributes(self, path: str) -> tuple[tuple[str, bytes], ...]:  # noqa: ARG002  what layers have
        """Give the extended attributes that go with a path: a context's stay behind."""
        return ()

    def listed(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Give the names in a directory with their status, in byte order."""
        fd = self._directory(path)
        return [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in self.names(path)]

    def open_file(self, path: str, stamp: tuple[int, int, int] | None = None) -> IO[bytes]:
        """Open a regular file; with ``stamp``, only if it is still the file that had it."""
        parent, name = posixpath.split(path)
        stream = open_regular(name or ".", path, os.O_NOFOLLOW, self._directory(parent))
        if stamp is not None and stamp_of(os.fstat(stream.fileno())) != stamp:
            stream.close()
            raise ContextError(path, CHANGED)
        return stream

    def read_file(self, path: str, stamp: tuple[int, int, int], size: int) -> bytes:
        """Give the content of a small regular file if it is still the one that had this stamp and this size."""
        parent, _, name = path.rpartition("/")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name or ".", flags, dir_fd=self._directory(parent))
        try:
            if stamp_of(os.fstat(fd)) != stamp:
                raise ContextError(path, CHANGED)
            data = os.read(fd, size)
        finally:
            os.close(fd)
        if len(data) != size:
            raise ContextError(path, SHORTER)
        return data

    def resolve(self, path: str) -> str:
        """Follow the links in ``path`` inside the root; ".." stops at it. Raises ``OSError`` as ``open`` would."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                del done[-1:]
                continue
            current = "/".join((*done, part))
            if not stat.S_ISLNK(self.lstat(current).st_mode):
                done.append(part)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = self.readlink(current)
            if target.startswith("/"):
                done.clear()
            pending += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
        return "/".join(done)


def open_regular(path: str, name: str, flags: int = 0, directory: int | None = None) -> IO[bytes]:
    """Open a regular file; O_NONBLOCK keeps a FIFO from holding up the build. ``name`` is what errors call it."""
    fd = os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ContextError(name, "not a regular file")
    return os.fdopen(fd, "rb", buffering=0)


def in_byte_order(found: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """Sort by names as the file system has them. Those that are ASCII have the same order as text, which is quicker."""
    found = list(found)
    if all(name(one).isascii() for one in found):
        return sorted(found, key=name)
    return sorted(found, key=lambda one: os.fsencode(name(one)))


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """Give what tells whether a file is still the one that it was: inode, mtime and ctime (ns)."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class readable:  # noqa: N801  used as the function that it was would be; a generator takes four times as long
    """Make one kind of failure of whatever the kernel refuses while the tree is read."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            name = str(error.filename or "")
            where = "" if self._path.endswith(name) else f" ({name})"
            raise ContextError(self._path, f"cannot be read: {error.strerror}{where}") from error
