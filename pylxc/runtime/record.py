"""Reads what a container's monitor wrote down: an attribute of the container's directory, and the file "exit" in it.

Invariant: the truth is the kernel's, not the record's. The attribute names the process; the lock that the monitor holds
on the directory says that the record is being kept. Without the lock the process itself is asked, by pid, start time
and boot.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.identity import boot_id, is_locked, process_start_time
from pylxc.runtime.native import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

NANOSECONDS = 1e9
_WORDS = 5  # that are numbers, before the boot's id
KILLED = 137  # 128 + SIGKILL: what ended a process whose monitor was killed (PR_SET_PDEATHSIG)


@frozen
class Record:
    """What is known of a container's main process.

    ``state`` is "created", "running", "restarting" or "exited"; times are seconds since the epoch, None where unknown.
    ``restart_count``: how often its policy has started it again. ``error``: why it could not be, "" = it could.
    """

    state: str
    pid: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int = 0
    oom_killed: bool = False
    restart_count: int = 0
    error: str = ""
    health: str | None = None


STATE = "user.pylxc.state"
HEALTH = "user.pylxc.health"


@frozen
class _State:
    pid: int
    start_time: int
    monitor: int
    started_ns: int
    restarts: int
    boot_id: str

    def is_alive(self) -> bool:
        """Say whether the process lives: on this boot, by its pid and start time."""
        return self.boot_id == boot_id() and process_start_time(self.pid) == self.start_time


def read(directory: str, *, checked: bool = False) -> Record:
    """Return the state of the container whose directory this is; ``checked``: with its health."""
    state = _read_state(directory)
    if state is None:
        return Record("created")
    started = state.started_ns / NANOSECONDS
    ended = _read_exit(directory)
    if ended is None and not (is_locked(directory) or state.is_alive()):
        # The monitor is gone. It may have written its last word between the two looks.
        ended = _read_exit(directory)
        if ended is None:
            return Record("exited", 0, started, None, KILLED, 9, restart_count=state.restarts)
    if ended is None:
        health = read_health(directory)[0] if checked else None
        return Record("running", state.pid, started, restart_count=state.restarts, health=health)
    return Record(
        "restarting" if ended.get("restarting") and is_locked(directory) else "exited",
        0,
        started,
        ended["finished_ns"] / NANOSECONDS,
        ended["exit_code"],
        ended["signal"],
        bool(ended.get("oom_killed")),
        state.restarts,
        _error(ended),
    )


def _error(ended: Mapping[str, int]) -> str:
    if not ended.get("stage"):
        return ""
    return f"{STAGES.get(ended['stage'], ended['stage'])}: {os.strerror(ended['errno'])}"


def monitor_pid(directory: str) -> int:
    """Return the pid of the monitor that wrote the record; 0 when there is none."""
    state = _read_state(directory)
    return 0 if state is None else state.monitor


def read_health(directory: str) -> tuple[str | None, int]:
    """Return the health that was found last, and how many checks have failed in a row; (None, 0): nothing checks it."""
    try:
        status, streak = os.getxattr(directory, HEALTH).decode().split()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOENT):
            return None, 0
        raise
    return status, int(streak)


def forget(directory: str) -> None:
    """Remove the record, before the container is started anew."""
    if _read_state(directory) is not None:
        os.removexattr(directory, STATE)
        with suppress(OSError):  # most have none
            os.removexattr(directory, HEALTH)
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/health")  # noqa: PTH108
    if _read_exit(directory) is not None:
        os.unlink(f"{directory}/exit")  # noqa: PTH108


def _read_state(directory: str) -> _State | None:
    try:
        words = os.getxattr(directory, STATE).split()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOENT):
            return None
        raise
    pid, start_time, monitor, started_ns, restarts = map(int, words[:_WORDS])
    return _State(pid, start_time, monitor, started_ns, restarts, words[_WORDS].decode())


def _read_exit(directory: str) -> dict[str, int] | None:
    try:
        with open(f"{directory}/exit", "rb") as file:  # noqa: PTH123
            value: dict[str, int] = json.loads(file.read())
    except FileNotFoundError:
        return None
    return value
