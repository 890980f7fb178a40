"""Credential helpers: docker's programs that keep passwords (docker-credential-*).

Hides their protocol: a verb as argument, the rest by standard input. Invariant: a helper is a program on PATH whose
name has no path in it; it gets a time limit, and nothing of what it answered is in a message unless it failed.
Source: https://github.com/docker/docker-credential-helpers
"""

from __future__ import annotations

import json
import re
import subprocess

from attrs import field, frozen

from pylxc.errors import AuthError
from pylxc.registry.problems import clean
from pylxc.untrusted import parse_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NONE = "credentials not found"
_TOKEN_USER = "<token>"  # noqa: S105  the name under which an identity token is kept, not a secret


@frozen
class Credentials:
    """Who somebody is to a registry: a name and a password, or an ``identity_token`` that stands for both.

    A ``registry_token`` is sent as it is, where bearer tokens are wanted, and no token server is asked.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.registry_token or self.identity_token or self.username)


@frozen
class CredentialHelper:
    """One helper: ``name`` is what follows "docker-credential-", ``timeout`` is in seconds."""

    name: str
    timeout: float = 30.0

    def get(self, server: str) -> Credentials:
        """Return the credentials for a server; empty where the helper has none. Raises AuthError."""
        code, answer = self._ask("get", server)
        if code:
            if _NONE in answer:
                return Credentials()
            raise self._failed("get", clean(answer))
        try:
            document = parse_json(answer.encode())
            user, secret = document["Username"], document["Secret"]
        except (ValueError, KeyError, TypeError):
            document = user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._failed("get", "its answer has no Username and Secret")
        return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep credentials for a server. Raises AuthError."""
        user = _TOKEN_USER if credentials.identity_token else credentials.username
        secret = credentials.identity_token or credentials.password
        code, answer = self._ask("store", json.dumps({"ServerURL": server, "Username": user, "Secret": secret}))
        if code:
            raise self._failed("store", clean(answer))

    def erase(self, server: str) -> None:
        """Forget the credentials for a server, if there are any. Raises AuthError."""
        code, answer = self._ask("erase", server)
        if code and _NONE not in answer:
            raise self._failed("erase", clean(answer))

    def _ask(self, verb: str, request: str) -> tuple[int, str]:
        if not _NAME.fullmatch(self.name):
            raise self._failed(verb, "its name in docker's config.json is none")
        try:
            done = subprocess.run(
                [f"docker-credential-{self.name}", verb],
                input=request.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._failed(verb, f"it did not answer within {self.timeout:g} s") from None
        except OSError as error:
            raise self._failed(verb, f"it cannot be started ({error.strerror})") from error
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def _failed(self, verb: str, reason: str) -> AuthError:
        name = clean(self.name)
        remedy = "repair it, or take it out of credsStore and credHelpers in docker's config.json"
        return AuthError(f"the credential helper {name!r} failed at {verb!r}: {reason}; {remedy}", code="HELPER")
