"""Blobs into a registry.

Hides upload sessions: where the next request goes, and how much of a blob is there already. Invariant: the registry is
asked for a blob before it is sent; what breaks is resumed where the registry says that it is, and started again where
it has forgotten. Source: distribution-spec, "Pushing blobs".
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from attrs import define, evolve, field

from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.sites import followed
from pylxc.registry.transport import TRANSIENT, Attempts, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pylxc.registry.connections import Answer
    from pylxc.registry.progress import Reporter
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

_READ = 256 * 1024
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_LEAST = re.compile(r"[0-9]{1,9}")
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _NOT_FOUND, _BAD_RANGE = 200, 201, 202, 204, 404, 416
_BINARY = {"Content-Type": "application/octet-stream"}


class Content(Protocol):
    """What is sent: bytes that can be read from any place, several times."""

    def seek(self, offset: int, /) -> object:
        """Go to a place."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


@define
class _Session:
    """An upload under way: where its next request goes, and how many bytes the registry has."""

    url: str
    offset: int = 0
    least: int = 0  # bytes of a chunk that the registry insists on
    attempts: Attempts = field(kw_only=True)


class Uploads:
    """Sends blobs to one repository."""

    def __init__(
        self, transport: Transport, site: Site, repository: str, reporter: Reporter, stop: Stop | None = None
    ) -> None:
        self._transport = transport
        self._site = site
        self._repository = repository
        self._reporter = reporter
        self._stop = stop

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether the repository has a blob."""
        question = self._question("HEAD", self._site.url(f"{self._repository}/blobs/{descriptor.digest}"))
        answer = self._transport.ask(question, (_OK, _NOT_FOUND), self._stop)
        answer.close()
        return answer.status == _OK

    def push(self, descriptor: Descriptor, source: Content, mount_from: Iterable[str] = ()) -> str:
        """Send a blob, unless it is there or another repository of the registry has it.

        ``source`` can be read and sought; its position does not matter. Returns "present", "mounted" or "uploaded".
        """
        size = descriptor.size
        if self.has(descriptor):
            self._reporter.tell("present", descriptor.digest, size, size)
            return "present"
        session: _Session | None = None
        for repository in mount_from:
            try:
                session = self._begin(descriptor.digest, repository)
            except RegistryError:
                continue  # it may not be read by this login, for instance: it was worth a try only
            if session is None:
                self._reporter.tell("mounted", descriptor.digest, size, size)
                return "mounted"
        self._send(descriptor, source, session)
        self._reporter.tell("uploaded", descriptor.digest, size, size)
        return "uploaded"

    def push_stream(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send what is not known before its end, as it is made; return what it was.

        Some ``Settings.part`` bytes of it are in memory, to be sent again where a connection breaks.
        """
        session, hasher = self._begin(), hashlib.sha256()
        assert session is not None  # noqa: S101  only a mount ends without one
        pending, most = bytearray(), max(self._transport.settings.part, session.least)
        for data in chunks:
            hasher.update(data)
            pending += data
            while len(pending) >= most:
                self._send_part(session, bytes(pending[:most]))
                del pending[:most]
        if pending:
            self._send_part(session, bytes(pending))
        descriptor = Descriptor(media_type, f"sha256:{hasher.hexdigest()}", session.offset)
        self._finish(session, descriptor)
        self._reporter.tell("uploaded", descriptor.digest, descriptor.size, descriptor.size)
        return descriptor

    def _question(self, method: str, url: str, *, mounted: str = "") -> Question:
        scopes = {f"repository:{self._repository}:pull,push"}
        if mounted:
            scopes.add(f"repository:{mounted}:pull")
        what = f"{self._site.name}/{self._repository}"
        return Question(what=what, site=self._site, method=method, url=url, scopes=frozenset(scopes))

    def _begin(self, digest: str = "", repository: str = "") -> _Session | None:
        """Begin an upload; None where the blob could be mounted from another repository instead."""
        url = self._site.url(f"{self._repository}/blobs/uploads/")
        if repository:
            url += f"?mount={quote(digest, safe='')}&from={quote(repository, safe='')}"
        # A body of no bytes, for the sake of servers that want a Content-Length of every POST.
        question = evolve(self._question("POST", url, mounted=repository), body=list)
        answer = self._transport.ask(question, (_CREATED, _ACCEPTED), self._stop)
        answer.close()
        if answer.status == _CREATED:
            if repository:
                return None
            raise RegistryError(f"{question.what}: {self._site.name} says that it has what it was not sent")
        least = answer.header("OCI-Chunk-Min-Length")
        return _Session(
            self._next(answer),
            least=int(least) if _LEAST.fullmatch(least) else 0,
            attempts=Attempts(self._transport.settings, self._stop),
        )

    def _next(self, answer: Answer) -> str:
        """Return the URL for the next request of an upload."""
        location = answer.header("Location")
        if not location:
            raise RegistryError(f"{self._site.name}/{self._repository}: the registry does not say where to send it")
        return followed(answer.url, location, self._transport.settings.may_be_plain)

    def _send(self, descriptor: Descriptor, source: Content, session: _Session | None) -> None:
        """Send a blob; starts again where the registry has lost what it had."""
        attempts = Attempts(self._transport.settings, self._stop)
        while True:
            session = session or self._begin()
            assert session is not None  # noqa: S101  only a mount ends without one
            try:
                self._send_all(session, descriptor, source)
            except RegistryError as error:
                is_lost = error.status in (_NOT_FOUND, _BAD_RANGE, *TRANSIENT) or not (error.status or error.code)
                if not is_lost or attempts.is_over():
                    raise
                self._reporter.tell("retrying", descriptor.digest, 0, descriptor.size)
                attempts.pause()
                session = None
            else:
                return

    def _send_all(self, session: _Session, descriptor: Descriptor, source: Content) -> None:
        size, chunk = descriptor.size, max(self._transport.settings.chunk, session.least)
        if size <= chunk:
            self._finish(session, descriptor, self._reading(source, 0, size, descriptor))
            return
        while session.offset < size:
            last = min(session.offset + chunk, size)
            body = self._reading(source, session.offset, last, descriptor)
            self._send_chunk(session, last, body)
        self._finish(session, descriptor)

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

    def _send_part(self, session: _Session, data: bytes) -> None:
        """Send bytes that are in memory as one chunk."""
        begin = session.offset
        last = begin + len(data)
        while session.offset < last:
            rest = data[session.offset - begin :]
            self._send_chunk(session, last, lambda rest=rest: [rest])  # type: ignore[misc]

    def _send_chunk(self, session: _Session, last: int, body: Callable[[], Iterable[bytes]]) -> None:
        """Send the bytes up to ``last``; the session knows then how many the registry has, which may be fewer."""
        before, length = session.offset, last - session.offset
        headers = _BINARY | {"Content-Range": f"{before}-{last - 1}"}
        question = evolve(
            self._question("PATCH", session.url), headers=headers, body=body, length=length, is_repeatable=False
        )
        try:
            answer = self._transport.ask(question, (_ACCEPTED, _NO_CONTENT, _CREATED, _BAD_RANGE), self._stop)
        except RegistryError as error:
            if error.status and error.status < 500:  # noqa: PLR2004  it was refused, and will be again
                raise
            answer = None
        if answer is not None and answer.status != _BAD_RANGE:
            answer.close()
            session.url = self._next(answer)
            self._note(session, answer, before, last, otherwise=last)
            return
        if answer is not None:
            answer.close()
        self._resume(session, before, last)

    def _resume(self, session: _Session, before: int, last: int) -> None:
        """Ask the registry how far it got; it may get nowhere a few times only."""
        if session.attempts.is_over():
            raise RegistryError(f"{self._site.name}/{self._repository}: an upload does not get on; try again later")
        session.attempts.pause()
        answer = self._transport.ask(self._question("GET", session.url), (_NO_CONTENT, _ACCEPTED), self._stop)
        answer.close()
        if answer.header("Location"):
            session.url = self._next(answer)
        self._note(session, answer, before, last, otherwise=before)

    def _note(self, session: _Session, answer: Answer, before: int, last: int, *, otherwise: int) -> None:
        """Note how many bytes the registry says it has; "0-0" is said for none and for one, so it counts as none."""
        match = _RANGE.fullmatch(answer.header("Range"))
        has = otherwise if match is None else int(match[1]) + 1 if int(match[1]) else 0
        if not before <= has <= last:
            what = f"{self._site.name}/{self._repository}"
            reason = f"has {has} bytes of an upload of which it was sent {last}, and had {before}"
            raise RegistryError(f"{what}: the registry {reason}", status=_BAD_RANGE)
        session.attempts.came(has - before)
        session.offset = has

    def _finish(
        self, session: _Session, descriptor: Descriptor, body: Callable[[], Iterable[bytes]] | None = None
    ) -> None:
        """End an upload, with all of the blob or after it. The registry checks the digest."""
        separator = "&" if "?" in session.url else "?"
        url = f"{session.url}{separator}digest={quote(descriptor.digest, safe='')}"
        length = descriptor.size if body is not None else 0
        question = evolve(
            self._question("PUT", url), headers=_BINARY, body=body or (list), length=length,
            is_repeatable=body is None,
        )  # fmt: skip
        answer = self._transport.ask(question, (_CREATED, _NO_CONTENT, _ACCEPTED), self._stop)
        answer.close()
        said = answer.header("Docker-Content-Digest")
        if said and said != descriptor.digest:
            raise IntegrityError(question.what, descriptor.digest, said if len(said) < 200 else "another")  # noqa: PLR2004
