"""The verbs that change nothing: ``config events images logs ls port ps top version``."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import attrs
import click

from pylxc.cli.app import printable
from pylxc.cli.compose.project import Names
from pylxc.cli.logs import parse_since
from pylxc.cli.tables import age, format_for_people, format_option, print_rows, quoted, short_id

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.compose.project import Chosen

_services = click.argument("services", nargs=-1)
_HEADERS = {
    "Name": "NAME",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Service": "SERVICE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
}


@click.command()
@click.option("--format", "output", type=click.Choice(["yaml", "json"]), default="yaml", help="YAML or JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: only say what is wrong.")
@click.option("--services", "only_services", is_flag=True, help="Print the names of the services.")
@click.option("--volumes", "only_volumes", is_flag=True, help="Print the names of the volumes.")
@click.option("--networks", "only_networks", is_flag=True, help="Print the names of the networks.")
@click.option("--images", "only_images", is_flag=True, help="Print the names of the images.")
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False), help="Write to this file.")
@_services
@click.pass_obj
def config(chosen: Chosen, /, *, services: tuple[str, ...], **given: Any) -> None:
    """Show what the files say: variables filled in, files merged, short forms made long."""
    from pylxc.compose.export.printing import to_json, to_yaml  # noqa: PLC0415  heavy modules are imported where they are used

    environment = chosen.load()
    document = environment.config()
    if services:
        document["services"] = {name: document["services"][name] for name in services if name in document["services"]}
    if given["quiet"]:
        return
    for kind in ("services", "volumes", "networks"):
        if given[f"only_{kind}"]:
            for name in sorted(document.get(kind) or {}):
                click.echo(name)
            return
    if given["only_images"]:
        for name, service in sorted(document["services"].items()):
            click.echo(service.get("image") or f"{environment.name}-{name}")
        return
    text = (to_json if given["output"] == "json" else to_yaml)(document)
    if given["target"]:
        with open(given["target"], "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    else:
        click.echo(text, nl=False)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Show those that have ended, too.")
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--services", "names", is_flag=True, help="Show the names of the services only.")
@click.option("--status", "states", multiple=True, help="Show those in this state only.")
@click.option("--orphans/--no-orphans", default=True, hidden=True)
@click.option("--no-trunc", "whole", is_flag=True, help="Show commands in full.")
@format_option
@_services
@click.pass_obj
def ps(chosen: Chosen, /, *, services: tuple[str, ...], states: tuple[str, ...], output: str, **given: Any) -> None:
    """List the containers."""
    found = chosen.find().ps(*services, all=given["everything"] or bool(states))
    rows = [row for row in (_row(one, whole=given["whole"]) for one in found) if row]
    rows = [row for row in rows if not states or row["State"] in states]
    if given["quiet"] or given["names"]:
        for text in dict.fromkeys(row["ID" if given["quiet"] else "Service"] for row in rows):
            click.echo(text)
        return
    print_rows(rows, _HEADERS, output)


def _row(container: pylxc.Container, *, whole: bool) -> dict[str, str] | None:
    from pylxc.cli.ports import shown  # noqa: PLC0415
    from pylxc.compose.parts import labels  # noqa: PLC0415
    from pylxc.errors import ContainerNotFound  # noqa: PLC0415

    spec, image = container.spec, container.image.config
    try:
        status = container.status()
        ports = shown(image.exposed_ports, container.ports()) if status in {"running", "paused", "restarting"} else ""
    except ContainerNotFound:
        return None
    return {
        "ID": container.id,
        "Name": container.name,
        "Image": spec.image,
        "Command": quoted(spec.argv(image.entrypoint, image.cmd), whole=whole),
        "Service": spec.labels.get(labels.SERVICE, ""),
        "RunningFor": age(container.created),
        "Status": status.describe(),
        "State": str(status),
        "Health": status.health or "",
        "ExitCode": str(status.exit_code or 0),
        "Project": spec.labels.get(labels.PROJECT, ""),
        "Ports": ports,
    }


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the containers end.")
@click.option("-n", "--tail", default="all", show_default=True, help="Show so many lines of each from the end.")
@click.option("--since", help='Show what was written since: "10m" ago, a time, or seconds since 1970.')
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("--no-color", is_flag=True, help="Show names without colours.")
@click.option("--no-log-prefix", is_flag=True, help="Show no names.")
@_services
@click.pass_obj
def logs(chosen: Chosen, /, *, services: tuple[str, ...], tail: str, since: str | None, **given: Any) -> None:
    """Show what containers have written, each line with its container's name."""
    from pylxc.cli.logs import parse_tail  # noqa: PLC0415

    lines, begin = parse_tail(tail), None if since is None else parse_since(since)
    names = Names(
        coloured=sys.stdout.isatty() and "NO_COLOR" not in os.environ and not given["no_color"],
        prefixed=not given["no_log_prefix"],
    )
    environment = chosen.find()
    for line in environment.logs(
        *services, follow=given["follow"], tail=lines, since=begin, timestamps=given["timestamps"]
    ):
        names.show(line)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--since", help='Begin with what happened since: "10m" ago, a time, or seconds since 1970.')
@click.option("--until", help="End there instead of going on for ever; a time as with --since.")
@_services
@click.pass_obj
def events(
    chosen: Chosen, /, *, services: tuple[str, ...], as_json: bool, since: str | None, until: str | None
) -> None:
    """Show what happens to the containers, until interrupted."""
    from pylxc.runtime.logs import format_time  # noqa: PLC0415

    begin = None if since is None else parse_since(since)
    end = None if until is None else parse_since(until, "until")
    for event in chosen.find().events(*services, since=begin, until=end):
        fields = {key: value for key, value in attrs.asdict(event).items() if value is not None}
        if as_json:
            click.echo(json.dumps(fields))
        else:
            text = f"{format_time(event.time)} container {event.kind} {event.container} (image={event.image}, "
            click.echo(printable(f"{text}name={event.name})"))


@click.command()
@format_option
@_services
@click.pass_obj
def top(chosen: Chosen, /, *, services: tuple[str, ...], output: str) -> None:
    """Show the processes of the containers."""
    rows = [
        {
            "Container": name,
            "PID": str(process.pid),
            "Inside": str(process.inside),
            "User": str(process.user) if process.user >= 0 else "?",
            "Time": f"{process.cpu:.2f}",
            "Command": " ".join(process.command),
        }
        for name, processes in chosen.find().top(*services).items()
        for process in processes
    ]
    print_rows(rows, {key: key.upper() for key in ("Container", "PID", "Inside", "User", "Time", "Command")}, output)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@format_option
@_services
@click.pass_obj
def images(chosen: Chosen, /, *, services: tuple[str, ...], quiet: bool, output: str) -> None:
    """List the images that the containers were made from."""
    from pylxc.units import format_size  # noqa: PLC0415

    found = chosen.find().images(*services)
    if quiet:
        for identity in dict.fromkeys(image.id for image in found.values()):
            click.echo(short_id(identity))
        return
    rows = [
        {
            "Container": name,
            "Image": next(iter(image.refs), "<none>"),
            "ID": short_id(image.id),
            "Size": format_size(image.size),
        }
        for name, image in found.items()
    ]
    headers = {"Container": "CONTAINER", "Image": "IMAGE", "ID": "IMAGE ID", "Size": "SIZE"}
    print_rows(rows, headers, output)


@click.command()
@click.option("--index", type=int, help="Which container of the service.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@click.argument("service")
@click.argument("private_port", type=int)
@click.pass_obj
def port(chosen: Chosen, /, *, service: str, private_port: int, index: int | None, protocol: str) -> None:
    """Show where a port of a service is reached on this machine."""
    host, number = chosen.find().port(service, private_port, protocol=protocol, index=index)
    click.echo(f"[{host}]:{number}" if ":" in host else f"{host}:{number}")


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Show those of which nothing runs, too.")
@click.option("-q", "--quiet", is_flag=True, help="Show names only.")
@format_option
@click.pass_obj
def ls(chosen: Chosen, /, *, everything: bool, quiet: bool, output: str) -> None:
    """List the environments of this store."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    rows = []
    for environment in pylxc.Environment.list(engine=chosen.engine()):
        states = [str(one.status()) for one in environment.ps(all=True)]
        shown = [state for state in states if everything or state not in ("exited", "created")]
        if not shown:
            continue
        counts = ", ".join(f"{state}({shown.count(state)})" for state in sorted(set(shown)))
        files = ",".join(map(str, environment.files))
        rows.append({"Name": environment.name, "Status": counts, "ConfigFiles": files})
    if quiet:
        for row in rows:
            click.echo(row["Name"])
    else:
        print_rows(rows, {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}, output)


@click.command()
@click.option("--short", is_flag=True, help="Show the number only.")
@format_for_people("pretty", "For people")
def version(*, short: bool, output: str) -> None:
    """Show the version of pylxc."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    if output == "json":
        click.echo(json.dumps({"version": pylxc.__version__}))
    else:
        click.echo(pylxc.__version__ if short else f"pylxc compose version {pylxc.__version__}")


VERBS = {
    "config": config,
    "events": events,
    "images": images,
    "logs": logs,
    "ls": ls,
    "port": port,
    "ps": ps,
    "top": top,
    "version": version,
}
