"""Images out of the store into a registry.

Hides which archives of layers exist, and what the registry has already. Invariant: the manifest goes last, so that what
the registry names is there; afterwards the image's digest here is the one that the registry has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.documents import LAYERS
from pylxc.errors import SpecError
from pylxc.exchange.outgoing import ANY_FORM, Outgoing, assembled
from pylxc.reference import DEFAULT_HOST, Reference
from pylxc.registry.client import Client
from pylxc.registry.stopping import share
from pylxc.store import ImageContent
from pylxc.store.images import manifest_over

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import BinaryIO

    from typing_extensions import Self

    from pylxc.documents import Descriptor
    from pylxc.engine import Engine
    from pylxc.exchange.incoming import Checked
    from pylxc.image import Image
    from pylxc.registry.progress import Progress
    from pylxc.registry.settings import Settings
    from pylxc.registry.stopping import Stop
    from pylxc.store import Lease

COMPRESSED = frozenset(("gzip", "zstd"))
MOST_MOUNTS = 3  # repositories that are asked for a layer


def push(
    engine: Engine,
    image: Image,
    ref: str | None,
    *,
    on_progress: Callable[[Progress], object] | None = None,
    settings: Settings | None = None,
) -> str:
    """See :meth:`pylxc.Image.push`."""
    reference = _target(ref, engine.store.images.get(image.id).refs)
    with engine.store.leases.take() as lease, Client(settings, on_progress=on_progress) as client:
        return _Push(engine, client, reference, lease).image(image)


def _target(ref: str | None, refs: Collection[str]) -> Reference:
    """Return where to push to: where the caller says, else where the image's only tag says."""
    if ref is None:
        elsewhere = [each for each in refs if Reference.parse(each).host != DEFAULT_HOST]
        found = elsewhere or list(refs)
        if len(found) != 1:
            remedy = f"it has {len(found)} tags ({', '.join(found)})" if found else "it has no tag"
            raise SpecError("ref", ref, f'{remedy}; say where to push to, such as "registry.example/app:1"')
        return Reference.parse(found[0])
    reference = Reference.parse(ref)
    if reference.digest or reference.before:
        raise SpecError("ref", ref, 'give a plain "name:tag"; a digest is what comes of it')
    return reference


class _Push:
    """One image on its way out."""

    def __init__(self, engine: Engine, client: Client, reference: Reference, lease: Lease) -> None:
        self._engine = engine
        self._client = client
        self._repository = client.repository(reference)
        self._reference = reference
        self._lease = lease
        self._outgoing = Outgoing(engine, lease)

    def image(self, image: Image) -> str:
        """Push the image, and return the digest of its manifest."""
        original = self._outgoing.original(image)
        forms = COMPRESSED if _is_ours(original) else ANY_FORM

        def send(pair: tuple[Descriptor, str], stop: Stop) -> Descriptor:
            return self._send(*pair, forms, stop)

        layers = [(layer, diff_id) for layer, diff_id, _ in original.layers]
        different = list(dict.fromkeys(layers))
        for layer, diff_id in different:
            if layer.is_distributable:
                self._client.reporter.tell("waiting", diff_id, 0, layer.size)
        sent = dict(zip(different, share(different, send, self._client.settings.downloads), strict=True))
        checked = assembled(original, [sent[layer] for layer in layers])
        manifest = checked.manifest
        self._repository.push_blob(manifest.config, checked.config, told_as="")
        self._repository.push_manifest(manifest.data, manifest.media_type, self._reference.tag)
        if manifest.digest != original.manifest.digest:
            content = ImageContent(checked.config, manifest.data, manifest.media_type)
            self._engine.store.images.keep([(content, ())], self._lease)
        self._client.reporter.tell("pushed", manifest.digest, len(manifest.data), len(manifest.data))
        return manifest.digest

    def _send(self, layer: Descriptor, diff_id: str, forms: Collection[str], stop: Stop) -> Descriptor:
        """Send a layer, unless it is there or may not be sent; return what names its archive."""
        if not layer.is_distributable:
            return layer
        if not self._outgoing.is_kept(layer, diff_id, forms):
            self._client.reporter.tell("packing", diff_id, 0, layer.size)
        archive = self._outgoing.archive(layer, diff_id, forms)
        with _Archive(self._outgoing, archive, diff_id) as source:
            mounts = self._others(diff_id)
            self._repository.push_blob(archive, source, mount_from=mounts, stop=stop, told_as=diff_id)
        return archive

    def _others(self, diff_id: str) -> Iterator[str]:
        """Yield repositories of the same registry that may have a layer: those of tags that name an image with it."""
        asked = {self._reference.path}
        for ref in self._engine.store.images.refs_over(diff_id):
            other = Reference.parse(ref)
            if other.host == self._reference.host and other.path not in asked and len(asked) <= MOST_MOUNTS:
                asked.add(other.path)
                yield other.path


def _is_ours(checked: Checked) -> bool:
    """Say whether a manifest was made here: others are pushed as they are, with the digest that they have."""
    layers = [(layer.digest, layer.size, layer.media_type) for layer in checked.manifest.layers]
    is_plain = all(kind == LAYERS[""] for _, _, kind in layers)
    return is_plain and checked.manifest.data == manifest_over(checked.config, layers)


class _Archive:
    """The archive of a layer, which is looked at, and opened, only when it has to be sent."""

    def __init__(self, outgoing: Outgoing, archive: Descriptor, diff_id: str) -> None:
        self._outgoing = outgoing
        self._archive = archive
        self._diff_id = diff_id
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def seek(self, offset: int, /) -> object:
        if self._file is None:
            path = self._outgoing.path(self._archive, self._diff_id)
            self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115  closed with this
        return self._file.seek(offset)

    def read(self, size: int, /) -> bytes:
        assert self._file is not None  # noqa: S101  it was sought first
        return self._file.read(size)
