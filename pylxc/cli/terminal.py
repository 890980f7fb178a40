"""The user's terminal while a container's own is shown on it: raw mode, the window's size.

Invariant: however this is left (the end of the process, an exception, a signal that is passed on), and while it is
stopped, the user's terminal has the settings that it had before.
"""

from __future__ import annotations

import errno
import os
import signal
import termios
import tty
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.copying import STDIN, STDOUT, Copying, GoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc.cli.copying import DetachKeys, Shown


def check_input() -> None:
    """Refuse to type from something that is no terminal: a program would wait for keys that never come."""
    if not os.isatty(STDIN):
        raise click.UsageError("the input device is not a TTY: leave -t out, or -i, or call this from a terminal")


def size() -> tuple[int, int] | None:
    """Return the (rows, columns) of the user's terminal; None where there is none."""
    for fd in (STDOUT, STDIN):
        if os.isatty(fd):
            found = os.get_terminal_size(fd)
            return found.lines, found.columns
    return None


def show(shown: Shown, resize: Callable[[int, int], object], keys: DetachKeys | None) -> bool:
    """Show a terminal on the user's until it ends; False: it was left by the keys. With None no key goes to it.

    ``resize`` is told the rows and columns of the user's. Raises GoneError when there is nobody to show it to any more.
    """
    with _following_size(resize), nullcontext() if keys is None else _raw(STDIN):
        return Copying(shown, keys).run()


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
def _following_size(resize: Callable[[int, int], object]) -> Iterator[None]:
    def follow(*_: object) -> None:
        now = size()
        if now is not None:
            resize(*now)

    previous = signal.signal(signal.SIGWINCH, follow)
    try:
        follow()  # it may have changed while the process was being started
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)
