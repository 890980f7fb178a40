"""Opens tar archives, whatever they are compressed with.

Hides the compression formats and the many ways in which damaged data show. Invariant: a reader gives the bytes before
the damage, then one error.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from pylxc.errors import PylxcError, SpecError, StoreError

if TYPE_CHECKING:
    import zlib
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

    _Member = zlib._Decompress  # noqa: SLF001  its only name

CHUNK = 1 << 20
PIECE = 64 << 10  # bytes of a gzip file at a time: where a member ends, the rest is copied
BLOCK = 512
HEAD = 8  # bytes that tell how a stream is compressed
GZIP_FLAGS_END = 4  # bytes of a member up to its flags (RFC 1952, 2.3)
GZIP_HEADER_CHECKSUM = 1 << 1
ZSTD_WINDOW = 128 << 20  # bytes: what zstd itself accepts unasked; a frame may claim any size
ZSTD_SKIPPABLE = tuple(bytes((first, 0x2A, 0x4D, 0x18)) for first in range(0x50, 0x60))  # RFC 8878, 3.1.2
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **dict.fromkeys(ZSTD_SKIPPABLE, "zstd"),  # pzstd begins with one
}


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell by its content whether a file is a tar archive, plain or compressed (gzip, bzip2, xz, zstd).

    A compressed file that holds no tar archive is none.
    """
    return is_archive_stream(Path(path).open("rb", buffering=0))


class Borrowed(io.RawIOBase):
    """Reads a stream of somebody else's, which stays open; ``head`` is what was read of it before.

    Reading raises SpecError where it is one of text, or does not wait.
    """

    def __init__(self, stream: IO[bytes], head: bytes = b"") -> None:
        super().__init__()
        self._stream = stream
        self._head = head

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what fits and is there."""
        view = memoryview(buffer).cast("B")
        data, self._head = self._head[: len(view)], self._head[len(view) :]
        data = data or self._stream.read(len(view))
        if data is None or isinstance(data, str):
            raise SpecError("source", type(self._stream), "give a binary stream, and one that waits for its data")
        view[: len(data)] = data
        return len(data)


class _Begun(io.RawIOBase):
    """Reads a stream: its head, which tells its form, comes with the first read. A pipe may have less at first."""

    def __init__(self, stream: io.RawIOBase) -> None:
        super().__init__()
        self._stream = stream
        self._least = HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = more = self._stream.readinto(view) or 0
        while more and count < self._least:
            more = self._stream.readinto(view[count:]) or 0
            count += more
        self._least = 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def buffered(stream: io.RawIOBase) -> io.BufferedReader:
    """Buffer a stream, which closes with this: ``peek(HEAD)`` shows its first bytes, fewer only where it ends."""
    return io.BufferedReader(_Begun(stream), CHUNK)


def open_archive(source: str | os.PathLike[str] | IO[bytes], name: str = "a stream") -> io.BufferedReader:
    """Open a tar archive, whatever it is compressed with, as a stream of raw tar.

    ``source`` is a path, or a stream that is read from where it stands and stays open; ``name`` is what errors call it.
    Raises SpecError when it is neither; reading raises :class:`~pylxc.errors.StoreError` when the compressed data are
    damaged or end early.
    """
    if isinstance(source, (str, os.PathLike)):
        return decompressed(Path(source).open("rb", buffering=0), os.fspath(source))
    if not hasattr(source, "read"):
        raise SpecError("source", type(source), "give a path or a binary stream, such as io.BytesIO(data)")
    return decompressed(cast("IO[bytes]", Borrowed(source)), name)


class _Decompressor(Protocol):
    def read1(self, size: int, /) -> bytes: ...
    def close(self) -> object: ...


class _Reader(io.RawIOBase):
    """Reads a decompressor, and makes one error of all the ways in which damaged data show."""

    def __init__(self, stream: _Decompressor, below: IO[bytes], path: str, form: str) -> None:
        super().__init__()
        self._stream = stream
        self._below = below
        self._path = path
        self._form = form
        self._damages = _damages(form)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.piece(len(view))
        view[: len(data)] = data
        return len(data)

    def piece(self, size: int) -> bytes:
        """Read some bytes, none at the end."""
        try:
            # No more than is there at once: data before the damage are still given, and looking at the first block of
            # an archive does not stumble over its end.
            return self._stream.read1(size)
        except PylxcError:  # of what is read
            raise
        except self._damages as error:
            raise StoreError(self._path, f"damaged {self._form} data: {error}") from error

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._below.close()
        super().close()


def _damages(form: str) -> tuple[type[Exception], ...]:
    """Return the errors by which the decompressor of a format tells that data are damaged."""
    if form == "zstd":
        import zstandard  # noqa: PLC0415  only for archives

        return (zstandard.ZstdError, EOFError)
    import lzma  # noqa: PLC0415  heavy, and only for archives
    import zlib  # noqa: PLC0415

    damages: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
    if form == "gzip":
        with suppress(ImportError):  # as in gunzip_object
            from isal import isal_zlib  # noqa: PLC0415

            damages += (cast("type[Exception]", isal_zlib.error),)  # which its stubs call an instance
    return damages


def decompressed(stream: IO[bytes], path: str) -> io.BufferedReader:
    """Give the raw tar of an open archive; closing it closes ``stream``. ``path`` is what errors call it."""
    below = stream if isinstance(stream, io.BufferedReader) else buffered(cast("io.RawIOBase", stream))
    form = form_of(below.peek(HEAD))
    opened: _Decompressor
    if form == "gzip":
        opened = _Gunzip(below)
    elif form == "bzip2":
        import bz2  # noqa: PLC0415

        opened = bz2.BZ2File(below)
    elif form == "xz":
        import lzma  # noqa: PLC0415

        opened = lzma.LZMAFile(below)  # noqa: SIM115  the reader closes it
    elif form == "zstd":
        from pylxc.build.zstdframes import ZstdReader  # noqa: PLC0415  as the others

        opened = ZstdReader(below, ZSTD_WINDOW)
    else:
        return below
    return io.BufferedReader(_Reader(opened, below, path, form), CHUNK)


def pieces(archive: io.BufferedReader) -> Iterator[bytes]:
    """Yield what :func:`decompressed` opened, of which nothing was read, as it comes: without a copy where that can be.

    Raises StoreError where the data are damaged.
    """
    raw = archive.raw
    read = raw.piece if isinstance(raw, _Reader) else archive.read1
    while data := read(CHUNK):
        yield data


class _Gunzip:
    """Reads the members of a gzip file, one after the other (RFC 1952, 2.2), and zeros that fill it up.

    Readers of whole files lose what they had when they find damage; this one does not.
    """

    def __init__(self, below: io.BufferedReader) -> None:
        self._below = below
        self._member: _Member | None = None
        self._pending = b""
        self._has_begun = False

    def read1(self, size: int) -> bytes:
        while self._member is not None or self._begin():
            if not self._pending:
                self._pending = self._below.read1(PIECE)
            is_over = not self._pending
            data = self._step(size)
            if data:
                return data
            if is_over and self._member is not None:
                raise EOFError("it ends early")
        return b""

    def _begin(self) -> bool:
        """Begin the next member; says whether there is one."""
        while len(self._pending) < GZIP_FLAGS_END and (more := self._below.read1(PIECE)):
            self._pending += more
            if self._has_begun:
                self._pending = self._pending.lstrip(b"\0")
        if not self._pending:
            return False
        self._has_begun = True
        self._member = gunzip_object(self._pending)
        return True

    def _step(self, size: int) -> bytes:
        assert self._member is not None  # noqa: S101
        data = self._member.decompress(self._pending, size)
        if self._member.eof:
            self._pending = self._member.unused_data.lstrip(b"\0")
            self._member = None
        else:
            self._pending = self._member.unconsumed_tail
        return data

    def close(self) -> None:
        self._member = None


def gunzip_object(head: bytes = b"") -> _Member:
    """Return a decompressor of the member of a gzip file that begins so."""
    wbits = 31  # with the header and the checksum of gzip
    if len(head) >= GZIP_FLAGS_END and head[GZIP_FLAGS_END - 1] & GZIP_HEADER_CHECKSUM:
        import zlib  # noqa: PLC0415  isal finds the header's own checksum wrong where the header comes in pieces

        return zlib.decompressobj(wbits)
    try:
        from isal import isal_zlib  # noqa: PLC0415  only for archives
    except ImportError:  # there are wheels for two architectures only
        import zlib  # noqa: PLC0415

        return zlib.decompressobj(wbits)
    return cast("_Member", isal_zlib.decompressobj(wbits=wbits))


def form_of(head: bytes) -> str:
    """Tell by its first bytes how a stream is compressed: "gzip", "bzip2", "xz", "zstd", "" for not at all."""
    return next((form for magic, form in _MAGIC.items() if head.startswith(magic)), "")


def is_archive_stream(stream: IO[bytes]) -> bool:
    """Tell the same of an open file, which is closed."""
    try:
        with decompressed(stream, "") as opened:
            block = opened.read(BLOCK)
    except StoreError:
        return False
    return is_archive_block(block)


def is_archive_block(block: bytes) -> bool:
    """Tell whether this is the first block of a tar archive, by its checksum."""
    if len(block) < BLOCK or not any(block):
        return False
    try:
        expected = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 8 * ord(" ") == expected
