"""Manifests and indexes: which bytes an image consists of.

Hides the two families of media types (OCI, Docker v2 schema 2) and what malformed documents look like. Invariant: a
value that was read is of one kind, names digests that can be file names, and its bytes are kept beside it.
Source: OCI image-spec, manifest.md, image-index.md, descriptor.md; distribution's manifest-v2-2.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from attrs import field, frozen

from pylxc.errors import IntegrityError, UnsupportedError
from pylxc.exchange import platforms

DOCUMENT_LIMIT = 4 << 20  # bytes of a manifest or an index, as in other registries and engines
CONFIG_LIMIT = 16 << 20  # bytes of a configuration
COUNT_LIMIT = 4096  # descriptors in one document
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset((OCI_INDEX, DOCKER_INDEX))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIGS = frozenset(("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"))
LAYERS = {
    "": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
ATTESTATION = "vnd.docker.reference.type"  # the annotation of what speaks about an image, and is none
_SCHEMA_1 = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+")


@frozen
class Descriptor:
    """What names some bytes: ``digest``, ``size`` (bytes), ``media_type``; ``platform`` ("linux/arm/v7", "" = unsaid).

    ``urls``: where bytes that may not be distributed are to be had.
    """

    digest: str
    size: int
    media_type: str = ""
    platform: str = ""
    annotations: dict[str, str] = field(factory=dict, hash=False)
    urls: tuple[str, ...] = ()

    @property
    def is_distributable(self) -> bool:
        """Whether a registry may be given these bytes."""
        return "nondistributable" not in self.media_type and ".foreign." not in self.media_type

    @property
    def form(self) -> str:
        """How the media type says that a layer is compressed: "gzip", "zstd", or "" for not at all."""
        return next((form for form in ("gzip", "zstd") if self.media_type.endswith(form)), "")


@frozen
class Manifest:
    """One image: its configuration, and its layers, the lowest first. ``data`` are the bytes, exactly."""

    data: bytes = field(repr=False)
    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@frozen
class Index:
    """Several manifests, or indexes, for a choice. ``data`` are the bytes, exactly."""

    data: bytes = field(repr=False)
    digest: str
    media_type: str
    manifests: tuple[Descriptor, ...]


def read(data: bytes, media_type: str, subject: str) -> Manifest | Index:
    """Return what a document says. ``media_type`` is what its descriptor or its server calls it ("" = nothing).

    Raises IntegrityError when it is malformed, UnsupportedError for Docker's schema 1 and for encrypted layers.
    """
    values = parse(data, subject)
    if not isinstance(values, dict):
        raise IntegrityError(subject, "a manifest", "other JSON")
    said = values.get("mediaType") or media_type
    if values.get("schemaVersion") == 1 or "fsLayers" in values or _SCHEMA_1.fullmatch(str(said)):
        raise UnsupportedError(
            f"{subject}: manifest schema 1", "push or save the image anew with a tool of this decade"
        )
    if media_type and said != media_type:
        raise IntegrityError(subject, media_type, f"a document that calls itself {said!r}")
    return _document(data, str(said), values, subject)


def _document(data: bytes, said: str, values: dict[str, Any], subject: str) -> Manifest | Index:
    """Read a document as what it is: of two kinds at once it would be another image for every reader."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if "manifests" in values and not {"layers", "config"} & set(values) and said not in MANIFESTS:
        entries = _descriptors(values["manifests"] or [], subject)
        return Index(data, digest, said or OCI_INDEX, entries)
    if {"layers", "config"} <= set(values) and "manifests" not in values and said not in INDEXES:
        layers = _descriptors(values["layers"] or [], subject)
        if any("encrypted" in layer.media_type for layer in layers):
            raise UnsupportedError(f"{subject}: encrypted layers", "decrypt the image with the tool that encrypted it")
        return Manifest(data, digest, said or OCI_MANIFEST, _descriptor(values["config"], subject), layers)
    raise IntegrityError(subject, "a manifest or an index", f"JSON with {sorted(map(str, values))[:8]}")


def parse(data: bytes, subject: str) -> Any:
    """Return the value of a JSON text. Raises IntegrityError."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        words = "JSON nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise IntegrityError(subject, "JSON in UTF-8", words) from None


def _descriptors(values: Any, subject: str) -> tuple[Descriptor, ...]:
    if not isinstance(values, list) or len(values) > COUNT_LIMIT:
        raise IntegrityError(subject, f"a list of at most {COUNT_LIMIT} descriptors", "something else")
    return tuple(_descriptor(value, subject) for value in values)


def _descriptor(values: Any, subject: str) -> Descriptor:
    if not isinstance(values, dict):
        raise IntegrityError(subject, "a descriptor", repr(values)[:80])
    digest, size = values.get("digest"), values.get("size")
    if isinstance(digest, str) and not _DIGEST.fullmatch(digest) and _OTHER_DIGEST.fullmatch(digest):
        if digest.startswith("sha256:"):
            raise IntegrityError(subject, "64 hexadecimal digits", digest[:80])
        raise UnsupportedError(f"{subject}: digest {digest[:80]}", "only SHA-256 is known here")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise IntegrityError(subject, "a digest", repr(digest)[:80])
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise IntegrityError(subject, f"a size for {digest}", repr(size)[:80])
    kind, urls, notes = values.get("mediaType") or "", values.get("urls") or [], values.get("annotations") or {}
    if not isinstance(kind, str) or not isinstance(urls, list) or not isinstance(notes, dict):
        raise IntegrityError(subject, "a descriptor", repr(values)[:80])
    return Descriptor(
        digest,
        size,
        kind,
        platforms.of_json(values.get("platform")),
        {str(name): str(value) for name, value in notes.items()},
        tuple(map(str, urls)),
    )
