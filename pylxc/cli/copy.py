"""``cp``: files between this machine and a container.

Invariant: docker's words. ``CONTAINER:PATH`` is in a container, unless what is before the colon begins with "/" or
".", which only a path of this machine does; ``-`` is a tar stream on standard input or output.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pylxc.cli.containers import find

if TYPE_CHECKING:
    from pylxc.cli.app import Settings


@click.command()
@click.option("-a", "--archive", is_flag=True, help="Keep owner and group, by number.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a link as SRC leads to, not the link.")
@click.option("-q", "--quiet", is_flag=True, help="As it is without: there is nothing to hush.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DEST")
@click.pass_obj
def cp(  # noqa: PLR0913  one for each option
    settings: Settings,
    /,
    *,
    archive: bool,
    follow: bool,
    quiet: bool,  # noqa: ARG001  taken for docker's users
    source: str,
    destination: str,
) -> None:
    """Copy files into or out of a container; one of SRC and DEST is CONTAINER:PATH.

    A directory that exists takes SRC under its own name, and what is in SRC when that ends in "/.". "-" as SRC reads a
    tar archive to be unpacked in DEST, "-" as DEST writes one.
    """
    of, path = _parse(source)
    to, target = _parse(destination)
    if bool(of) == bool(to):
        raise click.UsageError(f"one of {source} and {destination} must be CONTAINER:PATH, and one must not")
    if of:
        if target == "-" and sys.stdout.isatty():
            raise click.UsageError("a tar archive is nothing for a terminal: redirect the output")
        sink = sys.stdout.buffer if target == "-" else target
        find(of, settings.engine()).copy_out(path, sink, archive=archive, follow=follow)
    else:
        stream = sys.stdin.buffer if path == "-" else path
        find(to, settings.engine()).copy_in(stream, target, archive=archive, follow=follow)


def _parse(word: str) -> tuple[str, str]:
    """Return the container ("" for this machine) and the path."""
    container, colon, path = word.partition(":")
    if not colon or word[0] in "/.":
        return "", word
    return container, path or "/"


VERBS = {"cp": cp}
