"""The verbs that do one thing to each of several containers: ``start stop restart kill wait rm``.

Invariant: what went well is printed on standard output, one line for each container, as docker does; an error with one
keeps the others from nothing, and shows in the exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylxc.cli.app import each
from pylxc.units import parse_duration

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings

_names = click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)


def find(name: str, engine: pylxc.Engine) -> pylxc.Container:
    """Return the container that a name or the beginning of an id means."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    return pylxc.Container.get(name, engine=engine)


@click.command()
@_names
@click.pass_obj
def start(settings: Settings, /, *, names: tuple[str, ...]) -> int:
    """Start containers that do not run. Their output goes to their logs."""
    engine = settings.engine()

    def action(name: str) -> str:
        find(name, engine).start()
        return name

    return each(names, action)


@click.command()
@click.option("-t", "--time", "--timeout", "timeout", help="Seconds until a container is killed (default: its own).")
@_names
@click.pass_obj
def stop(settings: Settings, /, *, timeout: str | None, names: tuple[str, ...]) -> int:
    """Ask containers to end, and kill those that do not."""
    engine = settings.engine()
    seconds = None if timeout is None else parse_duration(timeout, "timeout")

    def action(name: str) -> str:
        find(name, engine).stop(seconds)
        return name

    return each(names, action)


@click.command()
@click.option("-t", "--time", "--timeout", "timeout", help="Seconds until a container is killed (default: its own).")
@_names
@click.pass_obj
def restart(settings: Settings, /, *, timeout: str | None, names: tuple[str, ...]) -> int:
    """Stop containers and start them again; those that do not run are started."""
    engine = settings.engine()
    seconds = None if timeout is None else parse_duration(timeout, "timeout")

    def action(name: str) -> str:
        find(name, engine).restart(seconds)
        return name

    return each(names, action)


@click.command()
@click.option("-s", "--signal", default="KILL", show_default=True, help="The signal, by name or number.")
@_names
@click.pass_obj
def kill(settings: Settings, /, *, signal: str, names: tuple[str, ...]) -> int:
    """Send a signal to containers."""
    engine = settings.engine()

    def action(name: str) -> str:
        find(name, engine).kill(signal)
        return name

    return each(names, action)


@click.command()
@_names
@click.pass_obj
def wait(settings: Settings, /, *, names: tuple[str, ...]) -> int:
    """Wait until containers have ended, and print their exit statuses."""
    engine = settings.engine()
    return each(names, lambda name: str(find(name, engine).wait()))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill those that run; one that is not there is no error.")
@click.option("-v", "--volumes", is_flag=True, help="With their anonymous volumes: these always go with them.")
@_names
@click.pass_obj
def rm(
    settings: Settings,
    /,
    *,
    names: tuple[str, ...],
    force: bool,
    volumes: bool,  # noqa: ARG001  taken for docker's users; anonymous volumes go in any case
) -> int:
    """Remove containers."""
    from pylxc.errors import ContainerNotFound  # noqa: PLC0415

    engine = settings.engine()

    def action(name: str) -> str | None:
        try:
            find(name, engine).remove(force=force)
        except ContainerNotFound:
            if not force:
                raise
            return None
        return name

    return each(names, action)


VERBS = {"start": start, "stop": stop, "restart": restart, "kill": kill, "wait": wait, "rm": rm}
