"""What a container has changed in the files of its image: its upper directory, against the layers below it.

Hides whiteouts, opaque directories, and what the runtime itself puts there (mount points). Invariant: a path of the
container is opened by descriptor, below its upper directory and through real directories only, so that a container
which exchanges directories for links meanwhile is never followed anywhere; a layer is looked into only where all that
leads there are its own real directories.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pylxc import linux
from pylxc.layerview import OPAQUE, LayerView
from pylxc.runtime import rootless
from pylxc.runtime.waiting import Wait, drive
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.waiting import Waiting

Kind: TypeAlias = Literal["added", "changed", "deleted"]

INSIDE = linux.ResolveFlag.BENEATH | linux.ResolveFlag.NO_SYMLINKS | linux.ResolveFlag.NO_XDEV
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STEP = 2000  # entries between two moments at which others may have their turn
MOST_AT_ONCE = 4000  # bytes of a path that one system call takes (PATH_MAX)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EAGAIN)  # EAGAIN: renamed just then (openat2(2))


@frozen
class Change:
    """A difference between a container's files and its image's.

    ``path`` (absolute), ``kind`` ("added", "changed", "deleted"). A directory is changed where its mode, owner, time or
    attributes are, and where something in it is.
    """

    path: str
    kind: Kind


class _Place(NamedTuple):
    """Where a layer shows a directory: its descriptor, and how much of a path leads to it."""

    fd: int
    skipped: int


class _Pending(NamedTuple):
    """A directory of the upper side that is still to be read, with the layers that it lies on (topmost first).

    ``is_hiding``: what these have there is not shown, for it is opaque, or lies in one that is.
    """

    path: str
    places: tuple[_Place, ...]
    is_hiding: bool = False


def of_tree(tree: Tree, mounted: Iterable[str]) -> Waiting[list[Change]]:
    """Return the changes of a container's tree, sorted by path.

    ``mounted``: absolute paths that something of the runtime's covers. What is there counts for nothing, nor does a
    directory that was made to lead there. Raises OSError.
    """
    if rootless.is_privileged():
        return (yield from _Comparison(tree, mounted).run())
    return rootless.as_owner(lambda: drive(_Comparison(tree, mounted).run()))


def names_of(tree: Tree) -> tuple[list[str], list[str]]:
    """Return the names in the upper directory, apart from those that only mark the place of the host's directories."""
    return rootless.as_owner(_names_of, tree)


def _names_of(tree: Tree) -> tuple[list[str], list[str]]:
    if not os.path.isdir(tree.upper):  # noqa: PTH112  it never started
        return [], []
    marks = [path[1:] for path in tree.passthrough if _is_empty_directory(tree.upper + path)]
    return [name for name in os.listdir(tree.upper) if name not in marks], marks  # noqa: PTH208


def _is_empty_directory(path: str) -> bool:
    """Say so of an entry of the upper directory, which may be a link by now."""
    try:
        fd = os.open(path, DIRECTORY)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False
    try:
        return not os.listdir(fd)  # noqa: PTH208
    finally:
        os.close(fd)


class _Comparison:
    """One look at a container's files."""

    def __init__(self, tree: Tree, mounted: Iterable[str]) -> None:
        self._tree = tree
        view = LayerView(tree.lowers, tree.passthrough)
        self._mounted = {_resolved(view, path) for path in mounted} - {""}
        self._kinds: dict[str, Kind] = {}
        self._quiet: set[str] = set()  # directories whose time the runtime changed
        self._upper = -1
        self._host: dict[str, _Place] = {}  # where the machine's own directories lie

    def run(self) -> Waiting[list[Change]]:
        with ExitStack() as stack:
            if not os.path.isdir(self._tree.upper):  # noqa: PTH112  it never started
                return []
            self._upper = _opened(stack, self._tree.upper)
            lowers = (*self._tree.lowers, f"{self._tree.scaffold}/stubs")
            places = [_Place(_opened(stack, lower), 0) for lower in lowers]
            self._host = {path[1:]: _Place(_opened(stack, path), len(path)) for path in self._tree.passthrough}
            self._quiet = {path.rpartition("/")[0] for path in self._mounted if self._is_there(path)}
            yield from self._walk(_Pending("", tuple(places)))
        self._forget_ways()
        self._add_parents()
        return [Change(f"/{path}", kind) for path, kind in sorted(self._kinds.items())]

    def _is_there(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        with suppress(OSError), self._directory(parent) as fd:
            os.stat(name, dir_fd=fd, follow_symlinks=False)
            return True
        return False

    def _directory(self, path: str) -> _Opened:
        return _Opened(self._upper, path)

    def _walk(self, top: _Pending) -> Waiting[None]:
        pending, seen = [top], 0
        while pending:
            here = pending.pop()
            try:
                found = self._read(here)
            except OSError as error:
                if error.errno not in GONE or not here.path:
                    raise
                continue  # removed, or exchanged for something else, since it was listed
            seen += 1 + found.number
            pending += found.directories
            if seen >= STEP:
                seen = 0
                yield Wait(until=0.0)

    def _read(self, here: _Pending) -> _Found:
        """Compare what is in a directory; return the directories in it."""
        found = _Found()
        with self._directory(here.path) as fd:
            here = here._replace(is_hiding=here.is_hiding or (bool(here.path) and _is_opaque(fd)))
            if here.path and here.path not in self._kinds and self._differs(fd, here):
                self._kinds[here.path] = "changed"
            with os.scandir(fd) as entries:
                names = {entry.name for entry in entries if self._compare(here, entry, found)}
            if here.places and here.is_hiding:
                for name in _merged_names(here) - names:
                    self._note(_joined(here.path, name), "deleted")
        found.number = len(names)
        return found

    def _compare(self, here: _Pending, entry: os.DirEntry[str], found: _Found) -> bool:
        """Note what an entry of the upper side means; False: it has gone since it was listed."""
        path = _joined(here.path, entry.name)
        if path in self._mounted:
            return True
        try:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.is_file(follow_symlinks=False) and _is_whiteout(entry):
                self._kinds[path] = "deleted"
                return True
        except FileNotFoundError:
            return False
        below, places = self._below(here, path)
        if not is_directory:
            self._kinds[path] = "added" if below is None else "changed"
            return True
        if below is None or not places:
            self._kinds[path] = "added" if below is None else "changed"
        found.directories.append(_Pending(path, places, here.is_hiding))
        return True

    def _note(self, path: str, kind: Kind) -> None:
        if path not in self._mounted:
            self._kinds[path] = kind

    def _below(self, here: _Pending, path: str) -> tuple[os.stat_result | None, tuple[_Place, ...]]:
        """Return what the layers show at a path, and those that show a directory there."""
        shown: os.stat_result | None = None
        places: list[_Place] = []
        # The lowest layer only marks where a directory of the host's lies.
        candidates = (*here.places[:-2], self._host[path]) if path in self._host else here.places
        for place in candidates:
            try:
                status = os.stat(path[place.skipped :] or ".", dir_fd=place.fd, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (*GONE, errno.ENAMETOOLONG):
                    raise
                continue
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                break
            shown = shown or status
            if not stat.S_ISDIR(status.st_mode):
                break
            places.append(place)
            if place is not candidates[-1] and _is_opaque_at(place, path):
                break
        return shown, tuple(places)

    def _differs(self, fd: int, here: _Pending) -> bool:
        """Say whether a directory itself was changed."""
        if not here.places or here.path in self._host:
            return False
        place = here.places[0]
        now = os.fstat(fd)
        before = os.stat(here.path[place.skipped :] or ".", dir_fd=place.fd, follow_symlinks=False)
        if (now.st_mode, now.st_uid, now.st_gid) != (before.st_mode, before.st_uid, before.st_gid):
            return True
        if here.path not in self._quiet and now.st_mtime_ns != before.st_mtime_ns:
            return True
        with _Opened(place.fd, here.path[place.skipped :]) as lower:
            return _attributes(fd) != _attributes(lower)

    def _forget_ways(self) -> None:
        """Take out directories that were made only to lead to a mount point."""
        for path in self._mounted:
            way = path.rpartition("/")[0]
            while way and self._kinds.get(way) == "added":
                if any(other.startswith(f"{way}/") for other in self._kinds):
                    break
                del self._kinds[way]
                way = way.rpartition("/")[0]

    def _add_parents(self) -> None:
        for path in tuple(self._kinds):
            parent = path.rpartition("/")[0]
            while parent and parent not in self._kinds:
                self._kinds[parent] = "changed"
                parent = parent.rpartition("/")[0]


class _Found:
    """What was found in one directory."""

    def __init__(self) -> None:
        self.directories: list[_Pending] = []
        self.number = 0


class _Opened:
    """A directory below another one, open for the length of a block; no link leads to it, however long its path is."""

    def __init__(self, top: int, path: str) -> None:
        self._top = top
        self._path = path

    def __enter__(self) -> int:
        left = os.fsencode(self._path)
        fd = -1
        while left or fd < 0:
            cut = len(left) if len(left) <= MOST_AT_ONCE else left.rindex(b"/", 0, MOST_AT_ONCE)
            part, left = left[:cut] or b".", left[cut + 1 :]
            before = fd
            try:
                fd = linux.openat2(self._top if before < 0 else before, part, DIRECTORY, INSIDE)
            finally:
                if before >= 0:
                    os.close(before)
        self._fd = fd
        return fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _opened(stack: ExitStack, path: str) -> int:
    fd = os.open(path, DIRECTORY)
    stack.callback(os.close, fd)
    return fd


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_whiteout(entry: os.DirEntry[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False


def _is_opaque_at(place: _Place, path: str) -> bool:
    with _Opened(place.fd, path[place.skipped :]) as fd:
        return _is_opaque(fd)


def _merged_names(here: _Pending) -> set[str]:
    """Return the names that the layers show in a directory."""
    names: set[str] = set()
    hidden: set[str] = set()
    for place in here.places:
        with _Opened(place.fd, here.path[place.skipped :]) as fd, os.scandir(fd) as entries:
            for entry in entries:
                special = not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False)
                if special and _is_whiteout(entry):
                    hidden.add(entry.name)
                elif entry.name not in hidden:
                    names.add(entry.name)
    return names


def _attributes(fd: int) -> dict[str, bytes]:
    """Return a directory's attributes, without those that overlayfs and the host's policy set."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}
    passed = ("user.overlay.", "trusted.overlay.", "security.selinux")
    return {name: os.getxattr(fd, name) for name in names if not name.startswith(passed)}


def _resolved(view: LayerView, path: str) -> str:
    """Return a mount's target, relative, with the links followed that the image has on the way to it."""
    rest: list[str] = []
    way = path.rstrip("/")
    while way:
        found = view.resolve(way)
        if found is not None:
            return "/".join([found, *reversed(rest)]).lstrip("/")
        way, _, name = way.rpartition("/")
        rest.append(name)
    return "/".join(reversed(rest))
