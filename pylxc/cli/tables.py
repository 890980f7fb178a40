"""Listings: as a table for people, as JSON lines for programs.

Invariant: a table is plain text in columns as wide as their widest cell; nothing is wrapped or cut to the width of a
terminal, so that it can be read by a program as well. Cells hold no control characters.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import printable
from pylxc.units import format_ago

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_GAP = 3
_NARROWEST = 10
SHORT_ID = 12


def format_for_people(name: str, words: str) -> Callable[[Any], Any]:
    """Return the option --format: JSON, or what people read, by its name and in words."""
    choices = click.Choice([name, "json"])
    help_ = f"{words}, or one JSON object a line."
    return click.option("--format", "output", type=choices, default=name, show_default=True, help=help_)


format_option = format_for_people("table", "A table")


def print_rows(rows: Sequence[Mapping[str, str]], headers: Mapping[str, str], output: str) -> None:
    """Print rows: as a table of the keys of ``headers`` under its values, or each with all its keys as JSON."""
    if output == "json":
        _print(json.dumps(row) for row in rows)
        return
    lines = [list(headers.values())] + [[printable(row[key]) for key in headers] for row in rows]
    widths = [max(_NARROWEST, *(len(line[column]) + _GAP for line in lines)) for column in range(len(headers))]
    _print("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _print(lines: Iterable[str]) -> None:
    """Print lines at once: click flushes after each call."""
    text = "\n".join(lines)
    if text:
        click.echo(text)


def short_id(identity: str, *, whole: bool = False) -> str:
    """Return the first twelve characters of an id, without the algorithm; or the whole of it as it is."""
    return identity if whole else identity.removeprefix("sha256:")[:SHORT_ID]


def age(timestamp: float | None) -> str:
    """Return how long ago it was, in docker's words."""
    return format_ago(time.time() - timestamp) if timestamp else "N/A"


def moment(timestamp: float | None) -> str:
    """Return a time (seconds since 1970) as docker prints it."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(timestamp)) if timestamp else ""


def quoted(words: Sequence[str], *, whole: bool = False) -> str:
    """Return a command as ``ps`` shows it: in quotes, cut to twenty characters unless the whole is wanted."""
    text = printable(" ".join(words), keep="")
    limit = 20
    return f'"{text}"' if whole or len(text) <= limit else f'"{text[: limit - 1]}…"'


def parse_filters(given: Sequence[str], known: Mapping[str, Callable[..., bool]]) -> list[tuple[str, str]]:
    """Return filters ``name=value`` as pairs. Raises click.UsageError for one that does not exist."""
    filters = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise click.UsageError(f"filter {text!r}: give name=value, the name one of {', '.join(sorted(known))}")
        filters.append((name, value))
    return filters


def passes(item: Any, filters: Sequence[tuple[str, str]], known: Mapping[str, Callable[[Any, str], bool]]) -> bool:
    """Say whether an item passes: values of one name are alternatives, different names add up, as in docker."""
    names = {name for name, _ in filters}
    return all(any(known[name](item, value) for other, value in filters if other == name) for name in names)


def says(value: bool, wanted: str, key: str) -> bool:  # noqa: FBT001  what is compared
    """Say whether a flag is as the filter ``key`` asks. Raises click.UsageError for other words than true and false."""
    if wanted.lower() not in ("true", "1", "false", "0"):
        raise click.UsageError(f"filter {key}={wanted!r}: give true or false")
    return value == (wanted.lower() in ("true", "1"))
