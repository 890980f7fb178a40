"""The network stack that the networks of an ordinary user are in: one for each store, in a namespace of its own.

Nobody but root may have bridges on the host. In a user namespace of its own (:mod:`pylxc.runtime.rootless`) an ordinary
user may have them, in a network namespace that belongs to that one; a program (:mod:`pylxc.runtime.uplink`) connects it
to the host's network. Moving a link from there to a container takes rights over both network namespaces. So the user
namespaces of containers on networks lie in that of the stack: their monitors enter that one in place of their caller's,
whose ids are the same. A container has a namespace of its own below it, and no right over the stack.

It is not a daemon: whoever has a lock on the file ``stack`` of the store keeps it (csrc/helper/stack.c), and each
monitor of a container on networks has one, by a descriptor. It is there while any of them is, however they end, and
networks in it are made again when they are needed, as on the host after a boot.

Invariant: the file says which process the stack is found by, or nothing. It is read under a lock, so what it says is
there and stays. What the user asks of it in the kernel goes by sockets that were made in it, for which the user's
rights over its own user namespace are enough (netlink(7)); no process of the caller's enters.

Source: user_namespaces(7), network_namespaces(7), flock(2).
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.errors import SpawnError, StoreError, UnsupportedError
from pylxc.identity import ProcessIdentity, own_identity, process_start_time
from pylxc.runtime import joining, native, network, resolver, rootless, uplink
from pylxc.runtime.plan import PLAN_STACK, STACK, Plan

if TYPE_CHECKING:
    from pylxc.runtime.native import Child

PATIENCE = 20.0  # s, for a program that makes one link
_RECORD_SIZE = 256  # bytes; more than it has
_ROUTE, _NETFILTER = 0, 12  # NETLINK_*
_ROUTES_CHANGED = 0x440  # RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE of rtnetlink(7)


@frozen
class _Record:
    """What the file says: the process that the stack is found by, whether it has an uplink, one that answers DNS."""

    process: ProcessIdentity
    has_uplink: bool
    answers_dns: bool

    def encode(self) -> bytes:
        one = self.process
        return f"{one.pid} {one.start_time} {one.boot_id} {self.has_uplink:d} {self.answers_dns:d}\n".encode()


def _decode(data: bytes) -> _Record | None:
    words = data.decode("ascii", "replace").split()
    try:
        pid, start_time, boot, has_uplink, answers_dns = words
        return _Record(ProcessIdentity(int(pid), int(start_time), boot), has_uplink == "1", answers_dns == "1")
    except ValueError:  # nothing: it has ended; or half of it: its maker was killed
        return None


class Shared(network.Stack):
    """A stack that is there, and is kept while this object is: until :meth:`close`, or its end.

    ``has_uplink``: it is connected to the host's network; ``answers_dns``: at ``uplink.DNS`` name servers are asked
    that are on the host's loopback.
    """

    def __init__(self, record: _Record, member: int) -> None:
        self._fds = [member]
        self.has_uplink, self.answers_dns = record.has_uplink, record.answers_dns
        self._sockets: dict[int, int] = {}
        pid = record.process.pid
        try:
            self._pid_fd = self._own(native.pidfd_open(pid))
            self._netns = self._own(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            # Whoever is root of a namespace that somebody else made is in that of the stack already.
            has_own = rootless.namespace().fd >= 0
            self._userns = self._own(joining.user_namespace(pid)) if has_own else -1
        except BaseException:
            self.close()
            raise

    def _own(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def route(self) -> int:
        """Return its NETLINK_ROUTE socket."""
        return self._socket(_ROUTE)

    def netfilter(self) -> int:
        """Return its NETLINK_NETFILTER socket."""
        return self._socket(_NETFILTER)

    def _socket(self, protocol: int) -> int:
        found = self._sockets.get(protocol)
        if found is None:
            found = self._sockets[protocol] = self._own(self.make_socket(protocol))
        return found

    def make_socket(self, protocol: int) -> int:
        """Return a new netlink socket in it, which is the caller's. Raises OSError."""
        return native.socket_in(self._pid_fd, socket.AF_NETLINK, socket.SOCK_RAW, protocol)

    def lend(self, plan: Plan) -> int:
        """Let the plan's process have what it needs to be on networks, and keep the stack while it lives.

        Returns the number of the stack's network namespace there.
        """
        plan.descriptor(self._fds[0])
        if self._userns >= 0:
            plan.userns_fd = plan.descriptor(self._userns)
        return plan.descriptor(self._netns)

    def close(self) -> None:
        """Keep it no longer."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def __del__(self) -> None:
        """Close what nobody closed."""
        self.close()


def _path(root: str) -> str:
    return f"{root}/stack"


def find(root: str) -> Shared | None:
    """Return the stack of a store; None: there is none now. Raises StoreError, OSError."""
    path = _path(root)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(path, f"cannot be written ({error.strerror}); its locks keep the network stack") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        record = _decode(os.pread(fd, _RECORD_SIZE, 0))
        if record is None or not record.process.is_alive():
            os.close(fd)
            return None
    except BaseException:
        os.close(fd)
        raise
    try:
        return Shared(record, fd)
    except (FileNotFoundError, ProcessLookupError):  # it has just been killed
        return None


def get(root: str) -> Shared:
    """Return the stack of a store; it is made where there is none. Whoever may make it holds the lock of the networks.

    Raises UnsupportedError, StoreError, OSError.
    """
    found = find(root)
    return _make(root) if found is None else found


def _make(root: str) -> Shared:
    program = uplink.find() if not uplink.lack() else None
    ways: set[int] = {way.to.version for way in network.ways_out()}
    dns = not resolver.reachable(ipv6=True)[1]
    ipv6 = 6 in ways  # noqa: PLR2004  IP versions
    argv = program.argv(ipv6=ipv6, dns=dns) if program is not None else []
    path, words = _path(root), os.memfd_create("uplink")
    member = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(member, fcntl.LOCK_SH)
        child = _start(path, argv, words)
        try:
            process = ProcessIdentity(child.pid, process_start_time(child.pid), own_identity().boot_id)
            record = _Record(process, has_uplink=program is not None, answers_dns=dns)
            os.ftruncate(member, 0)
            os.pwrite(member, record.encode(), 0)
            made = Shared(record, os.dup(member))
            if program is not None:
                known = ways if program.knows_ipv6 else ways - {6}
                _await_uplink(made, child, program.path, words, known)
        except BaseException:
            os.ftruncate(member, 0)  # nobody is to find it
            raise
        finally:
            child.close()
    finally:
        os.close(member)
        os.close(words)
    return made


def _start(path: str, argv: list[str], words: int) -> Child:
    """Start the processes that keep a stack; the user's namespace of ids is theirs. ``words``: for standard error."""
    plan = Plan(flags=PLAN_STACK)
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # not the caller's: the lock that ends it must be its own
    try:
        plan.add(STACK, *argv, a=plan.descriptor(file), subject="the network stack of an ordinary user's networks")
        rootless.apply(plan)
        child = native.spawn(plan, (-1, -1, words))
    except SpawnError as error:
        remedy = f"{error}; the kernel must let ordinary users have network namespaces (sysctl user.max_net_namespaces)"
        raise UnsupportedError("networks of an ordinary user", remedy) from error
    finally:
        os.close(file)
    native.await_end(child.monitor_fd)  # which has left the keeper to itself
    return child


def _await_uplink(made: Shared, child: Child, program: str, words: int, versions: set[int]) -> None:
    """Wait until a stack has ways out for these IP versions. None: the host has no way out itself, so far.

    Raises UnsupportedError when its program has ended, with what that said.
    """
    deadline = time.monotonic() + PATIENCE
    with socket.socket(fileno=made.make_socket(_ROUTE)) as changes:
        changes.bind((0, _ROUTES_CHANGED))
        while not versions <= {way.to.version for way in network.ways_out(made)}:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([changes.fileno(), child.control_fd], [], [], max(left, 0))
            if child.control_fd in ready or not ready:
                what = "has ended" if ready else f"has made no way out within {PATIENCE:.0f} s"
                said = os.pread(words, 1000, 0).decode("utf-8", "replace").strip()
                remedy = 'give network="none", or an internal network; '
                raise UnsupportedError("networks that lead out of the host", f"{remedy}{program} {what}: {said}")
            changes.recv(1 << 16)
