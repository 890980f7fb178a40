"""Opens a process's standard streams: what ``stdin=``, ``stdout=`` and ``stderr=`` may be, as in ``subprocess``.

Invariant: every descriptor opened here is closed by :meth:`StreamSet.close_childs` or handed to the caller through
``pipes``, whichever way the start goes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO

    StreamOption = int | IO[Any] | None

PIPE = -1  # subprocess.PIPE
STDOUT = -2  # subprocess.STDOUT: standard error goes where standard output goes
DEVNULL = -3  # subprocess.DEVNULL
INHERIT = -4  # the caller's own stream, whatever it is


class StreamSet:
    """Three streams on their way to a process: ``childs`` are its ends (-1 = /dev/null), ``pipes`` the caller's."""

    NAMES = ("stdin", "stdout", "stderr")

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


def _fileno(name: str, file: IO[Any]) -> int:
    try:
        flush = getattr(file, "flush", None)
        if flush is not None and file.writable():
            flush()
        return file.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise SpecError(name, file, f"it has no descriptor ({error}); give a real file, or PIPE and copy it") from error
