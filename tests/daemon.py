"""Debian's docker-registry, on a port of loopback."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60


@contextmanager
def docker_registry(place: Path, **http: object) -> Iterator[str]:
    """Run docker-registry on a port of loopback for the length of a block; gives ``host:port``."""
    auth = http.pop("auth", None)
    document = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(place / "data")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "of this test", **http},
        **({"auth": auth} if auth else {}),
    }
    (place / "config.yml").write_text(json.dumps(document))  # JSON is YAML
    command = ["docker-registry", "serve", str(place / "config.yml")]
    with (
        open(place / "log", "wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield f"127.0.0.1:{port_of(process, place / 'log')}"
        finally:
            process.terminate()


def port_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it says which port the kernel gave it."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        match = re.search(r"listening on 127\.0\.0\.1:([0-9]+)", log.read_text())
        if match:
            return match[1]
        time.sleep(0.02)
    raise AssertionError(f"docker-registry did not start: {log.read_text()}")
