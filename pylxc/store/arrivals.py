"""Layers that are ready at about the same time become durable together.

Hides who does it: the first one puts on disk all that are ready, by one sync and one transaction; those that become
ready meanwhile wait, and are the next group. Invariant: a group comes in whole or not at all, and what its members are
told is the same.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.store.layers import Layers, Staged
    from pylxc.store.leases import Lease


class _Arrival:
    """A layer that waits: ``error`` is what came in the way of its group."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.is_settled = False
        self.error: BaseException | None = None


class Arrivals:
    """The layers of one lease that come in several threads."""

    def __init__(self, layers: Layers, lease: Lease) -> None:
        self._layers = layers
        self._lease = lease
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Arrival] = []

    def settle(self, staged: Staged) -> None:
        """Make a staged tree a layer, as :meth:`Layers.commit` does; returns once it is on disk. Raises StoreError."""
        arrival = _Arrival(staged)
        with self._lock:
            self._waiting.append(arrival)
        with self._turn:
            if not arrival.is_settled:
                self._settle_group()
        if arrival.error is not None:
            raise arrival.error

    def _settle_group(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            self._layers.commit_all(self._lease, [one.staged for one in group])
        except BaseException as failure:
            error = failure
            raise
        finally:
            for one in group:
                one.error, one.is_settled = error, True
