"""Mends a store, as far as what is left of it allows.

Hides the order: the index as a file first, then rows that others need, documents, trees, archives, and what nothing
names last. Invariant: whatever is put in place is whole and verified before; nothing is removed that could still be
told from rubbish; a repair that is killed leaves problems that the next one finds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import evolve

from pylxc import documents
from pylxc.care import inspection
from pylxc.care.check import damaged_index, index_problems, look
from pylxc.care.reports import Problem, RepairReport
from pylxc.documents import LAYERS, Manifest
from pylxc.errors import PylxcError, StoreError
from pylxc.imageconfig import ImageDocument
from pylxc.store import BlobRow, salvage
from pylxc.store.database import DamagedIndexError
from pylxc.store.layers import is_tree
from pylxc.store.upkeep import diff_ids

if TYPE_CHECKING:
    from pylxc.care.check import Found
    from pylxc.care.inspection import LayerState
    from pylxc.engine import Engine

ROUNDS = 3  # what one round restores shows the next one what else is missing


def repair(engine: Engine) -> RepairReport:
    """See :meth:`pylxc.Engine.repair`."""
    found, saved = _mend_index(engine)
    reasons: dict[tuple[str, str], str] = {}
    before: tuple[Problem, ...] = ()
    now = look(engine, deep=True)
    for _ in range(ROUNDS):
        if now.problems == before:  # none, or those that nothing here can mend
            break
        found += [problem for problem in now.problems if problem not in found]
        with engine.store.leases.noted(freeing=True):
            saved += _mend_rows(engine)
            _mend_documents(engine)
            _mend_layers(engine, now, reasons)
            _mend_rest(engine, strays=all(problem.kind != "reference" for problem in now.problems))
            saved += engine.store.upkeep.set_aside_unnamed()
        before, now = now.problems, look(engine, deep=True)
    left = tuple(_told(problem, reasons) for problem in now.problems)
    names = {(problem.kind, problem.subject) for problem in left}
    repaired = tuple(problem for problem in found if (problem.kind, problem.subject) not in names)
    return RepairReport(repaired, left, tuple(saved))


def _told(problem: Problem, reasons: dict[tuple[str, str], str]) -> Problem:
    """Return a problem that is left, with why it could not be mended."""
    reason = reasons.get((problem.kind, problem.subject))
    return problem if reason is None else evolve(problem, remedy=reason)


# -- the index ---------------------------------------------------------------------------------------------------------


def _mend_index(engine: Engine) -> tuple[list[Problem], list[str]]:
    """Make sure that there is an index which can be read; return what was wrong with it, and what was moved aside."""
    try:
        problems = index_problems(engine)
        if not problems:
            return [], []
        with suppress(StoreError):
            engine.store.upkeep.reindex()
            if not index_problems(engine):
                return problems, []
    except DamagedIndexError as error:
        problems = [damaged_index(error)]
    engine.reopen()
    saved = salvage.rebuild(engine.root)
    engine.reopen()
    return problems, [*saved]


# -- rows --------------------------------------------------------------------------------------------------------------


def _mend_rows(engine: Engine) -> list[str]:
    """Restore the rows that others name, from what lies on disk; delete those that name what is lost.

    Returns where the directories of containers are whose images are lost.
    """
    upkeep = engine.store.upkeep
    upkeep.adopt_volumes()
    upkeep.restore_bytes()
    dangling = upkeep.dangling()
    for image in {one.key for one in dangling if one.other == "images"}:
        _restore_image(engine, image)
    for image in upkeep.images_without_manifest():
        _restore_manifest(engine, image)
    for image, wanted in upkeep.mismatched():
        _restore_layers(engine, image, wanted)
    for image in {one.image for one in upkeep.documents() if one.config is not None}:
        _restore_archives(engine, image)
    saved = upkeep.set_aside_lost()
    upkeep.untag_lost()
    upkeep.restore_tags()
    upkeep.drop_dangling()
    upkeep.log_moves(upkeep.unlogged())
    return saved


def _restore_image(engine: Engine, image: str) -> None:
    config = inspection.read_blob(engine, image)
    manifest = _manifest_of(engine, image)
    if config is not None and manifest is not None:
        created = ImageDocument.from_bytes(config).created
        engine.store.upkeep.restore_image(image, config, (manifest.digest, len(manifest.data)), created)
        engine.store.upkeep.restore_manifest(manifest.digest, image, manifest.media_type, len(manifest.data))


def _restore_manifest(engine: Engine, image: str) -> None:
    manifest = _manifest_of(engine, image)
    if manifest is not None:
        engine.store.upkeep.restore_manifest(manifest.digest, image, manifest.media_type, len(manifest.data))


def _manifest_of(engine: Engine, image: str) -> Manifest | None:
    """Return a manifest of an image, of those whose files are here; the row's own if it is among them."""
    for digest in engine.store.upkeep.manifest_candidates(image):
        data = inspection.read_blob(engine, digest)
        if data is None or not data.startswith(b"{"):
            continue
        with suppress(PylxcError):
            found = documents.read(data, "", digest)
            if isinstance(found, Manifest) and found.config.digest == image:
                return found
    return None


def _restore_layers(engine: Engine, image: str, wanted: tuple[str, ...]) -> None:
    """Give an image its layers again; those that had no row count as damaged until the next look at them."""
    document = ImageDocument.from_bytes(engine.store.images.content_of(image))
    for digest, words in zip(document.diff_ids, document.steps, strict=True):
        if not engine.store.layers.exists(digest):
            engine.store.upkeep.restore_layer(digest, words)
    engine.store.upkeep.restore_layers(image, wanted)


def _restore_archives(engine: Engine, image: str) -> None:
    """Give archives that lie here, and that the image's manifest names, their rows again."""
    for row in _archives_named(engine, image):
        if engine.store.blobs.get(row.digest) is None and engine.store.layers.exists(row.layer):
            engine.store.upkeep.restore_archive(row.digest, row.layer, row.media_type, row.size)


def _archives_named(engine: Engine, image: str) -> list[BlobRow]:
    """Return the archives that an image's manifest names and that lie here, whole."""
    manifest = _manifest_of(engine, image)
    wanted = diff_ids(engine.store.images.content_of(image))
    if manifest is None or wanted is None or len(wanted) != len(manifest.layers):
        return []
    rows = [
        BlobRow(layer.digest, diff_id, LAYERS[layer.form], layer.size, made=False)
        for layer, diff_id in zip(manifest.layers, wanted, strict=True)
    ]
    return [row for row in rows if inspection.document(engine, row.digest) == row.digest]


# -- documents ---------------------------------------------------------------------------------------------------------


def _mend_documents(engine: Engine) -> None:
    store = engine.store
    for one in store.upkeep.documents():
        content, path = inspection.restored(engine, one), store.layout.blob(one.digest)
        if content is not None and one.config not in (None, content):
            store.upkeep.restore_config(one.image, content)
        if inspection.document(engine, one.digest) != one.digest:
            if is_tree(path):  # no file can take its place
                store.layout.discard([path])
            if content is not None:
                store.layout.write_file(path, content)


# -- layers ------------------------------------------------------------------------------------------------------------


def _mend_layers(engine: Engine, found: Found, reasons: dict[tuple[str, str], str]) -> None:
    layers = engine.store.layers
    sizes = {row.digest: row.size for row in engine.store.upkeep.layers()}
    for digest, state in found.layers.items():
        if not layers.exists(digest):
            continue
        if not state.is_whole:
            _mend_tree(engine, state, reasons)
        else:
            if state.size and state.size != sizes.get(digest):
                engine.store.upkeep.set_size(digest, state.size)
            if digest in layers.damaged() and not state.doubt:
                layers.unmark(digest)
        for archive in state.archives:
            if archive.is_whole or archive.row.digest == inspection.document(engine, archive.row.digest):
                continue
            engine.store.upkeep.set_aside(archive.row.digest, archive.inode)
            if state.can_be_packed_again(archive):
                engine.store.upkeep.forget_archive(archive.row.digest)


def _mend_tree(engine: Engine, state: LayerState, reasons: dict[tuple[str, str], str]) -> None:
    """Put what its archive unpacks to in the place of a damaged tree, which is marked."""
    try:
        if engine.store.layers.get(state.digest).passthrough:
            engine.renew_host_image()
            return
        if state.source is None:
            return
        with inspection.unpacked(engine, state.source) as (lease, tree, _):
            engine.store.layers.replace(lease, tree, state.digest)
    except PylxcError as error:
        reasons["layer", state.digest] = str(error)


# -- the rest ----------------------------------------------------------------------------------------------------------


def _mend_rest(engine: Engine, *, strays: bool) -> None:
    """Mend what is no more than a copy of something. ``strays``: all rows are there, so what nothing names may go."""
    store = engine.store
    if not store.upkeep.layout_is_right():
        store.layout.write_layout()
    store.images.sweep()  # writes oci/index.json anew
    store.uppers.recover()
    if strays:
        store.layers.sweep()
        store.blobs.sweep()
    store.leases.drop(store.leases.abandoned())
    store.leases.sweep()
    store.containers.sweep()
    for name in store.upkeep.homeless()[1]:
        store.volumes.directory(name)
