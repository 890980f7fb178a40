"""The verbs about what was before: ``history log rollback``.

Invariant: the newest is shown first, as docker and git do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.tables import age, format_option, moment, print_rows, short_id
from pylxc.units import format_size

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings

_STEPS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
_MOVES = {"Ref": "REF", "ID": "IMAGE ID", "Before": "BEFORE", "MovedSince": "MOVED"}
_LONGEST = 45  # characters of a step, as in docker
_NONE = "<none>"


def _steps(image: pylxc.Image, *, whole: bool) -> list[dict[str, str]]:
    """Return the steps, the last one first; only the last one's image is known, as it is for what docker pulled."""
    layers = iter(image.layers)
    rows = []
    for entry in image.history():
        layer = None if entry.empty_layer else next(layers, None)
        words = (
            entry.created_by if whole or len(entry.created_by) <= _LONGEST else f"{entry.created_by[: _LONGEST - 1]}…"
        )
        rows.append(
            {
                "ID": "<missing>",
                "CreatedAt": moment(entry.created),
                "CreatedSince": age(entry.created),
                "CreatedBy": words,
                "Size": format_size(layer.size if layer else 0),
                "Comment": str(entry.extra.get("comment", "")),
            }
        )
    if rows:
        rows[-1]["ID"] = short_id(image.id, whole=whole)
    return rows[::-1]


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--no-trunc", "whole", is_flag=True, help="Show ids and steps in full.")
@format_option
@click.argument("name", metavar="IMAGE")
@click.pass_obj
def history(settings: Settings, /, *, output: str, name: str, **flags: Any) -> None:
    """Show the steps that made an image."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    rows = _steps(pylxc.Image.get(name, engine=settings.engine()), whole=flags["whole"])
    if flags["quiet"]:
        for row in rows:
            click.echo(row["ID"])
    else:
        print_rows(rows, _STEPS, output)


@click.command()
@click.option("--no-trunc", "whole", is_flag=True, help="Show ids in full.")
@format_option
@click.argument("ref")
@click.pass_obj
def log(settings: Settings, /, *, ref: str, output: str, whole: bool) -> None:
    """Show every move of a tag: REF@{n} is what it named n moves ago."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    def shown(identity: str) -> str:
        return short_id(identity, whole=whole) if identity else _NONE

    moves = pylxc.Image.log(ref, engine=settings.engine())
    rows = [
        {
            "Ref": f"{ref}@{{{number}}}",
            "ID": shown(move.new),
            "Before": shown(move.old),
            "MovedAt": moment(move.time),
            "MovedSince": age(move.time),
        }
        for number, move in enumerate(moves)
    ]
    print_rows(rows, _MOVES, output)


@click.command()
@click.argument("ref")
@click.argument("steps", type=click.IntRange(min=1), default=1)
@click.pass_obj
def rollback(settings: Settings, /, *, ref: str, steps: int) -> None:
    """Let a tag name again what it named STEPS moves ago (default: 1)."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    click.echo(pylxc.Image.rollback(ref, steps, engine=settings.engine()).id)


VERBS = {"history": history, "log": log, "rollback": rollback}
