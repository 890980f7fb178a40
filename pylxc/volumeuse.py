"""The volumes of a container: which it has, and what fills them before it starts.

Hides docker's rule: a volume that is empty when a container with it starts for the first time gets what the image has
at its target, with owners, modes and attributes. Invariant: it is filled once, by whoever comes first, from inside the
image's own root: no link of the image leads the copy out of it, and the copy ends in the volume's directory.

Source: https://docs.docker.com/engine/storage/volumes/#populate-a-volume-using-a-container
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpawnError, SpecError
from pylxc.mounts import Mount
from pylxc.runtime import record, transfer
from pylxc.store.volumes import VolumeUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from pylxc.engine import Engine
    from pylxc.spec import ContainerSpec


def volumes_for(spec: ContainerSpec, image_volumes: Sequence[str]) -> Sequence[Mount]:
    """Return a container's volumes: the spec's own, and one for each that the image asks for at another target.

    Raises SpecError for a target of the image's that cannot be mounted over.
    """
    if not (image_volumes or spec.volumes or spec.mounts):
        return ()
    given = spec.filesystems()
    found = {mount.target: mount for mount in given if mount.type == "volume"}
    taken = {mount.target for mount in given}
    for path in image_volumes:
        try:
            # As docker does: whatever an image says is seen from the root.
            mount = Mount(type="volume", target=posixpath.normpath(f"/{path}"))
        except SpecError as error:
            raise SpecError("volumes", path, f"the image asks for a volume there: {error.remedy}") from error
        if mount.target not in taken:
            found[mount.target] = mount
    return tuple(found.values())


def make_volumes(engine: Engine, mounts: Sequence[Mount]) -> list[VolumeUse]:
    """Make the named volumes that are not there yet, and give those without a name one."""
    uses = []
    for mount in mounts:
        if mount.source:
            engine.store.volumes.add(mount.source)
        name = mount.source or os.urandom(32).hex()
        uses.append(VolumeUse(mount.target, name, copy=not mount.nocopy, anonymous=not mount.source))
    return uses


def prepare(engine: Engine, container: str, layers: Sequence[str]) -> dict[str, str]:
    """Return target -> directory for the volumes of a container that is about to start; at its first start fill them.

    Raises SpawnError (stage "pack" or "unpack") when that fails; the next start begins anew.
    """
    volumes = engine.store.volumes
    uses = volumes.uses_of(container)
    found = {use.target: volumes.directory(use.volume) for use in uses}
    if any(use.copy for use in uses):
        for use in uses:
            if use.copy:
                _fill(engine, use, container, layers)
        volumes.note_copied(container)
    return found


def _fill(engine: Engine, use: VolumeUse, container: str, layers: Sequence[str]) -> None:
    def is_running(other: str) -> bool:
        return record.read(engine.container_directory(other)).state == "running"

    with engine.store.volumes.filling(use, is_running, container) as keeper:
        if keeper >= 0:
            _copy(engine, use, layers, keeper)


def _copy(engine: Engine, use: VolumeUse, layers: Sequence[str], keeper: int) -> None:
    """Copy what the image has at a volume's target; where it has no directory there, nothing."""
    tree = engine.tree_of(layers, "", "")
    directory = engine.store.volumes.directory(use.volume)
    subject = f"volume {use.volume}, from {use.target} of the image"
    found = False

    def feed(out: BinaryIO) -> None:
        transfer.copy(stream, out)

    try:
        with transfer.packed("", scaffold=engine.scaffold, tree=tree, flags=0, path=use.target) as stream:
            found = True
            transfer.unpack(feed, scaffold=engine.scaffold, directory=directory, subject=subject, keeper=keeper)
    except SpawnError as error:
        if found or error.stage != "pack" or error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def described_mounts(engine: Engine, container: str, spec: ContainerSpec) -> list[dict[str, Any]]:
    """Return the mounts of a container as ``docker inspect`` has them."""
    uses = {use.target: use.volume for use in engine.store.volumes.uses_of(container)}
    given = {mount.target: mount for mount in spec.filesystems()}
    given.update({target: Mount(type="volume", target=target) for target in uses if target not in given})
    found = []
    for target, mount in given.items():
        name = uses.get(target, "")
        one = {"Type": mount.type, "Source": mount.source, "Destination": target, "RW": not mount.read_only}
        if mount.type == "volume":
            one.update(Name=name, Source=engine.store.layout.volume(name) + "/data", Driver="local")
        found.append({**one, "Propagation": mount.propagation if mount.type == "bind" else ""})
    return found
