"""Blobs into a registry.

Hides in which of the ways that registries know a blob goes there: mounted, as a whole, in chunks. Invariant: the
registry is asked for a blob before it is sent; a way that it refuses is not the last one while there is another; what
was begun and not finished is given up.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.stopping import Stopped
from pylxc.registry.transport import Attempts
from pylxc.registry.uploadsession import Asking, OtherWay, Passing, UploadSession, begin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pylxc.registry.progress import Reporter
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

_READ = 256 * 1024
_CHUNKS = (16 << 20, 4 << 20, 1 << 20)  # bytes, for a registry or a proxy that does not take a blob in one request
_TRIES = 2  # of requests of one size that break, before smaller ones
_OK, _NOT_FOUND, _TOO_LARGE = 200, 404, 413
_NO_ANSWER = frozenset({403, 405, 501})  # to a HEAD: of some registries, and of what stands before them


class Content(Protocol):
    """What is sent: bytes that can be read from any place, several times."""

    def seek(self, offset: int, /) -> object:
        """Go to a place."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


class Uploads:
    """Sends blobs to one repository."""

    def __init__(
        self, transport: Transport, site: Site, repository: str, reporter: Reporter, stop: Stop | None = None
    ) -> None:
        self._asking = Asking(transport, site, repository, stop)
        self._settings = transport.settings
        self._reporter = reporter
        self._stop = stop

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether the repository has a blob."""
        asking = self._asking
        question = asking.question("HEAD", asking.site.url(f"{asking.repository}/blobs/{descriptor.digest}"))
        answer = asking.transport.ask(question, (_OK, _NOT_FOUND), self._stop)
        answer.close()
        return answer.status == _OK

    def _is_known(self, descriptor: Descriptor) -> bool:
        """Say likewise; a registry that does not tell is sent it, and says then whether it may be."""
        try:
            return self.has(descriptor)
        except RegistryError as error:
            if error.status in _NO_ANSWER:
                return False
            raise

    def push(self, descriptor: Descriptor, source: Content, mount_from: Iterable[str] = ()) -> str:
        """Send a blob, unless it is there or another repository of the registry has it.

        ``source`` can be read and sought; its position does not matter. Returns "present", "mounted" or "uploaded".
        """
        size = descriptor.size
        if self._is_known(descriptor):
            self._reporter.tell("present", descriptor.digest, size, size)
            return "present"
        with _given_up() as sessions:
            for repository in mount_from:
                try:
                    session = begin(self._asking, descriptor.digest, repository)
                except RegistryError:
                    continue  # it may not be read by this login, for instance: it was worth a try only
                if session is None:
                    self._reporter.tell("mounted", descriptor.digest, size, size)
                    return "mounted"
                sessions.append(session)
            self._send(descriptor, source, sessions)
        self._reporter.tell("uploaded", descriptor.digest, size, size)
        return "uploaded"

    def push_stream(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send what is not known before its end, as it is made, in chunks; return what it was.

        Some ``Settings.part`` bytes of it are in memory, to be sent again where a connection breaks.
        """
        with _given_up() as sessions:
            sessions.append(self._begun())
            descriptor = self._send_stream(sessions[0], chunks, media_type)
        self._reporter.tell("uploaded", descriptor.digest, descriptor.size, descriptor.size)
        return descriptor

    def _send_stream(self, session: UploadSession, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        hasher = hashlib.sha256()
        pending, most = bytearray(), max(self._settings.part, session.least)
        try:
            for data in chunks:
                hasher.update(data)
                pending += data
                while len(pending) >= most:
                    _send_part(session, bytes(pending[:most]))
                    del pending[:most]
            if pending:
                _send_part(session, bytes(pending))
            descriptor = Descriptor(media_type, f"sha256:{hasher.hexdigest()}", session.offset)
            self._finish(session, descriptor)
        except (OtherWay, Passing) as problem:
            raise problem.error from problem
        return descriptor

    def _finish(self, session: UploadSession, descriptor: Descriptor) -> None:
        try:
            session.finish(descriptor)
        except Passing:
            if not self._is_known(descriptor):  # else it was its answer only that was lost
                raise

    def _begun(self) -> UploadSession:
        session = begin(self._asking)
        assert session is not None  # noqa: S101  only a mount ends without one
        return session

    def _send(self, descriptor: Descriptor, source: Content, sessions: list[UploadSession]) -> None:
        """Send a blob in one way after the other; the last of the ``sessions``, if there is one, is still new."""
        if not sessions:
            sessions.append(self._begun())
        ways = _ways(descriptor.size, self._settings.chunk, sessions[-1].least)
        while True:
            chunk = ways.pop(0)
            try:
                self._send_so(descriptor, source, sessions, chunk, is_last=not ways)
            except OtherWay as problem:
                status = problem.error.status
                if status not in (0, _TOO_LARGE):  # it is not their size that chunks are refused for
                    ways = ways[-1:]
                if not ways or (status == _TOO_LARGE and not ways[0]):
                    raise problem.error from problem
                self._reporter.tell("retrying", descriptor.digest, 0, descriptor.size)
                sessions.append(self._begun())
            else:
                return

    def _send_so(
        self, descriptor: Descriptor, source: Content, sessions: list[UploadSession], chunk: int, *, is_last: bool
    ) -> None:
        """Send a blob in chunks, or (0) as a whole; starts again where the registry has lost what it had."""
        attempts, broken = Attempts(self._settings, self._stop), 0
        while True:
            try:
                self._send_all(sessions[-1], descriptor, source, chunk)
            except Passing as problem:
                self._asking.pause(attempts, problem)
                if self._is_known(descriptor):  # it was its answer only that was lost
                    return
                broken += not problem.error.status
                if broken >= _TRIES and not is_last:
                    raise OtherWay(problem.error) from problem
            else:
                return
            self._reporter.tell("retrying", descriptor.digest, 0, descriptor.size)
            sessions.append(self._begun())

    def _send_all(self, session: UploadSession, descriptor: Descriptor, source: Content, chunk: int) -> None:
        size = descriptor.size
        if not 0 < chunk < size:
            session.send_whole(descriptor, lambda first: self._reading(source, first, size, descriptor))
            return
        tries = 0
        while session.offset < size:
            before, last = session.offset, min(session.offset + chunk, size)
            session.send_chunk(last, self._reading(source, before, last, descriptor))
            tries = tries + 1 if session.offset == before else 0
            if tries == _TRIES:
                raise OtherWay(self._asking.stuck)
        session.finish(descriptor)

    def _reading(self, source: Content, first: int, last: int, descriptor: Descriptor) -> Callable[[], Iterable[bytes]]:
        """Return what gives the bytes [first, last) of a source anew for each try."""

        def read() -> Iterator[bytes]:
            source.seek(first)
            position = first
            while position < last:
                data = source.read(min(_READ, last - position))
                if not data:
                    raise IntegrityError(descriptor.digest, f"{descriptor.size} bytes", f"{position} bytes")
                yield data
                position += len(data)
                self._reporter.tell("uploading", descriptor.digest, position, descriptor.size)

        return read


def _ways(size: int, chunk: int, least: int) -> list[int]:
    """Return how many bytes of a blob a request is to have in the ways to try; 0 stands for all.

    The whole is the last one, even where it was the first: for those that take no chunks, and break now and then.
    """
    first = max(chunk, least) if 0 < chunk < size else 0
    smaller = {max(each, least) for each in _CHUNKS}
    chunks = [each for each in sorted(smaller, reverse=True) if each < (first or size)]
    return [first, *chunks, 0] if first or chunks else [0]


@contextmanager
def _given_up() -> Iterator[list[UploadSession]]:
    """Take the uploads that are begun in the block; those that are not finished then are given up.

    Not before its end: the registry may still be busy with one whose answer did not come. An interrupt is not kept
    waiting for it.
    """
    sessions: list[UploadSession] = []
    try:
        yield sessions
    except Exception:
        _give_up(sessions)
        raise
    _give_up(sessions)


def _give_up(sessions: Iterable[UploadSession]) -> None:
    with suppress(RegistryError, Stopped):  # it removes them some time anyway; after one failure it is asked no more
        for session in sessions:
            session.give_up()


def _send_part(session: UploadSession, data: bytes) -> None:
    """Send bytes that are in memory as one chunk."""
    begin_, last = session.offset, session.offset + len(data)
    while session.offset < last:
        rest = data[session.offset - begin_ :]
        session.send_chunk(last, lambda rest=rest: [rest])  # type: ignore[misc]
