"""Hides the format of a container's log: the CRI logging format of Kubernetes.

One line per piece of output, ``2016-10-06T00:17:09.669794202Z stdout F text``; "P" in place of "F" marks a piece that
did not end in a newline, so the exact bytes come back. The monitor writes it (csrc/helper/log.c), as files named
``log``, ``log.1``, ``log.2`` and so on, and removes the oldest.

Invariant: a record is given out once its newline is there, never half.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO


@frozen
class LogLine:
    """One line of a container's output: ``stream`` ("stdout" or "stderr"), ``time`` (s since the epoch), ``data``.

    ``data`` ends in a newline unless the output itself did not.
    """

    stream: str
    time: float
    data: bytes


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time in UTC with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds + float(f"0.{fraction or 0}")


class _Joiner:
    """Puts the pieces of one line together, for each stream on its own."""

    def __init__(self) -> None:
        self._pending: dict[str, LogLine] = {}

    def feed(self, raw: bytes) -> LogLine | None:
        """Take one record; return the line that it completes."""
        stamp, name, tag, data = raw[:-1].split(b" ", 3)
        stream = name.decode()
        before = self._pending.pop(stream, None)
        when = before.time if before else parse_time(stamp.decode())
        line = LogLine(stream, when, (before.data if before else b"") + data)
        if tag == b"P":
            self._pending[stream] = line
            return None
        return LogLine(stream, when, line.data + b"\n")

    def rest(self) -> list[LogLine]:
        """Return what did not end in a newline."""
        return list(self._pending.values())


def is_there(directory: str) -> bool:
    """Say whether a container has a log."""
    return bool(_numbers(directory))


def follow_lines(
    directory: str, goes_on: Callable[[], bool], interval: float, *, since: float | None = None, tail: int | None = None
) -> Iterator[LogLine]:
    """Yield the lines of a log as they come, until ``goes_on`` says no and all was read. ``interval`` in seconds.

    ``since``: only lines from that time on (s since the epoch). ``tail``: of those that are there already, only the
    last so many.
    """
    there: deque[LogLine] | None = None if tail is None else deque(maxlen=tail)
    for line in _lines(directory, goes_on, interval):
        if line is None:
            yield from there or ()
            there = None
        elif since is None or line.time >= since:
            if there is None:
                yield line
            else:
                there.append(line)
    yield from there or ()


def _lines(directory: str, goes_on: Callable[[], bool], interval: float) -> Iterator[LogLine | None]:
    """Yield lines, and None whenever there are no more for now."""
    joiner, files = _Joiner(), _Files(directory)
    try:
        while True:
            more = goes_on()  # asked before reading: what is written until the answer no is read below
            yield from filter(None, map(joiner.feed, files.records()))
            if not more:
                break
            yield None
            time.sleep(interval)
    finally:
        files.close()
    yield from joiner.rest()


def _numbers(directory: str) -> list[int]:
    """Return the numbers of a log's files, the oldest first: "log" is 0, "log.1" comes after it."""
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except FileNotFoundError:  # the container was removed
        return []
    return sorted(int(name[4:] or 0) for name in names if re.fullmatch(r"log(\.[0-9]+)?", name))


class _Files:
    """Reads the files of a log one after the other; the monitor may begin and remove some meanwhile."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._number = -1
        self._file: BinaryIO | None = None
        self._half = b""

    def records(self) -> Iterator[bytes]:
        """Yield the whole records that have come since the last call."""
        while True:
            yield from self._of_this_file()
            following = self._following()
            if following is None:
                return
            yield from self._of_this_file()  # what came before the next file was begun; nothing comes after
            self.close()
            self._number, self._file = following
            self._half = b""

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()

    def _of_this_file(self) -> Iterator[bytes]:
        for raw in self._file or ():
            self._half += raw
            if self._half.endswith(b"\n"):
                yield self._half
                self._half = b""

    def _following(self) -> tuple[int, BinaryIO] | None:
        for number in _numbers(self._directory):
            if number > self._number:
                path = f"{self._directory}/log{f'.{number}' if number else ''}"
                with suppress(FileNotFoundError):  # removed meanwhile: the next one then
                    return number, open(path, "rb")  # noqa: PTH123  closed by close()
        return None
