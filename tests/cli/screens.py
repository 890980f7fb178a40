"""A pseudo-terminal of the test's as the user's, and commands at it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from contextlib import contextmanager, suppress

import pytest

LIMIT = 60.0  # s
LOOP = "while :; do sleep 0.02; done"


class Screen:
    """The user's terminal: ``fd`` is what a person at it sees and types on, ``inside`` what programs have."""

    def __init__(self) -> None:
        self.fd, self.inside = pty.openpty()
        self.resize(33, 111)
        self.settings = termios.tcgetattr(self.inside)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def read_until(self, wanted: bytes) -> bytes:
        seen, deadline = b"", time.monotonic() + LIMIT
        while wanted not in seen:
            assert select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"{seen!r} only"
            seen += os.read(self.fd, 65536)
        return seen

    def rest(self) -> bytes:
        """Return what is still on its way; the program has ended."""
        seen = b""
        os.set_blocking(self.fd, False)
        with suppress(BlockingIOError):
            while True:
                seen += os.read(self.fd, 65536)
        os.set_blocking(self.fd, True)
        return seen

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.inside)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.inside) == self.settings

    def waiting(self) -> int:
        """Return how many bytes a program that reads this terminal would find."""
        return int.from_bytes(fcntl.ioctl(self.inside, termios.FIONREAD, bytes(4)), "little")

    def close(self) -> None:
        for fd in (self.fd, self.inside):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def screen():
    made = Screen()
    yield made
    made.close()


@contextmanager
def at_terminal(cli, screen, *words, **streams):
    """Run a command at the terminal, as the session's own program."""
    argv = ["setsid", "--ctty", *cli.argv(*words)]
    inside = {"stdin": screen.inside, "stdout": screen.inside, "stderr": screen.inside}
    process = subprocess.Popen(argv, env=cli.environment, **{**inside, **streams})
    try:
        yield process
        process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
