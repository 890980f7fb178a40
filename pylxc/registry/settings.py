"""What the user says about registries: where they are, whom to trust, how long to wait.

Hides the files that docker and podman users have. Invariant: settings are values; reading them asks no registry.
Files: ``daemon.json`` (insecure-registries, registry-mirrors, proxies), ``certs.d/HOST/`` (``*.crt``: authorities;
``NAME.cert`` with ``NAME.key``: a client's certificate), ``config.json`` (:mod:`pylxc.registry.dockerconfig`).
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from pylxc.errors import RegistryError
from pylxc.reference import DEFAULT_HOST
from pylxc.registry.dockerconfig import DockerConfig, proxies_in
from pylxc.registry.sites import HUB, address_of, is_loopback
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
_USUAL_PORT = ":443"


@frozen(kw_only=True)
class HostSettings:
    """What is special about one registry.

    ``insecure``: plain HTTP, or certificates of anybody, will do. ``ca``: a file of authorities, or a directory of such
    ``*.crt``, that are trusted beside the system's. ``client_certificate`` and ``client_key``: files (PEM).
    ``mirrors``: URLs or hosts that are asked first for what is read. ``proxy``: a URL, "" for none whatever the
    environment says, None for what it says.
    """

    insecure: bool = False
    ca: str | os.PathLike[str] | None = None
    client_certificate: str | os.PathLike[str] | None = None
    client_key: str | os.PathLike[str] | None = None
    mirrors: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)  # it may have a password in it


@frozen(kw_only=True)
class Settings:
    """How to talk to registries.

    ``proxies`` are URLs by scheme, with what is not to go through them as "no" (a list such as NO_PROXY); what the
    environment says counts first.
    Times are in seconds, sizes in bytes. ``timeout`` is how long a registry may say nothing, ``slowest`` the bytes a
    second below which an answer counts as stalled. ``retries`` follow each other after ``backoff``, twice that, and so
    on, each with jitter; a registry's Retry-After is obeyed up to ``longest_wait``. Blobs of ``parallel_from`` bytes on
    are fetched in pieces of ``piece`` by ``streams`` connections, ``window`` bytes of which are in memory at most;
    ``downloads`` blobs are fetched at once. Blobs are sent as a whole, which all registries take, or in chunks of
    ``chunk`` bytes where that is not 0, and in smaller ones where that is too much for the registry or a proxy before
    it; those of unknown length in chunks of ``part``, which are in memory.

    Example:
        >>> Settings(hosts={"registry.example": HostSettings(insecure=True)}).is_insecure("registry.example")
        True

    """

    hosts: Mapping[str, HostSettings] = field(factory=dict)
    insecure_networks: tuple[str, ...] = ()
    certificate_directories: tuple[Path, ...] = ()
    proxies: Mapping[str, str] = field(factory=dict, repr=False)  # they may have passwords in them
    config: DockerConfig = field(factory=lambda: DockerConfig.of_user(os.environ))
    connect_timeout: float = 10.0
    timeout: float = 30.0
    slowest: int = 1024
    retries: int = 5
    backoff: float = 0.5
    longest_wait: float = 60.0
    redirects: int = 5
    streams: int = 4
    downloads: int = 4
    parallel_from: int = 32 * MIB
    piece: int = 4 * MIB
    window: int = 32 * MIB
    chunk: int = 0
    part: int = 16 * MIB
    manifest_limit: int = 4 * MIB
    token_limit: int = MIB
    pages: int = 1000
    user_agent: str = "pylxc"

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, etc: str | os.PathLike[str] = "/etc") -> Settings:
        """Return the settings of the user with this environment (default: the caller's). Raises RegistryError."""
        given = os.environ if environment is None else environment
        home = Path(given.get("HOME") or Path.home())
        own = Path(given.get("XDG_CONFIG_HOME") or home / ".config")
        config = DockerConfig.of_user(given)
        places = (own / "docker", Path(etc, "docker"))
        certificates = tuple(place / "certs.d" for place in (*places, Path(etc, "containers")))
        found = cls(config=config, certificate_directories=certificates)
        for place in places:
            found = _with_daemon(found, place / "daemon.json")
        return found

    def host(self, host: str) -> HostSettings:
        """Return what is said about a registry ("registry.example:5000"), files in certs.d included."""
        said = self._said_of(host)
        if said.ca is None:
            found = self._certificate(host, ".crt")
            said = evolve(said, ca=found and found.parent)
        if said.client_certificate is None:
            found = self._certificate(host, ".cert")
            said = evolve(said, client_certificate=found, client_key=found and found.with_suffix(".key"))
        return said

    def is_insecure(self, host: str) -> bool:
        """Say whether the user called a registry insecure, by name or by network.

        Networks are for hosts that are addresses. docker resolves names for them, too, and so lets DNS say whose
        certificates are looked at.
        """
        if self._said_of(host).insecure:
            return True
        address = address_of(bare_host(host))
        return address is not None and any(address in ipaddress.ip_network(each) for each in self.insecure_networks)

    def may_be_plain(self, host: str) -> bool:
        """Say whether a registry may be asked by plain HTTP: this machine, or what the user called insecure."""
        return is_loopback(bare_host(host)) or self.is_insecure(host)

    def _said_of(self, host: str) -> HostSettings:
        found = {_plain_name(name): said for name, said in self.hosts.items()}
        return found.get(_plain_name(host), HostSettings())

    def _certificate(self, host: str, suffix: str) -> Path | None:
        name = _plain_name(host)
        for directory in self.certificate_directories:
            for place in (directory / name, directory / f"{name}{_USUAL_PORT}"):
                found = sorted(place.glob(f"*{suffix}"))
                if found:
                    return found[0]
        return None


def _plain_name(host: str) -> str:
    """Return the one spelling of a host: URLs are looked up here, too, which keep neither the case nor a usual port."""
    name = host.lower().removesuffix(_USUAL_PORT)
    return DEFAULT_HOST if name == HUB else name


def bare_host(host: str) -> str:
    """Return a host without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _with_daemon(settings: Settings, path: Path) -> Settings:
    """Return the settings with what docker's daemon was told."""
    try:
        document = parse_json(path.read_bytes().strip() or b"{}")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return settings
    except (ValueError, OSError) as error:
        raise RegistryError(f"{path} cannot be read as JSON: repair or remove it") from error
    hosts, networks = dict(settings.hosts), list(settings.insecure_networks)
    for entry in _words(document, "insecure-registries"):
        bare = entry.removeprefix("http://").removeprefix("https://").rstrip("/")  # docker does not mind a scheme
        if "/" in bare:
            networks += _network(path, bare)
        else:
            hosts[_plain_name(bare)] = evolve(hosts.get(_plain_name(bare), HostSettings()), insecure=True)
    mirrors = tuple(_words(document, "registry-mirrors"))
    if mirrors:
        hub = hosts.get(DEFAULT_HOST, HostSettings())
        hosts[DEFAULT_HOST] = evolve(hub, mirrors=hub.mirrors or mirrors)
    proxies = {**_proxies(document), **settings.proxies}
    return evolve(settings, hosts=hosts, insecure_networks=tuple(networks), proxies=proxies)


def _words(document: Any, name: str) -> list[str]:
    found = document.get(name) if isinstance(document, dict) else None
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _proxies(document: Any) -> dict[str, str]:
    found = document.get("proxies") if isinstance(document, dict) else None
    given = found if isinstance(found, dict) else {}
    return proxies_in(given, {"http": "http-proxy", "https": "https-proxy", "no": "no-proxy"})


def _network(path: Path, text: str) -> list[str]:
    try:
        return [str(ipaddress.ip_network(text, strict=False))]
    except ValueError as error:
        raise RegistryError(f"{path}: insecure-registries: {text!r} is neither a host nor a network") from error
