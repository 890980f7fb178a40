"""What has to be done again the other way round when something fails half way.

Invariant: either :meth:`Undo.back` undoes all, the latest first, or :meth:`Undo.keep` carries out what was put off.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pylxc.errors import PylxcError

if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """The steps back, and the steps that wait for success; threads may note them."""

    def __init__(self) -> None:
        self._back: list[Callable[[], object]] = []
        self._later: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def note(self, back: Callable[[], object], later: Callable[[], object] | None = None) -> None:
        """Note how to undo a step, and what is to be done once nothing can fail any more."""
        with self._lock:
            self._back.append(back)
            if later is not None:
                self._later.append(later)

    def back(self) -> None:
        """Undo everything. What cannot be undone is logged: the error that led here is the one to be raised."""
        while self._back:
            step = self._back.pop()
            try:
                step()
            except (PylxcError, OSError) as error:
                logging.getLogger("pylxc").warning("undoing a failed up: %s", error)
        self._later.clear()

    def keep(self) -> None:
        """Forget how to undo it, and do what was put off."""
        self._back.clear()
        while self._later:
            self._later.pop()()
