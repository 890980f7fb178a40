"""The files a build may copy from: a directory, less what its ``.dockerignore`` keeps out.

Hides how a tree that nobody vouches for is read without being led out of it, which files a COPY means, and the archive
formats on either side. Invariant: nothing outside the context's directory is opened through it, whatever links it
holds or grows meanwhile; the same files give the same digest and, byte for byte, the same tar stream.

Source: Dockerfile reference, COPY and ADD; POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import posixpath
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

import attrs

from pylxc.build.ignore import Ignore, PatternError, compile_glob
from pylxc.errors import DockerfileError, SpecError, StoreError, UnsupportedError

if TYPE_CHECKING:
    import bz2
    import gzip
    import lzma
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from _typeshed import WriteableBuffer

    Kind = Literal["file", "directory", "symlink", "fifo"]

_CHUNK = 1 << 20
_BLOCK = 512
_LARGEST_DOCKERFILE = 4 << 20  # bytes; a text that someone wrote is never near it
_WILDCARDS = "*?[\\"
_LINK_LIMIT = 40  # as the kernel's (path_resolution(7))
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContextError(ValueError):
    """The context cannot give what a step asks for. Fields: ``path``, ``reason``. The executor names the step."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@attrs.frozen
class Entry:
    """One file to put into the image.

    ``name`` is relative to :attr:`Selection.directory`; ``source`` is relative to the context and has no link in it;
    ``mode`` are the permission bits, ``size`` bytes (0 unless a file), ``mtime`` whole seconds since the epoch,
    ``target`` a symbolic link's text.
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
    # Tells whether the file is still the one that was selected: (inode, mtime, ctime), times in ns.
    stamp: tuple[int, int, int] = attrs.field(default=(0, 0, 0), eq=False, repr=False)


@attrs.frozen
class Selection:
    """What one COPY or ADD puts where.

    ``entries`` are sorted by name, directories before what they hold; ``directory`` is the absolute directory in the
    image that they are unpacked in; ``archives`` are the local archives that an ADD unpacks there afterwards.
    """

    entries: tuple[Entry, ...]
    directory: str
    archives: tuple[Entry, ...] = ()


def _never(_path: str) -> bool:
    return False


@attrs.frozen
class Context:
    """A build context. ``root`` is its absolute path, ``dockerfile_path`` what errors call the Dockerfile."""

    root: str
    ignore: Ignore
    dockerfile_bytes: bytes = attrs.field(repr=False)
    dockerfile_path: str

    @classmethod
    def open(cls, path: str | os.PathLike[str], dockerfile: str | os.PathLike[str] = "Dockerfile") -> Context:
        """Open a directory. ``dockerfile`` is relative to it, or absolute, and may lie outside.

        Raises :class:`~pylxc.errors.SpecError` when there is no such directory, and
        :class:`~pylxc.errors.DockerfileError` when there is no such Dockerfile or an ignore pattern is malformed.
        """
        directory = Path(path).absolute()
        root, name = str(directory), os.fspath(dockerfile)
        if not directory.is_dir():
            found = "not a directory" if directory.exists() else "no such directory"
            raise SpecError("context", str(path), f"{found}: give the directory that holds the files to build from")
        with _Tree(root) as tree:
            data = _read_text(tree, name)
            if data is None:
                reason = f"no such file in {root}: create it, or name another one with dockerfile="
                raise DockerfileError(reason, line=1, column=1, path=name)
            for candidate in (f"{name}.dockerignore", ".dockerignore"):
                patterns = _read_text(tree, candidate)
                if patterns is not None:
                    return cls(root, Ignore.parse(patterns, candidate), data, name)
        return cls(root, Ignore(), data, name)

    def select(  # noqa: PLR0913  a COPY has that many parts
        self,
        sources: Sequence[str],
        destination: str,
        workdir: str = "/",
        *,
        owner: tuple[int, int] = (0, 0),
        mode: int | None = None,
        unpack: bool = False,
        is_directory: Callable[[str], bool] = _never,
    ) -> Selection:
        """Find what a COPY (an ADD with ``unpack``) of these sources puts into the image.

        ``owner`` is (uid, gid); ``mode`` replaces the permission bits; ``is_directory`` says of an absolute path
        whether it is a directory in the image: a file copied onto one goes inside. Raises :class:`ContextError`.
        """
        as_directory = destination.endswith("/") or posixpath.basename(destination) in (".", "..")
        absolute = _absolute(destination, workdir)
        if len(sources) > 1 and not as_directory:
            raise ContextError(destination, "the destination of several sources must end in '/'")
        as_directory = as_directory or absolute == "/" or is_directory(absolute)
        collector = _Collector(self.ignore, owner, mode)
        directory = absolute
        with _readable(self.root), _Tree(self.root) as tree:
            matches = [match for source in sources for match in _matches(tree, self.ignore, source)]
            if len(matches) > 1 and not as_directory:
                raise ContextError(destination, f"{len(matches)} files match: the destination must end in '/'")
            for named, resolved in matches:
                base = posixpath.basename(named)
                if collector.add_contents(tree, resolved) or (unpack and collector.add_archive(tree, base, resolved)):
                    continue
                directory, name = (absolute, base) if as_directory else posixpath.split(absolute)
                collector.add(tree, name, resolved)
        return Selection(collector.sorted(), directory, tuple(collector.archives))

    def digest(self, entries: Iterable[Entry]) -> str:
        """Give ``sha256:...`` over names, kinds, modes, owners, link texts and contents; never over times.

        Raises :class:`ContextError` when a file cannot be read or has changed since it was selected.
        """
        total = hashlib.sha256()
        with _Tree(self.root) as tree:
            for entry in sorted(entries, key=_by_name):
                content = hashlib.sha256()
                for chunk in _content(tree, entry):
                    content.update(chunk)
                facts = (entry.kind, f"{entry.mode:o}", str(entry.uid), str(entry.gid), content.hexdigest())
                for part in (os.fsencode(entry.name), os.fsencode(entry.target), *map(str.encode, facts)):
                    # With its length before it, no part can run into the next.
                    total.update(b"%d:%b" % (len(part), part))
        return f"sha256:{total.hexdigest()}"

    def write_tar(self, entries: Iterable[Entry], out: IO[bytes]) -> None:
        """Write the entries as a tar stream (ustar, with pax records where a value does not fit).

        Raises :class:`ContextError` when a file cannot be read or has changed since it was selected.
        """
        with _Tree(self.root) as tree:
            for entry in sorted(entries, key=_by_name):
                out.write(_tar_header(entry))
                for chunk in _content(tree, entry):
                    out.write(chunk)
                out.write(bytes(-entry.size % _BLOCK))
        out.write(bytes(2 * _BLOCK))

    def open_archive(self, entry: Entry) -> IO[bytes]:
        """Open one of :attr:`Selection.archives` as a raw tar stream; see :func:`open_archive`."""
        with _readable(entry.source), _Tree(self.root) as tree:
            return _decompressed(tree.open_file(entry.source, entry.stamp), entry.source)


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Make one kind of failure of whatever the kernel refuses while the tree is read."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        where = "" if path.endswith(name) else f" ({name})"
        raise ContextError(path, f"cannot be read: {error.strerror}{where}") from error


def _absolute(path: str, workdir: str) -> str:
    return "/" + posixpath.normpath(posixpath.join("/", workdir, path)).lstrip("/")


def _by_name(entry: Entry) -> bytes:
    return os.fsencode(entry.name)


def _read_text(tree: _Tree, name: str) -> bytes | None:
    """Read a Dockerfile or an ignore file, None when it is not there. Inside the context no link leads out of it."""
    try:
        if posixpath.normpath(name).startswith(("/", "..")):
            stream = _open_regular(posixpath.join(tree.root, name), name)
        else:
            stream = tree.open_file(tree.resolve(name))
        with stream:
            data = stream.read(_LARGEST_DOCKERFILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ContextError, OSError) as error:
        reason = error.reason if isinstance(error, ContextError) else error.strerror or str(error)
        raise DockerfileError(f"cannot be read: {reason}", line=1, column=1, path=name) from None
    if len(data) > _LARGEST_DOCKERFILE:
        raise DockerfileError(f"larger than {_LARGEST_DOCKERFILE} bytes", line=1, column=1, path=name)
    return data


def _open_regular(path: str, name: str, flags: int = 0, directory: int | None = None) -> IO[bytes]:
    """Open a regular file; O_NONBLOCK keeps a FIFO from holding up the build. ``name`` is what errors call it."""
    fd = os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ContextError(name, "not a regular file")
    return os.fdopen(fd, "rb", buffering=0)


# -- reading a tree without leaving it ---------------------------------------------------------------------------------


class _Tree:
    """A directory opened for reading. Every path is walked by descriptor, and no component may be a link.

    Links are followed by :meth:`resolve` alone, which takes the root for "/" and for the parent of the root.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Files come in the order of their directories, so the last one opened is mostly the one needed.
        self._last: tuple[str, int] = ("", self._fd)

    def __enter__(self) -> _Tree:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget()
        os.close(self._fd)

    def _forget(self) -> None:
        if self._last[1] != self._fd:
            os.close(self._last[1])
        self._last = ("", self._fd)

    def _directory(self, path: str) -> int:
        """Give a descriptor of a directory, which stays this object's own."""
        if path == self._last[0]:
            return self._last[1]
        fd = self._fd
        for part in filter(None, path.split("/")):
            try:
                following = os.open(part, _OPEN_DIRECTORY, dir_fd=fd)
            finally:
                if fd != self._fd:
                    os.close(fd)
            fd = following
        self._forget()
        self._last = (path, fd)
        return fd

    def lstat(self, path: str) -> os.stat_result:
        parent, name = posixpath.split(path)
        return os.stat(name or ".", dir_fd=self._directory(parent), follow_symlinks=False)

    def readlink(self, path: str) -> str:
        parent, name = posixpath.split(path)
        return os.readlink(name, dir_fd=self._directory(parent))

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(self._directory(path)), key=os.fsencode)  # noqa: PTH208  by descriptor

    def open_file(self, path: str, stamp: tuple[int, int, int] | None = None) -> IO[bytes]:
        """Open a regular file; with ``stamp``, only if it is still the file that had it."""
        parent, name = posixpath.split(path)
        stream = _open_regular(name or ".", path, os.O_NOFOLLOW, self._directory(parent))
        if stamp is not None and _stamp(os.fstat(stream.fileno())) != stamp:
            stream.close()
            raise ContextError(path, "it changed while the build read it: let no one write to the context meanwhile")
        return stream

    def resolve(self, path: str) -> str:
        """Follow the links in ``path`` inside the root; ".." stops at it. Raises ``OSError`` as ``open`` would."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                del done[-1:]
                continue
            current = "/".join((*done, part))
            if not stat.S_ISLNK(self.lstat(current).st_mode):
                done.append(part)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = self.readlink(current)
            if target.startswith("/"):
                done.clear()
            pending += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
        return "/".join(done)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _content(tree: _Tree, entry: Entry) -> Iterator[bytes]:
    """Yield a file's bytes, as many as its size says; nothing for other kinds."""
    if entry.kind != "file":
        return
    left = entry.size
    with _readable(entry.source):
        stream = tree.open_file(entry.source, entry.stamp)
    with stream:
        while left:
            with _readable(entry.source):
                chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise ContextError(entry.source, "it became shorter while the build read it")
            left -= len(chunk)
            yield chunk


# -- choosing files ----------------------------------------------------------------------------------------------------


def _matches(tree: _Tree, ignore: Ignore, source: str) -> list[tuple[str, str]]:
    """Find the (path as named, path without links) of all that one source operand means. Raises when there is none."""
    # Joined to "/", no number of ".." leads above the root.
    pattern = posixpath.normpath("/" + source).lstrip("/")
    try:
        named = _glob(tree, pattern) if any(char in pattern for char in _WILDCARDS) else [pattern]
        found = []
        hidden = False
        for path in named:
            resolved = tree.resolve(path)
            if _visible(tree, ignore, path, resolved):
                found.append((path, resolved))
            else:
                hidden = True
    except PatternError as error:
        raise ContextError(source, str(error)) from None
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise ContextError(source, "no such file in the context" if missing else f"{error.strerror}") from None
    if not found:
        reason = "excluded from the context by the ignore file" if hidden else "no file in the context matches"
        raise ContextError(source, reason)
    return found


def _glob(tree: _Tree, pattern: str) -> list[str]:
    """Match component by component; names that begin with a dot match too.

    Links are followed in the part before the first wildcard only, as Docker does: what a wildcard finds would
    otherwise come twice, by the directory and by a link to it.
    """
    parts = pattern.split("/")
    plain = next(index for index, part in enumerate(parts) if any(char in part for char in _WILDCARDS))
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


def _visible(tree: _Tree, ignore: Ignore, named: str, resolved: str) -> bool:
    """Tell whether a source is in the context: itself, or as an excluded directory that holds something included."""
    if not any(path and ignore.excludes(path) for path in (named, resolved)):
        return True
    if not stat.S_ISDIR(tree.lstat(resolved).st_mode):
        return False
    return next(_walk(tree, ignore, resolved), None) is not None


def _walk(tree: _Tree, ignore: Ignore, top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the included paths below ``top``; an excluded directory only after something in it is included."""
    pending = [top]
    waiting: dict[str, os.stat_result] = {}  # excluded directories that may yet be needed
    while pending:
        directory = pending.pop()
        for name in tree.names(directory):
            path = posixpath.join(directory, name)
            status = tree.lstat(path)
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


@attrs.define
class _Collector:
    """Gathers the entries of one selection. Of two with one name the later wins, as if copied one after the other."""

    ignore: Ignore
    owner: tuple[int, int]
    mode: int | None
    entries: dict[str, Entry] = attrs.Factory(dict)
    archives: list[Entry] = attrs.Factory(list)

    def add_contents(self, tree: _Tree, directory: str) -> bool:
        """Add what a directory holds; say False when the path is not one."""
        if not stat.S_ISDIR(tree.lstat(directory).st_mode):
            return False
        for path, status in _walk(tree, self.ignore, directory):
            if not stat.S_ISSOCK(status.st_mode):  # a socket is nothing without the process that listens on it
                self.add(tree, posixpath.relpath(path, directory or "."), path)
        return True

    def add_archive(self, tree: _Tree, name: str, path: str) -> bool:
        """Add an archive to be unpacked; say False when the path is not one."""
        status = tree.lstat(path)
        if not stat.S_ISREG(status.st_mode) or not _is_archive_stream(tree.open_file(path)):
            return False
        self.archives.append(self._entry(name, path, status, "file", ""))
        return True

    def add(self, tree: _Tree, name: str, path: str) -> None:
        status = tree.lstat(path)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise ContextError(path, "a device or a socket cannot be copied: list it in .dockerignore")
        other = self.entries.get(name)
        if other is not None and (other.kind == "directory") != (kind == "directory"):
            raise ContextError(name, "one source has a file and another a directory of this name")
        target = tree.readlink(path) if kind == "symlink" else ""
        self.entries[name] = self._entry(name, path, status, kind, target)

    def _entry(self, name: str, path: str, status: os.stat_result, kind: Kind, target: str) -> Entry:
        mode = stat.S_IMODE(status.st_mode) if self.mode is None or kind == "symlink" else self.mode
        size = status.st_size if kind == "file" else 0
        mtime = int(status.st_mtime_ns // 1_000_000_000)
        return Entry(name, path, kind, mode, size, mtime, *self.owner, target, _stamp(status))

    def sorted(self) -> tuple[Entry, ...]:
        return tuple(sorted(self.entries.values(), key=_by_name))


_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
}


# -- writing tar -------------------------------------------------------------------------------------------------------

_TYPES: dict[Kind, bytes] = {"file": b"0", "symlink": b"2", "directory": b"5", "fifo": b"6"}
_LARGEST_ID = 0o7777777
_LARGEST_NUMBER = 0o77777777777  # of a size or a time
_LONGEST_NAME = 100


def _tar_header(entry: Entry) -> bytes:
    """Give an entry's header block, with a pax header before it when a value does not fit."""
    name = os.fsencode(entry.name) + (b"/" if entry.kind == "directory" else b"")
    link = os.fsencode(entry.target)
    numbers = {"uid": entry.uid, "gid": entry.gid, "size": entry.size, "mtime": entry.mtime}
    records = b""
    for key, text in (("path", name), ("linkpath", link)):
        if len(text) > _LONGEST_NAME:
            records += _pax_record(key, text)
    for key, value in numbers.items():
        if not 0 <= value <= (_LARGEST_ID if key in ("uid", "gid") else _LARGEST_NUMBER):
            records += _pax_record(key, str(value).encode())
            numbers[key] = 0
    block = _block(name, entry.mode, numbers, _TYPES[entry.kind], link)
    if not records:
        return block
    pax = {"uid": 0, "gid": 0, "size": len(records), "mtime": 0}
    return _block(b"PaxHeaders/entry", 0o644, pax, b"x", b"") + records + bytes(-len(records) % _BLOCK) + block


def _pax_record(key: str, value: bytes) -> bytes:
    body = b" %b=%b\n" % (key.encode(), value)
    # The length counts its own digits, which may carry it over to one digit more.
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d%b" % (length, body)


def _block(name: bytes, mode: int, numbers: dict[str, int], kind: bytes, link: bytes) -> bytes:
    block = b"".join(
        (
            name[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % numbers["uid"],
            b"%07o\0" % numbers["gid"],
            b"%011o\0" % numbers["size"],
            b"%011o\0" % numbers["mtime"],
            b" " * 8,  # the checksum counts as blanks while it is summed up
            kind,
            link[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            b"ustar\00000",
        )
    ).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


# -- reading archives --------------------------------------------------------------------------------------------------

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell by its content whether a file is a tar archive, plain or compressed (gzip, bzip2, xz, zstd).

    A compressed file that holds no tar archive is none. Of zstd only the outside can be judged.
    """
    return _is_archive_stream(Path(path).open("rb", buffering=0))


def open_archive(source: str | os.PathLike[str] | IO[bytes], name: str = "") -> IO[bytes]:
    """Open a tar archive, whatever it is compressed with, as a stream of raw tar. Closing it closes ``source``.

    ``source`` is a path or a stream that is read from where it stands; ``name`` is what errors call a stream.
    Raises :class:`~pylxc.errors.UnsupportedError` for zstd. Reading raises :class:`~pylxc.errors.StoreError` when the
    compressed data are damaged or end early.
    """
    if isinstance(source, (str, os.PathLike)):
        return _decompressed(Path(source).open("rb", buffering=0), os.fspath(source))
    return _decompressed(source, name or str(getattr(source, "name", "archive")))


class _Reader(io.RawIOBase):
    """Reads a decompressor, and makes one error of all the ways in which damaged data show."""

    def __init__(self, stream: io.BufferedIOBase, below: IO[bytes], path: str, form: str) -> None:
        super().__init__()
        self._stream = stream
        self._below = below
        self._path = path
        self._form = form

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        import lzma  # noqa: PLC0415  heavy, and only for archives
        import zlib  # noqa: PLC0415

        view = memoryview(buffer).cast("B")
        try:
            data = self._stream.read(len(view))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise StoreError(self._path, f"damaged {self._form} data: {error}") from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._below.close()
        super().close()


def _decompressed(stream: IO[bytes], path: str) -> IO[bytes]:
    below = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream), _CHUNK)
    head = below.peek(8)
    form = next((form for magic, form in _MAGIC.items() if head.startswith(magic)), "")
    opened: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
    if form == "gzip":
        import gzip  # noqa: PLC0415

        opened = gzip.GzipFile(fileobj=below, mode="rb")
    elif form == "bzip2":
        import bz2  # noqa: PLC0415

        opened = bz2.BZ2File(below)
    elif form == "xz":
        import lzma  # noqa: PLC0415

        opened = lzma.LZMAFile(below)  # noqa: SIM115  the reader closes it
    elif form == "zstd":
        below.close()
        raise UnsupportedError(f"{path}: zstd archives", "unpack it (zstd -d) or compress it with gzip or xz")
    else:
        return below
    return io.BufferedReader(_Reader(opened, below, path, form), _CHUNK)


def _is_archive_stream(stream: IO[bytes]) -> bool:
    try:
        with _decompressed(stream, "") as opened:
            block = opened.read(_BLOCK)
    except UnsupportedError:
        return True
    except StoreError:
        return False
    if len(block) < _BLOCK or not any(block):
        return False
    try:
        expected = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 8 * ord(" ") == expected
