"""Hides the format of a container's log: the CRI logging format of Kubernetes.

One line per piece of output, ``2016-10-06T00:17:09.669794202Z stdout F text``; "P" in place of "F" marks a piece that
did not end in a newline, so the exact bytes come back. The monitor writes it (csrc/helper/monitor.c).

Invariant: a record is given out once its newline is there, never half.
"""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def read_lines(path: str) -> Iterator[LogLine]:
    """Yield the lines of a log as it stands."""
    joiner = _Joiner()
    with open(path, "rb") as file:  # noqa: PTH123
        for raw in file:
            if raw.endswith(b"\n") and (line := joiner.feed(raw)):
                yield line
    yield from joiner.rest()


def follow_lines(path: str, goes_on: Callable[[], bool], interval: float) -> Iterator[LogLine]:
    """Yield the lines of a log as they come, until ``goes_on`` says no and all was read. ``interval`` in seconds."""
    joiner = _Joiner()
    with open(path, "rb") as file:  # noqa: PTH123
        half = b""
        while True:
            more = goes_on()  # asked before reading: what is written until the answer no is read below
            for raw in file:
                half += raw
                if half.endswith(b"\n"):
                    line, half = joiner.feed(half), b""
                    if line is not None:
                        yield line
            if not more:
                break
            time.sleep(interval)
    yield from joiner.rest()
