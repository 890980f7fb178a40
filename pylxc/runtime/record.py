"""Reads what a container's monitor wrote down: an attribute of the container's directory, and the file "exit" in it.

Invariant: the truth is the kernel's, not the record's. The attribute names the process; the lock that the monitor holds
on the directory says that the record is being kept. Without the lock the process itself is asked, by pid and start
time.
"""

from __future__ import annotations

import errno
import json
import os

from attrs import frozen

from pylxc.identity import is_locked

KILLED = 137  # 128 + SIGKILL: what ended a process whose monitor was killed (PR_SET_PDEATHSIG)


@frozen
class Record:
    """What is known of a container's main process.

    ``state`` is "created", "running" or "exited"; times are seconds since the epoch, None where unknown.
    """

    state: str
    pid: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int = 0
    oom_killed: bool = False


STATE = "user.pylxc.state"


@frozen
class _State:
    pid: int
    start_time: int
    monitor: int
    started_ns: int


def read(directory: str) -> Record:
    """Return the state of the container whose directory this is."""
    state = _read_state(directory)
    if state is None:
        return Record("created")
    started = state.started_ns / 1e9
    ended = _read_exit(directory)
    if ended is None and not (is_locked(directory) or _is_alive(state.pid, state.start_time)):
        # The monitor is gone. It may have written its last word between the two looks.
        ended = _read_exit(directory)
        if ended is None:
            return Record("exited", 0, started, None, KILLED, 9)
    if ended is None:
        return Record("running", state.pid, started)
    return Record(
        "exited",
        0,
        started,
        ended["finished_ns"] / 1e9,
        ended["exit_code"],
        ended["signal"],
        bool(ended.get("oom_killed")),
    )


def monitor_pid(directory: str) -> int:
    """Return the pid of the monitor that wrote the record; 0 when there is none."""
    state = _read_state(directory)
    return 0 if state is None else state.monitor


def forget(directory: str) -> None:
    """Remove the record, before the container is started anew."""
    if _read_state(directory) is not None:
        os.removexattr(directory, STATE)
    if _read_exit(directory) is not None:
        os.unlink(f"{directory}/exit")  # noqa: PTH108


def _read_state(directory: str) -> _State | None:
    try:
        words = os.getxattr(directory, STATE).split()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOENT):
            return None
        raise
    return _State(*map(int, words))


def _read_exit(directory: str) -> dict[str, int] | None:
    try:
        with open(f"{directory}/exit", "rb") as file:  # noqa: PTH123
            value: dict[str, int] = json.loads(file.read())
    except FileNotFoundError:
        return None
    return value


def _is_alive(pid: int, start_time: int) -> bool:
    from pylxc.identity import process_start_time  # noqa: PLC0415

    return process_start_time(pid) == start_time
