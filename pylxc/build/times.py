"""Gives the directories that a step passed through the times they would have on any machine.

Putting a file somewhere makes its missing parents, and changes the time of the one it is put into. Both would make the
layer of a COPY or a WORKDIR another one each time it is built. Invariant: a directory that was there keeps the time it
had below, one that was made on the way has the time 0; what an archive or the context says of a time is never touched.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.runtime.isolation import Tree


TICK = 0.004  # s; CONFIG_HZ of most kernels


def beginning(directory: str) -> int:
    """Return a time (ns) that nothing bears which is there already, and that nothing made from now on comes before.

    File systems keep time in ticks of some milliseconds: this waits for the next one. ``directory`` was made just now.
    """
    made = now = os.stat(directory).st_mtime_ns  # noqa: PTH116
    while now <= made:
        time.sleep(TICK / 8)
        os.utime(directory)  # by the file system's own clock
        now = os.stat(directory).st_mtime_ns  # noqa: PTH116
    return now


def settle(tree: Tree, since: int) -> None:
    """Reset the directories of the upper side whose time (ns since the epoch) lies between ``since`` and now.

    Nothing may write to the tree meanwhile.
    """
    rootless.as_owner(_settle, tree, since)


def _settle(tree: Tree, since: int) -> None:
    until = time.time_ns()
    place = os.open(tree.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in _directories(place):
            if since <= os.lstat(directory or ".", dir_fd=place).st_mtime_ns <= until:
                ns = _time_below(tree, f"/{directory}" if directory else "")
                os.utime(directory or ".", ns=(ns, ns), dir_fd=place, follow_symlinks=False)
    finally:
        os.close(place)


def _directories(place: int) -> Iterator[str]:
    """Give all directories below an open one, and "" for itself.

    Not by os.walk, which recurses, and puts the whole path in front: an archive can hold a thousand in each other.
    """
    left = [""]
    while left:
        directory = left.pop()
        yield directory
        found = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        try:
            with os.scandir(found) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        finally:
            os.close(found)
        left += [f"{directory}/{name}" if directory else name for name in names]


def _time_below(tree: Tree, path: str) -> int:
    """Return the time (ns) of the directory that a path of the upper side lies on; 0 when it lies on none."""
    lowers = list(tree.lowers)
    if any(path == place or path.startswith(f"{place}/") for place in tree.passthrough):
        lowers[-1] = ""  # the lowest layer only marks the place of the host's own directory
    for lower in lowers:
        try:
            status = os.lstat(lower + path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        # A whiteout, or anything else that was replaced: what lies further down was not seen.
        return status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else 0
    return 0
