"""Marks the directories of volumes and containers that may go when no row names them.

A directory without a row is what a removal that was cut short left, or holds the data of a row that was lost: the mark
tells one from the other. Hides what it is: the sticky bit, which takes no room on a full disk, and which every file
system has. Invariant: a removal marks a directory before its row is gone; what nothing marked is never removed for want
of a row.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from pylxc.store.layout import PRIVATE, explained

MARKED = PRIVATE | stat.S_ISVTX


def mark(path: str) -> None:
    """Mark a directory; one that is not there is passed over. Raises StoreError."""
    with explained(path), suppress(FileNotFoundError):
        os.chmod(path, MARKED)  # noqa: PTH101


def unmark(path: str) -> None:
    """Take the mark off a directory; one that is not there is passed over. Raises StoreError."""
    with explained(path), suppress(FileNotFoundError):
        os.chmod(path, PRIVATE)  # noqa: PTH101


def is_marked(path: str) -> bool:
    """Say whether a directory is marked; False when it is not there. A link is not what it leads to."""
    try:
        return bool(os.lstat(path).st_mode & stat.S_ISVTX)
    except FileNotFoundError:
        return False
