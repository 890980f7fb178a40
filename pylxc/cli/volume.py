"""``volume``: the verbs ``create ls inspect rm snapshot prune`` about volumes, with docker's flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import ask, describe_each, each
from pylxc.cli.tables import format_option, moment, parse_filters, passes, print_rows, says
from pylxc.filters import has_label
from pylxc.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.app import Settings

_HEADERS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@click.group()
def volume() -> None:
    """Make, list, show and remove volumes."""


@volume.command()
@click.option("-d", "--driver", type=click.Choice(["local"]), default="local", help="Where it lies: in the store.")
@click.option("--label", "labels", multiple=True, help="Set a label: name=value.")
@click.argument("name", required=False)
@click.pass_obj
def create(settings: Settings, /, *, driver: str, labels: tuple[str, ...], name: str | None) -> None:  # noqa: ARG001  one driver
    """Make the volume NAME; without a name it gets one, which is printed."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    click.echo(pylxc.Volume.create(name, labels=labels, engine=settings.engine()).name)


_FILTERS: dict[str, Callable[[pylxc.Volume, str], bool]] = {
    "dangling": lambda item, wanted: says(not item.containers(), wanted, "dangling"),
    "driver": lambda _, wanted: wanted == "local",
    "label": lambda item, value: has_label(item.labels, value),
    "name": lambda item, wanted: wanted in item.name,
}


def _row(item: pylxc.Volume) -> dict[str, str]:
    return {
        "Driver": "local",
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(item.labels.items())),
        "Mountpoint": str(item.path),
        "Name": item.name,
        "Scope": "local",
    }


@volume.command()
@click.option("-f", "--filter", "filters", multiple=True, help="Show those with name=value only.")
@click.option("-q", "--quiet", is_flag=True, help="Show names only.")
@format_option
@click.pass_obj
def ls(settings: Settings, /, *, filters: tuple[str, ...], quiet: bool, output: str) -> None:
    """List the volumes."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    chosen = parse_filters(filters, _FILTERS)
    found = [item for item in pylxc.Volume.list(engine=settings.engine()) if passes(item, chosen, _FILTERS)]
    if quiet:
        for item in found:
            click.echo(item.name)
    else:
        print_rows([_row(item) for item in found], _HEADERS, output)


def _described(item: pylxc.Volume) -> dict[str, Any]:
    return {
        "CreatedAt": moment(item.created),
        "Driver": "local",
        "Labels": item.labels or None,
        "Mountpoint": str(item.path),
        "Name": item.name,
        "Options": None,
        "Scope": "local",
        "Containers": list(item.containers()),
    }


@volume.command()
@click.option("-f", "--format", "output", type=click.Choice(["json"]), default="json", help="JSON.")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.pass_obj
def inspect(settings: Settings, /, *, names: tuple[str, ...], output: str) -> int:  # noqa: ARG001  one format so far
    """Show all that is known of volumes, as one JSON array."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()
    return describe_each(names, lambda name: _described(pylxc.Volume.get(name, engine=engine)))


@volume.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Settings, /, *, names: tuple[str, ...], force: bool) -> int:
    """Remove volumes that no container has, with all that is in them."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()

    def action(name: str) -> str:
        try:
            pylxc.Volume.get(name, engine=engine).remove(force=force)
        except pylxc.VolumeNotFound:
            if not force:
                raise
        return name

    return each(names, action)


@volume.command()
@click.option("--label", "labels", multiple=True, help="Set a label: name=value (default: those of VOLUME).")
@click.argument("name", metavar="VOLUME")
@click.argument("new", metavar="NAME")
@click.pass_obj
def snapshot(settings: Settings, /, *, labels: tuple[str, ...], name: str, new: str) -> None:
    """Make the volume NAME with what VOLUME has now; they share their blocks where the file system can."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    click.echo(pylxc.Volume.get(name, engine=settings.engine()).snapshot(new, labels=labels or None).name)


_QUESTION = "This removes {} volumes that no container has. Are you sure you want to continue?"


@volume.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Remove those with a name, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, help="Only what label=name or label!=name lets through.")
@click.pass_obj
def prune(settings: Settings, /, *, everything: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove the anonymous volumes that no container has."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.cli.pruning import parse_prune_filters  # noqa: PLC0415

    options = parse_prune_filters(filters, until=False)
    ask(_QUESTION.format("all" if everything else "the anonymous"), force=force)
    gone = pylxc.Volume.prune(all=everything, engine=settings.engine(), **options)
    if gone.volumes:
        click.echo("\n".join(["Deleted Volumes:", *gone.volumes, ""]))
    click.echo(f"Total reclaimed space: {format_size(gone.reclaimed)}")


VERBS = {"volume": volume}
