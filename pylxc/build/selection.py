"""Which files of a context a COPY or an ADD means, and what becomes of them in the image.

Hides wildcards, the ignore file's exceptions and the rules for what goes into which directory. Invariant: an entry's
``source`` was in the context, and not excluded, when it was selected.

Source: Dockerfile reference, COPY and ADD.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from operator import attrgetter
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from pylxc.build.archives import is_archive_stream
from pylxc.build.confined import ContextError, in_byte_order, stamp_of
from pylxc.build.ignore import PatternError, compile_glob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pylxc.build.confined import ConfinedTree, Kind
    from pylxc.build.ignore import Ignore
    from pylxc.build.modes import Mode

DOCUMENT_MODE = 0o644
WILDCARDS = "*?[\\"


@frozen
class Entry:
    """One file to put into the image.

    ``name`` is relative to :attr:`Selection.directory`; ``source`` is relative to the context and has no link in it;
    ``mode`` are the permission bits, ``size`` bytes (0 unless a file), ``mtime`` whole seconds since the epoch,
    ``target`` a symbolic link's text (of a hard link the name of the entry that it is one with), ``attributes``
    extended ones by name, ``device`` a device's numbers.
    """

    name: str
    source: str
    kind: Kind
    mode: int
    size: int
    mtime: int
    uid: int
    gid: int
    target: str = ""
    attributes: tuple[tuple[str, bytes], ...] = ()
    device: tuple[int, int] = (0, 0)
    content: bytes | None = field(default=None, repr=False)  # of a here-document, which is nowhere in the context
    # Those of one source that have the same are one file: (source, device, inode).
    inode: tuple[int, int, int] | None = field(default=None, eq=False, repr=False)
    # Tells whether the file is still the one that was selected: (inode, mtime, ctime), times in ns.
    stamp: tuple[int, int, int] = field(default=(0, 0, 0), eq=False, repr=False)


@frozen
class Selection:
    """What one COPY or ADD puts where; nothing at all, and ``directory`` "", where wildcards match nothing.

    ``entries`` are sorted by name, directories before what they hold; ``directory`` is the absolute directory in the
    image that they are unpacked in; ``archives`` are the local archives that an ADD unpacks there afterwards. What is
    missing of the directory becomes ``owner``'s.
    """

    entries: tuple[Entry, ...]
    directory: str
    archives: tuple[Entry, ...] = ()
    owner: tuple[int, int] = (0, 0)

    def outline(self) -> str:
        """Give a digest of names and sizes, for which no file is read: where it differs, the content does."""
        facts = "".join([f"{entry.name}\0{entry.size}\0" for entry in (*self.entries, *self.archives)])
        return hashlib.sha256(os.fsencode(facts)).hexdigest()


def by_name(entries: Iterable[Entry]) -> list[Entry]:
    """Give entries in the order of their names."""
    return in_byte_order(entries, attrgetter("name"))


def matches(tree: ConfinedTree, ignore: Ignore, source: str) -> list[tuple[str, str]]:
    """Find the (path as named, path without links) of all that one source operand means.

    Raises :class:`ContextError` when there is none; wildcards may match nothing.
    """
    # Joined to "/", no number of ".." leads above the root.
    pattern = posixpath.normpath("/" + source).lstrip("/")
    is_wild = any(char in pattern for char in WILDCARDS)
    try:
        named = [(path, tree.resolve(path)) for path in (glob(tree, pattern) if is_wild else [pattern])]
        found = [(path, resolved) for path, resolved in named if _visible(tree, ignore, path, resolved)]
    except PatternError as error:
        raise ContextError(source, str(error)) from None
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise ContextError(source, f"no such file in {tree.called}" if missing else f"{error.strerror}") from None
    if not found and not is_wild:
        raise ContextError(source, f"excluded from {tree.called} by the ignore file")
    return found


def glob(tree: ConfinedTree, pattern: str) -> list[str]:
    """Match component by component; names that begin with a dot match too.

    Links are followed in the part before the first wildcard only, as Docker does: what a wildcard finds would
    otherwise come twice, by the directory and by a link to it.
    """
    parts = pattern.split("/")
    plain = next(index for index, part in enumerate(parts) if any(char in part for char in WILDCARDS))
    paths = [tree.resolve("/".join(parts[:plain]))]
    for part in parts[plain:]:
        expression = compile_glob(part, recursive=False)
        following = []
        for path in paths:
            try:
                names = tree.names(path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a file or a link, which has nothing below it
                raise
            following += [posixpath.join(path, name) for name in names if expression.fullmatch(name)]
        paths = following
    return paths


def _visible(tree: ConfinedTree, ignore: Ignore, named: str, resolved: str) -> bool:
    """Tell whether a source is in the context: itself, or as an excluded directory that holds something included."""
    if not any(path and ignore.excludes(path) for path in (named, resolved)):
        return True
    if not stat.S_ISDIR(tree.lstat(resolved).st_mode):
        return False
    return next(walk(tree, ignore, resolved), None) is not None


def walk(tree: ConfinedTree, ignore: Ignore, top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the included paths below ``top``; an excluded directory only after something in it is included."""
    pending = [top]
    waiting: dict[str, os.stat_result] = {}  # excluded directories that may yet be needed
    while pending:
        directory = pending.pop()
        for name, status in tree.listed(directory):
            path = f"{directory}/{name}" if directory else name
            is_directory = stat.S_ISDIR(status.st_mode)
            if ignore.excludes(path):
                if is_directory and not ignore.prunes(path):
                    waiting[path] = status
                    pending.append(path)
                continue
            parent = directory
            while parent in waiting:
                yield parent, waiting.pop(parent)
                parent = posixpath.dirname(parent)
            yield path, status
            if is_directory:
                pending.append(path)


@define
class Collector:
    """Gathers the entries of one selection. Of two with one name the later wins, as if copied one after the other."""

    ignore: Ignore
    owner: tuple[int, int] | None  # None: as it was
    mode: Mode | None
    excludes: Ignore | None = None
    entries: dict[str, Entry] = field(factory=dict)
    archives: list[Entry] = field(factory=list)
    _walks: int = 0

    def add_contents(self, tree: ConfinedTree, directory: str) -> bool:
        """Add what a directory holds; say False when the path is not one."""
        if not stat.S_ISDIR(tree.lstat(directory).st_mode):
            return False
        self._walks += 1
        start = len(directory) + 1 if directory else 0
        for path, status in walk(tree, self.ignore, directory):
            name = path[start:]
            # A socket is nothing without the process that listens on it.
            if not (stat.S_ISSOCK(status.st_mode) or self.is_excluded(name)):
                self.add(tree, name, path, status)
                if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    inode = (self._walks, status.st_dev, status.st_ino)
                    self.entries[name] = evolve(self.entries[name], inode=inode)
        if self.excludes is not None:
            self.complete(tree, directory)
        return True

    def is_excluded(self, name: str) -> bool:
        """Tell whether ``--exclude`` keeps out what would get this name."""
        return self.excludes is not None and self.excludes.excludes(name)

    def complete(self, tree: ConfinedTree, directory: str) -> None:
        """Add the directories that are excluded and hold something that is not."""
        for name in tuple(self.entries):
            parent = posixpath.dirname(name)
            while parent and parent not in self.entries:
                self.add(tree, parent, posixpath.join(directory, parent))
                parent = posixpath.dirname(parent)

    def add_document(self, name: str, content: bytes) -> None:
        """Add a here-document as a file."""
        mode = DOCUMENT_MODE if self.mode is None else self.mode.apply(DOCUMENT_MODE, is_directory=False)
        owner = self.owner or (0, 0)
        self.entries[name] = Entry(name, name, "file", mode, len(content), 0, *owner, content=content)

    def add_archive(self, tree: ConfinedTree, name: str, path: str) -> bool:
        """Add an archive to be unpacked; say False when the path is not one."""
        status = tree.lstat(path)
        if not stat.S_ISREG(status.st_mode) or not is_archive_stream(tree.open_file(path)):
            return False
        self.archives.append(self._entry(name, path, status, "file", ""))
        return True

    def add(self, tree: ConfinedTree, name: str, path: str, status: os.stat_result | None = None) -> None:
        """Add one path under a name. Raises :class:`ContextError` for what cannot be copied."""
        status = tree.lstat(path) if status is None else status
        kind = tree.kinds.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise ContextError(path, "a device or a socket cannot be copied: list it in .dockerignore")
        other = self.entries.get(name)
        if other is not None and (other.kind == "directory") != (kind == "directory"):
            raise ContextError(name, "one source has a file and another a directory of this name")
        target = tree.readlink(path) if kind == "symlink" else ""
        entry = self._entry(name, path, status, kind, target)
        attributes = tree.attributes(path)
        self.entries[name] = evolve(entry, attributes=attributes) if attributes else entry

    def _entry(self, name: str, path: str, status: os.stat_result, kind: Kind, target: str) -> Entry:
        mode = stat.S_IMODE(status.st_mode)
        if self.mode is not None and kind != "symlink":
            mode = self.mode.apply(mode, is_directory=kind == "directory")
        size = status.st_size if kind == "file" else 0
        mtime = int(status.st_mtime_ns // 1_000_000_000)
        owner = self.owner or (status.st_uid, status.st_gid)
        device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("character", "block") else (0, 0)
        return Entry(name, path, kind, mode, size, mtime, *owner, target, device=device, stamp=stamp_of(status))

    def sorted(self) -> tuple[Entry, ...]:
        """Give the entries, directories before what they hold; files of one directory that are one stay one."""
        first: dict[tuple[int, int, int], Entry] = {}
        found = []
        for entry in by_name(self.entries.values()):
            same = first.setdefault(entry.inode, entry) if entry.inode is not None else entry
            found.append(entry if same is entry else evolve(entry, kind="hardlink", size=0, target=same.name))
        return tuple(found)
