"""What a container has of the host, and how much: limits, capabilities, devices, sysctls.

Invariant: nothing is asked of the host; a sysctl that would change it is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from pylxc.capabilities import capability_names
from pylxc.errors import SpecError
from pylxc.mounts import container_path, host_path
from pylxc.normalise.forms import items_of, pairs_of
from pylxc.units import parse_size

# Numbers of include/uapi/asm-generic/resource.h, by their names in setrlimit(2).
RLIMITS = {
    name: number
    for number, name in enumerate(
        (
            "cpu",
            "fsize",
            "data",
            "stack",
            "core",
            "rss",
            "nproc",
            "nofile",
            "memlock",
            "as",
            "locks",
            "sigpending",
            "msgqueue",
            "nice",
            "rtprio",
            "rttime",
        )
    )
}
UNLIMITED = -1
_MANY_CPUS = 65535
_SYSCTL = r"[a-zA-Z0-9_]+(?:[./][a-zA-Z0-9_@:-]+)+"
# What the ipc and network namespaces give a container of its own; anything else would change the host. namespaces(7)
_SYSCTLS = frozenset(
    "kernel/" + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


@frozen
class Device:
    """A device of the host that a container may use: its path there, its path inside, ``permissions`` of ``rwm``."""

    source: str
    target: str
    permissions: str = "rwm"


def swap(option: str, value: Any) -> int:
    """Return how much memory and swap there may be together; -1: no limit."""
    return UNLIMITED if value in (UNLIMITED, str(UNLIMITED)) else parse_size(value, option)


def cpus(option: str, value: Any) -> float:
    """Return how many processors' time may be used."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _MANY_CPUS:
        raise SpecError(option, value, "give how many processors it may use, such as 1.5")
    return float(value)


def ulimits(option: str, value: Any) -> dict[str, tuple[int, int]]:
    """Return the soft and the hard limit of each resource, by its name in setrlimit(2)."""
    limits = {}
    for given, bounds in pairs_of(option, value):
        name = str(given).lower().removeprefix("rlimit_")
        if name not in RLIMITS:
            raise SpecError(option, given, f"there is no such limit; there are {', '.join(sorted(RLIMITS))}")
        limits[name] = _limit_pair(option, name, bounds)
    return limits


def _limit_pair(option: str, name: str, bounds: Any) -> tuple[int, int]:
    remedy = f'give {name} as one number or as (soft, hard), hard not below soft; -1 or "unlimited" for none'
    if isinstance(bounds, Mapping):
        bounds = [bounds.get("soft"), bounds.get("hard", bounds.get("soft"))]
    if isinstance(bounds, str):
        bounds = bounds.split(":")
    parts = list(bounds) if isinstance(bounds, (list, tuple)) else [bounds]
    try:
        numbers = [
            UNLIMITED if part == "unlimited" else int(part) for part in parts if not isinstance(part, (bool, float))
        ]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts) or len(numbers) not in (1, 2):
        raise SpecError(option, {name: bounds}, remedy)
    soft, hard = numbers[0], numbers[-1]
    valid = all(UNLIMITED <= number < 2**63 for number in numbers)
    if not valid or (hard != UNLIMITED and (soft == UNLIMITED or soft > hard)):
        raise SpecError(option, {name: bounds}, remedy)
    return soft, hard


def capabilities(option: str, value: Any) -> tuple[str, ...]:
    """Return the names of capabilities."""
    return capability_names(items_of(option, value), option)


def devices(option: str, value: Any) -> tuple[Device, ...]:
    """Return devices of the host."""
    return tuple(_device(option, item) for item in items_of(option, value))


def _device(option: str, item: Any) -> Device:
    if isinstance(item, Device):
        return item
    remedy = 'give "/dev/fuse", "/dev/sda:/dev/xvda" or "/dev/sda:/dev/xvda:r"'
    if isinstance(item, Mapping) and set(item) <= {"source", "target", "permissions"} and "source" in item:
        parts = [item["source"], item.get("target", item["source"]), item.get("permissions", "rwm")]
    elif isinstance(item, (str, os.PathLike)):
        parts = os.fspath(item).split(":")
        if len(parts) == 2 and not parts[1].startswith("/"):  # noqa: PLR2004  source and permissions
            parts.insert(1, parts[0])
        parts += [parts[0], "rwm"][len(parts) - 1 :]
    else:
        raise SpecError(option, item, remedy)
    if len(parts) != 3 or not all(isinstance(part, str) for part in parts):  # noqa: PLR2004
        raise SpecError(option, item, remedy)
    if not parts[0].startswith("/") or not parts[2] or set(parts[2]) - set("rwm"):
        raise SpecError(option, item, remedy)
    return Device(host_path(parts[0], option), container_path(parts[1], option), parts[2])


def sysctl_path(name: str) -> str:
    """Return a sysctl's path below ``/proc/sys``, from its dotted or its slashed name.

    As in sysctl(8): where the first separator is a dot, dots separate and a slash stands for a dot in an interface's
    name.
    """
    first = re.search(r"[./]", name)
    return name.translate({ord("."): "/", ord("/"): "."}) if first and first[0] == "." else name


def sysctls(option: str, value: Any) -> dict[str, str]:
    """Return values of sysctls, by name as it was given."""
    sysctls = {}
    for name, given in pairs_of(option, value):
        if not isinstance(name, str) or not re.fullmatch(_SYSCTL, name):
            raise SpecError(option, name, 'give a name such as "net.ipv4.ip_forward"')
        path = sysctl_path(name)
        if not (path in _SYSCTLS or path.startswith(("net/", "fs/mqueue/"))):
            raise SpecError(option, name, "it has no namespace: setting it would change the host; set it there")
        content = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        if not isinstance(content, str) or not content.strip() or not content.replace("\t", " ").isprintable():
            raise SpecError(option, {name: given}, "a value is one line of text or a number")
        sysctls[name] = content
    return sysctls
