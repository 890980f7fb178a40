"""What an image's history says of a step, in BuildKit's words: tools that read images know them.

Hides how Go writes lists, strings and durations. Invariant: the same step gives the same words on every machine.
Source: moby/buildkit, frontend/dockerfile/dockerfile2llb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build.steps import CopyStep, MetadataStep, RunStep
from pylxc.imageconfig import History
from pylxc.units import format_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.build.steps import Step
    from pylxc.imageconfig import Healthcheck

COMMENT = "buildkit.dockerfile.v0"
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPES["\v"] = "\\v"
_MINUTE = 60


def entry(step: Step, created: float) -> History | None:
    """Return the entry of a step; None for what BuildKit does not tell (ONBUILD)."""
    if step.instruction.name == "ONBUILD":
        return None
    is_empty = isinstance(step, MetadataStep)
    return History(created=created, created_by=words(step), empty_layer=is_empty, extra={"comment": COMMENT})


def words(step: Step) -> str:
    """Return the text of a step's entry."""
    name = step.instruction.name
    if isinstance(step, CopyStep) and name == "FROM":
        return f"FROM {step.source}"  # of a directory
    if isinstance(step, (RunStep, CopyStep)):
        return f"{step.describe()} # buildkit"
    return _of_metadata(step, name) if isinstance(step, MetadataStep) else step.describe()


def _of_metadata(step: MetadataStep, name: str) -> str:
    if name in ("CMD", "ENTRYPOINT"):
        return f"{name} [{' '.join(quoted(str(word)) for word in step.change)}]"
    if name in ("SHELL", "EXPOSE", "VOLUME"):
        return f"{name} {_list(map(str, step.change))}"
    if name == "HEALTHCHECK" and step.state.config.healthcheck is not None:
        return f"{name} {_health(step.state.config.healthcheck)}"
    return step.describe()


def quoted(text: str) -> str:
    r"""Return a string as Go's %q writes it.

    >>> quoted('a "b"\x01')
    '"a \\"b\\"\\x01"'
    """
    return f'"{"".join(_ESCAPES.get(char) or _printable(char) for char in text)}"'


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if code <= 0x7F:  # noqa: PLR2004  the last of ASCII
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004  the last of two bytes


def _list(items: Iterable[str]) -> str:
    return f"[{' '.join(items)}]"


def _health(check: Healthcheck) -> str:
    times = (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    )
    told = " ".join(f"{name}:{duration(seconds)}" for name, seconds in times)
    return f"{{Test:{_list(check.test)} {told} Retries:{check.retries}}}"


def duration(seconds: float) -> str:
    """Return a time as Go writes it.

    >>> duration(5400), duration(1.5), duration(0.25), duration(0)
    ('1h30m0s', '1.5s', '250ms', '0s')
    """
    for unit, factor in (("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if 0 < seconds < 1 and seconds * factor >= 1:
            return f"{format_decimal(seconds * factor)}{unit}"
    minutes, rest = divmod(seconds, _MINUTE)
    hours, minutes = divmod(int(minutes), _MINUTE)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{format_decimal(rest)}s"
