"""What a container is doing, as a value.

Invariant: a :class:`Status` is a snapshot; asking it never asks the kernel again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pylxc.units import format_age, format_ago

if TYPE_CHECKING:
    from pylxc.runtime.record import Record


class Status(str):
    """A container's state: the word "created", "running", "paused", "restarting" or "exited", with what else is known.

    "restarting": it has ended, and its restart policy will start it again after a pause.

    ``pid`` (on the host, 0 when it does not run), ``started_at`` and ``finished_at`` (s since the epoch, None where
    there is none), ``exit_code`` (None until it has ended), ``signal`` (that ended it, 0 = none), ``oom_killed``
    (whether the kernel killed one of its processes for want of memory), ``restart_count`` (how often its policy has
    started it again), ``error`` (why the last start by the policy failed, "" = it did not), ``health`` ("starting",
    "healthy" or "unhealthy" while it runs; None where nothing checks it).

    Example:
        >>> status = container.status()                                             # doctest: +SKIP
        >>> status == "exited", status.exit_code
        (True, 0)

    """

    __slots__ = (
        *("error", "exit_code", "finished_at", "health", "oom_killed", "pid", "restart_count", "signal", "started_at"),
    )

    pid: int
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    signal: int
    oom_killed: bool
    restart_count: int
    error: str
    health: str | None

    @classmethod
    def of(cls, record: Record, *, paused: bool = False) -> Status:
        """Return the status that a monitor's record tells."""
        status = cls("paused" if paused else record.state)
        for name in cls.__slots__:
            setattr(status, name, getattr(record, name))
        return status

    def describe(self) -> str:
        """Return docker's phrase: "Created", "Up 5 minutes (healthy)", "Exited (0) 2 hours ago"."""
        now = time.time()
        if self in {"running", "paused"}:
            up = f"Up {format_age(max(0.0, now - (self.started_at or now)))}"
            if self == "paused" or not self.health:
                return up if self == "running" else f"{up} (Paused)"
            return f"{up} (health: starting)" if self.health == "starting" else f"{up} ({self.health})"
        if self in {"exited", "restarting"}:
            ago = "" if self.finished_at is None else f" {format_ago(now - self.finished_at)}"
            return f"{self.capitalize()} ({self.exit_code}){ago}"
        return self.capitalize()
