"""Hides cgroups: version 1, version 2, and hosts that have both at once.

A container's cgroups are directories ``pylxc-<id>`` in the root of each hierarchy that is needed; nothing else is ever
touched. Invariant: whoever makes them removes them, or hands them to the container's monitor, which does at its
end; what neither could do is known by the container's id.

Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, cgroups(7).
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.spec import ContainerSpec

PREFIX = "pylxc-"
PERIOD = 100_000  # µs, over which a quota of processor time counts
UNLIMITED = -1
PATIENCE = 2.0  # s for processes that were killed to leave
ACCOUNTED = ("memory", "cpuacct", "pids")
LIMITS = ("memory", "memory_swap", "cpus", "cpu_shares", "cpuset", "pids_limit", "io_weight")


@frozen
class Hierarchies:
    """Where controllers are: ``v1`` maps a controller to its mount point, ``v2`` is the unified tree's ("": none)."""

    v1: Mapping[str, str] = field(factory=dict, hash=False)
    v2: str = ""
    v2_controllers: frozenset[str] = frozenset()

    def kind(self) -> str:
        """Return "v1", "v2", "hybrid" or "none"."""
        if self.v2 and self.v1:
            return "hybrid"
        return "v2" if self.v2 else "v1" if self.v1 else "none"

    def directory(self, controller: str, id: str) -> str:  # noqa: A002  docker's name
        """Return a container's cgroup of a controller; "" where the host has none."""
        root = self.v2 if controller in self.v2_controllers else self.v1.get(controller, "")
        return f"{root}/{PREFIX}{id}" if root else ""


@lru_cache(maxsize=1)
def hierarchies() -> Hierarchies:
    """Return what this host has mounted (proc_pid_mountinfo(5)); asked once."""
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123
        return parse_mounts(file.read())


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
        yield from _memory(spec.memory, spec.memory_swap, v2="memory" in unified)
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
        on_v2 = "io" in unified
        yield "io_weight", "io" if on_v2 else "blkio", "io.weight" if on_v2 else "blkio.weight", str(spec.io_weight)


def _memory(memory: int, swap: int | None, *, v2: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the settings of memory; ``swap`` is docker's: the sum of both, -1 = no limit, None = twice the memory."""
    total = 2 * memory if swap is None else swap
    if v2:
        yield "memory", "memory", "memory.max", str(memory)
        yield "memory_swap", "memory", "memory.swap.max", "max" if total < 0 else str(max(0, total - memory))
        yield "memory", "memory", "memory.oom.group", "1"
    else:
        # The sum may not be below the part, whichever of the two is being raised: first to no limit, then down.
        yield "memory_swap", "memory", "memory.memsw.limit_in_bytes", str(UNLIMITED)
        yield "memory", "memory", "memory.limit_in_bytes", str(memory)
        yield "memory_swap", "memory", "memory.memsw.limit_in_bytes", str(total)


def update(spec: ContainerSpec, id: str) -> None:  # noqa: A002
    """Change the limits of a container that runs. Raises UnsupportedError, for example without a cgroup to keep one."""
    found = hierarchies()
    for option, controller, _, _ in _settings(spec, unified=found.v2_controllers):
        directory = found.directory(controller, id)
        if not os.path.isdir(directory):  # noqa: PTH112
            remedy = f"the container was started without a cgroup of {controller!r}; give {option} when it is made"
            raise UnsupportedError(option, remedy)
    apply(spec, id)


def has_limits(spec: ContainerSpec) -> bool:
    """Say whether the container has any limit that a cgroup keeps."""
    return any(getattr(spec, name) is not None for name in LIMITS)


def apply(spec: ContainerSpec, id: str) -> None:  # noqa: A002
    """Write the limits of a container whose cgroups exist. Raises UnsupportedError naming the limit and a remedy."""
    found = hierarchies()
    for option, controller, name, value in _settings(spec, unified=found.v2_controllers):
        directory = found.directory(controller, id)
        if not directory:
            raise _absent("memory" if controller == "memory" else option, controller)
        _set(option, f"{directory}/{name}", value, optional=option == "memory_swap" and spec.memory_swap is None)


def _absent(option: str, controller: str) -> UnsupportedError:
    remedy = f"the kernel offers no cgroup controller {controller!r} here; leave {option} out, or mount it (cgroups(7))"
    return UnsupportedError(option, remedy)


def _set(option: str, path: str, value: str, *, optional: bool) -> None:
    try:
        if option == "io_weight" and not os.path.exists(path):  # noqa: PTH110  the scheduler's own, where it is bfq
            head, _, tail = path.rpartition("/")
            path = f"{head}/{tail.replace('.', '.bfq.', 1)}"
        _write(path, value)
    except FileNotFoundError as error:
        if not optional:
            file = os.path.basename(path)  # noqa: PTH119
            raise UnsupportedError(option, f"this kernel has no {file}; leave {option} out") from error
    except OSError as error:
        if optional:
            return
        reason = f"the kernel refuses {value!r} ({error.strerror})"
        raise UnsupportedError(option, f"{reason}; choose a value that this machine has") from error


# -- making and removing ---------------------------------------------------------------------------------------------


def create(spec: ContainerSpec, id: str, *, accounted: bool) -> tuple[str, ...]:  # noqa: A002
    """Make the cgroups of a container and set its limits; returns their directories, that of v2 first.

    ``accounted``: also those that :func:`stats` reads, and that pause needs. Raises UnsupportedError, naming the limit
    that cannot be kept; nothing is left then.
    """
    if not (accounted or has_limits(spec)):
        return ()
    found = hierarchies()
    if not has_limits(spec) and not any(os.access(root, os.W_OK) for root in (found.v2, *found.v1.values()) if root):
        return ()
    wanted = {controller for _, controller, _, _ in _settings(spec, unified=found.v2_controllers)}
    wanted |= {*ACCOUNTED, *(() if found.v2 else ("freezer",))} if accounted else set()
    roots = [found.v2] if found.v2 else []
    roots += sorted({found.v1[name] for name in wanted - found.v2_controllers if name in found.v1})
    made = [f"{root}/{PREFIX}{id}" for root in roots]
    remove(id)  # what an earlier run left whose monitor was killed
    try:
        for root in roots:
            _make(root, id, unified=root == found.v2, controllers=wanted & found.v2_controllers)
        apply(spec, id)
    except BaseException:
        remove(id)
        raise
    return tuple(made)


def _make(root: str, id: str, *, unified: bool, controllers: set[str]) -> None:  # noqa: A002
    if unified and controllers:
        # What the root does not pass on, a child does not have (cgroup-v2.rst, "Enabling and Disabling").
        missing = controllers - set(_words(f"{root}/cgroup.subtree_control"))
        if missing:
            _write(f"{root}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    made = f"{root}/{PREFIX}{id}"
    os.mkdir(made)  # noqa: PTH102
    if not unified and os.path.exists(f"{made}/cpuset.cpus"):  # noqa: PTH110
        # Of v1: a cgroup without processors and memory nodes takes no process.
        for name in ("cpuset.cpus", "cpuset.mems"):
            _write(f"{made}/{name}", _read(f"{root}/{name}"))


def directories(id: str) -> tuple[str, ...]:  # noqa: A002
    """Return the cgroups that a container has, that of v2 first."""
    found = hierarchies()
    if found.v2 and not os.path.isdir(f"{found.v2}/{PREFIX}{id}"):  # noqa: PTH112  whoever has any has this one
        return ()
    roots = dict.fromkeys([*([found.v2] if found.v2 else []), *found.v1.values()])
    return tuple(path for root in roots if os.path.isdir(path := f"{root}/{PREFIX}{id}"))  # noqa: PTH112


def remove(id: str) -> None:  # noqa: A002
    """Kill what is left in a container's cgroups and remove them; there may be none."""
    places = directories(id)
    found = hierarchies()
    if found.v2 and places:
        with suppress(FileNotFoundError):
            _write(f"{found.v2}/{PREFIX}{id}/cgroup.kill", "1")
    deadline = time.monotonic() + PATIENCE
    for place in places:
        while not _try_to_remove(place) and time.monotonic() < deadline:
            time.sleep(0.002)


def _try_to_remove(place: str) -> bool:
    try:
        os.rmdir(place)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


# -- pausing ---------------------------------------------------------------------------------------------------------


def freeze(id: str, *, frozen: bool) -> None:  # noqa: A002
    """Stop, or let go on, everything in a container; returns when it is so. Raises UnsupportedError without cgroups."""
    path, values = _freezer(id)
    if not path:
        raise UnsupportedError("pausing this container", "it has no cgroup: use start() or popen(), as root")
    _write(path, values[frozen])
    while is_frozen(id) is not frozen:
        time.sleep(0.001)


def is_frozen(id: str) -> bool:  # noqa: A002
    """Say whether a container is paused."""
    path, _ = _freezer(id)
    if not path:
        return False
    unified = path.endswith("cgroup.freeze")
    try:
        return "frozen 1" in _read(f"{path[:-6]}events") if unified else _read(path).strip() == "FROZEN"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # removed, perhaps between opening and reading
            return False
        raise


def _freezer(id: str) -> tuple[str, tuple[str, str]]:  # noqa: A002
    found = hierarchies()
    if found.v2:
        path = f"{found.v2}/{PREFIX}{id}/cgroup.freeze"
        return (path if os.path.exists(path) else "", ("0", "1"))  # noqa: PTH110
    directory = found.directory("freezer", id)
    return (f"{directory}/freezer.state" if os.path.isdir(directory) else "", ("THAWED", "FROZEN"))  # noqa: PTH112
