"""Blobs into a registry.

Hides in which of the ways that registries know a blob goes there: mounted, as a whole, in chunks. Invariant: the
registry is asked for a blob before it is sent; a way that it refuses is not the last one while there is another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.transport import Attempts
from pylxc.registry.uploadsession import Asking, OtherWay, Passing, UploadSession, begin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pylxc.registry.progress import Reporter
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

_READ = 256 * 1024
_CHUNK = 64 << 20  # bytes, for a registry that does not take as much as a blob in one request
_OK, _NOT_FOUND = 200, 404
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
        session: UploadSession | None = None
        for repository in mount_from:
            try:
                session = begin(self._asking, descriptor.digest, repository)
            except RegistryError:
                continue  # it may not be read by this login, for instance: it was worth a try only
            if session is None:
                self._reporter.tell("mounted", descriptor.digest, size, size)
                return "mounted"
        self._send(descriptor, source, session)
        self._reporter.tell("uploaded", descriptor.digest, size, size)
        return "uploaded"

    def push_stream(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send what is not known before its end, as it is made, in chunks; return what it was.

        Some ``Settings.part`` bytes of it are in memory, to be sent again where a connection breaks.
        """
        session, hasher = self._begun(), hashlib.sha256()
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
        self._reporter.tell("uploaded", descriptor.digest, descriptor.size, descriptor.size)
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

    def _send(self, descriptor: Descriptor, source: Content, session: UploadSession | None) -> None:
        """Send a blob in the way that the settings say, or else in the other one: as a whole, or in chunks."""
        chunk = self._settings.chunk
        try:
            self._send_so(descriptor, source, session, chunk)
        except OtherWay:
            try:
                self._send_so(descriptor, source, None, 0 if chunk else _CHUNK)
            except OtherWay as problem:
                raise problem.error from problem

    def _send_so(self, descriptor: Descriptor, source: Content, session: UploadSession | None, chunk: int) -> None:
        """Send a blob in chunks, or (0) as a whole; starts again where the registry has lost what it had."""
        attempts = Attempts(self._settings, self._stop)
        while True:
            session = session or self._begun()
            try:
                self._send_all(session, descriptor, source, chunk)
            except Passing as problem:
                self._asking.pause(attempts, problem)
                if self._is_known(descriptor):  # it was its answer only that was lost
                    return
                self._reporter.tell("retrying", descriptor.digest, 0, descriptor.size)
                session = None
            else:
                return

    def _send_all(self, session: UploadSession, descriptor: Descriptor, source: Content, chunk: int) -> None:
        size, chunk = descriptor.size, max(chunk, session.least) if chunk else descriptor.size
        if size <= chunk:
            session.send_whole(descriptor, lambda first: self._reading(source, first, size, descriptor))
            return
        while session.offset < size:
            last = min(session.offset + chunk, size)
            session.send_chunk(last, self._reading(source, session.offset, last, descriptor))
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


def _send_part(session: UploadSession, data: bytes) -> None:
    """Send bytes that are in memory as one chunk."""
    begin_, last = session.offset, session.offset + len(data)
    while session.offset < last:
        rest = data[session.offset - begin_ :]
        session.send_chunk(last, lambda rest=rest: [rest])  # type: ignore[misc]
