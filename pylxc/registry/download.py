"""A blob out of a registry.

Hides broken connections, ranges and mirrors. Invariant: never more bytes than the descriptor says are taken; the last
of them are given out only once the digest of all is right, so that who reads to the end has read the blob.
"""

from __future__ import annotations

import io
import re
from contextlib import closing
from typing import TYPE_CHECKING

from pylxc.digests import Hasher
from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.problems import Broken
from pylxc.registry.ranges import Pieces, reserve, write_at
from pylxc.registry.sites import followed
from pylxc.registry.transport import Attempts, Question

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from pylxc.documents import Descriptor
    from pylxc.registry.connections import Answer
    from pylxc.registry.progress import Reporter
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

MOST_URLS = 4
_OK, _PARTIAL = 200, 206
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)")


class BlobReader(io.RawIOBase):
    """A blob as it comes: a binary file that can be read once, or :meth:`chunks`.

    Reading raises IntegrityError where the bytes are not the descriptor's, RegistryError where they do not come. Leave
    it through ``with`` or ``close``: that ends its connections and threads at once.
    """

    def __init__(self, descriptor: Descriptor, chunks: Generator[bytes, None, None]) -> None:
        self.descriptor = descriptor
        self._chunks = chunks
        self._rest = memoryview(b"")

    def chunks(self) -> Iterator[bytes]:
        """Yield the blob in pieces as they come, without copies (up to 1 MiB each)."""
        if self._rest:
            yield bytes(self._rest)
            self._rest = memoryview(b"")
        yield from self._chunks

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read some bytes; 0 only at the end of a blob that is right."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """End it: nothing of it is running afterwards."""
        self._chunks.close()
        super().close()


class Download:
    """One blob from the first of some sites that gives it; ``scopes`` are for the last one, the registry itself."""

    def __init__(  # noqa: PLR0913  what belongs together is together already
        self,
        transport: Transport,
        sites: Sequence[Site],
        repository: str,
        descriptor: Descriptor,
        reporter: Reporter,
        *,
        spool: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._transport = transport
        self._sites = list(sites)
        self._repository = repository
        self._descriptor = descriptor
        self._reporter = reporter
        self._spool = spool
        self._stop = stop
        self._what = f"{sites[-1].name}/{repository}@{descriptor.digest}"

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the blob. Raises IntegrityError, RegistryError, OSError (of the spool)."""
        size, digest = self._descriptor.size, self._descriptor.digest
        hasher, done, held = Hasher(digest), 0, b""
        if self._spool is not None:
            reserve(self._spool, size)
        for data in self._raw():
            hasher.update(data)
            done += len(data)
            self._reporter.tell("downloading", digest, done, size)
            if held:
                yield held
            held = data
        hasher.check(self._what)
        self._reporter.tell("downloaded", digest, done, size)
        if held:
            yield held

    def _raw(self) -> Iterator[bytes]:
        """Yield exactly as many bytes as the descriptor says, from one connection or several."""
        settings, size = self._transport.settings, self._descriptor.size
        if size == 0:
            return
        if size <= settings.piece or size < settings.parallel_from or settings.streams <= 1:
            yield from self._spooled(self._stream(0, size, self._stop))
            return
        first = self._open(0, settings.piece, self._stop)
        if first.status == _OK:  # it does not do ranges: this is the whole blob already
            yield from self._spooled(self._stream(0, size, self._stop, first))
            return
        pieces = Pieces(
            self._piece, settings.piece, size, piece=settings.piece, window=settings.window, spool=self._spool,
            outer=self._stop,
        )  # fmt: skip
        head = self._spooled(self._stream(0, settings.piece, self._stop, first))
        yield from pieces.chunks(settings.streams - 1, head)

    def _spooled(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        position = 0
        for data in chunks:
            if self._spool is not None:
                write_at(self._spool, data, position)
                position += len(data)
            yield data

    def _piece(self, first: int, last: int, stop: Stop) -> Iterator[bytes]:
        return self._stream(first, last, stop, is_piece=True)

    def _stream(
        self, position: int, end: int, stop: Stop | None, answer: Answer | None = None, *, is_piece: bool = False
    ) -> Iterator[bytes]:
        """Yield the bytes [position, end); goes on with another request where a connection breaks."""
        attempts = Attempts(self._transport.settings, stop)
        while position < end:
            try:
                answer = answer or self._open(position, end, stop)
                if is_piece and answer.status != _PARTIAL:
                    answer.close()
                    raise RegistryError(f"{self._what}: the registry gave ranges of it, and then did not")
                with closing(answer):
                    for data in self._taken(answer, position, end):
                        position += len(data)
                        attempts.came(len(data))
                        yield data
            except Broken as problem:
                if stop is not None:
                    stop.check()
                if attempts.is_over():
                    reason = f"the connection broke after {position} of {self._descriptor.size} bytes"
                    raise RegistryError(f"{self._what}: {reason}; try again: {problem.reason}") from problem
                self._reporter.tell("retrying", self._descriptor.digest, position, self._descriptor.size)
                attempts.pause()
            answer = None

    def _open(self, position: int, end: int, stop: Stop | None) -> Answer:
        """Ask for the bytes [position, end), of the mirrors first."""
        headers = {}
        if (position, end) != (0, self._descriptor.size):
            headers["Range"] = f"bytes={position}-{end - 1}"
        places = self._places()
        for number, (site, url) in enumerate(places):
            is_last = number == len(places) - 1
            try:
                question = Question(
                    what=self._what,
                    site=site,
                    method="GET",
                    url=url,
                    scopes=frozenset({f"repository:{self._repository}:pull"}),
                    headers=headers,
                )
                answer = self._transport.ask(question, (_OK, _PARTIAL), stop)
                self._check_length(answer, position, end)
            except (RegistryError, IntegrityError):
                if is_last:
                    raise
            else:
                return answer
        raise AssertionError("there is always the registry itself")

    def _places(self) -> list[tuple[Site, str]]:
        """Return where it may be had: the mirrors, the registry, and where a manifest says that it is, if it may be.

        Only what must not be distributed is looked for elsewhere: a manifest is not to send us about. Its addresses are
        followed as a redirect of the registry's would be. Raises RegistryError where one may not be.
        """
        path, home = f"{self._repository}/blobs/{self._descriptor.digest}", self._sites[-1]
        found = [(site, site.url(path)) for site in self._sites]
        if not self._descriptor.is_distributable:
            may_be_plain = self._transport.settings.may_be_plain
            found += [(home, followed(home.url(path), url, may_be_plain)) for url in self._descriptor.urls[:MOST_URLS]]
        return found

    def _check_length(self, answer: Answer, position: int, end: int) -> None:
        """Refuse what is not the size that it must have, before any of it is read."""
        size = self._descriptor.size
        wanted = size if answer.status == _OK else end - position
        reason: IntegrityError | RegistryError | None = None
        if answer.length is not None and answer.length != wanted:
            reason = IntegrityError(self._what, f"{wanted} bytes", f"{answer.length} bytes")
        if answer.status == _PARTIAL:
            match = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
            if match is None or (int(match[1]), int(match[2])) != (position, end - 1):
                reason = RegistryError(f"{self._what}: the registry gave another range than it was asked for")
            elif match[3] is not None and int(match[3]) != size:
                reason = IntegrityError(self._what, f"{size} bytes", f"{int(match[3])} bytes")
        if reason is not None:
            answer.close()
            raise reason

    def _taken(self, answer: Answer, position: int, end: int) -> Iterator[bytes]:
        """Yield what is wanted of an answer: not the beginning, where it starts at 0; not what is beyond the end."""
        skip = position if answer.status == _OK else 0
        wanted = end - position
        for data in answer.chunks():
            skipped = min(skip, len(data))
            skip -= skipped
            part = data[skipped:] if skipped else data
            if len(part) > wanted:
                raise IntegrityError(self._what, f"{self._descriptor.size} bytes", "more")
            if part:
                wanted -= len(part)
                yield part
            if not wanted:
                return
        raise Broken("the registry ended it early")
