"""Images out of an archive into the store. Invariant: all of them come in, or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import IO, TYPE_CHECKING

import attrs

from pylxc.errors import StoreError
from pylxc.exchange import catalog, sources
from pylxc.exchange.incoming import Incoming
from pylxc.reference import Reference
from pylxc.runtime import rootless
from pylxc.store import ImageContent

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from pylxc.documents import Descriptor
    from pylxc.engine import Engine
    from pylxc.exchange.catalog import Found
    from pylxc.exchange.sources import Source
    from pylxc.image import Image

WORKERS = 2  # layers at once: each has a thread that decompresses, and a process that unpacks


def load(engine: Engine, origin: str | os.PathLike[str] | IO[bytes], platform: str = "") -> list[Image]:
    """See :meth:`pylxc.Image.load_all`."""
    return [image for image, _ in load_named(engine, origin, platform)]


def load_named(
    engine: Engine, origin: str | os.PathLike[str] | IO[bytes], platform: str = ""
) -> list[tuple[Image, tuple[str, ...]]]:
    """Load all images of an archive; return each with the tags that it has there; here it may have others."""
    with engine.store.leases.take() as lease, sources.opened(origin, lease) as source:
        found = catalog.find(source, platform)
        incoming = Incoming(engine, lease)
        _take_layers(incoming, source, found)
        images = incoming.finish_all([(_content(one), one.refs) for one in found])
    return [(image, tuple(map(_familiar, one.refs))) for image, one in zip(images, found, strict=True)]


def _familiar(ref: str) -> str:
    return Reference.parse(ref).familiar


def _content(one: Found) -> ImageContent:
    manifest = one.checked.manifest
    return ImageContent(one.checked.config, manifest.data, manifest.media_type, made=one.made)


@attrs.frozen
class _Wanted:
    """A layer to be taken in: what names its archive and its content, its file, and what made it."""

    descriptor: Descriptor
    diff_id: str
    name: str
    words: str


def _take_layers(incoming: Incoming, source: Source, found: Iterable[Found]) -> None:
    wanted: dict[tuple[str, str], _Wanted] = {}
    for one in found:
        for (descriptor, diff_id, words), name in zip(one.checked.layers, one.names, strict=True):
            wanted.setdefault((descriptor.digest, diff_id), _Wanted(descriptor, diff_id, name, words))
    # What belongs to the ids of an ordinary user's namespace is changed by forks, which threads must not be around of.
    if len(wanted) <= 1 or not rootless.is_privileged():
        for layer in wanted.values():
            _take_layer(incoming, source, layer)
        return
    with ThreadPoolExecutor(WORKERS, "pylxc-load") as pool:
        under_way = [pool.submit(_take_layer, incoming, source, layer) for layer in wanted.values()]
        try:
            for layer_done in as_completed(under_way):
                layer_done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _take_layer(incoming: Incoming, source: Source, layer: _Wanted) -> None:
    descriptor = layer.descriptor
    if not descriptor.is_distributable and not source.has(layer.name):
        where = f"; it is to be had from {descriptor.urls[0]}" if descriptor.urls else ""
        raise StoreError(source.name, f"layer {descriptor.digest[:19]} may not be distributed and is not in it{where}")
    with source.open(layer.name) as file:
        incoming.layer(descriptor, layer.diff_id, file, layer.words, source.spooled(layer.name))
