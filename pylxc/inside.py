"""Python inside a container's namespaces: a function in a fork of this process, or the calling thread for a while.

Invariant: no code and no name service of the container is ever loaded, for its files are never seen from here; whatever
happens to a call, its fork is not left.
"""

from __future__ import annotations

import array
import io
import os
import pickle
import socket
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.errors import Conflict, SpecError, UnsupportedError
from pylxc.linux import CloneFlag, setns
from pylxc.runtime import rootless
from pylxc.runtime.waiting import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import TypeVar

    from pylxc.launching import Launching
    from pylxc.runtime.waiting import Waiting

    T = TypeVar("T")

NAMESPACES = {"net": CloneFlag.NEWNET, "ipc": CloneFlag.NEWIPC, "uts": CloneFlag.NEWUTS}
_OTHERS = frozenset(("mnt", "pid", "user", "cgroup", "time"))
_CHUNK = 1 << 16
_SIZE = struct.Struct("=Q")
_MOST_SOCKETS = 253  # descriptors that one message may carry (unix(7))
SIGKILL, PR_SET_PDEATHSIG = 9, 1


def _flags(namespaces: Collection[str]) -> CloneFlag:
    flags = CloneFlag(0)
    for name in sorted(namespaces):
        if name in _OTHERS:
            reason = "Python would load the container's code, or be seen by its processes; use exec"
            raise UnsupportedError(f"namespaces={name!r}", reason)
        if name not in NAMESPACES:
            raise SpecError("namespaces", name, f"give some of {', '.join(NAMESPACES)}")
        flags |= NAMESPACES[name]
    return flags


def _enter(name: str, pid_fd: int, flags: CloneFlag) -> None:
    """Enter namespaces of a container's process; who is not root, with the user namespace that they belong to."""
    try:
        setns(pid_fd, flags if rootless.is_privileged() else flags | CloneFlag.NEWUSER)
    except ProcessLookupError as error:
        raise Conflict(name, "ended meanwhile; start it first") from error


@contextmanager
def network_namespace(container: Launching) -> Iterator[None]:
    """Let the calling thread be in the container's network until the block is left."""
    if not rootless.is_privileged():
        remedy = "for the machine's root only; use call() or connect(), which work for everybody"
        raise UnsupportedError("a thread in a container's network", remedy)
    thread, own = threading.get_ident(), os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid_fd = container._pid_fd()  # noqa: SLF001  one of the object model
        try:
            _enter(container.name, pid_fd, CloneFlag.NEWNET)
        finally:
            os.close(pid_fd)
        try:
            yield
        finally:
            if threading.get_ident() != thread:
                raise RuntimeError("the block was left by another thread than the one that is in the network")
            setns(own, CloneFlag.NEWNET)
    finally:
        os.close(own)


# -- a call ------------------------------------------------------------------------------------------------------------


@frozen
class _Call:
    """What is called, and where: ``pid_fd`` is the main process of the container called ``name``."""

    name: str
    pid_fd: int
    flags: CloneFlag
    function: Callable[..., object]
    args: tuple[object, ...]

    def outcome(self) -> tuple[bool, Any]:
        """In the fork: enter and call. (True, the value), or (False, the exception)."""
        try:
            _enter(self.name, self.pid_fd, self.flags)
            _die_with_parent()
            return True, self.function(*self.args)
        except BaseException as error:  # noqa: BLE001  raised in the parent
            return False, error


def call(
    container: Launching, function: Callable[..., T], args: tuple[object, ...], namespaces: Collection[str]
) -> Waiting[T]:
    """Call a function in a fork of this process that is in namespaces of the container."""
    flags = _flags(namespaces)
    pid_fd = container._pid_fd()  # noqa: SLF001  one of the object model
    try:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                pid = _fork(theirs, _Call(container.name, pid_fd, flags, function, args))
            try:
                data, fds = yield from _receive(ours)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)  # it is about to end, or nobody waits for it any more
                os.waitpid(pid, 0)
    finally:
        os.close(pid_fd)
    if not data:
        raise Conflict(container.name, "the process of the call was killed before it had an answer")
    worked, value = _Reader(io.BytesIO(data), fds).load()
    if not worked:
        raise value
    return value  # type: ignore[no-any-return]


def _fork(theirs: socket.socket, call: _Call) -> int:
    _flush()  # else what the streams hold would be written twice
    pid = rootless.fork()
    if pid:
        return pid
    status = 1
    try:
        _answer(theirs, call.outcome())
        status = 0
    finally:
        os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _answer(theirs: socket.socket, outcome: tuple[bool, Any]) -> None:
    """In the fork: send the outcome, its size first, with the sockets in it."""
    _flush()
    try:
        data, sockets = _written(outcome)
    except Exception as error:  # noqa: BLE001  whatever an object says to being pickled
        what = "the value" if outcome[0] else f"the exception {outcome[1]!r}"
        data, sockets = _written((False, TypeError(f"{what} cannot come back from a call: {error}")))
    fds = array.array("i", [each.fileno() for each in sockets])
    theirs.sendmsg([_SIZE.pack(len(data))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
    theirs.sendall(data)


def _die_with_parent() -> None:
    """See to it that the fork is not left when this process is killed (prctl(2)); a change of ids takes it back."""
    import ctypes  # noqa: PLC0415  in the fork only

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)


class _Writer(pickle.Pickler):
    """Pickles a value whose sockets travel beside it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.sockets: list[socket.socket] = []

    def persistent_id(self, obj: object) -> int | None:
        """Return the number of a socket among those that travel."""
        if not isinstance(obj, socket.socket):
            return None
        if obj not in self.sockets:
            if len(self.sockets) == _MOST_SOCKETS:
                raise ValueError(f"it has more than {_MOST_SOCKETS} sockets")
            self.sockets.append(obj)
        return self.sockets.index(obj)


class _Reader(pickle.Unpickler):
    """Makes the value again, with the sockets that came."""

    def __init__(self, file: io.BytesIO, fds: list[int]) -> None:
        super().__init__(file)
        self._sockets = [socket.socket(fileno=fd) for fd in fds]

    def persistent_load(self, pid: int) -> socket.socket:
        """Return the socket with that number."""
        return self._sockets[pid]


def _written(outcome: tuple[bool, Any]) -> tuple[bytes, list[socket.socket]]:
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(outcome)
    return file.getvalue(), writer.sockets


def _receive(ours: socket.socket) -> Waiting[tuple[bytes, list[int]]]:
    """Wait for the outcome: its bytes and descriptors; b"" where the fork was killed."""
    yield from readable(ours.fileno(), None)
    passed = array.array("i")
    room = socket.CMSG_SPACE(_MOST_SOCKETS * passed.itemsize)
    head, ancillary, _, _ = ours.recvmsg(_SIZE.size, room, socket.MSG_CMSG_CLOEXEC)
    for _, _, words in ancillary:
        passed.frombytes(words)
    left = _SIZE.unpack(head)[0] if head else 0
    data = bytearray()
    while left > len(data):
        yield from readable(ours.fileno(), None)
        chunk = ours.recv(_CHUNK)
        if not chunk:
            return b"", passed.tolist()
        data += chunk
    return bytes(data), passed.tolist()
