"""A docker daemon for one benchmark, on a directory and a socket of its own; its end is the end of all that it started.

Used where Debian's docker.io is installed. Needs root.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 60.0  # s for it to come up
CLIENT = "/usr/bin/docker"  # Debian's own: a newer one may come first on PATH, and want plugins


def is_here() -> bool:
    """Say whether there is a daemon to start; where there is none, tell the user."""
    if shutil.which("dockerd") is not None:
        return True
    print("left out: docker (dockerd is not installed; Debian's package docker.io has it)")
    return False


class Daemon:
    """The daemon. ``client`` gives the command line of a client of its."""

    def __init__(self, directory: Path) -> None:
        place = directory / "docker"
        place.mkdir()
        self._host = f"unix://{place}/docker.sock"
        words = [
            "--data-root",
            str(place / "data"),
            "--exec-root",
            str(place / "exec"),
            "--pidfile",
            str(place / "pid"),
        ]
        with (place / "log").open("wb") as log:
            command = ["dockerd", *words, "-H", self._host, "--bridge", "none", "--iptables=false"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._await(place)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def client(self, *words: str) -> list[str]:
        """Return the command line of a client."""
        return [CLIENT if Path(CLIENT).exists() else "docker", "-H", self._host, *words]

    def _await(self, place: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self.client("version"), capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("dockerd does not come up: " + (place / "log").read_text()[-500:])
            time.sleep(0.1)

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()
