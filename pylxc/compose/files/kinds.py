"""The words in which ``schema`` says what a value must be.

Each word is a reader: it takes what stands in a file, refuses what does not belong there, and returns the one form that
the model has. Invariant: an error says what was expected and what was found; the marks ``RESET`` and ``Override`` pass
through, since a later file may carry them.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from pylxc.compose.syntax.scalars import as_text
from pylxc.compose.syntax.tree import RESET, At, List, Map, Override
from pylxc.errors import SpecError
from pylxc.units import format_decimal, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[Any, At], Any]

_BOOLEANS = {"true": True, "yes": True, "y": True, "on": True}
_BOOLEANS |= {"false": False, "no": False, "n": False, "off": False}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_UNITS |= {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9, "w": 7 * 86400 * 10**9}
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SHOWN = 60  # characters of what is wrong


def shown(value: Any) -> str:
    """Return what an error calls a value."""
    if isinstance(value, Map):
        return "a mapping"
    if isinstance(value, List):
        return "a sequence"
    if value is None:
        return "nothing"
    name = "the truth value" if isinstance(value, bool) else "the number" if not isinstance(value, str) else "the text"
    return f"{name} {(value if isinstance(value, str) else as_text(value))[:_SHOWN]!r}"


def read(kind: Reader, value: Any, at: At) -> Any:
    """Read a value that may carry a mark."""
    if value is RESET:
        return RESET
    return Override(kind(value.value, at)) if isinstance(value, Override) else kind(value, at)


def expected(what: str, value: Any, at: At, remedy: str = "") -> Exception:
    """Return the error for a value that is something else."""
    return at.error(f"{what} is expected, not {shown(value)}" + (f": {remedy}" if remedy else ""))


# -- single values -----------------------------------------------------------------------------------------------------


def text(value: Any, at: At) -> str:
    """Read text."""
    if isinstance(value, str):
        return value
    remedy = "put it in quotes" if isinstance(value, (bool, int, float)) else ""
    raise expected("text", value, at, remedy)


def text_or_none(value: Any, at: At) -> str | None:
    """Read text, or nothing."""
    return None if value is None else text(value, at)


def one_of(*words: str) -> Reader:
    """Make a reader of text that is one of a few words."""

    def reader(value: Any, at: At) -> str:
        if text(value, at) not in words:
            raise expected(" or ".join(map(repr, words)), value, at)
        return str(value)

    return reader


def scalar_text(value: Any, at: At) -> str:
    """Read text, or a number in the place of text."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise expected("text or a number", value, at)
    return as_text(value)


def word(value: Any, at: At) -> str:
    """Read text, or a whole number in the place of text."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise expected("text or a whole number", value, at)
    return str(value)


def flag(value: Any, at: At) -> bool:
    """Read a truth value, also the words that YAML 1.1 had for it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise expected("true or false", value, at)


def strict_flag(value: Any, at: At) -> bool:
    """Read a truth value and nothing else."""
    if isinstance(value, bool):
        return value
    raise expected("true or false", value, at)


def flag_or_text(value: Any, at: At) -> str:
    """Read a truth value or text; it becomes text."""
    if isinstance(value, (bool, str)):
        return as_text(value)
    raise expected("true, false or text", value, at)


def integer(value: Any, at: At) -> int:
    """Read a whole number, also as text (a variable gives text)."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected("a whole number", value, at)
    return int(value)


def integer_within(low: int, high: int) -> Reader:
    """Make a reader of whole numbers from ``low`` to ``high``."""

    def reader(value: Any, at: At) -> int:
        number = integer(value, at)
        if not low <= number <= high:
            raise expected(f"a number from {low} to {high}", value, at)
        return number

    return reader


def number(value: Any, at: At) -> int | float:
    """Read a number, also as text."""
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        value = float(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected("a number", value, at)
    return int(value)


def size(value: Any, at: At) -> str:
    """Read a size: bytes, or a number with a unit. It becomes bytes in decimals, as text; -1 is "no limit"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value == -1 and isinstance(value, int):
        return "-1"
    try:
        return str(parse_size(value, at.key))
    except SpecError as error:
        raise expected("a size", value, at, error.remedy) from None


def duration(value: Any, at: At) -> str:
    """Read a duration such as "1m30s". It becomes the form that Go gives it."""
    words = text(value, at)
    sign = -1 if words.startswith("-") else 1
    rest = words.lstrip("+-")
    parts = _DURATION.findall(rest)
    if rest != "0" and (not parts or "".join(amount + unit for amount, unit in parts) != rest):
        raise expected('a duration such as "1m30s" or "500ms"', value, at)
    total = sum(_nanoseconds(amount, _UNITS[unit]) for amount, unit in parts)
    if total >= 2**63:
        raise expected("a duration of less than 292 years", value, at)
    return format_duration(sign * total)


def _nanoseconds(amount: str, unit: int) -> int:
    whole, _, fraction = amount.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole or 0) * unit + int(fraction or 0) * unit // scale


def format_duration(nanoseconds: int) -> str:
    """Return a duration as Go writes it: "1m30s", "1h0m0s", "500ms", "0s".

    >>> format_duration(90 * 10**9), format_duration(1500 * 10**6), format_duration(500)
    ('1m30s', '1.5s', '500ns')
    """
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if rest < _UNITS["s"]:
        unit = next((name for name in ("ms", "us", "ns") if rest >= _UNITS[name]), "s")
        return sign + format_decimal(rest / _UNITS[unit]) + unit.replace("us", "µs")
    seconds, fraction = divmod(rest, _UNITS["s"])
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{seconds}" + (f".{fraction:09}".rstrip("0") if fraction else "") + "s"
    return sign + (f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}" if minutes else tail)


def anything(value: Any, at: At) -> Any:  # noqa: ARG001  as the other readers
    """Read whatever stands there: the value of an ``x-`` key."""
    return value


# -- sequences and mappings --------------------------------------------------------------------------------------------


def items_of(value: Any, at: At) -> list[tuple[Any, At]]:
    """Return the items of a sequence, each with where it stands, but those that were taken back (``!reset``)."""
    if not isinstance(value, List):
        raise expected("a sequence", value, at)
    places = enumerate(value.items_with_places())
    return [(item, At((*at.path, index), place)) for index, (item, place) in places if item is not RESET]


def list_of(kind: Reader, *, unique: bool = False) -> Reader:
    """Make a reader of sequences. ``unique``: no item may stand there twice."""

    def reader(value: Any, at: At) -> List:
        items = items_of(value, at)
        found = List(value.place)
        for item, inside in items:
            before = value[: inside.path[-1]] if unique else ()
            if any(item == other and type(item) is type(other) for other in before):
                raise inside.error(f"{shown(item)} stands there twice")
            found.add(read(kind, item, inside), inside.place)
        return found

    return reader


def one_or_list_of(kind: Reader, *, unique: bool = True) -> Reader:
    """Make a reader of sequences where one item alone needs no sequence."""
    several = list_of(kind, unique=unique)

    def reader(value: Any, at: At) -> List:
        if isinstance(value, List):
            return several(value, at)  # type: ignore[no-any-return]
        found = List(at.place)
        found.add(kind(value, at))
        return found

    return reader


def map_of(kind: Reader, name: str = ".*") -> Reader:
    """Make a reader of mappings with any keys. ``name``: the expression that a key must match, ``x-`` ones too."""
    pattern = re.compile(name)

    def reader(value: Any, at: At) -> Map:
        if not isinstance(value, Map):
            raise expected("a mapping", value, at)
        found = Map(value.place)
        for key, item in value.items():
            inside = at.inside(value, key)
            if not pattern.fullmatch(key):
                raise inside.error("the name has a character that it must not have")
            found.put(key, read(kind, item, inside), value.places.get(key))
        return found

    return reader


def record(keys: Mapping[str, Reader], *, extensible: bool = True) -> Reader:
    """Make a reader of mappings with known keys. ``extensible``: those that begin with ``x-`` are let through."""

    def reader(value: Any, at: At) -> Map:
        if not isinstance(value, Map):
            raise expected("a mapping", value, at)
        found = Map(value.place)
        found.is_record = True
        for key, item in value.items():
            inside = at.inside(value, key)
            if key in keys:
                found.put(key, read(keys[key], item, inside), value.places.get(key))
            elif extensible and key.startswith("x-"):
                found.put(key, item, value.places.get(key))
            else:
                raise inside.error(_unknown(key, keys))
        return found

    return reader


def _unknown(key: str, keys: Mapping[str, Reader]) -> str:
    near = difflib.get_close_matches(key, keys, 1)
    return f"{key!r} is not known here" + (f": did you mean {near[0]!r}?" if near else "")


def pairs(*, nothing: str | None) -> Reader:
    """Make a reader of names with values: a mapping, or a sequence of "NAME=value".

    ``nothing`` is the value of a name that has none: "" for a label, None for a variable that the environment gives.
    """

    def reader(value: Any, at: At) -> Map:
        found = Map(at.place)
        if isinstance(value, List):
            for item, inside in items_of(value, at):
                name, equals, given = text(item, inside).partition("=")
                found.put(name, given if equals else nothing, inside.place)
            return found
        if not isinstance(value, Map):
            raise expected("a mapping, or a sequence of NAME=value", value, at)
        for key, item in value.items():
            found.put(key, read(_pair_value(nothing), item, at.inside(value, key)), value.places.get(key))
        return found

    return reader


def _pair_value(nothing: str | None) -> Reader:
    def reader(value: Any, at: At) -> str | None:
        if value is None:
            return nothing
        if isinstance(value, (str, bool, int, float)):
            return as_text(value)
        raise expected("text, a number, true or false", value, at)

    return reader
