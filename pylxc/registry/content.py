"""What registries hold: digests, descriptors and manifests.

Hides the media types of both families (OCI and Docker) and what a manifest may look like. Invariant: a
:class:`Descriptor` has a digest that is safe in a URL and as a file's name; the bytes of a :class:`Manifest` have its
digest, and it is of one kind only. Sources: image-spec (descriptor.md, manifest.md, image-index.md), distribution's
"Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pylxc.errors import IntegrityError, RegistryError, SpecError, UnsupportedError
from pylxc.registry.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"

_SCHEMA_1 = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)")
_NO_TYPE = frozenset({"", "application/json", "application/octet-stream", "text/plain"})  # of plain file servers
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_SIZE_LIMIT = 2**63 - 1


def is_digest(text: object) -> bool:
    """Say whether a text is a digest that pylxc can check: of sha256 or sha512, in full."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


class Hasher:
    """Hashes what goes by with the algorithm of a digest, and compares at the end."""

    def __init__(self, digest: str) -> None:
        self.expected = digest
        self._algorithm = digest.partition(":")[0]
        self._hash = hashlib.new(self._algorithm)
        self.update = self._hash.update

    def check(self, subject: str) -> None:
        """Raise IntegrityError unless what went by has the digest."""
        actual = f"{self._algorithm}:{self._hash.hexdigest()}"
        if actual != self.expected:
            raise IntegrityError(subject, self.expected, actual)


@frozen
class Descriptor:
    """What something in a registry is: ``media_type``, ``digest``, ``size`` (bytes), as a manifest names it.

    Raises SpecError where the digest or the size is none.

    Example:
        >>> Descriptor("text/plain", "sha256:" + "0" * 64, 12).size
        12

    """

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        if not is_digest(self.digest):
            raise SpecError("digest", self.digest, 'a digest is "sha256:" and 64 hexadecimal digits')
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 0 <= self.size <= _SIZE_LIMIT:
            raise SpecError("size", self.size, "a size is a whole number of bytes")

    @classmethod
    def parse(cls, value: object) -> Descriptor:
        """Return the descriptor in a manifest's JSON. Raises RegistryError where it is none."""
        given: dict[str, Any] = value if isinstance(value, dict) else {}
        kind, artifact, notes = given.get("mediaType"), given.get("artifactType", ""), given.get("annotations") or {}
        is_typed = isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind) and isinstance(artifact, str)
        is_noted = isinstance(notes, dict) and all(isinstance(note, str) for note in notes.values())
        try:
            if is_typed and is_noted:
                return cls(str(kind), given.get("digest", ""), given.get("size", -1), artifact, notes)
        except SpecError as error:
            raise _invalid(f"a descriptor's {error.option} is none") from error
        raise _invalid("something in it is not a descriptor")

    def to_json(self) -> dict[str, Any]:
        """Return it as a manifest has it."""
        more = {"artifactType": self.artifact_type, "annotations": dict(self.annotations)}
        known = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return known | {key: value for key, value in more.items() if value}


@frozen
class Manifest:
    """A manifest or an index, as the registry has it: ``descriptor``, ``data`` (its very bytes), ``document`` (parsed).

    What belongs to an image is to be taken from ``document`` after a look at ``is_index``; unknown fields are kept.
    """

    descriptor: Descriptor
    data: bytes = field(repr=False)
    document: Mapping[str, Any] = field(repr=False, eq=False)

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests, one for each platform."""
        return self.descriptor.media_type in INDEXES

    @property
    def subject(self) -> Descriptor | None:
        """The manifest that this one says something about (a signature, for instance), else None."""
        return Descriptor.parse(self.document["subject"]) if self.document.get("subject") else None


def read_manifest(data: bytes, content_type: str, digest: str) -> Manifest:
    """Return the manifest in these bytes, which have been checked against the digest.

    ``content_type`` is what the registry said. Raises RegistryError where it is no manifest of a known kind, or could
    be read as two (CVE-2021-41190); UnsupportedError for schema 1.
    """
    said = content_type.partition(";")[0].strip().lower()
    document = _parse(data)
    if _SCHEMA_1.fullmatch(said) or document.get("schemaVersion") == 1:
        remedy = "pull it with an old docker and push it again, or ask its maker for a current one"
        raise UnsupportedError("an image in schema 1, a format that was given up in 2017", remedy)
    inside = document.get("mediaType", "")
    kind = inside if said in _NO_TYPE else said
    if not isinstance(kind, str) or kind not in INDEXES | MANIFESTS:
        raise _invalid("it is of a kind that pylxc does not know")
    if inside not in ("", kind):
        raise _invalid("the registry says it is of another kind than it says itself")
    _check_shape(document, kind)
    return Manifest(Descriptor(kind, digest, len(data)), data, document)


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = parse_json(data)
    except ValueError as error:
        raise _invalid("it is not JSON") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object")
    return document


def _check_shape(document: Mapping[str, Any], kind: str) -> None:
    is_list, is_image = "manifests" in document, "layers" in document or "config" in document
    if is_list and is_image:
        raise _invalid("it can be read both as an image and as a list of images")
    if kind in INDEXES and not isinstance(document.get("manifests"), list):
        raise _invalid("it lists no manifests")
    layers = document.get("layers")
    if kind in MANIFESTS and not (isinstance(document.get("config"), dict) and isinstance(layers, list)):
        raise _invalid("it names no configuration and layers")


def _invalid(reason: str) -> RegistryError:
    return RegistryError(f"the manifest cannot be used: {reason}", code="MANIFEST_INVALID")
