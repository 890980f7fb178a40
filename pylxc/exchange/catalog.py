"""Which images an archive holds.

Hides its layouts: the OCI image layout, with docker's own ``manifest.json`` or without, and the ``manifest.json`` of
docker before 25. Invariant: an image that was found has a configuration and a manifest that fit each other; whether its
layers are what these say is seen when they come in.
Source: OCI image-spec, image-layout.md; moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import attrs

from pylxc import documents, platforms
from pylxc.build.archives import HEAD, form_of
from pylxc.digests import digest_of
from pylxc.errors import IntegrityError, SpecError, StoreError, UnsupportedError
from pylxc.exchange.incoming import Checked, check
from pylxc.exchange.sources import BLOBS, missing, small
from pylxc.imageconfig import ImageDocument
from pylxc.platforms import Wanted
from pylxc.reference import Reference
from pylxc.store.images import manifest_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pylxc.documents import Descriptor, Manifest
    from pylxc.exchange.sources import Source

LAYOUT = "oci-layout"
INDEX = "index.json"
DOCKER = "manifest.json"
DEPTH_LIMIT = 8  # indexes in indexes
VISITS_LIMIT = 4096  # documents of one archive
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


@attrs.frozen
class Found:
    """An image in an archive: ``names`` of the files of its layers, the lowest first; ``refs`` are its tags.

    ``made``: the archive has no manifest of it, so one was made.
    """

    checked: Checked
    names: tuple[str, ...]
    refs: tuple[str, ...]
    made: bool = False


def find(source: Source, platform: str = "") -> list[Found]:
    """Return the images of an archive, of several for one name the one for a platform ("" = this machine's).

    Artifacts beside them, such as signatures and charts, are passed over.

    Raises StoreError when it is no archive of images; IntegrityError; UnsupportedError when none is for the platform.
    """
    wanted = Wanted(platform)
    found: list[Found] = []
    artifacts: list[str] = []
    if source.has(INDEX):
        layout = _Layout(source, wanted)
        found, artifacts = layout.images(), layout.artifacts
    if not found and source.has(DOCKER):
        found = _of_docker(source, wanted)
    if not found:
        raise StoreError(source.name, _advice(source, artifacts))
    return _merged(found)


def _advice(source: Source, artifacts: Iterable[str]) -> str:
    if kinds := ", ".join(sorted(set(artifacts))[:8]):
        return f"holds an artifact, not an image ({kinds}); give it to the tool that it is for"
    if source.has(INDEX) or source.has(DOCKER):
        return "holds no image"
    if source.has("repositories"):
        return "was written by docker before 1.10; save the image anew with a newer one"
    return "is no archive of images (neither index.json nor manifest.json is in it); from_tar takes root file systems"


def _merged(found: Iterable[Found]) -> list[Found]:
    """Make one of images that are the same under several names."""
    merged: dict[str, Found] = {}
    for one in found:
        digest = one.checked.manifest.digest
        before = merged.get(digest, one)
        merged[digest] = attrs.evolve(before, refs=tuple(dict.fromkeys((*before.refs, *one.refs))))
    return list(merged.values())


# -- OCI image layouts -------------------------------------------------------------------------------------------------


class _Layout:
    """An OCI image layout. ``artifacts``: what was passed over, by its types."""

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        self._wanted = wanted
        self._visits = 0
        self._tags = _tags_of_docker(source)
        self.artifacts: list[str] = []

    def images(self) -> list[Found]:
        self._check_version()
        subject = f"{self._source.name}: {INDEX}"
        data = small(self._source, INDEX, documents.DOCUMENT_LIMIT)
        index = _storable(documents.read(data, "", subject), subject)
        if not isinstance(index, documents.Index):
            raise IntegrityError(subject, "an index", "a manifest")
        for entry in itertools.filterfalse(documents.is_image, index.manifests):
            self.artifacts.append(
                entry.artifact_type or entry.annotations.get(documents.ATTESTATION) or entry.media_type
            )
        groups = _groups(filter(documents.is_image, index.manifests))
        return [found for group in groups if (found := self._image(group)) is not None]

    def _check_version(self) -> None:
        if not self._source.has(LAYOUT):
            return
        subject = f"{self._source.name}: {LAYOUT}"
        said = documents.parse(small(self._source, LAYOUT, documents.DOCUMENT_LIMIT), subject)
        version = said.get("imageLayoutVersion") if isinstance(said, dict) else None
        if not isinstance(version, str):
            raise IntegrityError(subject, "the version of an image layout", repr(said)[:80])
        if version.partition(".")[0] != "1":
            raise UnsupportedError(
                f"{subject}: version {version[:80]!r}", "only version 1 of image layouts is known here"
            )

    def _image(self, entries: list[Descriptor]) -> Found | None:
        """Return the image that entries of one name stand for, None for artifacts."""
        leaves = list(dict.fromkeys(leaf for entry in entries for leaf in self._leaves(entry, DEPTH_LIMIT)))
        there = [leaf for leaf in leaves if self._source.has(_file(leaf.digest))]
        if leaves and not there:
            raise missing(self._source.name, _file(leaves[0].digest))
        images = [leaf for leaf in there if self._is_image(leaf)]
        if not images:
            return None
        checked = self._choose(images)
        tags = self._tags.get(checked.manifest.config.digest, ())
        names = [name for entry in entries for name in _names(entry)]
        refs = tuple(dict.fromkeys((*names, *tags)))
        return Found(checked, tuple(_file(layer.digest) for layer in checked.manifest.layers), refs)

    def _leaves(self, entry: Descriptor, depth: int) -> Iterator[Descriptor]:
        """Yield the manifests that an entry stands for, in the order of the indexes."""
        if entry.media_type in documents.MANIFESTS:
            yield entry
            return
        document = self._document(entry)
        if isinstance(document, documents.Manifest):
            yield attrs.evolve(entry, media_type=document.media_type)
            return
        if not depth:
            raise StoreError(self._source.name, f"has indexes in indexes, more than {DEPTH_LIMIT} deep")
        for inner in filter(documents.is_image, document.manifests):
            if inner.media_type in documents.MANIFESTS or self._source.has(_file(inner.digest)):
                yield from self._leaves(inner, depth - 1)

    def _choose(self, leaves: list[Descriptor]) -> Checked:
        if len(leaves) == 1 and not self._wanted.is_asked:
            return self._checked(leaves[0])
        offered = [(leaf.platform or self._checked(leaf).document.platform, leaf) for leaf in leaves]
        ranked = [(self._wanted.rank(platforms.normal(platform)), leaf) for platform, leaf in offered]
        fitting = [(rank, leaf) for rank, leaf in ranked if rank is not None]
        if not fitting:
            raise self._wanted.refusal(self._source.name, [platform for platform, _ in offered])
        return self._checked(min(fitting, key=lambda pair: pair[0])[1])

    def _is_image(self, entry: Descriptor) -> bool:
        """Say whether a manifest is of an image, and note what it is otherwise."""
        manifest = self._manifest(entry)
        if not manifest.is_image:
            self.artifacts.append(manifest.artifact_type)
        return manifest.is_image

    def _checked(self, entry: Descriptor) -> Checked:
        manifest = self._manifest(entry)
        if manifest.config.size > documents.CONFIG_LIMIT:
            raise StoreError(self._source.name, f"a configuration has more than {documents.CONFIG_LIMIT} bytes")
        config = small(self._source, _file(manifest.config.digest), documents.CONFIG_LIMIT)
        return check(manifest, config, self._subject(entry))

    def _subject(self, entry: Descriptor) -> str:
        return f"{self._source.name}: manifest {entry.digest[:19]}"

    def _manifest(self, entry: Descriptor) -> Manifest:
        document = self._document(entry)
        if not isinstance(document, documents.Manifest):
            raise IntegrityError(self._subject(entry), "a manifest", "an index")
        return document

    def _document(self, entry: Descriptor) -> Manifest | documents.Index:
        self._visits += 1
        if self._visits > VISITS_LIMIT:
            raise StoreError(self._source.name, f"has more than {VISITS_LIMIT} manifests and indexes")
        subject = f"{self._source.name}: {entry.digest[:19]}"
        data = small(self._source, _file(entry.digest), documents.DOCUMENT_LIMIT)
        if digest_of(data) != entry.digest:
            raise IntegrityError(subject, entry.digest, digest_of(data))
        if len(data) != entry.size:
            raise IntegrityError(subject, f"{entry.size} bytes", str(len(data)))
        known = entry.media_type in documents.MANIFESTS | documents.INDEXES
        return _storable(documents.read(data, entry.media_type if known else "", subject), subject)


def _storable(document: Manifest | documents.Index, subject: str) -> Manifest | documents.Index:
    """Return a document that names nothing by a digest which the store does not know."""
    if isinstance(document, documents.Index):
        documents.check_storable(document.manifests, subject)
    else:
        documents.check_storable((document.config, *document.layers), subject)
    return document


def _groups(entries: Iterable[Descriptor]) -> list[list[Descriptor]]:
    """Return the entries of each image: those of one full name, and others while each is for a platform of its own."""
    groups: list[list[Descriptor]] = []
    latest: dict[str, list[Descriptor]] = {}
    for entry in entries:
        name = _name(entry)
        group = latest.get(name)
        if group is None or not (_is_full(name) or _is_for_another_platform(entry, group)):
            group = latest[name] = []
            groups.append(group)
        group.append(entry)
    return groups


def _is_for_another_platform(entry: Descriptor, group: Iterable[Descriptor]) -> bool:
    return bool(entry.platform) and all(one.platform not in ("", entry.platform) for one in group)


def _name(entry: Descriptor) -> str:
    return entry.annotations.get(IMAGE_NAME) or entry.annotations.get(REF_NAME) or ""


def _is_full(name: str) -> bool:
    """Say whether it is more than a tag, which names no image."""
    return ":" in name or "/" in name


def _names(entry: Descriptor) -> tuple[str, ...]:
    """Return the tags that an entry bears. What the specification calls a name may be any text, which is none here."""
    name = _name(entry)
    if not _is_full(name):
        return ()
    try:
        return _tags(name)
    except StoreError:
        if entry.annotations.get(IMAGE_NAME):
            raise
        return ()


def _tags(name: str) -> tuple[str, ...]:
    """Return the tag that a name means, none where it has a digest only. Raises StoreError."""
    try:
        reference = Reference.parse(name)
    except SpecError as error:
        raise StoreError(repr(name)[:80], "an image in the archive is called so, which is no name") from error
    return (f"{reference.host}/{reference.path}:{reference.tag}",) if reference.tag else ()


def _file(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")


# -- docker's manifest.json --------------------------------------------------------------------------------------------


def _entries_of_docker(source: Source) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return what ``manifest.json`` lists: of each image the file of its configuration, its tags, its layers' files."""
    subject = f"{source.name}: {DOCKER}"
    values = documents.parse(small(source, DOCKER, documents.DOCUMENT_LIMIT), subject)
    if isinstance(values, dict) and "schemaVersion" in values:
        raise StoreError(
            source.name, "is in skopeo's own form dir:; copy the image to oci: or docker-archive: and load that"
        )
    found = []
    for entry in values if isinstance(values, list) else [values]:
        parts = [entry.get(key) or [] for key in ("RepoTags", "Layers")] if isinstance(entry, dict) else []
        if not parts or not all(isinstance(part, list) and all(isinstance(x, str) for x in part) for part in parts):
            raise IntegrityError(subject, "a list of images", repr(entry)[:80])
        config = entry.get("Config")
        if not isinstance(config, str) or len(parts[1]) > documents.COUNT_LIMIT:
            raise IntegrityError(subject, "an image's configuration and layers", repr(entry)[:80])
        for name in (config, *parts[1]):
            if name.startswith("/") or ".." in name.split("/"):
                raise StoreError(source.name, f"a name leads out of the archive: {name!r}")
        found.append((config, tuple(ref for tag in parts[0] for ref in _tags(tag)), tuple(parts[1])))
    return found


def _tags_of_docker(source: Source) -> dict[str, tuple[str, ...]]:
    """Return the tags that ``manifest.json`` gives to configurations, by digest, where it stands beside a layout."""
    if not source.has(DOCKER):
        return {}
    tags: dict[str, tuple[str, ...]] = {}
    for config, names, _ in _entries_of_docker(source):
        digest = f"sha256:{config.removeprefix(BLOBS).removesuffix('.json')}"
        tags[digest] = (*tags.get(digest, ()), *names)
    return tags


def _of_docker(source: Source, wanted: Wanted) -> list[Found]:
    found = [_image_of_docker(source, *entry) for entry in _entries_of_docker(source)]
    if not wanted.is_asked:
        return found
    fitting = [one for one in found if wanted.rank(platforms.normal(one.checked.document.platform)) is not None]
    if found and not fitting:
        raise wanted.refusal(source.name, [one.checked.document.platform for one in found])
    return fitting


def _image_of_docker(source: Source, name: str, tags: tuple[str, ...], layers: tuple[str, ...]) -> Found:
    config = small(source, name, documents.CONFIG_LIMIT)
    document = ImageDocument.from_bytes(config)
    if len(document.diff_ids) != len(layers):
        raise IntegrityError(f"{source.name}: layers of {name}", str(len(document.diff_ids)), str(len(layers)))
    manifest = manifest_over(config, [_layer_of_docker(source, layer) for layer in layers])
    read = documents.read(manifest, "", name)
    assert isinstance(read, documents.Manifest)  # noqa: S101  it was written just now
    return Found(check(read, config, name), layers, tags, made=True)


def _layer_of_docker(source: Source, name: str) -> tuple[str, int, str]:
    """Return the descriptor of a layer's file: digest, size and media type."""
    stored = source.stored(name)
    with source.open(name) as file:
        form = form_of(file.read(HEAD))
    return stored.digest, stored.size, documents.LAYERS.get(form, documents.LAYERS[""])
