"""Opens a process's standard streams: what ``stdin=``, ``stdout=`` and ``stderr=`` may be, as in ``subprocess``.

A process on a terminal of its own has that for all three; here are then the caller's copies of its other end.

Invariant: every descriptor opened here is closed by :meth:`StreamSet.close_childs` or handed to the caller through
``pipes``, whichever way the start goes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO

    StreamOption = int | IO[Any] | None

PIPE = -1  # subprocess.PIPE
STDOUT = -2  # subprocess.STDOUT: standard error goes where standard output goes
DEVNULL = -3  # subprocess.DEVNULL
INHERIT = -4  # the caller's own stream, whatever it is

DEFAULT_SIZE = (24, 80)
_SIZE_LIMIT = 65535  # struct winsize, ioctl_tty(2)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (rows, columns) of a terminal. Raises SpecError where they are none."""
    remedy = f"give (rows, columns), each from 0 to {_SIZE_LIMIT}"
    try:
        rows, columns = size
    except (TypeError, ValueError) as error:
        raise SpecError("terminal_size", size, remedy) from error
    for number in (rows, columns):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _SIZE_LIMIT:
            raise SpecError("terminal_size", size, remedy)
    return rows, columns


def set_size(terminal_fd: int, size: tuple[int, int]) -> None:
    """Change the (rows, columns) of the terminal behind a descriptor (ioctl_tty(2))."""
    import fcntl  # noqa: PLC0415  not on the start path
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))


class StreamSet:
    """Three streams on their way to a process: ``childs`` are its ends (-1 = /dev/null), ``pipes`` the caller's.

    ``size`` is that of the process's terminal (rows, columns), None: it has none. ``copy``: what it writes is to be
    passed on to this, by the one who sees it through.
    """

    NAMES = ("stdin", "stdout", "stderr")
    size: tuple[int, int] | None = None
    copy: Callable[[str, bytes], object] | None = None

    def __init__(self, stdin: StreamOption, stdout: StreamOption, stderr: StreamOption) -> None:
        self.childs = [-1, -1, -1]
        self.pipes: dict[str, int] = {}
        self._opened: list[int] = []
        try:
            for number, option in enumerate((stdin, stdout, stderr)):
                self.childs[number] = self._open(number, option)
        except BaseException:
            self.close()
            raise

    def _open(self, number: int, option: StreamOption) -> int:
        name = self.NAMES[number]
        if option is None or option == DEVNULL:
            return -1
        if option == INHERIT:
            return number
        if option == STDOUT and name == "stderr":
            return self.childs[1]
        if option == PIPE:
            reading, writing = os.pipe()
            ours, theirs = (writing, reading) if name == "stdin" else (reading, writing)
            self.pipes[name] = ours
            self._opened.append(theirs)
            return theirs
        fd = option if isinstance(option, int) else _fileno(name, option)
        if fd < 0:
            raise SpecError(name, option, "give a file, a descriptor, PIPE, DEVNULL or INHERIT")
        return fd

    def __enter__(self) -> StreamSet:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is the process's when it was started in the block, else everything."""
        if kind is None:
            self.close_childs()
        else:
            self.close()

    def connect(self, terminal_fd: int) -> None:
        """Take what the process's terminal gives, once it runs; without a terminal there is nothing to do."""

    def close_childs(self) -> None:
        """Close the process's ends in this process."""
        for fd in self._opened:
            os.close(fd)
        self._opened.clear()

    def close(self) -> None:
        """Close everything: the process was not started."""
        self.close_childs()
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes.clear()


class TerminalStreams(StreamSet):
    """The streams of a process on a terminal of its own: what is piped becomes a copy of the terminal's other end.

    With ``seen_through``, standard output may also be a file, a descriptor or INHERIT: somebody copies to it. Standard
    error is the terminal too, so nothing ever comes on it.
    """

    def __init__(
        self,
        stdin: StreamOption,
        stdout: StreamOption,
        stderr: StreamOption,
        size: tuple[int, int] | None = None,
        *,
        seen_through: bool = False,
    ) -> None:
        super().__init__(None, None, None)
        self.size = check_size(DEFAULT_SIZE if size is None else size)
        self._wanted = [name for name, option in (("stdin", stdin), ("stdout", stdout)) if option == PIPE]
        self._target = -1
        if seen_through and stdout != PIPE:
            self._wanted.append("stdout")  # it must be read, or the process would stand still
            self._target = self._open(1, stdout)
            self.copy = self._copy
            return
        for name, option in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if option not in (PIPE, DEVNULL, None) and not (name == "stderr" and (seen_through or option == STDOUT)):
                raise SpecError(name, option, "with tty=True it is the terminal; leave it out, and copy what comes")

    def connect(self, terminal_fd: int) -> None:
        """Make the copies that the caller reads and writes."""
        for name in self._wanted if terminal_fd >= 0 else ():
            self.pipes[name] = os.dup(terminal_fd)

    def _copy(self, _: str, data: bytes) -> None:
        """Write output to the caller's file or descriptor, if there is one."""
        rest = memoryview(data)
        while rest and self._target >= 0:
            rest = rest[os.write(self._target, rest) :]


def open_streams(  # noqa: PLR0913  three streams and a terminal
    stdin: StreamOption,
    stdout: StreamOption,
    stderr: StreamOption,
    *,
    tty: bool,
    size: tuple[int, int] | None = None,
    seen_through: bool = False,
) -> StreamSet:
    """Return the streams of a process, on a terminal or not; see :class:`TerminalStreams`."""
    if tty:
        return TerminalStreams(stdin, stdout, stderr, size, seen_through=seen_through)
    if size is not None:
        raise SpecError("terminal_size", size, "there is no terminal; give tty=True with it")
    return StreamSet(stdin, stdout, stderr)


def _fileno(name: str, file: IO[Any]) -> int:
    try:
        flush = getattr(file, "flush", None)
        if flush is not None and file.writable():
            flush()
        return file.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise SpecError(name, file, f"it has no descriptor ({error}); give a real file, or PIPE and copy it") from error
