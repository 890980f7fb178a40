"""What the kernel shows in a container: /proc, /dev, /sys and the cgroups, and what of them is hidden or read-only.

Invariant: what tells of other containers or of the host's work, and what would change either, is masked here, or it is
shown nowhere; every device node is a mount of the host's, so that one made inside opens nothing.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from pylxc.runtime import plan as p
from pylxc.runtime.cgroup import SYSTEMD, hierarchies
from pylxc.runtime.devicefilter import DEVICES, number_of
from pylxc.runtime.plan import MountAttribute as Attr
from pylxc.runtime.plan import Plan

if TYPE_CHECKING:
    from pylxc.spec import ContainerSpec

ALL_OFF = Attr.NOSUID | Attr.NODEV | Attr.NOEXEC

MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *(f"/proc/{name}" for name in ("scsi", "timer_list", "timer_stats")),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
CGROUP_ROOT = "/sys/fs/cgroup"
LINKS = (
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


@lru_cache(maxsize=16)
def kernel_filesystems(shm_size: int, privileged: bool, foreign_network: bool, tty_group: bool) -> Plan:  # noqa: FBT001  a cache's key
    """Return the operations for /proc, /dev and /sys: the same for most containers, and half of all.

    ``foreign_network``: the network is not of the container's user namespace, so a sysfs of it cannot be mounted there.
    ``tty_group``: there is a group 5, whose the terminals are.
    """
    plan = Plan()
    place = p.MAKE_DIRECTORY | p.MAKE_PLAIN  # masks go by these paths: links must not lead them elsewhere
    plan.add(p.MOUNT, "proc", "/proc", "", flags=Attr.NOSUID | Attr.NODEV | Attr.NOEXEC, a=place)
    # nodev: the nodes are mounts of the host's, so one that the container's root makes here opens nothing.
    dev = Attr.NOSUID | Attr.NODEV | Attr.NOEXEC
    plan.add(p.MOUNT, "tmpfs", "/dev", "mode=755,size=65536k", flags=dev, a=place)
    for path, major, minor in DEVICES:
        plan.add(p.DEVICE, path, path, a=major, b=minor)
    for path, target in LINKS:
        plan.add(p.SYMLINK, path, target)
    pts = "newinstance,ptmxmode=0666,mode=0620" + (",gid=5" if tty_group else "")
    plan.add(p.MOUNT, "devpts", "/dev/pts", pts, flags=Attr.NOSUID | Attr.NOEXEC, a=place)
    shm = f"mode=1777,size={shm_size}"
    plan.add(p.MOUNT, "tmpfs", "/dev/shm", shm, flags=ALL_OFF, a=place)  # noqa: S108
    plan.add(p.MOUNT, "mqueue", "/dev/mqueue", "", flags=ALL_OFF, a=place)
    sys_flags = ALL_OFF | (0 if privileged else Attr.RDONLY)
    if foreign_network:
        how = p.MAKE_LIKE_SOURCE | p.MAKE_PLAIN | p.BIND_RECURSIVE
        plan.add(p.BIND, "/sys", "/sys", flags=sys_flags, a=how, subject="/sys of the host")
        plan.add(p.MASK, CGROUP_ROOT, subject="the host's cgroups")  # they came along
    else:
        plan.add(p.MOUNT, "sysfs", "/sys", "", flags=sys_flags, a=place)
    return plan


@lru_cache(maxsize=1)
def hidden_paths() -> Plan:
    """Return the operations that mask paths and make them read-only."""
    plan = Plan()
    plan.add(p.MASK, *MASKED, subject="masked paths")
    plan.add(p.READ_ONLY, *READ_ONLY, subject="read-only paths")
    return plan


def add_system(plan: Plan, spec: ContainerSpec) -> None:
    """Add what a full init expects to find mounted, for it may not mount anything.

    Its part of the cgroup tree is what its cgroup namespace shows: the container's own cgroup, as the root. On hosts
    with both versions only the tree of v2 is shown, so that it takes that one.
    Source: https://systemd.io/CONTAINER_INTERFACE/.
    """
    taken = {mount.target for mount in spec.filesystems()}
    modest = Attr.NOSUID | Attr.NODEV
    places = (("/run", 755, modest), ("/run/lock", 1777, modest | Attr.NOEXEC), ("/tmp", 1777, modest))  # noqa: S108
    for target, mode, flags in places:
        if target not in taken:
            plan.add(p.MOUNT, "tmpfs", target, f"mode={mode}", flags=flags, a=p.MAKE_DIRECTORY)
    words = "the container's own cgroups"
    flags = modest | Attr.NOEXEC
    if hierarchies().v2:
        plan.add(p.MOUNT, "cgroup2", CGROUP_ROOT, "", flags=flags, subject=words)
        return
    plan.add(p.MOUNT, "tmpfs", CGROUP_ROOT, "mode=755", flags=flags)
    plan.add(
        p.MOUNT, "cgroup", f"{CGROUP_ROOT}/systemd", f"none,{SYSTEMD}", flags=flags, a=p.MAKE_DIRECTORY, subject=words
    )


def add_devices(plan: Plan, spec: ContainerSpec) -> None:
    """Add the host's devices that the caller asked for (all of them for ``privileged``)."""
    wanted = [(device.source, device.target) for device in spec.devices]
    for source, target in [*wanted, *(_host_devices() if spec.privileged else ())]:
        _, major, minor = number_of(source)
        words = f"device {source} as {target}"
        plan.add(p.DEVICE, source, target, a=major, b=minor, flags=p.DEVICE_COPY, subject=words)


def _host_devices() -> list[tuple[str, str]]:
    taken = {path for path, _, _ in DEVICES}
    found = []
    with os.scandir("/dev") as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            is_node = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
            if is_node and entry.path not in taken and entry.name not in ("ptmx", "console"):
                found.append((entry.path, entry.path))
    return sorted(found)
