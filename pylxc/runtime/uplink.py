"""The programs that connect a network stack of an ordinary user's to the host's network, with no right over that.

They make a link in the stack, and carry out what is sent on it as connections and datagrams of the user's own. Hides
what each of them calls the same things. Invariant: whichever it is, the stack is ``ADDRESS`` to it; no port of the
host's loopback is reached by it (but name servers there, at ``DNS``, where it is told so), and nobody reaches in.

Source: passt(1), slirp4netns(1).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

LINK = "tap0"
# IPv4: addresses that are nobody's outside of one host (RFC 7335 begins with them), so that no destination is hidden.
SUBNET, PREFIX, NETMASK = "192.0.0.0", 24, "255.255.255.0"
ADDRESS, GATEWAY, DNS = "192.0.0.100", "192.0.0.2", "192.0.0.3"  # of the subnet, as slirp4netns numbers them
ADDRESS6, GATEWAY6 = "fd5a:2b8c:91e7:64::100", "fd5a:2b8c:91e7:64::2"  # of chance (RFC 4193)
TUN = "/dev/net/tun"
MTU = 65520  # the most: what is sent on it is taken apart anyway, and the host's link has its own MTU
_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # which an ordinary user's PATH often lacks


def _pasta(program: str, *, ipv6: bool, dns: bool) -> list[str]:
    argv = [program, "--foreground", "--quiet", "--config-net", "--netns-only", "--no-map-gw", "--mtu", str(MTU)]
    # Ports: neither of the host's that lead in, nor of the stack's loopback that lead to the host's.
    argv += [word for option in ("-t", "-u", "-T", "-U") for word in (option, "none")]
    argv += ["--no-dhcp", "--no-dhcpv6", "--no-ra", "--ns-ifname", LINK]
    argv += ["--address", ADDRESS, "--netmask", NETMASK, "--gateway", GATEWAY]
    argv += ["--address", ADDRESS6, "--gateway", GATEWAY6] if ipv6 else ["--ipv4-only"]
    argv += ["--dns-forward", DNS] if dns else []
    return [*argv, "--netns", ""]


def _slirp4netns(program: str, *, ipv6: bool, dns: bool) -> list[str]:
    del ipv6  # which it has on trial only
    argv = [program, "--configure", f"--mtu={MTU}", f"--cidr={SUBNET}/{PREFIX}", "--disable-host-loopback"]
    argv += ["--enable-sandbox", "--enable-seccomp", *([] if dns else ["--disable-dns"])]
    return [*argv, "--netns-type=path", "", LINK]


@frozen
class Uplink:
    """A program that connects a stack: its ``path``, and whether it knows IPv6."""

    path: str
    knows_ipv6: bool
    _words: Callable[..., list[str]]

    def argv(self, *, ipv6: bool, dns: bool) -> list[str]:
        """Return what is executed, "" in place of the stack's path. ``dns``: it asks name servers, as ``DNS``."""
        return self._words(self.path, ipv6=ipv6 and self.knows_ipv6, dns=dns)


_PROGRAMS = (("pasta", True, _pasta), ("slirp4netns", False, _slirp4netns))


def find() -> Uplink | None:
    """Return the program that this host has; None: it has none."""
    import shutil  # noqa: PLC0415  ordinary users only

    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_DIRECTORIES))
    for name, knows_ipv6, words in _PROGRAMS:
        found = shutil.which(name, path=path)
        if found is not None:
            return Uplink(os.path.abspath(found), knows_ipv6, words)  # noqa: PTH100
    return None


def lack() -> str:
    """Say what this host lacks to connect a stack, and how to get it; "" when nothing is lacking."""
    if find() is None:
        return "pasta not found: install it (Debian and Ubuntu: apt-get install passt); slirp4netns will do as well"
    if not os.path.exists(TUN):  # noqa: PTH110
        return f"{TUN} is missing: as root, modprobe tun"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} is closed to this user, unlike on most hosts: as root, chmod 0666 {TUN}"
    return ""
