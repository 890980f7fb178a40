"""The caller's own mounts, and the volumes that an image asks for, as operations of a plan.

Hides what each option of a mount is to the kernel. Invariant: an error names a mount as it was given; no mount opens
devices, whatever lies in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylxc.errors import SpecError, UnsupportedError
from pylxc.mounts import Mount
from pylxc.runtime import plan as p
from pylxc.runtime import propagation, rootless
from pylxc.runtime.plan import MountAttribute as Attr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.plan import Plan
    from pylxc.spec import ContainerSpec

MANY_MOUNTS = 1000  # from here on the kernel's limit is asked for


def add_mounts(plan: Plan, spec: ContainerSpec, tree: Tree, volumes: Mapping[str, str], *, maps_owners: bool) -> None:
    """Add the caller's own mounts; parents come before what lies below them. An error names them as they were given.

    ``volumes``: target -> directory of the store, for the spec's volumes and those that the image asks for.
    ``maps_owners``: the owner of a bind's source is the container's root unless the mount says otherwise.
    """
    numbers = {mount.target: n for n, mount in enumerate((*spec.mounts, *spec.volumes, *spec.tmpfs))}
    _check_number(len(numbers))
    images = [Mount(type="volume", target=target) for target in volumes if target not in numbers]
    for mount in sorted((*spec.filesystems(), *images), key=lambda mount: mount.target.count("/")):
        number = numbers.get(mount.target)
        origin = "VOLUME of the image" if number is None else f"mounts[{number}]"
        words = f"{origin}: {mount.source or mount.type} on {mount.target}"
        flags = _attributes(mount)
        if mount.type == "tmpfs":
            data = mount.data or "mode=1777"
            plan.add(p.MOUNT, "tmpfs", mount.target, data, flags=flags, a=p.MAKE_DIRECTORY, subject=words)
        elif mount.type == "volume":
            source = tree.inside(volumes[mount.target])
            part = (f"/{mount.subpath}", mount.target, source) if mount.subpath else (source, mount.target)
            words = f"{origin}: {mount.source}/{mount.subpath} on {mount.target}" if mount.subpath else words
            plan.add(p.BIND, *part, flags=flags, a=p.MAKE_LIKE_SOURCE, subject=words)
        else:
            words += " with idmap (its file system must know id-mapped mounts)" if mount.idmap else ""
            how = _how_to_bind(mount, maps_owner=maps_owners)
            plan.add(p.BIND, mount.source, mount.target, flags=flags, a=how, subject=words)


def _check_number(mounts: int) -> None:
    """Refuse at once what the kernel would refuse after a hundred thousand mounts. Raises SpecError."""
    if mounts < MANY_MOUNTS:
        return
    with open("/proc/sys/fs/mount-max") as file:  # noqa: PTH123
        most = int(file.read())
    if mounts >= most:
        raise SpecError("mounts", f"{mounts} mounts", f"a mount namespace holds at most {most} (sysctl fs.mount-max)")


def _how_to_bind(mount: Mount, *, maps_owner: bool) -> int:
    if mount.is_slave or mount.is_shared:
        propagation.check(mount)
    if mount.idmap and not rootless.is_privileged():
        _check_own(mount)
    how = (
        (True, p.MAKE_LIKE_SOURCE),
        (mount.recursive, p.BIND_RECURSIVE),
        (mount.is_slave, p.BIND_SLAVE),
        (mount.is_shared, p.BIND_SHARED),
        (maps_owner if mount.idmap is None else mount.idmap and rootless.is_privileged(), p.BIND_OWNER),
        (mount.idmap is True and rootless.is_privileged(), p.BIND_MAPPED),
    )
    return sum(flag for on, flag in how if on)


def _check_own(mount: Mount) -> None:
    """Refuse to show another user's files as root's: an ordinary user's own are root's in its containers already."""
    if os.path.exists(mount.source) and os.stat(mount.source).st_uid != os.geteuid():  # noqa: PTH110, PTH116
        raise UnsupportedError(f"idmap of {mount.source}", "it is another user's; only the machine's root can map that")


def _attributes(mount: Mount) -> int:
    # nodev always: a device comes in by the option `devices`, not by a node in a directory that the payload can write.
    chosen = ((mount.read_only, Attr.RDONLY), (mount.nosuid, Attr.NOSUID), (mount.noexec, Attr.NOEXEC))
    return sum((flag for on, flag in chosen if on), start=Attr.NODEV)
