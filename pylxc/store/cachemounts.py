"""Cache mounts: directories that RUN steps of builds keep between builds.

Hides where they lie, what a name becomes on disk, and the locks. Invariant: a directory's name is a digest, so no id
leads out of its place; a lock is held by an open file (fcntl_locking(2), "open file description locks"), so it ends
with the last process that has that open; what is not locked is in use by nobody, and may be removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pylxc.runtime import rootless
from pylxc.store.layout import explained
from pylxc.values import field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pylxc.store.layout import Layout

SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.1  # s between two looks at a lock
_FLOCK = struct.Struct("=hh4xqqi4x")  # struct flock, with an off_t of 64 bits
# After "private" alone may several have directories of their own.
_STRENGTH = ("shared", "locked", "private")


@frozen(kw_only=True)
class CacheUse:
    """A cache that a step wants. ``identity``: what tells it from others, as text; ``sharing``: see the reference.

    ``uid``, ``gid`` and ``mode`` are those of a directory that is made; ``fill`` puts its first content into it.
    """

    identity: str
    sharing: str = "shared"
    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    fill: Callable[[str], object] | None = field(default=None, eq=False, repr=False)


@frozen
class CacheMount:
    """A cache on disk. ``identity``: see :class:`CacheUse`; ``used``: when a step last had it (s since the epoch)."""

    name: str
    identity: str
    used: float
    active: bool


class CacheMounts:
    """All cache mounts of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._root = f"{layout.root}/caches"

    @contextmanager
    def using(self, uses: Sequence[CacheUse], check: Callable[[], object]) -> Iterator[tuple[list[str], int]]:
        """Let a block have these caches; gives their directories, and a descriptor that keeps the locks while open.

        Waits for those that others have locked, and calls ``check`` now and then, which may raise. Whatever writes on
        the block's behalf keeps the descriptor open. Raises StoreError.
        """
        if not uses:
            yield [], -1
            return
        with self._locks() as locks:
            with explained(self._root):
                names = self._take(locks, uses, check)
                found = [self._directory(locks, use, name, check) for use, name in zip(uses, names, strict=True)]
            yield found, locks

    def _take(self, locks: int, uses: Sequence[CacheUse], check: Callable[[], object]) -> list[str]:
        """Lock a directory for each; those for which one may have to wait come in one order for all, the same first."""
        found: dict[int, str] = {}
        waiting: dict[str, list[int]] = {}
        for number, use in enumerate(uses):
            name = hashlib.sha256(use.identity.encode("utf-8", "surrogateescape")).hexdigest()
            waiting.setdefault(name, []).append(number)
        for name in sorted(waiting):
            sharing = max((uses[number].sharing for number in waiting[name]), key=_STRENGTH.index)
            if sharing == "private":
                found.update((number, self._take_free(locks, name, found)) for number in waiting[name])
                continue
            _await_lock(locks, name, fcntl.F_RDLCK if sharing == "shared" else fcntl.F_WRLCK, check)
            found.update(dict.fromkeys(waiting[name], name))
        return [found[number] for number in range(len(uses))]

    @staticmethod
    def _take_free(locks: int, name: str, taken: dict[int, str]) -> str:
        """Lock the first of a cache's directories that nobody has."""
        for number in itertools.count():
            candidate = f"{name}.{number}" if number else name
            if candidate not in taken.values() and _lock(locks, candidate, fcntl.F_WRLCK):
                return candidate
        raise AssertionError

    def _directory(self, locks: int, use: CacheUse, name: str, check: Callable[[], object]) -> str:
        """Return the directory of a cache that is locked, made and filled where it is missing: whole or not at all."""
        place = f"{self._root}/{name}"
        data = f"{place}/data"
        making = f"{name} is made"
        _await_lock(locks, making, fcntl.F_WRLCK, check)  # those who share a cache make it once
        try:
            if not os.path.isdir(data):  # noqa: PTH112
                self._layout.discard([place])
                os.mkdir(place, 0o700)  # noqa: PTH102
                self._make(place, data, use)
            os.utime(place)
        except BaseException:
            if not os.path.isdir(data):  # noqa: PTH112
                self._layout.discard([place])
            raise
        finally:
            _lock(locks, making, fcntl.F_UNLCK)
        return data

    @staticmethod
    def _make(place: str, data: str, use: CacheUse) -> None:
        with open(f"{place}/about", "w") as file:  # noqa: PTH123
            json.dump({"identity": use.identity, "created": time.time()}, file)
        fresh = f"{place}/fresh"
        os.mkdir(fresh, 0o700)  # noqa: PTH102
        os.chmod(fresh, use.mode)  # noqa: PTH101  whatever the caller's umask
        if use.fill is not None:
            use.fill(fresh)
        if use.uid or use.gid:
            rootless.as_owner(os.chown, fresh, use.uid, use.gid)
        os.rename(fresh, data)  # noqa: PTH104

    def all(self) -> list[CacheMount]:
        """Return all caches that are there."""
        found = []
        with self._locks() as locks, explained(self._root):
            for name in self._names():
                is_free = _lock(locks, name, fcntl.F_WRLCK)
                if is_free:
                    _lock(locks, name, fcntl.F_UNLCK)
                with suppress(FileNotFoundError):  # removed meanwhile
                    found.append(self._row(name, active=not is_free))
        return found

    def path(self, name: str) -> str:
        """Return where a cache lies, with all that belongs to it."""
        return f"{self._root}/{name}"

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._root) if name != "locks")  # noqa: PTH208

    def _row(self, name: str, *, active: bool) -> CacheMount:
        used = os.stat(self.path(name)).st_mtime  # noqa: PTH116
        try:
            with open(f"{self.path(name)}/about") as file:  # noqa: PTH123
                identity = str(json.load(file)["identity"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            identity = ""  # its making was cut short
        return CacheMount(name, identity, used, active)

    def remove_unused(self, before: float | None, measure: Callable[[str], int]) -> tuple[int, int]:
        """Remove the caches that nobody has (last had ``before`` a time); return how many, and what they measure."""
        count = freed = 0
        buried: list[str] = []
        with self._locks() as locks, explained(self._root):
            try:
                for name in self._names():
                    if not _lock(locks, name, fcntl.F_WRLCK):
                        continue
                    if before is None or os.stat(self.path(name)).st_mtime < before:  # noqa: PTH116
                        freed += measure(self.path(name))
                        buried += self._layout.bury([self.path(name)])
                        count += 1
                    _lock(locks, name, fcntl.F_UNLCK)
            finally:
                self._layout.empty(buried)
        return count, freed

    @contextmanager
    def _locks(self) -> Iterator[int]:
        """Open the file whose bytes stand for the locks: one descriptor, however many caches a step has."""
        with explained(self._root):
            fd = os.open(f"{self._root}/locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)


def _await_lock(locks: int, name: str, kind: int, check: Callable[[], object]) -> None:
    """Lock the byte that stands for a name as soon as it is free."""
    pause = SHORTEST_PAUSE
    while not _lock(locks, name, kind):
        check()
        time.sleep(pause)  # the kernel's own wait could not be ended from another thread
        pause = min(2 * pause, LONGEST_PAUSE)


def _lock(locks: int, name: str, kind: int) -> bool:
    """Lock, or unlock, the byte that stands for a name; say False when that is another's."""
    offset = int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
    request = _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
    try:
        fcntl.fcntl(locks, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
