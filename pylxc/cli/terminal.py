"""The user's terminal while a container's own is shown on it: raw mode, bytes both ways, the window's size.

Invariant: however this is left (the end of the process, an exception, a signal that is passed on), and while it is
stopped, the user's terminal has the settings that it had before.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pylxc

_STDIN, _STDOUT = 0, 1
_CHUNK = 1 << 16
_DRAIN = 1 << 18  # bytes; more than the kernel keeps of a terminal's output
_GONE = (errno.EIO, errno.EPIPE)  # what the other side of a terminal, or of a pipe, says when nobody is there
HUNG_UP = 128 + signal.SIGHUP


class GoneError(Exception):
    """The user's terminal is gone, with whoever looked at it."""


def check_input() -> None:
    """Refuse to type from something that is no terminal: a program would wait for keys that never come."""
    if not os.isatty(_STDIN):
        raise click.UsageError("the input device is not a TTY: leave -t out, or -i, or call this from a terminal")


def size() -> tuple[int, int] | None:
    """Return the (rows, columns) of the user's terminal; None where there is none."""
    for fd in (_STDOUT, _STDIN):
        if os.isatty(fd):
            found = os.get_terminal_size(fd)
            return found.lines, found.columns
    return None


def show(process: pylxc.Process, *, interactive: bool) -> int:
    """Show the process's terminal until it ends, and return its exit status. ``interactive``: keys go to it.

    Raises GoneError when there is nobody to show it to any more.
    """
    with _following_size(process):
        if interactive:
            with _raw(_STDIN):
                _Copying(process, interactive=True).run()
        else:
            _Copying(process, interactive=False).run()
    return process.wait()


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Pass every key on as it is, ^C too, and show every byte as it comes."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error as error:
        raise GoneError from error

    def pause(*_: object) -> None:
        _restore(fd, before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # comes back when it is continued
        signal.signal(signal.SIGTSTP, pause)
        tty.setraw(fd, termios.TCSADRAIN)

    previous = signal.getsignal(signal.SIGTSTP)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        if previous is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, pause)
        yield
    finally:
        signal.signal(signal.SIGTSTP, previous or signal.SIG_DFL)
        _restore(fd, before)


def _restore(fd: int, settings: list[Any]) -> None:
    # In the background a process that changes the terminal is stopped, unless it ignores the signal (termios(3)).
    previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except termios.error as error:
        if error.args[0] != errno.EIO:  # gone: there is nothing to restore
            raise
    finally:
        signal.signal(signal.SIGTTOU, previous)


@contextmanager
def _following_size(process: pylxc.Process) -> Iterator[None]:
    def follow(*_: object) -> None:
        now = size()
        if now is not None:
            process.resize(*now)

    previous = signal.signal(signal.SIGWINCH, follow)
    try:
        follow()  # it may have changed while the process was being started
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)


class _Copying:
    """One poll loop: keys to the process's terminal, what that shows to standard output."""

    def __init__(self, process: pylxc.Process, *, interactive: bool) -> None:
        assert process.stdout is not None  # noqa: S101  it has a terminal
        self._terminal = process.stdout.fileno()
        self._interactive = interactive
        self._typed = b""  # and not taken by the process yet
        os.set_blocking(self._terminal, False)
        try:
            self._end = process.fileno()
        except ValueError:  # a signal that was passed on has shown that it has ended
            self._end = -1

    def run(self) -> None:
        """Copy until the process has ended, with all that it wrote."""
        ended = self._end < 0
        while not ended:
            ready = dict(self._poll())
            if self._terminal in ready:
                ended = self._output() is None  # nobody has it open: the process and its monitor are gone
                self._input()
            if _STDIN in ready and self._interactive:
                self._keys(ready[_STDIN])
            elif ready.get(_STDOUT, 0) & (select.POLLHUP | select.POLLERR):
                raise GoneError
            ended = ended or self._end in ready
        left = _DRAIN  # a process left in the background may write on and on
        while left > 0 and (count := self._output()):
            left -= count

    def _poll(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        poll.register(self._terminal, select.POLLIN | (select.POLLOUT if self._typed else 0))
        if self._interactive:
            poll.register(_STDIN, 0 if self._typed else select.POLLIN)
        elif os.isatty(_STDOUT):
            poll.register(_STDOUT, 0)  # only to learn that it is gone
        return poll.poll()

    def _keys(self, events: int) -> None:
        if not events & select.POLLIN:
            raise GoneError
        try:
            self._typed = os.read(_STDIN, _CHUNK)
        except OSError as error:
            if error.errno in _GONE:
                raise GoneError from error
            raise
        if not self._typed:
            raise GoneError
        self._input()

    def _input(self) -> None:
        if not self._typed:
            return
        try:
            self._typed = self._typed[os.write(self._terminal, self._typed) :]
        except BlockingIOError:
            return  # the process does not read
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._typed = b""

    def _output(self) -> int | None:
        """Show what there is: the number of bytes, 0 when there is nothing now, None when there never will be."""
        try:
            data = os.read(self._terminal, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None
        _write(data)
        return len(data) or None


def _write(data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            select.select([], [_STDOUT], [])  # whoever shares it may have made it not block
            rest = rest[os.write(_STDOUT, rest) :]
    except OSError as error:
        if error.errno in _GONE:
            raise GoneError from error
        raise
