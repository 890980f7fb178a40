"""How an image gets into the store, wherever it comes from: layers as streams, then its documents.

Hides what happens to a layer on its way: it is hashed as it comes, kept, decompressed, hashed again and unpacked, all
at once. Invariant: nothing gets a name in the store before its sizes and both its digests were found right; what fails
stays in the lease's staging, which goes with it.
"""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol

from attrs import frozen

from pylxc.build.archives import CHUNK, HEAD, buffered, decompressed, form_of, pieces
from pylxc.build.imports import unpack_layer
from pylxc.documents import LAYERS, Descriptor, Manifest
from pylxc.errors import IntegrityError, StoreError, UnsupportedError
from pylxc.image import Image
from pylxc.imageconfig import ImageDocument
from pylxc.runtime import transfer
from pylxc.store import BlobRow, ImageContent, Staged
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import WriteableBuffer

    from pylxc.engine import Engine
    from pylxc.store import Lease

AHEAD = 8  # pieces that are decompressed before they are wanted
LAYER_LIMIT = transfer.UNPACKED_LIMIT  # bytes of one layer's tar


class Readable(Protocol):
    """What gives the archive of a layer."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read what is there and fits, nothing at the end."""


@frozen
class Checked:
    """A manifest with its configuration, which fit each other: ``document`` has a diff id for each layer."""

    manifest: Manifest
    config: bytes
    document: ImageDocument

    @property
    def layers(self) -> tuple[tuple[Descriptor, str, str], ...]:
        """The layers: what names the archive, the diff id, and the words of the step that made it."""
        return tuple(zip(self.manifest.layers, self.document.diff_ids, self.document.steps, strict=True))


def check(manifest: Manifest, config: bytes, subject: str) -> Checked:
    """Return a manifest with its configuration. Raises IntegrityError when they are not what the other says."""
    _compare(f"{subject}: configuration", manifest.config, hashlib.sha256(config).hexdigest(), len(config))
    document = ImageDocument.from_bytes(config)
    if len(document.diff_ids) != len(manifest.layers):
        raise IntegrityError(f"{subject}: layers", str(len(document.diff_ids)), str(len(manifest.layers)))
    return Checked(manifest, config, document)


class Incoming:
    """Images on their way into a store, under one lease. Different layers may come in several threads at once."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease

    def has(self, descriptor: Descriptor, diff_id: str) -> bool:
        """Say whether a layer is here, with this archive; it stays while the lease lasts. It need not come then."""
        row = self._engine.store.blobs.get(descriptor.digest)
        if row is None or row.layer != diff_id or not self._hold(diff_id):
            return False
        try:
            status = os.stat(self._engine.store.blobs.path(descriptor.digest))  # noqa: PTH116
        except FileNotFoundError:
            return False
        return status.st_size == descriptor.size == row.size

    def _hold(self, diff_id: str) -> bool:
        """Keep a layer that is here while the lease lasts; says whether it is here, and not known to be damaged."""
        if not self._engine.store.layers.is_usable(diff_id):
            return False
        try:
            self._lease.protect([diff_id])
        except StoreError:  # it was removed in between
            return False
        return True

    def layer(self, descriptor: Descriptor, diff_id: str, stream: Readable, words: str = "", spool: str = "") -> None:
        """Take a layer in. ``stream`` gives its archive, ``words`` say what made it.

        ``spool``: the stream is a file of this name, in this lease's staging, which becomes the store's.

        Raises IntegrityError when it is not what the descriptor or the diff id names; StoreError when it is no layer.
        """
        subject = f"layer {descriptor.digest[:19]}"
        staged = self._lease.stage()
        file = spool or f"{staged}/blob"
        with explained(staged):
            received = _Received(stream, descriptor, "" if spool else file)
            try:
                form, content, tree = self._unpack(received, staged, diff_id, subject, again=False)
            except StoreError:
                received.finish(subject)  # bytes that are not what they should be explain any other failure
                raise
            finally:
                received.end()
        row = BlobRow(descriptor.digest, diff_id, LAYERS[form], descriptor.size, made=False)
        if tree:
            arrived = Staged(tree, diff_id, content.size, words, archive_file=file, archive=row)
            self._engine.store.layers.take_in(self._lease, arrived)
        else:
            self._engine.store.blobs.keep(file, row)

    def beside(self, row: BlobRow) -> tuple[str, int]:
        """Unpack a layer's archive that is here beside its tree; return where, and the size of its tar (bytes).

        Raises IntegrityError, StoreError when the archive is damaged, or cannot be unpacked.
        """
        subject = f"layer {row.digest[:19]}"
        staged, path = self._lease.stage(), self._engine.store.blobs.path(row.digest)
        with explained(path), open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            received = _Received(stream, Descriptor(row.media_type, row.digest, row.size), "")
            _, content, tree = self._unpack(received, staged, row.layer, subject, again=True)
        return tree, content.size

    def _unpack(
        self, received: _Received, staged: str, diff_id: str, subject: str, *, again: bool
    ) -> tuple[str, _Content, str]:
        """Unpack what is received, or only look at it where the layer's tree is here and not wanted ``again``.

        Returns how it is compressed, what was counted, and the tree, "" for none.
        """
        below = buffered(received)
        form = form_of(below.peek(HEAD))
        if form not in LAYERS:
            raise UnsupportedError(f"{subject}: {form}", "layers are compressed with gzip or zstd, or not at all")
        with decompressed(below, subject) as archive, _read_ahead(archive) as chunks:
            content = _Content(chunks, subject)
            tree = ""
            if again or not self._hold(diff_id):
                tree = f"{staged}/tree"
                unpack_layer(self._engine, content.feed, tree, subject)
            content.drain()
        received.finish(subject)
        if content.digest != diff_id:
            raise IntegrityError(f"{subject}, unpacked", diff_id, content.digest)
        return form, content, tree

    def finish(self, checked: Checked, refs: Sequence[str], *, indexes: tuple[tuple[bytes, str], ...] = ()) -> Image:
        """Add an image whose layers are here, and let tags name it.

        ``indexes``: the bytes and media types of those that it was chosen from, which their digests find again.
        """
        manifest = checked.manifest
        content = ImageContent(checked.config, manifest.data, manifest.media_type, indexes=indexes)
        return self.finish_all([(content, refs)])[0]

    def finish_all(self, contents: Sequence[tuple[ImageContent, Sequence[str]]]) -> list[Image]:
        """Add images whose layers are here, each with the tags that are to name it: all of them, or none."""
        return [Image.of(self._engine, row) for row in self._engine.store.images.keep(contents, self._lease)]


class _Received(io.RawIOBase):
    """The archive of a layer as it comes: counted, hashed, and written to a file where one is wanted."""

    def __init__(self, stream: Readable, descriptor: Descriptor, path: str) -> None:
        super().__init__()
        self._stream = stream
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._size = 0
        self._is_over = False
        self._file = open(path, "xb", buffering=0) if path else None  # noqa: PTH123, SIM115  closed with this

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        # One byte more than there should be is enough to know.
        view = memoryview(buffer).cast("B")[: self._descriptor.size + 1 - self._size]
        count = self._stream.readinto(view)
        data = view[:count]
        self._is_over = not count
        self._size += count
        self._hash.update(data)
        if self._size > self._descriptor.size:
            words = f"layer {self._descriptor.digest[:19]}"
            raise IntegrityError(words, f"{self._descriptor.size} bytes", "more")
        if self._file is not None:
            _write(self._file, data)
        return count

    def finish(self, subject: str) -> None:
        """Read to the end. Raises IntegrityError when it was not what the descriptor names."""
        while not self._is_over:
            self.readinto(bytearray(CHUNK))
        _compare(subject, self._descriptor, self._hash.hexdigest(), self._size)

    def close(self) -> None:
        """Stay open: who read the archive to its end closes what it read, and there may be more to count."""

    def end(self) -> None:
        """Close the file; the stream stays its owner's."""
        if self._file is not None:
            self._file.close()


def _write(file: IO[bytes], view: memoryview) -> None:
    """Write all of it: an unbuffered file may take less at once, on a full disk for instance."""
    while view:
        view = view[file.write(view) :]


class _Content:
    """A layer's tar on its way to the unpacker: counted and hashed."""

    def __init__(self, chunks: Iterator[bytes], subject: str) -> None:
        self._chunks = chunks
        self._subject = subject
        self._hash = hashlib.sha256()
        self.size = 0

    def feed(self, out: BinaryIO) -> None:
        """Write everything to the unpacker; one that stops reading says by itself why."""
        for chunk in self._counted():
            try:
                out.write(chunk)
            except BrokenPipeError:  # noqa: PERF203  what was counted up to here counts
                return

    def drain(self) -> None:
        """Count what the unpacker did not want: the end of an archive comes before the end of its blocks."""
        for _ in self._counted():
            pass

    def _counted(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > LAYER_LIMIT:
                raise StoreError(self._subject, f"unpacks to more than {LAYER_LIMIT} bytes; nothing was kept")
            self._hash.update(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def _read_ahead(archive: io.BufferedReader) -> Iterator[Iterator[bytes]]:
    """Give the pieces of an archive, which a thread reads: decompressing goes on while others wait for the disk."""
    ready: queue.Queue[bytes | Exception] = queue.Queue(AHEAD)
    enough = threading.Event()
    ended = False

    def read() -> None:
        last: bytes | Exception = b""
        try:
            for chunk in pieces(archive):
                if enough.is_set():
                    break
                ready.put(chunk)
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the chunks are taken
            last = error
        ready.put(last)

    def chunks() -> Iterator[bytes]:
        nonlocal ended
        while not ended:
            item = ready.get()
            ended = not item or isinstance(item, Exception)
            if isinstance(item, Exception):
                raise item
            yield from (item,) if item else ()

    reader = threading.Thread(target=read, name="pylxc-layer", daemon=True)
    reader.start()
    try:
        yield chunks()
    finally:
        enough.set()
        while not ended:  # it may be waiting for room
            item = ready.get()
            ended = not item or isinstance(item, Exception)
        reader.join()


def _compare(subject: str, descriptor: Descriptor, digits: str, size: int) -> None:
    """Raise IntegrityError where bytes are not those that a descriptor names."""
    if size != descriptor.size:
        raise IntegrityError(subject, f"{descriptor.size} bytes", f"{size}")
    if f"sha256:{digits}" != descriptor.digest:
        raise IntegrityError(subject, descriptor.digest, f"sha256:{digits}")
