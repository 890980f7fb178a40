"""``network``: the verbs ``create ls inspect rm connect disconnect prune`` about networks, with docker's flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import ask, describe_each, each
from pylxc.cli.tables import format_option, moment, parse_filters, passes, print_rows, says, short_id
from pylxc.filters import has_label

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.app import Settings

_HEADERS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}
_DEFAULT = "bridge"


@click.group()
def network() -> None:
    """Make, list, show and remove networks, and say which containers are on them."""


@network.command()
@click.option("-d", "--driver", type=click.Choice(["bridge"]), default="bridge", help="A bridge of this machine.")
@click.option(
    "--subnet", "subnets", multiple=True, help="Its subnet, such as 10.5.0.0/24: of IPv4, IPv6, or one of each."
)
@click.option("--internal", is_flag=True, help="Nothing leads out of it.")
@click.option("--label", "labels", multiple=True, help="Set a label: name=value.")
@click.argument("name")
@click.pass_obj
def create(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    driver: str,  # noqa: ARG001  one driver
    subnets: tuple[str, ...],
    internal: bool,
    labels: tuple[str, ...],
    name: str,
) -> None:
    """Make the network NAME; its id is printed."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    wanted = subnets or None
    made = pylxc.Network.create(name, wanted, internal, labels=labels, detach=True, engine=settings.engine())
    click.echo(made.id)


_FILTERS: dict[str, Callable[[pylxc.Network, str], bool]] = {
    "dangling": lambda item, wanted: says(not item.members(), wanted, "dangling"),
    "driver": lambda _, wanted: wanted == "bridge",
    "id": lambda item, wanted: item.id.startswith(wanted),
    "label": lambda item, value: has_label(item.labels, value),
    "name": lambda item, wanted: wanted in item.name,
}


def _row(item: pylxc.Network, *, whole: bool) -> dict[str, str]:
    return {
        "CreatedAt": moment(item.created),
        "Driver": "bridge",
        "ID": short_id(item.id, whole=whole),
        "IPv6": str(any(":" in subnet for subnet in item.subnets)).lower(),
        "Internal": str(item.internal).lower(),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(item.labels.items())),
        "Name": item.name,
        "Scope": "local",
    }


@network.command()
@click.option("-f", "--filter", "filters", multiple=True, help="Show those with name=value only.")
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--no-trunc", "whole", is_flag=True, help="Show ids in full.")
@format_option
@click.pass_obj
def ls(settings: Settings, /, *, filters: tuple[str, ...], quiet: bool, whole: bool, output: str) -> None:
    """List the networks."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    chosen = parse_filters(filters, _FILTERS)
    found = [item for item in pylxc.Network.list(engine=settings.engine()) if passes(item, chosen, _FILTERS)]
    rows = [_row(item, whole=whole) for item in found]
    if quiet:
        for row in rows:
            click.echo(row["ID"])
    else:
        print_rows(rows, _HEADERS, output)


def _described(item: pylxc.Network) -> dict[str, Any]:
    places = zip(item.subnets, item.gateways, strict=True)
    return {
        "Name": item.name,
        "Id": item.id,
        "Created": moment(item.created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": any(":" in subnet for subnet in item.subnets),
        "IPAM": {"Config": [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in places]},
        "Internal": item.internal,
        "Containers": {member.container: _member(member, item) for member in item.members()},
        "Options": {"bridge": item.bridge},
        "Labels": item.labels,
    }


def _member(member: pylxc.Member, item: pylxc.Network) -> dict[str, Any]:
    prefixes = [subnet.rpartition("/")[2] for subnet in item.subnets]
    found = [f"{address}/{prefix}" for address, prefix in zip(member.addresses, prefixes, strict=True)]
    return {
        "Name": member.name,
        "IPv4Address": next((address for address in found if ":" not in address), ""),
        "IPv6Address": next((address for address in found if ":" in address), ""),
        "Aliases": list(member.aliases),
    }


@network.command()
@click.option("-f", "--format", "output", type=click.Choice(["json"]), default="json", help="JSON.")
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.pass_obj
def inspect(settings: Settings, /, *, names: tuple[str, ...], output: str) -> int:  # noqa: ARG001  one format so far
    """Show all that is known of networks, as one JSON array."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()
    return describe_each(names, lambda name: _described(pylxc.Network.get(name, engine=engine)))


def _existing(name: str, engine: pylxc.Engine) -> pylxc.Network:
    """Return a network to be removed: the default one is not made for that. Raises NetworkNotFound."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    if name == _DEFAULT and not pylxc.Network.list({"name": name}, engine=engine):
        raise pylxc.NetworkNotFound(name)
    return pylxc.Network.get(name, engine=engine)


@network.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Settings, /, *, names: tuple[str, ...], force: bool) -> int:
    """Remove networks that no container is on."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()

    def action(name: str) -> str:
        try:
            _existing(name, engine).remove(force=force)
        except pylxc.NetworkNotFound:
            if not force:
                raise
        return name

    return each(names, action)


@network.command()
@click.option("--alias", "aliases", multiple=True, help="A further name for it there.")
@click.option("--ip", help="Its IPv4 address there.")
@click.option("--ip6", help="Its IPv6 address there.")
@click.argument("name", metavar="NETWORK")
@click.argument("container")
@click.pass_obj
def connect(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    aliases: tuple[str, ...],
    ip: str | None,
    ip6: str | None,
    name: str,
    container: str,
) -> None:
    """Let a container be on a network, at once when it runs."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    pylxc.Network.get(name, engine=settings.engine()).connect(
        container, aliases=aliases, address=[one for one in (ip, ip6) if one] or None
    )


@network.command()
@click.argument("name", metavar="NETWORK")
@click.argument("container")
@click.pass_obj
def disconnect(settings: Settings, /, *, name: str, container: str) -> None:
    """Take a container off a network, at once when it runs."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    pylxc.Network.get(name, engine=settings.engine()).disconnect(container)


@network.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, help="Only what until=24h, label=name or label!=name lets through.")
@click.pass_obj
def prune(settings: Settings, /, *, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all networks that no container is on, but for the default one."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.cli.pruning import parse_prune_filters  # noqa: PLC0415

    options = parse_prune_filters(filters)
    ask("All networks that no container is on will be removed. Go on?", force=force)
    for name in pylxc.Network.prune(engine=settings.engine(), **options).networks:
        click.echo(name)


VERBS = {"network": network}
