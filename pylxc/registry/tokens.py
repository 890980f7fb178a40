"""Authentication: what goes into the Authorization header of a request to a registry.

Hides Basic, Bearer, and the two ways to get a token. Invariant: a token is kept for the scopes that it was given for,
and not longer than it is good; a password is sent to the registry that it is for, or to the token server that this
registry itself named, over TLS. Sources: distribution's "Token Authentication Specification" and "OAuth2 Token
Authentication"; RFC 7235 for challenges.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attrs import define, field, frozen

from pylxc.errors import AuthError, RegistryError
from pylxc.registry.problems import told
from pylxc.registry.sites import followed, shown
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pylxc.registry.connections import Answer
    from pylxc.registry.credentialhelper import Credentials
    from pylxc.registry.settings import Settings
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop

# A scheme begins where no letter is before it: tried at each letter of a long word, it would take time by the square.
_CHALLENGE = re.compile(r'(?<![A-Za-z])([A-Za-z]+)\s+((?:[A-Za-z_]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]+)\s*,?\s*)*)')
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SCOPE = re.compile(r"[\x21-\x7e]{1,512}")
_LONGEST_CHALLENGE, _MOST_CHALLENGES = 8192, 8  # characters of a header; headers
_CLIENT = "pylxc"
_SHORTEST_LIFE, _LONGEST_LIFE = 60.0, 86400.0  # s; 60 is what the specification has where nothing is said
_OK, _UNAUTHORIZED, _NOT_FOUND, _NOT_ALLOWED = 200, 401, 404, 405


@frozen
class TokenRequest:
    """What is asked of a token server; ``headers`` has credentials, and nothing else of ours goes there."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@frozen
class Challenge:
    """What a registry wants: ``scheme`` ("basic", "bearer") and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def read_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in the first values of WWW-Authenticate; what is none is left out."""
    found = []
    for header in islice(headers, _MOST_CHALLENGES):
        for scheme, rest in _CHALLENGE.findall(header[:_LONGEST_CHALLENGE]):
            pairs = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare
                     for name, quoted, bare in _PARAMETER.findall(rest)}  # fmt: skip
            found.append(Challenge(scheme.lower(), pairs))
    return found


@frozen
class _Token:
    text: str = field(repr=False)
    good_until: float  # of the monotonic clock: a server's times are its own


@define
class _Registry:
    """What was learnt about one registry."""

    lock: threading.Lock = field(factory=threading.Lock)
    scheme: str = ""
    realm: str = ""
    service: str = ""
    credentials: Credentials | None = field(default=None, repr=False)
    tokens: dict[frozenset[str], _Token] = field(factory=dict, repr=False)
    wanted: dict[frozenset[str], frozenset[str]] = field(factory=dict)  # scopes, with those that were asked of us


class Tokens:
    """The credentials and tokens of one client; threads may share it.

    ``given`` are credentials that are used instead of the configuration's; ``is_login`` asks for a token that can be
    kept in place of the password.
    """

    def __init__(
        self,
        settings: Settings,
        ask: Callable[[Site, TokenRequest, Stop | None], Answer],
        given: Mapping[str, Credentials] | None = None,
        *,
        is_login: bool = False,
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._given = given or {}
        self._is_login = is_login
        self._lock = threading.Lock()
        self._registries: dict[str, _Registry] = {}

    def header(self, site: Site, scopes: frozenset[str], stop: Stop | None = None) -> str:
        """Return the Authorization that a registry is known to want, "" for none. Raises AuthError."""
        known = self._registry(site)
        with known.lock:
            if known.scheme == "basic":
                return self._basic(site, known)
            return f"Bearer {self._token(site, known, scopes, stop)}" if known.scheme == "bearer" else ""

    def renew(self, site: Site, scopes: frozenset[str], used: str, challenges: Iterable[str]) -> bool:
        """Learn from a 401; say whether there is now something else to try than what was used."""
        offered = {each.scheme: each.parameters for each in read_challenges(challenges)}
        known = self._registry(site)
        with known.lock:
            if offered.get("bearer", {}).get("realm"):
                self._learn(site, known, scopes, offered["bearer"])
                token = known.tokens.get(scopes)
                if token is not None and used == f"Bearer {token.text}":
                    del known.tokens[scopes]  # refused; where another thread has a newer one, that is to be tried
                return used != f"Bearer {self._credentials(site, known).registry_token}"
            if "basic" in offered:
                known.scheme = "basic"
                return self._basic(site, known) not in ("", used)
            return False

    def identity(self, site: Site) -> Credentials:
        """Return what is to be kept after a login: a token in place of the password, where there is one."""
        known = self._registry(site)
        with known.lock:
            return self._credentials(site, known)

    def _registry(self, site: Site) -> _Registry:
        with self._lock:
            return self._registries.setdefault(site.base, _Registry())

    def _credentials(self, site: Site, known: _Registry) -> Credentials:
        if known.credentials is None:
            given = self._given.get(site.name)
            known.credentials = self._settings.config.credentials(site.name) if given is None else given
        return known.credentials

    def _basic(self, site: Site, known: _Registry) -> str:
        who = self._credentials(site, known)
        if not who.username:
            return ""
        return "Basic " + base64.b64encode(f"{who.username}:{who.password}".encode()).decode()

    def _learn(self, site: Site, known: _Registry, scopes: frozenset[str], said: Mapping[str, str]) -> None:
        realm = followed(f"{site.base}/", said["realm"], self._settings.may_be_plain)
        if (realm, said.get("service", "")) != (known.realm, known.service):
            known.tokens.clear()
        known.scheme, known.realm, known.service = "bearer", realm, said.get("service", "")
        asked = [each for each in said.get("scope", "").split(" ") if _SCOPE.fullmatch(each)]
        known.wanted[scopes] = scopes | frozenset(asked[:8])

    def _token(self, site: Site, known: _Registry, scopes: frozenset[str], stop: Stop | None) -> str:
        given = self._credentials(site, known).registry_token
        if given:
            return given
        token = known.tokens.get(scopes)
        if token is None or token.good_until <= time.monotonic():
            document = self._fetch(site, known, sorted(known.wanted.get(scopes, scopes)), stop)
            token = known.tokens[scopes] = _read_token(document, known.realm)
            self._keep_refresh_token(site, known, document)
        return token.text

    def _keep_refresh_token(self, site: Site, known: _Registry, document: Mapping[str, Any]) -> None:
        """Use a newer identity token from now on, where the server gives one out."""
        fresh, who = document.get("refresh_token"), self._credentials(site, known)
        if isinstance(fresh, str) and _TOKEN.fullmatch(fresh) and (who.identity_token or self._is_login):
            known.credentials = type(who)(who.username, "", fresh)

    def _fetch(self, site: Site, known: _Registry, scopes: list[str], stop: Stop | None) -> Mapping[str, Any]:
        who = self._credentials(site, known)

        def ask(request: TokenRequest) -> tuple[int, bytes]:
            answer = self._ask(site, request, stop)
            if answer.status != _OK:
                return answer.status, answer.start_of_body()
            return answer.status, answer.body(self._settings.token_limit, f"a token from {shown(request.url)}")

        if who.identity_token:
            given = {"grant_type": "refresh_token", "refresh_token": who.identity_token}
            status, body = ask(_by_post(known, given, scopes, is_login=self._is_login))
        else:
            status, body = ask(_by_get(known, who, scopes, is_login=self._is_login))
            if status in (_NOT_FOUND, _NOT_ALLOWED) and who:
                given = {"grant_type": "password", "username": who.username, "password": who.password}
                status, body = ask(_by_post(known, given, scopes, is_login=self._is_login))
        if status != _OK:
            raise _refused(site, known, status, body, who)
        return _document(body, known.realm)


def _by_get(known: _Registry, who: Credentials, scopes: list[str], *, is_login: bool) -> TokenRequest:
    query = [("service", known.service)] if known.service else []
    query += [("scope", scope) for scope in scopes]
    headers = {}
    if who:
        pair = base64.b64encode(f"{who.username}:{who.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
        query += [("account", who.username)]
    if is_login:
        query += [("offline_token", "true"), ("client_id", _CLIENT)]
    separator = "&" if "?" in known.realm else "?"
    return TokenRequest("GET", known.realm + (separator + urlencode(query) if query else ""), headers)


def _by_post(known: _Registry, given: Mapping[str, str], scopes: list[str], *, is_login: bool) -> TokenRequest:
    form = {"service": known.service, "client_id": _CLIENT, "scope": " ".join(scopes), **given}
    if is_login:
        form["access_type"] = "offline"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest("POST", known.realm, headers, urlencode(form).encode())


def _document(body: bytes, realm: str) -> Mapping[str, Any]:
    try:
        document = parse_json(body)
    except ValueError:  # not named as the cause: it may quote a token
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{shown(realm)} answers with something that is no token", code="TOKEN")
    return document


def _read_token(document: Mapping[str, Any], realm: str) -> _Token:
    text = document.get("token") or document.get("access_token")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise RegistryError(f"{shown(realm)} answers with something that is no token", code="TOKEN")
    said = document.get("expires_in")
    life = float(said) if isinstance(said, (int, float)) and 0 < said < _LONGEST_LIFE else _SHORTEST_LIFE
    return _Token(text, time.monotonic() + life - min(10.0, life / 10))


def _refused(site: Site, known: _Registry, status: int, body: bytes, who: Credentials) -> RegistryError:
    code, said = told(body)
    where = f" ({said})" if said else ""
    if status >= 500:  # noqa: PLR2004  the server's own failures
        reason = f"{shown(known.realm)}, which gives out tokens for {site.name}, failed with status {status}{where}"
        return RegistryError(f"{reason}; try later", status=status, code=code)
    words = "refuses the credentials" if who else "gives no token to strangers"
    return AuthError(f"{site.name} {words}{where}; log in with: pylxc login {site.name}", status=status, code=code)
