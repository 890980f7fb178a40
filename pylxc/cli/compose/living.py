"""The verbs that change what is there: ``down start stop restart kill rm pause unpause wait scale cp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylxc.cli.app import ask, printable
from pylxc.cli.compose.project import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.compose.project import Chosen

_services = click.argument("services", nargs=-1)
_timeout = click.option("-t", "--timeout", type=float, help="Seconds in which containers may stop.")


@click.command()
@click.option("-v", "--volumes", is_flag=True, help="Remove the volumes of the file, too.")
@click.option("--remove-orphans", is_flag=True, help="Remove containers of services that the file has not.")
@click.option("--rmi", type=click.Choice(["all", "local"]), help="Remove the services' images, too.")
@_timeout
@_services
@click.pass_obj
def down(  # noqa: PLR0913  one for each flag
    chosen: Chosen,
    /,
    *,
    services: tuple[str, ...],
    volumes: bool,
    remove_orphans: bool,
    rmi: str | None,
    timeout: float | None,
) -> None:
    """Stop and remove the containers and networks."""
    environment = chosen.find()
    warnings = environment.down(
        *services, volumes=volumes, remove_orphans=remove_orphans, rmi=rmi, timeout=timeout, on_event=tell
    )
    for warning in warnings:
        click.echo(f"pylxc: warning: {printable(warning)}", err=True)


def _simple(name: str, text: str, action: Callable[[pylxc.Environment, tuple[str, ...]], object]) -> click.Command:
    """Make a verb that does one thing with services."""

    @click.command(name, help=text)
    @_services
    @click.pass_obj
    def verb(chosen: Chosen, /, *, services: tuple[str, ...]) -> None:
        action(chosen.find(), services)

    return verb


def _stopping(
    name: str, text: str, action: Callable[[pylxc.Environment, tuple[str, ...], float | None], object]
) -> click.Command:
    """Make a verb that stops services, with --timeout."""

    @click.command(name, help=text)
    @_timeout
    @_services
    @click.pass_obj
    def verb(chosen: Chosen, /, *, services: tuple[str, ...], timeout: float | None) -> None:
        action(chosen.find(), services, timeout)

    return verb


@click.command()
@click.option("-s", "--signal", "number", default="SIGKILL", show_default=True, help="The signal.")
@click.option("--remove-orphans", is_flag=True, hidden=True)
@_services
@click.pass_obj
def kill(chosen: Chosen, /, *, services: tuple[str, ...], number: str, remove_orphans: bool) -> None:  # noqa: ARG001
    """Send a signal to the containers."""
    chosen.find().kill(*services, signal=number)


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-s", "--stop", is_flag=True, help="Stop the containers first.")
@click.option("-v", "--volumes", is_flag=True, hidden=True, help="Anonymous volumes go in any case.")
@_services
@click.pass_obj
def rm(chosen: Chosen, /, *, services: tuple[str, ...], force: bool, stop: bool, volumes: bool) -> None:  # noqa: ARG001
    """Remove containers that do not run."""
    environment = chosen.find()
    ask("The containers that do not run will be removed. Go on?", force=force)
    for name in environment.rm(*services, stop=stop):
        click.echo(f" Container {name}  Removed", err=True)


@click.command()
@click.option("--down-project", is_flag=True, help="Take the project down when the first has ended.")
@click.argument("services", nargs=-1, required=True)
@click.pass_obj
def wait(chosen: Chosen, /, *, services: tuple[str, ...], down_project: bool) -> int:
    """Wait until the containers of SERVICES have ended; exit as the first one of them."""
    environment = chosen.find()
    found = environment.wait(*services)
    for status in found.values():
        click.echo(status)
    if down_project:
        environment.down(on_event=tell)
    return next(iter(found.values()), 0)


@click.command()
@click.argument("scales", metavar="SERVICE=NUMBER...", nargs=-1, required=True)
@click.option("--no-deps", is_flag=True, hidden=True)
@click.pass_obj
def scale(chosen: Chosen, /, *, scales: tuple[str, ...], no_deps: bool) -> None:  # noqa: ARG001
    """Let services have so many containers."""
    wanted = {}
    for text in scales:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise click.UsageError(f"{text!r}: give SERVICE=NUMBER")
        wanted[name] = int(number)
    environment = chosen.load()
    environment.up(*wanted, scale=wanted, deps=False, recreate=False, detach=True, on_event=tell)


@click.command()
@click.option("--index", type=int, help="Which container of the service.")
@click.option("-a", "--archive", is_flag=True, help="Keep owners and all else.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a link leads to.")
@click.option("--all", "every", is_flag=True, hidden=True)
@click.argument("source")
@click.argument("destination")
@click.pass_obj
def cp(  # noqa: PLR0913  one for each flag
    chosen: Chosen, /, *, source: str, destination: str, index: int | None, archive: bool, follow: bool, every: bool
) -> None:
    """Copy files: SERVICE:PATH to this machine, or to SERVICE:PATH."""
    del every  # that is so without --index
    chosen.find().cp(source, destination, index=index, archive=archive, follow=follow)


VERBS = {
    "cp": cp,
    "down": down,
    "kill": kill,
    "pause": _simple("pause", "Stop everything in containers where it is.", lambda one, names: one.pause(*names)),
    "restart": _stopping("restart", "Stop containers and start them.", lambda o, n, t: o.restart(*n, timeout=t)),
    "rm": rm,
    "scale": scale,
    "start": _simple("start", "Start containers that are there.", lambda one, names: one.start(*names)),
    "stop": _stopping("stop", "Stop containers.", lambda one, names, after: one.stop(*names, timeout=after)),
    "unpause": _simple("unpause", "Let paused containers go on.", lambda one, names: one.unpause(*names)),
    "wait": wait,
}
