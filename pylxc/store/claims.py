"""Claims: of several processes, or threads, that want the same thing made, one makes it.

A claim is a file in the staging that its holder has locked, named by what is made. Invariant: it dies with its holder,
and what it leaves is an empty file that the next process to open the store removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from pylxc.store.layout import PRIVATE_FILE, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc.store.layout import Layout


class Claims:
    """All claims of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @contextlib.contextmanager
    def claimed(self, digest: str, pause: Callable[[], object]) -> Iterator[None]:
        """Claim what a digest names for the length of a block.

        While somebody else has it, ``pause`` is called again and again; what it raises is raised here.
        """
        with contextlib.ExitStack() as stack:
            while not self.take(digest, stack):
                pause()
            yield

    def take(self, digest: str, stack: contextlib.ExitStack) -> bool:
        """Claim what a digest names until the stack is left; says whether nobody else has it."""
        path = f"{self._layout.root}/staging/.{digest.replace(':', '-')}.claim"
        with explained(path):
            while True:
                fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_nlink:
                        stack.callback(_release, fd, path, os.getpid())
                        return True
                except BlockingIOError:
                    os.close(fd)
                    return False
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)  # its holder gave it back between the two calls


def _release(fd: int, path: str, owner: int) -> None:
    """Give a claim back: the name goes before the lock does, so that nobody holds a file that others do not see."""
    if os.getpid() == owner:  # a fork that leaves the block takes nothing from its parent
        with contextlib.suppress(OSError):  # an empty file that nobody has locked stands in nobody's way
            os.unlink(path)  # noqa: PTH108
    os.close(fd)
