"""Logging in to registries and out of them. Invariant: what was refused is not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.registry.client import Client

if TYPE_CHECKING:
    from pylxc.registry.settings import Settings


def login(host: str, username: str, password: str, *, settings: Settings | None = None) -> None:
    """Check a name and a password with a registry, and keep them where docker and podman look for them, too.

    ``host`` is a registry such as ``"registry.example"``, ``"localhost:5000"`` or ``"docker.io"``. They are kept by the
    credential helper that docker's config.json names, else in that file; where the registry gives a token in their
    place, that is kept.

    Raises AuthError where they are refused, RegistryError where the registry cannot be asked, SpecError for a host or a
    name that cannot be one.

    Example:
        >>> pylxc.login("registry.example", "anna", "sesame")                       # doctest: +SKIP

    """
    with Client(settings) as client:
        client.login(host, username, password)


def login_again(host: str, *, settings: Settings | None = None) -> bool:
    """Check the credentials that are kept for a registry; say whether there are any.

    Raises AuthError where they are refused, and what ``login`` raises.
    """
    with Client(settings) as client:
        return client.login_again(host)


def logout(host: str, *, settings: Settings | None = None) -> bool:
    """Forget the name and the password for a registry; say whether docker's config.json or its helper had any.

    Raises AuthError where a credential helper fails, SpecError for a host that cannot be one.

    Example:
        >>> pylxc.logout("registry.example")                                        # doctest: +SKIP
        True

    """
    with Client(settings) as client:
        return client.logout(host)
