"""Hides whether the caller is the machine's root: containers of an ordinary user, and the files that belong to them.

An ordinary user has a user namespace in which container root is the user itself, and 1, 2, … are its subordinate ids
(:mod:`pylxc.runtime.subordinate`); without those, root is the only id there. It is made once per process and kept by a
descriptor. Monitors enter it first; the namespaces of containers lie in it and have the same ids. What containers and
layers wrote belongs to these ids on disk, so some of it only :func:`as_owner` may touch.

Invariant: for the machine's root nothing here has any effect or cost.

Source: user_namespaces(7), setns(2).
"""

from __future__ import annotations

import errno
import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc._native import ffi, lib
from pylxc.errors import SpawnError, UnsupportedError
from pylxc.runtime import idrange, native, subordinate
from pylxc.runtime.plan import PLAN_HOLD, PLAN_UNPRIVILEGED, Plan
from pylxc.runtime.subordinate import Extent

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

NEWUSER = 0x10000000

_lock = threading.RLock()


@frozen
class Namespace:
    """The caller's user namespace: a descriptor of it (-1 = the one that the caller is in), and its id maps.

    ``note`` says why there is only one id, "" where there are more.
    """

    fd: int
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    note: str = ""

    def is_single(self) -> bool:
        """Say whether its root is the only id in it."""
        return self.uids == self.uids[:1] and self.uids[0].count == 1

    def uid_map(self) -> str:
        """Return the map of a namespace that lies in it and has the same ids."""
        return _same(self.uids)

    def gid_map(self) -> str:
        """Return the same for groups."""
        return _same(self.gids)


def _same(extents: tuple[Extent, ...]) -> str:
    return "\n".join(f"{extent.inside} {extent.inside} {extent.count}" for extent in extents)


_made: dict[int, Namespace] = {}


def is_privileged() -> bool:
    """Say whether this process is the machine's root, who has ids to give away."""
    return _is_privileged(os.geteuid())


@lru_cache(maxsize=2)
def _is_privileged(euid: int) -> bool:
    last = idrange.FIRST + idrange.COUNT * idrange.SIZE
    return euid == 0 and any(
        extent.inside <= idrange.FIRST and last <= extent.inside + extent.count for extent in _own_map("uid_map")
    )


def _own_map(name: str) -> tuple[Extent, ...]:
    with open(f"/proc/self/{name}") as file:  # noqa: PTH123
        return tuple(Extent(*map(int, line.split())) for line in file)


def namespace() -> Namespace:
    """Return this process's user namespace; it is made with the first call.

    Raises UnsupportedError, saying what to change, where ordinary users may not have any.
    """
    euid = os.geteuid()
    found = _made.get(euid)
    if found is None:
        with _lock:
            found = _made.get(euid) or _made.setdefault(euid, _make(euid))
    return found


def _make(euid: int) -> Namespace:
    if euid == 0:  # root of a namespace that somebody else made: a container, or unshare(1)
        return Namespace(-1, _own_map("uid_map"), _own_map("gid_map"))
    lack = subordinate.lack(euid)
    if not lack:
        names = subordinate.names_of(euid)
        uids = subordinate.extents(subordinate.FILES[0], euid, names)
        gids = subordinate.extents(subordinate.FILES[1], os.getegid(), names)
        fd, lack = _hold(lambda pid: subordinate.write_maps(pid, uids, gids))
        if not lack:
            return Namespace(fd, uids, gids)
        os.close(fd)
    import logging  # noqa: PLC0415  only where something is missing

    logging.getLogger("pylxc").warning("containers have root's id only, so most packages cannot be installed: %s", lack)
    fd, _ = _hold(_write_own)
    return Namespace(fd, subordinate.own_only(euid), subordinate.own_only(os.getegid()), lack)


def _write_own(pid: int) -> str:
    try:
        subordinate.write_own(pid)
    except OSError as error:
        raise refusal(error.errno or errno.EPERM) from error
    return ""


def _hold(write_maps: Callable[[int], str]) -> tuple[int, str]:
    """Make a user namespace with these maps; return a descriptor that keeps it, and what ``write_maps`` said."""
    try:
        child = native.spawn(Plan(flags=PLAN_HOLD), (-1, -1, -1))
    except SpawnError as error:
        raise refusal(error.errno) from error
    try:
        words = write_maps(child.pid)
        fd = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(child.control_fd)  # which is what it waits for
        child.control_fd = -1
        native.await_end(child.monitor_fd)
        child.close()
    return fd, words


def refusal(number: int) -> UnsupportedError:
    """Return the error for a kernel that gives ordinary users no user namespace."""
    return UnsupportedError("containers of an ordinary user", f"{os.strerror(number)}; {remedy() or 'run it as root'}")


# Settings that keep ordinary users from having user namespaces: file, the value that does, the remedy.
_SETTINGS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
)


def remedy() -> str:
    """Say which setting of this machine stands in the way of ordinary users, and how to change it; "" for none."""
    for name, bad, command in _SETTINGS:
        try:
            with open(f"/proc/sys/{name}") as file:  # noqa: PTH123
                value = file.read().strip()
        except (FileNotFoundError, PermissionError):
            continue
        if value == bad:
            return f"{name.replace('/', '.')} is {bad}; as root: {command}"
    return ""


def apply(plan: Plan) -> None:
    """Let a plan be carried out with what rights the caller has. A plan that joins a container enters that one's."""
    if is_privileged():
        return
    plan.flags |= PLAN_UNPRIVILEGED
    own = namespace().fd
    if own >= 0 and plan.userns_fd < 0 and not (plan.is_joining() or plan.shares):
        plan.userns_fd = plan.descriptor(own)


def as_owner(function: Callable[..., T], *operands: object) -> T:
    """Call a function with the rights over files that container root has; returns its value, or raises what it raised.

    For an ordinary user that is in a fork of this process, in its user namespace. The function may use the file system
    only: other threads are not there, and whatever they held is held for ever.
    """
    if is_privileged():
        return function(*operands)
    import pickle  # noqa: PLC0415  not for root

    own = namespace()
    if own.fd < 0 or own.is_single():
        return function(*operands)
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        _answer(writing, own.fd, function, operands)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  a descriptor
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise UnsupportedError("work in the user namespace", "the process that did it was killed; try again")
    worked, value = pickle.loads(data)  # noqa: S301  written by ourselves
    if not worked:
        raise value
    return value  # type: ignore[no-any-return]


def fork() -> int:
    """Fork this process; returns the pid, 0 in the child, which must end by ``os._exit``."""
    import warnings  # noqa: PLC0415  not on the start path

    with warnings.catch_warnings():
        # Python >= 3.12 warns of forks with threads: the child touches files and nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _answer(writing: int, namespace_fd: int, function: Callable[..., object], operands: tuple[object, ...]) -> None:
    """In the fork: enter the namespace, call, write the outcome, end. Never returns."""
    import pickle  # noqa: PLC0415  loaded before the fork

    status = 1
    try:
        try:
            _enter(namespace_fd)
            outcome = (True, function(*operands))
        except BaseException as error:  # noqa: BLE001  raised in the parent
            outcome = (False, error)
        with open(writing, "wb") as pipe:
            pickle.dump(outcome, pipe)
        status = 0
    finally:
        os._exit(status)


def _enter(namespace_fd: int) -> None:
    if lib.pylxc_syscall(lib.PYLXC_CALL_SETNS, namespace_fd, NEWUSER, 0, 0, 0) < 0:
        raise OSError(ffi.errno, f"setns: {os.strerror(ffi.errno)}")
