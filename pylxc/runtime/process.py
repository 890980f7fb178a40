"""Talks to a process while it runs: moves its standard streams, waits for its end.

Invariant: no threads; one poll loop over pipes, the control socket and a deadline. Whatever happens in it, the caller's
``finally`` can end the process with :func:`finish`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.runtime.native import Child, Ending

CHUNK = 1 << 16
SIGKILL = 9

_kept: set[Child] = set()


class DeadlineError(Exception):
    """The deadline passed; what was read so far is in the buffers."""


class Streams:
    """The caller's ends of a process's pipes, and what was read from them.

    ``stdout`` and ``stderr`` are descriptors or -1; ``stdin`` likewise, fed from ``data``.
    """

    def __init__(
        self,
        *,
        stdin: int = -1,
        data: bytes = b"",
        stdout: int = -1,
        stderr: int = -1,
        on_output: Callable[[str, bytes], object] | None = None,
        keep: bool = True,
    ) -> None:
        self.keep = keep
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

    def read_from(self, fd: int) -> None:
        """Take what a pipe holds; closes it at its end."""
        chunk = os.read(fd, CHUNK)
        if not chunk:
            del self.sources[fd]
            os.close(fd)
            return
        name = self.sources[fd]
        if self.keep:
            self.captured[name].append(chunk)
        if self.on_output is not None:
            self.on_output(name, chunk)

    def feed(self) -> None:
        """Give the process what its standard input takes; a process that does not read on is no error."""
        try:
            self.data = self.data[os.write(self.stdin, self.data[:CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.data = memoryview(b"")
        if not self.data:
            os.close(self.stdin)
            self.stdin = -1


def pump(child: Child, streams: Streams, deadline: float | None = None) -> Ending | None:
    """Move the streams until the process has ended; returns how it ended, with all it wrote in the buffers.

    ``deadline`` is in ``time.monotonic()``'s seconds. None as the result: the monitor was killed.

    Raises:
        DeadlineError: the deadline passed.
    """
    ending: Ending | None = None
    ended = False
    poll = select.poll()
    poll.register(child.control_fd, select.POLLIN)
    for fd in streams.sources:
        poll.register(fd, select.POLLIN)
    if streams.stdin >= 0:
        os.set_blocking(streams.stdin, False)
        poll.register(streams.stdin, select.POLLOUT)
    while not ended:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = poll.poll(timeout)
        if not ready and timeout is not None:
            raise DeadlineError
        for fd, _ in ready:
            if fd == child.control_fd:
                ending, ended = native.read_ending(child), True
            elif fd == streams.stdin:
                streams.feed()
                if streams.stdin < 0:
                    poll.unregister(fd)
            elif fd in streams.sources:
                streams.read_from(fd)
                if fd not in streams.sources:
                    poll.unregister(fd)
    drain(streams)
    return ending


def drain(streams: Streams) -> None:
    """Read what the pipes of a process that has ended still hold.

    It does not wait for their end: a background child of an exec may hold a pipe for as long as it lives.
    """
    for fd in tuple(streams.sources):
        while fd in streams.sources and wait_readable(fd, 0):
            streams.read_from(fd)


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Wait until a descriptor (a pidfd: until the process has ended) is readable; False when ``timeout`` (s) passed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))


def finish(child: Child) -> None:
    """End a process whatever its state: kills it, waits for its monitor, closes what was open. Never raises."""
    if child.monitor_fd < 0:
        return
    with contextlib.suppress(OSError):
        native.send_signal(child.pid_fd, SIGKILL)
    settle(child)


def settle(child: Child) -> None:
    """Wait for the monitor of a process that has ended, reaps it, closes what was open."""
    if child.monitor_fd >= 0:
        wait_readable(child.monitor_fd, None)
        native.reap(child.monitor_fd)
    _kept.discard(child)
    child.close()


def keep(child: Child) -> None:
    """Remember a process that may outlive every object that knows it: its monitor is this process's to reap.

    There is no thread that would: :func:`collect` does it whenever another process is started, as ``subprocess`` does.
    """
    _kept.add(child)


def collect() -> None:
    """Reap the monitors of kept processes that have ended."""
    for child in tuple(_kept):
        if wait_readable(child.monitor_fd, 0):
            settle(child)
