"""Reads what a container's monitor wrote down of its health checks: the file "health" of the container's directory.

Hides how it is written: a character for each byte of the output, numbers for what went wrong. Invariant: a reader sees
all of the last results or all of those before.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pylxc.runtime.native import STAGES
from pylxc.runtime.record import read_health

if TYPE_CHECKING:
    from pylxc.health import Check


def described(directory: str, check: Check) -> dict[str, Any] | None:
    """Return a container's health as docker's State.Health has it; None where nothing has ever checked it.

    Times are seconds since the epoch. ``check`` is what was executed.
    """
    status, streak = read_health(directory)
    if status is None:
        return None
    log = [_described(result, check) for result in _read(directory)]
    return {"Status": status, "FailingStreak": streak, "Log": log}


def _read(directory: str) -> list[dict[str, Any]]:
    try:
        with open(f"{directory}/health", "rb") as file:  # noqa: PTH123
            found: list[dict[str, Any]] = json.loads(file.read())
    except FileNotFoundError:
        return []
    return found


def _described(result: dict[str, Any], check: Check) -> dict[str, Any]:
    output = result["output"].encode("latin-1").decode("utf-8", "replace")
    if result["timed_out"]:
        words = f"Health check exceeded timeout ({check.timeout / 1e9:g} s)"
        output = f"{words}: {output}" if output else words
    elif result["stage"]:
        stage = STAGES[result["stage"]]
        subject = f"{check.argv[0]}: " if stage == "exec" else ""
        output = f"{stage}: {subject}{os.strerror(result['errno'])}"
    return {
        "Start": result["start"] / 1e9,
        "End": result["end"] / 1e9,
        "ExitCode": result["exit_code"],
        "Output": output,
    }
