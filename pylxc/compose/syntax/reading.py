"""YAML files, read into trees.

Hides the parser. Invariant: nothing here recurses, and what a file comes to is bounded before it is built: its bytes,
its depth, and its values with every alias counted as often as it is used, so that no file of a kilobyte unfolds into
gigabytes.
Source: YAML 1.2.2; https://yaml.org/type/merge.html for ``<<``.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from attrs import define

from pylxc.compose.syntax.scalars import plain_value, tagged_value
from pylxc.compose.syntax.tree import RESET, At, List, Map, Override, Place
from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST = 8 << 20  # bytes of a file; a thousand services take a tenth of it
DEEPEST = 100
MOST = 100_000  # values, aliases unfolded


def read_file(path: str | os.PathLike[str], shown: str, key: str = "(the whole file)", line: int = 0) -> bytes:
    """Return what is in a file of text, "-" meaning the standard input. ``shown``, ``key``, ``line``: what errors name.

    Raises ComposeError: not there, not a file (a pipe would make the caller wait), or more than ``LARGEST``.
    """
    name = os.fspath(path)
    try:
        if name == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    reason = f"{name} is not a file"
                    raise ComposeError(reason, file=shown, line=line, key=key)
                data = file.read(LARGEST + 1)
    except OSError as error:
        raise ComposeError(f"{name}: {error.strerror}", file=shown, line=line, key=key) from error
    if len(data) > LARGEST:
        raise ComposeError(f"{name}: more than {LARGEST >> 20} MiB", file=shown, line=line, key=key)
    return data


def documents(data: bytes, file: str) -> Iterator[Any]:
    """Yield the documents of a YAML text. ``file`` is what errors call it. Raises ComposeError."""
    from yaml import CLoader, MarkedYAMLError, YAMLError, parse  # noqa: PLC0415  imported where it is used

    reader = _Reader(file)
    try:
        yield from reader.documents(parse(data, Loader=CLoader))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ": ".join(one for one in (error.context, error.problem) if one)
        raise reader.at(mark.line + 1 if mark else 1).error(reason) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise reader.at(1).error(" ".join(str(error).split())) from None


@define
class _Open:
    """A collection that has begun. ``key``: the one whose value comes next; ``merged``: what ``<<`` brings."""

    value: Map | List
    event: Any
    weight: int
    key: str | None = None
    place: Place | None = None
    merged: list[tuple[Any, At]] | None = None


class _Reader:
    """Builds trees from events. ``_weight`` counts values, ``_anchors`` has what is named so far, and its weight."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._weight = 0
        self._done: list[Any] = []

    def at(self, line: int) -> At:
        """Return where reading is."""
        path = (one.key if isinstance(one.value, Map) else len(one.value) for one in self._open)
        return At(tuple(part for part in path if part is not None), Place(self._file, line))

    def documents(self, events: Iterable[Any]) -> Iterator[Any]:
        """Yield the value of each document."""
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                self._anchors.clear()
                self._done.clear()
            elif kind == "DocumentEndEvent":
                yield from self._done[:1]
            elif kind not in ("StreamStartEvent", "StreamEndEvent"):
                self._take(kind, event)

    def _take(self, kind: str, event: Any) -> None:
        line = event.start_mark.line + 1
        self._weight += 1
        if kind == "ScalarEvent":
            self._scalar(event, line)
        elif kind == "AliasEvent":
            self._alias(event, line)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._begin(kind, event, line)
        else:
            self._end()
        if self._weight > MOST:
            raise self.at(line).error(f"the file comes to more than {MOST} values, its aliases unfolded")

    def _begin(self, kind: str, event: Any, line: int) -> None:
        place = Place(self._file, line)
        owner = self._open[-1] if self._open else None
        if owner is not None and isinstance(owner.value, Map) and owner.key is None:
            raise self.at(line).error("a key must be text, not a mapping or a sequence")
        if len(self._open) >= DEEPEST:
            raise self.at(line).error(f"nested too deeply: more than {DEEPEST}")
        if event.anchor:
            self._anchors[event.anchor] = None
        value: Map | List = Map(place) if kind == "MappingStartEvent" else List(place)
        self._open.append(_Open(value, event, self._weight))

    def _end(self) -> None:
        ended = self._open.pop()
        if ended.merged:
            for source, at in ended.merged:
                _merge(ended.value, source, at)
        value = _marked(ended.value, ended.event.tag)
        if ended.event.anchor:
            self._anchors[ended.event.anchor] = (value, self._weight - ended.weight + 1)
        self._put(value, ended.event.start_mark.line + 1)

    def _scalar(self, event: Any, line: int) -> None:
        owner = self._open[-1] if self._open else None
        is_plain = event.implicit[0]
        if owner is not None and isinstance(owner.value, Map) and owner.key is None:
            self._name(owner, event, line, is_plain=is_plain)
            return
        value = self._value(event, line, is_plain=is_plain)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._put(value, line)

    def _value(self, event: Any, line: int, *, is_plain: bool) -> Any:
        tag = event.tag
        if tag in (None, "!", "!reset", "!override"):
            value = plain_value(event.value) if is_plain or (tag and tag != "!" and not event.style) else event.value
            return _marked(value, tag)
        try:
            return tagged_value(tag, event.value, is_plain=is_plain)
        except ValueError:
            raise self.at(line).error(f"{event.value[:60]!r} is not of the kind that its tag {tag} says") from None

    def _name(self, owner: _Open, event: Any, line: int, *, is_plain: bool) -> None:
        name = self._value(event, line, is_plain=is_plain)
        if not isinstance(name, str):
            raise self.at(line).error(f"the key {event.value[:60]!r} must be text: put it in quotes")
        if event.anchor:
            self._anchors[event.anchor] = (name, 1)
        if name == "<<" and is_plain:
            owner.key, owner.merged = name, owner.merged or []
        else:
            self._begin_value(owner, name, line)

    def _begin_value(self, owner: _Open, name: str, line: int) -> None:
        owner.key, owner.place = name, Place(self._file, line)
        if name in owner.value:
            raise self.at(line).error(
                f"given twice, first in line {owner.value.place_of(name).line}: leave one of them out"
            )

    def _alias(self, event: Any, line: int) -> None:
        name = event.anchor
        if name not in self._anchors:
            raise self.at(line).error(f"*{name}: nothing before it is named &{name}")
        found = self._anchors[name]
        if found is None:
            raise self.at(line).error(f"*{name} stands within what it stands for")
        value, weight = found
        self._weight += weight
        owner = self._open[-1] if self._open else None
        if owner is not None and isinstance(owner.value, Map) and owner.key is None:
            if not isinstance(value, str):
                raise self.at(line).error("a key must be text")
            self._begin_value(owner, value, line)
        else:
            self._put(value, line)

    def _put(self, value: Any, line: int) -> None:
        if not self._open:
            self._done.append(value)
            return
        owner = self._open[-1]
        if isinstance(owner.value, List):
            owner.value.add(value, Place(self._file, line))
            return
        at = self.at(line)
        key, owner.key = owner.key or "", None
        if key == "<<" and owner.merged is not None:
            owner.merged.append((value, at))
        else:
            owner.value.put(key, value, owner.place)


def _marked(value: Any, tag: str | None) -> Any:
    if tag == "!reset":
        return RESET
    return Override(value) if tag == "!override" else value


def _merge(target: Map | List, source: Any, at: At) -> None:
    """Add what a mapping does not have from what ``<<`` names: of several, the first counts."""
    for one in source if isinstance(source, List) else [source]:
        if not isinstance(one, Map):
            raise at.error("<< takes a mapping, or a sequence of mappings")
        for key, value in one.items():
            if isinstance(target, Map) and key not in target:
                target.put(key, value, one.places.get(key))
