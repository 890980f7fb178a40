"""What a plain word of YAML means, and how a value is written as text.

Hides the scalar rules: those of YAML 1.2 that the field's tools share (``yes`` and ``22:22`` are text) with the octal
numbers of 1.1 (``0644`` is 420). Invariant: a value is None, a boolean, a whole number, a float or text.
Source: YAML 1.2.2, 10.3.2 (core schema).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_FIRST = frozenset("+-.0123456789")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DATE = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)")
_TIME = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d+))?(?:[ \t]*(Z|[-+]\d\d?(?::\d\d)?))?"
)
_LONGEST = 128  # characters of a number
_TAG = "tag:yaml.org,2002:"


def plain_value(text: str) -> Any:
    """Return what a word without quotes means.

    >>> plain_value("0644"), plain_value("yes"), plain_value("22:22"), plain_value("~")
    (420, 'yes', '22:22', None)
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST or len(text) > _LONGEST:
        return text
    number = _number(text.replace("_", ""))
    if number is not None:
        return number
    return _time(text) if text[0].isdigit() else text


def _number(text: str) -> int | float | None:
    match = _INTEGER.fullmatch(text)
    if match is not None:
        sign, sixteen, two, eight, ten = match.groups()
        bases = ((sixteen, 16), (two, 2), (eight, 8), (ten, 10))
        value = next(int(digits, base) for digits, base in bases if digits is not None)
        value = -value if sign == "-" else value
        return value if -(2**63) <= value < 2**64 else float(value)
    decimal = float(text) if _FLOAT.fullmatch(text) else math.inf
    return None if math.isinf(decimal) else decimal


def _time(text: str) -> str:
    """Return a moment in the form that RFC 3339 gives it, other words as they are."""
    date, time = _DATE.fullmatch(text), _TIME.fullmatch(text)
    try:
        if date is not None:
            return datetime(*map(int, date.groups()), tzinfo=timezone.utc).strftime("%Y-%m-%dT00:00:00Z")  # type: ignore[arg-type, misc]  # three numbers
        if time is not None:
            *numbers, fraction, zone = time.groups()
            moment = datetime(*map(int, numbers), tzinfo=_zone(zone))  # type: ignore[arg-type, misc]  # six numbers
            tail = f".{fraction}".rstrip("0").rstrip(".") if fraction else ""
            offset = "Z" if zone in (None, "Z") else moment.isoformat()[-6:]
            return moment.strftime("%Y-%m-%dT%H:%M:%S") + tail + offset
    except ValueError:  # the thirteenth month: a word like others
        return text
    return text


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return timezone.utc
    hours, _, minutes = text[1:].partition(":")
    away = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return timezone(-away if text[0] == "-" else away)


def tagged_value(tag: str, text: str, *, is_plain: bool) -> Any:
    """Return what a word with a tag means. Raises ValueError where it is not of that kind.

    >>> tagged_value("tag:yaml.org,2002:str", "5", is_plain=True)
    '5'
    """
    name = tag.removeprefix(_TAG)
    kind = _TAGS.get(name) if tag.startswith(_TAG) else None
    return plain_value(text) if kind is None and is_plain and tag == "!!" else text if kind is None else kind(text)


def _as_binary(text: str) -> str:
    try:
        return base64.b64decode(text, validate=False).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(text) from None


def _of_kind(kinds: tuple[type, ...]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = plain_value(text)
        if type(value) not in kinds:
            raise ValueError(text)
        return value

    return convert


_TAGS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _of_kind((int,)),
    "float": _of_kind((int, float)),
    "bool": _of_kind((bool,)),
    "null": _of_kind((type(None),)),
    "timestamp": _time,
    "binary": _as_binary,
}


def as_text(value: Any) -> str:
    """Return a scalar as the text that an environment variable or a label gets.

    >>> as_text(True), as_text(1.0), as_text(1e21), as_text(7)
    ('true', '1', '1e+21', '7')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_as_text(value)
    return "" if value is None else str(value)


def _float_as_text(value: float) -> str:
    """Return the shortest decimal that reads back as the same number; an exponent begins at 1e21, and below 1e-4."""
    if value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004  where the exponent begins
        return str(int(value))
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if exponent and -5 < int(exponent) < 21:  # noqa: PLR2004
        return f"{value:.{max(-int(exponent), 0) + len(mantissa)}f}".rstrip("0")
    return text
