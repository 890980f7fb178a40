"""Says what the inside of a container consists of, as operations of a plan: its root, its ids, its privileges.

What is mounted in it comes of ``kernelfiles``, ``mounting`` and ``etcfiles``. Invariant: everything a payload can see
or do beyond its image is decided here and there; the order of the operations is the order in which the helper can carry
them out (file systems, then files, then masks, then the pivot, then privileges).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc.normalise import RLIMITS, sysctl_path
from pylxc.runtime import idrange, joining, resolver, rootless
from pylxc.runtime import plan as p
from pylxc.runtime.cgroup import hierarchies
from pylxc.runtime.etcfiles import add_etc
from pylxc.runtime.kernelfiles import ALL_OFF, add_devices, add_system, hidden_paths, kernel_filesystems
from pylxc.runtime.mounting import add_mounts
from pylxc.runtime.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.runtime.joining import Joined
    from pylxc.runtime.network import Links
    from pylxc.spec import ContainerSpec

# CLONE_NEW* of clone(2).
NEWNS, NEWUSER = 0x20000, 0x10000000

STORE_TREE = (
    'the store, seen with the ids of the container (its file system must know id-mapped mounts, or userns="host")'
)


@frozen(kw_only=True)
class Tree:
    """A root file system to be: layers, and what is written on top of them.

    ``lowers`` are directories, the topmost first; ``upper`` and ``work`` are empty for a read-only view.
    ``passthrough`` names directories of the host (``"/usr"``) that lie below the image's own ones: the embedded host
    image.
    ``scaffold`` is the engine's directory of mount points. ``fleeting``: what is written to the passthrough directories
    may be kept in memory, for it is thrown away.
    """

    lowers: tuple[str, ...]
    scaffold: str
    upper: str = ""
    work: str = ""
    passthrough: tuple[str, ...] = ()
    volatile: bool = True
    fleeting: bool = False
    joined: bool = False

    def inside(self, path: str) -> str:
        """Return a path of the store as it is seen from where the root is put together; others stay what they are."""
        return _inside(path, self.scaffold)


@frozen(kw_only=True)
class Ids:
    """The ids of a user namespace: what uid_map and gid_map say of it (user_namespaces(7)).

    ``keeper`` is a descriptor that keeps the range while it is open (-1: none need be kept).
    """

    uid_map: str
    gid_map: str
    keeper: int = -1


@frozen(kw_only=True)
class Payload:
    """What runs: ``argv``, ``env`` ("NAME=value"), ``user`` and ``workdir``, all decided.

    ``program`` is its system call filter (an array of ``struct sock_filter``), b"" for none.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    workdir: str
    program: bytes
    groups: tuple[str, ...] = ()


def _inside(path: str, scaffold: str) -> str:
    root = scaffold.removesuffix("run")
    return f"store/{path[len(root) :]}" if path.startswith(root) else path


@lru_cache(maxsize=64)
def _lowers_inside(lowers: tuple[str, ...], scaffold: str) -> tuple[str, ...]:
    """Return the lower directories of a root file system, :func:`_inside`: there may be hundreds, at each start."""
    return tuple(_inside(path, scaffold) for path in (*lowers, f"{scaffold}/stubs"))


def add_tree(plan: Plan, tree: Tree, *, read_only: bool = False) -> None:
    """Add the root file system. With ``read_only``, mount targets can still be made; the caller closes it later."""
    flags = (p.OVERLAY_VOLATILE if tree.volatile else 0) | (p.OVERLAY_JOINED if tree.joined else 0)
    add_place(plan, tree.scaffold)
    lowers = _lowers_inside(tree.lowers, tree.scaffold)
    words = f"the root file system of {len(tree.lowers)} layers"
    upper, work = tree.inside(tree.upper), tree.inside(tree.work)
    plan.add(p.OVERLAY, "root", upper, work, *lowers, flags=flags, subject=words)
    for path in tree.passthrough:
        _add_passthrough(plan, tree, path, flags | p.OVERLAY_INSIDE, read_only=read_only)


def add_view(plan: Plan, tree: Tree, name: str, flags: int = p.OVERLAY_ASIDE) -> None:
    """Add a tree beside the root, where it is put together, for binds to take from; without mount points of its own."""
    flags |= p.OVERLAY_VOLATILE | (p.OVERLAY_JOINED if tree.joined else 0)
    lowers = (*map(tree.inside, tree.lowers), "empty")  # without an upper side there must be two lower ones
    upper, work = tree.inside(tree.upper), tree.inside(tree.work)
    plan.add(p.OVERLAY, name, upper, work, *lowers, flags=flags, subject=f"a view of {len(tree.lowers)} layers")


def add_place(plan: Plan, scaffold: str) -> None:
    """Add the place where a root is put together, with the store in it."""
    plan.add(p.MEMORY, scaffold.removesuffix("/run"), subject=STORE_TREE)


def _add_passthrough(plan: Plan, tree: Tree, path: str, flags: int, *, read_only: bool) -> None:
    """Add an overlay of its own over a directory of the host: a lower layer never shows what is mounted in it."""
    # The lowest layer is the host image's own: its directory only marks the place.
    own = (tree.inside(lower + path) for lower in tree.lowers[:-1] if os.path.isdir(lower + path))  # noqa: PTH112
    below = (*own, path)
    upper, work = tree.inside(tree.upper + path), tree.inside(f"{tree.work}{path.replace('/', '.')}")
    if read_only or not tree.upper:
        upper, work = "", ""
        below = (*below, "empty")  # without an upper side there must be two lower ones
    elif tree.fleeting:
        upper, work, flags = "", "", flags | p.OVERLAY_IN_MEMORY
    plan.add(p.OVERLAY, path, upper, work, *below, flags=flags, subject=f"{path} of the host")


def prepare_upper(tree: Tree) -> None:
    """Make the directories that the tree's upper side needs, with the mode and owner of what they lie on.

    Those that an earlier run left are kept as they are. Raises OSError.
    """
    for path in _writable_places(tree):
        below = _status_below(tree, path)
        upper = tree.upper + path
        try:
            os.mkdir(upper)  # noqa: PTH102
        except FileExistsError:
            continue
        os.chmod(upper, stat.S_IMODE(below.st_mode) if below else 0o755)  # noqa: PTH101  whatever the caller's umask
        if below is not None:
            _own(upper, below, f"{tree.lowers[0]}{path}")
        _make_work(tree, path)


def prepare_work(tree: Tree) -> None:
    """Make what goes with an upper side that comes from another tree over the same layers. Raises OSError."""
    for path in _writable_places(tree):
        _make_work(tree, path)


def _writable_places(tree: Tree) -> tuple[str, ...]:
    return ("", *(() if tree.fleeting else tree.passthrough))


def _make_work(tree: Tree, path: str) -> None:
    with suppress(FileExistsError):  # that of a spare directory (store/spares.py)
        os.mkdir(f"{tree.work}{path.replace('/', '.')}", 0o700)  # noqa: PTH102


def _own(upper: str, below: os.stat_result, lower: str) -> None:
    """Give a new directory the owner of what it lies on, as far as that has an id for the caller."""
    if (below.st_uid, below.st_gid) == (os.geteuid(), os.getegid()):
        return
    if rootless.is_privileged():
        os.chown(upper, below.st_uid, below.st_gid)
    elif os.path.lexists(lower):  # what is the host's own belongs to nobody there
        rootless.as_owner(_own_as_seen_there, upper, lower)


def _own_as_seen_there(upper: str, lower: str) -> None:
    status = os.stat(lower)  # noqa: PTH116
    os.chown(upper, status.st_uid, status.st_gid)


def _status_below(tree: Tree, path: str) -> os.stat_result | None:
    """Return the status of what the upper side lies on; None for a layer that is gone, which the start will name."""
    try:
        return os.stat(path or tree.lowers[0]) if tree.lowers else None  # noqa: PTH116
    except FileNotFoundError:
        return None


def settle_upper(tree: Tree) -> None:
    """Make an upper side a layer: takes back what :func:`prepare_upper` made and nothing used, and its own trace.

    The time of the root directory is the lower one's again: it changed because the layer was being made.
    """
    rootless.as_owner(_settle, tree)


def _settle(tree: Tree) -> None:
    _take_back(tree, (errno.ENOTEMPTY, errno.EEXIST))
    time = os.stat(tree.lowers[0]).st_mtime_ns if tree.lowers else 0  # noqa: PTH116
    os.utime(tree.upper, ns=(time, time))


def _take_back(tree: Tree, passed: tuple[int, ...]) -> None:
    for path in tree.passthrough:
        try:
            os.rmdir(tree.upper + path)  # noqa: PTH106
        except OSError as error:  # noqa: PERF203  each directory on its own
            if error.errno not in passed:
                raise


def take_back_places(tree: Tree) -> None:
    """Take back of an upper side what :func:`prepare_upper` made and nothing used; it is made again when needed."""
    found = os.stat(tree.upper)  # noqa: PTH116
    _take_back(tree, (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR))
    os.utime(tree.upper, ns=(found.st_atime_ns, found.st_mtime_ns))


def covered(spec: ContainerSpec) -> tuple[str, ...]:
    """Return the paths that something is mounted on in a container, beside what its image asks for."""
    own: tuple[str, ...] = ("/proc", "/dev", "/sys", "/etc/hostname", "/etc/hosts")
    own += ("/etc/resolv.conf",) if spec.network == "host" or spec.networks() or resolver.is_own(spec) else ()
    own += ("/run", "/tmp") if spec.init == "system" else ()  # noqa: S108  its own
    return (*own, *(mount.target for mount in spec.filesystems()), *(device.target for device in spec.devices))


def add_identity(plan: Plan, payload: Payload, spec: ContainerSpec) -> None:
    """Add what the payload is: limits, directory, user, capabilities, environment, program. The last of every plan."""
    for name, (soft, hard) in spec.ulimits.items():
        plan.add(p.RLIMIT, flags=RLIMITS[name], a=soft, b=hard, subject=f"ulimit {name}={soft}:{hard}")
    kept = spec.capability_mask()
    no_new_privileges = spec.no_new_privileges and not spec.privileged
    if payload.program and not no_new_privileges:
        plan.add_filter(payload.program)  # while it may: without no_new_privs a filter needs CAP_SYS_ADMIN
    plan.add(p.CAPABILITIES, flags=kept, subject="the bounding set")
    plan.add(p.WORKDIR, payload.workdir, subject=f"working directory {payload.workdir}")
    plan.add(p.USER, payload.user, *payload.groups, subject=_user_words(payload))
    plan.add(p.CAPABILITIES, flags=kept, a=1, subject="the capability sets")
    if no_new_privileges:
        plan.add(p.NO_NEW_PRIVILEGES)
    plan.add(p.UMASK, flags=0o022)
    plan.add(p.ENV, *payload.env, subject="the environment")
    if payload.program and no_new_privileges:
        plan.add_filter(payload.program)
    plan.add(p.EXEC, *payload.argv, subject=payload.argv[0])
    plan.argv = payload.argv


def _user_words(payload: Payload) -> str:
    words = f"user {payload.user!r}, in the container's /etc/passwd and /etc/group"
    note = "" if rootless.is_privileged() else rootless.namespace().note
    return f"{words} (there is one id only: {note})" if note else words


@contextmanager
def ids_for(spec: ContainerSpec, joined: Joined | None = None) -> Iterator[Ids | None]:
    """Give ids to a container that is being started; None: it has the host's. The plan passes on what keeps them.

    One that shares namespaces with another container has its ids. Raises ProcessLookupError when that has ended.
    """
    if joined is not None:
        with _shared_ids(joined) as ids:
            yield ids
        return
    if spec.userns == "host" or spec.privileged:
        yield None
        return
    if not rootless.is_privileged():
        own = rootless.namespace()
        yield Ids(uid_map=own.uid_map(), gid_map=own.gid_map())
        return
    first, keeper = idrange.take()
    words = f"0 {first} {idrange.SIZE}"
    try:
        yield Ids(uid_map=words, gid_map=words, keeper=keeper)
    finally:
        os.close(keeper)


@contextmanager
def _shared_ids(joined: Joined) -> Iterator[Ids | None]:
    try:
        ids = ids_of(joined.pid)
    except FileNotFoundError as error:
        raise ProcessLookupError(*error.args) from error
    if ids is None:
        yield None
        return
    keeper = idrange.share(int(ids.uid_map.split()[1])) if rootless.is_privileged() else -1
    try:
        yield evolve(ids, keeper=keeper)
    finally:
        if keeper >= 0:
            os.close(keeper)


def ids_of(pid: int) -> Ids | None:
    """Return the ids of a container that runs; None: the caller's. Raises ProcessLookupError, FileNotFoundError."""
    if os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino:  # noqa: PTH116
        return None
    return Ids(uid_map=_map_of(pid, "uid_map"), gid_map=_map_of(pid, "gid_map"))


def _map_of(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall().decode().strip()


def add_terminal(plan: Plan, size: tuple[int, int] | None, *, console: bool = False) -> None:
    """Add a terminal of (rows, columns), None: no terminal. ``console``: it is the container's ``/dev/console`` too.

    It comes before anything that takes privileges away: it mounts, and a filter would forbid it.
    """
    if size is not None:
        rows, columns = size
        words = "the terminal (/dev/pts in the container must be the devpts that it was started with)"
        plan.add(p.TERMINAL, flags=p.TERMINAL_CONSOLE if console else 0, a=rows, b=columns, subject=words)


def root_on_host(ids: Ids | None) -> tuple[int, int]:
    """Return the host's uid and gid of a container's root, with which every map here begins.

    That of an ordinary user is the user itself; its maps are those of a namespace within the user's own.
    """
    if ids is None or not rootless.is_privileged():
        return os.geteuid(), os.getegid()
    return int(ids.uid_map.split()[1]), int(ids.gid_map.split()[1])


NO_SCORE = -(1 << 63)


def add_cgroups(
    plan: Plan, cgroups: tuple[str, ...], score: int | None, *, keep: bool = False, follow: bool = False
) -> None:
    """Add the cgroups that the process lives in; ``keep``: they are another's, not to be removed with it.

    ``follow``: the monitor looks for the one below that the main process is in (health checks).
    """
    if not cgroups and score is None:
        return
    unified = p.CGROUP_V2_FIRST if cgroups and cgroups[0].startswith(f"{hierarchies().v2 or ' '}/") else 0
    flags = unified | (p.CGROUP_KEEP if keep else 0) | (p.CGROUP_FOLLOW if follow else 0)
    plan.add(p.CGROUP, *cgroups, flags=flags, a=NO_SCORE if score is None else score, subject="the cgroups")


def container_plan(  # noqa: PLR0913  what a container is made of
    spec: ContainerSpec,
    payload: Payload,
    tree: Tree,
    hostname: str,
    ids: Ids | None = None,
    *,
    cgroups: tuple[str, ...] = (),
    terminal: tuple[int, int] | None = None,
    volumes: Mapping[str, str] = MappingProxyType({}),
    joined: Joined | None = None,
    life: Plan | None = None,
    links: Links | None = None,
    more: Plan | None = None,
) -> Plan:
    """Return the whole plan of a container's main process. ``ids``: of its user namespace, None = it has the host's.

    ``terminal``: the (rows, columns) of its terminal, None = it has none. ``volumes``: target -> directory of the
    store. ``joined``: the container that it shares namespaces with. ``life``: the monitor's own part.
    ``links``: what it has of networks. ``more``: what else is mounted, when all the rest is.
    """
    namespaces = NEWNS | joining.own(spec)
    system = spec.init == "system"
    plan = Plan(clone_flags=namespaces, flags=p.PLAN_SYSTEM if system else p.PLAN_INIT if spec.init else 0)
    if ids is not None:
        _add_ids(plan, ids)
    if joined is not None:
        _add_joined(plan, joined, ids)
    add_cgroups(plan, cgroups, spec.oom_score_adj)
    if life is not None:
        plan.extend(life)
    add_tree(plan, tree, read_only=spec.read_only)
    _add_kernel_filesystems(plan, spec, ids)
    add_devices(plan, spec)
    if volumes or spec.mounts or spec.volumes or spec.tmpfs:
        is_root = payload.user.partition(":")[0] in ("0", "root")
        add_mounts(plan, spec, tree, volumes, maps_owners=ids is not None and is_root and rootless.is_privileged())
    add_etc(plan, spec, hostname, tree, links)
    plan.extend(more or Plan())
    plan.add(p.WORKDIR, payload.workdir, a=p.MAKE_DIRECTORY, subject=f"working directory {payload.workdir}")
    if spec.read_only:
        plan.add(p.ROOT_READ_ONLY)
    for name, value in spec.sysctls.items():
        plan.add(p.SYSCTL, sysctl_path(name), value, subject=f"sysctl {name}={value}")
    if not spec.privileged:
        plan.extend(hidden_paths())
    plan.add(p.PIVOT)
    if namespaces & joining.NEWUTS:
        plan.add(p.HOSTNAME, hostname, subject=f"hostname {hostname}")
    if namespaces & joining.NEWNET:
        plan.add(p.LOOPBACK, subject="the loopback interface")
        _add_endpoints(plan, spec, links)
    add_terminal(plan, terminal, console=True)
    add_identity(plan, payload, spec)
    return plan


def _add_endpoints(plan: Plan, spec: ContainerSpec, links: Links | None) -> None:
    if links is None:
        return
    if links.held >= 0:
        plan.descriptor(links.held)
    netns = 0 if links.shared is None else links.shared.lend(plan)
    for number, endpoint in enumerate(links.endpoints):
        words = f"eth{number}, the link to one of the networks {', '.join(spec.networks())}"
        plan.add_endpoint(endpoint, words, netns, late=links.late)


def _add_kernel_filesystems(plan: Plan, spec: ContainerSpec, ids: Ids | None) -> None:
    privileged = rootless.is_privileged()
    foreign_network = spec.network == "host" and (ids is not None or not privileged)
    tty_group = privileged or not rootless.namespace().is_single()
    plan.extend(kernel_filesystems(spec.shm_size, spec.privileged, foreign_network, tty_group))
    if spec.ipc == "host":
        plan.add(p.BIND, "/dev/shm", "/dev/shm", flags=ALL_OFF, subject="/dev/shm of the host")  # noqa: S108
    if spec.init == "system":
        add_system(plan, spec)


def _add_joined(plan: Plan, joined: Joined, ids: Ids | None) -> None:
    flags = joined.flags | (NEWUSER if ids is not None else 0)
    pid_fd, userns_fd = plan.descriptor(joined.pid_fd), plan.descriptor(joined.userns_fd)
    plan.add(p.JOIN, flags=flags, a=pid_fd, b=userns_fd, subject="the other container's namespaces")
    plan.shares = True


def _add_ids(plan: Plan, ids: Ids) -> None:
    plan.clone_flags |= NEWUSER
    plan.add(p.ID_MAP, ids.uid_map, ids.gid_map, subject="the user namespace")
    if ids.keeper >= 0:
        plan.descriptor(ids.keeper)


def exec_plan(
    spec: ContainerSpec,
    payload: Payload,
    ids: Ids | None = None,
    *,
    cgroups: tuple[str, ...] = (),
    terminal: tuple[int, int] | None = None,
) -> Plan:
    """Return the plan of a further process in a running container. ``target_fd`` is for the caller to set."""
    plan = Plan(flags=p.PLAN_JOIN, clone_flags=NEWNS | joining.own(spec) | joining.other(spec)[1])
    if ids is not None:
        _add_ids(plan, ids)
    add_cgroups(plan, cgroups, spec.oom_score_adj, keep=True, follow=spec.init == "system")
    add_terminal(plan, terminal)
    add_identity(plan, payload, spec)
    return plan


def check_plan(spec: ContainerSpec, payload: Payload, ids: Ids | None, cgroups: tuple[str, ...]) -> Plan:
    """Return the plan of a health check, which the monitor carries out again and again; ``cgroups``: the container's.

    Whoever starts the container keeps its ids, so the check need not.
    """
    plan = exec_plan(spec, payload, None if ids is None else evolve(ids, keeper=-1), cgroups=cgroups)
    rootless.apply(plan)
    return plan


def inside_plan(ids: Ids | None) -> Plan:
    """Return the beginning of a plan that works on the files of a running container, as its root sees them.

    The pid namespace is not entered: no process of the container can see, trace or signal this one. ``target_fd`` is
    for the caller to set.
    """
    plan = Plan(flags=p.PLAN_JOIN, clone_flags=NEWNS)
    if ids is not None:
        _add_ids(plan, ids)
    return plan


def resting_plan(spec: ContainerSpec, tree: Tree, volumes: Mapping[str, str]) -> Plan:
    """Return the beginning of a plan that works on the files of a container that does not run, its mounts included."""
    plan = Plan(clone_flags=NEWNS)
    add_tree(plan, tree, read_only=spec.read_only)
    add_mounts(plan, spec, tree, volumes, maps_owners=False)
    if spec.read_only:
        plan.add(p.ROOT_READ_ONLY)
    plan.add(p.PIVOT)
    return plan


def view_plan(tree: Tree) -> Plan:
    """Return the beginning of a plan that shows a tree without an upper side to other processes."""
    plan = Plan(clone_flags=NEWNS)
    add_place(plan, tree.scaffold)
    add_view(plan, tree, "root", flags=0)
    for path in tree.passthrough:
        _add_passthrough(plan, tree, path, p.OVERLAY_INSIDE | (p.OVERLAY_JOINED if tree.joined else 0), read_only=True)
    return plan


def transfer_plan(tree: Tree | None, directory: str, scaffold: str) -> Plan:
    """Return the beginning of a plan that unpacks or packs: in a merged tree, or (None) in a bare directory."""
    plan = Plan(clone_flags=NEWNS)
    if tree is None:
        add_place(plan, scaffold)
        plan.add(p.BIND_ROOT, "root", directory, subject=directory)
    else:
        add_tree(plan, tree)
    plan.add(p.PIVOT)
    return plan


def adoption_plan(tree: Tree, place: str) -> Plan:
    """Return the beginning of a plan that packs an upper side, of a container that has ended, where it lies.

    It fails (stage "root", EBUSY) while anybody can write to it: any open file, and any directory, that a process was
    handed keeps the container's overlay alive, and with that the kernel's claim on the upper directory. ``place``: an
    empty directory on the same file system.
    """
    plan = Plan(clone_flags=NEWNS)
    add_place(plan, tree.scaffold)
    for path in ("", *tree.passthrough):
        if path and not _is_directory(tree.upper + path):
            continue
        name = f"alone{path.replace('/', '.')}"
        os.mkdir(f"{place}/{name}", 0o700)  # noqa: PTH102
        upper, work = tree.inside(tree.upper + path), tree.inside(f"{place}/{name}")
        flags = p.OVERLAY_ASIDE | p.OVERLAY_ALONE | (p.OVERLAY_JOINED if tree.joined else 0)
        plan.add(p.OVERLAY, name, upper, work, "empty", flags=flags, subject="what the container wrote")
    plan.add(p.BIND_ROOT, "root", tree.upper, subject=tree.upper)
    plan.add(p.PIVOT)
    return plan


def _is_directory(path: str) -> bool:
    """Say whether a path is a directory; a link to one is none."""
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False
