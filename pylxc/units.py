"""Sizes and durations, as people write and read them.

Hides the spellings ("512m", "1m30s", "About an hour ago"). Invariant: inside pylxc a size is an ``int`` in bytes and a
duration a ``float`` in seconds; only this module knows any other form. The words are those of docker's commands.
"""

from __future__ import annotations

import math
import re

from pylxc.errors import SpecError

# Patterns are compiled where they are first used (re keeps them): importing stays cheap.
_SIZE = r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([kmgtp]?)(?:i?b)?"
_SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE_LIMIT = 2**63 - 1  # what the kernel's counters hold

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]+"
_DURATION = r"([0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d)"
_DURATION_LIMIT = 2**63 * 1e-9  # s; what a time in nanoseconds holds, and no less than poll(2) can wait
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def parse_size(value: float | str, option: str = "size") -> int:
    """Return a size in bytes.

    ``value`` is bytes, or a number with a binary unit: ``b k m g t p``, also as ``kb`` and ``KiB`` (all powers of 1024,
    as in docker). ``option`` is the name that an error gives.

    Raises SpecError: not a size, negative, or beyond 2^63 - 1.

    >>> parse_size("512m")
    536870912
    """
    remedy = 'give bytes, or a number with a unit such as "512m", "64k" or "1.5g"'
    if isinstance(value, str):
        match = re.fullmatch(_SIZE, value.strip().lower())
        if match is None:
            raise SpecError(option, value, remedy)
        number, unit = match.groups()
        factor = 1024 ** _SIZE_POWERS[unit]
        size = int(float(number) * factor) if "." in number else int(number) * factor
    elif isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(option, value, remedy)
    else:
        size = value
    if not 0 <= size <= _SIZE_LIMIT:
        raise SpecError(option, value, "a size lies between 0 and 2^63 - 1 bytes")
    return size


def parse_duration(value: float | str, option: str = "duration") -> float:
    """Return a duration in seconds.

    ``value`` is seconds, or a string as Go writes it: ``"1m30s"``, ``"500ms"``, ``"2h"``; a bare number is seconds.
    ``option`` is the name that an error gives.

    Raises SpecError: not a duration, negative, or not finite.

    Source: https://pkg.go.dev/time#ParseDuration (with ``d``, a day, added).

    >>> parse_duration("1m30s")
    90.0
    """
    remedy = 'give seconds, or a duration such as "1m30s" or "500ms"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise SpecError(option, value, remedy)
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(_NUMBER, text):
            return float(text)
        parts = re.findall(_DURATION, text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise SpecError(option, value, remedy)
        return math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 <= value <= _DURATION_LIMIT:
        raise SpecError(option, value, "a duration is finite and not negative")
    return float(value)


def format_decimal(number: float) -> str:
    """Return a number in plain decimals, to a billionth, without zeros at its end.

    >>> format_decimal(2.0), format_decimal(0.25), format_decimal(1e-9)
    ('2', '0.25', '0.000000001')
    """
    return f"{number:.9f}".rstrip("0").rstrip(".")


def format_size(size: float) -> str:
    """Return a size of so many bytes as ``docker images`` shows it: decimal units, three digits.

    >>> format_size(117_000_000)
    '117MB'
    """
    value = float(size)
    for unit in _DECIMAL_UNITS[:-1]:
        if float(f"{value:.3g}") < 1000:  # noqa: PLR2004  the step from one decimal unit to the next
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}{_DECIMAL_UNITS[-1]}"


def format_age(seconds: float) -> str:
    """Return how long something took or takes, in docker's words.

    >>> format_age(301)
    '5 minutes'
    """
    hours = int(seconds / _HOUR + 0.5)
    for limit, text in _SPANS:
        if (seconds if limit <= _HOUR else hours * _HOUR) < limit:
            return text.format(
                seconds=int(seconds),
                minutes=int(seconds // _MINUTE),
                hours=hours,
                days=hours * _HOUR // _DAY,
                weeks=hours * _HOUR // (7 * _DAY),
                months=hours * _HOUR // (30 * _DAY),
            )
    return f"{hours * _HOUR // (365 * _DAY)} years"


# Below so many seconds, these words. Beyond an hour docker counts whole hours, rounded.
_SPANS = (
    (1, "Less than a second"),
    (2, "1 second"),
    (_MINUTE, "{seconds} seconds"),
    (2 * _MINUTE, "About a minute"),
    (_HOUR, "{minutes} minutes"),
    (2 * _HOUR, "About an hour"),
    (2 * _DAY, "{hours} hours"),
    (14 * _DAY, "{days} days"),
    (60 * _DAY, "{weeks} weeks"),
    (2 * 365 * _DAY, "{months} months"),
)


def format_ago(seconds: float) -> str:
    """Return how long ago something happened, in docker's words. A time in the future counts as now.

    >>> format_ago(301)
    '5 minutes ago'
    """
    return f"{format_age(max(seconds, 0))} ago"
