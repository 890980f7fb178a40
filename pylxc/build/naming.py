"""A layer that was made and has no name yet: its digest is found beside the step after it.

Hides the thread. Invariant: the tree is what it will be as a layer, times included, from the beginning on: who works on
it meanwhile sees what whoever works on the layer will see.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pylxc.runtime import rootless, transfer

if TYPE_CHECKING:
    from pylxc.build.inputs import Inputs


class Naming:
    """The tree that a step made of its inputs: its digest is found in a thread, and ``contents`` meanwhile.

    ``latest``: what was modified later (s since the epoch) gets that time. An ordinary user's is found when it is asked
    for: what that user's forks change must not have threads around.
    """

    def __init__(self, inputs: Inputs, tree: str, *, scaffold: str, latest: int) -> None:
        """Begin. Raises ContextError where an input is not there any more."""
        self.inputs = inputs
        self.tree = tree
        self._scaffold = scaffold
        self._latest = latest
        self._found = ("", 0)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if rootless.is_privileged():
            transfer.settle_times(tree, scaffold=scaffold, latest=latest)
            self._thread = threading.Thread(target=self._find, name="pylxc-naming", daemon=True)
            self._thread.start()
        try:
            self.contents = inputs.contents()
        except BaseException:
            self._wait()
            raise

    def _find(self) -> None:
        try:
            self._found = transfer.digest_of(self.tree, scaffold=self._scaffold, latest=self._latest)
        except BaseException as error:  # noqa: BLE001  raised by who asks
            self._error = error

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def found(self) -> tuple[str, int]:
        """Return the digest, and the size of the tar (bytes). Raises SpawnError."""
        if self._thread is None:
            self._find()
        self._wait()
        if self._error is not None:
            raise self._error
        return self._found
