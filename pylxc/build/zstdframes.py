"""Reads Zstandard data: frames, one after the other.

Hides how a frame is built: the readers of the library take data that end within one for whole, and its decompressor
gives all that its input makes. Invariant: what ends within a frame is an error, and at most a block (128 KiB) is given
at once. Source: RFC 8878, 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

from pylxc.build.archives import CHUNK, ZSTD_SKIPPABLE

if TYPE_CHECKING:
    import io

RLE = 1  # the kind of a block that stores one byte, to be repeated
CHECKSUM_SIZE = 4


class ZstdReader:
    """Reads frames to the end of a stream. ``window``: the largest that a frame may have, in bytes."""

    def __init__(self, below: io.BufferedReader, window: int) -> None:
        self._below = below
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._has_checksum = False
        self._rest = b""

    def read1(self, size: int) -> bytes:
        """Read some bytes, none at the end. Raises ZstdError, EOFError."""
        while not self._rest and (self._frame is not None or self._begin()):
            self._rest = self._block()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _begin(self) -> bool:
        """Begin the next frame; says whether there is one."""
        while self._below.peek(1):
            head = self._exactly(4)
            if head in ZSTD_SKIPPABLE:
                self._skip(int.from_bytes(self._exactly(4), "little"))
                continue
            head += self._exactly(1)
            head += self._exactly(zstandard.frame_header_size(head) - len(head))
            self._has_checksum = zstandard.get_frame_parameters(head).has_checksum
            self._frame = self._decompressor.decompressobj()
            self._frame.decompress(head)
            return True
        return False

    def _block(self) -> bytes:
        """Return what the next block of the frame gives."""
        assert self._frame is not None  # noqa: S101
        head = self._exactly(3)
        fields = int.from_bytes(head, "little")
        is_last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
        stored = self._exactly((1 if kind == RLE else size) + CHECKSUM_SIZE * (is_last and self._has_checksum))
        data = self._frame.decompress(head + stored)
        if is_last:
            self._frame = None
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._below.read(size)
        if len(data) < size:
            raise EOFError("it ends early")
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, CHUNK)))

    def close(self) -> None:
        """Let go of what was decompressed."""
        self._frame, self._rest = None, b""
