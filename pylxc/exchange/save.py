"""Images out of the store into an archive.

Hides the order and the form of the archive's files. Invariant: the same images under the same names give the same
bytes; a file appears under its name when it is whole, and what came in goes out with the digests it had.
Source: OCI image-spec, image-layout.md; moby, image/spec/v1.2.md.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from attrs import evolve, frozen

from pylxc.build import tarwriter
from pylxc.build.archives import CHUNK
from pylxc.build.selection import Entry
from pylxc.build.wholefile import whole_file
from pylxc.documents import OCI_INDEX, OCI_LAYOUT
from pylxc.errors import SpecError, StoreError
from pylxc.exchange.catalog import DOCKER, IMAGE_NAME, INDEX, REF_NAME
from pylxc.exchange.outgoing import ANY_FORM, Outgoing
from pylxc.exchange.sources import BLOBS
from pylxc.reference import Reference

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from pylxc.build.wholefile import Sink
    from pylxc.engine import Engine
    from pylxc.exchange.incoming import Checked
    from pylxc.image import Image

# What each format's readers can decompress: docker's of the 20s know no zstd.
FORMS = {"oci": ANY_FORM, "docker": frozenset(("", "gzip"))}


@frozen
class _Picture:
    """An image to be saved, under these names."""

    checked: Checked
    refs: tuple[str, ...]


def save(
    engine: Engine,
    images: Sequence[tuple[Image, Sequence[str]]],
    target: str | os.PathLike[str] | IO[bytes],
    form: str = "oci",
) -> None:
    """Write images, each with the references that it is to have, into one archive; see :meth:`pylxc.Image.save`."""
    if form not in FORMS:
        raise SpecError("format", form, 'give "oci" or "docker"')
    with engine.store.leases.take(freeing=True) as lease:  # onto another disk, for one
        outgoing = Outgoing(engine, lease)
        named: dict[str, _Picture] = {}
        for image, refs in images:
            known = named.get(image.id) or _Picture(outgoing.documents(image, FORMS[form]), ())
            named[image.id] = evolve(known, refs=tuple(sorted({*known.refs, *map(_canonical, refs)})))
        pictures = list(named.values())
        files: dict[str, bytes] = {"oci-layout": OCI_LAYOUT, INDEX: _index(pictures)}
        if form == "docker":
            files[DOCKER] = _docker(pictures)
        with whole_file(target) as sink:
            _write_archive(sink, outgoing, pictures, files)


def _canonical(ref: str) -> str:
    return Reference.parse(ref).canonical


def _index(pictures: Sequence[_Picture]) -> bytes:
    entries = []
    for picture in pictures:
        manifest = picture.checked.manifest
        entry = {"digest": manifest.digest, "mediaType": manifest.media_type, "size": len(manifest.data)}
        entries += [{**entry, "annotations": {IMAGE_NAME: ref, REF_NAME: ref}} for ref in picture.refs] or [entry]
    return _json({"manifests": entries, "mediaType": OCI_INDEX, "schemaVersion": 2})


def _docker(pictures: Sequence[_Picture]) -> bytes:
    return _json(
        [
            {
                "Config": _file(picture.checked.manifest.config.digest),
                "Layers": [_file(layer.digest) for layer in picture.checked.manifest.layers],
                "RepoTags": [Reference.parse(ref).familiar for ref in picture.refs] or None,
            }
            for picture in pictures
        ]
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _file(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")


def _write_archive(sink: Sink, outgoing: Outgoing, pictures: Sequence[_Picture], files: Mapping[str, bytes]) -> None:
    """Write the documents first, then the layers: each blob once."""
    documents = dict(files)
    for picture in pictures:
        manifest = picture.checked.manifest
        documents[_file(manifest.digest)] = manifest.data
        documents[_file(manifest.config.digest)] = picture.checked.config
    layers = {
        _file(layer.digest): (layer, diff_id) for picture in pictures for layer, diff_id, _ in picture.checked.layers
    }
    for name in ("blobs", "blobs/sha256"):
        sink.write(tarwriter.header(_entry(name, "directory", 0)))
    for name, data in sorted(documents.items()):
        sink.write(tarwriter.header(_entry(name, "file", len(data))) + data + tarwriter.padding(len(data)))
    for name, (layer, diff_id) in sorted(layers.items()):
        path = outgoing.path(layer, diff_id)
        sink.write(tarwriter.header(_entry(name, "file", layer.size)))
        _copy(path, layer.size, sink)
        sink.write(tarwriter.padding(layer.size))
    sink.write(tarwriter.END)


def _entry(name: str, kind: Any, size: int) -> Entry:
    mode = 0o755 if kind == "directory" else 0o644
    return Entry(name, "", kind, mode, size, 0, 0, 0)


def _copy(path: str, size: int, sink: Sink) -> None:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        left = size
        while left:
            chunk = file.read(min(left, CHUNK))
            if not chunk:
                raise StoreError(path, "was cut short meanwhile; verify the store")
            sink.write(chunk)
            left -= len(chunk)
