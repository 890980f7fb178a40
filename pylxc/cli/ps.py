"""``ps``: the containers, one a line, as docker shows them.

Invariant: a container that is removed while the list is made is left out, not an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.ports import shown
from pylxc.cli.tables import age, format_option, moment, parse_filters, passes, print_rows, quoted, short_id
from pylxc.errors import ContainerNotFound
from pylxc.filters import has_label, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.app import Settings
    from pylxc.status import Status

_AT_REST = frozenset(("created", "exited"))  # shown with --all only
_WITH_PORTS = frozenset(("running", "paused", "restarting"))
_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
}


def _networks(container: pylxc.Container) -> tuple[str, ...]:
    network = container.spec.network
    return (network,) if isinstance(network, str) else network


def _has_ancestor(container: pylxc.Container, wanted: str) -> bool:
    image = container.image
    named = (container.spec.image, *image.refs)
    identity = image.id.removeprefix("sha256:")
    return wanted in named or f"{wanted}:latest" in named or identity.startswith(wanted.removeprefix("sha256:"))


_FILTERS: dict[str, Callable[[pylxc.Container, str], bool]] = {
    "ancestor": _has_ancestor,
    "exited": lambda container, value: str(container.status().exit_code) == value,
    "health": lambda container, value: (container.status().health or "none") == value,
    "id": lambda container, value: container.id.startswith(value),
    "label": lambda container, value: has_label(labels_of(container), value),
    "name": lambda container, value: value in container.name,
    "network": lambda container, value: value in _networks(container),
    "status": lambda container, value: str(container.status()) == value,
}


def _row(container: pylxc.Container, status: Status, *, whole: bool) -> dict[str, str]:
    spec, config = container.spec, container.image.config
    return {
        "ID": short_id(container.id, whole=whole),
        "Image": spec.image,
        "Command": quoted(spec.argv(config.entrypoint, config.cmd), whole=whole),
        "RunningFor": age(container.created),
        "Status": status.describe(),
        "Ports": shown(container.exposed_ports(), container.ports()) if status in _WITH_PORTS else "",
        "Names": container.name,
    }


def _details(container: pylxc.Container, status: Status) -> dict[str, str]:
    """Return what only JSON shows."""
    return {
        "CreatedAt": moment(container.created),
        "State": str(status),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels_of(container).items())),
        "Networks": ",".join(_networks(container)),
        "Mounts": ",".join(mount.source or mount.type for mount in container.spec.filesystems()),
    }


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Show those that do not run as well.")
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--no-trunc", "whole", is_flag=True, help="Show ids and commands in full.")
@click.option("-n", "--last", type=int, help="Show the last N made, whatever their state.")
@click.option("-f", "--filter", "filters", multiple=True, help="Show those with name=value only.")
@format_option
@click.pass_obj
def ps(settings: Settings, /, *, filters: tuple[str, ...], last: int | None, output: str, **flags: Any) -> None:
    """List the containers that run."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    chosen = parse_filters(filters, _FILTERS)
    everything = flags["everything"] or last is not None or any(name in ("status", "exited") for name, _ in chosen)
    rows: list[dict[str, str]] = []
    for container in pylxc.Container.list(all=True, engine=settings.engine()):
        if last is not None and len(rows) == last:
            break
        try:
            status = container.status()  # once for each: whether it is shown, and what is shown of it
            if (everything or status not in _AT_REST) and passes(container, chosen, _FILTERS):
                details = _details(container, status) if output == "json" else {}
                rows.append({**_row(container, status, whole=flags["whole"]), **details})
        except ContainerNotFound:
            continue
    if flags["quiet"]:
        for row in rows:
            click.echo(row["ID"])
    else:
        print_rows(rows, _HEADERS, output)


VERBS = {"ps": ps}
