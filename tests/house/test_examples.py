"""The examples do what they say, as a new user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pylxc
from pylxc.build.dockerfile import parse

TREE = Path(__file__).resolve().parents[2]
PATIENCE = 60  # s


@pytest.mark.root
def test_quickstart_needs_no_network_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        # unshare(1): a network namespace without even a loopback interface
        ["unshare", "--net", sys.executable, "-X", "dev", "-W", "error", TREE / "examples/quickstart.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(pylxc.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    built, hello, heading, row = done.stdout.splitlines()
    assert built.startswith("built greeter:1: 4 layers, sha256:")
    assert hello.startswith("Hello world, this is process 1 of container ")
    assert heading.split("  ")[0] == "CONTAINER ID"
    assert row.split()[:2] == [hello.split()[-1], "greeter:1"]
    assert row.split()[-2:] == ["7000/tcp", "greeter"]
    assert list(tmp_path.iterdir()) == []


def test_redis_dockerfile_is_the_classic_one() -> None:
    text = (TREE / "examples/redis/Dockerfile").read_text()
    assert text.startswith("#")
    (stage,) = parse(text).stages
    assert stage.base.image.text == "debian:bookworm"
    assert [instruction.source for instruction in stage.instructions] == [
        "RUN apt-get update",
        "RUN apt-get -y install redis-server",
        "EXPOSE 6379",
        'ENTRYPOINT ["/usr/bin/redis-server"]',
    ]
