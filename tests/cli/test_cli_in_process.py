"""The command line called from Python (``pylxc.cli.main``), one verb after the other on one container."""

from __future__ import annotations

import json

import pytest

import pylxc
from pylxc import cli


@pytest.fixture
def call(engine, capfd):
    """Call the command and return what it said: on standard output, or (it failed) on standard error."""

    def call(*words: str, status: int = 0) -> str:
        got = cli.main(["--root", str(engine.root), *words])
        out, err = capfd.readouterr()
        assert got == status, (words, out, err)
        return err if status else out

    return call


def rows(text: str) -> list[dict[str, str]]:
    """Return what a listing says in JSON: an object a line."""
    return [json.loads(line) for line in text.splitlines()]


def test_the_life_of_a_container(call, tmp_path):
    script = "echo started; trap 'exit 3' TERM; while :; do sleep 0.05; done"
    full = call("run", "-d", "--name", "shelf", "-e", "COLOUR=blue", "-v", "data:/data", "host", "sh", "-c", script)
    assert call("ps", "-q").strip() == full.strip()[:12]
    assert "shelf" in call("ps")
    assert [row["Names"] for row in rows(call("ps", "--format", "json"))] == ["shelf"]
    assert "sleep" in call("top", "shelf")
    assert "shelf" in call("stats", "--no-stream", "shelf")
    assert json.loads(call("inspect", "shelf"))[0]["Config"]["Env"]
    (tmp_path / "file").write_text("copied")
    call("cp", str(tmp_path / "file"), "shelf:/tmp/file")
    call("cp", "shelf:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "copied"
    assert call("exec", "shelf", "cat", "/tmp/file") == "copied"
    assert call("exec", "shelf", "no-such-program", status=127)
    assert call("pause", "shelf") == "shelf\n"
    assert "Paused" in call("ps")
    assert call("unpause", "shelf") == "shelf\n"
    call("update", "--memory", "256m", "shelf")
    assert "started" in call("logs", "shelf")
    assert "started" in call("logs", "--tail", "1", "-t", "shelf")
    call("stop", "-t", "5", "shelf")
    assert call("wait", "shelf") == "3\n"
    assert "Exited (3)" in call("ps", "-a")
    call("start", "shelf")
    call("kill", "shelf")
    assert call("wait", "shelf") == "137\n"
    assert "data" in call("volume", "ls")
    assert json.loads(call("volume", "inspect", "data"))[0]["Name"] == "data"
    assert call("rm", "shelf") == "shelf\n"
    assert call("volume", "rm", "data") == "data\n"
    assert "shelf" in call("rm", "shelf", status=1)
    call("run", "--rm", "host", "true")  # with the next start this process reaps the monitor


def test_images(call, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM host\nLABEL a=b\nRUN echo made > /made\n")
    call("build", "-t", "mine:1", str(tmp_path))
    assert "mine" in call("images")
    call("tag", "mine:1", "mine:2")
    found = rows(call("images", "--format", "json"))
    assert {row["Tag"] for row in found if row["Repository"] == "mine"} == {"1", "2"}
    assert json.loads(call("inspect", "mine:1"))[0]["Config"]["Labels"]["a"] == "b"
    assert call("run", "--rm", "mine:1", "cat", "/made") == "made\n"
    call("rmi", "mine:2")
    call("rmi", "mine:1")
    assert "mine" in call("rmi", "mine:1", status=1)


def test_what_this_is(call):
    assert pylxc.__version__ in call("version")
    assert json.loads(call("version", "--format", "json"))["Version"] == pylxc.__version__
    assert "Root" in call("info")
    assert json.loads(call("doctor", "--format", "json"))[0]["name"] == "kernel"
    assert "ok" in call("doctor")
