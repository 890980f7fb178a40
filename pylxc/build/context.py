"""The files a build may copy from: a directory, less what its ``.dockerignore`` keeps out.

Invariant: nothing outside the context's directory is read through it; the same files give the same digest and, byte for
byte, the same tar stream.

Source: Dockerfile reference, COPY and ADD.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from attrs import field, frozen

from pylxc.build import tarwriter
from pylxc.build.archives import decompressed
from pylxc.build.confined import SHORTER, ConfinedTree, ContextError, open_regular, readable
from pylxc.build.filehashes import LARGEST_KEPT, FileHashes
from pylxc.build.ignore import Ignore, PatternError
from pylxc.build.parents import add_with_parents
from pylxc.build.selection import Collector, Selection, by_name, matches
from pylxc.errors import DockerfileError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pylxc.build.confined import Kind
    from pylxc.build.modes import Mode
    from pylxc.build.selection import Entry
    from pylxc.build.wholefile import Sink

    T = TypeVar("T")

_CHUNK = 1 << 20
LARGEST_DOCKERFILE = 4 << 20  # bytes; a text that someone wrote is never near it


def _never(_path: str) -> bool:
    return False


@frozen
class FileSource:
    """A tree to copy from: a directory (``root``, absolute), less what ``ignore`` keeps out."""

    root: str
    ignore: Ignore
    hashes: FileHashes = field(factory=FileHashes, init=False, repr=False, eq=False)

    def tree(self) -> ConfinedTree:
        """Open it."""
        return ConfinedTree(self.root)

    def reading(self, look: Callable[[], T]) -> T:
        """Call something that reads it."""
        return look()

    def select(  # noqa: PLR0913  a COPY has that many parts
        self,
        sources: Sequence[str],
        destination: str,
        workdir: str = "/",
        *,
        owner: tuple[int, int] | None = (0, 0),
        mode: Mode | None = None,
        unpack: bool = False,
        excludes: Sequence[str] = (),
        documents: Sequence[tuple[str, str]] = (),
        parents: bool = False,
        is_directory: Callable[[str], bool] = _never,
        target: Callable[[str], str] = str,
    ) -> Selection:
        """Find what a COPY (an ADD with ``unpack``) of these sources puts into the image.

        ``excludes`` are patterns of what stays out, ``documents`` more files as (name, content), ``parents`` keeps the
        directories that lead to the sources;
        ``owner`` is (uid, gid), or None for what each file has; ``mode`` changes the permission bits;
        ``is_directory`` says of an absolute path whether it is a directory in the image: a file copied onto one goes
        inside; ``target`` gives where one goes that is copied onto a link. Wildcards may match nothing.
        Raises :class:`ContextError`.
        """
        absolute = _absolute(destination, workdir)
        refuse_several(len(sources) + len(documents), destination)
        as_directory = is_into_directory(destination, workdir, is_directory)
        onto = absolute if as_directory else target(absolute)
        collector = Collector(self.ignore, owner, mode, _excluded(excludes))
        if parents:
            self._add_with_parents(collector, sources)
            directory = absolute if collector.entries else ""
        else:
            directory = self._add(collector, sources, onto, as_directory=as_directory, unpack=unpack)
        for base, content in documents:
            directory, name = (absolute, base) if as_directory else posixpath.split(onto)
            collector.add_document(name, content.encode("utf-8", "surrogateescape"))
        return Selection(collector.sorted(), directory, tuple(collector.archives), owner or (0, 0))

    def _add_with_parents(self, collector: Collector, sources: Sequence[str]) -> None:
        with readable(self.root), self.tree() as tree:
            for source in sources:
                add_with_parents(collector, tree, source)

    def _add(self, collector: Collector, sources: Sequence[str], onto: str, *, as_directory: bool, unpack: bool) -> str:
        """Add what the sources mean; return the directory that their names are relative to, "" where there is none."""
        directory = onto
        with readable(self.root), self.tree() as tree:
            found = [match for source in sources for match in matches(tree, self.ignore, source)]
            if len(found) > 1 and not as_directory:
                raise ContextError(onto, f"{len(found)} files match: the destination must end in '/'")
            for named, resolved in found:
                base = posixpath.basename(named)
                if collector.is_excluded(base) and not stat.S_ISDIR(tree.lstat(resolved).st_mode):
                    continue
                if collector.add_contents(tree, resolved) or (unpack and collector.add_archive(tree, base, resolved)):
                    continue
                directory, name = (onto, base) if as_directory else posixpath.split(onto)
                collector.add(tree, name, resolved)
        return directory if found else ""

    def digest(self, entries: Iterable[Entry]) -> str:
        """Give ``sha256:...`` over names, kinds, modes, owners, link texts and contents; never over times.

        Raises :class:`ContextError` when a file cannot be read or has changed since it was selected.
        """
        total = hashlib.sha256()
        with self.tree() as tree:
            for entry in by_name(entries):
                which = _framed(entry.name) + _framed(entry.target)
                content = _framed(self._hash(tree, entry))
                more = b"".join([_framed(part) for pair in entry.attributes for part in pair])
                facts = _framed_facts(entry.kind, entry.mode, entry.uid, entry.gid, *entry.device)
                total.update(which + facts + content + _framed(more))
        return f"sha256:{total.hexdigest()}"

    def _hash(self, tree: ConfinedTree, entry: Entry) -> str:
        """Give the SHA-256 of an entry's content; of what is no file, that of nothing."""
        if entry.kind != "file" or entry.content is not None:
            return hashlib.sha256(entry.content or b"").hexdigest()
        known = self.hashes.get(entry)
        if known is not None:
            return known
        if entry.size <= LARGEST_KEPT:
            content = _small_content(tree, entry)
            digest = hashlib.sha256(content).hexdigest()
            self.hashes.put(entry, digest, content or None)
            return digest
        total = hashlib.sha256()
        for chunk in _large_content(tree, entry):
            total.update(chunk)
        self.hashes.put(entry, total.hexdigest())
        return total.hexdigest()

    def write_tar(self, entries: Iterable[Entry], out: Sink, *, hashing: bool = False) -> None:
        """Write the entries as a tar stream (ustar, with pax records where a value does not fit).

        With ``hashing``, :meth:`digest` need not read them again.
        Raises :class:`ContextError` when a file cannot be read or has changed since it was selected.
        """
        with self.tree() as tree:
            for entry in by_name(entries):
                out.write(tarwriter.header(entry))
                if entry.size:
                    self._write_content(tree, entry, out, hashing=hashing)
                    out.write(tarwriter.padding(entry.size))
        out.write(tarwriter.END)
        out.flush()  # whoever writes may be a process of its own

    def _write_content(self, tree: ConfinedTree, entry: Entry, out: Sink, *, hashing: bool) -> None:
        """Write a file's bytes, as many as its size says."""
        content = entry.content if entry.content is not None else self.hashes.take(entry)
        if content is None and entry.size <= LARGEST_KEPT:
            content = _small_content(tree, entry)
        unknown = hashing and entry.content is None and self.hashes.get(entry) is None
        total = hashlib.sha256() if unknown else None
        for chunk in _large_content(tree, entry) if content is None else (content,):
            if total is not None:
                total.update(chunk)
            out.write(chunk)
        if total is not None:
            self.hashes.put(entry, total.hexdigest())

    def open_archive(self, entry: Entry) -> IO[bytes]:
        """Open one of :attr:`Selection.archives` as a raw tar stream; see :func:`open_archive`."""
        with readable(entry.source), self.tree() as tree:
            return decompressed(tree.open_file(entry.source, entry.stamp), entry.source)


@frozen
class Context(FileSource):
    """A build context. ``root`` is its absolute path, ``dockerfile_path`` what errors call the Dockerfile."""

    dockerfile_bytes: bytes = field(repr=False)
    dockerfile_path: str

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        dockerfile: str | os.PathLike[str] = "Dockerfile",
        text: bytes | None = None,
    ) -> Context:
        """Open a directory. ``dockerfile`` is relative to it, or absolute, and may lie outside; ``text`` is its text.

        Raises :class:`~pylxc.errors.SpecError` when there is no such directory, and
        :class:`~pylxc.errors.DockerfileError` when there is no such Dockerfile or an ignore pattern is malformed.
        """
        directory = Path(path).absolute()
        root, name = str(directory), os.fspath(dockerfile)
        if found := why_no_directory(directory):
            raise SpecError("context", str(path), f"{found}: give the directory that holds the files to build from")
        with ConfinedTree(root) as tree:
            data = _read_text(tree, name) if text is None else text
            if data is None:
                reason = f"no such file in {root}: create it, or name another one with dockerfile="
                raise DockerfileError(reason, line=1, column=1, path=name)
        return cls(root, ignore_of(root, (f"{name}.dockerignore", ".dockerignore")[text is not None :]), data, name)


def ignore_of(root: str, names: Sequence[str] = (".dockerignore",)) -> Ignore:
    """Read the first of these ignore files that there is. Raises :class:`~pylxc.errors.DockerfileError`."""
    with ConfinedTree(root) as tree:
        for name in names:
            patterns = _read_text(tree, name)
            if patterns is not None:
                return Ignore.parse(patterns, name)
    return Ignore()


def is_into_directory(
    destination: str, workdir: str | None = None, is_directory: Callable[[str], bool] = _never
) -> bool:
    """Say whether a file copied to ``destination`` goes inside; without ``workdir``, whether its text alone says so."""
    if destination.endswith("/") or posixpath.basename(destination) in (".", ".."):
        return True
    if workdir is None:
        return False
    absolute = _absolute(destination, workdir)
    return absolute == "/" or is_directory(absolute)


def refuse_several(count: int, destination: str) -> None:
    """Raise :class:`ContextError` where so many sources cannot go to one destination."""
    if count > 1 and not is_into_directory(destination):
        raise ContextError(destination, "the destination of several sources must end in '/'")


def why_no_directory(path: Path) -> str:
    """Say what a path is that is no directory; "" where it is one."""
    if path.is_dir():
        return ""
    return "not a directory" if path.exists() else "no such directory"


def _excluded(patterns: Sequence[str]) -> Ignore | None:
    try:
        return Ignore.of(patterns) if patterns else None
    except PatternError as error:
        raise ContextError("--exclude", str(error)) from None


def _framed(part: str | bytes) -> bytes:
    """Put its length before a part: none can run into the next then."""
    data = part if isinstance(part, bytes) else os.fsencode(part)
    return b"%d:%b" % (len(data), data)


@lru_cache(maxsize=64)
def _framed_facts(kind: Kind, mode: int, *ids: int) -> bytes:
    """Do so with what most files of a context have in common."""
    return b"".join(map(_framed, (kind, f"{mode:o}", *map(str, ids))))


def _absolute(path: str, workdir: str) -> str:
    return "/" + posixpath.normpath(posixpath.join("/", workdir, path)).lstrip("/")


def _read_text(tree: ConfinedTree, name: str) -> bytes | None:
    """Read a Dockerfile or an ignore file, None when it is not there. Inside the context no link leads out of it."""
    try:
        if posixpath.normpath(name).startswith(("/", "..")):
            stream = open_regular(posixpath.join(tree.root, name), name)
        else:
            stream = tree.open_file(tree.resolve(name))
        with stream:
            data = stream.read(LARGEST_DOCKERFILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ContextError, OSError) as error:
        reason = error.reason if isinstance(error, ContextError) else error.strerror or str(error)
        raise DockerfileError(f"cannot be read: {reason}", line=1, column=1, path=name) from None
    if len(data) > LARGEST_DOCKERFILE:
        raise DockerfileError(f"larger than {LARGEST_DOCKERFILE} bytes", line=1, column=1, path=name)
    return data


def _small_content(tree: ConfinedTree, entry: Entry) -> bytes:
    with readable(entry.source):
        return tree.read_file(entry.source, entry.stamp, entry.size)


def _large_content(tree: ConfinedTree, entry: Entry) -> Iterator[bytes]:
    """Yield a file's bytes piece by piece, as many as its size says."""
    left = entry.size
    with readable(entry.source):
        stream = tree.open_file(entry.source, entry.stamp)
    with stream:
        while left:
            with readable(entry.source):
                chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise ContextError(entry.source, SHORTER)
            left -= len(chunk)
            yield chunk
