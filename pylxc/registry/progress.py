"""What a transfer tells while it goes on. Invariant: an event is a value; calls never overlap."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable


@frozen
class Progress:
    """One thing that happened to a blob or a manifest.

    ``what``: "downloading" and "uploading" (``done`` of ``total`` bytes so far), "downloaded" (verified), "uploaded",
    "present" (the registry had it already), "mounted" (the registry took it from another repository), "retrying" (the
    connection broke; it goes on at ``done``).
    """

    what: str
    digest: str
    done: int
    total: int


class Reporter:
    """Passes events on to a callback, one at a time, from whichever thread."""

    def __init__(self, callback: Callable[[Progress], object] | None) -> None:
        self._callback = callback
        self._lock = threading.Lock()

    def tell(self, what: str, digest: str, done: int, total: int) -> None:
        """Pass an event on."""
        if self._callback is not None:
            with self._lock:
                self._callback(Progress(what, digest, done, total))
