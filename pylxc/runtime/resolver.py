"""What a container's /etc/resolv.conf says: the host's name servers, as far as the container can reach them.

Hides the stubs of this host: servers on its loopback, which from inside would be the container itself.

Source: resolv.conf(5), systemd-resolved.service(8), NetworkManager.conf(5).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.spec import ContainerSpec

PATH = "/etc/resolv.conf"
# Where those who run a stub on the loopback keep the servers behind it.
BEHIND_STUBS = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
LARGEST = 64 << 10  # bytes that are read
NO_SEARCH = (".",)  # of dns_search, docker's word: no domain is looked in


def read(path: str = PATH) -> str:
    """Return a file's text; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read(LARGEST)
    except FileNotFoundError:
        return ""


def read_whole() -> bytes:
    """Return the host's resolv.conf as it is, for who is on the host's own network; b"" where there is none."""
    try:
        with open(PATH, "rb") as file:  # noqa: PTH123
            return file.read()
    except FileNotFoundError:
        return b""


def servers(text: str) -> list[str]:
    """Return the addresses of the name servers that a resolv.conf names."""
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


@lru_cache(maxsize=64)
def is_reachable(server: str, *, ipv6: bool) -> bool:
    """Say whether a container on a network of its own can reach a name server of the host's."""
    import ipaddress  # noqa: PLC0415  costs milliseconds, and most containers are on no network

    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        return False
    return ipv6 or address.version == 4  # noqa: PLR2004  IP versions


def reachable(*, ipv6: bool) -> tuple[str, list[str]]:
    """Return the host's resolv.conf that is of use to a container, and the servers of it that are."""
    first = ""
    for path in (PATH, *BEHIND_STUBS):  # the others are hardly ever needed
        text = read(path)
        found = [server for server in servers(text) if is_reachable(server, ipv6=ipv6)]
        if found:
            return text, found
        first = text if path == PATH else first
    return first, []


def is_own(spec: ContainerSpec) -> bool:
    """Say whether a container is to have another resolv.conf than what its network gives it."""
    return bool(spec.dns or spec.dns_search or spec.dns_opt)


def content(spec: ContainerSpec, *, ipv6: bool, forwarder: str = "") -> str:
    """Return a container's resolv.conf: what its spec asks for in place of the host's, and the rest of the host's.

    ``forwarder``: who answers for the host's servers where none of them can be reached; "" for nobody.
    """
    text, found = (read(), list(spec.dns)) if spec.dns else reachable(ipv6=ipv6)
    if forwarder and not found:
        found = [forwarder]
    lines = [*_others(text, spec), *(f"nameserver {server}" for server in found)]
    if not found:
        lines.append("# The host has no name server that can be reached from here; give one with the option dns.")
    return "\n".join(lines) + "\n"


def _others(text: str, spec: ContainerSpec) -> list[str]:
    """Return the lines about domains and options."""
    lines = []
    for words, own in ((("search", "domain"), spec.dns_search), (("options",), spec.dns_opt)):
        if not own:
            lines += [line for line in text.splitlines() if line.split()[:1] in [[word] for word in words]]
        elif own != NO_SEARCH:
            lines.append(f"{words[0]} {' '.join(own)}")
    return lines
