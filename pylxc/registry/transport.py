"""One request to a registry, until it succeeds or cannot.

Hides redirects, renewed tokens and retries. Invariant: credentials and headers of the user's go to the registry alone,
and no more once it has sent us to another host; a request is authorised anew once, and repeated as often as the
settings say, with growing pauses, if the registry does not ask for longer ones; a mirror that failed is asked no more.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from attrs import field, frozen

from pylxc.documents import INDEXES, MANIFESTS
from pylxc.errors import RegistryError
from pylxc.registry.connections import Connections
from pylxc.registry.problems import Broken, refusal
from pylxc.registry.settings import bare_host
from pylxc.registry.sites import Site, followed, is_loopback, origin, shown, site_of
from pylxc.registry.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pylxc.registry.connections import Answer
    from pylxc.registry.credentialhelper import Credentials
    from pylxc.registry.settings import Settings
    from pylxc.registry.stopping import Stop
    from pylxc.registry.tokens import TokenRequest

ACCEPTED = ", ".join(sorted(MANIFESTS | INDEXES))  # what a manifest may be
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_REFUSALS = range(400, 500)
_BAD_REQUEST, _UNAUTHORIZED = 400, 401
_DIGITS = 9  # of a number of seconds; more are cut off, the wait is limited anyway
_ENOUGH = 64 * 1024  # bytes that have to come before a broken connection counts as a first failure again


@frozen(kw_only=True)
class Question:
    """One request: ``what`` is asked for in words, at a ``url`` of a ``site``.

    ``scopes``: what a token has to allow ("repository:library/redis:pull"). ``body`` gives the bytes anew for each try,
    ``length`` of them. ``is_repeatable``: whether it may be asked again where it fails: not where that does harm, nor
    of a mirror.
    """

    what: str
    site: Site
    method: str
    url: str
    scopes: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(factory=dict)
    body: Callable[[], Iterable[bytes]] | None = field(default=None, repr=False)
    length: int = 0
    is_repeatable: bool = True


class Attempts:
    """Counts failures in a row, and pauses between them."""

    def __init__(self, settings: Settings, stop: Stop | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._failures = 0
        self._since = 0

    def came(self, count: int) -> None:
        """Note that so many bytes came: after enough of them, failures are counted anew."""
        self._since += count
        if self._since >= _ENOUGH:
            self._failures = self._since = 0

    def is_over(self) -> bool:
        """Say whether there is no further try."""
        return self._failures >= self._settings.retries

    def pause(self, asked: float | None = None) -> None:
        """Count a failure and wait before the next try; ``asked`` is what the registry wants to be waited (s)."""
        most = self._settings.backoff * 2**self._failures
        self._failures += 1
        self._since = 0
        wanted = asked if asked is not None else random.uniform(most / 2, most)  # noqa: S311  jitter is no secret
        seconds = min(wanted, self._settings.longest_wait)
        if self._stop is not None:
            self._stop.sleep(seconds)
        else:
            time.sleep(seconds)


class Transport:
    """Asks registries; threads may share it. ``given`` and ``is_login``: see :class:`~pylxc.registry.tokens.Tokens`.

    ``stop`` ends the requests that have none of their own.
    """

    def __init__(
        self,
        settings: Settings,
        given: Mapping[str, Credentials] | None = None,
        *,
        is_login: bool = False,
        stop: Stop | None = None,
    ) -> None:
        self.settings = settings
        self.stop = stop
        self._connections = Connections(settings)
        self.tokens = Tokens(settings, self._ask_token_server, given, is_login=is_login)
        self._lock = threading.Lock()
        self._sites: dict[str, Site] = {}
        self._mirrors: dict[str, list[Site]] = {}
        self._failed: set[str] = set()
        self._reached: set[str] = set()
        self._headers: Mapping[str, str] | None = None

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def site(self, host: str) -> Site:
        """Return where a registry is; asks hosts that may do without TLS whether they do.

        A URL is taken at its word: it is one that the user wrote.
        """
        scheme, marked, _ = host.partition("://")
        if marked:
            return site_of(host, "http" if scheme == "http" else "https")
        with self._lock:
            if host not in self._sites:
                self._sites[host] = self._find(host)
            return self._sites[host]

    def sites(self, host: str) -> list[Site]:
        """Return where a registry's content is to be had: its mirrors that have not failed, then itself."""
        mirrors = self._mirrors.get(host)
        if mirrors is None:  # once: what is said about a host is partly in files, and each piece of a blob asks
            mirrors = self._mirrors[host] = [self.site(mirror) for mirror in self.settings.host(host).mirrors]
        return [*(mirror for mirror in mirrors if mirror.base not in self._failed), self.site(host)]

    def leave_out(self, mirror: Site, problem: Exception) -> None:
        """Ask a mirror no more, because of a problem with it; that it lacks something, or refuses it, is none."""
        if isinstance(problem, RegistryError) and problem.status in _REFUSALS and problem.status not in TRANSIENT:
            return
        self._failed.add(mirror.base)

    def _find(self, host: str) -> Site:
        secure, plain = site_of(host, "https"), site_of(host, "http")
        if self.settings.host(secure.name).ca is not None or not self.settings.may_be_plain(secure.name):
            return secure
        # On this machine nobody listens on the way, and servers without TLS may wait for ever for the rest of a line
        # when they are greeted in TLS. Elsewhere TLS is better than none, even with anybody's certificate.
        if is_loopback(bare_host(secure.name)):
            return plain if self._speaks(plain) else secure
        return secure if self._speaks(secure) else plain

    def _speaks(self, site: Site) -> bool:
        """Say whether a registry answers at a URL, to a request without credentials."""
        try:
            answer = self._connections.send("GET", site.url(""), self._base_headers())
        except Broken:
            return False
        answer.start_of_body()
        return answer.status != _BAD_REQUEST and answer.status not in REDIRECTS

    def ask(self, question: Question, expected: Collection[int], stop: Stop | None = None) -> Answer:
        """Return the answer to a question, if it has an expected status; the caller closes it.

        Raises RegistryError, AuthError, and Stopped.
        """
        stop = stop or self.stop
        answer = self._repeated(question, lambda: self._authorised(question, stop), stop)
        if answer.status in expected:
            return answer
        body = answer.start_of_body()
        raise refusal(answer.status, body, question.what, question.site.name, question.length)

    def fetch(self, question: Question, expected: Collection[int], limit: int) -> tuple[Answer, bytes]:
        """Return the answer to a question with its whole body, of ``limit`` bytes at most (else IntegrityError)."""
        attempts = Attempts(self.settings, self.stop)
        while True:
            answer = self.ask(question, expected)
            try:
                return answer, answer.body(limit, question.what)
            except Broken as problem:
                if not question.is_repeatable or attempts.is_over():
                    raise problem.as_error(question.what) from problem
                attempts.pause()

    def _repeated(self, question: Question, send: Callable[[], Answer], stop: Stop | None) -> Answer:
        """Send until there is an answer that another try would not change, or no further try."""
        attempts = Attempts(self.settings, stop)
        while True:
            try:
                answer = send()
            except Broken as problem:
                is_final = not problem.may_pass or not question.is_repeatable or attempts.is_over()
                if is_final or (problem.is_absent and self._is_new(question)):
                    raise problem.as_error(question.what) from problem
                attempts.pause()
                continue
            with self._lock:
                self._reached.add(question.site.base)
            if answer.status not in TRANSIENT or not question.is_repeatable or attempts.is_over():
                return answer
            asked = retry_after(answer.header("Retry-After"))
            if (asked or 0) > self.settings.longest_wait:
                return answer
            answer.start_of_body()
            attempts.pause(asked)

    def _is_new(self, question: Question) -> bool:
        """Say whether this registry has never answered: then the name or the port is wrong, more likely than not."""
        with self._lock:
            return question.site.base not in self._reached

    def _authorised(self, question: Question, stop: Stop | None) -> Answer:
        site, scopes = question.site, question.scopes
        used = self.tokens.header(site, scopes, stop)
        answer = self._followed(question, self._private(used), stop)
        if answer.status != _UNAUTHORIZED or not answer.is_home:
            return answer
        try:
            is_renewed = self.tokens.renew(site, scopes, used, answer.headers("WWW-Authenticate"))
        except BaseException:
            answer.close()
            raise
        if not is_renewed:
            return answer
        answer.start_of_body()
        return self._followed(question, self._private(self.tokens.header(site, scopes, stop)), stop)

    def _private(self, authorization: str) -> dict[str, str]:
        """Return the headers that are the registry's alone."""
        if self._headers is None:
            self._headers = self.settings.config.headers()
        return {**self._headers, **({"Authorization": authorization} if authorization else {})}

    def _followed(self, question: Question, private: Mapping[str, str], stop: Stop | None) -> Answer:
        """Send the request, and go where the registry sends us; ``private`` goes no further than to the registry."""
        url, is_home = question.url, origin(question.url) == origin(question.site.base)
        for _ in range(self.settings.redirects + 1):
            headers = (dict(private) if is_home else {}) | self._base_headers() | dict(question.headers)
            if question.body is not None:
                headers["Content-Length"] = str(question.length)
            body = question.body() if question.body is not None else None
            answer = self._connections.send(question.method, url, headers, body, is_home=is_home, stop=stop)
            location = answer.header("Location")
            if answer.status not in REDIRECTS or not location:
                return answer
            if question.method not in ("GET", "HEAD") and not _is_same_request(answer, location):
                return answer
            answer.start_of_body()
            target = followed(url, location, self.settings.may_be_plain)
            is_home = is_home and origin(target) == origin(url)
            url = target
        raise RegistryError(
            f"{question.what}: {shown(question.url)} sends pylxc from one place to the next without end"
        )

    def _ask_token_server(self, site: Site, request: TokenRequest, stop: Stop | None) -> Answer:
        """Ask a token server, as if it were a registry of its own that wants nothing."""
        body = request.body
        question = Question(
            what=f"a token for {site.name}",
            site=Site(site.name, shown(request.url)),
            method=request.method,
            url=request.url,
            headers={key: value for key, value in request.headers.items() if key != "Authorization"},
            body=None if body is None else lambda: [body],
            length=len(body or b""),
        )
        private = {key: value for key, value in request.headers.items() if key == "Authorization"}
        return self._repeated(question, lambda: self._followed(question, private, stop), stop)

    def _base_headers(self) -> dict[str, str]:
        return {"User-Agent": self.settings.user_agent, "Accept-Encoding": "identity"}


def _is_same_request(answer: Answer, location: str) -> bool:
    """Say whether a redirect asks for the same method and body at the same server: what is sent is for no other one."""
    with suppress(ValueError):
        return answer.status in _SAME_METHOD and origin(urljoin(answer.url, location)) == origin(answer.url)
    return False


def retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); None for neither."""
    if text.isascii() and text.isdigit():
        return float(text[:_DIGITS])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
