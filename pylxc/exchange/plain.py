"""A layer's own tar: byte for byte what its diff id names.

Hides where it comes from. Invariant: a layer that was made here is packed from its tree; one that came is what its
archive unpacks to, for another tool may have written the same files in another order.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from pylxc.build.archives import decompressed
from pylxc.errors import IntegrityError
from pylxc.runtime import transfer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from pylxc.engine import Engine


def opened(engine: Engine, layer: str) -> AbstractContextManager[BinaryIO]:
    """Give a stream of a layer's tar. Raises IntegrityError when its archive is gone, SpawnError for its tree."""
    return next(ways(engine, layer))


def ways(engine: Engine, layer: str) -> Iterator[AbstractContextManager[BinaryIO]]:
    """Yield the ways to a layer's tar; the first one is good unless a file was damaged."""
    for row in engine.store.blobs.of_layer(layer):
        if not row.made:
            yield _unpacked(engine, row.digest)
    yield transfer.packed(engine.layer_directory(layer), scaffold=engine.scaffold)


@contextmanager
def _unpacked(engine: Engine, digest: str) -> Iterator[BinaryIO]:
    path = engine.store.blobs.path(digest)
    try:
        below = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115  closed with what is made of it
    except FileNotFoundError as error:
        raise gone(digest) from error
    with decompressed(below, path) as archive:
        yield cast("BinaryIO", archive)


def gone(digest: str, actual: str = "nothing") -> IntegrityError:
    """Return the error for a layer's archive that cannot be made again."""
    return IntegrityError(f"the archive of a layer {digest[:19]} (load or pull its image again)", digest, actual)
