"""Images and tags: configurations over layers, and the names that point to them.

Invariant: an image's layers and blobs are on disk before its row is; a tag's every move is in the log;
``oci/index.json`` names every tagged image, so that other tools can read the directory as an OCI image layout
(image-spec, image-layout.md).
An image is what its configuration says; it may have come by several manifests, of which the latest is its digest.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from pylxc.digests import digest_of
from pylxc.documents import INDEXES, LAYERS, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from pylxc.errors import Conflict, ImageNotFound, IntegrityError, SpecError, StoreError
from pylxc.imageconfig import ImageDocument
from pylxc.reference import Reference, is_full_id
from pylxc.store.layers import LayerRow, to_row
from pylxc.store.layout import explained

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Sequence

    from pylxc.store.blobs import Blobs
    from pylxc.store.database import Database
    from pylxc.store.layers import Layers
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Lease, Leases

SHORTEST_ID = 2


@frozen
class ImageRow:
    """An image as the index has it. ``refs`` are familiar names at the time of asking; ``manifest`` is its digest."""

    id: str
    manifest: str
    document: ImageDocument
    layers: tuple[LayerRow, ...]
    refs: tuple[str, ...]


@frozen
class ImageContent:
    """The bytes of an image as they came, or (``made``) as they were written here. ``media_type`` is the manifest's.

    ``indexes``: the bytes and media types of the indexes that it was chosen from.
    """

    config: bytes
    manifest: bytes
    media_type: str = OCI_MANIFEST
    made: bool = False
    indexes: tuple[tuple[bytes, str], ...] = ()

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """All of it that lies in the store as blobs."""
        return (self.config, self.manifest, *(index for index, _ in self.indexes))


@frozen
class TagMove:
    """One move of a tag: ``ref``, ``old`` and ``new`` (image ids, "" = none), ``time`` (s since the epoch)."""

    ref: str
    old: str
    new: str
    time: float


class Images:
    """All images and tags of a store."""

    def __init__(self, database: Database, layout: Layout, layers: Layers, blobs: Blobs, leases: Leases) -> None:
        self._database = database
        self._layout = layout
        self._layers = layers
        self._blobs = blobs
        self._leases = leases
        self._known: dict[str, ImageRow] = {}  # what never changes of an image, by id; the rest is asked for each time

    # -- reading ----------------------------------------------------------------------------------------------------

    def find(self, text: str) -> ImageRow:
        """Return the image with a reference, an id, the beginning of one, or a ``ref@{n}``.

        Raises ImageNotFound naming what is near; Conflict when several ids begin so.
        """
        return self.get(self._resolve(text))

    def get(self, id: str) -> ImageRow:  # noqa: A002  docker's name
        """Return the image with this id. Raises ImageNotFound."""
        query = "SELECT ref, manifest FROM images LEFT JOIN tags ON image = id WHERE id = ? ORDER BY ref"
        found = self._database.rows(query, (id,))
        if not found:
            self._known.pop(id, None)
            raise ImageNotFound(id, "it was removed")
        known = self._known.get(id)
        if known is None:
            known = self._known[id] = self._read(id)
        refs = tuple(Reference.parse(ref).familiar for ref, _ in found if ref is not None)
        return evolve(known, manifest=found[0][1], refs=refs)

    def exists(self, id: str) -> bool:  # noqa: A002
        """Say whether there is an image with this id."""
        return self._database.row("SELECT 1 FROM images WHERE id = ?", (id,)) is not None

    def list(self) -> list[ImageRow]:
        """Return all images, the newest first."""
        found = []
        for (id,) in self._database.rows("SELECT id FROM images ORDER BY created DESC, id"):  # noqa: A001
            with suppress(ImageNotFound):  # removed meanwhile, by another process
                found.append(self.get(id))
        return found

    def log(self, ref: str) -> Sequence[TagMove]:
        """Return every move of a tag, the latest first. Raises ImageNotFound for one that never was; SpecError."""
        tag = _tag(ref).canonical
        query = "SELECT ref, old, new, time FROM tag_log WHERE ref = ? ORDER BY number DESC"
        moves = [TagMove(*row) for row in self._database.rows(query, (tag,))]
        if not moves and not self.has_tag(tag):
            raise ImageNotFound(ref, self._advice(ref))
        return moves

    def _read(self, id: str) -> ImageRow:  # noqa: A002
        found = self._database.row("SELECT manifest, config FROM images WHERE id = ?", (id,))
        if found is None:
            raise ImageNotFound(id, "it was removed")
        query = (
            "SELECT digest, size, created_by, created, passthrough FROM image_layers JOIN layers ON layer = digest"
            " WHERE image = ? ORDER BY position"
        )
        layers = tuple(to_row(row) for row in self._database.rows(query, (id,)))
        return ImageRow(id, found[0], ImageDocument.from_bytes(found[1]), layers, ())

    def _resolve(self, text: str) -> str:
        if not isinstance(text, str):
            raise SpecError("image", text, 'give a reference as a string, such as "debian:bookworm"')
        if not is_full_id(text):
            found = self._by_reference(text)
            if found is not None:
                return found
        digits = text.removeprefix("sha256:")
        if len(digits) >= SHORTEST_ID and not digits.strip("0123456789abcdef"):
            bounds = (f"sha256:{digits}", f"sha256:{digits}g")  # "g" sorts behind every hexadecimal digit
            rows = self._database.rows("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", bounds)
            if len(rows) > 1:
                raise Conflict(text, "several images' ids begin so; give more of it")
            if rows:
                return str(rows[0][0])
        raise ImageNotFound(text, self._advice(text))

    def _by_reference(self, text: str) -> str | None:
        if text.startswith("sha256:"):
            return None
        reference = Reference.parse(text)
        if reference.before:
            query = "SELECT old FROM tag_log WHERE ref = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
            found = self._database.row(query, (reference.canonical, reference.before - 1))
            if found is None or not found[0]:
                raise ImageNotFound(text, f"{reference.familiar} has not moved so often; Image.log() lists its moves")
            if not self.exists(found[0]):
                raise ImageNotFound(text, f"it named image {found[0][:19]}, which was removed")
            return str(found[0])
        if reference.digest:
            query = "SELECT image FROM manifests WHERE digest = ?1 UNION ALL SELECT id FROM images WHERE id = ?1"
            found = self._database.row(query, (reference.digest,))
        else:
            return self._tagged(reference.canonical)
        return None if found is None else str(found[0])

    def _tagged(self, ref: str) -> str | None:
        """Return the id of the image that a tag, in full, names; None for no such tag."""
        found = self._database.row("SELECT image FROM tags WHERE ref = ?", (ref,))
        return None if found is None else str(found[0])

    def _advice(self, text: str) -> str:
        import difflib  # noqa: PLC0415  only where there is a mistake to explain

        names = [Reference.parse(row[0]).familiar for row in self._database.rows("SELECT ref FROM tags ORDER BY ref")]
        wanted = {text, text.rpartition(":")[0]}  # another tag of the same name is nearest
        siblings = [name for name in names if name.rpartition(":")[0] in wanted]
        near = siblings or difflib.get_close_matches(text, names, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{hint}it is not in this store; pull it, or make it with Image.build, Image.bootstrap or Image.from_tar"

    # -- writing ----------------------------------------------------------------------------------------------------

    def add(self, document: ImageDocument, ref: str | Sequence[str] | None, lease: Lease) -> ImageRow:
        """Add an image over layers that the lease keeps, and let a tag, or several, point to it."""
        config = document.to_bytes()
        lease.protect(document.diff_ids)
        rows = [self._layers.get(digest) for digest in document.diff_ids]
        manifest = manifest_over(config, [(row.digest, row.size, LAYERS[""]) for row in rows])
        refs = (ref,) if isinstance(ref, str) else tuple(ref or ())
        return self.keep([(ImageContent(config, manifest, made=True), refs)], lease)[0]

    def keep(self, contents: Sequence[tuple[ImageContent, Sequence[str]]], lease: Lease) -> Sequence[ImageRow]:
        """Add images as their bytes are, over layers that the lease keeps, and let tags point to them: all, or none.

        A manifest that came becomes the image's digest; one that was made is kept only where there is none.
        """
        references = [[_tag(ref) for ref in refs] for _, refs in contents]
        documents = [ImageDocument.from_bytes(content.config) for content, _ in contents]
        lease.protect(digest for document in documents for digest in document.diff_ids)
        known = self._known_as_they_are(contents, references)
        if known is not None:
            return known
        lease.settle()
        try:
            with self._changing() as connection:
                for (content, _), document, tags in zip(contents, documents, references, strict=True):
                    self._keep(connection, content, document)
                    for reference in tags:
                        _move(connection, reference, digest_of(content.config))
                # Read before others can remove what was added.
                kept = [self.get(digest_of(content.config)) for content, _ in contents]
        except BaseException:
            self._blobs.clear(digest_of(data) for content, _ in contents for data in content.blobs)
            raise
        return kept

    def _known_as_they_are(
        self, contents: Sequence[tuple[ImageContent, Sequence[str]]], references: Sequence[Sequence[Reference]]
    ) -> Sequence[ImageRow] | None:
        """Return images that were made, and are here as they are to be, with their tags; None where any is not.

        A build that found every step in the cache comes to nothing new: then nothing is written.
        """
        found = []
        for (content, _), tags in zip(contents, references, strict=True):
            id, digest = digest_of(content.config), digest_of(content.manifest)  # noqa: A001  docker's name
            if not content.made or self.config(id) != content.config or self._stored(id) != content.config:
                return None
            if self._stored(digest) != content.manifest or any(self._tagged(tag.canonical) != id for tag in tags):
                return None
            try:
                found.append(self.get(id))
            except ImageNotFound:  # it was removed meanwhile
                return None
            if found[-1].manifest != digest:
                return None
        return found

    def _keep(self, connection: sqlite3.Connection, content: ImageContent, document: ImageDocument) -> None:
        id, digest = digest_of(content.config), digest_of(content.manifest)  # noqa: A001  docker's name
        found = connection.execute("SELECT manifest FROM images WHERE id = ?", (id,)).fetchone()
        # Blobs are written inside the transaction: a removal of the same image cannot take them in between.
        self._layout.write_file(self._layout.blob(id), content.config)
        if found is None:
            values = (id, digest, len(content.manifest), content.config, document.created)
            connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?)", values)
            rows = [(id, position, layer) for position, layer in enumerate(document.diff_ids)]
            connection.executemany("INSERT INTO image_layers VALUES (?, ?, ?)", rows)
        if found is None or not content.made or found[0] == digest:
            self._keep_document(connection, id, content.manifest, content.media_type)
            changed = (digest, len(content.manifest), id)
            connection.execute("UPDATE images SET manifest = ?, manifest_size = ? WHERE id = ?", changed)
        for index, kind in content.indexes:
            self._keep_document(connection, id, index, kind)

    def _keep_document(self, connection: sqlite3.Connection, id: str, data: bytes, kind: str) -> None:  # noqa: A002
        """Keep a manifest, or an index: its digest names the image from now on."""
        digest = digest_of(data)
        self._layout.write_file(self._layout.blob(digest), data)
        connection.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?)", (digest, id, kind, len(data)))

    def document(self, digest: str) -> tuple[bytes, str] | None:
        """Return a manifest or an index that is kept, and its media type; None where it is not, or is damaged."""
        found = self._database.row("SELECT media_type FROM manifests WHERE digest = ?", (digest,))
        data = self._stored(digest) if found is not None else b""
        return (data, str(found[0])) if found is not None and digest_of(data) == digest else None

    def digests(self, id: str) -> Sequence[str]:  # noqa: A002
        """Return the digests that registries know an image by: its manifest's, and those of indexes that it was in."""
        rows = self._database.rows("SELECT digest, media_type FROM manifests WHERE image = ? ORDER BY digest", (id,))
        own = self._database.row("SELECT manifest FROM images WHERE id = ?", (id,))
        return [digest for digest, kind in rows if kind in INDEXES or (digest,) == own]

    def has_tag(self, ref: str) -> bool:
        """Say whether a tag, in full, names an image."""
        return self._tagged(ref) is not None

    def config(self, id: str) -> bytes | None:  # noqa: A002
        """Return the configuration of an image, None where there is none of this id."""
        found = self._database.row("SELECT config FROM images WHERE id = ?", (id,))
        return None if found is None else bytes(found[0])

    def refs_over(self, layer: str) -> Sequence[str]:
        """Return the tags, in full, of the images that have a layer."""
        query = "SELECT DISTINCT ref FROM tags JOIN image_layers USING (image) WHERE layer = ? ORDER BY ref"
        return [ref for (ref,) in self._database.rows(query, (layer,))]

    def _stored(self, digest: str) -> bytes:
        """Return the bytes of a document, b"" where they are gone."""
        path = self._layout.blob(digest)
        with explained(path):
            try:
                with open(path, "rb") as file:  # noqa: PTH123
                    return file.read()
            except FileNotFoundError:
                return b""

    def content_of(self, id: str) -> bytes:  # noqa: A002
        """Return the bytes of an image's configuration, as the index has them. Raises ImageNotFound."""
        found = self.config(id)
        if found is None:
            raise ImageNotFound(id, "it was removed")
        return found

    def content(self, id: str) -> ImageContent:  # noqa: A002
        """Return the bytes of an image. Raises IntegrityError when its manifest is damaged; ImageNotFound."""
        query = "SELECT config, manifest, media_type FROM images JOIN manifests ON digest = manifest WHERE id = ?"
        found = self._database.row(query, (id,))
        if found is None:
            raise ImageNotFound(id, "it was removed")
        config, digest, media_type = found
        manifest = self._stored(digest)
        if digest_of(manifest) != digest:
            subject = f"the manifest of image {id[:19]} (load, pull or build it again)"
            raise IntegrityError(subject, digest, digest_of(manifest) if manifest else "nothing")
        return ImageContent(config, manifest, media_type)

    def tag(self, id: str, ref: str) -> None:  # noqa: A002
        """Let a tag point to an image, wherever it pointed before. Raises ImageNotFound, SpecError."""
        reference = _tag(ref)
        with self._leases.noted(), self._changing() as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (id,)).fetchone() is None:
                raise ImageNotFound(id, "it was removed")
            _move(connection, reference, id)

    def untag(self, id: str, ref: str) -> None:  # noqa: A002
        """Remove a tag of an image. Raises ImageNotFound; Conflict when it names another image; SpecError."""
        reference = _tag(ref)
        with self._leases.noted(freeing=True), self._changing(freeing=True) as connection:
            found = connection.execute("SELECT image FROM tags WHERE ref = ?", (reference.canonical,)).fetchone()
            if found is not None and found[0] != id:
                raise Conflict(ref, f"it names image {found[0][:19]}, not {id[:19]}")
            _move(connection, reference, "")

    @contextmanager
    def _changing(self, *, freeing: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a transaction for a change of images or tags, which ``oci/index.json`` follows.

        The caller has a lease or a note: whoever is killed here leaves the file to the next process.
        """
        written = False
        try:
            with self._database.writing(durable=True, freeing=freeing) as connection:
                yield connection
                written = True
                self._write_index(connection)
        except BaseException:
            if written:  # and rolled back: the file may be ahead of the index
                with suppress(StoreError), self._layout.sweeping_later():
                    self._publish()
            raise

    def _publish(self) -> None:
        with self._database.writing(durable=False, freeing=True) as connection:
            self._write_index(connection)

    def remove(self, id: str, refs: Collection[str] | None = None) -> None:  # noqa: A002
        """Remove an image, its tags, and the layers that nothing else needs. Works on a full disk.

        ``refs``: the tags, as they are shown, that it may have (default: any). Raises Conflict when it has another one,
        or when a container, which it names, was made from it; ImageNotFound.
        """
        with self._leases.noted(freeing=True):
            with self._changing(freeing=True) as connection:
                manifests = connection.execute("SELECT digest FROM manifests WHERE image = ?", (id,)).fetchall()
                if not manifests:
                    raise ImageNotFound(id, "it was removed")
                user = connection.execute("SELECT name FROM containers WHERE image = ?", (id,)).fetchone()
                if user is not None:
                    raise Conflict(id[:19], f"container {user[0]} was made from it; remove that one first")
                layers = connection.execute("SELECT layer FROM image_layers WHERE image = ?", (id,)).fetchall()
                tags = connection.execute("SELECT ref FROM tags WHERE image = ? ORDER BY ref", (id,)).fetchall()
                for reference in [Reference.parse(ref) for (ref,) in tags]:
                    if refs is not None and reference.familiar not in refs:
                        raise Conflict(id[:19], f"it is also called {reference.familiar}; remove that name first")
                    _move(connection, reference, "")
                connection.execute("DELETE FROM images WHERE id = ?", (id,))
                unused = self._layers.forget_unused(connection, [layer for (layer,) in layers])
            self._known.pop(id, None)
            self._blobs.clear([id, *(manifest for (manifest,) in manifests)])
            self._layers.clear(unused)
        self._layout.keep_reserve()

    def sweep(self) -> None:
        """Write the layout's index anew."""
        self._publish()

    def _write_index(self, connection: sqlite3.Connection) -> None:
        query = (
            "SELECT ref, digest, size, media_type FROM tags JOIN images ON tags.image = id"
            " JOIN manifests ON digest = manifest ORDER BY ref"
        )
        entries = [
            {
                "annotations": {"org.opencontainers.image.ref.name": ref},
                "digest": digest,
                "mediaType": media_type,
                "size": size,
            }
            for ref, digest, size, media_type in connection.execute(query)
        ]
        index = {"manifests": entries, "mediaType": OCI_INDEX, "schemaVersion": 2}
        self._layout.write_file(f"{self._layout.root}/oci/index.json", _json(index))


def _tag(ref: str) -> Reference:
    """Return a reference that can be moved, or has moved. Raises SpecError."""
    reference = Reference.parse(ref)
    if "@" in ref:  # a digest, or an ``@{n}``
        raise SpecError("ref", ref, 'give a plain "name:tag"; only such can be moved')
    return reference


def _move(connection: sqlite3.Connection, reference: Reference, id: str) -> None:  # noqa: A002
    """Move a tag to an image ("" = nowhere), and log it."""
    ref = reference.canonical
    found = connection.execute("SELECT image FROM tags WHERE ref = ?", (ref,)).fetchone()
    old = found[0] if found else ""
    if not id and not old:
        raise ImageNotFound(reference.familiar, "no such tag")
    if id == old:
        return
    if id:
        connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (ref, id))
    else:
        connection.execute("DELETE FROM tags WHERE ref = ?", (ref,))
    connection.execute("INSERT INTO tag_log (ref, old, new, time) VALUES (?, ?, ?, ?)", (ref, old, id, time.time()))


def manifest_over(config: bytes, layers: Sequence[tuple[str, int, str]]) -> bytes:
    """Return a manifest of a configuration over layers: (digest, size, media type) of each, the lowest first."""
    return _json(
        {
            "config": {"digest": digest_of(config), "mediaType": OCI_CONFIG, "size": len(config)},
            "layers": [{"digest": digest, "mediaType": kind, "size": size} for digest, size, kind in layers],
            "mediaType": OCI_MANIFEST,
            "schemaVersion": 2,
        }
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
