"""Talks to a process while it runs: moves its standard streams, waits for its end.

Invariant: no threads; one loop over pipes, the control socket and a deadline (:mod:`pylxc.runtime.waiting`). Whatever
happens in it, the caller's ``finally`` can end the process with :func:`finish`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

from pylxc.runtime import kept, native
from pylxc.runtime.waiting import Wait, deadline_of, readable, steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting

CHUNK = 1 << 16
TERMINAL_HOLDS = 4 * CHUNK  # more than the kernel keeps for a reader
SIGKILL = 9
PATIENCE = 1.0  # s


class DeadlineError(Exception):
    """The deadline passed; what was read so far is in the buffers."""


class Streams:
    """The caller's ends of a process's pipes, and what was read from them.

    ``stdout`` and ``stderr`` are descriptors or -1; ``stdin`` likewise, fed from ``data``. ``terminal``: they are the
    other end of its terminal in place of pipes.
    """

    def __init__(  # noqa: PLR0913  three streams and what becomes of them
        self,
        *,
        stdin: int = -1,
        data: bytes = b"",
        stdout: int = -1,
        stderr: int = -1,
        on_output: Callable[[str, bytes], object] | None = None,
        keep: bool = True,
        terminal: bool = False,
    ) -> None:
        self.keep = keep
        self.terminal = terminal
        self.stdin = stdin
        self.data = memoryview(data)
        self.sources = {fd: name for fd, name in ((stdout, "stdout"), (stderr, "stderr")) if fd >= 0}
        self.captured: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self.on_output = on_output

    def bytes_of(self, name: str) -> bytes:
        """Return everything read from "stdout" or "stderr"."""
        return b"".join(self.captured[name])

    def close(self) -> None:
        """Close what is still open."""
        for fd in (self.stdin, *self.sources):
            if fd >= 0:
                os.close(fd)
        self.stdin = -1
        self.sources = {}

    def read_from(self, fd: int) -> int:
        """Take what a pipe holds, at most a chunk; closes it at its end. Returns the number of bytes.

        Raises BlockingIOError when a terminal, which does not block, holds nothing.
        """
        chunk = read_or_end(fd, CHUNK)
        if not chunk:
            del self.sources[fd]
            os.close(fd)
            return 0
        name = self.sources[fd]
        if self.keep:
            self.captured[name].append(chunk)
        if self.on_output is not None:
            self.on_output(name, chunk)
        return len(chunk)

    def feed(self) -> None:
        """Give the process what its standard input takes; a process that does not read on is no error."""
        try:
            self.data = self.data[os.write(self.stdin, self.data[:CHUNK]) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.data = memoryview(b"")
        if not self.data:
            os.close(self.stdin)
            self.stdin = -1


def pump(end: int, streams: Streams, deadline: float | None = None) -> Waiting[None]:
    """Move the streams until the process has ended, that is, ``end`` is readable; all it wrote is in the buffers then.

    ``deadline`` is in ``time.monotonic()``'s seconds.

    Raises:
        DeadlineError: the deadline passed.
    """
    if streams.stdin >= 0:
        os.set_blocking(streams.stdin, False)
    ready: Collection[int] = ()
    while end not in ready:
        ready = yield Wait((end, *streams.sources), (streams.stdin,) if streams.stdin >= 0 else (), deadline)
        if not ready:
            raise DeadlineError
        for fd in ready:
            if fd == streams.stdin:
                streams.feed()
            elif fd in streams.sources:
                with contextlib.suppress(BlockingIOError):
                    streams.read_from(fd)
    drain(streams)


def drain(streams: Streams) -> None:
    """Read what the pipes of a process that has ended still hold, and no more.

    A background child of an exec may hold a pipe, and write to it, for as long as it lives.
    """
    if streams.terminal:
        _drain_terminal(streams)
        return
    for fd in tuple(streams.sources):
        left = _bytes_in(fd)
        while left > 0:
            left -= streams.read_from(fd)


def _drain_terminal(streams: Streams) -> None:
    """Read the rest of a terminal. It comes by way of a kernel thread: a read waits for that, FIONREAD does not."""
    for fd in tuple(streams.sources):
        os.set_blocking(fd, False)
        left = TERMINAL_HOLDS
        with contextlib.suppress(BlockingIOError):
            while left > 0 and (count := streams.read_from(fd)):
                left -= count


def read_or_end(fd: int, size: int) -> bytes:
    """Read from a pipe, or from a terminal's other end, which says EIO where a pipe comes to its end: then b""."""
    try:
        return os.read(fd, size)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _bytes_in(fd: int) -> int:
    """Return how many bytes a pipe holds (FIONREAD, ioctl_tty(2))."""
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Do as :func:`~pylxc.runtime.waiting.readable` does, at once."""
    return bool(Wait((fd,), until=deadline_of(timeout)).poll())


@waits
def finish(child: Child) -> Waiting[None]:
    """End a process whatever its state: kills it, waits for its monitor, closes what was open. Never raises."""
    if child.monitor_fd < 0:
        return
    with contextlib.suppress(OSError):
        native.send_signal(child.pid_fd, SIGKILL)
    yield from steps_of(settle, child)


@waits
def settle(child: Child) -> Waiting[None]:
    """Wait for the monitor of a process that has ended, reap it, close what was open. Any number may do so at once.

    What interrupts this comes through when it is done, for it takes a moment only; a second time at once.
    """
    ended = False
    try:
        ended = child.monitor_fd < 0 or (yield from readable(child.monitor_fd, None))
    except BaseException:
        ended = yield from steps_of(_await_monitor, child)
        raise
    finally:
        if ended:
            kept.close(child)
        elif not child.is_let_go:
            kept.keep(child)


@waits
def _await_monitor(child: Child) -> Waiting[bool]:
    if child.monitor_fd >= 0:
        yield from readable(child.monitor_fd, None)
        return (yield from readable(child.monitor_fd, None))
    return True


@waits
def abandon(child: Child) -> Waiting[None]:
    """Give up a process that was begun and has not started: its monitor ends it, and itself.

    It is told to: a fork of this process may hold the socket open. One that does not listen was released just before,
    and is killed; the process follows it.
    """
    ended = child.monitor_fd < 0
    try:
        if not ended:
            with contextlib.suppress(OSError):
                native.release(child, -1)
            ended = yield from readable(child.monitor_fd, PATIENCE)
    finally:
        if not ended:
            native.send_signal(child.monitor_fd, SIGKILL)
        yield from steps_of(settle, child)
