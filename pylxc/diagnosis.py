"""Says what this host can do for containers, and the exact remedy for each lack.

Invariant: nothing is changed; what can be tried is tried (a container is started), and what cannot is read from the
kernel's own files. A finding that keeps containers from running is an error, one that takes something away a warning.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.defaults import engine_of
from pylxc.engine import kernel_is
from pylxc.errors import PylxcError
from pylxc.runtime import cgroup, native, rootless, subordinate, uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from pylxc.engine import Engine

    Level = Literal["ok", "warning", "error"]

OLDEST = (5, 12)  # mount_setattr(2)
LIMITED = ("memory", "cpu", "cpuset", "pids")
BOOTSTRAPPERS = ("mmdebstrap", "debootstrap")


@frozen
class Finding:
    """One thing that was looked at.

    ``name`` ("kernel", "cgroups", …), ``level`` ("ok", "warning": something is missing, "error": containers cannot
    run), ``found`` (what there is), ``remedy`` (what to do about it; "" when nothing need be done).
    """

    name: str
    level: Level
    found: str
    remedy: str = ""


@frozen
class Diagnosis:
    """What :func:`pylxc.doctor` found, in the order in which containers need it."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether containers can run here: no finding is an error."""
        return all(finding.level != "error" for finding in self.findings)

    def get(self, name: str) -> Finding:
        """Return the finding of a name. Raises KeyError."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __str__(self) -> str:
        """Return a line for each finding, and below it its remedy."""
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.level:7} {finding.name}: {finding.found}")
            if finding.remedy:
                lines.append(f"{'':7} -> {finding.remedy}")
        return "\n".join(lines)


def doctor(*, engine: Engine | None = None) -> Diagnosis:
    """Look at what this host, and this user, can and cannot do; with the remedy for each lack.

    A container of the image ``"host"`` is started in the store of ``engine`` (the default one's), and removed. Never
    raises for what it finds.

    Example:
        >>> print(pylxc.doctor())                                                   # doctest: +SKIP
        ok      kernel: Linux 6.1.0
        ok      user namespaces: 65,536 ids for each container, of its own
        ...

    """
    chosen = engine_of(engine)
    return Diagnosis(tuple(finding for check in _CHECKS for finding in check(chosen)))


def _kernel(_: Engine) -> Iterator[Finding]:
    release = f"Linux {os.uname().release}"
    if not kernel_is(*OLDEST):
        yield Finding("kernel", "error", release, f"Linux {OLDEST[0]}.{OLDEST[1]} or later is needed: upgrade it")
        return
    missing = [
        words
        for version, words in (
            ((6, 5), "layers by lowerdir+ (at most some 150 layers)"),
            ((6, 6), "what is written to /usr of the host image kept in memory"),
        )
        if not kernel_is(*version)
    ]
    yield Finding("kernel", "ok", release + (f"; without {', '.join(missing)}" if missing else ""))


def _overlay(_: Engine) -> Iterator[Finding]:
    with open("/proc/filesystems") as file:  # noqa: PTH123
        known = any(line.split()[-1] == "overlay" for line in file)
    if known:
        yield Finding("overlayfs", "ok", "known to the kernel")
    elif rootless.is_privileged():
        yield Finding("overlayfs", "warning", "not loaded; the first container loads it", "modprobe overlay")
    else:
        yield Finding("overlayfs", "error", "not loaded", "as root: modprobe overlay, and its name in /etc/modules")


def _user_namespaces(_: Engine) -> Iterator[Finding]:
    name = "user namespaces"
    if rootless.is_privileged():
        yield Finding(name, "ok", "65,536 ids for each container, of its own")
        return
    setting = rootless.remedy()
    if setting:
        yield Finding(name, "error", "closed to ordinary users, or without rights in them", setting)
        return
    try:
        own = rootless.namespace()
    except PylxcError as error:
        yield Finding(name, "error", str(error))
        return
    if own.note:
        yield Finding("subordinate ids", "warning", "none: root is a container's only user", own.note)
    elif os.geteuid() == 0:
        yield Finding(name, "ok", "this process is root of one already; containers have the same ids")
    else:
        files = " and ".join(subordinate.FILES)
        count = sum(extent.count for extent in own.uids)
        yield Finding(name, "ok", f"an ordinary user's, with {count:,} ids for all containers together ({files})")


def _cgroups(_: Engine) -> Iterator[Finding]:
    found = cgroup.hierarchies()
    missing = [name for name in LIMITED if not found.directory(name, "")]
    kind = found.kind() + (f" ({found.v2})" if found.restricted and found.v2 else "")
    if not missing:
        yield Finding("cgroups", "ok", f"{kind}: {', '.join(LIMITED)} can be limited")
        return
    remedy = cgroup.DELEGATION if found.restricted else "mount the controllers (cgroups(7))"
    yield Finding("cgroups", "warning", f"{kind}: {', '.join(missing)} cannot be limited", remedy)


def _seccomp(_: Engine) -> Iterator[Finding]:
    if os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):  # noqa: PTH110
        yield Finding("seccomp", "ok", "system calls are filtered")
    else:
        remedy = 'a kernel with CONFIG_SECCOMP_FILTER; without one: seccomp="unconfined"'
        yield Finding("seccomp", "error", "the kernel has no filters", remedy)


def _helper(_: Engine) -> Iterator[Finding]:
    try:
        native.helper_fd()
    except PylxcError as error:
        yield Finding("helper", "error", str(error))


def _store(engine: Engine) -> Iterator[Finding]:
    try:
        engine.store  # noqa: B018  opened by asking
    except PylxcError as error:
        yield Finding("store", "error", str(error), "choose another directory with PYLXC_ROOT")
        return
    status = os.statvfs(engine.root)
    free = status.f_bavail * status.f_frsize
    level: Level = "ok" if free >= 1 << 30 else "warning"
    remedy = "" if level == "ok" else "free some space, or choose another disk with PYLXC_ROOT"
    yield Finding("store", level, f"{engine.root}, {free / (1 << 30):.1f} GiB free", remedy)


def _container(engine: Engine) -> Iterator[Finding]:
    """Try the whole: it finds what no file tells, such as a security module, or a disk without id-mapped mounts."""
    from pylxc.verbs import run  # noqa: PLC0415  it imports the engine

    try:
        run("host", ["true"], engine=engine)
    except PylxcError as error:
        yield Finding("container", "error", str(error), getattr(error, "remedy", ""))
    else:
        yield Finding("container", "ok", "one was started, and ended well")


def _programs(_: Engine) -> Iterator[Finding]:
    tool = next((tool for tool in BOOTSTRAPPERS if shutil.which(tool)), "")
    if tool:
        yield Finding("bootstrap", "ok", f"base images by {tool}")
    else:
        remedy = "install mmdebstrap (Debian and Ubuntu: apt-get install mmdebstrap)"
        yield Finding("bootstrap", "warning", "no mmdebstrap or debootstrap: Image.bootstrap cannot be used", remedy)


def _networks(_: Engine) -> Iterator[Finding]:
    from pylxc import networking  # noqa: PLC0415  only here

    if not rootless.is_privileged():
        lack = uplink.lack()
        if lack:
            yield Finding(
                "networks", "warning", "internal ones only, none by default: nothing leads out of this host", lack
            )
        else:
            path = getattr(uplink.find(), "path", "")
            yield Finding("networks", "ok", f"bridges in a network namespace of the user's own; out of it by {path}")
        return
    try:
        networking.try_firewall()
    except PylxcError as error:
        remedy = getattr(error, "remedy", 'root needs CAP_NET_ADMIN for them; "none" and "host" work without')
        yield Finding("networks", "warning", f"containers have no network unless they ask for one: {error}", remedy)
        return
    drops, remedy = networking.forwarding_finding()
    if drops:
        yield Finding("networks", "warning", drops, remedy)
    else:
        yield Finding("networks", "ok", "bridges, with nftables for what leaves this host")


_CHECKS: tuple[Callable[[Engine], Iterator[Finding]], ...] = (
    *(_kernel, _overlay, _user_namespaces, _cgroups, _seccomp, _helper, _store, _container, _networks, _programs),
)
