"""Makes what a container that rests wrote the layer itself: by one read and a rename, in place of a copy.

Hides when that may be. Invariant: nobody else can write to the tree any more, neither a process that is left, nor one
that was handed an open file, nor through another name of one; and it is, to the last attribute, what unpacking the
layer's tar makes. Where that cannot be said, nothing is done, and the layer has to be a copy.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from pylxc import changes as differences
from pylxc.errors import SpawnError, StoreError
from pylxc.runtime import isolation, rootless, transfer
from pylxc.runtime.waiting import Wait, deadline_of, steps_of
from pylxc.store import Staged

if TYPE_CHECKING:
    from pylxc.launching import Launching
    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.waiting import Waiting
    from pylxc.store import Lease

# The mounts of a container go with the last of its processes, a moment after its end was told.
_ATTEMPTS = 20
_A_MOMENT = 0.01  # s


def adopted(container: Launching, tree: Tree, lease: Lease, words: str) -> Waiting[str | None]:
    """Return the digest of the layer that what a container wrote has become, or is already; None: it is to be copied.

    What it wrote lies in the layer then, until the container needs it to write to (``store/uppers.py``).
    """
    store = container._engine.store  # noqa: SLF001  its other half
    if not rootless.is_privileged() or container.spec.remove:
        return None
    given = store.uppers.layer_of(container.id)
    if given is not None:
        lease.protect((given,))
        return given
    mark = store.uppers.mark(container.id)
    if mark is None or container.status() != "exited" or not differences.names_of(tree)[0]:
        return None
    try:
        return (yield from _given(container, tree, lease, words, mark))
    except (SpawnError, StoreError, OSError) as error:
        logging.getLogger("pylxc").debug("what container %s wrote is copied: %s", container.name, error)
        return None


def _given(container: Launching, tree: Tree, lease: Lease, words: str, mark: bytes) -> Waiting[str | None]:
    store = container._engine.store  # noqa: SLF001
    isolation.take_back_places(tree)
    digest, size = yield from _measured(tree, lease)
    if store.layers.exists(digest) and digest not in store.layers.damaged():
        lease.protect((digest,))
        return digest
    is_given = store.uppers.give(lease, container.id, mark, Staged(tree.upper, digest, size, words))
    return digest if is_given else None


def _measured(tree: Tree, lease: Lease) -> Waiting[tuple[str, int]]:
    """Return the digest and the size of what a container wrote. Raises SpawnError where that must be copied."""
    for _ in range(_ATTEMPTS):
        try:
            return (yield from steps_of(transfer.digest_to_adopt, tree, lease.stage()))
        except SpawnError as error:
            if error.stage != "root" or error.errno != errno.EBUSY:
                raise
        yield Wait(until=deadline_of(_A_MOMENT))
    raise SpawnError("root", errno.EBUSY, "what the container wrote is still in use")
