"""``run exec build pull push``: commands in an environment, and its images."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.compose.project import Builds
from pylxc.cli.foreground import run_attached, show_process, wait_for

if TYPE_CHECKING:
    from pylxc.cli.compose.project import Chosen

# Words after the service belong to the command, whatever they look like.
_COMMAND_SETTINGS = {"allow_interspersed_args": False}
_services = click.argument("services", nargs=-1)


def _has_terminal() -> bool:
    """Say whether docker compose would give the command a terminal: where the user has one."""
    import sys  # noqa: PLC0415

    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


@click.command("run", context_settings=_COMMAND_SETTINGS)
@click.option("-d", "--detach", is_flag=True, help="Leave it running in the background, and print its name.")
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it has ended.")
@click.option("-e", "--env", multiple=True, help="Set a variable: NAME=value, or NAME to pass it on.")
@click.option("-u", "--user", help="The user: name or uid, then :group or :gid.")
@click.option("-w", "--workdir", help="The directory that the command starts in.")
@click.option("-v", "--volume", "volumes", multiple=True, help="Mount a path of the host or a volume.")
@click.option("-l", "--label", "marks", multiple=True, help="Set a label: name=value.")
@click.option("-p", "--publish", "ports", multiple=True, help="Publish a port.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the service's ports.")
@click.option("--entrypoint", help="In place of the service's entrypoint.")
@click.option("--name", help="A name for the container.")
@click.option("--no-deps", is_flag=True, help="Do not start what the service depends on.")
@click.option("-i", "--interactive/--no-interactive", default=True, help="Pass standard input on.")
@click.option("-T", "--no-TTY", "no_tty", is_flag=True, help="Give it no terminal.")
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(chosen: Chosen, /, *, service: str, command: tuple[str, ...], **given: Any) -> int:
    """Run a command in a new container of SERVICE."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.cli.copying import DetachKeys  # noqa: PLC0415
    from pylxc.runtime.waiting import drive  # noqa: PLC0415

    environment = chosen.load()
    detach = bool(given["detach"])
    options = {**_options(given), "detach": True}
    steps = environment._one_off(  # noqa: SLF001  its other half
        service,
        list(command) or None,
        deps=not given["no_deps"],
        service_ports=given["service_ports"],
        options=options,
    )
    image, words, made = drive(steps)
    made.update(remove=given["remove"], engine=chosen.engine())
    if detach:
        click.echo(pylxc.start(image, words, **made).name)
        return 0
    made["detach"] = not given["remove"]
    if given["no_tty"] or not _has_terminal():
        made.pop("tty", None)
        made["stdin"] = pylxc.INHERIT if given["interactive"] else subprocess.DEVNULL
        return wait_for(lambda: pylxc.popen(image, words, stdout=pylxc.INHERIT, stderr=pylxc.INHERIT, **made))
    made.update(tty=True, stdin=given["interactive"])
    return run_attached(
        lambda: pylxc.create(image, words, **made),
        interactive=given["interactive"],
        keys=DetachKeys("ctrl-p,ctrl-q"),
    )


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a container that the flags of ``run`` say."""
    from pylxc.normalise import NORMAL  # noqa: PLC0415

    found = {name: given[name] for name in ("user", "workdir", "name", "volumes", "ports") if given[name]}
    if given["env"]:
        found["env"] = NORMAL["env"]("env", list(given["env"]))
    if given["marks"]:
        found["labels"] = NORMAL["labels"]("labels", list(given["marks"]))
    if given["entrypoint"] is not None:
        found["entrypoint"] = given["entrypoint"]
    return found


@click.command("exec", context_settings=_COMMAND_SETTINGS)
@click.option("-d", "--detach", is_flag=True, hidden=True)
@click.option("-e", "--env", multiple=True, help="Set a variable: NAME=value, or NAME to pass it on.")
@click.option("-u", "--user", help="The user: name or uid, then :group or :gid.")
@click.option("-w", "--workdir", help="The directory that the command starts in.")
@click.option("--index", type=int, help="Which container of the service.")
@click.option("-T", "--no-TTY", "no_tty", is_flag=True, help="Give it no terminal.")
@click.option("-i", "--interactive/--no-interactive", default=True, help="Pass standard input on.")
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(chosen: Chosen, /, *, service: str, command: tuple[str, ...], **given: Any) -> int:
    """Run a command in a running container of SERVICE."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.cli.copying import DetachKeys  # noqa: PLC0415
    from pylxc.normalise import NORMAL  # noqa: PLC0415

    if given["detach"]:
        raise pylxc.UnsupportedError("exec -d", "a command ends with who started it; start it in the background there")
    found = chosen.find()._found()  # noqa: SLF001  its other half
    target, words = found.one(service, given["index"]), list(command)
    options: dict[str, Any] = {name: given[name] for name in ("user", "workdir") if given[name]}
    if given["env"]:
        options["env"] = NORMAL["env"]("env", list(given["env"]))
    interactive = given["interactive"]
    if given["no_tty"] or not _has_terminal():
        source = pylxc.INHERIT if interactive else subprocess.DEVNULL
        return wait_for(
            lambda: target.popen(words, stdin=source, stdout=pylxc.INHERIT, stderr=pylxc.INHERIT, **options)
        )
    typed = subprocess.PIPE if interactive else subprocess.DEVNULL
    return show_process(
        lambda size: target.popen(words, tty=True, terminal_size=size, stdin=typed, **options),
        interactive=interactive,
        keys=DetachKeys(""),
    )


@click.command()
@click.option("--no-cache", is_flag=True, help="Carry out every step anew.")
@click.option("--pull", is_flag=True, help="Ask the registry for the images even where they are here.")
@click.option("--push", "pushes", is_flag=True, help="Push the images afterwards.")
@click.option("--build-arg", "arguments", multiple=True, help="Set an ARG: NAME=value.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show the steps.")
@_services
@click.pass_obj
def build(  # noqa: PLR0913  one for each flag
    chosen: Chosen,
    /,
    *,
    services: tuple[str, ...],
    no_cache: bool,
    pull: bool,
    pushes: bool,
    arguments: tuple[str, ...],
    quiet: bool,
) -> None:
    """Build the images of SERVICES (default: of all that have a recipe)."""
    from pylxc.normalise import NORMAL  # noqa: PLC0415

    args = NORMAL["env"]("args", list(arguments)) if arguments else {}
    environment = chosen.load()
    shown = None if quiet else Builds().show
    built = environment.build(*services, no_cache=no_cache, pull=pull, args=args, on_build=shown)
    for name, image in built.items():
        click.echo(f" {name}  Built  {next(iter(image.refs), image.id)}", err=True)
    if pushes:
        environment.push(*services)


@click.command()
@click.option("--policy", type=click.Choice(["missing", "always"]), default="always", help="When to pull.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.option("--ignore-buildable", is_flag=True, hidden=True)
@_services
@click.pass_obj
def pull(chosen: Chosen, /, *, services: tuple[str, ...], policy: str, quiet: bool, ignore_buildable: bool) -> None:
    """Pull the images of SERVICES (default: of all that are not built here)."""
    del ignore_buildable  # that is so
    for name in chosen.load().pull(*services, policy=policy):
        if not quiet:
            click.echo(f" {name}  Pulled", err=True)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@_services
@click.pass_obj
def push(chosen: Chosen, /, *, services: tuple[str, ...], quiet: bool) -> None:
    """Push the images of SERVICES (default: of all that are built here and have a name)."""
    for reference in chosen.load().push(*services):
        if not quiet:
            click.echo(f" {reference}  Pushed", err=True)


VERBS = {"run": run, "exec": exec_, "build": build, "pull": pull, "push": push}
