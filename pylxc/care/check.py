"""Looks at a whole store for what is wrong with it.

Invariant: nothing is changed, but that a layer which turns out to be damaged is marked: nothing starts on it, and when
its image comes again the tree is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.care import inspection
from pylxc.care.reports import CheckReport, Problem
from pylxc.digests import digest_of
from pylxc.store.database import DamagedIndexError
from pylxc.store.layers import NO_TREE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc.care.inspection import Archive, LayerState
    from pylxc.engine import Engine
    from pylxc.store.upkeep import Document

UNNAMED = "nothing in the index names it"
REPAIR = "`pylxc store repair` mends it"
AGAIN = "load or pull its image again, or build it anew"


@frozen
class Found:
    """What a check found: the problems, and what a repair wants to know of the layers (by digest)."""

    problems: tuple[Problem, ...]
    layers: dict[str, LayerState] = field(hash=False)
    blobs: int = 0


def check(engine: Engine, *, deep: bool = True) -> CheckReport:
    """See :meth:`pylxc.Engine.check`."""
    try:
        if problems := index_problems(engine):
            return CheckReport(tuple(problems))
        found = look(engine, deep=deep)
    except DamagedIndexError as error:
        return CheckReport((damaged_index(error),))
    return CheckReport(found.problems, len(found.layers), found.blobs)


def damaged_index(error: DamagedIndexError) -> Problem:
    """Return the problem of an index that cannot be read."""
    return Problem("index", str(error.path), error.reason.partition("; ")[0], REPAIR)


def index_problems(engine: Engine) -> list[Problem]:
    """Return what is wrong with the index as a file; the rest of a store is of no use until that is mended."""
    path = engine.store.layout.database
    return [Problem("index", path, words, REPAIR) for words in engine.store.upkeep.damage()]


def look(engine: Engine, *, deep: bool) -> Found:
    """Look at everything. Raises DamagedIndexError when the index turns out to be."""
    layers = {row.digest: _look_at(engine, row.digest, deep=deep) for row in engine.store.upkeep.layers()}
    for digest, state in layers.items():
        if not state.is_whole:
            engine.store.layers.mark(digest, _damage(state, state.actual[:19]))
    documents = engine.store.upkeep.documents()
    parts: tuple[Callable[[], Iterator[Problem]], ...] = (
        lambda: _of_references(engine),
        lambda: _of_documents(engine, documents),
        lambda: _of_layers(engine, layers),
        lambda: _of_layout(engine),
        lambda: _of_places(engine),
        lambda: _of_leases(engine),
    )
    problems = tuple(problem for part in parts for problem in part())
    archives = sum(len(state.archives) for state in layers.values())
    return Found(problems, layers, archives + len(documents))


def _look_at(engine: Engine, digest: str, *, deep: bool) -> LayerState:
    """Look at a layer; twice, where something is wrong: it may have been on its way out, and have come again."""
    state = inspection.layer(engine, digest, deep=deep)
    if state.is_whole and all(archive.is_whole for archive in state.archives):
        return state
    return inspection.layer(engine, digest, deep=deep)


def _of_references(engine: Engine) -> Iterator[Problem]:
    upkeep = engine.store.upkeep
    for one in upkeep.dangling():
        yield Problem("reference", one.key, f"{one.table} names it, and {one.other} has no row of it", REPAIR)
    for image in upkeep.images_without_manifest():
        yield Problem("reference", image, "manifests has no row of the image's manifest", REPAIR)
    for image in upkeep.configs_as_text():
        yield Problem("configuration", image, "is text in the index, and no bytes", REPAIR)
    for image, _ in upkeep.mismatched():
        yield Problem("reference", image, "its layers in the index are not those of its configuration", REPAIR)


def _of_documents(engine: Engine, documents: list[Document]) -> Iterator[Problem]:
    for one in documents:
        kind = "manifest" if one.config is None else "configuration"
        actual = inspection.document(engine, one.digest)
        if actual == one.digest and (one.config is None or digest_of(one.config) == one.digest):
            continue
        if not engine.store.images.exists(one.image):
            continue  # removed meanwhile, or a reference of its own
        if actual != one.digest:
            actual = inspection.document(engine, one.digest)  # it may have gone, and come again
            if actual == one.digest:
                continue
        what = "is not there" if actual == inspection.NOTHING else f"is {actual}"
        if actual == one.digest:
            what = "is something else in the index"
        can = inspection.restored(engine, one) is not None
        yield Problem(kind, one.digest, what, REPAIR if can else AGAIN, repairable=can)  # type: ignore[arg-type]


def _of_layers(engine: Engine, layers: dict[str, LayerState]) -> Iterator[Problem]:
    marked = engine.store.layers.damaged()
    sizes = {row.digest: row.size for row in engine.store.upkeep.layers()}
    for digest, state in layers.items():
        if not engine.store.layers.exists(digest):
            continue  # removed meanwhile
        if not state.is_whole:
            what = _damage(state, state.actual)
            users = ", ".join(engine.store.upkeep.users_of(digest)) or "no image"
            can = state.source is not None or bool(engine.store.layers.get(digest).passthrough)
            yield Problem("layer", digest, f"{what} (used by {users})", REPAIR if can else AGAIN, repairable=can)
        elif state.doubt:
            if all(archive.is_whole for archive in state.archives):  # else it is told with the archive
                what = f"its tree could not be compared: {state.doubt}"
                yield Problem("layer", digest, what, "check again when that is mended", repairable=False)
        elif digest in marked:
            yield Problem("layer", digest, "is marked as damaged, and is not", REPAIR)
        elif state.size and digest in sizes and sizes[digest] != state.size:
            yield Problem("layer", digest, f"has {state.size} bytes, in the index {sizes[digest]}", REPAIR)
        for archive in state.archives:
            if not archive.is_whole:
                yield _of_archive(state, archive)


def _damage(state: LayerState, actual: str) -> str:
    return NO_TREE if state.actual == inspection.NOTHING else f"its tree packs to {actual}"


def _of_archive(state: LayerState, archive: Archive) -> Problem:
    what = "is not there" if archive.actual == inspection.NOTHING else f"is {archive.actual}"
    can = state.can_be_packed_again(archive)
    doubt = f"; nor can its tree be compared: {state.doubt}" if state.doubt else ""
    remedy = REPAIR if can else "load or pull its image again"
    return Problem("archive", archive.row.digest, f"{what} (layer {state.digest}{doubt})", remedy, repairable=can)


def _of_layout(engine: Engine) -> Iterator[Problem]:
    upkeep = engine.store.upkeep
    if not upkeep.layout_is_right():
        yield Problem("layout", "oci/oci-layout", "is not what it should be", REPAIR)
    if not upkeep.index_is_right():
        yield Problem("layout", "oci/index.json", "does not name the tagged images", REPAIR)
    for ref in upkeep.unlogged():
        yield Problem("tag", ref, "is not where the last move in its log brought it", REPAIR)
    for ref in upkeep.untagged():
        yield Problem("tag", ref, "is no tag, though the last move in its log brought it to an image", REPAIR)
    trees, blobs = upkeep.strays(quiet=True)
    for directory, names in (("layers", trees), ("oci/blobs/sha256", blobs)):
        for name in names:
            yield Problem("stray", f"{directory}/{name}", UNNAMED, REPAIR)


def _of_places(engine: Engine) -> Iterator[Problem]:
    containers, volumes = engine.store.upkeep.homeless()
    for id in containers:  # noqa: A001  docker's name
        yield Problem("container", id, "its directory is not there, and with it what it wrote", REPAIR)
    for id in engine.store.upkeep.without_spec():  # noqa: A001
        yield Problem("container", id, "its spec is lost: it cannot be started", "`pylxc store repair` moves it aside")
    for id in engine.store.uppers.amiss():  # noqa: A001
        yield Problem("container", id, "a commit of it was cut short", REPAIR)
    for name in volumes:
        yield Problem("volume", name, "its directory is not there, and with it what was in it", REPAIR)
    containers, volumes = engine.store.upkeep.unnamed()
    for id in containers:  # noqa: A001
        yield Problem("stray", f"containers/{id}", UNNAMED, "`pylxc store repair` moves it aside")
    for name in volumes:
        can = engine.store.upkeep.is_volume(name)
        remedy = "`pylxc store repair` makes it a volume" if can else "move it away: it cannot be a volume"
        yield Problem("stray", f"volumes/{name}", UNNAMED, remedy, repairable=can)


def _of_leases(engine: Engine) -> Iterator[Problem]:
    for name in engine.store.leases.abandoned():
        yield Problem("lease", name, "its process is gone", REPAIR)
