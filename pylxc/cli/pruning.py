"""What the ``prune`` verbs have in common: docker's filters, as the options of the library's own."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


def _age(text: str) -> float | str:
    """Return what --filter until says, a duration or a moment (RFC 3339, or seconds since 1970), as an age."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return time.time() - float(text) if text.replace(".", "", 1).isdigit() else text
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, time.time() - moment.timestamp())


def parse_prune_filters(filters: Sequence[str], *, until: bool = True) -> dict[str, Any]:
    """Return filters as options of a ``prune``, ``until`` among them or not. Raises click.UsageError."""
    options: dict[str, Any] = {"labels": [], "without_labels": []}
    for text in filters:
        name, equals, value = text.partition("=")
        if name == "label!":
            options["without_labels"].append(value)
        elif name == "label":
            options["labels"].append(value)
        elif name == "until" and until and "until" not in options:
            options["until"] = _age(value)
        else:
            equals = ""
        if not equals or not value:
            known = "until (once), label, label!" if until else "label, label!"
            raise click.UsageError(f"filter {text!r}: give name=value, the name one of {known}")
    return options
