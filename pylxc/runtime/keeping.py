"""Lets what a network has in the kernel go when the process that owns it is killed: at once, not by the next process.

Hides the process that waits for that (csrc/helper/keep.c, 30 KB). Invariant: there is one for each network that this
process owns, and none when it has removed the network, or given it away.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pylxc.runtime import native
from pylxc.runtime import plan as p

if TYPE_CHECKING:
    from pylxc.runtime.native import Child

SIGKILL = 9
_keepers: dict[str, Child] = {}
_lock = threading.Lock()


def keep(bridge: str) -> None:
    """Let a network go with this process. Raises SpawnError."""
    plan = p.Plan(flags=p.PLAN_KEEP)
    plan.add(p.NETWORK, bridge, subject=f"the keeper of {bridge}")
    native.tie_to_caller(plan)
    child = native.spawn(plan, (-1, -1, -1))
    child.let_go()
    with _lock:
        _keepers[bridge] = child


def let_be(bridge: str) -> None:
    """Let a network not go with this process any more; one that never did is no error."""
    with _lock:
        child = _keepers.pop(bridge, None)
    if child is not None:
        native.send_signal(child.monitor_fd, SIGKILL)
        native.await_end(child.monitor_fd)
        child.close()
