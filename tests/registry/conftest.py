"""The registries of ``registries``, and a real one, for the tests of this directory."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from daemon import PATIENCE, docker_registry
from registries import bare_environment, certificate, elsewhere, fake, no_thread_is_left, repository, settings

from pylxc.registry import transport

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bare_environment", "certificate", "elsewhere", "fake", "no_thread_is_left", "repository", "settings"]


@pytest.fixture(autouse=True)
def manners(bare_environment, no_thread_is_left) -> None:
    """Hold for every test here, whatever it uses."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("plain")) as host:
        yield host


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that the client makes, of which none is really made."""
    made: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", made.append)
    return made


@pytest.fixture
def skopeo(tmp_path):
    """Return a function that runs skopeo, with a policy of the test's own."""
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def run(*words: object) -> str:
        command = ["skopeo", "--policy", str(policy), "--tmpdir", str(tmp_path), *map(str, words)]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
