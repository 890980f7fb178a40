"""``build``: an image from a Dockerfile, with the steps shown as they run.

Invariant: progress goes to standard error; with ``--quiet`` the image's id, alone, to standard output.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pylxc.cli.app import printable
from pylxc.cli.buildprogress import MODES, showing_build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.cli.app import Settings


_SECRET_KEYS = {"source": "src"}


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    """Return build arguments; a name alone takes the caller's variable, and is left out where there is none."""
    if not given:
        return {}
    from pylxc.normalise import NORMAL  # noqa: PLC0415

    result: dict[str, str] = NORMAL["env"]("args", list(given))
    return result


def _contexts(given: tuple[str, ...]) -> dict[str, str]:
    """Return named contexts by name."""
    from pylxc import SpecError  # noqa: PLC0415

    found = dict(one.partition("=")[::2] for one in given)
    for one in given:
        if "=" not in one:
            raise SpecError("build-context", one, "give NAME=directory, NAME=URL, or NAME=docker-image://reference")
    return found


def _output(text: str) -> Any:
    """Return an output; "-" is the standard output, for an archive."""
    if text == "-":
        text = "type=tar,dest=-"
    *others, dest = text.rpartition("dest=-")
    if dest or not others[-1]:
        return text
    if sys.stdout.isatty():
        from pylxc import SpecError  # noqa: PLC0415

        raise SpecError("output", text, "an archive does not go to a terminal: redirect it, or give dest=PATH")
    kind = dict(field.partition("=")[::2] for field in others[0].split(",") if field)
    return {**kind, "dest": sys.stdout.buffer}


def _secrets(given: tuple[str, ...]) -> dict[str, str | Path]:
    """Return secrets as the API has them. Without a source it is the variable, or else the file, of that name."""
    if not given:
        return {}
    import csv  # noqa: PLC0415  only here

    found: dict[str, str | Path] = {}
    for text in given:
        fields = dict(part.partition("=")[::2] for part in next(csv.reader([text]), ()))
        fields = {_SECRET_KEYS.get(key.strip().lower(), key): value for key, value in fields.items()}
        name, kind, source, variable = (fields.pop(key, "") for key in ("id", "type", "src", "env"))
        if not name or fields or kind not in ("", "file", "env") or (source and variable):
            raise click.BadParameter("give id=NAME,src=FILE or id=NAME,env=VARIABLE", param_hint="--secret")
        if kind == "env" and not variable:
            variable, source = source or name, ""
        elif not (kind or source or variable):
            variable = name if name in os.environ else ""
        found[name] = f"env:{variable}" if variable else Path(source or name)
    return found


def _context(context: str, dockerfile: str | None) -> str | BinaryIO:
    """Return the context: standard input for "-"."""
    if context != "-":
        return context
    if dockerfile == "-":
        raise click.UsageError("standard input cannot be both the context and the Dockerfile")
    return sys.stdin.buffer


def _dockerfile(context: str, dockerfile: str) -> str | BinaryIO:
    """Return the Dockerfile: relative to here, as in docker, and to a context that is elsewhere."""
    from pylxc.build.opening import is_remote  # noqa: PLC0415

    if dockerfile == "-":
        return sys.stdin.buffer
    is_elsewhere = context == "-" or is_remote(context)
    return dockerfile if is_elsewhere else os.path.abspath(dockerfile)  # noqa: PTH100  pathlib does not normalise


def _check(context: str | BinaryIO, dockerfile: str | BinaryIO, arguments: dict[str, str], settings: Settings) -> None:
    """Print what the build checks find; the exit status is 1 where there is anything."""
    from pylxc.build.check import check  # noqa: PLC0415

    found = check(context, dockerfile, args=arguments, engine=settings.engine())
    name = dockerfile if isinstance(dockerfile, str) else "-"
    for warning in found:
        click.echo(f"{name}:{warning.line}:{warning.column}: {warning.rule}: {printable(warning.message)}")
        click.echo(f"  {warning.url}")
    words = {0: "no warnings found", 1: "1 warning has been found"}
    click.echo(f"Check complete, {words.get(len(found), f'{len(found)} warnings have been found')}.", err=True)
    if found:
        raise SystemExit(1)


@contextmanager
def _looking_into(on_error: str | None) -> Iterator[None]:
    """Give the user a shell where a step fails, if that is what to do then; it stays a failure."""
    from pylxc import BuildError  # noqa: PLC0415

    try:
        yield
    except BuildError as error:
        if on_error is not None:
            from pylxc.cli.failedstep import look_into  # noqa: PLC0415

            look_into(error)
        raise


@click.command()
@click.option("-t", "--tag", "tags", multiple=True, help="The image's name. May be given several times.")
@click.option("-f", "--file", "dockerfile", help="The Dockerfile (default: Dockerfile in CONTEXT); - for stdin.")
@click.option("--build-arg", "arguments", multiple=True, help="Set an ARG: NAME=value.")
@click.option("--target", help="The stage to build, by name or number (default: the last one).")
@click.option("--build-context", "contexts", multiple=True, help="A further context: NAME=directory, URL or image.")
@click.option(
    "-o", "--output", "outputs", multiple=True, help='A directory, "-", or type=tar|local|oci|docker,dest=PATH.'
)
@click.option("--platform", help="What the image is to be for: linux/arm64 (default: this machine).")
@click.option("--pull", is_flag=True, help="Ask the registry for the images even where they are here.")
@click.option("--no-cache", is_flag=True, help="Carry out every step anew.")
@click.option("--cache-from", multiple=True, help="A build cache: a name in a registry, or type=local,src=DIRECTORY.")
@click.option("--cache-to", multiple=True, help="Where the steps go: a name, or type=local,dest=DIRECTORY.")
@click.option("--network", help='The network of RUN steps: "default", "none", "host" or a name.')
@click.option("--add-host", "hosts", multiple=True, help="Add a line to /etc/hosts of RUN steps: name:address.")
@click.option("--label", "labels", multiple=True, help="Set a label of the image: name=value.")
@click.option("--secret", "secrets", multiple=True, help="For RUN --mount=type=secret: id=x,src=FILE or id=x,env=NAME.")
@click.option("--ssh", "agents", multiple=True, help='For RUN --mount=type=ssh: "default" or id=SOCKET.')
@click.option("--allow", multiple=True, help='Allow RUN more: "security.insecure" or "network.host".')
@click.option("--progress", type=click.Choice(MODES), default="auto", help="How to show the steps.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the image's id.")
@click.option("--on-error", type=click.Choice(["shell"]), help="Where a RUN fails, give a shell in what it left.")
@click.option("--check", "only_check", is_flag=True, help="Look for mistakes in the Dockerfile, and build nothing.")
@click.argument("context")
@click.pass_obj
def build(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    context: str,
    tags: tuple[str, ...],
    dockerfile: str | None,
    arguments: tuple[str, ...],
    target: str | None,
    contexts: tuple[str, ...],
    outputs: tuple[str, ...],
    network: str | None,
    hosts: tuple[str, ...],
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    agents: tuple[str, ...],
    allow: tuple[str, ...],
    progress: str,
    platform: str | None,
    pull: bool,
    no_cache: bool,
    quiet: bool,
    only_check: bool,
    cache_from: tuple[str, ...],
    cache_to: tuple[str, ...],
    on_error: str | None,
) -> None:
    """Build an image from a Dockerfile and the files of CONTEXT.

    CONTEXT is a directory, a URL of a repository, of a tar archive or of a Dockerfile, or - for standard input: a tar
    archive, or a Dockerfile that needs no files.
    """
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    source = _context(context, dockerfile)
    options: dict[str, Any] = {"args": _arguments(arguments), "pull": pull, "no_cache": no_cache}
    if dockerfile is not None:
        options["dockerfile"] = _dockerfile(context, dockerfile)
    if only_check:
        _check(source, options.get("dockerfile", "Dockerfile"), options["args"], settings)
        return
    options.update(platform=platform, cache_from=cache_from, cache_to=cache_to)
    options.update(target=target, contexts=_contexts(contexts), output=[_output(one) for one in outputs])
    options.update(secrets=_secrets(secrets), ssh=agents, allow=allow)
    options.update(network=network, extra_hosts=hosts, labels=labels)
    quiet = quiet or progress == "quiet"
    with _looking_into(on_error), showing_build(progress) as shown:  # the picture ends before a shell begins
        if not quiet:
            options.update(on_event=shown.show, on_progress=shown.heed)
        image = pylxc.Image.build(source, tag=tags, engine=settings.engine(), **options)
    if all(isinstance(one, str) for one in options["output"]):  # else the standard output has an archive
        _tell(image.id, tags, quiet=quiet)


def _tell(id: str, tags: tuple[str, ...], *, quiet: bool) -> None:  # noqa: A002  docker's name
    if quiet:
        click.echo(id)
        return
    click.echo(f"writing image {id}", err=True)
    for tag in tags:
        click.echo(f"naming to {tag}", err=True)


VERBS = {"build": build}
