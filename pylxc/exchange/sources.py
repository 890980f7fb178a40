"""Where an archive's files are read from: a directory, or a stream that was put aside.

Hides that a stream comes in any order and only once. Invariant: what an archive names is looked for inside it and
nowhere else; a file of a stream lies in the lease's staging under a number, and a blob is what its name says.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from attrs import frozen

from pylxc import linux
from pylxc.build.archives import CHUNK, open_archive
from pylxc.documents import DOCUMENT_LIMIT
from pylxc.errors import IntegrityError, StoreError
from pylxc.exchange.tarstream import TarStream
from pylxc.runtime import transfer
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from typing_extensions import Self

    from pylxc.exchange.tarstream import Member
    from pylxc.store import Lease

MEMBERS_LIMIT = 100_000
SPOOL_LIMIT = transfer.UNPACKED_LIMIT  # bytes of all files of one archive
LINKS_LIMIT = 16
BLOBS = "blobs/sha256/"
LISTS = frozenset(("index.json", "manifest.json"))  # what an archive begins with; other documents are blobs like layers
INSIDE = linux.ResolveFlag.BENEATH | linux.ResolveFlag.NO_MAGICLINKS


@frozen
class Stored:
    """A file of an archive: ``digest``, ``size`` in bytes."""

    digest: str
    size: int


class Source(Protocol):
    """The files of an archive. ``name`` is what errors call it."""

    name: str

    def has(self, name: str) -> bool:
        """Say whether there is a file of this name."""

    def open(self, name: str) -> FileIO:
        """Open a file. Raises StoreError when it is not there."""

    def stored(self, name: str) -> Stored:
        """Return what a file is. Raises StoreError when it is not there."""

    def spooled(self, name: str) -> str:
        """Return the path of a file that may be taken away, "" where it may not."""


def small(source: Source, name: str, limit: int) -> bytes:
    """Return the content of a file that has no business to be large. Raises StoreError."""
    with source.open(name) as file, explained(source.name):
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StoreError(source.name, f"{name} has more than {limit} bytes")
    return data


@contextmanager
def opened(origin: str | os.PathLike[str] | IO[bytes], lease: Lease) -> Iterator[Source]:
    """Give the files of an archive: of a directory as they lie there, of a file or a stream put aside under a lease."""
    if isinstance(origin, (str, os.PathLike)) and os.path.isdir(origin):  # noqa: PTH112
        with Directory(os.fspath(origin)) as directory:
            yield directory
        return
    given = origin if isinstance(origin, (str, os.PathLike)) else getattr(origin, "name", None)
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else "the stream"  # of a pipe it is a number
    try:
        archive = open_archive(origin, name)
    except OSError as error:
        raise StoreError(name, f"cannot be read: {error.strerror}") from error
    with archive:
        spool = Spool(name, lease.stage())
        spool.take(cast("IO[bytes]", archive))
    yield spool


class Spool:
    """The files of an archive that came as a stream."""

    def __init__(self, name: str, directory: str) -> None:
        self.name = name
        self._directory = directory
        self._files: dict[str, Stored] = {}
        self._paths: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._size = 0

    def take(self, stream: IO[bytes]) -> None:
        """Put all files of an archive aside. Raises StoreError for a bad archive, IntegrityError for a bad blob."""
        archive = TarStream(stream, self.name)
        for number, member in enumerate(archive):
            if number >= MEMBERS_LIMIT:
                raise StoreError(self.name, f"holds more than {MEMBERS_LIMIT} entries, as no archive of images does")
            if member.kind == "directory":
                continue
            if member.name in self._files or member.name in self._links:
                raise StoreError(self.name, f"{member.name} comes twice")
            if member.kind == "file":
                self._paths[member.name] = f"{self._directory}/{number}"
                self._files[member.name] = self._put_aside(archive, member, self._paths[member.name])
            else:
                self._links[member.name] = member.link

    def _put_aside(self, archive: TarStream, member: Member, path: str) -> Stored:
        if member.name in LISTS and member.size > DOCUMENT_LIMIT:
            raise StoreError(self.name, f"{member.name} has more than {DOCUMENT_LIMIT} bytes")
        self._size += member.size
        if self._size > SPOOL_LIMIT:
            raise StoreError(self.name, f"holds more than {SPOOL_LIMIT} bytes")
        total = hashlib.sha256()
        with explained(path), open(path, "xb", buffering=0) as file:  # noqa: PTH123
            while chunk := archive.read(CHUNK):
                total.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
        digits = total.hexdigest()
        if member.name.startswith(BLOBS) and member.name != BLOBS + digits:
            raise IntegrityError(
                f"{self.name}: {member.name}", f"sha256:{member.name[len(BLOBS) :]}", f"sha256:{digits}"
            )
        return Stored(f"sha256:{digits}", member.size)

    def _resolve(self, name: str) -> str:
        for _ in range(LINKS_LIMIT):
            if name not in self._links:
                return name
            name = self._links[name]
        raise StoreError(self.name, f"{name} is a link that leads nowhere")

    def has(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        return self._resolve(name) in self._files

    def stored(self, name: str) -> Stored:
        """Return what a file is. Raises StoreError when it is not there."""
        found = self._files.get(self._resolve(name))
        if found is None:
            raise missing(self.name, name)
        return found

    def open(self, name: str) -> FileIO:
        """Open a file. Raises StoreError when it is not there, or cannot be read."""
        with explained(self.name):
            return open(self.spooled(name), "rb", buffering=0)  # noqa: PTH123  the caller closes it

    def spooled(self, name: str) -> str:
        """Return the path of a file, which may be taken away."""
        self.stored(name)
        return self._paths[self._resolve(name)]


class Directory:
    """The files of a directory, which somebody else may be changing."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self.name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(self.name, f"cannot be read: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _open(self, name: str) -> int:
        """Open a regular file inside the directory; a FIFO must not be waited for (open(2), O_NONBLOCK)."""
        fd = linux.openat2(self._fd, Path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, INSIDE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", name)
        return fd

    def has(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        try:
            os.close(self._open(name))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # opening it says what is wrong with it
        return True

    def open(self, name: str) -> FileIO:
        """Open a file. Raises StoreError when it is not there."""
        try:
            return open(self._open(name), "rb", buffering=0)  # noqa: PTH123  the caller closes it
        except FileNotFoundError:
            raise missing(self.name, name) from None
        except OSError as error:
            words = "leads out of it" if error.errno == errno.EXDEV else f"cannot be read: {error.strerror}"
            raise StoreError(self.name, f"{name} {words}") from error

    def stored(self, name: str) -> Stored:
        """Return what a file is. Raises StoreError when it is not there."""
        total, size = hashlib.sha256(), 0
        with self.open(name) as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
                size += len(chunk)
        return Stored(f"sha256:{total.hexdigest()}", size)

    def spooled(self, name: str) -> str:  # noqa: ARG002  as of every source
        """Return "": the files are their owner's."""
        return ""


def missing(archive: str, name: str) -> StoreError:
    """Return the error for a file that is named and is not there."""
    return StoreError(archive, f"{name} is named in it, but is not there")
