"""What is recorded of BuildKit is what it says today: needs Debian's docker.io, whose daemon it starts for itself."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from buildkit_cases import CASES, STAGES
from buildkit_results import RECORDED
from record_buildkit import CLIENT, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.root]
PATIENCE = 60  # seconds until the daemon listens


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A dockerd of the test's own; the client's way to it is in the environment."""
    address = f"unix://{tmp_path}/docker.sock"
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    options = [*(f"--{option}={tmp_path / name}" for option, name in places.items()), "--iptables=false"]
    words = ["/usr/sbin/dockerd", *options, "--bridge=none", "-H", address]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        monkeypatch.setenv("DOCKER_HOST", address)
        deadline = time.monotonic() + PATIENCE
        while subprocess.run([CLIENT, "version"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
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
