"""One large blob over several connections, delivered in order.

Hides the threads and what they keep. Invariant: what has come and was not delivered is ``window`` bytes at most, or
lies in the caller's file; the threads are gone when the generator is closed.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from pylxc.registry.stopping import Crew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc.registry.stopping import Stop

_CHUNK = 1 << 20


class Pieces:
    """A blob's pieces from ``begin`` to ``end``, numbered from 0, ``piece`` bytes each.

    ``fetch(first, last, stop)`` yields the bytes [first, last). With a ``spool`` (a descriptor open for reading and
    writing) pieces wait in that file, at their places, and the threads run ahead as they can.
    """

    def __init__(  # noqa: PLR0913  what belongs together is together already
        self,
        fetch: Callable[[int, int, Stop], Iterator[bytes]],
        begin: int,
        end: int,
        *,
        piece: int,
        window: int,
        spool: int | None = None,
        outer: Stop | None = None,
    ) -> None:
        self._fetch = fetch
        self._begin, self._end, self._piece = begin, end, piece
        self._count = -(-(end - begin) // piece)
        self._ahead = max(1, window // piece) if spool is None else self._count
        self._spool = spool
        self._crew = Crew(outer)
        self._next = self._delivered = 0
        self._ready: dict[int, deque[bytes]] = {}

    def chunks(self, streams: int, first: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the bytes in order: those of ``first``, which this thread fetches meanwhile, then the pieces."""
        with self._crew as crew:
            crew.start(self._work, min(streams, self._count))
            yield from first
            for number in range(self._count):
                with crew.changed:
                    crew.wait_for(lambda number=number: number in self._ready)  # type: ignore[misc]
                    piece = self._ready.pop(number)
                yield from self._content(number, piece)
                with crew.changed:
                    self._delivered = number + 1
                    crew.changed.notify_all()

    def _work(self) -> None:
        stop = self._crew.stop
        while (number := self._take()) is not None:
            first, last = self._bounds(number)
            piece: deque[bytes] = deque()
            for data in self._fetch(first, last, stop):
                if self._spool is None:
                    piece.append(data)
                else:
                    write_at(self._spool, data, first)
                    first += len(data)
            with self._crew.changed:
                self._ready[number] = piece
                self._crew.changed.notify_all()

    def _take(self) -> int | None:
        """Return the next piece to fetch, once there is room for it; None when there is none."""
        with self._crew.changed:
            self._crew.wait_for(lambda: self._next >= self._count or self._next < self._delivered + self._ahead)
            if self._next >= self._count:
                return None
            self._next += 1
            return self._next - 1

    def _bounds(self, number: int) -> tuple[int, int]:
        first = self._begin + number * self._piece
        return first, min(first + self._piece, self._end)

    def _content(self, number: int, piece: deque[bytes]) -> Iterator[bytes]:
        if self._spool is None:
            while piece:
                yield piece.popleft()
            return
        position, last = self._bounds(number)
        while position < last:
            data = os.pread(self._spool, min(_CHUNK, last - position), position)
            if not data:
                raise OSError(errno.EIO, "the file of the download became shorter")
            position += len(data)
            yield data


def reserve(descriptor: int, size: int) -> None:
    """Give a file its size, and its room on the disk where that can be had beforehand. Raises OSError (ENOSPC)."""
    os.ftruncate(descriptor, size)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


def write_at(descriptor: int, data: bytes, position: int) -> None:
    """Write all of some bytes at a place of a file."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
