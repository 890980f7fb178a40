"""A process in a container whose streams are in the caller's hands: what ``popen`` gives.

Invariant: shaped like ``subprocess.Popen``; once ``returncode`` is set nothing of the process is left.
"""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from pylxc.errors import Conflict, TimeoutExpired
from pylxc.runtime import native, record
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import deadline_of, drive, readable, steps_of, waits
from pylxc.scoped import Scoped
from pylxc.streams import check_size, set_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, Literal

    from pylxc.container import Container
    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting

SIGKILL, SIGTERM = 9, 15


class Process(Scoped):
    r"""A running process, like ``subprocess.Popen``.

    ``args`` (tuple of str), ``pid`` (on the host), ``returncode`` (int, 128 + n for signal n, None while it runs),
    ``stdin``/``stdout``/``stderr`` (binary files, or None where they were not pipes), ``container``.
    As a context manager it ends with the block: what still runs then is killed.

    With ``tty=True``, ``stdin`` and ``stdout`` are the other end of its terminal and ``stderr`` is None. A program sees
    the end of its input when ``b"\x04"`` is written at the beginning of a line; closing ``stdin`` says nothing. Lines
    that come back end in ``b"\r\n"``, as on any terminal, and what is written to it is echoed.

    Example:
        >>> with pylxc.popen("host", ["cat"], stdin=subprocess.PIPE) as process:    # doctest: +SKIP
        ...     out, err = process.communicate(b"hello")
        >>> with pylxc.popen("host", ["stty", "size"], tty=True, terminal_size=(50, 132)) as process:  # doctest: +SKIP
        ...     process.stdout.read()
        b'50 132\r\n'
    """

    def __init__(
        self,
        child: Child,
        args: tuple[str, ...],
        container: Container,
        *,
        pipes: dict[str, int],
        on_end: Callable[[], Waiting[object]] | None = None,
    ) -> None:
        self.args = args
        self.container = container
        self.returncode: int | None = None
        self.pid = child.pid
        self._child = child
        self._on_end = on_end
        self._code: int | None = None  # what returncode will be when nothing of the process is left
        self._flow: runtime.Streams | None = None  # what communicate is in the middle of
        self._has_terminal = child.terminal_fd >= 0
        self.stdin: IO[bytes] | None = _file(pipes.get("stdin", -1), "wb")
        self.stdout: IO[bytes] | None = (_terminal_file if self._has_terminal else _reader)(pipes.get("stdout", -1))
        self.stderr: IO[bytes] | None = _file(pipes.get("stderr", -1), "rb")

    def poll(self) -> int | None:
        """Return the exit status if the process has ended, else None; does not wait."""
        if self.returncode is None and (self._code is not None or runtime.wait_readable(self._child.control_fd, 0)):
            drive(self._end())
        return self.returncode

    @waits
    def wait(self, timeout: float | None = None) -> Waiting[int]:
        """Wait for the end and returns the exit status. ``timeout`` in seconds.

        Raises:
            TimeoutExpired: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            if self._code is None and not (yield from readable(self._child.control_fd, timeout)):
                raise TimeoutExpired(" ".join(self.args), timeout or 0.0)
            yield from self._end()
        assert self.returncode is not None  # noqa: S101  set by _end
        return self.returncode

    @waits
    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> Waiting[tuple[bytes, bytes]]:  # noqa: A002  subprocess's name
        """Feed ``input``, read both streams to their end, wait. Return (stdout, stderr), b"" where not piped.

        Raises:
            TimeoutExpired: it still runs, and nothing is lost, as with ``subprocess``: call again.
        """
        flow = self._flow = self._flow or self._begin_flow(input)
        deadline = deadline_of(timeout)
        try:
            if self._code is None:
                yield from self._move(flow, deadline)
                yield from self._end()
            else:
                runtime.drain(flow)
        except runtime.DeadlineError:
            out, err = flow.bytes_of("stdout"), flow.bytes_of("stderr")
            raise TimeoutExpired(" ".join(self.args), timeout or 0.0, out, err) from None
        flow.close()
        return flow.bytes_of("stdout"), flow.bytes_of("stderr")

    def _move(self, flow: runtime.Streams, deadline: float | None) -> Waiting[None]:
        """Move the streams until the process has ended; a copy of the descriptor, for others may wait for it too."""
        end = os.dup(self.fileno())
        try:
            yield from runtime.pump(end, flow, deadline)
        finally:
            os.close(end)

    def _begin_flow(self, data: bytes | None) -> runtime.Streams:
        """Take the streams over from the files: ``communicate`` moves them from here on, called once or again."""
        flow = runtime.Streams(
            stdin=_take(self, "stdin"),
            data=data or b"",
            stdout=_take(self, "stdout"),
            stderr=_take(self, "stderr"),
            terminal=self._has_terminal,
        )
        if not data and flow.stdin >= 0:
            os.close(flow.stdin)
            flow.stdin = -1
        return flow

    def fileno(self) -> int:
        """Return a descriptor that is readable once the process has ended, for ``select``, ``poll`` and event loops.

        It is the process's own, not to be read or closed. Raises ValueError when the end was already learnt of.

        Example:
            >>> select.select([process, process.stdout], [], [])                    # doctest: +SKIP

        """
        if self._child.control_fd < 0:
            raise ValueError("the process has ended; returncode says how")
        return self._child.control_fd

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the process's terminal; what runs in its foreground gets SIGWINCH.

        One that has ended is no error. Raises Conflict when it has no terminal; SpecError for a size that is none.

        Example:
            >>> process = pylxc.popen("host", ["top"], tty=True)                    # doctest: +SKIP
            >>> process.resize(50, 132)                                             # doctest: +SKIP

        """
        size = check_size((rows, columns))
        if not self._has_terminal:
            raise Conflict(" ".join(self.args), "has no terminal; start it with tty=True")
        if self._child.terminal_fd >= 0:
            set_size(self._child.terminal_fd, size)

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

    @waits
    def _leave(self) -> Waiting[None]:
        """Close its streams, kill it if it still runs, and wait until nothing of it is left."""
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except OSError as failure:
                    if failure.errno not in (errno.EPIPE, errno.EIO):
                        raise
                    continue  # what was buffered for a process that no longer reads
        if self._flow is not None:
            self._flow.close()
        self.kill()
        yield from steps_of(self.wait)

    def __repr__(self) -> str:
        ended = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<Process {' '.join(self.args)!r} in {self.container.name} {ended}>"

    def _end(self) -> Waiting[None]:
        """Learn how it ended, and tidy up. A handler of a signal, or another task, may be at it too."""
        if self._code is None:
            ending = native.read_ending(self._child)
            self._code = ending.code if ending is not None else record.KILLED
        yield from steps_of(runtime.settle, self._child)
        if self.returncode is None:
            self.returncode = self._code
            if self._on_end is not None:
                yield from self._on_end()


def _file(fd: int, mode: Literal["rb", "wb"]) -> IO[bytes] | None:
    return None if fd < 0 else open(fd, mode)


def _reader(fd: int) -> IO[bytes] | None:
    return _file(fd, "rb")


class _TerminalReader(io.RawIOBase):
    """Reads a terminal's other end like a pipe: its EIO, when nobody has the terminal open any more, is the end."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")
        return self._fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        try:
            data = runtime.read_or_end(self.fileno(), len(buffer))
        except BlockingIOError:
            return None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        super().close()


def _terminal_file(fd: int) -> IO[bytes] | None:
    return None if fd < 0 else io.BufferedReader(_TerminalReader(fd))


def _take(process: Process, name: str) -> int:
    """Take the descriptor out of one of the process's files; -1 when there is none."""
    file: IO[bytes] | None = getattr(process, name)
    if file is None or file.closed:
        return -1
    fd = os.dup(file.fileno())
    file.close()
    return fd
