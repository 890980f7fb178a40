"""One upload of a blob, from the registry's word where to send it to its word that it is there.

Hides where the next request goes, and how much the registry has. Invariant: what breaks is resumed where the registry
says that it is; a registry that gets nowhere is asked a few times only. Source: distribution-spec, "Pushing blobs".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from attrs import define, evolve, field, frozen

from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.problems import refusal
from pylxc.registry.sites import followed
from pylxc.registry.transport import TRANSIENT, Attempts, Question, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pylxc.documents import Descriptor
    from pylxc.registry.connections import Answer
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop
    from pylxc.registry.transport import Transport

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_LEAST = re.compile(r"[0-9]{1,9}")
_CREATED, _ACCEPTED, _NO_CONTENT, _NOT_FOUND, _TOO_LARGE, _BAD_RANGE = 201, 202, 204, 404, 413, 416
_LOST = frozenset({_NOT_FOUND, _BAD_RANGE})  # what is said of an upload that is not there any more
_LOGIN = frozenset({401, 403})
_BINARY = {"Content-Type": "application/octet-stream"}
_LONGEST_SHOWN = 200


class Passing(Exception):  # noqa: N818  an event on the way; callers see its ``error``
    """It may go better in a new upload; ``asked``: how long the registry wants to be left alone (s)."""

    def __init__(self, error: RegistryError, asked: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.asked = asked


class OtherWay(Exception):  # noqa: N818  likewise
    """The registry does not take chunks, or not as much at once: it may take the blob in another way."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(str(error))
        self.error = error


@frozen
class Asking:
    """Asks one repository of one registry on behalf of uploads."""

    transport: Transport
    site: Site
    repository: str
    stop: Stop | None = None

    @property
    def what(self) -> str:
        """What errors call the repository."""
        return f"{self.site.name}/{self.repository}"

    @property
    def stuck(self) -> RegistryError:
        """The error for an upload of which the registry has no more after several tries."""
        return RegistryError(f"{self.what}: an upload does not get on; try again later")

    def question(self, method: str, url: str, *, mounted: str = "") -> Question:
        """Return a request that may push, and pull from a repository that is ``mounted`` from."""
        scopes = {f"repository:{self.repository}:pull,push"}
        if mounted:
            scopes.add(f"repository:{mounted}:pull")
        return Question(what=self.what, site=self.site, method=method, url=url, scopes=frozenset(scopes))

    def ask(self, question: Question, expected: Collection[int]) -> Answer:
        """Ask; the answer is closed, of an expected status. Raises Passing, RegistryError (it was refused)."""
        try:
            answer = self.transport.ask(question, (*expected, *TRANSIENT), self.stop)
        except RegistryError as error:
            if error.status or error.code:
                raise
            raise Passing(error) from error  # there was no answer
        if answer.status in expected:
            answer.close()
            return answer
        refused = refusal(answer.status, answer.start_of_body(), question.what, self.site.name)
        raise Passing(refused, retry_after(answer.header("Retry-After")))

    def pause(self, attempts: Attempts, problem: Passing) -> None:
        """Wait before the next try, as long as the registry asks for. Raises RegistryError where there is none."""
        if attempts.is_over() or (problem.asked or 0) > self.transport.settings.longest_wait:
            raise problem.error from problem
        attempts.pause(problem.asked)

    def next_place(self, answer: Answer) -> str:
        """Return the URL for the next request of an upload. Raises RegistryError."""
        location = answer.header("Location")
        if not location:
            raise RegistryError(f"{self.what}: the registry does not say where to send it")
        return followed(answer.url, location, self.transport.settings.may_be_plain)


def begin(asking: Asking, digest: str = "", repository: str = "") -> UploadSession | None:
    """Begin an upload; None where the blob could be mounted from another repository instead."""
    url = asking.site.url(f"{asking.repository}/blobs/uploads/")
    if repository:
        url += f"?mount={quote(digest, safe='')}&from={quote(repository, safe='')}"
    # A body of no bytes, for the sake of servers that want a Content-Length of every POST.
    question = evolve(asking.question("POST", url, mounted=repository), body=list)
    answer = asking.transport.ask(question, (_CREATED, _ACCEPTED), asking.stop)
    answer.close()
    if answer.status == _CREATED:
        if repository:
            return None
        raise RegistryError(f"{asking.what}: {asking.site.name} says that it has what it was not sent")
    least = answer.header("OCI-Chunk-Min-Length")
    return UploadSession(
        asking,
        asking.next_place(answer),
        least=int(least) if _LEAST.fullmatch(least) else 0,
        attempts=Attempts(asking.transport.settings, asking.stop),
    )


@define
class UploadSession:
    """An upload under way: how many bytes of it the registry has (``offset``), and the ``least`` that a chunk may be.

    Its methods raise RegistryError where it is refused, Passing where it is to begin anew, OtherWay.
    """

    _asking: Asking
    _url: str = field(repr=False)
    least: int
    _attempts: Attempts
    offset: int = 0
    _is_over: bool = False

    def send_whole(self, descriptor: Descriptor, body_from: Callable[[int], Callable[[], Iterable[bytes]]]) -> None:
        """Send all of a blob at once; ``body_from(offset)`` gives the rest of it. Where it breaks off, that follows."""
        try:
            self.finish(descriptor, body_from(0))
        except Passing as problem:
            if problem.error.status or not self._has_kept(descriptor.size, body_from, problem):
                raise
            self.finish(descriptor)

    def _has_kept(self, size: int, body_from: Callable[[int], Callable[[], Iterable[bytes]]], problem: Passing) -> bool:
        """Send the rest of what broke off, where the registry has kept the beginning; says whether that went well."""
        try:
            self._resume(0, size, problem)
            while 0 < self.offset < size:
                self.send_chunk(size, body_from(self.offset))
        except (Passing, OtherWay, RegistryError):
            return False  # not all registries can do that: it is the first failure that counts
        return self.offset == size

    def send_chunk(self, last: int, body: Callable[[], Iterable[bytes]]) -> None:
        """Send the bytes from ``offset`` up to ``last``; ``offset`` is then what the registry has, maybe less."""
        before = self.offset
        question = evolve(
            self._asking.question("PATCH", self._url),
            headers=_BINARY | {"Content-Range": f"{before}-{last - 1}"},
            body=body,
            length=last - before,
            is_repeatable=False,
        )
        try:
            answer = self._asking.ask(question, (_ACCEPTED, _NO_CONTENT, _CREATED, _BAD_RANGE))
        except Passing as problem:
            self._resume(before, last, problem)
            return
        except RegistryError as error:
            raise _of_chunks(error) from error
        if answer.status == _BAD_RANGE:
            self._resume(before, last)
            return
        self._url = self._asking.next_place(answer)
        self._note(answer, before, last, otherwise=last)
        if self.offset == before:  # some say "accepted" of what they then do not have
            self._wait()

    def _resume(self, before: int, last: int, problem: Passing | None = None) -> None:
        """Ask the registry how far it got."""
        self._wait(problem)
        try:
            answer = self._asking.ask(self._asking.question("GET", self._url), (_NO_CONTENT, _ACCEPTED))
        except RegistryError as error:
            if problem is not None and error.status in _LOST:
                raise problem from error  # the registry lost it because of that
            raise _of_chunks(error) from error
        if answer.header("Location"):
            self._url = self._asking.next_place(answer)
        self._note(answer, before, last, otherwise=before)

    def _wait(self, problem: Passing | None = None) -> None:
        """Wait after a try that got nowhere: there may be a few of them only."""
        if self._attempts.is_over():
            raise OtherWay(self._asking.stuck)
        self._asking.pause(self._attempts, problem or Passing(self._asking.stuck))

    def _note(self, answer: Answer, before: int, last: int, *, otherwise: int) -> None:
        """Note how many bytes the registry says it has; "0-0" is said for none and for one, so it counts as none."""
        match = _RANGE.fullmatch(answer.header("Range"))
        has = otherwise if match is None else int(match[1]) + 1 if int(match[1]) else 0
        if not before <= has <= last:
            reason = f"has {has} bytes of an upload of which it was sent {last}, and had {before}"
            raise Passing(RegistryError(f"{self._asking.what}: the registry {reason}", status=_BAD_RANGE))
        self._attempts.came(has - before)
        self.offset = has

    def finish(self, descriptor: Descriptor, body: Callable[[], Iterable[bytes]] | None = None) -> None:
        """End the upload, with all of the blob or after it. The registry checks the digest."""
        separator = "&" if "?" in self._url else "?"
        url = f"{self._url}{separator}digest={quote(descriptor.digest, safe='')}"
        question = evolve(
            self._asking.question("PUT", url),
            headers=_BINARY,
            body=body or list,
            length=descriptor.size if body is not None else 0,
            is_repeatable=body is None,
        )
        try:
            answer = self._asking.ask(question, (_CREATED, _NO_CONTENT, _ACCEPTED))
        except RegistryError as error:
            if error.status == _TOO_LARGE:
                raise OtherWay(error) from error
            if error.status in _LOST:
                raise Passing(error) from error
            raise
        self._is_over = True
        said = answer.header("Docker-Content-Digest")
        if said and said != descriptor.digest:
            raise IntegrityError(
                self._asking.what, descriptor.digest, said if len(said) < _LONGEST_SHOWN else "another"
            )

    def give_up(self) -> None:
        """Tell the registry, once, that an upload that was not finished will not be. Raises RegistryError."""
        if not self._is_over:
            question = evolve(self._asking.question("DELETE", self._url), is_repeatable=False)
            self._asking.transport.ask(question, (_ACCEPTED, _NO_CONTENT, _NOT_FOUND), self._asking.stop).close()


def _of_chunks(error: RegistryError) -> Exception:
    """Return what a refusal of a chunk means."""
    if error.status in _LOST:
        return Passing(error)
    return error if error.status in _LOGIN else OtherWay(error)
