"""``pylxc compose``: docker compose's verbs and flags, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from boxes import await_true
from composing import made_networks
from ownnet import host, reap_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pylxc

    Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.root
__all__ = ["host", "reap_orphans"]

FILE = """
services:
  web:
    image: busybox
    command: sh -c 'echo "hello from web"; exec sleep 1000'
    stop_grace_period: 0s
    ports: ["127.0.0.1::80"]
    depends_on: [db]
    environment: {PRICE: "5 $$"}
  db: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
  job: {image: busybox, command: sh -c 'echo done; exit 7', profiles: [jobs]}
"""


@pytest.fixture
def shop(busybox: pylxc.Image, tmp_path: Path) -> Path:
    """The directory of an application."""
    assert busybox.refs
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "compose.yaml").write_text(FILE)
    return directory


@pytest.fixture
def cli(engine: pylxc.Engine, shop: Path) -> Iterator[Cli]:
    """Give a function that runs ``pylxc compose`` in the application's directory; all is taken down afterwards."""

    def call(*words: str, status: int = 0, cwd: Path = shop, **options) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(engine, *words),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
            cwd=cwd,
            **options,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    yield call
    call("-p", "shop", "down", "-v", "-t", "0", "--remove-orphans")
    assert made_networks(engine) == []


def command(engine: pylxc.Engine, *words: str) -> list[str]:
    return [sys.executable, "-m", "pylxc", "--root", str(engine.root), "compose", *words]


def test_up_look_and_down(cli: Cli, tmp_path: Path) -> None:
    done = cli("up", "-d")
    assert done.stdout == ""
    assert " Container shop-web-1  Started" in done.stderr.splitlines()
    assert cli("ps", "-q").stdout.count("\n") == 2
    header, db, web = cli("ps").stdout.splitlines()
    assert header.split() == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    assert (db.split()[0], web.split()[0]) == ("shop-db-1", "shop-web-1")
    rows = [json.loads(line) for line in cli("ps", "--format", "json").stdout.splitlines()]
    assert [(row["Service"], row["State"], row["Project"]) for row in rows] == [
        ("db", "running", "shop"),
        ("web", "running", "shop"),
    ]
    assert cli("logs").stdout == "shop-web-1 | hello from web\n"
    assert cli("logs", "--no-log-prefix", "web").stdout == "hello from web\n"
    assert cli("port", "web", "80").stdout.startswith("127.0.0.1:")
    assert cli("exec", "-T", "web", "sh", "-c", 'echo "$PRICE"; exit 3', status=3).stdout == "5 $\n"
    assert cli("run", "--rm", "-T", "db", "echo", "beside").stdout == "beside\n"
    assert "Running" in cli("up", "-d").stderr
    assert cli("ls", cwd=tmp_path).stdout.splitlines()[1].split()[:2] == ["shop", "running(2)"]
    assert cli("top", "db").stdout.splitlines()[1].endswith("sleep 1000")
    assert cli("images", "-q").stdout.count("\n") == 1

    cli("-p", "shop", "stop", "web", cwd=tmp_path)  # without its file
    assert cli("ps", "--services").stdout == "db\n"
    assert "Removed" in cli("-p", "shop", "down", cwd=tmp_path).stderr
    assert cli("ps", "-a", "-q").stdout == ""


def test_config_means_the_same_when_it_is_read_again(cli: Cli, shop: Path, tmp_path: Path) -> None:
    first = cli("config").stdout
    assert "5 $$" in first
    (tmp_path / "again.yaml").write_text(first)
    assert cli("-f", str(tmp_path / "again.yaml"), "config").stdout == first
    found = json.loads(cli("config", "--format", "json").stdout)
    assert found["services"]["web"]["environment"] == {"PRICE": "5 $$"}
    assert cli("config", "--services").stdout == "db\nweb\n"
    assert cli("--profile", "jobs", "config", "--services").stdout == "db\njob\nweb\n"
    assert cli("config", "-q").stdout == ""
    (shop / "override.yaml").write_text("services: {db: {image: $IMAGE}}\n")
    env = {**os.environ, "IMAGE": "other"}
    assert cli("-f", "compose.yaml", "-f", "override.yaml", "config", "--images", env=env).stdout == "other\nbusybox\n"


def test_what_is_wrong_is_one_line_with_its_place(cli: Cli, shop: Path) -> None:
    (shop / "compose.yaml").write_text("services:\n  web:\n    imagee: busybox\n")
    done = cli("up", "-d", status=1)
    assert done.stderr.startswith("pylxc: ")
    assert "compose.yaml:3" in done.stderr
    assert "imagee" in done.stderr
    (shop / "compose.yaml").write_text("services:\n  web: {image: busybox, gpus: all}\n")
    assert "services.web.gpus" in cli("up", "-d", status=1).stderr
    (shop / "compose.yaml").write_text(FILE)
    assert "wbe" in cli("up", "-d", "wbe", status=1).stderr
    assert "--exit-code-from" in cli("up", "-d", "--exit-code-from", "web", status=2).stderr


def test_in_the_foreground_it_ends_with_the_first(cli: Cli) -> None:
    done = cli("--profile", "jobs", "up", "--exit-code-from", "job", "job", "web", status=7)
    assert "shop-job-1" in done.stdout
    assert "done" in done.stdout
    assert cli("ps", "-q").stdout.count("\n") == 1  # db, which was not attached to
    assert cli("up", "--abort-on-container-exit", "--scale", "web=0", "--no-deps", "web", status=0).stdout == ""


def test_an_interrupt_stops_what_is_in_the_foreground(cli: Cli, engine: pylxc.Engine, shop: Path) -> None:
    process = subprocess.Popen(command(engine, "up"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=shop)
    assert process.stdout is not None
    assert process.stdout.readline().split() == [b"shop-web-1", b"|", b"hello", b"from", b"web"]
    process.send_signal(signal.SIGTERM)  # as an interrupt, which whoever runs the tests may have ignored
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Gracefully stopping" in errors
    assert cli("ps", "-q").stdout == ""
    assert cli("ps", "-a", "-q").stdout.count("\n") == 2


def test_the_verbs_that_change_what_is_there(cli: Cli, shop: Path) -> None:
    cli("create")
    assert [json.loads(line)["State"] for line in cli("ps", "-a", "--format", "json").stdout.splitlines()] == [
        "created",
        "created",
    ]
    cli("start")
    cli("up", "-d", "--scale", "db=2")
    assert cli("ps", "-q", "db").stdout.count("\n") == 2
    cli("scale", "db=1")
    cli("pause", "db")
    cli("unpause", "db")
    cli("restart", "-t", "0", "web")
    (shop / "note").write_text("written")
    cli("cp", "note", "web:/tmp/note")
    assert cli("exec", "-T", "web", "cat", "/tmp/note").stdout == "written"
    cli("kill", "-s", "KILL", "web")
    await_true(lambda: cli("ps", "--services").stdout == "db\n", "the end of web")
    assert cli("wait", "web", status=137).stdout == "137\n"
    cli("rm", "-f", "-s")
    assert cli("ps", "-a", "-q").stdout == ""
    events = [
        json.loads(line) for line in cli("events", "--json", "--since", "10m", "--until", "0s").stdout.splitlines()
    ]
    assert ("shop-web-1", "died") in [(one["name"], one["kind"]) for one in events]
    assert textwrap.dedent(cli("version").stdout).startswith("pylxc compose version")


def test_images_are_built(cli: Cli, shop: Path) -> None:
    (shop / "Dockerfile").write_text("FROM busybox\nARG WHO=nobody\nRUN echo $WHO >/who\nCMD cat /who\n")
    (shop / "compose.yaml").write_text("services: {web: {build: {context: ., args: {WHO: reader}}}}\n")
    done = cli("build")
    assert "web #" in done.stderr
    assert "web  Built  shop-web:latest" in done.stderr
    assert cli("run", "--rm", "-T", "web").stdout == "reader\n"
    cli("build", "-q", "--build-arg", "WHO=writer")
    assert cli("run", "--rm", "-T", "web").stdout == "writer\n"
