"""A process in a container whose streams are in the caller's hands: what ``popen`` gives.

Invariant: shaped like ``subprocess.Popen``; once ``returncode`` is set nothing of the process is left.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pylxc.errors import TimeoutExpired
from pylxc.runtime import native, record
from pylxc.runtime import process as runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO, Literal

    from pylxc.container import Container
    from pylxc.runtime.native import Child

SIGKILL, SIGTERM = 9, 15


class Process:
    """A running process, like ``subprocess.Popen``.

    ``args`` (tuple of str), ``pid`` (on the host), ``returncode`` (int, 128 + n for signal n, None while it runs),
    ``stdin``/``stdout``/``stderr`` (binary files, or None where they were not pipes), ``container``.
    As a context manager it ends with the block: what still runs then is killed.

    Example:
        >>> with pylxc.popen("host", ["cat"], stdin=subprocess.PIPE) as process:    # doctest: +SKIP
        ...     out, err = process.communicate(b"hello")
    """

    def __init__(
        self,
        child: Child,
        args: tuple[str, ...],
        container: Container,
        *,
        pipes: dict[str, int],
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self.args = args
        self.container = container
        self.returncode: int | None = None
        self.pid = child.pid
        self._child = child
        self._on_end = on_end
        self._flow: runtime.Streams | None = None  # what communicate is in the middle of
        self.stdin: IO[bytes] | None = _file(pipes.get("stdin", -1), "wb")
        self.stdout: IO[bytes] | None = _file(pipes.get("stdout", -1), "rb")
        self.stderr: IO[bytes] | None = _file(pipes.get("stderr", -1), "rb")

    def poll(self) -> int | None:
        """Return the exit status if the process has ended, else None; does not wait."""
        if self.returncode is None and runtime.wait_readable(self._child.control_fd, 0):
            self._end(native.read_ending(self._child))
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and returns the exit status. ``timeout`` in seconds.

        Raises:
            TimeoutExpired: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            if not runtime.wait_readable(self._child.control_fd, timeout):
                raise TimeoutExpired(" ".join(self.args), timeout or 0.0)
            self._end(native.read_ending(self._child))
        assert self.returncode is not None  # noqa: S101  set by _end
        return self.returncode

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002  subprocess's name
        """Feed ``input``, read both streams to their end, wait. Return (stdout, stderr), b"" where not piped.

        Raises:
            TimeoutExpired: it still runs, and nothing is lost, as with ``subprocess``: call again.
        """
        flow = self._flow = self._flow or self._begin_flow(input)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            if self.returncode is None:
                self._end(runtime.pump(self._child, flow, deadline))
            else:
                runtime.drain(flow)
        except runtime.DeadlineError:
            out, err = flow.bytes_of("stdout"), flow.bytes_of("stderr")
            raise TimeoutExpired(" ".join(self.args), timeout or 0.0, out, err) from None
        flow.close()
        return flow.bytes_of("stdout"), flow.bytes_of("stderr")

    def _begin_flow(self, data: bytes | None) -> runtime.Streams:
        """Take the streams over from the files: ``communicate`` moves them from here on, called once or again."""
        flow = runtime.Streams(
            stdin=_take(self, "stdin"), data=data or b"", stdout=_take(self, "stdout"), stderr=_take(self, "stderr")
        )
        if not data and flow.stdin >= 0:
            os.close(flow.stdin)
            flow.stdin = -1
        return flow

    def send_signal(self, signal: int) -> None:
        """Send a signal; one that has ended is no error."""
        if self.poll() is None:
            native.send_signal(self._child.pid_fd, signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(SIGKILL)

    def __enter__(self) -> Process:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    continue  # what was buffered for a process that no longer reads
        if self._flow is not None:
            self._flow.close()
        self.kill()
        self.wait()

    def __repr__(self) -> str:
        ended = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<Process {' '.join(self.args)!r} in {self.container.name} {ended}>"

    def _end(self, ending: native.Ending | None) -> None:
        self.returncode = ending.code if ending is not None else record.KILLED
        runtime.settle(self._child)
        if self._on_end is not None:
            self._on_end()


def _file(fd: int, mode: Literal["rb", "wb"]) -> IO[bytes] | None:
    return None if fd < 0 else open(fd, mode)


def _take(process: Process, name: str) -> int:
    """Take the descriptor out of one of the process's files; -1 when there is none."""
    file: IO[bytes] | None = getattr(process, name)
    if file is None or file.closed:
        return -1
    fd = os.dup(file.fileno())
    file.close()
    return fd
