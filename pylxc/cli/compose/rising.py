"""``up``, ``create``, ``watch``: an environment comes to be, in the background or before the user's eyes.

Invariant: in the foreground the first interrupt stops the containers, which stay; the second kills them.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import printable
from pylxc.cli.compose.project import Builds, Names, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pylxc
    from pylxc.cli.compose.project import Chosen

_INTERRUPTED = 130
_PULL = click.Choice(["always", "missing", "never", "policy", "build"])


def _scales(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in given:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise click.BadParameter(f"{text!r}: give SERVICE=NUMBER")
        found[name] = int(number)
    return found


_MAKING = (
    click.option("--build", is_flag=True, help="Build images before starting containers."),
    click.option("--no-build", is_flag=True, help="Build no image, even where it is missing."),
    click.option("--pull", type=_PULL, default="policy", help="When to pull images, before what the file says."),
    click.option("--force-recreate", is_flag=True, help="Make containers anew, changed or not."),
    click.option("--no-recreate", is_flag=True, help="Leave containers that are there as they are."),
    click.option("--remove-orphans", is_flag=True, help="Remove containers of services that the file has not."),
    click.option("--scale", callback=_scales, multiple=True, help="SERVICE=NUMBER of containers."),
)


def _making(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_MAKING):
        command = option(command)
    return command


def _wishes(given: dict[str, Any]) -> dict[str, Any]:
    """Return keywords of ``up`` for the flags that say how containers are made."""
    if given["build"] and given["no_build"]:
        raise click.UsageError("--build and --no-build: give one of them")
    if given["force_recreate"] and given["no_recreate"]:
        raise click.UsageError("--force-recreate and --no-recreate: give one of them")
    builds = given["build"] or given["pull"] == "build"
    return {
        "build": True if builds else False if given["no_build"] else None,
        "pull": None if given["pull"] in ("policy", "build") else given["pull"],
        "force_recreate": given["force_recreate"],
        "recreate": not given["no_recreate"],
        "scale": given["scale"],
        "remove_orphans": given["remove_orphans"],
    }


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Leave it running in the background.")
@_making
@click.option("--always-recreate-deps", is_flag=True, help="With --force-recreate: what they depend on, too.")
@click.option("-V", "--renew-anon-volumes", "renew_volumes", is_flag=True, help="Let anonymous volumes begin anew.")
@click.option("--no-deps", is_flag=True, help="Leave alone what the services depend on.")
@click.option("--no-start", is_flag=True, help="Make the containers, and start none.")
@click.option("--wait", is_flag=True, help="Wait until all run and are healthy; in the background.")
@click.option("--wait-timeout", type=float, help="Seconds that this may take.")
@click.option("-t", "--timeout", type=float, help="Seconds in which containers may stop.")
@click.option("--abort-on-container-exit", is_flag=True, help="Stop all when one has ended.")
@click.option("--abort-on-container-failure", is_flag=True, help="Stop all when one has failed.")
@click.option("--exit-code-from", metavar="SERVICE", help="Exit as this service does; with --abort-on-container-exit.")
@click.option("--attach", multiple=True, metavar="SERVICE", help="Show what these services write only.")
@click.option("--no-attach", multiple=True, metavar="SERVICE", help="Do not show what this service writes.")
@click.option("--no-color", is_flag=True, help="Show names without colours.")
@click.option("--no-log-prefix", is_flag=True, help="Show no names.")
@click.option("--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("-w", "--watch", "watched", is_flag=True, help="Bring changes of sources into containers.")
@click.option("--quiet-build", is_flag=True, help="Do not show builds.")
@click.option("-y", "--yes", is_flag=True, hidden=True)
@click.argument("services", nargs=-1)
@click.pass_obj
def up(chosen: Chosen, /, *, services: tuple[str, ...], **given: Any) -> int:
    """Make and start the containers of SERVICES (default: all), and show what they write."""
    aborts = given["abort_on_container_exit"] or given["abort_on_container_failure"] or given["exit_code_from"]
    detach = given["detach"] or given["wait"]
    if detach and aborts:
        raise click.UsageError("-d and --abort-on-container-exit, --exit-code-from: give one of them")
    if given["no_start"]:
        return _create(chosen, services, given)
    environment = chosen.load()
    environment.up(
        *services,
        **_wishes(given),
        detach=True,
        always_recreate_deps=given["always_recreate_deps"],
        renew_volumes=given["renew_volumes"],
        deps=not given["no_deps"],
        wait=given["wait"],
        wait_timeout=given["wait_timeout"],
        timeout=given["timeout"],
        on_event=tell,
        on_build=None if given["quiet_build"] else Builds().show,
    )
    if detach:
        return 0
    if given["watched"]:
        return _watch(environment, services)
    return _Foreground(environment, services, given).run()


def _interrupt(*_: object) -> None:
    """Take a request to end as an interrupt: docker compose does."""
    raise KeyboardInterrupt


class _Foreground:
    """Shows what services write until they have ended, or the user has had enough."""

    def __init__(self, environment: pylxc.Environment, services: tuple[str, ...], given: dict[str, Any]) -> None:
        self._environment = environment
        self._given = given
        self._services = services
        shown = given["attach"] or services or environment.services
        self._shown = [name for name in shown if name not in given["no_attach"] and self._is_attached(name)]
        self._names = Names(coloured=sys.stdout.isatty() and not given["no_color"], prefixed=not given["no_log_prefix"])
        self._first: pylxc.Container | None = None

    def _is_attached(self, name: str) -> bool:
        service = self._environment.config()["services"].get(name) or {}
        return service.get("attach") is not False

    def run(self) -> int:
        """Show it; return the exit status."""
        aborting = threading.Thread(target=self._abort, daemon=True) if self._aborts() else None
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            if aborting is not None:
                aborting.start()
            for line in self._lines():
                self._names.show(line)
            if aborting is not None:
                aborting.join()
            else:
                self._environment.wait(*self._services)
        except KeyboardInterrupt:
            return self._leave()
        return self._status()

    def _lines(self) -> Iterator[pylxc.ServiceLine]:
        if not self._shown:
            return iter(())
        return self._environment.logs(*self._shown, follow=True, timestamps=self._given["timestamps"])

    def _aborts(self) -> bool:
        names = ("abort_on_container_exit", "abort_on_container_failure", "exit_code_from")
        return any(self._given[name] for name in names)

    def _abort(self) -> None:
        """Stop all when one has ended (or failed)."""
        only_failures = self._given["abort_on_container_failure"] and not self._given["abort_on_container_exit"]
        there = self._environment.ps(*self._services, all=True)
        ended = threading.Event()

        def wait(container: pylxc.Container) -> None:
            from pylxc.errors import PylxcError  # noqa: PLC0415

            with suppress(PylxcError):
                status = container.wait()
                if not ended.is_set() and (status or not only_failures):
                    self._first = container
                    ended.set()

        waiting = [threading.Thread(target=wait, args=(one,), daemon=True) for one in there]
        for one in waiting:
            one.start()
        while not ended.wait(0.1) and any(one.is_alive() for one in waiting):
            pass
        if ended.is_set():
            click.echo("Aborting on container exit...", err=True)
            self._environment.stop(*self._services, timeout=self._given["timeout"])

    def _status(self) -> int:
        """Return the status: of the service that was named, else of the container that ended first."""
        chosen = self._given["exit_code_from"]
        if chosen:
            return self._environment.wait(chosen).popitem()[1]
        if self._first is not None:
            return self._first.status().exit_code or 0
        return 0

    def _leave(self) -> int:
        click.echo("Gracefully stopping... (press Ctrl+C again to force)", err=True)
        try:
            self._environment.stop(*self._services, timeout=self._given["timeout"])
        except KeyboardInterrupt:
            self._environment.kill(*self._services)
        return _INTERRUPTED


def _create(chosen: Chosen, services: tuple[str, ...], given: dict[str, Any]) -> int:
    wishes = _wishes(given)
    for unused in ("recreate", "remove_orphans"):
        wishes.pop(unused)
    chosen.load().create(*services, **wishes, detach=True)
    return 0


@click.command()
@_making
@click.argument("services", nargs=-1)
@click.pass_obj
def create(chosen: Chosen, /, *, services: tuple[str, ...], **given: Any) -> int:
    """Make the containers of SERVICES without starting them."""
    return _create(chosen, services, given)


@click.command()
@click.option("--no-up", is_flag=True, help="Do not start the services first.")
@click.option("--quiet", is_flag=True, help="Do not show builds.")
@click.argument("services", nargs=-1)
@click.pass_obj
def watch(chosen: Chosen, /, *, services: tuple[str, ...], no_up: bool, quiet: bool) -> int:
    """Bring changes of sources into containers as develop.watch says, until interrupted."""
    environment = chosen.load()
    if not no_up:
        environment.up(*services, detach=True, on_event=tell, on_build=None if quiet else Builds().show)
    return _watch(environment, services)


def _watch(environment: pylxc.Environment, services: tuple[str, ...]) -> int:
    click.echo("Watch enabled", err=True)
    for one in environment.watch(*services, up=False, detach=True):
        paths = ", ".join(printable(path) for path in one.paths[:5]) + (", …" if len(one.paths) > 5 else "")  # noqa: PLR2004
        what = f"failed: {printable(str(one.error))}" if one.error else paths
        click.echo(f" {one.service}  {one.action}  {what}", err=True)
    return 0


VERBS = {"up": up, "create": create, "watch": watch}
