"""Puts on disk what came into the store, beside the work that goes on.

Hides the thread: it is there while there is something to be done. Invariant: whoever waits for the end is told of the
first failure, since the kernel tells of an error of writing only once (syncfs(2)).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pylxc.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable


class Settling:
    """Calls ``settle`` in a thread after each :meth:`begin`; once for those that come while it is at work."""

    def __init__(self, settle: Callable[[], object]) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._is_wanted = False
        self._thread: threading.Thread | None = None
        self._error: StoreError | None = None

    def begin(self) -> None:
        """Say that there is something new; returns at once."""
        with self._lock:
            self._is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pylxc-settling", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while self._is_to_go_on():
            self._settle_once()

    def _settle_once(self) -> None:
        try:
            self._settle()
        except StoreError as error:
            self._error = self._error or error

    def _is_to_go_on(self) -> bool:
        with self._lock:
            is_wanted, self._is_wanted = self._is_wanted, False
            if not is_wanted:
                self._thread = None
            return is_wanted

    def end(self) -> None:
        """Wait until nothing is left to be done."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def require_whole(self) -> None:
        """Wait likewise. Raises StoreError when something could not be put on disk."""
        self.end()
        if self._error is not None:
            raise self._error
