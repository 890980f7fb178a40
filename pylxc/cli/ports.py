"""Published ports on the command line: the verb ``port``, docker's words for ports, and what ``run`` publishes.

Invariant: what is shown is where the ports are now, not what was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.containers import find
from pylxc.errors import Conflict, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pylxc
    from pylxc.cli.app import Settings


def _place(port: pylxc.Port) -> str:
    return f"[{port.host}]:{port.port}" if ":" in port.host else f"{port.host}:{port.port}"


def _order(port: pylxc.Port) -> tuple[Any, ...]:
    return port.protocol, ":" in port.host, port.host, port.container, port.port


def shown(exposed: Sequence[str], published: Iterable[pylxc.Port]) -> str:
    """Return docker's words for a container's ports; those in a row are one range."""
    runs: list[list[pylxc.Port]] = []
    for port in sorted(published, key=_order):
        last = runs[-1][-1] if runs else None
        is_next = last is not None and (last.protocol, last.host) == (port.protocol, port.host)
        if last is not None and is_next and port.container - last.container == port.port - last.port == 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    taken = {f"{port.container}/{port.protocol}" for run in runs for port in run}
    return ", ".join([*(name for name in exposed if name not in taken), *map(_words, runs)])


def _words(run: list[pylxc.Port]) -> str:
    first, last = run[0], run[-1]
    if first is last:
        return f"{_place(first)}->{first.container}/{first.protocol}"
    return f"{_place(first)}-{last.port}->{first.container}-{last.container}/{first.protocol}"


def drop_ports_of_host(options: dict[str, Any], *, every: bool) -> bool:
    """Leave ``-p`` and ``-P`` out of what ``run`` was given with the host's network, as docker does, with its warning.

    Says whether all ports that the image exposes are to be published.
    """
    if options.get("network") != "host" or not (every or "ports" in options):
        return every
    options.pop("ports", None)
    click.echo("WARNING: Published ports are discarded when using host network mode", err=True)
    return False


def with_exposed(options: Mapping[str, Any], image: str, engine: pylxc.Engine) -> list[str]:
    """Return the ports that ``run -P`` publishes: what was given, and all others that are exposed."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    found = pylxc.Image.host(engine=engine) if image == "host" else pylxc.Image.get(image, engine=engine)
    given = {name: options.get(name, ()) for name in ("ports", "expose")}
    spec = pylxc.ContainerSpec(image=image, **given)
    taken = {f"{port.container}/{port.protocol}" for port in spec.ports}
    exposed = dict.fromkeys((*found.config.exposed_ports, *spec.expose))
    return [*given["ports"], *(port for port in exposed if port not in taken)]


@click.command()
@click.argument("container")
@click.argument("private", metavar="[PORT[/PROTOCOL]]", required=False)
@click.pass_obj
def port(settings: Settings, /, *, container: str, private: str | None) -> None:
    """Show where the ports of a container are on the host, or where one of them is."""
    found = find(container, settings.engine()).ports()
    if private is None:
        for each in sorted(found, key=lambda each: (each.container, each.protocol, ":" in each.host, each.port)):
            click.echo(f"{each.container}/{each.protocol} -> {_place(each)}")
        return
    number, _, protocol = private.partition("/")
    if not number.isdecimal() or protocol not in ("", "tcp", "udp"):
        raise SpecError("port", private, 'give a port of the container, such as 80 or "53/udp"')
    places = [each for each in found if (str(each.container), each.protocol) == (number, protocol or "tcp")]
    if not places:
        raise Conflict(f"container {container}", f"publishes no port {private}; run it with -p {private}")
    for each in places:
        click.echo(_place(each))


VERBS = {"port": port}
