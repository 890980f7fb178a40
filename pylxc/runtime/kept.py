"""Remembers the processes that may outlive every object that knows them: their monitors are this process's to reap.

There is no thread that would: :func:`collect` does it whenever another process is started, as ``subprocess`` does.
Invariant: one that runs costs one descriptor, its monitor's pidfd; a start costs the same however many run (epoll(7)
names those that have ended), and without any nothing is open. What happens to them is in their records.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from pylxc.runtime import native

if TYPE_CHECKING:
    from pylxc.runtime.native import Child

_kept: dict[int, Child] = {}  # by the monitor's pidfd
_endings: select.epoll | None = None
_lock = threading.Lock()


def keep(child: Child) -> None:
    """Remember a process whose end nobody here reads a report of: only its monitor stays open."""
    global _endings  # noqa: PLW0603  one per process is the point
    child.let_go()
    with _lock:
        if _endings is None:
            _endings = select.epoll()
        _endings.register(child.monitor_fd, select.EPOLLIN)
        _kept[child.monitor_fd] = child


def collect() -> None:
    """Reap the monitors of kept processes that have ended.

    Their descriptors stay open for as long as somebody holds the Child: another thread may be waiting on them.
    """
    if not _kept:
        return
    with _lock:
        for fd, _ in _endings.poll(0) if _endings is not None else ():
            native.reap(fd)
            _forget(_kept[fd])


def close(child: Child) -> None:
    """Reap the monitor of a process if it has ended, close what is open, and forget the process if it was kept.

    Not while another thread looks at the same descriptors in :func:`collect`: they would be closed, or somebody else's.
    """
    with _lock:
        if child.monitor_fd >= 0:
            native.reap(child.monitor_fd)
        _forget(child)
        child.close()


def _forget(child: Child) -> None:
    """Forget a process, before its descriptor is closed: a copy in a fork of this process would keep it watched."""
    global _endings  # noqa: PLW0603
    if _endings is None or _kept.get(child.monitor_fd) is not child:
        return
    _endings.unregister(child.monitor_fd)
    del _kept[child.monitor_fd]
    if not _kept:
        _endings.close()
        _endings = None


def _after_fork() -> None:
    """Start anew in a fork: the monitors are its parent's children, the lock's holder may be a thread that is gone."""
    global _lock, _endings  # noqa: PLW0603  one per process is the point
    _lock = threading.Lock()
    _endings = None  # closes this copy only
    _kept.clear()


os.register_at_fork(after_in_child=_after_fork)
