"""Tells one process from another of the same number, across time, reboots and PID namespaces, and whether it lives.

Invariant: a process is its pid, its start time in clock ticks since boot (proc_pid_stat(5), field 22) and the id of
the boot, which says, too, in which PID namespace it has that pid.
"""

from __future__ import annotations

import os
from functools import lru_cache

from attrs import frozen

START_TIME = 22
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode: PROC_PID_INIT_INO of include/linux/proc_ns.h


@frozen
class ProcessIdentity:
    """One process, for ever: ``pid``, ``start_time`` (clock ticks since boot), ``boot_id``.

    The last ends with "/" and the inode of the PID namespace, unless that is the machine's first one.
    """

    pid: int
    start_time: int
    boot_id: str

    def is_alive(self) -> bool:
        """Say whether this very process is seen to run. One of another PID namespace never is."""
        return self.boot_id == own_identity().boot_id and process_start_time(self.pid) == self.start_time

    def is_gone(self) -> bool:
        """Say whether this process has ended. Of another PID namespace that is known after a boot only."""
        if self.boot_id.partition("/")[0] != boot_id():
            return True
        return self.boot_id == own_identity().boot_id and not self.is_alive()


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
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
        place = boot_id() if namespace == FIRST_PID_NAMESPACE else f"{boot_id()}/{namespace}"
        _own = (pid, ProcessIdentity(pid, process_start_time(pid), place))
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
