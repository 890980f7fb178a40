"""Gives each container a range of 65,536 user and group ids of its own on this machine.

Invariant: no two containers that run, of whatever process and store, have ids in common. A range is a byte of one file
under an open-file-description lock (fcntl(2), F_OFD_SETLK): the container's monitor holds the descriptor, so the kernel
takes the range back when the monitor ends, however that happens, and nobody need tidy up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING

from pylxc.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 65536
# Ids that no tool gives out: above the ranges of useradd(8) and of systemd's containers (systemd.io/UIDS-GIDS), below
# 2^31, from where on some programs take an id for negative.
FIRST = 0x70000000
COUNT = (0x7FFF0000 - FIRST) // SIZE
DIRECTORY = "/run/pylxc"
_FLOCK = struct.Struct("hhqqi4x")


def take() -> tuple[int, int]:
    """Return the first id of a range that is free now, and the descriptor that keeps it.

    The range is kept while any copy of the descriptor is open.

    Raises:
        StoreError: /run cannot be written, or all ranges are taken.
    """
    try:
        fd = os.open(f"{DIRECTORY}/ids", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)  # noqa: PTH103
        return take()
    except OSError as error:
        raise StoreError(
            f"{DIRECTORY}/ids", f"cannot be written ({error.strerror}); a container's ids are kept there"
        ) from error
    try:
        for number in _numbers():
            if _lock(fd, number, fcntl.F_WRLCK):
                _lock(fd, number, fcntl.F_RDLCK)  # others may share it, nobody can take it
                return FIRST + number * SIZE, fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise StoreError(f"{DIRECTORY}/ids", f"all {COUNT} ranges of user ids are taken; stop containers first")


def share(first: int) -> int:
    """Return a descriptor that keeps a range which another container has already; -1 for ids that are no range of ours.

    The range is free again when all of them have ended.
    """
    number, rest = divmod(first - FIRST, SIZE)
    if rest or not 0 <= number < COUNT:
        return -1
    fd = os.open(f"{DIRECTORY}/ids", os.O_RDWR | os.O_CLOEXEC)
    if not _lock(fd, number, fcntl.F_RDLCK):
        os.close(fd)
        raise ProcessLookupError(errno.ESRCH, "the container that has these ids has ended")
    return fd


def _numbers() -> Iterator[int]:
    """All ranges, from a place of chance on: processes that start containers at once seldom meet."""
    begin = int.from_bytes(os.urandom(8), "big") % COUNT  # `random` takes 3 ms to import
    return (n % COUNT for n in range(begin, begin + COUNT))


def _lock(fd: int, number: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, number, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
