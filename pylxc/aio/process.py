"""Processes on the loop, and their streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pylxc.process
from pylxc.aio.loop import run_steps
from pylxc.aio.views import ScopedView, method
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import readable, steps_of, writable

if TYPE_CHECKING:
    from typing import IO

    from pylxc.aio.container import Container


class Process(ScopedView):
    r"""A process whose streams are read and written on the loop: a view of the :class:`pylxc.Process` in ``process``.

    ``stdin`` is a :class:`Writer`, ``stdout`` and ``stderr`` are :class:`Reader`, or None where they were not pipes.
    As an async context manager it ends with the block: what still runs then is killed.

    Example:
        >>> async with pylxc.aio.popen("host", ["cat"]) as process:                 # doctest: +SKIP
        ...     await process.stdin.write(b"hello\n")
        ...     await process.stdout.readline()
        b'hello\n'

    """

    def __init__(self, process: pylxc.process.Process) -> None:
        self.process = self._object = process
        self.stdin = None if process.stdin is None else Writer(process.stdin)
        self.stdout = None if process.stdout is None else Reader(process.stdout)
        self.stderr = None if process.stderr is None else Reader(process.stderr)

    @property
    def args(self) -> tuple[str, ...]:
        """What is executed."""
        return self.process.args

    @property
    def pid(self) -> int:
        """Its pid on the host."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, 128 + n for signal n; None until :meth:`wait` or :meth:`communicate` has come back."""
        return self.process.returncode

    @property
    def container(self) -> Container:
        """The container that it runs in."""
        from pylxc.aio.container import Container  # noqa: PLC0415  which makes processes

        return Container(self.process.container)

    wait = method(pylxc.process.Process.wait)
    send_signal = method(pylxc.process.Process.send_signal)
    terminate = method(pylxc.process.Process.terminate)
    kill = method(pylxc.process.Process.kill)
    resize = method(pylxc.process.Process.resize)

    async def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002  pylxc's
        """Feed ``input``, read both streams to their end, wait. See :meth:`pylxc.Process.communicate`.

        What a Reader has taken from the pipe and not given out comes first.
        """
        stdout, stderr = await run_steps(steps_of(self.process.communicate, input, timeout))
        rest = [b"" if reader is None else reader.take() for reader in (self.stdout, self.stderr)]
        return rest[0] + stdout, rest[1] + stderr

    def __repr__(self) -> str:
        return f"<aio.{repr(self.process)[1:]}"


class Reader:
    """Reads what a process writes, on the loop. An async iterator over the lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = b""
        os.set_blocking(file.fileno(), False)

    def take(self) -> bytes:
        """Return what was taken from the pipe already, and not given out."""
        taken, self._buffer = self._buffer, b""
        return taken

    async def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes as soon as there are some, b"" at the end; without ``size`` all that comes."""
        if size < 0:
            while await self._more():
                pass
            return self.take()
        if size and not self._buffer:
            await self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def readline(self) -> bytes:
        r"""Return a line with its ``\n``; the last one may have none; b"" at the end."""
        looked = 0
        while (at := self._buffer.find(b"\n", looked)) < 0:
            looked = len(self._buffer)
            if not await self._more():
                return self.take()
        line, self._buffer = self._buffer[: at + 1], self._buffer[at + 1 :]
        return line

    async def _more(self) -> bool:
        """Wait for more and add it to the buffer; False at the end."""
        while True:
            await run_steps(readable(self._file.fileno(), None))
            try:
                chunk = runtime.read_or_end(self._file.fileno(), runtime.CHUNK)
            except BlockingIOError:  # another task was faster
                continue
            self._buffer += chunk
            return bool(chunk)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class Writer:
    """Writes to a process's standard input, on the loop."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        os.set_blocking(file.fileno(), False)

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; comes back when the pipe has taken it. Raises BrokenPipeError: nobody reads it."""
        rest = memoryview(data)
        while rest:
            await run_steps(writable(self._file.fileno()))
            try:
                rest = rest[os.write(self._file.fileno(), rest[: runtime.CHUNK]) :]
            except BlockingIOError:  # another task was faster
                continue

    def close(self) -> None:
        """Close it: the process reads its end. A second time does nothing."""
        self._file.close()
