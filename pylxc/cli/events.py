"""``events``: what happens to containers, as it happens.

Invariant: each event is written when it comes, as one line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import click

from pylxc.cli.app import printable
from pylxc.cli.logs import parse_since
from pylxc.cli.tables import format_for_people

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings


def _filters(given: tuple[str, ...]) -> dict[str, list[str]]:
    """Return filters ``name=value`` by name; which there are, the library says."""
    chosen: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"filter {text!r}: give name=value")
        chosen.setdefault(name, []).append(value)
    return chosen


def _fields(event: pylxc.Event) -> dict[str, str | int | float]:
    """Return what the event has, without what does not apply."""
    return {key: value for key, value in attrs.asdict(event).items() if value is not None}


def _line(event: pylxc.Event) -> str:
    """Return the event as docker shows one: when, of what, what, which, and in brackets the rest."""
    rest = _fields(event)
    for shown in ("kind", "container", "time"):
        del rest[shown]
    attributes = ", ".join(f"{key}={value}" for key, value in rest.items())
    from pylxc.runtime.logs import format_time  # noqa: PLC0415  heavy modules are imported where they are used

    return printable(f"{format_time(event.time)} container {event.kind} {event.container} ({attributes})")


@click.command()
@click.option("--since", help='Begin with what happened since: "10m" ago, a time, or seconds since 1970.')
@click.option("--until", help="End there instead of going on for ever; a time as with --since.")
@click.option(
    "-f", "--filter", "filters", multiple=True, help="Show those with name=value only: container, event, image."
)
@format_for_people("text", "A line for people")
@click.pass_obj
def events(
    settings: Settings, /, *, since: str | None, until: str | None, filters: tuple[str, ...], output: str
) -> None:
    """Show what happens to containers, until interrupted."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    begin = None if since is None else parse_since(since)
    end = None if until is None else parse_since(until, "until")
    with pylxc.events(
        follow=True, since=begin, until=end, filters=_filters(filters), engine=settings.engine()
    ) as stream:
        for event in stream:
            click.echo(json.dumps(_fields(event)) if output == "json" else _line(event))


VERBS = {"events": events}
