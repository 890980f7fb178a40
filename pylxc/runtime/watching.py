"""Waits for changes of files without asking again and again: hides inotify(7).

Invariant: no change is missed by who first clears the watch, then looks at the files, then waits. What the changes were
is not told: whoever waits looks for itself, so that one notice for many changes, or one too many, does no harm.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from pylxc.errors import UnsupportedError
from pylxc.linux import InotifyFlag, InotifyInitFlag, inotify_add_watch, inotify_init1
from pylxc.runtime.process import wait_readable
from pylxc.scoped import Scoped

# Content, attributes (a container's state is one), and names that come and go.
_CHANGES = (
    InotifyFlag.MODIFY
    | InotifyFlag.ATTRIB
    | InotifyFlag.CREATE
    | InotifyFlag.DELETE
    | InotifyFlag.DELETE_SELF
    | InotifyFlag.MOVED_FROM
    | InotifyFlag.MOVED_TO
    | InotifyFlag.MOVE_SELF
)
_CHUNK = 1 << 16
_LIMITS = {
    errno.EMFILE: "close some files, or raise the limit (sysctl fs.inotify.max_user_instances, or `ulimit -n`)",
    errno.ENOSPC: "raise the limit (sysctl fs.inotify.max_user_watches)",
}


class Watch(Scoped):
    """A descriptor that becomes readable when one of some files, or what is directly in some directories, changes.

    ``fileno()`` makes it fit for ``select``, ``poll`` and ``loop.add_reader``. As a context manager it is closed when
    the block is left. A path that is removed or renamed makes it readable once more; the watch then stays with the file
    that was there: :meth:`add` the path again.

    Raises OSError for a path that is not there; UnsupportedError when the kernel's limits are reached.

    Example:
        >>> with Watch(directory) as watch:                                         # doctest: +SKIP
        ...     while not os.path.exists(f"{directory}/exit"):
        ...         watch.wait(None)
        ...         watch.clear()

    """

    def __init__(self, *paths: str) -> None:
        self._fd = -1
        try:
            self._fd = inotify_init1(InotifyInitFlag.NONBLOCK)
        except OSError as error:
            raise _explained(error) from error
        try:
            for path in paths:
                self.add(path)
        except BaseException:
            self.close()
            raise

    def add(self, path: str) -> None:
        """Watch a further path; one that is watched already is no error."""
        try:
            inotify_add_watch(self._fd, path, _CHANGES)
        except OSError as error:
            raise _explained(error) from error

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def clear(self) -> None:
        """Make it unreadable until the next change. Look at the files after this, not before."""
        with suppress(BlockingIOError):
            while os.read(self._fd, _CHUNK):
                pass

    def wait(self, timeout: float | None) -> bool:
        """Wait for a change since the last :meth:`clear`; False when ``timeout`` (s) passed without."""
        return wait_readable(self._fd, timeout)

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _leave(self) -> None:
        self.close()

    def __del__(self) -> None:
        """Close what nobody closed."""
        self.close()


def _explained(error: OSError) -> Exception:
    """Return what a refusal means for the caller."""
    remedy = _LIMITS.get(error.errno or 0)
    return error if remedy is None else UnsupportedError(f"following ({error})", remedy)
