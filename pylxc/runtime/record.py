"""Reads what a container's monitor wrote down: the files "state" and "exit" in the container's directory.

Invariant: the truth is the kernel's, not the file's. "state" names the process; the lock that the monitor holds on it
says that the record is being kept. Without the lock, the process itself is asked, by pid and start time.
"""

from __future__ import annotations

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


def read(directory: str) -> Record:
    """Return the state of the container whose directory this is."""
    state = _read_json(f"{directory}/state")
    if state is None:
        return Record("created")
    started = state["started_ns"] / 1e9
    ended = _read_json(f"{directory}/exit")
    if ended is None and not (is_locked(f"{directory}/state") or _is_alive(state["pid"], state["pid_start"])):
        # The monitor is gone. It may have written its last word between the two looks.
        ended = _read_json(f"{directory}/exit")
        if ended is None:
            return Record("exited", 0, started, None, KILLED, 9)
    if ended is None:
        return Record("running", state["pid"], started)
    return Record("exited", 0, started, ended["finished_ns"] / 1e9, ended["exit_code"], ended["signal"])


def monitor_pid(directory: str) -> int:
    """Return the pid of the monitor that wrote "state"; 0 when there is none."""
    state = _read_json(f"{directory}/state")
    return 0 if state is None else int(state["monitor"])


def forget(directory: str) -> None:
    """Remove the record, before the container is started anew."""
    for name in ("exit", "state"):
        try:
            os.unlink(f"{directory}/{name}")  # noqa: PTH108
        except FileNotFoundError:  # noqa: PERF203  either may be missing
            continue


def _read_json(path: str) -> dict[str, int] | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read()
    except FileNotFoundError:
        return None
    if not text.endswith(b"\n"):
        return None  # the monitor is about to write it
    value: dict[str, int] = json.loads(text)
    return value


def _is_alive(pid: int, start_time: int) -> bool:
    from pylxc.identity import process_start_time  # noqa: PLC0415

    return process_start_time(pid) == start_time
