"""Hides the format of a container's log: the CRI logging format of Kubernetes.

One line per piece of output, ``2016-10-06T00:17:09.669794202Z stdout F text``; "P" in place of "F" marks a piece that
did not end in a newline, so the exact bytes come back. The monitor writes it (csrc/helper/log.c), as files named
``log``, ``log.1``, ``log.2`` and so on, and removes the oldest.

It is read as lines (:func:`follow_lines`), or as the pieces that were written (:class:`Pieces`).

Invariant: a record is given out once its newline is there, never half.
"""

from __future__ import annotations

import calendar
import io
import os
import re
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


_PIECE = 1 << 16  # bytes of output that are gathered at most, and a record more
_BLOCK = 1 << 17  # bytes that are read at once
_BEHIND = 1 << 17  # bytes of a file in which a record begins: more than the monitor writes at once


@frozen
class LogLine:
    r"""One line of a container's output: ``stream`` ("stdout" or "stderr"), ``time`` (s since the epoch), ``data``.

    ``data`` ends in a newline unless the output itself did not.

    Example:
        >>> [line.format(timestamps=True) for line in container.logs()]             # doctest: +SKIP
        [b'2016-10-06T00:17:09.669794202Z ready\n']

    """

    stream: str
    time: float
    data: bytes

    @property
    def text(self) -> str:
        """``data`` as UTF-8; bytes that are none become U+FFFD."""
        return self.data.decode("utf-8", "replace")

    def format(self, *, timestamps: bool = False) -> bytes:
        """Return ``data`` as docker shows it: with ``timestamps`` its time (RFC 3339, UTC) comes before it."""
        return format_time(self.time).encode() + b" " + self.data if timestamps else self.data

    def stamped(self) -> LogLine:
        """Return the line with its time before its ``data``."""
        return LogLine(self.stream, self.time, self.format(timestamps=True))


def format_time(moment: float) -> str:
    """Return a time (s since the epoch) in RFC 3339, in UTC with nanoseconds."""
    whole, fraction = divmod(moment, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1e9):09d}Z"


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time in UTC with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds + float(f"0.{fraction or 0}")


def _parse(raw: bytes) -> tuple[bytes, str, bytes]:
    """Return the time, the stream and the very bytes of a record."""
    stamp, name, tag, data = raw.split(b" ", 3)
    return stamp, name.decode(), data if tag == b"F" else data[:-1]


class _Joiner:
    """Puts the pieces of one line together, for each stream on its own."""

    def __init__(self) -> None:
        self._pending: dict[str, LogLine] = {}

    def feed(self, raw: bytes) -> LogLine | None:
        """Take one record; return the line that it completes."""
        stamp, stream, data = _parse(raw)
        before = self._pending.pop(stream, None)
        when = before.time if before else parse_time(stamp.decode())
        line = LogLine(stream, when, (before.data if before else b"") + data)
        if data.endswith(b"\n"):
            return line
        self._pending[stream] = line
        return None

    def rest(self) -> list[LogLine]:
        """Return what did not end in a newline."""
        return list(self._pending.values())


def _run(block: bytes, at: int) -> tuple[str, bytes, int]:
    """Return the stream and the bytes of the records from ``at`` on that begin alike, and where the next one begins.

    These are the lines of what the monitor read at once: with one time, on one stream, one after the other. So they
    need not be looked at one by one.
    """
    begin = block.index(b" ", block.index(b" ", at) + 1) + 1
    head = block[at:begin]
    stream = head.split(b" ")[1].decode()
    end = block.index(b"\n", at) + 1
    if block.startswith(b"P", begin):
        return stream, block[begin + len(b"P ") : end - 1], end
    if block.startswith(head, end):
        end = _end_of_run(block, head, end)
        unfinished = block.find(b"\n" + head + b"P ", at, end)
        end = end if unfinished < 0 else unfinished + 1
    return stream, block[begin + len(b"F ") : end].replace(b"\n" + head + b"F ", b"\n"), end


def _end_of_run(block: bytes, head: bytes, last: int) -> int:
    """Return where the records end that begin with ``head``; ``last`` is where one of them begins."""
    end = len(block)
    while True:
        middle = block.find(b"\n", (last + end) // 2, end - 1) + 1 or block.index(b"\n", last) + 1
        if middle == end:
            return end
        if block.startswith(head, middle):
            last = middle
        else:
            end = middle


class Pieces:
    """What was written to a log, as it was written, without waiting for lines or for what comes later.

    ``lost``: the oldest files were removed before they were read, so there is a gap. With ``only_new`` what was written
    before is passed over.

    Example:
        >>> pieces = Pieces(directory)                                              # doctest: +SKIP
        >>> pieces.take()
        ('stdout', b'login: ')

    """

    def __init__(self, directory: str, *, only_new: bool) -> None:
        self._files = _Files(directory)
        if only_new:
            self._files.skip()
        self._blocks = self._files.blocks()
        self._block = b""
        self._at = 0  # what of it was given out

    @property
    def lost(self) -> bool:
        """Say whether there was a gap."""
        return self._files.lost

    def take(self) -> tuple[str, bytes] | None:
        """Return the stream and the bytes of what comes next; None when there is no more for now.

        Records of one stream that are there come together.
        """
        stream, data = "", b""
        while len(data) < _PIECE and self._has_more():
            name, more, end = _run(self._block, self._at)
            if data and name != stream:
                break
            stream, data, self._at = name, data + more, end
        return (stream, data) if data else None

    def _has_more(self) -> bool:
        if self._at == len(self._block):
            self._block, self._at = next(self._blocks, b""), 0
            if not self._block:
                self._blocks = self._files.blocks()
        return self._at < len(self._block)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()


def is_there(directory: str) -> bool:
    """Say whether a container has a log."""
    return bool(_numbers(directory))


class LogReader:
    """Reads a log, and goes on where it was. To be closed: it is a context manager."""

    def __init__(self, directory: str) -> None:
        self._joiner, self._files = _Joiner(), _Files(directory)

    def fresh(self) -> Iterator[LogLine]:
        """Yield the whole lines that have come since the last call."""
        return filter(None, map(self._joiner.feed, self._files.records()))

    def unfinished(self) -> list[LogLine]:
        """Return what has not come to the end of its line."""
        return self._joiner.rest()

    def rest(self) -> Iterator[LogLine]:
        """Yield all that there is, when nothing more will come."""
        yield from self.fresh()
        yield from self.unfinished()

    def __enter__(self) -> LogReader:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()


def chosen(lines: Iterator[LogLine], since: float | None, tail: int | None) -> Iterator[LogLine]:
    """Leave out the lines before a time (s since the epoch), and of the others all but the last so many."""
    if since is not None:
        lines = (line for line in lines if line.time >= since)
    return lines if tail is None else iter(deque(lines, maxlen=tail))


def _numbers(directory: str) -> list[int]:
    """Return the numbers of a log's files, the oldest first: "log" is 0, "log.1" comes after it."""
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except FileNotFoundError:  # the container was removed
        return []
    return sorted(int(name[4:] or 0) for name in names if re.fullmatch(r"log(\.[0-9]+)?", name))


class _Files:
    """Reads the files of a log one after the other; the monitor may begin and remove some meanwhile.

    ``lost``: some were removed before they could be read.
    """

    def __init__(self, directory: str) -> None:
        self.lost = False
        self._directory = directory
        self._number = -1
        self._file: io.FileIO | None = None
        self._half = b""

    def records(self) -> Iterator[bytes]:
        """Yield the whole records that have come since the last call."""
        for block in self.blocks():
            yield from io.BytesIO(block)  # splitlines() would cut at a carriage return, too

    def blocks(self) -> Iterator[bytes]:
        """Yield the same, many at once."""
        while True:
            yield from self._of_this_file()
            following = self._following()
            if following is None:
                return
            yield from self._of_this_file()  # what came before the next file was begun; nothing comes after
            self.lost = self.lost or (self._file is not None and following[0] > self._number + 1)
            self._go_on(following)

    def skip(self) -> None:
        """Go to the end of what has been written; a record of which there is a part is still to come."""
        while (following := self._following()) is not None:
            self._go_on(following)
        if self._file is None:
            return
        at = self._file.seek(0, os.SEEK_END)
        end = -1
        while at and end < 0:
            begin = max(0, at - _BEHIND)
            self._file.seek(begin)
            end = self._file.read(at - begin).rfind(b"\n")
            at = begin + end + 1
        self._file.seek(at)

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()

    def _go_on(self, following: tuple[int, io.FileIO]) -> None:
        self.close()
        self._number, self._file = following
        self._half = b""

    def _of_this_file(self) -> Iterator[bytes]:
        while chunk := b"" if self._file is None else self._file.read(_BLOCK):
            whole, newline, half = chunk.rpartition(b"\n")
            if newline:
                whole, self._half = self._half + whole + newline, b""
            self._half += half
            if newline:
                yield whole

    def _following(self) -> tuple[int, io.FileIO] | None:
        for number in _numbers(self._directory):
            if number > self._number:
                path = f"{self._directory}/log{f'.{number}' if number else ''}"
                with suppress(FileNotFoundError):  # removed meanwhile: the next one then
                    return number, open(path, "rb", buffering=0)  # noqa: PTH123  closed by close()
        return None
