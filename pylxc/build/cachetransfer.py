"""The build cache on its way to another machine and back, through a registry or a directory.

Hides the form: an image of the layers that the steps of a build made, with a label that says which steps they answer
(any registry and any tool carries it). Invariant: nothing of it stays in the store but layers and what the cache knows
of them; a step is believed what the cache says of it, so a cache is to be taken only from those whose builds one would
run. Secrets are in no key and in no layer.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc import untrusted
from pylxc.build.described import fields_of, several
from pylxc.errors import ImageNotFound, IntegrityError, PylxcError, SpecError
from pylxc.image import Image
from pylxc.imageconfig import History, ImageConfig, ImageDocument
from pylxc.obtaining import fetch
from pylxc.platforms import this_platform
from pylxc.reference import Reference
from pylxc.store.cache import ANY_STEP
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.engine import Engine
    from pylxc.registry.progress import Progress
    from pylxc.store import Lease

LABEL = "org.pylxc.build.cache"
FILE = "cache.tar"  # in a directory: an OCI archive, which appears when it is whole
_KEY = "[0-9a-f]{64}"
_FORM = (
    'give a directory (a pathlib.Path, or "type=local,{word}=DIRECTORY") or an image\'s name ("type=registry,ref=NAME")'
)


@frozen
class Place:
    """Where a cache is: ``kind`` "registry", at the reference ``where``, or "local", in that directory."""

    kind: str
    where: str

    def __str__(self) -> str:
        return self.where


def places_of(option: str, given: object) -> tuple[Place, ...]:
    """Read places as they are given to a build: one, or several. Raises SpecError."""
    return tuple(_place(option, one) for one in several(given))


def _place(option: str, given: object) -> Place:
    word = "src" if option == "cache_from" else "dest"
    if isinstance(given, os.PathLike):
        return Place("local", os.path.abspath(os.fspath(given)))  # noqa: PTH100  no links are resolved
    if not isinstance(given, str):
        raise SpecError(option, given, _FORM.format(word=word))
    fields = fields_of(given) if "=" in given else {"type": "registry", "ref": given}
    kind = fields.pop("type", "")
    fields.pop("mode", None)  # every step's layer is in it, as with docker's mode=max
    name = {"registry": "ref", "local": word}.get(kind)
    where = fields.pop(name, "") if name else ""
    if fields or not where:
        raise SpecError(option, given, _FORM.format(word=word))
    if kind == "local":
        return Place(kind, os.path.abspath(where))  # noqa: PTH100
    reference = Reference.parse(where)
    if reference.before:
        raise SpecError(option, given, "a move of a tag is known to this store only; give a tag, or a digest")
    return Place(kind, where)


class Caches:
    """What a build takes of caches elsewhere, and gives them: every step's key, with the layer that answers it."""

    def __init__(self, cache_from: object = None, cache_to: object = None) -> None:
        """Read the places. Raises SpecError."""
        self._from = places_of("cache_from", cache_from)
        self._to = places_of("cache_to", cache_to)
        self._entries: dict[str, str] = {}

    def note(self, key: str, digest: str) -> None:
        """Remember what answers a step; stages may be built side by side."""
        self._entries[key] = digest

    def bring(
        self, engine: Engine, lease: Lease, on_progress: Callable[[Progress], object] | None = None
    ) -> Sequence[str]:
        """Take in what is to be had; returns, as sentences, what was not there. Errors are those of a pull, a load."""
        missing = [(place, _bring(engine, lease, place, on_progress)) for place in self._from]
        return [f"no build cache from {place}: {reason}" for place, reason in missing if reason]

    def carry(self, engine: Engine, lease: Lease) -> None:
        """Write the steps of this build where they are to go. Errors are those of a push, a save."""
        if self._to and self._entries:
            _carry(engine, lease, self._entries, self._to)


def _bring(engine: Engine, lease: Lease, place: Place, on_progress: Callable[[Progress], object] | None) -> str:
    """Take a cache in; the lease keeps its layers. Returns why there was none, "" where there was one.

    Raises IntegrityError for what is no cache.
    """
    known = {row.id for row in engine.store.images.list()}
    try:
        image = _fetch(engine, place, on_progress)
    except ImageNotFound as error:
        return str(error)
    except PylxcError as error:
        if place.kind == "local" and not os.path.exists(f"{place.where}/{FILE}"):  # noqa: PTH110
            return str(error)
        raise
    try:
        layers = set(image.diff_ids)
        lease.protect(layers)
        for key, digest in _entries(image, place).items():
            if re.fullmatch(_KEY, key) and digest in layers:
                engine.store.cache.put(key, digest, ANY_STEP)
    finally:
        if image.id not in known:
            image.remove()
    return ""


def _fetch(engine: Engine, place: Place, on_progress: Callable[[Progress], object] | None) -> Image:
    if place.kind == "local":
        return Image.load(f"{place.where}/{FILE}", engine=engine)
    return fetch(engine, place.where, on_progress)


def _entries(image: Image, place: Place) -> Mapping[str, str]:
    """Return what a cache says: key -> diff id."""
    text = image.config.labels.get(LABEL)
    if text is None:
        raise IntegrityError(str(place), "a build cache", "an image that is none")
    try:
        found = untrusted.parse_json(text.encode())
    except ValueError as error:
        raise IntegrityError(str(place), "a build cache", str(error)) from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise IntegrityError(str(place), "a build cache", "something else")
    return found


def _label(entries: Mapping[str, str]) -> str:
    """Return what a cache says, in the same bytes for the same steps."""
    return json.dumps(entries, sort_keys=True, separators=(",", ":"))


def _carry(engine: Engine, lease: Lease, entries: Mapping[str, str], places: Sequence[Place]) -> None:
    """Write the cache of a build, key -> diff id, to these places."""
    layers = sorted(set(entries.values()))
    document = ImageDocument(
        config=ImageConfig(labels={LABEL: _label(entries)}),
        platform=this_platform(),
        created=0.0,
        diff_ids=tuple(layers),
        history=tuple(History(created=0.0, created_by="build cache") for _ in layers),
    )
    image = Image.of(engine, engine.store.images.add(document, (), lease))
    try:
        for place in places:
            if place.kind == "registry":
                image.push(place.where)
            else:
                with explained(place.where):
                    os.makedirs(place.where, exist_ok=True)  # noqa: PTH103
                image.save(f"{place.where}/{FILE}")
    finally:
        image.remove()
