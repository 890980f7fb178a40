"""How an image gets out of the store, wherever it goes: its documents, and the archives of its layers as files.

Hides whether an archive lies there as it came, or is packed when it is wanted. Invariant: what is given has the digest
that its descriptor says; what was packed once is kept, and can be made again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from pylxc import documents
from pylxc.build.archives import CHUNK
from pylxc.documents import LAYERS, Descriptor, Manifest
from pylxc.errors import IntegrityError, SpawnError, StoreError, UnsupportedError
from pylxc.exchange import plain
from pylxc.exchange.incoming import check
from pylxc.store import BlobRow, ImageContent
from pylxc.store.images import manifest_over
from pylxc.store.layout import explained, open_regular

if TYPE_CHECKING:
    import zlib
    from collections.abc import Collection, Sequence

    _Compressor = zlib._Compress  # noqa: SLF001  its only name

    from pylxc.engine import Engine
    from pylxc.exchange.incoming import Checked
    from pylxc.image import Image
    from pylxc.store import Lease

GZIP_LEVEL = 1
ANY_FORM = frozenset(LAYERS)
UNREADABLE = "unreadable"
# What the kernel says of a file that is damaged; anything else, such as too many open files, says nothing of it.
_DAMAGE = frozenset((errno.EACCES, errno.EBADMSG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EUCLEAN))


class Outgoing:
    """Images on their way out of a store, under one lease."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease
        self._packed: set[str] = set()  # archives that were written just now

    def documents(self, image: Image, forms: Collection[str] = ANY_FORM) -> Checked:
        """Return an image's manifest and configuration; its layers stay while the lease lasts.

        ``forms``: how the archives of layers may be compressed, "" for not at all. Where the manifest has others, one
        that has not is made. Raises UnsupportedError for what lies on the machine's own files.
        """
        checked = self.original(image)
        return assembled(checked, [self.archive(layer, diff_id, forms) for layer, diff_id, _ in checked.layers])

    def original(self, image: Image) -> Checked:
        """Return an image's manifest and configuration as they are here; its layers stay while the lease lasts.

        Raises UnsupportedError for what lies on the machine's own files.
        """
        store = self._engine.store
        self._lease.protect(image.diff_ids)
        if any(store.layers.passthrough(layer.digest) for layer in image.layers):
            remedy = "it passes the files of this machine through; make an image of its own with Image.bootstrap"
            raise UnsupportedError(f"image {image.id[:19]} somewhere else", remedy)
        content = store.images.content(image.id)
        subject = f"image {image.id[:19]}"
        return check(_manifest(content, subject), content.config, subject)

    def archive(self, layer: Descriptor, diff_id: str, forms: Collection[str]) -> Descriptor:
        """Return the archive of a layer in one of these forms; it is made where there is none. Threads may ask at once.

        It is ``layer`` itself where that is in such a form.
        """
        kept = self._kept(layer, diff_id, forms)
        if kept is not None:
            return kept
        row = self._pack(diff_id, "" if "" in forms else "gzip", "")
        return Descriptor(row.media_type, row.digest, row.size)

    def is_kept(self, layer: Descriptor, diff_id: str, forms: Collection[str]) -> bool:
        """Say whether the archive that :meth:`archive` returns need not be made first."""
        return self._kept(layer, diff_id, forms) is not None

    def _kept(self, layer: Descriptor, diff_id: str, forms: Collection[str]) -> Descriptor | None:
        blobs = self._engine.store.blobs
        if _form(blobs.get(layer.digest), layer) in forms:
            return layer
        rows = [row for row in blobs.of_layer(diff_id) if _form(row, layer) in forms]
        return Descriptor(rows[0].media_type, rows[0].digest, rows[0].size) if rows else None

    def path(self, layer: Descriptor, diff_id: str) -> str:
        """Return the file of a layer's archive, after a look at the whole of it.

        One that is not there, or is damaged, is made again. Raises IntegrityError where it cannot be.
        """
        path = self._engine.store.blobs.path(layer.digest)
        if layer.digest in self._packed and os.path.exists(path):  # noqa: PTH110
            return path
        found = digest_of_file(path)
        if found != layer.digest:
            row = self._engine.store.blobs.get(layer.digest)
            form = "" if layer.digest == diff_id else _form(row, layer)
            if form == "zstd" or (form and row is not None and not row.made):
                raise plain.gone(layer.digest, found or "nothing")
            self._pack(diff_id, form, layer.digest)
        return path

    def _pack(self, diff_id: str, form: str, expected: str) -> BlobRow:
        """Pack a layer, keep its archive, and return what it is; ``expected``: it must have this digest, if any."""
        found = "nothing"
        for way in plain.ways(self._engine, diff_id):
            staged = f"{self._lease.stage()}/blob"
            try:
                with explained(staged), way as stream:
                    found, digest, size = _write(stream, staged, form)
            except (StoreError, IntegrityError, SpawnError):
                if _is_full(staged):
                    raise
                continue  # an archive that is damaged: there may be another way
            if found == diff_id and expected in ("", digest):
                row = BlobRow(digest, diff_id, LAYERS[form], size, made=True)
                self._engine.store.blobs.keep(staged, row)
                self._packed.add(digest)
                return row
        raise plain.gone(expected or diff_id, found)


def assembled(checked: Checked, layers: Sequence[Descriptor]) -> Checked:
    """Return an image's documents with these archives of its layers: as they are, if these are those that it has."""
    if tuple(layers) == checked.manifest.layers:
        return checked
    # One manifest is of one family of media types: what was Docker's becomes OCI's.
    kinds = [LAYERS[layer.form] if layer.is_distributable else layer.media_type for layer in layers]
    listed = [(layer.digest, layer.size, kind) for layer, kind in zip(layers, kinds, strict=True)]
    subject = f"image {checked.manifest.config.digest[:19]}"
    made = ImageContent(checked.config, manifest_over(checked.config, listed))
    return check(_manifest(made, subject), checked.config, subject)


def digest_of_file(path: str) -> str:
    """Return the digest of a file, "" when it is not there, UNREADABLE when it is none, or cannot be read."""
    total = hashlib.sha256()
    try:
        with explained(path), open(path, "rb", buffering=0, opener=open_regular) as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DAMAGE:
            return UNREADABLE
        raise
    return f"sha256:{total.hexdigest()}"


def _write(stream: BinaryIO, path: str, form: str) -> tuple[str, str, int]:
    """Write a layer's tar to a file, compressed; return the digest of the tar, that of the file, and its size."""
    content, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    compressor = _gzip() if form == "gzip" else None
    with open(path, "xb") as file:  # noqa: PTH123
        while True:
            chunk = stream.read(CHUNK)
            content.update(chunk)
            out = chunk
            if compressor is not None:
                out = compressor.compress(chunk) if chunk else compressor.flush()
            packed.update(out)
            size += file.write(out)
            if not chunk:
                break
    return f"sha256:{content.hexdigest()}", f"sha256:{packed.hexdigest()}", size


def _gzip() -> _Compressor:
    """Return a compressor that writes the header of gzip without a time or a name: the same bytes each time."""
    wbits = 31
    try:
        from isal import isal_zlib  # noqa: PLC0415  only where layers are compressed
    except ImportError:  # there are wheels for two architectures only
        import zlib  # noqa: PLC0415

        return zlib.compressobj(GZIP_LEVEL, wbits=wbits)
    return cast("_Compressor", isal_zlib.compressobj(GZIP_LEVEL, wbits=wbits))


def _is_full(path: str) -> bool:
    """Say whether a file could not be written whole for want of room, and nothing else will help."""
    status = os.statvfs(os.path.dirname(path))  # noqa: PTH120
    return status.f_bavail * status.f_frsize < CHUNK


def _form(row: BlobRow | None, layer: Descriptor) -> str:
    """Return how the archive of a layer is compressed: what was seen of it counts more than what it is called."""
    if row is None:
        return layer.form
    return next(form for form, kind in LAYERS.items() if kind == row.media_type)


def _manifest(content: ImageContent, subject: str) -> Manifest:
    document = documents.read(content.manifest, content.media_type, subject)
    if not isinstance(document, Manifest):
        raise IntegrityError(subject, "a manifest", "an index")
    return document
