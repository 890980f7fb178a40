"""What a transfer tells while it goes on. Invariant: an event is a value; calls never overlap."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable


@frozen
class Progress:
    """One thing that happened to a layer or a manifest, on its way in or out.

    ``digest`` names it, ``done`` of ``total`` bytes are through. ``what`` of a pull: "found" (an index, where the
    reference names one), "resolved" (the manifest that is pulled), "waiting" for each layer before the first of them
    comes, then "present" (it is here already), or "downloading" (again and again), "downloaded" (verified) and
    "unpacked" (it is in the store). Of a push, which names
    layers by their diff ids: "waiting" for each (``total`` may change when it is packed), then "packing" (its archive
    is made), "uploading" (again and again) and "uploaded", or "present" (the registry had it already), or "mounted"
    (the registry took it from another repository), and "pushed" (the manifest). Of both: "retrying" (the connection
    broke; it goes on at ``done``).

    Example:
        >>> Progress("downloading", "sha256:" + "0" * 64, 512, 1024).done
        512

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

    def naming(self, digest: str) -> Reporter:
        """Return a reporter of one thing only, which it names by this digest; with "" it tells nothing."""
        callback = self._callback
        if not digest or callback is None:
            return Reporter(None)
        return Reporter(lambda event: self.tell(event.what, digest, event.done, event.total))

    def tell(self, what: str, digest: str, done: int, total: int) -> None:
        """Pass an event on."""
        if self._callback is not None:
            with self._lock:
                self._callback(Progress(what, digest, done, total))
