"""Looks at one layer, or one document, and says whether it is what its digest says.

Hides how a tree is compared with a tar. A tree that packs to its diff id is whole. One that does not may have come from
a tool that writes the same files in another order: then its archive, if that is good, is unpacked beside it, and both
trees have to pack to the same. Invariant: nothing is changed; what is unpacked lies in a lease's staging.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc.digests import digest_of
from pylxc.documents import LAYERS
from pylxc.errors import IntegrityError, PylxcError, SpawnError, StoreError
from pylxc.exchange.incoming import Incoming
from pylxc.exchange.outgoing import UNREADABLE, digest_of_file
from pylxc.runtime import transfer
from pylxc.store.images import manifest_over
from pylxc.store.layers import is_tree
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.engine import Engine
    from pylxc.store import BlobRow, Lease
    from pylxc.store.upkeep import Document

NOTHING = "nothing"


@frozen
class Archive:
    """An archive of a layer: what its file really is ("nothing": it is not there), and which file it was."""

    row: BlobRow
    actual: str
    inode: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the file is what the row says."""
        return self.actual == self.row.digest


@frozen
class LayerState:
    """How a layer is.

    ``actual``: what its tree packs to ("nothing": it is not there, "unreadable"), the diff id when it is whole.
    ``size``: bytes of its tar, 0 when unknown. ``can_pack``: its tree packs to its diff id, so any archive that is not
    compressed can be made again. ``doubt``: why the tree could not be compared, "" = it was. ``source``: an archive
    that it can be unpacked from.
    """

    digest: str
    actual: str
    archives: tuple[Archive, ...]
    size: int = 0
    can_pack: bool = False
    doubt: str = ""
    source: BlobRow | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the tree is what its tar says, as far as that can be known."""
        return self.actual == self.digest

    def can_be_packed_again(self, archive: Archive) -> bool:
        """Say whether a damaged archive need not come again: it was packed here, or is the tar that the tree gives."""
        return archive.row.made or (self.can_pack and archive.row.digest == self.digest)


def layer(engine: Engine, digest: str, *, deep: bool = True) -> LayerState:
    """Look at a layer's tree and archives. Not ``deep``: at whether they are there, and as long as they should be."""
    rows = engine.store.blobs.of_layer(digest)
    if not deep:
        archives = tuple(_glance(engine, row) for row in rows)
        there = is_tree(engine.layer_directory(digest))
        return LayerState(digest, digest if there else NOTHING, archives)
    archives = tuple(_archive(engine, row) for row in rows)
    source = next((archive.row for archive in archives if archive.is_whole), None)
    packed, size = pack(engine, engine.layer_directory(digest))
    if packed == digest:
        return LayerState(digest, digest, archives, size, can_pack=True, source=source)
    came = [archive for archive in archives if not archive.row.made]
    if not came or packed in (NOTHING, UNREADABLE):
        return LayerState(digest, packed, archives, source=source)
    if source is None:
        doubt = "its archive is gone or damaged, and it came from a tool that packs in another order"
        return LayerState(digest, digest, archives, doubt=doubt)
    return _compared(engine, LayerState(digest, packed, archives, source=source), source)


def _compared(engine: Engine, state: LayerState, source: BlobRow) -> LayerState:
    """Compare a tree with what an archive unpacks to."""
    try:
        with unpacked(engine, source) as (_, tree, size):
            wanted, _ = pack(engine, tree)
    except PylxcError as error:
        return evolve(state, actual=state.digest, doubt=f"its archive could not be unpacked beside it: {error}")
    return evolve(state, size=size, actual=state.digest if wanted == state.actual else state.actual)


@contextmanager
def unpacked(engine: Engine, source: BlobRow) -> Iterator[tuple[Lease, str, int]]:
    """Unpack an archive for the length of a block; gives the lease, the tree, and the size of its tar (bytes)."""
    with engine.store.leases.take() as lease:
        yield (lease, *Incoming(engine, lease).beside(source))


def pack(engine: Engine, tree: str) -> tuple[str, int]:
    """Return what a tree packs to, and the size of that (bytes)."""
    if not is_tree(tree):
        return NOTHING, 0
    try:
        return transfer.digest_of(tree, scaffold=engine.scaffold)
    except SpawnError:
        return UNREADABLE, 0


def document(engine: Engine, digest: str) -> str:
    """Return what the file of a configuration or a manifest really is; "nothing" when it is not there."""
    return digest_of_file(engine.store.blobs.path(digest)) or NOTHING


def read_blob(engine: Engine, digest: str) -> bytes | None:
    """Return a small blob; None when it is not there or not what its digest says."""
    path = engine.store.blobs.path(digest)
    if document(engine, digest) != digest:
        return None
    with explained(path), open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def restored(engine: Engine, one: Document) -> bytes | None:
    """Return the bytes of a configuration or a manifest, from wherever they still are; None when they are lost."""
    found = read_blob(engine, one.digest)
    if found is not None:
        return found
    config = one.config
    if config is None:  # a manifest: one that was made here can be made again
        config = next((other.config for other in engine.store.upkeep.documents() if other.digest == one.image), None)
        if config is None:
            return None
        layers = [(digest, size, LAYERS[""]) for digest, size in engine.store.upkeep.layers_of(one.image)]
        config = manifest_over(config, layers)
    return config if digest_of(config) == one.digest else None


def _glance(engine: Engine, row: BlobRow) -> Archive:
    try:
        status = os.lstat(engine.store.blobs.path(row.digest))
    except FileNotFoundError:
        return Archive(row, NOTHING)
    if not stat.S_ISREG(status.st_mode):
        return Archive(row, UNREADABLE, status.st_ino)
    return Archive(row, row.digest if status.st_size == row.size else f"{status.st_size} bytes", status.st_ino)


def _archive(engine: Engine, row: BlobRow) -> Archive:
    glance = _glance(engine, row)
    if glance.actual == NOTHING:
        return glance
    return Archive(row, document(engine, row.digest), glance.inode)


def verify(engine: Engine, image: str) -> None:
    """See :meth:`pylxc.Image.verify`."""
    store = engine.store
    row = store.images.get(image)
    heal = "load or pull it again, or build it anew"
    for what, digest in (("configuration", row.id), ("manifest", row.manifest)):
        found = document(engine, digest)
        if found != digest:
            raise IntegrityError(f"the {what} of image {image[:19]} (`pylxc store repair`; or {heal})", digest, found)
    if row.document.diff_ids != tuple(one.digest for one in row.layers):
        found = " ".join(one.digest for one in row.layers)
        subject = f"the layers of image {image[:19]} in the index (`pylxc store repair`; or {heal})"
        raise IntegrityError(subject, " ".join(row.document.diff_ids), found or NOTHING)
    for digest in dict.fromkeys(row.document.diff_ids):
        _verify_layer(engine, digest, f"of image {image[:19]} (`pylxc store repair`; or {heal})")


def _verify_layer(engine: Engine, digest: str, words: str) -> None:
    state = layer(engine, digest)
    for archive in state.archives:
        if not archive.is_whole:
            raise IntegrityError(f"an archive of layer {digest[:19]} {words}", archive.row.digest, archive.actual)
    if not state.is_whole:
        raise IntegrityError(f"the tree of layer {digest[:19]} {words}", digest, state.actual)
    if state.doubt:
        raise StoreError(engine.layer_directory(digest), f"cannot be verified: {state.doubt}")
