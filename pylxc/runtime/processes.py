"""Finds the processes of a container, from outside.

Invariant: what is returned was a process of the container when it was looked at; what ended meanwhile is left out.

Source: proc_pid_stat(5), proc_pid_ns(5).
"""

from __future__ import annotations

import os
from contextlib import suppress

from pylxc.values import frozen

TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name, counted from the state (field 3).
STATE, PARENT, USER_TIME, SYSTEM_TIME, START_TIME = 0, 1, 11, 12, 19


@frozen(kw_only=True)
class ProcessInfo:
    """One process of a container.

    ``pid`` and ``parent`` as the host sees them, ``inside`` as the container does; ``user`` is its uid inside (-1: an
    id that the container does not have); ``state`` is the kernel's letter; ``cpu`` is in seconds of processor time,
    ``started`` in s since the epoch; ``command`` holds its arguments (none for a zombie).
    """

    pid: int
    parent: int
    inside: int
    user: int
    state: str
    cpu: float
    started: float
    command: tuple[str, ...]


def of_container(pid: int) -> list[ProcessInfo]:
    """Return the processes in the pid namespace of a container's main process, by their pid inside."""
    namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino  # noqa: PTH116
    with open(f"/proc/{pid}/uid_map") as file:  # noqa: PTH123
        ids = [tuple(map(int, line.split())) for line in file]
    found = []
    with os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit():
                continue
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or not for us to look at
                if os.stat(f"/proc/{entry.name}/ns/pid").st_ino == namespace:  # noqa: PTH116
                    found.append(_look(int(entry.name), ids))
    return sorted(found, key=lambda process: process.inside)


def _look(pid: int, ids: list[tuple[int, ...]]) -> ProcessInfo:
    with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123
        fields = file.read().rpartition(") ")[2].split()
    with open(f"/proc/{pid}/status", errors="replace") as file:  # noqa: PTH123
        status = dict(line.rstrip().partition(":\t")[::2] for line in file)
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        words = file.read().decode("utf-8", "replace").split("\0")[:-1]
    uid = int(status["Uid"].split()[0])
    return ProcessInfo(
        pid=pid,
        parent=int(fields[PARENT]),
        inside=int(status["NSpid"].split()[-1]),
        user=next((inner + uid - outer for inner, outer, count in ids if 0 <= uid - outer < count), -1),
        state=fields[STATE],
        cpu=(int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) / TICKS,
        started=_boot_time() + int(fields[START_TIME]) / TICKS,
        command=tuple(words),
    )


def _boot_time() -> int:
    """Return when the machine started (s since the epoch), as proc_stat(5) has it."""
    with open("/proc/stat") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith("btime "))
