"""Manifests and indexes: which bytes an image consists of.

Hides the two families of media types (OCI, Docker v2 schema 2) and what malformed documents look like. Invariant: a
value that was read is of one kind, names digests that are safe in URLs and as file names, and its bytes are kept
beside it. Source: OCI image-spec, manifest.md, image-index.md, descriptor.md; distribution's manifest-v2-2.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pylxc import platforms
from pylxc.digests import digest_of, is_digest
from pylxc.errors import IntegrityError, SpecError, UnsupportedError
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOCUMENT_LIMIT = 4 << 20  # bytes of a manifest or an index, as in other registries and engines
CONFIG_LIMIT = 16 << 20  # bytes of a configuration
COUNT_LIMIT = 4096  # descriptors in one document
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset((OCI_INDEX, DOCKER_INDEX))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIGS = frozenset((OCI_CONFIG, "application/vnd.docker.container.image.v1+json"))
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'  # what the file "oci-layout" says (image-layout.md)
LAYERS = {
    "": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
ATTESTATION = "vnd.docker.reference.type"  # the annotation of what speaks about an image, and is none
_OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"  # of the specification before 1.1
_SCHEMA_1 = r"application/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)"
_NO_TYPE = frozenset(("", "application/json", "application/octet-stream", "text/plain"))  # of plain file servers
_OTHER_DIGEST = r"(?!sha256:|sha512:)[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+"
_MEDIA_TYPE = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_SIZE_LIMIT = 2**63 - 1
_SHOWN = 80  # characters of what is wrong


@frozen
class Descriptor:
    """What names some bytes: ``media_type`` ("" = unsaid), ``digest``, ``size`` (bytes), as a manifest has it.

    ``platform``: "linux/arm/v7", "" = unsaid. ``urls``: where bytes that may not be distributed are to be had. Raises
    SpecError where the digest or the size is none.

    Example:
        >>> Descriptor("text/plain", "sha256:" + "0" * 64, 12).size
        12

    """

    media_type: str
    digest: str
    size: int
    platform: str = ""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(factory=dict, hash=False)
    urls: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not is_digest(self.digest):
            raise SpecError("digest", self.digest, 'a digest is "sha256:" and 64 hexadecimal digits')
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 0 <= self.size <= _SIZE_LIMIT:
            raise SpecError("size", self.size, "a size is a whole number of bytes")

    @classmethod
    def parse(cls, value: object, subject: str) -> Descriptor:
        """Return the descriptor in a document's JSON. Raises IntegrityError where it is none, UnsupportedError."""
        given: dict[str, Any] = value if isinstance(value, dict) else {}
        kind, artifact, notes, urls = map(given.get, ("mediaType", "artifactType", "annotations", "urls"))
        is_typed = not kind or (isinstance(kind, str) and re.fullmatch(_MEDIA_TYPE, kind))
        is_noted = isinstance(notes or {}, dict) and all(isinstance(note, str) for note in (notes or {}).values())
        is_whole = isinstance(artifact or "", str) and _are_texts(urls or [])
        digest, size = given.get("digest"), given.get("size")
        if isinstance(digest, str) and re.fullmatch(_OTHER_DIGEST, digest):
            raise UnsupportedError(f"{subject}: digest {digest[:_SHOWN]}", "only SHA-256 and SHA-512 are known here")
        if is_typed and is_noted and is_whole and isinstance(digest, str) and isinstance(size, int):
            platform = platforms.of_json(given.get("platform"))
            try:
                return cls(kind or "", digest, size, platform, artifact or "", notes or {}, tuple(urls or ()))
            except SpecError as error:
                shown = repr(error.value)[:_SHOWN]
                raise IntegrityError(subject, f"a descriptor with a {error.option}", shown) from error
        raise IntegrityError(subject, "a descriptor", repr(value)[:_SHOWN])

    def to_json(self) -> dict[str, Any]:
        """Return it as a document has it; without the platform, which has other forms there."""
        more = {"artifactType": self.artifact_type, "annotations": dict(self.annotations), "urls": list(self.urls)}
        known = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return known | {key: value for key, value in more.items() if value}

    @property
    def is_distributable(self) -> bool:
        """Whether a registry may be given these bytes."""
        return "nondistributable" not in self.media_type and ".foreign." not in self.media_type

    @property
    def form(self) -> str:
        """How the media type says that a layer is compressed: "gzip", "zstd", or "" for not at all."""
        return form_said(self.media_type)


def form_said(media_type: str) -> str:
    """Return how a media type says that a layer is compressed; see :attr:`Descriptor.form`."""
    return next((form for form in LAYERS if form and media_type.endswith(form)), "")


@frozen(kw_only=True)
class _Document:
    """``data``: the bytes, exactly; ``document``: what they say, unknown fields too."""

    descriptor: Descriptor
    data: bytes = field(repr=False)
    document: Mapping[str, Any] = field(repr=False, eq=False)
    subject: Descriptor | None = None

    @property
    def digest(self) -> str:
        """The digest of the bytes."""
        return self.descriptor.digest

    @property
    def media_type(self) -> str:
        """What kind of manifest it is."""
        return self.descriptor.media_type


@frozen(kw_only=True)
class Manifest(_Document):
    """One image: ``descriptor``, ``data`` (the bytes, exactly), ``document`` (what they say, unknown fields too).

    ``config`` is its configuration, ``layers`` has the lowest first; ``subject`` is the manifest that this one says
    something about (a signature, for instance), None for an image.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def is_image(self) -> bool:
        """Whether it is of an image. Artifacts (charts, signatures, SBOMs) have manifests of the same kind."""
        is_layered = not self.layers or any(map(_may_be_tar, self.layers))
        return self.config.media_type in CONFIGS | _NO_TYPE and is_layered

    @property
    def artifact_type(self) -> str:
        """What an artifact calls itself, or what it consists of."""
        said = self.document.get("artifactType") or self.config.media_type
        return str(self.layers[0].media_type if said in CONFIGS and self.layers else said)[:_SHOWN]


@frozen(kw_only=True)
class Index(_Document):
    """Several manifests, or indexes, for a choice. ``descriptor``, ``data`` and ``document`` as of a manifest."""

    manifests: tuple[Descriptor, ...]


def read(data: bytes, media_type: str, subject: str, digest: str = "") -> Manifest | Index:
    """Return what a document says. ``media_type`` is what its descriptor or its server calls it ("" = nothing).

    ``digest``: what these bytes were found to have, where it is not of sha256. Raises IntegrityError when it is
    malformed or could be read as two things (CVE-2021-41190), UnsupportedError for Docker's schema 1 and for encrypted
    layers.
    """
    values = parse(data, subject)
    if not isinstance(values, dict):
        raise IntegrityError(subject, "a manifest or an index", "other JSON: not an object")
    said = media_type.partition(";")[0].strip().lower()
    inside = values.get("mediaType") or ""
    if values.get("schemaVersion") == 1 or "fsLayers" in values or re.fullmatch(_SCHEMA_1, said):
        remedy = "pull it with an old docker and push it again, or ask its maker for a current one"
        raise UnsupportedError(f"{subject}: manifest schema 1, a format that was given up in 2017", remedy)
    kind = inside if said in _NO_TYPE else said
    if inside not in ("", kind):
        raise IntegrityError(subject, kind, f"a document that calls itself {str(inside)[:_SHOWN]!r}")
    if not isinstance(kind, str) or kind not in INDEXES | MANIFESTS | {""}:
        raise IntegrityError(subject, "a manifest or an index", f"{str(kind)[:_SHOWN]!r}, which pylxc does not know")
    return _document(data, kind, values, subject, digest or digest_of(data))


def _document(data: bytes, kind: str, values: dict[str, Any], subject: str, digest: str) -> Manifest | Index:
    """Read a document as what it is: of two kinds at once it would be another image for every reader."""
    about = Descriptor.parse(values["subject"], subject) if values.get("subject") else None
    if "manifests" in values and not {"layers", "config"} & set(values) and kind not in MANIFESTS:
        entries = _descriptors(values["manifests"] or [], subject)
        own = Descriptor(kind or OCI_INDEX, digest, len(data))
        return Index(descriptor=own, data=data, document=values, subject=about, manifests=entries)
    if {"layers", "config"} <= set(values) and "manifests" not in values and kind not in INDEXES:
        layers = _descriptors(values["layers"] or [], subject)
        if any("encrypted" in layer.media_type for layer in layers):
            raise UnsupportedError(f"{subject}: encrypted layers", "decrypt the image with the tool that encrypted it")
        own = Descriptor(kind or OCI_MANIFEST, digest, len(data))
        config = Descriptor.parse(values["config"], subject)
        return Manifest(descriptor=own, data=data, document=values, subject=about, config=config, layers=layers)
    raise IntegrityError(subject, "a manifest or an index", f"JSON with {sorted(map(str, values))[:8]}"[:200])


def parse(data: bytes, subject: str) -> Any:
    """Return the value of a JSON text. Raises IntegrityError."""
    try:
        return parse_json(data)
    except ValueError as error:
        raise IntegrityError(subject, "JSON in UTF-8", str(error)[:_SHOWN]) from None


def is_image(entry: Descriptor) -> bool:
    """Say whether an entry may be an image: attestations and other artifacts are passed over."""
    if ATTESTATION in entry.annotations or platforms.is_unknown(entry.platform):
        return False
    if entry.artifact_type not in CONFIGS | {""} or entry.media_type == _OCI_ARTIFACT:
        return False
    return not entry.media_type or "manifest" in entry.media_type or "image.index" in entry.media_type


def _may_be_tar(layer: Descriptor) -> bool:
    return layer.media_type in _NO_TYPE or "tar" in layer.media_type


def check_storable(found: Iterable[Descriptor], subject: str) -> None:
    """Raise UnsupportedError where something has a digest that the store does not know: it names by sha256 alone."""
    for each in found:
        if not each.digest.startswith("sha256:"):
            remedy = "only SHA-256 is kept in the store; copy the image with a tool that writes such digests"
            raise UnsupportedError(f"{subject}: digest {each.digest[:24]}…", remedy)


def _descriptors(values: Any, subject: str) -> tuple[Descriptor, ...]:
    if not isinstance(values, list) or len(values) > COUNT_LIMIT:
        raise IntegrityError(subject, f"a list of at most {COUNT_LIMIT} descriptors", "something else")
    return tuple(Descriptor.parse(value, subject) for value in values)


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
