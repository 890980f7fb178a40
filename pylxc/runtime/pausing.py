"""Keeps a container still while something is done that must not see it move.

Hides the process that lets it go on (csrc/helper/pause.c). Invariant: a container that was paused here goes on when the
caller is done with it, and when the caller is killed; one that was paused already stays so.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pylxc.runtime import cgroup, native, process
from pylxc.runtime import plan as p
from pylxc.runtime.waiting import Wait, steps_of, waits

if TYPE_CHECKING:
    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting

PAUSE = 0.001  # s between two looks: a freezer tells nobody when it has come to an end
PATIENCE = 1.0  # s for going on, which nothing can hold up but somebody who pauses it again


@waits
def hold(id: str) -> Waiting[Child]:  # noqa: A002  docker's name
    """Pause a container, until :func:`release` is called with what is returned, or this process ends.

    Raises UnsupportedError without cgroups, SpawnError.
    """
    file, (thawed, frozen) = cgroup.freezer(id)
    plan = p.Plan(flags=p.PLAN_PAUSE)
    plan.add(p.PAUSE, file, frozen, thawed, subject=f"the freezer of container {id[:12]}")
    native.tie_to_caller(plan)
    child = native.spawn(plan, (-1, -1, -1))
    try:
        while not cgroup.is_frozen(id) and os.path.exists(file):  # noqa: PTH110  it may end meanwhile
            yield Wait(until=time.monotonic() + PAUSE)
    except BaseException:
        yield from steps_of(release, child, id)
        raise
    return child


@waits
def release(child: Child, id: str) -> Waiting[None]:  # noqa: A002
    """Let the container go on; returns when it does."""
    native.release(child, -1)
    yield from steps_of(process.settle, child)
    until = time.monotonic() + PATIENCE
    while cgroup.is_frozen(id) and time.monotonic() < until:
        yield Wait(until=time.monotonic() + PAUSE)
