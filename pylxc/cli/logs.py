"""``logs``: what a container wrote, to the stream that it wrote it to.

Invariant: without ``--timestamps``, the bytes that come out are the bytes that the container wrote.
"""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

import click

from pylxc.units import parse_duration

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings


def parse_since(text: str, option: str = "since") -> float:
    """Return a point in time (seconds since 1970) from such seconds, from an ISO 8601 time, or from "10m" (ago)."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if re.match(r"[0-9]{4}-", text):
        from datetime import datetime  # noqa: PLC0415  rarely needed

        # Python 3.10 knows neither "Z" nor more than six digits of a second.
        iso = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text.replace("Z", "+00:00"))
        try:
            return datetime.fromisoformat(iso).timestamp()
        except ValueError as error:
            raise click.BadParameter(f"--{option} {text!r}: {error}") from error
    return time.time() - parse_duration(text, option)


def parse_tail(text: str) -> int | None:
    """Return a number of lines; None: all."""
    if text == "all":
        return None
    if not re.fullmatch(r"[0-9]+", text):
        raise click.BadParameter(f'--tail {text!r}: give a number of lines, or "all"')
    return int(text)


def _write(line: pylxc.LogLine, *, timestamps: bool) -> None:
    out = sys.stderr.buffer if line.stream == "stderr" else sys.stdout.buffer
    out.write(line.format(timestamps=timestamps))
    out.flush()


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option("-n", "--tail", default="all", show_default=True, help="Show so many lines from the end.")
@click.option("--since", help='Show what was written since: "10m" ago, a time, or seconds since 1970.')
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.argument("container")
@click.pass_obj
def logs(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    container: str,
    tail: str,
    since: str | None,
    follow: bool,
    timestamps: bool,
) -> None:
    """Show what a container that was started in the background has written."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    lines, start = parse_tail(tail), None if since is None else parse_since(since)
    target = pylxc.Container.get(container, engine=settings.engine())
    for line in target.logs(follow=follow, tail=lines, since=start):
        _write(line, timestamps=timestamps)


VERBS = {"logs": logs}
