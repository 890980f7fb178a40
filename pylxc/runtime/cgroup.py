"""Hides cgroups: version 1, version 2, and hosts that have both at once.

A container's cgroups are directories ``pylxc-<id>`` in the root of each hierarchy that is needed; of version 2, where
it has controllers, in ``pylxc`` below the root, which comes and goes with them. Nothing else is ever touched. A process
that may not write there uses the topmost cgroup of version 2 above its own that was delegated to it, as systemd does
for ``user@UID.service``. Invariant: whoever makes them removes them, with all that was made below, or hands them to the
container's monitor, which does at its end; what neither could do is known by the container's id.

Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, cgroups(7), https://systemd.io/CGROUP_DELEGATION/.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from pylxc.errors import UnsupportedError
from pylxc.runtime import devicefilter, native
from pylxc.values import evolve, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.spec import ContainerSpec

PREFIX = "pylxc-"
# Between the root of v2 and the containers' cgroups. systemd takes controllers away from the root's children when no
# unit of its own needs them (it writes the root's cgroup.subtree_control), and with them the limits; it cannot from a
# child that passes them on itself.
PARENT = "pylxc"
PASSED_ON = frozenset(("cpu", "cpuset", "io", "memory", "pids"))
PARENT_ATTEMPTS = 100
EVENTS_SIZE = 4096  # bytes; more than cgroup.events and freezer.state have
PERIOD = 100_000  # µs, over which a quota of processor time counts
UNLIMITED = -1
ACCOUNTED = ("memory", "cpuacct", "pids")
LIMITS = ("memory", "memory_swap", "cpus", "cpu_shares", "cpuset", "pids_limit", "io_weight")
SYSTEMD = "name=systemd"  # the hierarchy of v1 without a controller, in which an init keeps its services apart
# What the root of a container with a full init may do below its own cgroup: no more than these.
DELEGATED_CONTROLLERS = frozenset(("cpu", "io", "memory", "pids"))
DELEGATED_V2 = ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
DELEGATED_V1 = ("", "cgroup.procs", "tasks", "cgroup.clone_children")
DELEGATED_BOUNDS = {"cgroup.max.depth": "32", "cgroup.max.descendants": "4096"}
DELEGATION = (
    "this process may not make such cgroups; where systemd runs with cgroup v2, start the program with `systemd-run "
    "--user --scope -p Delegate=yes PROGRAM`, and let user@.service have Delegate=cpu cpuset io memory pids (systemctl "
    "edit user@.service, as root)"
)


@frozen
class Hierarchies:
    """Where containers' cgroups are made.

    ``v1`` maps a controller to its mount point; ``v2`` is a directory of the unified tree ("": none), its root or one
    that was delegated. ``restricted``: this process may not write to all that is mounted.
    """

    v1: Mapping[str, str] = field(factory=dict, hash=False)
    v2: str = ""
    v2_controllers: frozenset[str] = frozenset()
    restricted: bool = False

    def kind(self) -> str:
        """Return "v1", "v2", "hybrid" or "none"."""
        if self.v2 and self.v1:
            return "hybrid"
        return "v2" if self.v2 else "v1" if self.v1 else "none"

    def directory(self, controller: str, id: str) -> str:  # noqa: A002  docker's name
        """Return a container's cgroup of a controller; "" where the host has none."""
        root = self.v2 if controller in self.v2_controllers else self.v1.get(controller, "")
        return f"{root}/{PREFIX}{id}" if root else ""


def hierarchies() -> Hierarchies:
    """Return what this process can use of what is mounted (proc_pid_mountinfo(5)); asked once for each user."""
    return _hierarchies(os.geteuid())


@lru_cache(maxsize=1)
def _hierarchies(_: int) -> Hierarchies:
    found = within_reach(parse_mounts(_read("/proc/self/mountinfo")), _read("/proc/self/cgroup"))
    if found.restricted or not found.v2_controllers & PASSED_ON:
        return found
    return evolve(found, v2=f"{found.v2}/{PARENT}")


def within_reach(found: Hierarchies, own: str) -> Hierarchies:
    """Return the part that this process may write to; ``own`` is its /proc/self/cgroup (cgroups(7))."""
    v1 = {name: place for name, place in found.v1.items() if _may_write(place)}
    v2 = _delegated(found.v2, own) if found.v2 else ""
    if v1 == found.v1 and v2 == found.v2:
        return found
    controllers = frozenset(_words(f"{v2}/cgroup.controllers")) if v2 else frozenset[str]()
    return Hierarchies(v1, v2, controllers, restricted=True)


def _delegated(root: str, own: str) -> str:
    """Return the topmost cgroup, from the root down to the process's own, that it may fill; "" when there is none.

    A process is moved by whoever may write to the closest common ancestor of where it was and where it goes: so it has
    to be an ancestor (cgroup-v2.rst, "Delegation Containment").
    """
    if _may_fill(root):
        return root
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::/")), "/")
    names = [name for name in path.split("/") if name]
    if ".." in names:  # it lies outside of this cgroup namespace
        return ""
    places = (f"{root}/{'/'.join(names[:depth])}" for depth in range(1, len(names) + 1))
    return next((place for place in places if _may_fill(place)), "")


def _may_fill(place: str) -> bool:
    return all(_may_write(f"{place}/{name}") for name in ("", "cgroup.procs", "cgroup.subtree_control"))


def _may_write(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=True)


def parse_mounts(text: str) -> Hierarchies:
    """Return the hierarchies that a mountinfo shows. A mount of only a part of one cannot be used."""
    v1: dict[str, str] = {}
    v2 = ""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        root, place = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if root != "/":
            continue
        if kind == "cgroup2":
            v2 = place
        elif kind == "cgroup":
            v1 |= dict.fromkeys(options.split(","), place)
    return Hierarchies(v1, v2, frozenset(_words(f"{v2}/cgroup.controllers")) if v2 else frozenset())


def _words(path: str) -> list[str]:
    try:
        return _read(path).split()
    except FileNotFoundError:
        return []


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


# -- limits ----------------------------------------------------------------------------------------------------------


def _settings(spec: ContainerSpec, *, unified: frozenset[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield for each limit: the option, its controller, the file, what is written. The order is the kernel's.

    ``unified``: the controllers that are on cgroup v2.
    """
    if spec.memory is not None:
        yield from _memory(spec.memory, spec.memory_swap, v2="memory" in unified, keeps_others=spec.init == "system")
    elif spec.memory_swap is not None:
        raise UnsupportedError("memory_swap without memory", "give memory as well: memory_swap is the sum of both")
    if spec.cpus is not None:
        quota = max(1000, round(spec.cpus * PERIOD))
        if "cpu" in unified:
            yield "cpus", "cpu", "cpu.max", f"{quota} {PERIOD}"
        else:
            yield "cpus", "cpu", "cpu.cfs_period_us", str(PERIOD)
            yield "cpus", "cpu", "cpu.cfs_quota_us", str(quota)
    if spec.cpu_shares is not None:
        # 2 to 262144 shares are 1 to 10000 of weight.
        weight = 1 + (spec.cpu_shares - 2) * 9999 // 262142
        file, value = ("cpu.weight", weight) if "cpu" in unified else ("cpu.shares", spec.cpu_shares)
        yield "cpu_shares", "cpu", file, str(value)
    if spec.cpuset is not None:
        yield "cpuset", "cpuset", "cpuset.cpus", spec.cpuset
    if spec.pids_limit is not None:
        yield "pids_limit", "pids", "pids.max", str(spec.pids_limit) if spec.pids_limit > 0 else "max"
    if spec.io_weight is not None:
        yield from _io_weight(spec.io_weight, v2="io" in unified)


def _io_weight(weight: int, *, v2: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the settings of docker's weight (10 to 1000): the general one, and that of the scheduler bfq."""
    if v2:
        yield "io_weight", "io", "io.weight", str(1 + (weight - 10) * 9999 // 990)  # 1 to 10000
        yield "io_weight", "io", "io.bfq.weight", str(weight)
    else:
        yield "io_weight", "blkio", "blkio.weight", str(weight)
        yield "io_weight", "blkio", "blkio.bfq.weight", str(weight)


def _memory(memory: int, swap: int | None, *, v2: bool, keeps_others: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the settings of memory; ``swap`` is docker's: the sum of both, -1 = no limit, None = twice the memory.

    On v2 the kernel ends all of a container that runs out of memory (``memory.oom.group``), not one process that the
    others may need; but of a container with a full init (``keeps_others``) only that process, as on v1.
    """
    total = 2 * memory if swap is None else swap
    if v2:
        yield "memory", "memory", "memory.max", str(memory)
        yield "memory_swap", "memory", "memory.swap.max", "max" if total < 0 else str(max(0, total - memory))
        yield "memory", "memory", "memory.oom.group", "0" if keeps_others else "1"
    else:
        # The sum may not be below the part, whichever of the two is being raised: first to no limit, then down.
        yield "memory_swap", "memory", "memory.memsw.limit_in_bytes", str(UNLIMITED)
        yield "memory", "memory", "memory.limit_in_bytes", str(memory)
        yield "memory_swap", "memory", "memory.memsw.limit_in_bytes", str(total)


def update(spec: ContainerSpec, id: str) -> None:  # noqa: A002
    """Change the limits of a container that runs. Raises UnsupportedError, for example without a cgroup to keep one."""
    found = hierarchies()
    controllers = set()
    for option, controller, _, _ in _settings(spec, unified=found.v2_controllers):
        directory = found.directory(controller, id)
        if not os.path.isdir(directory):  # noqa: PTH112
            remedy = f"the container was started without a cgroup of {controller!r}; give {option} when it is made"
            raise UnsupportedError(option, remedy)
        controllers.add(controller)
    _pass_on(found.v2, controllers & found.v2_controllers)
    apply(spec, id)


def has_limits(spec: ContainerSpec) -> bool:
    """Say whether the container has any limit that a cgroup keeps."""
    return any(getattr(spec, name) is not None for name in LIMITS)


def apply(spec: ContainerSpec, id: str) -> None:  # noqa: A002
    """Write the limits of a container whose cgroups exist. Raises UnsupportedError naming the limit and a remedy."""
    found = hierarchies()
    weights: list[bool] = []
    for option, controller, name, value in _settings(spec, unified=found.v2_controllers):
        directory = found.directory(controller, id)
        if not directory:
            raise _absent(found, "memory" if controller == "memory" else option, controller)
        optional = option == "memory_swap" and spec.memory_swap is None
        written = _set(option, f"{directory}/{name}", value, optional=optional)
        if option == "io_weight":  # of its files, one in two is enough
            weights.append(written)
        elif not (written or optional):
            raise _missing(found, option, controller, name)
    if weights and not any(weights):
        raise _missing(found, "io_weight", "io", "file for weights (it has with the scheduler bfq)")


def _absent(found: Hierarchies, option: str, controller: str) -> UnsupportedError:
    lack = f"no cgroup controller {controller!r} is to be had here"
    remedy = DELEGATION if found.restricted else "mount it (cgroups(7))"
    return UnsupportedError(option, f"{lack}; leave {option} out, or: {remedy}")


def _missing(found: Hierarchies, option: str, controller: str, name: str) -> UnsupportedError:
    """Return the error for a cgroup that lacks a file: its controller was not passed on, or the kernel has no such."""
    passed_on = _words(f"{found.v2}/cgroup.subtree_control") if found.v2 else []
    if controller not in found.v2_controllers or controller in passed_on:
        return UnsupportedError(option, f"this kernel has no {name}; leave {option} out")
    lack = f"the cgroup {found.v2} has processes of its own, so it cannot pass {controller!r} on"
    return UnsupportedError(option, f"{lack} (cgroup-v2.rst, No Internal Process Constraint); {DELEGATION}")


def _set(option: str, path: str, value: str, *, optional: bool) -> bool:
    """Write a setting; says whether the cgroup has it."""
    try:
        _write(path, value)
        if option == "cpuset":
            _check_processors(path, value)
    except FileNotFoundError:
        return False
    except OSError as error:
        if optional:
            return False
        reason = f"the kernel refuses {value!r} ({error.strerror})"
        raise UnsupportedError(option, f"{reason}; choose a value that this machine has") from error
    return True


def _check_processors(path: str, value: str) -> None:
    """Raise UnsupportedError where v2 took processors that are not there: it would use others in their place."""
    effective = f"{path}.effective"
    if os.path.exists(effective) and not _processors(value) <= _processors(there := _read(effective).strip()):  # noqa: PTH110
        raise UnsupportedError("cpuset", f"the kernel has no {value!r}; choose among the processors {there}")


def _processors(text: str) -> set[int]:
    """Return the numbers of a list such as "0-3,5" (cpuset(7), FORMATS)."""
    bounds = (part.partition("-") for part in text.split(",") if part)
    return {number for first, _, last in bounds for number in range(int(first), int(last or first) + 1)}


# -- making and removing ---------------------------------------------------------------------------------------------


def is_wanted(spec: ContainerSpec, *, accounted: bool, delegate: tuple[int, int] | None) -> bool:
    """Say whether :func:`create` makes any."""
    return accounted or has_limits(spec) or devicefilter.is_demanded(spec) or delegate is not None


def create(
    spec: ContainerSpec,
    id: str,  # noqa: A002
    *,
    accounted: bool,
    delegate: tuple[int, int] | None = None,
) -> tuple[str, ...]:
    """Make the cgroups of a container and set its limits; returns their directories, that of v2 first.

    ``accounted``: also those that :func:`stats` reads, and that pause needs. ``delegate``: the container's root (uid
    and gid of the host) may make cgroups of its own below. Raises UnsupportedError, naming the limit that cannot be
    kept; nothing is left then.
    """
    if not is_wanted(spec, accounted=accounted, delegate=delegate):
        return ()
    found = hierarchies()
    wanted = {controller for _, controller, _, _ in _settings(spec, unified=found.v2_controllers)}
    if accounted:
        # io only where it costs no further hierarchy to enter.
        wanted |= {*ACCOUNTED, *({"io"} & found.v2_controllers), *(() if found.v2 else ("freezer",))}
    wanted |= set() if spec.privileged else {"devices"}
    if delegate:
        wanted |= _for_delegation(found)
    roots = [found.v2] if found.v2 else []
    roots += sorted({found.v1[name] for name in wanted - found.v2_controllers if name in found.v1})
    remove(id)  # what an earlier run left whose monitor was killed
    try:
        for root in roots:
            _make(root, id, unified=root == found.v2, controllers=wanted & found.v2_controllers)
        apply(spec, id)
        filter_devices(spec, id)
        if delegate:
            _delegate(f"{found.v2 or found.v1[SYSTEMD]}/{PREFIX}{id}", *delegate, unified=bool(found.v2))
    except BaseException:
        remove(id)
        raise
    return tuple(f"{root}/{PREFIX}{id}" for root in roots)


def _make(root: str, id: str, *, unified: bool, controllers: set[str]) -> None:  # noqa: A002
    made = f"{root}/{PREFIX}{id}"
    if unified:
        _make_unified(root, made, controllers)
        return
    os.mkdir(made)  # noqa: PTH102
    if os.path.exists(f"{made}/cpuset.cpus"):  # noqa: PTH110
        # Of v1: a cgroup without processors and memory nodes takes no process.
        for name in ("cpuset.cpus", "cpuset.mems"):
            _write(f"{made}/{name}", _read(f"{root}/{name}"))


def _make_unified(root: str, made: str, controllers: set[str]) -> None:
    for attempts_left in range(PARENT_ATTEMPTS, 0, -1):
        if _is_parent(root):
            with suppress(FileExistsError):
                os.mkdir(root)  # noqa: PTH102
            _pass_on(os.path.dirname(root), controllers)  # noqa: PTH120
        try:
            _pass_on(root, controllers)
            os.mkdir(made)  # noqa: PTH102
        except FileNotFoundError:
            if attempts_left == 1:
                raise
            continue  # whoever removed the last container's removed the parent
        return


def _is_parent(root: str) -> bool:
    return os.path.basename(root) == PARENT  # noqa: PTH119


def _pass_on(root: str, controllers: set[str]) -> None:
    """Let the children of a cgroup have controllers (cgroup-v2.rst, "Enabling and Disabling").

    What cannot be passed on (the cgroup has processes of its own, or real-time ones are about) is merely not counted;
    a limit that needs it says so when it is set.
    """
    missing = controllers - set(_words(f"{root}/cgroup.subtree_control")) if controllers else set()
    for name in sorted(missing):
        with suppress(OSError):
            _write(f"{root}/cgroup.subtree_control", f"+{name}")


def _for_delegation(found: Hierarchies) -> set[str]:
    if found.v2:
        return set(DELEGATED_CONTROLLERS & found.v2_controllers)
    if SYSTEMD in found.v1:
        return {SYSTEMD}
    mounting = "mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified, as root, gives the kernel's tree without controllers"
    raise UnsupportedError('init="system"', DELEGATION if found.restricted else f"it needs cgroup v2; {mounting}")


def _delegate(made: str, uid: int, gid: int, *, unified: bool) -> None:
    """Give a cgroup to a container's root, as cgroup-v2.rst ("Model of Delegation") has it.

    The limits themselves are not among the files that it may write.
    """
    names = (*DELEGATED_V2, *_words("/sys/kernel/cgroup/delegate")) if unified else DELEGATED_V1
    for name in dict.fromkeys(names):
        with suppress(FileNotFoundError):
            os.chown(f"{made}/{name}", uid, gid)
    for name, value in DELEGATED_BOUNDS.items() if unified else ():
        _write(f"{made}/{name}", value)


def filter_devices(spec: ContainerSpec, id: str) -> None:  # noqa: A002
    """Let the kernel refuse all devices but the container's own; see :mod:`pylxc.runtime.devicefilter`.

    Where this process may not set a filter there is none. Raises UnsupportedError only when a device is given in part
    ("r"), for nothing else keeps that promise.
    """
    rules = devicefilter.rules_for(spec)
    if not rules:
        return
    found = hierarchies()
    try:
        if "devices" in found.v1:
            _allow_devices(f"{found.v1['devices']}/{PREFIX}{id}", rules)
            return
        if found.v2:
            native.attach_device_filter(f"{found.v2}/{PREFIX}{id}", devicefilter.compile_rules(rules))
            return
        reason = "no cgroup for it is to be had here"
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL):  # the last two: a kernel without eBPF
            raise
        reason = f"no filter of devices can be set here ({error.strerror})"
    if any(set(device.permissions) != set(devicefilter.EVERYTHING) for device in spec.devices):
        raise UnsupportedError("permissions of devices", f'{reason}; give the device with "rwm", or leave it out')


def _allow_devices(made: str, rules: tuple[devicefilter.Rule, ...]) -> None:
    _write(f"{made}/devices.deny", "a")
    for line in devicefilter.lines(rules):
        _write(f"{made}/devices.allow", line)


def directories(id: str, pid: int = 0) -> tuple[str, ...]:  # noqa: A002
    """Return the cgroups that a container has, that of v2 first.

    ``pid``: of v2 the one below it where that process is. What has children with controllers takes no further process,
    and the first thing that a full init does is to make such.
    """
    found = hierarchies()
    if found.v2 and not os.path.isdir(f"{found.v2}/{PREFIX}{id}"):  # noqa: PTH112  whoever has any has this one
        return ()
    roots = dict.fromkeys([*([found.v2] if found.v2 else []), *found.v1.values()])
    places = [path for root in roots if os.path.isdir(path := f"{root}/{PREFIX}{id}")]  # noqa: PTH112
    if pid and found.v2:
        places[0] += _place_below(id, pid)
    return tuple(places)


def _place_below(id: str, pid: int) -> str:  # noqa: A002
    """Return where below its container's cgroup of v2 a process is: "" or "/init.scope"."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in _read(f"/proc/{pid}/cgroup").splitlines():
            head, mark, below = line.partition(f"/{PREFIX}{id}/")
            if head.startswith("0::") and mark:
                return f"/{below}"
    return ""


def remove(id: str) -> None:  # noqa: A002
    """Kill what is left in a container's cgroups and remove them; there may be none."""
    places = directories(id)
    found = hierarchies()
    if found.v2 and places:
        with suppress(FileNotFoundError):
            _write(f"{found.v2}/{PREFIX}{id}/cgroup.kill", "1")
    for place in reversed(places):  # that of v2 last: see directories()
        if not _remove(place):
            return
    if places and _is_parent(found.v2):
        with suppress(OSError):  # other containers have it as well
            os.rmdir(found.v2)  # noqa: PTH106


def _remove(place: str) -> bool:
    """Remove a cgroup with all below it. One in which somebody still lives after seconds is the next one's to try."""
    try:
        native.remove_cgroup(place)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


# -- pausing ---------------------------------------------------------------------------------------------------------


def freeze(id: str, *, frozen: bool) -> None:  # noqa: A002
    """Stop, or let go on, everything in a container; returns when it is so. Raises UnsupportedError without cgroups."""
    path, values = freezer(id)
    _write(path, values[frozen])
    while is_frozen(id) is not frozen:
        time.sleep(0.001)


def is_frozen(id: str) -> bool:  # noqa: A002
    """Say whether a container is paused."""
    found = hierarchies()
    directory = f"{found.v2}/{PREFIX}{id}" if found.v2 else found.directory("freezer", id)
    if not directory:
        return False
    name, says = ("cgroup.events", b"frozen 1") if found.v2 else ("freezer.state", b"FROZEN")
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)  # every status passes here: nothing is buffered
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # it has none, or that is just being removed
            return False
        raise
    try:
        lines = os.read(fd, EVENTS_SIZE).splitlines()
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed between opening and reading
            return False
        raise
    finally:
        os.close(fd)
    return says in lines


def freezer(id: str) -> tuple[str, tuple[str, str]]:  # noqa: A002
    """Return the file that stops a container, and what is written to it to let it go on and to stop it.

    Raises UnsupportedError where it has no cgroup.
    """
    found = hierarchies()
    directory = f"{found.v2}/{PREFIX}{id}" if found.v2 else found.directory("freezer", id)
    name, values = ("cgroup.freeze", ("0", "1")) if found.v2 else ("freezer.state", ("THAWED", "FROZEN"))
    if not directory or not os.path.exists(f"{directory}/{name}"):  # noqa: PTH110
        how = DELEGATION if found.restricted else "start() and popen() make one"
        raise UnsupportedError("pausing this container", f"it has no cgroup; {how}")
    return f"{directory}/{name}", values
