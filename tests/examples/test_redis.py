"""The main job, end to end: bootstrap Debian, build redis, run it, talk to it, stop it, leave nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pylxc

CONTEXT = Path(__file__).resolve().parents[2] / "examples" / "redis"
COLUMNS = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]


@pytest.fixture(scope="module")
def redis(debian: pylxc.Image, shared_engine: pylxc.Engine) -> pylxc.Image:
    assert debian.refs == ("debian:bookworm",)
    return pylxc.Image.build(CONTEXT, tag="redis:seed", engine=shared_engine)


def ask(container: pylxc.Container, request: bytes) -> bytes:
    with container.connect(6379) as connection:
        connection.sendall(request)
        return connection.recv(64)


@pytest.mark.network
def test_image_says_what_the_dockerfile_says(redis: pylxc.Image) -> None:
    assert redis.refs == ("redis:seed",)
    assert redis.config.entrypoint == ("/usr/bin/redis-server",)
    assert redis.config.cmd is None
    assert redis.config.exposed_ports == ("6379/tcp",)
    assert [entry.created_by for entry in redis.history()[1:]] == [
        "RUN /bin/sh -c apt-get update # buildkit",
        "RUN /bin/sh -c apt-get -y install redis-server # buildkit",
        "EXPOSE [6379/tcp]",
        'ENTRYPOINT ["/usr/bin/redis-server"]',
    ]


@pytest.mark.network
def test_second_build_is_all_cache(redis: pylxc.Image, shared_engine: pylxc.Engine) -> None:
    kinds: list[str] = []
    again = pylxc.Image.build(
        CONTEXT, tag="redis:seed", engine=shared_engine, on_event=lambda event: kinds.append(event.kind)
    )
    assert again == redis
    assert kinds.count("cached") == 2
    assert "output" not in kinds


@pytest.mark.network
def test_redis_answers_and_ends_by_sigterm(redis: pylxc.Image, shared_engine: pylxc.Engine) -> None:
    with pylxc.start("redis:seed", name="cache", engine=shared_engine) as container:
        container.wait_ready(port=6379, timeout=30)
        assert ask(container, b"PING\r\n") == b"+PONG\r\n"
        assert container.exec(["redis-cli", "set", "colour", "blue"]).text == "OK\n"
        assert container.exec(["redis-cli", "get", "colour"]).text == "blue\n"
        assert ask(container, b"GET colour\r\n") == b"$4\r\nblue\r\n"

        listed = subprocess.run(
            [sys.executable, "-m", "pylxc", "ps"],
            env={**os.environ, "PYLXC_ROOT": str(shared_engine.root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.splitlines()
        assert re.split(r"\s{2,}", listed[0].strip()) == COLUMNS
        assert "redis:seed" in listed[1]
        assert "Up" in listed[1]
        assert "6379/tcp" in listed[1]
        assert listed[1].endswith("cache")

        container.stop()
        assert container.status() == "exited"
        assert container.wait() == 0
        words = b"".join(line.data for line in container.logs())
        assert b"Received SIGTERM scheduling shutdown" in words
    assert os.listdir(shared_engine.root / "containers") == []


@pytest.mark.network
def test_removed_redis_leaves_nothing(redis: pylxc.Image, shared_engine: pylxc.Engine) -> None:
    container = pylxc.start("redis:seed", engine=shared_engine)
    pid = container.status().pid
    assert Path(f"/proc/{pid}").exists()
    container.remove(force=True)
    assert not Path(f"/proc/{pid}").exists()
    assert str(shared_engine.root) not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(shared_engine.root / "containers") == []
    assert os.listdir(shared_engine.root / "trash") == []
    with pytest.raises(pylxc.ContainerNotFound):
        container.status()
