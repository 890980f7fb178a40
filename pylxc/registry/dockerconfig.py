"""The user's docker configuration: ``~/.docker/config.json``.

Hides its format, which docker, podman and skopeo share. Invariant: what pylxc does not know in it is kept; the file is
replaced as a whole, stays its owner's and its group's and is nobody else's (0600 where it is new), and two processes
that change it do so one after the other.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field, frozen

from pylxc.errors import AuthError
from pylxc.reference import DEFAULT_HOST
from pylxc.registry.credentialhelper import CredentialHelper, Credentials
from pylxc.registry.problems import clean
from pylxc.registry.sites import HUB_KEY, known_host
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
_LONGEST = 16 << 20  # bytes
_VARIABLE = "DOCKER_AUTH_CONFIG"
_BEARER = re.compile(r"[\x21-\x7e]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1 and 5.5
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@frozen
class DockerConfig:
    """The configuration at a path, which need not be there. Each method reads it anew.

    ``given`` is JSON with "auths" that count before the file's: what the environment has as DOCKER_AUTH_CONFIG.
    ``helper_timeout`` is in seconds.
    """

    path: Path
    helper_timeout: float = 30.0
    given: str = field(default="", repr=False)

    @classmethod
    def of_user(cls, environment: Mapping[str, str]) -> DockerConfig:
        """Return the configuration of a user with this environment."""
        place = environment.get("DOCKER_CONFIG") or Path(environment.get("HOME") or Path.home()) / ".docker"
        return cls(Path(place) / "config.json", given=environment.get(_VARIABLE, ""))

    def credentials(self, host: str) -> Credentials:
        """Return the credentials for a registry ("docker.io"), empty where there are none. Raises AuthError.

        Those for one namespace of it ("registry.example/team") are for nothing else, and are not used.
        """
        given = _said_of(host, _table(_parsed(self.given.encode(), _VARIABLE), "auths"), dict)
        if given:
            return _decoded(given, _VARIABLE)
        document = self._read()
        helper = self._helper(document, host)
        if helper is not None:
            return helper.get(_key(host))
        entry = _said_of(host, _table(document, "auths"), dict)
        return _decoded(entry, str(self.path)) if entry else Credentials()

    def headers(self) -> dict[str, str]:
        """Return the headers that every request to a registry is to have (``HttpHeaders``). Raises AuthError.

        Their values are sent in UTF-8, as docker does: http.client, which encodes in Latin-1, gets those bytes.
        """
        given = {name: value for name, value in _table(self._read(), "HttpHeaders").items() if isinstance(value, str)}
        for name, value in given.items():
            if not _HEADER_NAME.fullmatch(name) or _CONTROL.search(value):
                reason = f"the header {clean(name)!r} in HttpHeaders has characters that no header may have"
                raise AuthError(f"{self.path}: {reason}: correct it", code="CONFIG")
        return {name: value.encode().decode("latin-1") for name, value in given.items()}

    def proxies(self) -> dict[str, str]:
        """Return the proxies, by scheme, and "no": what is not to go through them (``proxies.default``)."""
        given = _table(_table(self._read(), "proxies"), "default")
        return proxies_in(given, {"http": "httpProxy", "https": "httpsProxy", "no": "noProxy"})

    def save(self, host: str, credentials: Credentials) -> None:
        """Keep credentials: with the helper that the user chose, else in the file. Raises AuthError."""
        helper = self._helper(self._read(), host)
        if helper is not None:
            helper.store(_key(host), credentials)
            return
        pair = f"{credentials.username}:{credentials.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode()}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        self._change(lambda auths: _without(auths, host) | {_key(host): entry})

    def erase(self, host: str) -> bool:
        """Forget the credentials for a registry; say whether there were any. Raises AuthError."""
        document = self._read()
        helper = self._helper(document, host)
        was_in_helper = helper is not None and bool(helper.get(_key(host)))
        if helper is not None:
            helper.erase(_key(host))
        auths = _table(document, "auths")
        was_in_file = len(_without(auths, host)) < len(auths)
        if was_in_file:
            self._change(lambda auths: _without(auths, host))
        return was_in_helper or was_in_file

    def _helper(self, document: Mapping[str, Any], host: str) -> CredentialHelper | None:
        name = _said_of(host, _table(document, "credHelpers"), str) or document.get("credsStore")
        return CredentialHelper(name, self.helper_timeout) if isinstance(name, str) and name else None

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_LONGEST)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise AuthError(f"{self.path} cannot be read: {error.strerror}", code="CONFIG") from error
        return _parsed(data, str(self.path))

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        try:
            with self._locked() as path:
                document = self._read()
                document["auths"] = change(_table(document, "auths"))
                _replace(path, json.dumps(document, indent="\t").encode())
        except OSError as error:
            raise AuthError(f"{self.path} cannot be written: {error.strerror}", code="CONFIG") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Path]:
        """Keep other processes of pylxc from changing the file; gives the path that a link at its place leads to."""
        path = Path(os.path.realpath(self.path))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(directory)


def proxies_in(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies that a table has under these names, by what the names stand for."""
    return {key: given[name] for key, name in names.items() if isinstance(given.get(name), str) and given[name]}


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
            _take_after(path, descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise


def _take_after(path: Path, descriptor: int) -> None:
    """Give a new file the owner, the group and the mode of the one that it replaces, but others get nothing."""
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):  # the old one is another user's: the new one is the caller's own
        os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, old.st_mode & 0o660)


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    """Return the object that a text is in JSON, an empty one for an empty text."""
    try:
        document = parse_json(data.strip() or b"{}")
    except ValueError:  # not named as the cause: it quotes the text, which has passwords in it
        raise AuthError(f"{where} is not JSON: repair or remove it", code="CONFIG") from None
    if not isinstance(document, dict):
        raise AuthError(f"{where} is not a JSON object: repair or remove it", code="CONFIG")
    return document


def _decoded(entry: Mapping[str, Any], where: str) -> Credentials:
    token, bearer, pair = (entry.get(key) or "" for key in ("identitytoken", "registrytoken", "auth"))
    user, password = entry.get("username") or "", entry.get("password") or ""
    try:
        if pair:
            user, _, password = base64.b64decode(pair, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, TypeError, UnicodeDecodeError, ValueError):
        user = None
    if not all(isinstance(each, str) for each in (user, password, token, bearer)) or not _BEARER.fullmatch(bearer):
        raise AuthError(f"{where}: an entry in auths cannot be read: log in again", code="CONFIG") from None
    return Credentials(user, password, token, bearer)


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _key(host: str) -> str:
    return HUB_KEY if host == DEFAULT_HOST else host


def _said_of(host: str, table: Mapping[str, Any], kind: type[T]) -> T | None:
    """Return what a table has for a registry: under the key that docker writes today, else under an older one."""
    keys = (_key(host), host, *(key for key in table if _is_for(key, host)))
    return next((table[key] for key in keys if isinstance(table.get(key), kind)), None)


def _is_for(key: str, host: str) -> bool:
    """Say whether an entry's key means this registry, and no namespace of it.

    Older versions of docker wrote keys with a scheme, and with the version of the API as path.
    """
    bare, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    try:
        return path.rstrip("/") in ("", "v1", "v2") and known_host(bare) == host
    except ValueError:  # a key that is no host
        return False


def _without(auths: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {key: entry for key, entry in auths.items() if not _is_for(key, host)}
