"""Forms that options of any kind have: texts, numbers, lists, mappings.

Each word is a function of an option's name and its value, or makes one. Invariant: what is refused is refused with the
name, the value and what to give instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError
from pylxc.mounts import host_path
from pylxc.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    Normalise = Callable[[str, Any], Any]


def flag(option: str, value: Any) -> bool:
    """Return True or False, and nothing that only looks like one."""
    if not isinstance(value, bool):
        raise SpecError(option, value, "give True or False")
    return value


def text(option: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise SpecError(option, value, "give a string; it cannot be empty or hold a NUL byte")
    return value


def matching(pattern: str, remedy: str) -> Normalise:
    """Make a form of texts that match a pattern as a whole; ``remedy`` is what errors tell to give."""

    def normalise(option: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise SpecError(option, value, remedy)
        return value

    return normalise


def choice(*choices: str) -> Normalise:
    """Make a form of one of several texts."""

    def normalise(option: str, value: Any) -> str:
        if value not in choices:
            raise SpecError(option, value, f"give one of {', '.join(map(repr, choices))}")
        return str(value)

    return normalise


def integer(low: int, high: int) -> Normalise:
    """Make a form of whole numbers between two, both included."""

    def normalise(option: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SpecError(option, value, f"give an integer from {low} to {high}")
        return value

    return normalise


def size(option: str, value: Any) -> int:
    """Return a number of bytes."""
    return parse_size(value, option)


def some_size(option: str, value: Any) -> int:
    """Return the size of a tmpfs, which is not 0."""
    size = parse_size(value, option)
    if not size:
        raise SpecError(option, value, "a tmpfs of size 0 has no limit (tmpfs(5)); give one, or leave it out")
    return size


def duration(option: str, value: Any) -> float:
    """Return a number of seconds."""
    return parse_duration(value, option)


def items_of(option: str, value: Any) -> list[Any]:
    """Return a list; one text is a list of one."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError(option, value, "give a list")
    return list(value)


def pairs_of(option: str, value: Any, separators: str = "=") -> list[tuple[Any, Any]]:
    """Return a mapping, or a list of texts ``name=value``, as pairs; the value is None where there is none."""
    if isinstance(value, Mapping):
        return list(value.items())
    pairs: list[tuple[Any, Any]] = []
    for item in items_of(option, value):
        if not isinstance(item, str):
            raise SpecError(option, item, f'give a mapping, or a list of "name{separators[0]}value"')
        cut = min((item.find(mark) for mark in separators if mark in item), default=-1)
        pairs.append((item, None) if cut < 0 else (item[:cut], item[cut + 1 :]))
    return pairs


def paths(option: str, value: Any) -> tuple[str, ...]:
    """Return paths of this host, absolute."""
    items = [value] if isinstance(value, os.PathLike) else items_of(option, value)
    if not all(isinstance(item, (str, os.PathLike)) for item in items):
        raise SpecError(option, value, "give a path, or a list of paths")
    return tuple(host_path(item, option) for item in items)


def labels(option: str, value: Any) -> dict[str, str]:
    """Return labels by name; one without a value has an empty one."""
    labels = {name: "" if content is None else content for name, content in pairs_of(option, value)}
    for name, content in labels.items():
        if not isinstance(name, str) or not name or not isinstance(content, str):
            raise SpecError(option, {name: content}, "a label's name and value are strings, the name not empty")
    return labels


def number_in(text: str, low: int, high: int) -> int:
    """Return a number written in ASCII digits, or -1 where it is none or out of bounds."""
    # No more than ten digits: int() of thousands is slow, and refused by Python.
    if not re.fullmatch(r"[0-9]{1,10}", text):
        return -1
    number = int(text)
    return number if low <= number <= high else -1
