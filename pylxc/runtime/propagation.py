"""Says whether mounts can propagate to and from the place where a bind's source lies.

Invariant: what is asked for and could never happen is refused before the start; whether it can is the kernel's word.
Source: mount_namespaces(7), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylxc.errors import SpecError, UnsupportedError
from pylxc.runtime import rootless

if TYPE_CHECKING:
    from pylxc.mounts import Mount


def check(mount: Mount) -> None:
    """Raise SpecError when the mount that a bind's source lies on is of no peer group that would do.

    A source that is missing is passed over: the start names it. Raises UnsupportedError for an ordinary user who wants
    the container's mounts on the host: in a mount namespace of less privilege all are slaves (mount_namespaces(7)).
    """
    if mount.is_shared and not rootless.is_privileged():
        remedy = 'only the machine\'s root may let a container mount on the host; give "rslave"'
        raise UnsupportedError(f"propagation={mount.propagation!r} on {mount.target}", remedy)
    try:
        fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        place, groups = _mount_of(fd)
    finally:
        os.close(fd)
    wanted = ("shared:",) if mount.is_shared else ("shared:", "master:")
    if not any(group.startswith(wanted) for group in groups):
        remedy = f"{mount.source} lies on {place}, which is not shared: mount --make-rshared {place}"
        raise SpecError("mounts", mount.propagation, remedy)


def _mount_of(fd: int) -> tuple[str, list[str]]:
    """Return where the mount of an open file is attached, and the words of its peer groups."""
    with open(f"/proc/self/fdinfo/{fd}") as file:  # noqa: PTH123
        number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    with open("/proc/self/mountinfo", "rb") as mounts:  # noqa: PTH123
        for line in mounts:
            fields = line.decode("utf-8", "surrogateescape").split()
            if fields[0] == number:
                return fields[4], fields[6 : fields.index("-")]
    return "/", []  # outside the caller's root: of no group that it could know
