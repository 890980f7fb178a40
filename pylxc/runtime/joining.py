"""Says which namespaces a container shares, and with whom: the host, or another container.

Invariant: what is shared with another container comes with its user namespace, for only its root has rights over it;
so a container shares with one other at most.

Source: namespaces(7), setns(2).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylxc.values import frozen

if TYPE_CHECKING:
    from pylxc.spec import ContainerSpec

# CLONE_NEW* of clone(2), by the option that shares it.
NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
FLAGS = {"network": NEWNET, "pid": NEWPID, "ipc": NEWIPC, "uts": NEWUTS, "cgroup": NEWCGROUP}
PREFIX = "container:"


@frozen
class Joined:
    """The container that another one shares namespaces with: its main process, and which (``flags``: CLONE_NEW*).

    ``userns_fd`` is its user namespace, which only the caller may look up: whoever starts the process is not dumpable.
    """

    pid_fd: int
    userns_fd: int
    pid: int
    flags: int


def user_namespace(pid: int) -> int:
    """Open the user namespace of a process. Raises ProcessLookupError."""
    try:
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ProcessLookupError(*error.args) from error


def shared(spec: ContainerSpec, option: str) -> str:
    """Return with whom an option shares a namespace: "" (nobody), "host", or a container's name."""
    value = getattr(spec, option) or ""
    return value.removeprefix(PREFIX) if value.startswith(PREFIX) else value if value == "host" else ""


def other(spec: ContainerSpec) -> tuple[str, int]:
    """Return the name of the container that a spec shares namespaces with ("" for none), and which."""
    names = {option: value for option in FLAGS if (value := getattr(spec, option) or "").startswith(PREFIX)}
    flags = sum(FLAGS[option] for option in names)
    return next(iter(names.values()), "").removeprefix(PREFIX), flags


def own(spec: ContainerSpec) -> int:
    """Return the namespaces (CLONE_NEW*) that are the container's own."""
    return sum(flag for option, flag in FLAGS.items() if not shared(spec, option))
