"""What a YAML file says, with the line that says it.

Hides where places are kept: beside each value of a mapping and of a sequence. Invariant: a tree is made of ``Map``,
``List``, text, numbers, booleans, None and the two marks ``RESET`` and ``Override``; nothing changes a tree that
another one may share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import field, frozen

from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Place(NamedTuple):
    """Where something stands: ``file`` (as errors name it), ``line`` (from 1)."""

    file: str
    line: int


class Map(dict[str, Any]):
    """A mapping. ``place`` is its own, ``places`` those of its keys. ``is_record``: they are the specification's."""

    __slots__ = ("is_record", "place", "places")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: dict[str, Place] = {}
        self.is_record = False

    def put(self, key: str, value: Any, place: Place | None = None) -> None:
        """Set a value. ``place``: where it stands, if not where the mapping does."""
        self[key] = value
        if place is not None:
            self.places[key] = place

    def place_of(self, key: object) -> Place:
        """Return where a key stands."""
        return self.places.get(key, self.place) if isinstance(key, str) else self.place

    def copied(self) -> Map:
        """Return a mapping with the same values."""
        found = Map(self.place)
        found.update(self)
        found.places.update(self.places)
        found.is_record = self.is_record
        return found

    def emptied(self) -> Map:
        """Return a mapping of the same kind, in the same place, that has nothing yet."""
        found = Map(self.place)
        found.is_record = self.is_record
        return found


class List(list[Any]):
    """A sequence. ``place`` is its own, ``places`` those of its items."""

    __slots__ = ("place", "places")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: list[Place] = []

    def add(self, value: Any, place: Place | None = None) -> None:
        """Append an item."""
        self.append(value)
        self.places.append(place or self.place)

    def place_of(self, key: object) -> Place:
        """Return where the item with this number stands."""
        return self.places[key] if isinstance(key, int) and key < len(self.places) else self.place

    def items_with_places(self) -> Iterable[tuple[Any, Place]]:
        """Return the items, each with its place."""
        return zip(self, self.places, strict=True)


class _Reset:
    """The value of ``!reset``: what the files before say about this key does not hold."""

    def __repr__(self) -> str:
        return "RESET"


RESET = _Reset()


@frozen
class Override:
    """The value of ``!override``: it stands instead of what the files before say, not merged with it."""

    value: Any = field()


@frozen
class At:
    """Where a reader of a tree is: ``path`` (keys and numbers from the root), ``place``."""

    path: tuple[str | int, ...]
    place: Place

    def inside(self, container: Map | List, key: str | int) -> At:
        """Return where one of a container's values is."""
        return At((*self.path, key), container.place_of(key))

    @property
    def key(self) -> str:
        """The path as people write it: "services.web.ports.0"."""
        return ".".join(map(str, self.path)) or "(the whole file)"

    def error(self, reason: str) -> ComposeError:
        """Return an error that names this place."""
        return ComposeError(reason, file=self.place.file, line=self.place.line, key=self.key)


def locate(tree: Any, path: tuple[str | int, ...]) -> At:
    """Return where something stands in a tree, or the nearest thing around it."""
    place = tree.place
    for key in path:
        if not isinstance(tree, (Map, List)):
            break
        place = tree.place_of(key)
        try:
            tree = tree[key]  # type: ignore[index]  # the kind of key goes with that of the container
        except (KeyError, IndexError, TypeError):
            break
    return At(path, place)


def transformed(tree: Any, at: At, leaf: Callable[[Any, At], Any]) -> Any:
    """Return a tree with every scalar replaced. ``leaf`` gets the value and where it is."""
    if isinstance(tree, Map):
        found = tree.emptied()
        for key, value in tree.items():
            found.put(key, transformed(value, at.inside(tree, key), leaf), tree.places.get(key))
        return found
    if isinstance(tree, List):
        items = List(tree.place)
        for index, (value, place) in enumerate(tree.items_with_places()):
            items.add(transformed(value, At((*at.path, index), place), leaf), place)
        return items
    if isinstance(tree, Override):
        return Override(transformed(tree.value, at, leaf))
    return tree if tree is RESET else leaf(tree, at)


def plain(tree: Any) -> Any:
    """Return a tree as plain dictionaries and lists, without what it only marks."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items() if value is not RESET}
    if isinstance(tree, list):
        return [plain(value) for value in tree if value is not RESET]
    return plain(tree.value) if isinstance(tree, Override) else tree


def stripped(tree: Any) -> Any:
    """Return a tree without the marks: what they say has been done, or there is nothing to do it to."""
    if isinstance(tree, Override):
        return stripped(tree.value)
    if isinstance(tree, Map):
        found = tree.emptied()
        for key, value in tree.items():
            if value is not RESET:
                found.put(key, stripped(value), tree.places.get(key))
        return found
    if isinstance(tree, List):
        items = List(tree.place)
        for value, place in tree.items_with_places():
            if value is not RESET:
                items.add(stripped(value), place)
        return items
    return tree
