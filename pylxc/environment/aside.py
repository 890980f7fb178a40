"""Work that takes its time, done aside where the caller is an event loop.

Invariant: whoever may block does it in place; a task that is cancelled stops it, and waits until it has ended.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from pylxc.runtime.waiting import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.runtime.waiting import Waiting

T = TypeVar("T")


def aside(call: Callable[[threading.Event], T]) -> Waiting[T]:
    """Make a call that takes its time: in place, or by a thread where the caller is an event loop."""
    found: list[T] = []
    stop = threading.Event()
    yield Work(lambda: found.append(call(stop)), stop.set)
    return found[0]


def each_aside(names: Mapping[str, object], work: Callable[[str], T]) -> Waiting[dict[str, T]]:
    """Do something for each name, side by side; return what it returned by name."""
    from pylxc.compose.running.order import side_by_side  # noqa: PLC0415  only here

    found: dict[str, T] = {}

    def on_one(name: str) -> None:
        found[name] = work(name)

    if names:
        yield from aside(lambda stop: side_by_side(names, on_one, stop))
    return found
