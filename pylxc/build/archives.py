"""Opens tar archives, whatever they are compressed with.

Hides the compression formats and the many ways in which damaged data show. Invariant: a reader gives the bytes before
the damage, then one error.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from pylxc.errors import StoreError, UnsupportedError

if TYPE_CHECKING:
    import bz2
    import gzip
    import lzma

    from _typeshed import WriteableBuffer

CHUNK = 1 << 20
BLOCK = 512
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
    return is_archive_stream(Path(path).open("rb", buffering=0))


class _Borrowed(io.RawIOBase):
    """Reads a stream of somebody else's, which stays open."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


def open_archive(source: str | os.PathLike[str] | IO[bytes], name: str = "") -> io.BufferedReader:
    """Open a tar archive, whatever it is compressed with, as a stream of raw tar.

    ``source`` is a path, or a stream that is read from where it stands and stays open; ``name`` is what errors call it.
    Raises :class:`~pylxc.errors.UnsupportedError` for zstd. Reading raises :class:`~pylxc.errors.StoreError` when the
    compressed data are damaged or end early.
    """
    if isinstance(source, (str, os.PathLike)):
        return decompressed(Path(source).open("rb", buffering=0), os.fspath(source))
    return decompressed(cast("IO[bytes]", _Borrowed(source)), name or str(getattr(source, "name", "archive")))


class _Reader(io.RawIOBase):
    """Reads a decompressor, and makes one error of all the ways in which damaged data show."""

    def __init__(
        self, stream: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile, below: IO[bytes], path: str, form: str
    ) -> None:
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
            # No more than is there at once: data before the damage are still given, and looking at the first block of
            # an archive does not stumble over its end.
            data = self._stream.read1(len(view))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise StoreError(self._path, f"damaged {self._form} data: {error}") from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._below.close()
        super().close()


def decompressed(stream: IO[bytes], path: str) -> io.BufferedReader:
    """Give the raw tar of an open archive; closing it closes ``stream``. ``path`` is what errors call it."""
    below = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream), CHUNK)
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
    return io.BufferedReader(_Reader(opened, below, path, form), CHUNK)


def is_archive_stream(stream: IO[bytes]) -> bool:
    """Tell the same of an open file, which is closed."""
    try:
        with decompressed(stream, "") as opened:
            block = opened.read(BLOCK)
    except UnsupportedError:
        return True
    except StoreError:
        return False
    if len(block) < BLOCK or not any(block):
        return False
    try:
        expected = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 8 * ord(" ") == expected
