"""Hides the file that a store's events are told in: its lines, and how a reader goes from one file to the next.

``events``, and the older ``events.1``: one JSON object a line, with "kind", "time_ns", the container's "id" and what
else the kind has. They are written by processes of any kind (csrc/helper/event_log.c has the rules). Invariant: a line
is given out once, when it is whole; one that was never finished is passed over.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pylxc.runtime.watching import Watch

PRIVATE_FILE = 0o600
_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: it costs more than what it does


class EventLog:
    """The event log in a store's directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def add(self, kind: str, id: str, **more: str) -> None:  # noqa: A002  docker's name
        """Tell of a container. An event that cannot be written (the disk is full) is lost: nothing fails for it."""
        line = _encode({"kind": kind, "time_ns": time.time_ns(), "id": id, **more})
        try:
            native.append_event(self._directory, line.encode())
        except OSError as error:
            import logging  # noqa: PLC0415  hardly ever

            logging.getLogger("pylxc").info("the event %s of container %s is lost: %s", kind, id, error)

    def reader(self, watch: Watch | None = None) -> EventReader:
        """Return a reader that begins with the oldest event there is. ``watch`` then tells when there may be more.

        Raises OSError, UnsupportedError.
        """
        return EventReader(self._directory, watch)


class EventReader:
    """Reads the events that are there, and whenever it is asked again those that have come since.

    It holds its file open, so that two rotations between two looks lose nothing; after a third it goes on with the
    oldest file there is.
    """

    def __init__(self, directory: str, watch: Watch | None) -> None:
        self._path = f"{directory}/events"
        self._watch = watch
        self._half = b""
        self._files: list[BinaryIO] = []  # the first is being read
        try:
            self._open_both()
        except BaseException:
            self.close()
            raise

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the whole events that have come since the last call."""
        while True:
            is_finished = len(self._files) > 1 or not _is_at(self._files[0], self._path)
            yield from self._records()  # asked before: what is written until the file is finished is read here
            if not is_finished:
                return
            self._go_on()

    def close(self) -> None:
        """Close what is open."""
        for file in self._files:
            file.close()

    def _records(self) -> Iterator[dict[str, Any]]:
        *whole, self._half = (self._half + self._files[0].read()).split(b"\n")
        for line in whole:
            record = _parse(line)
            if record is not None:
                yield record

    def _go_on(self) -> None:
        """Turn to the file after the one that is finished."""
        self._half = b""
        with self._files.pop(0) as finished:
            if not self._files:
                self._open_both()
                if os.path.sameopenfile(self._files[0].fileno(), finished.fileno()):
                    self._files.pop(0).close()

    def _open_both(self) -> None:
        """Open the older file, if there is one, and the newest, as they were at one moment."""
        while True:
            newest = _open(self._path, os.O_CREAT)
            self._files = [newest]
            with suppress(FileNotFoundError):
                self._files.insert(0, _open(f"{self._path}.1"))
            if self._watch is not None:
                self._watch.add(f"/proc/self/fd/{newest.fileno()}")
            if _is_at(newest, self._path):
                return
            self.close()  # it was renamed between the two calls


def _open(path: str, flags: int = 0) -> BinaryIO:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, PRIVATE_FILE)
    return open(fd, "rb", buffering=0)  # noqa: PTH123  a descriptor


def _is_at(file: BinaryIO, path: str) -> bool:
    """Say whether a path leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))  # noqa: PTH116
    except FileNotFoundError:
        return False


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None for one that was never finished, or that means nothing to this version."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    sound = isinstance(record, dict) and isinstance(record.get("time_ns"), int)
    return record if sound and all(isinstance(record.get(key), str) for key in ("kind", "id")) else None
