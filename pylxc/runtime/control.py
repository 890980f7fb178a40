"""Asks a container's monitor for things: the client of csrc/helper/control.c.

Hides the socket and the messages. Invariant: a request is answered at once or the monitor is gone; nobody waits for
what the monitor does about it.
"""

from __future__ import annotations

import array
import os
import select
import socket
from typing import TYPE_CHECKING

from pylxc._native import ffi, lib

if TYPE_CHECKING:
    from typing import Any

PATIENCE = 10.0  # s; it answers between two looks at its descriptors
NANOSECONDS = 1_000_000_000
NEVER = -1


def stop(directory: str, signal: int, patience: float | None, repeat: float = 0.0) -> bool:
    """Let the monitor end the container for good: it is never started again by its policy.

    The process is sent ``signal`` (0: none) at once, again after each ``repeat`` (s, 0: never), and SIGKILL when
    ``patience`` (s, None: never) has passed; whether the caller lives then or not. A later request takes the place of
    an earlier one. Returns False when there is no monitor.
    """
    nanoseconds = NEVER if patience is None else max(0, round(patience * NANOSECONDS))
    return _ask(directory, lib.PYLXC_REQUEST_STOP, signal, nanoseconds, round(repeat * NANOSECONDS)) is not None


def disown(directory: str) -> bool:
    """Let the container outlive its owner. Returns False when there is no monitor."""
    return _ask(directory, lib.PYLXC_REQUEST_DISOWN) is not None


def standard_input(directory: str) -> int | None:
    """Return the other end of the process's standard input, or of its terminal: a descriptor of the caller's.

    Writes to it may find it full; its description is shared, and does not block. None when there is no monitor. Raises
    OSError (EBADF) where the process has neither.
    """
    fd = _ask(directory, lib.PYLXC_REQUEST_STDIN)
    if fd is not None:
        os.set_blocking(fd, False)
    return fd


def hold(directory: str, fd: int) -> None:
    """Let the monitor keep a copy of a descriptor open for as long as it lives; without a monitor nothing happens."""
    request = ffi.new("struct pylxc_request *", (lib.PYLXC_REQUEST_HOLD, 0, NEVER, 0))
    _send(directory, ffi.buffer(request), fd)


def end_input(directory: str) -> bool:
    """Let the process's standard input end when nobody holds its other end any more. False: there is no monitor."""
    return _ask(directory, lib.PYLXC_REQUEST_END_STDIN) is not None


def _ask(directory: str, kind: int, signal: int = 0, patience: int = NEVER, repeat: int = 0) -> int | None:
    """Send a request; returns the descriptor that was answered with (-1: none), None when there is no monitor."""
    request = ffi.new("struct pylxc_request *", (kind, signal, patience, repeat))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            if not _send(directory, ffi.buffer(request), theirs.fileno()):
                return None
        return _answer(ours)


def _send(directory: str, request: Any, answer: int) -> bool:
    """Send a datagram to the socket in a directory; its path may be longer than an address may be (unix(7))."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [answer]))]
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            asking.sendmsg([request], ancillary, 0, f"/proc/self/fd/{place}/control")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    finally:
        os.close(place)
    return True


def _answer(ours: socket.socket) -> int | None:
    """Wait for the answer; None where the monitor ended without one."""
    answer = ffi.new("struct pylxc_answer *")
    buffer = ffi.buffer(answer)
    passed = array.array("i")
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    if not poll.poll(PATIENCE * 1000):
        raise TimeoutError("the container's monitor does not answer; it may be stopped (SIGSTOP)")
    data, ancillary, _, _ = ours.recvmsg(
        ffi.sizeof("struct pylxc_answer"), socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
    )
    for _, _, words in ancillary:
        passed.frombytes(words)
    fd = passed[0] if passed else -1
    if len(data) != len(buffer):
        return None
    buffer[:] = data
    if answer.errnum:
        raise OSError(answer.errnum, os.strerror(answer.errnum))
    return fd
