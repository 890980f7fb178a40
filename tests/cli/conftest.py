"""The command line as its users have it: a process of its own, on a store of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from screens import screen

import pylxc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Cli", "cli", "screen"]

LIMIT = 60  # s; a command that takes longer hangs


class Cli:
    """Runs ``pylxc`` with a store below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "store"
        self.environment = {**os.environ, "PYLXC_ROOT": str(self.root)}

    def argv(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "pylxc", *map(str, words)]

    def __call__(
        self, *words: object, stdin: bytes = b"", status: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; ``status`` is what must come back (None: anything)."""
        done = subprocess.run(
            self.argv(*words), input=stdin, capture_output=True, env=self.environment, timeout=LIMIT, check=False
        )
        assert status is None or done.returncode == status, (words, done)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    def text(self, *words: object) -> str:
        return self(*words).stdout.decode()

    def error(self, *words: object, status: int, stdin: bytes = b"") -> str:
        """Run what must fail; return its one message."""
        done = self(*words, status=status, stdin=stdin)
        message = done.stderr.decode()
        assert message.startswith("pylxc: ")
        assert done.stdout == b""
        return message

    def start(self, *words: object, **streams: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.argv(*words), env=self.environment, **streams)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Give a command line whose containers and store are gone after the test."""
    command = Cli(tmp_path)
    yield command
    if command.root.exists():
        for container in pylxc.Container.list(all=True, engine=pylxc.Engine(command.root)):
            container.remove(force=True)
        shutil.rmtree(command.root)


@pytest.fixture
def busybox_cli(cli: Cli, busybox_root: Path) -> Cli:
    """Return a command line whose store has the image "busybox"."""
    pylxc.Image.from_directory(busybox_root, "busybox", engine=pylxc.Engine(cli.root))
    return cli
