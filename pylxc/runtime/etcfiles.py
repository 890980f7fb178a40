"""The files of /etc that are the engine's: who the container is, whom it knows, whom it asks for names.

Invariant: what the image has in their place is covered, not changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.normalise import HOST_GATEWAY, HOST_NAME
from pylxc.runtime import plan as p
from pylxc.runtime import resolver
from pylxc.runtime.kernelfiles import ALL_OFF

if TYPE_CHECKING:
    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.network import Links
    from pylxc.runtime.plan import Plan
    from pylxc.spec import ContainerSpec


def add_etc(plan: Plan, spec: ContainerSpec, hostname: str, tree: Tree, links: Links | None = None) -> None:
    """Add /etc/hosts, /etc/hostname, and /etc/resolv.conf where there is anybody to be asked.

    On networks the hosts file is one of the store's: it changes while the container runs.
    """
    plan.add(p.FILE, "/etc/hostname", f"{hostname}\n", flags=0o644, subject="/etc/hostname")
    if links is not None and links.hosts:
        how = p.MAKE_LIKE_SOURCE
        plan.add(p.BIND, tree.inside(links.hosts), "/etc/hosts", flags=ALL_OFF, a=how, subject="/etc/hosts")
    else:
        home = links.gateways if links is not None else ("127.0.0.1",) if spec.network == "host" else ()
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"127.0.1.1\t{hostname}"]
        lines += [f"{address}\t{HOST_NAME}" for address in home]
        for host, address in spec.extra_hosts.items():
            lines += [f"{each}\t{host}" for each in (home if address == HOST_GATEWAY else (address,))]
        plan.add(p.FILE, "/etc/hosts", "\n".join(lines) + "\n", flags=0o644, subject="/etc/hosts")
    content = _resolv_conf(spec, links)
    if content:
        plan.add(p.FILE, "/etc/resolv.conf", content, flags=0o644, subject="/etc/resolv.conf")


def _resolv_conf(spec: ContainerSpec, links: Links | None) -> str | bytes:
    """Return what /etc/resolv.conf is to be; "" leaves the image's."""
    if links is not None:
        return links.resolv_conf
    if resolver.is_own(spec):
        return resolver.content(spec, ipv6=True)
    return resolver.read_whole() if spec.network == "host" else ""
