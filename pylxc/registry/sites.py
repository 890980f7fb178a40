"""Where registries are: from an image's host to a URL, and which URLs may be followed.

Hides docker's rules for names and the spellings of addresses. Invariant: a host's name from this module has no path in
it, so it may be a directory's name; plain HTTP is for loopback and for what the user called insecure.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from attrs import frozen

from pylxc.errors import RegistryError, SpecError
from pylxc.reference import DEFAULT_HOST, has_possible_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.reference import Reference

HUB = "registry-1.docker.io"  # where docker.io's registry is: docker.io itself is a web site
HUB_KEY = "https://index.docker.io/v1/"  # and the name under which docker keeps its credentials
_NAMES_OF_HUB = frozenset({DEFAULT_HOST, "index.docker.io", HUB, "registry.docker.io"})
PORTS = {"https": 443, "http": 80}  # those that a URL need not say
_HOST = re.compile(r"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONGEST_URL = 8192


@frozen
class Site:
    """One registry: ``name`` as people say it ("docker.io"), ``base`` ("https://registry-1.docker.io")."""

    name: str
    base: str

    def url(self, path: str) -> str:
        """Return the URL of a path below the API's root."""
        return f"{self.base}/v2/{path}"


def place_of(reference: Reference) -> tuple[str, str]:
    """Return the registry's host and the repository that a reference means.

    >>> from pylxc.reference import Reference
    >>> place_of(Reference.parse("redis:seed"))
    ('registry-1.docker.io', 'library/redis')
    """
    return (HUB if reference.host == DEFAULT_HOST else reference.host), reference.path


def known_host(host: str) -> str:
    """Return a registry's name as people say it: docker.io for its other names. Raises SpecError."""
    bare = host.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if not _HOST.fullmatch(bare) or not has_possible_port(bare):
        raise SpecError("host", host, 'give a registry as "registry.example" or "localhost:5000"')
    return DEFAULT_HOST if bare in _NAMES_OF_HUB else bare


def site_of(host: str, scheme: str) -> Site:
    """Return the registry of a host."""
    name = known_host(host)
    return Site(name, f"{scheme}://{HUB if name == DEFAULT_HOST else name}")


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL: what credentials are bound to."""
    parts = _split(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)


def host_and_port(url: str) -> str:
    """Return a URL's ``host:port``, without the port where it is the usual one; an IPv6 address in brackets."""
    scheme, host, port = origin(url)
    shown = f"[{host}]" if ":" in host else host
    return shown if port == PORTS.get(scheme) else f"{shown}:{port}"


def shown(url: str) -> str:
    """Return a URL for a message: without query and user, which may be secrets."""
    scheme, _, _ = origin(url)
    return f"{scheme}://{host_and_port(url)}"


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host's name is, in any spelling that connect(2)'s callers accept; None for a name."""
    bare = host.strip("[]").rstrip(".")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        try:  # "127.1", "0x7f000001", "2130706433"
            return ipaddress.IPv4Address(socket.inet_aton(bare)) if re.fullmatch(r"[0-9a-fA-FxX.]+", bare) else None
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """Say whether a host, without port, is this machine by its name alone."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = address_of(host)
    return address is not None and address.is_loopback


def followed(before: str, location: str, may_be_plain: Callable[[str], bool]) -> str:
    """Return the URL that an answer of ``before`` points to.

    Raises RegistryError where it may not be followed: another protocol, from HTTPS down to HTTP, an address of this
    machine or of its link (cloud metadata) that the registry itself is not at.
    """
    who = shown(before)
    try:
        target = urljoin(before, location)
        parts = _split(target)
        scheme, host, _ = origin(target)
    except ValueError as error:
        raise _unfollowed(who, "to something that is no URL") from error
    if scheme not in PORTS or parts.username is not None or not _HOST.fullmatch(host_and_port(target)):
        raise _unfollowed(who, "to something that is no web address")
    if len(target) > _LONGEST_URL or not target.isascii() or not target.isprintable() or " " in target:
        raise _unfollowed(who, "to a URL that is too long, or has spaces or control characters in it")
    is_new_plain = scheme == "http" and origin(target) != origin(before)
    if is_new_plain and (origin(before)[0] == "https" or not may_be_plain(host_and_port(target))):
        raise _unfollowed(who, "to plain HTTP, which anybody on the way can read and change")
    if origin(target)[1] != origin(before)[1]:
        address = address_of(host)
        is_near = is_loopback(host) or (address is not None and (address.is_link_local or address.is_unspecified))
        if is_near and not is_loopback(origin(before)[1]):
            raise _unfollowed(who, "to an address of this machine")
    return target


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError where it is no number
    return parts


def _unfollowed(who: str, reason: str) -> RegistryError:
    return RegistryError(f"{who} sends pylxc {reason}: refused", code="REDIRECT")
