"""A blob out of a registry.

Hides broken connections, ranges and mirrors. Invariant: never more bytes than the descriptor says are taken; the last
of them are given out only once the digest of all is right, so that who reads to the end has read the blob.
"""

from __future__ import annotations

import io
import re
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc.digests import Hasher
from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.problems import Broken
from pylxc.registry.ranges import Pieces, reserve, write_at
from pylxc.registry.sites import followed
from pylxc.registry.transport import Attempts, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pylxc.documents import Descriptor
    from pylxc.registry.connections import Answer
    from pylxc.registry.progress import Reporter
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

MOST_URLS = 4
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_NO_RANGE = frozenset({416, 501})
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


class _NoRangesError(Exception):
    """Parts of a blob are not to be had, only all of it."""


@frozen
class _Given:
    """An answer, and who gave it: it has the bytes [begin, end) of the blob."""

    answer: Answer
    site: Site
    begin: int
    end: int


class Download:
    """One blob from the first of some sites that gives it: ``sites`` returns the mirrors, then the registry itself."""

    def __init__(  # noqa: PLR0913  what belongs together is together already
        self,
        transport: Transport,
        sites: Callable[[], Sequence[Site]],
        repository: str,
        descriptor: Descriptor,
        reporter: Reporter,
        *,
        spool: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._transport = transport
        self._sites = sites
        self._home = sites()[-1]
        self._repository = repository
        self._descriptor = descriptor
        self._reporter = reporter
        self._spool = spool
        self._stop = stop
        self._has_ranges = True
        self._what = f"{self._home.name}/{repository}@{descriptor.digest}"

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
        settings, size, position = self._transport.settings, self._descriptor.size, 0
        if size > settings.piece and size >= settings.parallel_from and settings.streams > 1:
            with suppress(_NoRangesError):
                for data in self._in_pieces():
                    position += len(data)
                    yield data
        yield from self._spooled(self._stream(position, size, self._stop), position)

    def _in_pieces(self) -> Iterator[bytes]:
        """Yield the blob from several connections, if the first one shows that pieces of it are to be had."""
        settings, size = self._transport.settings, self._descriptor.size
        first = self._open(0, settings.piece, self._stop)
        if first.end > settings.piece:
            yield from self._spooled(self._stream(0, size, self._stop, first), 0)
            return
        pieces = Pieces(
            self._piece, settings.piece, size, piece=settings.piece, window=settings.window, spool=self._spool,
            outer=self._stop,
        )  # fmt: skip
        head = self._spooled(self._stream(0, settings.piece, self._stop, first, is_piece=True), 0)
        yield from pieces.chunks(settings.streams - 1, head)

    def _spooled(self, chunks: Iterator[bytes], position: int) -> Iterator[bytes]:
        for data in chunks:
            if self._spool is not None:
                write_at(self._spool, data, position)
                position += len(data)
            yield data

    def _piece(self, first: int, last: int, stop: Stop) -> Iterator[bytes]:
        return self._stream(first, last, stop, is_piece=True)

    def _stream(
        self, position: int, end: int, stop: Stop | None, given: _Given | None = None, *, is_piece: bool = False
    ) -> Iterator[bytes]:
        """Yield the bytes [position, end); goes on with another request where an answer ends before that."""
        attempts = Attempts(self._transport.settings, stop)
        while position < end:
            given = given or self._open(position, end, stop, is_piece=is_piece)
            try:
                with closing(given.answer):
                    for data in self._taken(given, position):
                        position += len(data)
                        attempts.came(len(data))
                        yield data
            except (Broken, IntegrityError) as problem:
                if stop is not None:
                    stop.check()
                self._endure(problem, given.site, position, attempts)
            given = None

    def _endure(self, problem: Broken | IntegrityError, site: Site, position: int, attempts: Attempts) -> None:
        """Return when it is to be gone on with at ``position``: from others than a mirror, or from the registry again.

        Raises IntegrityError, RegistryError where it is not.
        """
        size, is_mirror = self._descriptor.size, site != self._home
        if is_mirror:
            self._transport.leave_out(site, problem)
        elif isinstance(problem, IntegrityError):
            raise problem
        elif attempts.is_over():
            reason = f"the connection broke after {position} of {size} bytes"
            raise RegistryError(f"{self._what}: {reason}; try again: {problem.reason}") from problem
        self._reporter.tell("retrying", self._descriptor.digest, position, size)
        if not is_mirror:
            attempts.pause()

    def _open(self, position: int, end: int, stop: Stop | None, *, is_piece: bool = False) -> _Given:
        """Ask for the bytes [position, end), of the mirrors first."""
        *questions, last = self._questions()
        for question in questions:
            try:
                return self._asked(question, position, end, stop, is_piece=is_piece)
            except (RegistryError, IntegrityError) as problem:  # noqa: PERF203  there are a few
                if question.site != self._home:
                    self._transport.leave_out(question.site, problem)
        try:
            return self._asked(last, position, end, stop, is_piece=is_piece)
        except RegistryError as error:
            if error.status != _NOT_FOUND:
                raise
            reason = f"{self._home.name} does not have it, though it has what names it; push the image there again"
            raise RegistryError(f"{self._what}: {reason}", status=error.status, code=error.code) from error

    def _questions(self) -> list[Question]:
        """Return what asks for it: the mirrors, the registry, and where a manifest says that it is, if it may be there.

        Only what must not be distributed is looked for elsewhere: a manifest is not to send us about. Its addresses are
        followed as a redirect of the registry's would be. Raises RegistryError where one may not be.
        """
        path, home = f"{self._repository}/blobs/{self._descriptor.digest}", self._home
        places = [(site, site.url(path)) for site in self._sites()]
        if not self._descriptor.is_distributable:
            may_be_plain = self._transport.settings.may_be_plain
            places += [(home, followed(home.url(path), url, may_be_plain)) for url in self._descriptor.urls[:MOST_URLS]]
        scopes = frozenset({f"repository:{self._repository}:pull"})
        return [
            Question(what=self._what, site=site, method="GET", url=url, scopes=scopes, is_repeatable=site == home)
            for site, url in places
        ]

    def _asked(self, question: Question, position: int, end: int, stop: Stop | None, *, is_piece: bool) -> _Given:
        """Ask one place for the bytes [position, end); where it gives no range that begins there, for the whole blob.

        Raises _NoRangesError where that would be asked for a piece.
        """
        if (position, end) != (0, self._descriptor.size) and self._has_ranges:
            ranged = evolve(question, headers={"Range": f"bytes={position}-{end - 1}"})
            given = self._given(self._transport.ask(ranged, (_OK, _PARTIAL, *_NO_RANGE), stop), question.site)
            if given.begin <= position < given.end and (given.end <= end or not is_piece):
                return given
            given.answer.close()
            self._has_ranges = False
        if is_piece:
            raise _NoRangesError
        given = self._given(self._transport.ask(question, (_OK, _PARTIAL), stop), question.site)
        if not given.begin <= position < given.end:
            given.answer.close()
            raise RegistryError(f"{self._what}: the registry gave another range than it was asked for")
        return given

    def _given(self, answer: Answer, site: Site) -> _Given:
        """Return what an answer says that it has: no bytes where it does not say. Raises IntegrityError (the size)."""
        size, begin, end = self._descriptor.size, 0, 0
        said: int | None = size
        match = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        if answer.status == _OK:
            end, said = size, answer.length
        elif answer.status == _PARTIAL and match is not None:
            begin, end, said = int(match[1]), int(match[2]) + 1, int(match[3] or size)
            if end > size or answer.length not in (None, end - begin):
                end = 0
        if said not in (None, size):
            answer.close()
            raise IntegrityError(self._what, f"{size} bytes", f"{said} bytes")
        return _Given(answer, site, begin, end)

    def _taken(self, given: _Given, position: int) -> Iterator[bytes]:
        """Yield what an answer has from ``position`` on."""
        skip, wanted = position - given.begin, given.end - position
        for data in given.answer.raw():
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
