"""Images out of a registry into the store.

Hides what need not come because it is here, and how several layers come at once. Invariant: an image appears when all
of it is here and was found right, and its tag moves with it; what fails leaves nothing but layers that another image
has. Of several pulls that want the same layer, in whatever processes, one fetches it.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve, frozen

from pylxc import documents
from pylxc.documents import Index
from pylxc.errors import ImageNotFound, IntegrityError, RegistryError, SpecError, UnsupportedError
from pylxc.exchange.incoming import Checked, Incoming, check
from pylxc.platforms import Wanted, normal
from pylxc.reference import DEFAULT_TAG, Reference
from pylxc.registry.client import Client
from pylxc.registry.stopping import Stop, share
from pylxc.runtime import rootless
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pylxc.documents import Descriptor, Manifest
    from pylxc.engine import Engine
    from pylxc.image import Image
    from pylxc.registry.client import Repository
    from pylxc.registry.download import BlobReader
    from pylxc.registry.progress import Progress
    from pylxc.registry.settings import Settings
    from pylxc.store import Lease

T = TypeVar("T")
DEPTH_LIMIT = 4  # indexes in indexes
PAUSE = 0.02  # s between looks at what another pull is fetching
NOT_FOUND = 404
# The distribution-spec's "Referrers Tag Schema", and what cosign puts behind it.
_OF_REFERRERS = re.compile(r"sha(?:256|512)-[0-9a-f]{64}(?:\.[a-z]+)?")


class NoImageError(UnsupportedError):
    """A reference names something else that a registry can hold."""

    def __init__(self, name: str, kind: str) -> None:
        remedy = "it is something else that a registry can hold; fetch it with the tool that it is for"
        super().__init__(f"{name} is no image ({kind}), which", remedy)


def pull(  # noqa: PLR0913  the operands of one operation
    engine: Engine,
    ref: str,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], object] | None = None,
    settings: Settings | None = None,
    stop: Stop | None = None,
    tagged: bool = True,
) -> Image:
    """See :meth:`pylxc.Image.pull`. ``stop``: when it is set the pull ends, with Stopped; ``tagged``: move the tag."""
    reference = Reference.parse(ref)
    if reference.before:
        raise SpecError("image", ref, "a move of a tag is known to this store only; give the tag, or a digest")
    wanted = Wanted(platform)
    with Client(settings, on_progress=on_progress, stop=stop) as client:
        return _pull(engine, client, reference, wanted, stop or Stop(), tagged=tagged)


def pull_all(
    engine: Engine,
    ref: str,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], object] | None = None,
    settings: Settings | None = None,
) -> Sequence[Image]:
    """See :meth:`pylxc.Image.pull_all`."""
    reference = Reference.parse(ref)
    if reference.before or reference.digest or reference.tag != DEFAULT_TAG:
        raise SpecError("image", ref, "all tags are pulled: give a name without one")
    wanted = Wanted(platform)
    with Client(settings, on_progress=on_progress) as client:
        tags = _found(evolve(reference, tag=""), lambda: list(client.repository(reference).tags()))
        return of_images(tags, lambda tag: _pull(engine, client, evolve(reference, tag=tag), wanted, Stop()))


def of_images(tags: Sequence[str], pull: Callable[[str], T]) -> list[T]:
    """Return what ``pull`` has for each tag that names an image; charts, signatures and the like are passed over.

    Raises NoImageError where all tags name something else.
    """
    found: list[T] = []
    other: NoImageError | None = None
    for tag in tags:
        if _OF_REFERRERS.fullmatch(tag):
            continue
        try:
            found.append(pull(tag))
        except NoImageError as error:
            other = error
    if other is not None and not found:
        raise other
    return found


def search_tags(ref: str, settings: Settings | None = None) -> Sequence[str]:
    """See :meth:`pylxc.Image.search_tags`."""
    reference = Reference.parse(ref)
    with Client(settings) as client:
        return _found(evolve(reference, tag="", digest=""), lambda: list(client.repository(reference).tags()))


def _found(reference: Reference, ask: Callable[[], T]) -> T:
    """Return what a registry says of a reference. Raises ImageNotFound where it does not have it."""
    try:
        return ask()
    except RegistryError as error:
        if error.status == NOT_FOUND:
            raise ImageNotFound(
                reference.familiar, f"{reference.host} does not have it; check the name and the tag"
            ) from error
        raise


def _pull(  # noqa: PLR0913  the operands of one operation
    engine: Engine, client: Client, reference: Reference, wanted: Wanted, stop: Stop, *, tagged: bool = True
) -> Image:
    with engine.store.leases.take() as lease:
        return _Pull(engine, client, reference, wanted, lease, stop).image(tagged=tagged)


@frozen
class _Layer:
    """A layer that is wanted: what names its archive and its content, and what made it."""

    descriptor: Descriptor
    diff_id: str
    words: str


class _Pull:
    """One image on its way in."""

    def __init__(  # noqa: PLR0913, PLR0917  what belongs together is together already
        self, engine: Engine, client: Client, reference: Reference, wanted: Wanted, lease: Lease, stop: Stop
    ) -> None:
        self._engine = engine
        self._client = client
        self._repository = client.repository(reference)
        self._reference = reference
        self._wanted = wanted
        self._lease = lease
        self._stop = stop
        self._incoming = Incoming(engine, lease)
        self._indexes: list[tuple[bytes, str]] = []

    def image(self, *, tagged: bool = True) -> Image:
        """Pull the image, and let its tag point to it, if it is to be ``tagged``."""
        top = _found(self._reference, self._top)
        if isinstance(top, Index):
            self._client.reporter.tell("found", top.digest, len(top.data), len(top.data))
        manifest = self._leaf(top, DEPTH_LIMIT)
        if not manifest.is_image:
            raise NoImageError(self._name, manifest.artifact_type)
        documents.check_storable((manifest.descriptor, manifest.config, *manifest.layers), self._name)
        size = len(manifest.data)
        self._client.reporter.tell("resolved", manifest.digest, size, size)
        checked = check(manifest, self._config(manifest.config), self._name)
        self._check_platform(checked)
        layers = {(layer.digest, diff_id): _Layer(layer, diff_id, words) for layer, diff_id, words in checked.layers}
        for layer in layers.values():
            self._client.reporter.tell("waiting", layer.descriptor.digest, 0, layer.descriptor.size)
        if rootless.is_privileged():
            share(layers.values(), self._take, self._client.settings.downloads, self._stop)
        else:
            self._take_apart(list(layers.values()))
        reference = self._reference
        refs = (reference.canonical,) if tagged and not reference.digest else ()
        return self._incoming.finish(checked, refs, indexes=tuple(self._indexes))

    @property
    def _name(self) -> str:
        return self._reference.familiar

    # -- documents --------------------------------------------------------------------------------------------------

    def _top(self) -> Manifest | Index:
        """Return what the reference names: out of the store, where that has what the registry names by it."""
        digest = self._reference.digest
        if not digest and self._engine.store.images.has_tag(self._reference.canonical):
            digest = self._repository.resolve().digest
        return self._document(digest) if digest else self._repository.manifest()

    def _document(self, wanted: Descriptor | str) -> Manifest | Index:
        digest = wanted if isinstance(wanted, str) else wanted.digest
        kept = self._engine.store.images.document(digest)
        return documents.read(*kept, self._name) if kept is not None else self._repository.manifest(wanted)

    def _leaf(self, document: Manifest | Index, depth: int) -> Manifest:
        """Return the manifest that an index has for the platform."""
        if not isinstance(document, Index):
            return document
        documents.check_storable(document.manifests, self._name)
        self._indexes.append((document.data, document.descriptor.media_type))
        if not depth:
            raise IntegrityError(self._name, f"at most {DEPTH_LIMIT} indexes in each other", "more")
        return self._leaf(self._document(self._chosen(document)), depth - 1)

    def _chosen(self, index: Index) -> Descriptor:
        entries = [entry for entry in index.manifests if documents.is_image(entry)]
        if not entries:
            raise NoImageError(self._name, "an index without one")
        ranked = [(self._wanted.rank(entry.platform), entry) for entry in entries if entry.platform]
        fitting = [(rank, entry) for rank, entry in ranked if rank is not None]
        if fitting:
            return min(fitting, key=lambda pair: pair[0])[1]
        unsaid = [entry for entry in entries if not entry.platform]
        if not unsaid:
            raise self._wanted.refusal(self._name, [entry.platform for entry in entries])
        return unsaid[0]  # its configuration says what it is for

    def _config(self, descriptor: Descriptor) -> bytes:
        kept = self._engine.store.images.config(descriptor.digest)
        return kept if kept is not None else self._repository.small_blob(descriptor, documents.CONFIG_LIMIT)

    def _check_platform(self, checked: Checked) -> None:
        """Refuse what is not for the platform that was asked for; unasked, an only image is taken as it is."""
        platform = normal(checked.document.platform)
        if (self._wanted.is_asked or self._indexes) and self._wanted.rank(platform) is None:
            raise self._wanted.refusal(self._name, [platform])

    # -- layers -----------------------------------------------------------------------------------------------------

    def _take(self, layer: _Layer, stop: Stop) -> None:
        """Take a layer in, unpacking it as it comes."""
        with self._engine.store.claims.claimed(layer.descriptor.digest, lambda: stop.sleep(PAUSE)):
            if self._is_here(layer):
                return
            self._repository.despite_mirrors(lambda repository: self._take_in(layer, repository, stop))
            self._tell_unpacked(layer)

    def _take_in(self, layer: _Layer, repository: Repository, stop: Stop) -> None:
        spool = self._spool()
        with self._coming(layer, repository, spool, stop) as reader:
            self._incoming.layer(layer.descriptor, layer.diff_id, reader, layer.words, spool)

    def _take_apart(self, layers: Sequence[_Layer]) -> None:
        """Take layers in for an ordinary user: first they come, all at once, then they are unpacked one by one.

        What belongs to the ids of the user's namespace is changed by forks, which threads must not be around of. What
        others are fetching is waited for with nothing in hand, so that nobody waits in a ring.
        """
        pending = list(layers)
        while pending:
            with ExitStack() as claims:
                mine = [layer for layer in pending if self._engine.store.claims.take(layer.descriptor.digest, claims)]
                missing = [layer for layer in mine if not self._is_here(layer)]
                spools = share(missing, self._fetch, self._client.settings.downloads, self._stop)
                for layer, spool in zip(missing, spools, strict=True):
                    self._stop.check()
                    with open(spool, "rb", buffering=0) as file:  # noqa: PTH123
                        self._incoming.layer(layer.descriptor, layer.diff_id, file, layer.words, spool)
                    self._tell_unpacked(layer)
            pending = [layer for layer in pending if layer not in mine]
            if pending and not mine:
                self._stop.sleep(PAUSE)

    def _fetch(self, layer: _Layer, stop: Stop) -> str:
        return self._repository.despite_mirrors(lambda repository: self._spooled(layer, repository, stop))

    def _spooled(self, layer: _Layer, repository: Repository, stop: Stop) -> str:
        spool = self._spool()
        with self._coming(layer, repository, spool, stop) as reader:
            for _ in reader.chunks():
                pass
        return spool

    @contextmanager
    def _coming(self, layer: _Layer, repository: Repository, spool: str, stop: Stop) -> Iterator[BlobReader]:
        """Give a layer's archive as it comes, over several connections; all of it is in the spool in the end."""
        with ExitStack() as stack:
            stack.enter_context(explained(spool))
            file = stack.enter_context(open(spool, "x+b", buffering=0))  # noqa: PTH123
            yield stack.enter_context(repository.blob(layer.descriptor, spool=file.fileno(), stop=stop))

    def _spool(self) -> str:
        return f"{self._lease.stage()}/blob"

    def _is_here(self, layer: _Layer) -> bool:
        is_here = self._incoming.has(layer.descriptor, layer.diff_id)
        if is_here:
            size = layer.descriptor.size
            self._client.reporter.tell("present", layer.descriptor.digest, size, size)
        return is_here

    def _tell_unpacked(self, layer: _Layer) -> None:
        size = layer.descriptor.size
        self._client.reporter.tell("unpacked", layer.descriptor.digest, size, size)
