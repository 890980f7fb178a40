"""What is recorded of BuildKit is what it says today: needs Debian's docker.io, whose daemon it starts for itself."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from buildkit_cases import CASES, STAGES
from buildkit_results import RECORDED
from record_buildkit import CLIENT, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.root]
PATIENCE = 60  # seconds until the daemon listens


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A dockerd of the test's own; the client's way to it is in the environment."""
    # A test's own directory may lie too deep for the address of a socket (108 bytes, unix(7)).
    with tempfile.TemporaryDirectory(prefix="dockerd-") as name:
        place, address = Path(name), f"unix://{name}/docker.sock"
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        options = [*(f"--{option}={place / name}" for option, name in places.items()), "--iptables=false"]
        words = ["/usr/sbin/dockerd", *options, "--bridge=none", "-H", address]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            monkeypatch.setenv("DOCKER_HOST", address)
            deadline = time.monotonic() + PATIENCE
            while subprocess.run([CLIENT, "version"], capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_what_is_recorded_is_so(daemon: None, tmp_path: Path) -> None:
    recorded = {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}
    recorder = Recorder(tmp_path)
    recorder.bases()
    for case in (*CASES, *STAGES):
        found, known = recorder.record(case), recorded[case.name]
        for one in (found, known):
            one["error"] = "error" in one  # their texts name places of this machine
        assert found == known
