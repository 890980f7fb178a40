"""The verbs about what a container wrote: ``diff commit``.

Invariant: docker's flags and letters.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import printable
from pylxc.cli.containers import find
from pylxc.cli.tables import format_for_people

if TYPE_CHECKING:
    from pylxc.cli.app import Settings

LETTERS = {"added": "A", "changed": "C", "deleted": "D"}


@click.command()
@format_for_people("plain", "A letter and a path")
@click.argument("name", metavar="CONTAINER")
@click.pass_obj
def diff(settings: Settings, /, *, output: str, name: str) -> None:
    """Show what a container has added (A), changed (C) and deleted (D) in its image's files."""
    changes = find(name, settings.engine()).diff()
    if output == "json":
        lines = [json.dumps({"Kind": LETTERS[change.kind], "Path": change.path}) for change in changes]
    else:
        lines = [f"{LETTERS[change.kind]} {printable(change.path)}" for change in changes]
    if lines:
        click.echo("\n".join(lines))


class _Truth(click.types.BoolParamType):
    """A truth value that may also stand as docker's users write it, ``-p=false``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        return super().convert(value.removeprefix("=") if isinstance(value, str) else value, param, ctx)


@click.command()
@click.option("-a", "--author", metavar="WHO", help="Who made the image.")
@click.option("-m", "--message", metavar="TEXT", help="What for.")
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Such as 'CMD [\"sh\"]'.")
@click.option(
    "-p", "--pause", type=_Truth(), default=True, show_default=True, help="Stop the container while it is copied."
)
@click.argument("name", metavar="CONTAINER")
@click.argument("ref", metavar="[REPOSITORY[:TAG]]", required=False)
@click.pass_obj
def commit(  # noqa: PLR0913  one for each option
    settings: Settings,
    /,
    *,
    author: str | None,
    message: str | None,
    changes: tuple[str, ...],
    pause: bool,
    name: str,
    ref: str | None,
) -> None:
    """Make an image of a container as it is now, and print its id."""
    container = find(name, settings.engine())
    image = container.commit(ref, author=author, message=message, changes=changes, pause=pause)
    click.echo(image.id)


VERBS = {"commit": commit, "diff": diff}
