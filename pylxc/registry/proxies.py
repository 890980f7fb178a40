"""Which proxy leads to a registry.

Hides where users name proxies, and the rules of NO_PROXY as clients written in Go have them. Invariant: this machine is
asked directly, unless the settings of the host itself say otherwise.
Source of the rules: https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment

from pylxc.registry.settings import bare_host
from pylxc.registry.sites import PORTS, address_of, is_loopback

if TYPE_CHECKING:
    from pylxc.registry.settings import HostSettings, Settings


def proxy_of(settings: Settings, said: HostSettings, scheme: str, host: str) -> str:
    """Return the URL of the proxy for a host, "" for none.

    It is what the host's settings say, else the environment, else docker's daemon.json, else its config.json.
    """
    if said.proxy is not None:
        return said.proxy
    if is_loopback(bare_host(host)):
        return ""
    environment = {key: value for key, value in getproxies_environment().items() if value}
    found = {**settings.config.proxies(), **settings.proxies, **environment}
    proxy = "" if is_direct(scheme, host, found.get("no", "")) else found.get(scheme, "")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def is_direct(scheme: str, host: str, no_proxy: str) -> bool:
    """Say whether a list such as NO_PROXY keeps a host ("registry.example:5000") from going through a proxy."""
    bare = bare_host(host)
    port = host[len(bare) + 1 :] or str(PORTS[scheme])
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return any(entry == "*" or _covers(entry, bare.strip("[]").rstrip(".").lower(), port) for entry in entries if entry)


def _covers(entry: str, name: str, port: str) -> bool:
    """Say whether an entry means a host: it is a domain, an address or a network; with a port, it means that alone."""
    address = address_of(name)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:  # no network either: it means nothing
            return False
    domain = entry if address_of(entry) else bare_host(entry)
    if entry not in (domain, f"{domain}:{port}"):
        return False
    if address is not None:
        return address_of(domain) == address
    domain = domain[1:] if domain.startswith("*.") else domain
    return name == domain or name.endswith(f".{domain.removeprefix('.')}")
