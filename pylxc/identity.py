"""Tells one process from another of the same number, across time and reboots, and whether it lives.

Invariant: a process is its pid, its start time in clock ticks since boot (proc_pid_stat(5), field 22) and the id of
the boot.
"""

from __future__ import annotations

import os
from functools import lru_cache

from pylxc.values import frozen

START_TIME = 22


@frozen
class ProcessIdentity:
    """One process, for ever: ``pid``, ``start_time`` (clock ticks since boot), ``boot_id``."""

    pid: int
    start_time: int
    boot_id: str

    def is_alive(self) -> bool:
        """Say whether this very process still runs."""
        return self.boot_id == boot_id() and process_start_time(self.pid) == self.start_time


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the id of this boot (random(4), /proc/sys/kernel/random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        return file.read().strip()


def process_start_time(pid: int) -> int:
    """Return a process's start time; 0 when there is no such process, or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text[text.rindex(b")") + 2 :].split()  # the name may hold spaces and brackets
    return 0 if fields[0] in (b"Z", b"X") else int(fields[START_TIME - 3])


_own = (-1, ProcessIdentity(-1, 0, ""))


def own_identity() -> ProcessIdentity:
    """Return the identity of this process (not of the one it was forked from)."""
    global _own  # noqa: PLW0603  one per process is the point
    pid = os.getpid()
    if _own[0] != pid:
        _own = (pid, ProcessIdentity(pid, process_start_time(pid), boot_id()))
    return _own[1]


def is_locked(path: str) -> bool:
    """Say whether a process holds a file locked (flock(2)), and so lives; False when there is no such file."""
    import fcntl  # noqa: PLC0415  not needed by those who only want identities

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
