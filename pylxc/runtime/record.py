"""Reads what a container's monitor wrote down: an attribute of the container's directory, and the file "exit" in it.

Invariant: the truth is the kernel's, not the record's. The attribute names the process; the lock that the monitor holds
on the directory says that the record is being kept. Without the lock the process itself is asked, by pid, start time
and boot. One look costs six system calls, of which one has to find the directory: a thousand containers are listed so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.identity import boot_id, process_start_time
from pylxc.runtime.native import STAGES
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

NANOSECONDS = 1e9
_WORDS = 5  # that are numbers, before the boot's id
KILLED = 137  # 128 + SIGKILL: what ended a process whose monitor was killed (PR_SET_PDEATHSIG)


@frozen
class Record:
    """What is known of a container's main process.

    ``state`` is "created", "running", "restarting" or "exited", or "removed" when its directory is not there; times are
    seconds since the epoch, None where unknown. ``restart_count``: how often its policy has started it again.
    ``error``: why it could not be, "" = it could.
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
EXIT_SIZE = 4096  # bytes; more than the file "exit" has


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


def read(directory: str) -> Record:
    """Return the state of the container whose directory this is."""
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Record("removed")
    try:
        return _read(place, directory)
    finally:
        os.close(place)


def _read(place: int, directory: str) -> Record:
    state = _read_state(place)
    if state is None:
        return Record("created")
    started = state.started_ns / NANOSECONDS
    ended = _read_exit(place)
    if ended is None and not (_is_locked(place) or state.is_alive()):
        # The monitor is gone. It may have written its last word between the two looks, or somebody may be removing it.
        ended = _read_exit(place)
        if ended is None:
            if not os.path.isdir(directory):  # noqa: PTH112
                return Record("removed")
            return Record("exited", 0, started, None, KILLED, 9, restart_count=state.restarts)
    if ended is None:
        health = read_health(place)[0]  # cheaper than to ask the spec whether there is a check
        return Record("running", state.pid, started, restart_count=state.restarts, health=health)
    return Record(
        "restarting" if ended.get("restarting") and _is_locked(place) else "exited",
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


def read_health(place: int | str) -> tuple[str | None, int]:
    """Return the health that was found last, and how many checks have failed in a row; (None, 0): nothing checks it."""
    try:
        status, streak = os.getxattr(place, HEALTH).decode().split()
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
    with suppress(FileNotFoundError):
        os.unlink(f"{directory}/exit")  # noqa: PTH108


def _read_state(place: int | str) -> _State | None:
    try:
        words = os.getxattr(place, STATE).split()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOENT):
            return None
        raise
    pid, start_time, monitor, started_ns, restarts = map(int, words[:_WORDS])
    return _State(pid, start_time, monitor, started_ns, restarts, words[_WORDS].decode())


def _read_exit(place: int) -> dict[str, int] | None:
    try:
        file = os.open("exit", os.O_RDONLY | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return None
    try:
        value: dict[str, int] = json.loads(os.read(file, EXIT_SIZE))
    finally:
        os.close(file)
    return value


def _is_locked(place: int) -> bool:
    """Say whether a monitor holds the directory locked, and so lives."""
    try:
        fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False  # ours goes with the descriptor
