"""The verbs that do one thing to each of several containers: ``start stop restart kill wait rm``.

Invariant: what went well is printed on standard output, one line for each container, as docker does; an error with one
keeps the others from nothing, and shows in the exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylxc.cli.app import each
from pylxc.cli.foreground import attach_to, keys_option, proxy_option
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.app import Settings
    from pylxc.cli.copying import DetachKeys

_names = click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
_timeout = click.option(
    "-t", "--time", "--timeout", "timeout", help="Seconds until a container is killed (default: its own)."
)


def find(name: str, engine: pylxc.Engine) -> pylxc.Container:
    """Return the container that a name or the beginning of an id means."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    return pylxc.Container.get(name, engine=engine)


def _do(settings: Settings, names: tuple[str, ...], act: Callable[[pylxc.Container], object]) -> int:
    """Do one thing to each of several containers; prints their names."""
    engine = settings.engine()

    def action(name: str) -> str:
        act(find(name, engine))
        return name

    return each(names, action)


def _seconds(timeout: str | None) -> float | None:
    return None if timeout is None else parse_duration(timeout, "timeout")


@click.command()
@click.option("-a", "--attach", "attached", is_flag=True, help="Show what it writes, and end with its exit status.")
@click.option("-i", "--interactive", is_flag=True, help="And pass on what is typed.")
@keys_option
@proxy_option
@_names
@click.pass_obj
def start(  # noqa: PLR0913  one for each flag
    settings: Settings, /, *, names: tuple[str, ...], attached: bool, interactive: bool, keys: DetachKeys, proxy: bool
) -> int:
    """Start containers that do not run. Their output goes to their logs."""
    if not (attached or interactive):
        return _do(settings, names, lambda container: container.start())
    if len(names) > 1:
        raise click.UsageError("one container at a time can be attached to; leave -a and -i out, or name one")
    container = find(names[0], settings.engine())
    return attach_to(container, interactive=interactive, keys=keys, proxy=proxy, start=True)


@click.command()
@_timeout
@_names
@click.pass_obj
def stop(settings: Settings, /, *, timeout: str | None, names: tuple[str, ...]) -> int:
    """Ask containers to end, and kill those that do not."""
    seconds = _seconds(timeout)
    return _do(settings, names, lambda container: container.stop(seconds))


@click.command()
@_timeout
@_names
@click.pass_obj
def restart(settings: Settings, /, *, timeout: str | None, names: tuple[str, ...]) -> int:
    """Stop containers and start them again; those that do not run are started."""
    seconds = _seconds(timeout)
    return _do(settings, names, lambda container: container.restart(seconds))


@click.command()
@click.option("-s", "--signal", default="KILL", show_default=True, help="The signal, by name or number.")
@_names
@click.pass_obj
def kill(settings: Settings, /, *, signal: str, names: tuple[str, ...]) -> int:
    """Send a signal to containers."""
    return _do(settings, names, lambda container: container.kill(signal))


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
