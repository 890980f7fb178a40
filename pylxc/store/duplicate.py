"""Copies a directory with all that is in it, as it is: modes, owners, attributes, times, hard links, holes.

Hides where files share their blocks: on file systems that can (btrfs, xfs) a copy takes no room until one of the two
is written to. Invariant: no link is followed and no mount crossed, whatever changes meanwhile in the source; what
vanishes while it is copied is left out; what is there at the end has its metadata, directories after their content.

Source: ioctl_ficlone(2), copy_file_range(2), lseek(2), openat2(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pylxc.linux import ResolveFlag, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

_FICLONE = 0x40049409
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_WITHIN = ResolveFlag.BENEATH | ResolveFlag.NO_SYMLINKS | ResolveFlag.NO_XDEV
_CHUNK = 1 << 30
_ATTEMPTS = 3
_BUFFER = 1 << 20
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # removed, or something else by now
_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)


def duplicate(source: str, destination: str) -> None:
    """Let a directory that is empty have what another one has, itself included. Raises OSError."""
    copier = _Copier(source, destination)
    try:
        copier.copy()
    finally:
        copier.close()


class _Copier:
    """One copy. Directories are opened by their path below the top: however many there are, four descriptors do."""

    def __init__(self, source: str, destination: str) -> None:
        self._source = os.open(source, _DIRECTORY | os.O_CLOEXEC)
        try:
            self._destination = os.open(destination, _DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._source)
            raise
        self._links: dict[int, str] = {}  # inode -> the first path of a file that has several
        self._clones = True

    def close(self) -> None:
        os.close(self._source)
        os.close(self._destination)

    def copy(self) -> None:
        waiting, done = [""], []
        while waiting:
            path = waiting.pop()
            with suppress(_GoneError), self._opened(path) as (here, there):
                done.append(path)
                for name in os.listdir(here):  # noqa: PTH208  by descriptor
                    below = f"{path}/{name}" if path else name
                    if self._copy_entry(here, there, name, below):
                        waiting.append(below)
        for path in reversed(done):
            with suppress(_GoneError), self._opened(path) as (here, there):
                _settle(here, there, os.fstat(here))

    @contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, int]]:
        """Give descriptors of a directory on both sides."""
        try:
            here = openat2(self._source, path or ".", _DIRECTORY, _WITHIN)
        except OSError as error:
            if error.errno in _GONE:
                raise _GoneError from error
            raise
        try:
            there = openat2(self._destination, path or ".", _DIRECTORY, _WITHIN)
            try:
                yield here, there
            finally:
                os.close(there)
        finally:
            os.close(here)

    def _copy_entry(self, here: int, there: int, name: str, path: str) -> bool:
        """Copy one entry of a directory; says whether it is a directory, whose content is to follow."""
        for _ in range(_ATTEMPTS):
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    os.mkdir(name, 0o700, dir_fd=there)
                    return True
                if found.st_nlink > 1 and self._copy_link(there, name, found.st_ino):
                    return False
                self._copy_other(here, there, name, found)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                _discard(there, name)
                continue  # a file that is replaced by a rename is there under the same name
            if found.st_nlink > 1:
                self._links[found.st_ino] = path
            return False
        return False

    def _copy_link(self, there: int, name: str, inode: int) -> bool:
        first = self._links.get(inode)
        if first is None:
            return False
        os.link(first, name, src_dir_fd=self._destination, dst_dir_fd=there, follow_symlinks=False)
        return True

    def _copy_other(self, here: int, there: int, name: str, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            self._copy_file(here, there, name)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(_target(here, name), name, dir_fd=there)
        else:
            os.mknod(name, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=there)
        _settle_named(here, there, name, found)

    def _copy_file(self, here: int, there: int, name: str) -> None:
        # Not blocking: it may have become a pipe.
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, "it is another kind of file by now")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(name, flags, 0o600, dir_fd=there)
            try:
                if not (self._clones and self._clone(source, made)):
                    _copy_data(source, made, found.st_size)
                _settle(source, made, found)
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _clone(self, source: int, made: int) -> bool:
        try:
            fcntl.ioctl(made, _FICLONE, source)
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            self._clones = False
        return self._clones


class _GoneError(Exception):
    """A directory that was to be copied is not there any more."""


def _target(here: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=here)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "it is another kind of file by now") from error
        raise


def _discard(there: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=there)


def _copy_data(source: int, made: int, size: int) -> None:
    """Copy what a file has, and leave its holes."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole follows
                raise
            break
        at = min(os.lseek(source, begin, os.SEEK_HOLE), size)
        _copy_range(source, made, begin, at)
    os.ftruncate(made, size)


def _copy_range(source: int, made: int, begin: int, end: int) -> None:
    while begin < end:
        try:
            count = os.copy_file_range(source, made, min(end - begin, _CHUNK), begin, begin)
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            data = os.pread(source, min(end - begin, _BUFFER), begin)
            count = os.pwrite(made, data, begin) if data else 0
        if not count:
            return  # it was cut meanwhile
        begin += count


def _settle(source: int, made: int, found: os.stat_result) -> None:
    """Give a file or a directory the metadata of another. A change of the owner takes set-id bits and capabilities."""
    os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        os.setxattr(made, name, os.getxattr(source, name))
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))


def _settle_named(here: int, there: int, name: str, found: os.stat_result) -> None:
    """Do the same with what cannot be opened: links, pipes, sockets and devices."""
    os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    theirs, own = f"/proc/self/fd/{here}/{name}", f"/proc/self/fd/{there}/{name}"
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(own, stat.S_IMODE(found.st_mode))  # noqa: PTH101  nobody else changes the copy
    for attribute in os.listxattr(theirs, follow_symlinks=False):
        os.setxattr(own, attribute, os.getxattr(theirs, attribute, follow_symlinks=False), follow_symlinks=False)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=there, follow_symlinks=False)
