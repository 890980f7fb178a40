"""Directories of containers that have ended, for the next ones of the same process.

Making a directory, and removing one, is among the dearest things that a start does: on a file system without a journal
each costs as much as three mounts. Hides where they lie meanwhile, and whose they are. Invariant: a spare holds an
empty directory ``work`` and nothing else, and bears no record; what a container could write to is never used again. It
goes with its process; one that was killed leaves it to the next that opens the store.
"""

from __future__ import annotations

import errno
import os
import re
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.identity import own_identity, process_start_time
from pylxc.store.going import MARKED

if TYPE_CHECKING:
    from pylxc.store.layout import Layout

DIRECTORY = "spares"
WORK = "work"
LIMIT = 16  # as many as threads that start containers at once; each is two inodes
_NAME = re.compile(r"(\d+)-(\d+)-[0-9a-f]{64}")


class Spares:
    """The spare directories of this process in one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._directory = f"{layout.root}/{DIRECTORY}"
        self._owner = 0
        self._names: list[str] = []

    def keep(self, id: str) -> bool:  # noqa: A002  docker's name
        """Keep the directory of a container that nothing uses any more; False: it is the caller's to remove."""
        path, names = self._layout.container(id), self._own()
        if len(names) >= LIMIT:
            return False
        owner = own_identity()
        name = f"{owner.pid}-{owner.start_time}-{id}"
        try:
            if not _is_spare(path):
                return False
            for attribute in os.listxattr(path):
                os.removexattr(path, attribute)
            os.rename(path, f"{self._directory}/{name}")  # noqa: PTH104
        except OSError:
            return False  # the removal, which is next, tells what is wrong
        names.append(name)
        return True

    def take(self, id: str, mode: int) -> bool:  # noqa: A002  docker's name
        """Make the directory of a new container, of this mode, out of a spare one; False: there is none."""
        names = self._own()
        while names:
            try:
                name = names.pop()
            except IndexError:
                break  # another thread took it
            spare = f"{self._directory}/{name}"
            try:
                if mode != MARKED:  # it was marked when its container went
                    os.chmod(spare, mode)  # noqa: PTH101
                os.rename(spare, self._layout.container(id))  # noqa: PTH104
            except FileNotFoundError:
                continue  # somebody removed it by hand
            except OSError as error:
                names.append(name)
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # a sweep has made it, and it is in use
                    raise
            return True
        return False

    def drop(self) -> None:
        """Remove those of this process."""
        _remove(self._layout, self._own(), os.getpid())

    def sweep(self) -> None:
        """Remove those whose process is gone."""
        names = os.listdir(self._directory)  # noqa: PTH208
        self._layout.remove_below(self._directory, [name for name in names if not _has_owner(name)])

    def _own(self) -> list[str]:
        """Return the names of this process's: a child of a fork begins with none, its parent's stay the parent's."""
        if self._owner != os.getpid():
            self._owner, self._names = os.getpid(), []
            weakref.finalize(self, _remove, self._layout, self._names, self._owner)
        return self._names


def _is_spare(path: str) -> bool:
    """Say whether a directory is as :class:`Spares` has them. Raises OSError."""
    return os.listdir(path) == [WORK] and not os.listdir(f"{path}/{WORK}")  # noqa: PTH208


def _has_owner(name: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and process_start_time(int(found[1])) == int(found[2])


def _remove(layout: Layout, names: list[str], owner: int) -> None:
    """Remove a process's spare directories, at its end too; what cannot be removed then is for the next sweep."""
    if owner == os.getpid():
        with suppress(StoreError):
            while names:
                layout.remove_below(f"{layout.root}/{DIRECTORY}", [names.pop()])
