"""References to images: ``redis``, ``debian:bookworm``, ``registry.example:5000/team/app:1@sha256:…``.

Hides docker's short forms. Invariant: a :class:`Reference` is complete (host, path, and a tag or a digest); two
that mean the same are equal. Source: the grammar of https://pkg.go.dev/github.com/distribution/reference.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import frozen

from pylxc.errors import SpecError

DEFAULT_HOST = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255
_LAST_PORT = 65535
# What words mean wherever an image is named: they can be no tags.
_MEANINGS = {"host": "this machine's own system", "scratch": "the empty image"}

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_PORT = re.compile(r":([0-9]{1,5})\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = r"sha256:[a-f0-9]{64}"
_BEFORE = r"(.+)@\{([0-9]{1,9})\}"
_ID = re.compile(r"(?:sha256:)?[a-f0-9]{64}")


@frozen
class Reference:
    """A complete reference: ``host`` ("docker.io"), ``path`` ("library/redis"), ``tag``, ``digest`` (each maybe "").

    ``before`` counts moves of the tag back, as git's ``@{n}`` does.

    Example:
        >>> Reference.parse("redis:seed").canonical
        'docker.io/library/redis:seed'

    """

    host: str
    path: str
    tag: str = DEFAULT_TAG
    digest: str = ""
    before: int = 0

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the reference that a text means. Raises SpecError saying which part is wrong."""
        if not isinstance(text, str):
            raise SpecError("image", text, 'give a reference as a string, such as "debian:bookworm"')
        return _parse(text)

    @property
    def familiar(self) -> str:
        """The reference as people write it: ``redis:seed``."""
        path = self.path
        if self.host == DEFAULT_HOST:
            return path.removeprefix(f"{DEFAULT_NAMESPACE}/") + self._suffix()
        return f"{self.host}/{path}{self._suffix()}"

    @property
    def canonical(self) -> str:
        """The reference in full, without ``before``: what the store keeps."""
        return f"{self.host}/{self.path}{self._suffix()}"

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def is_full_id(text: str) -> bool:
    """Say whether a text is an image's whole id, with or without ``sha256:``: never a name then."""
    return _ID.fullmatch(text) is not None


def has_possible_port(host: str) -> bool:
    """Say whether a host's port, where it has one, is one that can be connected to."""
    port = _PORT.search(host)
    return port is None or 0 < int(port[1]) <= _LAST_PORT


def check_tag(text: str) -> None:
    """Raise SpecError where a text cannot be an image's tag: told of before the work that it is to name."""
    reference = Reference.parse(text)
    if "@" in text:  # a digest, or an ``@{n}``
        raise SpecError("tag", text, 'only a plain name:tag can name an image, such as "app:1"')
    if text in _MEANINGS:
        raise SpecError("tag", text, f"it means {_MEANINGS[text]}; choose another name")
    if is_full_id(text) or reference.familiar.startswith("sha256:"):
        raise SpecError("tag", text, "it would be taken for an image's id; choose another name")


@lru_cache(maxsize=256)  # each start asks for the same few, several times
def _parse(text: str) -> Reference:
    rest, before = text, 0
    match = re.fullmatch(_BEFORE, rest)
    if match:
        rest, before = match[1], int(match[2])
    rest, at, digest = rest.partition("@")
    if at and not re.fullmatch(_DIGEST, digest):
        raise SpecError("image", text, 'a digest is "sha256:" and 64 hexadecimal digits')
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise SpecError("image", text, "a tag is 1 to 128 of [A-Za-z0-9_.-], and does not start with '.' or '-'")
    host, path = _split_host(name)
    _check_name(text, name, host, path)
    return Reference(host, path, tag if tag is not None else ("" if digest else DEFAULT_TAG), digest, before)


def _split_tag(text: str) -> tuple[str, str | None]:
    colon = text.rfind(":")
    if colon < 0 or "/" in text[colon:]:
        return text, None
    return text[:colon], text[colon + 1 :]


def _split_host(name: str) -> tuple[str, str]:
    """Split off the host: what stands before the first slash, if it could not be a directory (distribution's rule)."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, path = ("docker.io" if first == "index.docker.io" else first), rest
    else:
        host, path = DEFAULT_HOST, name
    if host == DEFAULT_HOST and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return host, path


def _check_name(text: str, name: str, host: str, path: str) -> None:
    if name != name.lower() and path != path.lower():
        raise SpecError("image", text, "an image's name is written in lower case")
    if not re.fullmatch(_HOST, host) or not re.fullmatch(_PATH, path):
        raise SpecError("image", text, 'a name is [a-z0-9] with single separators, such as "debian:bookworm"')
    if not has_possible_port(host):
        raise SpecError("image", text, f"a registry's port is 1 to {_LAST_PORT}")
    if len(path) > NAME_LIMIT:  # of the whole path: a short form that is accepted must be so in full as well
        raise SpecError("image", text, f"a name has {NAME_LIMIT} characters at most, an implied library/ too")
