"""Moves bytes between this process's standard streams and a container's, until that ends or is left.

What is shown may be a process whose terminal is in this process's hands, or a container that is attached to; the loop
knows neither. Invariant: what was typed is passed on in order and whole, but for the keys that detach.
"""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc

STDIN, STDOUT, STDERR = 0, 1, 2
_CHUNK = 1 << 16
_DRAIN = 1 << 18  # bytes; more than the kernel keeps of a terminal's output
_GONE = (errno.EIO, errno.EPIPE)  # what the other side of a terminal, or of a pipe, says when nobody is there
_CONTROLS = {f"ctrl-{chr(code + 64).lower()}": code for code in range(32)}  # ctrl-@, ctrl-a … ctrl-z, ctrl-[ … ctrl-_
DETACH = "ctrl-p,ctrl-q"


class GoneError(Exception):
    """Whoever looked at what is shown is gone, with the terminal."""


class DetachKeys:
    r"""Finds, among what is typed, the keys that detach: a chord of one key after the other.

    ``text`` is docker's notation: "ctrl-" with a letter or one of ``@ [ \ ] ^ _``, "DEL", or the key itself, with
    commas between; "" for none.
    """

    def __init__(self, text: str) -> None:
        self._keys = bytes(_key(word) for word in text.split(",")) if text else b""
        self._held = b""

    def pass_on(self, typed: bytes) -> tuple[bytes, bool]:
        """Return what of it is for the container, and whether the chord was complete.

        The beginning of a chord is held back until the next key shows what it was.
        """
        if not self._keys:
            return typed, False
        passed = bytearray()
        for number in typed:
            self._held += bytes((number,))
            while not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                return bytes(passed), True
        return bytes(passed), False


def _key(word: str) -> int:
    if word in _CONTROLS:
        return _CONTROLS[word]
    if word == "DEL":
        return 127
    if len(word) == 1 and word.isascii():
        return ord(word)
    raise click.UsageError(f'--detach-keys {word!r}: give keys such as "a", "ctrl-p" or "DEL", with commas between')


class Shown(Protocol):
    """Something that writes, and may read."""

    def watched(self) -> tuple[int, ...]:
        """Return descriptors that are readable when there is output, or the end; none when it has ended."""

    def output(self) -> tuple[int, bytes] | None:
        """Return (which of our descriptors it is for, what comes), b"" when nothing comes now; None after the end."""

    def takes(self) -> int:
        """Return a descriptor that is writable when it takes more input; -1: ask again when there was output."""

    def give(self, data: bytes) -> int:
        """Pass input on without waiting; return how much was taken. Raises BrokenPipeError where nobody reads it."""


class ShownProcess:
    """A process on a terminal that is in this process's hands.

    What it leaves in the background may write on and on: after its end so much is shown and no more.
    """

    def __init__(self, process: pylxc.Process) -> None:
        assert process.stdout is not None  # noqa: S101  it has a terminal
        self._terminal = process.stdout.fileno()
        self._left = _DRAIN
        os.set_blocking(self._terminal, False)
        try:
            self._end = process.fileno()
        except ValueError:  # a signal that was passed on has shown that it has ended
            self._end = -1

    def watched(self) -> tuple[int, ...]:
        """See :class:`Shown`."""
        return () if self._end < 0 else (self._terminal, self._end)

    def output(self) -> tuple[int, bytes] | None:
        """See :class:`Shown`."""
        ended = self._end < 0 or bool(select.select([self._end], [], [], 0)[0])
        try:
            data = os.read(self._terminal, _CHUNK)
            ended = ended or not data
        except BlockingIOError:
            data = b""
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None  # nobody has it open: the process and its monitor are gone
        if ended:
            self._left -= len(data)
        return None if ended and (not data or self._left < 0) else (STDOUT, data)

    def takes(self) -> int:
        """See :class:`Shown`."""
        return self._terminal

    def give(self, data: bytes) -> int:
        """See :class:`Shown`."""
        try:
            return os.write(self._terminal, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            raise BrokenPipeError(error.errno, str(error)) from error


class ShownAttachment:
    """A container that is attached to."""

    def __init__(self, attachment: pylxc.Attachment) -> None:
        self._attachment = attachment

    def watched(self) -> tuple[int, ...]:
        """See :class:`Shown`."""
        return (self._attachment.fileno(),)

    def output(self) -> tuple[int, bytes] | None:
        """See :class:`Shown`."""
        from pylxc.errors import TimeoutExpired  # noqa: PLC0415

        try:
            output = self._attachment.read(timeout=0)
        except TimeoutExpired:
            return STDOUT, b""
        return None if output is None else (STDERR if output.stream == "stderr" else STDOUT, output.data)

    def takes(self) -> int:
        """See :class:`Shown`."""
        with suppress(BrokenPipeError):
            return -1 if self._attachment.stdin is None else self._attachment.stdin.fileno()
        return -1

    def give(self, data: bytes) -> int:
        """See :class:`Shown`."""
        return len(data) if self._attachment.stdin is None else self._attachment.stdin.offer(data)


class Copying:
    """One poll loop: standard input to what is shown, unless ``keys`` is None, and what that writes to ours.

    ``at_end`` is called when our standard input has ended; None: it is a terminal, which never ends, but goes.
    """

    def __init__(self, shown: Shown, keys: DetachKeys | None, at_end: Callable[[], object] | None = None) -> None:
        self._shown = shown
        self._keys = keys
        self._at_end = at_end
        self._typed = b""  # and not taken yet
        self._open = keys is not None  # whether our standard input is to be read

    def run(self) -> bool:
        """Copy until there is nothing more to come, or the keys were typed: then the result is False.

        Raises GoneError when there is nobody to show it to any more.
        """
        while True:
            watched = self._shown.watched()
            ready = self._poll(watched)
            if not watched or any(fd in ready for fd in watched):
                output = self._shown.output()
                if output is None:
                    return True
                _write(*output)
            self._give()
            if self._open and ready.get(STDIN):
                if self._read_keys():
                    return False
            elif ready.get(STDOUT, 0) & (select.POLLHUP | select.POLLERR):
                raise GoneError

    def _poll(self, watched: tuple[int, ...]) -> dict[int, int]:
        wanted = dict.fromkeys(watched, select.POLLIN)
        fd = self._shown.takes() if self._typed else -1
        if fd >= 0:
            wanted[fd] = wanted.get(fd, 0) | select.POLLOUT
        if self._open and len(self._typed) < _CHUNK:
            wanted[STDIN] = select.POLLIN
        elif self._at_end is None and os.isatty(STDIN if self._open else STDOUT):
            wanted[STDIN if self._open else STDOUT] = 0  # only to learn that it is gone
        poll = select.poll()
        for fd, events in wanted.items():
            poll.register(fd, events)
        return dict(poll.poll(None if watched else 0))

    def _read_keys(self) -> bool:
        """Take what is typed, and pass it on; says whether it was the keys."""
        assert self._keys is not None  # noqa: S101  or nothing is read
        try:
            typed = os.read(STDIN, _CHUNK)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            typed = b""
        if not typed and self._at_end is None:
            raise GoneError
        passed, detach = self._keys.pass_on(typed)
        self._typed += passed
        self._open = bool(typed)
        self._give()
        return detach

    def _give(self) -> None:
        try:
            while self._typed and (count := self._shown.give(self._typed)):
                self._typed = self._typed[count:]
        except BrokenPipeError:
            self._typed = b""  # nobody reads it, or not before a new start
            self._open = self._open and self._at_end is None
        if not self._open and not self._typed and self._at_end is not None and self._keys is not None:
            self._keys = None
            self._at_end()


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            select.select([], [fd], [])  # whoever shares it may have made it not block
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        if error.errno in _GONE:
            raise GoneError from error
        raise
