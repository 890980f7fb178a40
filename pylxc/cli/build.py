"""``build``: an image from a Dockerfile, with the steps shown as they run.

Invariant: progress goes to standard error, line by line; with ``--quiet`` the image's id, alone, to standard output.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pylxc.cli.app import printable
from pylxc.cli.progress import showing_pull

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from pylxc import BuildEvent, Progress
    from pylxc.cli.app import Settings


class _Progress:
    """Prints the events of a build, in the manner of BuildKit's plain progress, and before them those of a pull."""

    def __init__(self) -> None:
        self._partial = b""
        self._started = time.monotonic()
        self._pulling = ExitStack()
        self._heed: Callable[[Progress], object] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pulling.close()

    def heed(self, event: Progress) -> None:
        """Show how the image after FROM comes."""
        if self._heed is None:
            self._heed = self._pulling.enter_context(showing_pull())
        self._heed(event)

    def show(self, event: BuildEvent) -> None:
        """Print one event."""
        self._pulling.close()  # whatever had to come is here
        if event.kind == "output":
            *lines, self._partial = (self._partial + event.data).split(b"\n")
            for line in lines:
                self._output(event.step, line)
            return
        if self._partial:
            self._output(event.step, self._partial)
            self._partial = b""
        if event.kind == "step":
            self._started = time.monotonic()
            self._print(event.step, f"[{event.step}/{event.total}] {event.instruction}")
        elif event.kind == "cached":
            self._print(event.step, "CACHED")
        elif event.kind == "done":
            self._print(event.step, f"DONE {event.duration:.1f}s")
        elif event.kind == "warning":
            self._print(event.step, f"WARNING: {event.instruction}")

    def _output(self, step: int, line: bytes) -> None:
        # A carriage return is a progress bar being redrawn: what stands last is what would be seen.
        text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        self._print(step, f"{time.monotonic() - self._started:.3f} {text}")

    @staticmethod
    def _print(step: int, text: str) -> None:
        click.echo(f"#{step} {printable(text, keep=chr(9))}", err=True)


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    """Return build arguments; a name alone takes the caller's variable, and is left out where there is none."""
    from pylxc.normalise import NORMAL  # noqa: PLC0415

    result: dict[str, str] = NORMAL["env"]("args", list(given))
    return result


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


@click.command()
@click.option("-t", "--tag", "tags", multiple=True, help="The image's name. May be given several times.")
@click.option(
    "-f", "--file", "dockerfile", help="The Dockerfile (default: Dockerfile in CONTEXT); - for standard input."
)
@click.option("--build-arg", "arguments", multiple=True, help="Set an ARG: NAME=value.")
@click.option("--pull", is_flag=True, help="Ask the registry for the image after FROM even where it is here.")
@click.option("--no-cache", is_flag=True, help="Carry out every step anew.")
@click.option("--network", help='The network of RUN steps: "none" or "host".')
@click.option(
    "--progress", type=click.Choice(["auto", "plain", "quiet"]), default="auto", help="How to show the steps."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the image's id.")
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
    network: str | None,
    progress: str,
    pull: bool,
    no_cache: bool,
    quiet: bool,
    only_check: bool,
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
    if network is not None:
        options["network"] = network
    quiet = quiet or progress == "quiet"
    with _Progress() as shown:
        if not quiet:
            options.update(on_event=shown.show, on_progress=shown.heed)
        image = pylxc.Image.build(source, tag=tags[0] if tags else None, engine=settings.engine(), **options)
    for tag in tags[1:]:
        image.tag(tag)
    identity = f"sha256:{image.id.removeprefix('sha256:')}"
    if quiet:
        click.echo(identity)
        return
    click.echo(f"writing image {identity}", err=True)
    for tag in tags:
        click.echo(f"naming to {tag}", err=True)


VERBS = {"build": build}
