"""Files from the web: one URL, one file on disk.

Hides requests, redirects, retries and what a server says of a file's age. Invariant: what is fetched goes to disk as it
comes and never beyond a limit; a name and a password in a URL go to its own server alone, and into no message.

Source: RFC 9110 (8.8, 13.1, 15.4: validators, conditional requests, redirects); BuildKit's HTTP source.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from pylxc.build.confined import ContextError
from pylxc.build.urls import shown
from pylxc.errors import RegistryError
from pylxc.registry.connections import Connections
from pylxc.registry.problems import Broken, clean
from pylxc.registry.settings import Settings
from pylxc.registry.sites import followed, origin
from pylxc.registry.transport import REDIRECTS, TRANSIENT, Attempts, retry_after
from pylxc.store.layout import explained
from pylxc.values import frozen

if TYPE_CHECKING:
    from pylxc.registry.connections import Answer

LARGEST = 1 << 35  # bytes of one file
_OK, _NOT_MODIFIED = 200, 304
_LARGEST_TIME = 253402300799  # the end of the year 9999


@frozen
class Memory:
    """What is known of a URL since the last time: the server's validators and what the file was."""

    etag: str
    modified: str
    digest: str


@frozen
class Download:
    """What came: the SHA-256 ("sha256:...") and the time (s since the epoch, 0 where the server does not say)."""

    digest: str
    mtime: int
    memory: Memory


def fetch(
    url: str, path: str, *, known: Memory | None = None, checksum: str = "", settings: Settings | None = None
) -> Download | None:
    """Fetch a URL into a new file; None when the server says that it is what is ``known``.

    Raises :class:`ContextError`, and :class:`~pylxc.errors.StoreError` where the disk is full.
    """
    _check(url)
    settings = settings or Settings.load()
    with closing(Connections(settings)) as connections:
        request = _Request(url, known, connections, settings)
        try:
            return _attempt(request, path, checksum)
        except RegistryError as error:  # of a redirect, an encoding, a proxy
            raise ContextError(shown(url), f"cannot be fetched: {error}") from error


@frozen
class _Request:
    url: str
    known: Memory | None
    connections: Connections
    settings: Settings

    def error(self, reason: str) -> ContextError:
        return ContextError(shown(self.url), reason)


def _attempt(request: _Request, path: str, checksum: str) -> Download | None:
    attempts = Attempts(request.settings)
    while True:
        wait = None
        try:
            answer = _answer(request)
            if answer.status not in TRANSIENT:
                return _received(request, answer, path, checksum)
            problem = f"answers with status {answer.status}; try later"
            wait = retry_after(answer.header("Retry-After"))
            answer.start_of_body()
        except Broken as broken:
            remedy = "" if "check" in broken.reason else "; check the URL and the network"
            problem = f"cannot be fetched: {broken.reason}{remedy}"
            if not broken.may_pass or broken.is_absent:
                raise request.error(problem) from broken
        if attempts.is_over():
            raise request.error(problem)
        attempts.pause(wait)


def _check(url: str) -> None:
    try:
        scheme, host, _ = origin(url)
    except ValueError as error:
        raise ContextError(clean(url), f"is no URL: {error}") from None
    if scheme not in ("http", "https") or not host or not url.isprintable():
        raise ContextError(clean(shown(url)), "is no URL that can be fetched: write https://host/path")


def _answer(request: _Request) -> Answer:
    """Ask, and go where the server sends us; credentials go no further than to where the URL says."""
    url, is_home = request.url, True
    private = _credentials(url)
    url = urlunsplit(urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2], fragment=""))
    for _ in range(request.settings.redirects + 1):
        headers = {"User-Agent": request.settings.user_agent, "Accept-Encoding": "identity"}
        headers |= _conditions(request.known) | (private if is_home else {})
        answer = request.connections.send("GET", url, headers, is_home=is_home)
        if answer.status not in REDIRECTS:
            return answer
        location = answer.header("Location")
        answer.start_of_body()
        # From http to http nothing is lost; from https to http the file would be anybody's.
        target = followed(url, location, lambda _host: True)
        is_home = is_home and origin(target) == origin(url)
        url = target
    raise request.error(f"is redirected more than {request.settings.redirects} times; name where it leads")


def _credentials(url: str) -> dict[str, str]:
    user, marked, _ = urlsplit(url).netloc.rpartition("@")
    if not marked:
        return {}
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _conditions(known: Memory | None) -> dict[str, str]:
    if known is None:
        return {}
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.modified} if known.modified else {}


def _received(request: _Request, answer: Answer, path: str, checksum: str) -> Download | None:
    """Write the body to a file."""
    if answer.status == _NOT_MODIFIED and request.known is not None:
        answer.start_of_body()
        return None
    if answer.status != _OK:
        answer.start_of_body()
        raise request.error(f"answers with status {answer.status}: check the URL, and whether it needs a login")
    algorithm = checksum.partition(":")[0] or "sha256"
    total, wanted = hashlib.sha256(), hashlib.new(algorithm)
    size = 0
    with closing(answer):
        if (answer.length or 0) > LARGEST:
            raise request.error(f"has {answer.length} bytes, more than the {LARGEST} that are allowed")
        with explained(path), open(path, "wb") as file:  # noqa: PTH123
            for data in answer.chunks():
                size += len(data)
                if size > LARGEST:
                    raise request.error(f"has more than the {LARGEST} bytes that are allowed")
                total.update(data)
                wanted.update(data)
                file.write(data)
    found = f"{algorithm}:{wanted.hexdigest()}"
    if checksum and found != checksum:
        raise request.error(f"has the checksum {found}, not {checksum}: it is another file than was meant")
    modified = clean(answer.header("Last-Modified"))
    digest = f"sha256:{total.hexdigest()}"
    return Download(digest, _seconds(modified), Memory(clean(answer.header("ETag")), modified, digest))


def _seconds(text: str) -> int:
    """Return the time that a Last-Modified tells, 0 where it tells none."""
    try:
        seconds = int(email.utils.parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0
    return seconds if 0 <= seconds <= _LARGEST_TIME else 0
