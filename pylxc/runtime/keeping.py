"""Lets what a network has in the kernel go when it is to go: at once, not by the next process.

Hides the process that waits for that (csrc/helper/keep.c, 30 KB). A network that belongs to this process goes when it
ends, also when it is killed. The default network belongs to nobody: it goes half a second after its last use. Who uses
it, a container's monitor or whoever starts one, has a descriptor with a shared lock on a file; the process that takes
it apart has the exclusive one while it does so, and a second lock says that there is such a process.

Invariant: there is one process for each network that this process owns, and none when it has removed the network, or
given it away; as long as somebody holds the default network there is one for that, too.
"""

from __future__ import annotations

import fcntl
import os
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


# -- the default network -----------------------------------------------------------------------------------------------


def place_of(directory: str) -> str:
    """Return the file of the locks, in a directory of the store: there is one for each network of a host's."""
    return f"{directory}/bridge-{os.stat('/proc/thread-self/ns/net').st_ino}"  # noqa: PTH116  on the start path


def hold(place: str, bridge: str) -> int:
    """Let the default network not go before the descriptor that is returned, and all copies of it, are closed.

    Waits while it is being taken apart (some 40 ms). Raises OSError, SpawnError.
    """
    users = _opened(place)
    try:
        fcntl.flock(users, fcntl.LOCK_SH)
        os.utime(users)  # see is_unused in keep.c
        look_after(place, bridge)
    except BaseException:
        os.close(users)
        raise
    return users


def look_after(place: str, bridge: str) -> None:
    """Start the process that takes the default network apart when nobody holds it, unless there is one."""
    keeper, users = _opened(f"{place}.keeper"), -1
    try:
        fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        users = _opened(place)
        plan = p.Plan(flags=p.PLAN_KEEP)
        a, b = plan.descriptor(users), plan.descriptor(keeper)
        plan.add(p.NETWORK, bridge, flags=p.NETWORK_SHARED, a=a, b=b, subject=f"the keeper of {bridge}")
        child = native.spawn(plan, (-1, -1, -1))
        native.await_end(child.monitor_fd)
        child.close()
    except BlockingIOError:
        pass  # there is one
    finally:
        for fd in (keeper, users):
            if fd >= 0:
                os.close(fd)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
