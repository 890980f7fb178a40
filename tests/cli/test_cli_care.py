"""``prune`` and ``store check|repair|df``: what they print, what they end with, and when they ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from screens import at_terminal

import pylxc
from pylxc.cli.app import invoke


class Here:
    """Runs verbs in this process, on the test's own store."""

    def __init__(self, engine: pylxc.Engine, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.root = engine.root
        self._read = capsysbinary.readouterr

    def __call__(self, *words: str, status: int = 0) -> str:
        assert invoke(["--root", str(self.root), *words]) == status
        out, err = self._read()
        assert err == b""
        return out.decode()

    def error(self, *words: str, status: int) -> str:
        assert invoke(["--root", str(self.root), *words]) == status
        out, err = self._read()
        assert out == b""
        assert err.startswith(b"pylxc: ")
        return err.decode()


@pytest.fixture
def here(engine, capsysbinary):
    return Here(engine, capsysbinary)


@pytest.fixture
def image(engine, tmp_path):
    """An image of one file, tagged ``app``; returns where the file lies."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 100_000)
    found = pylxc.Image.from_directory(tree, "app", engine=engine)
    return Path(engine.layer_directory(found.layers[0].digest), "file")


def test_a_store_that_is_whole(here, image):
    assert here("store", "check") == "1 layers, 2 blobs: nothing is wrong\n"
    assert here("store", "check", "--quick") == "1 layers, 2 blobs: nothing is wrong\n"
    assert here("store", "check", "app") == "app: whole\n"
    report = json.loads(here("store", "check", "--format", "json"))
    assert report == {"ok": True, "problems": [], "layers": 1, "blobs": 2}
    assert here("store", "repair") == "0 repaired, 0 left\n"


def test_damage_is_told_and_ends_with_1(here, image):
    image.write_bytes(b"y")
    (here.root / "oci/index.json").write_bytes(b"")
    done = here("store", "check", status=1)
    lines = done.splitlines()
    assert lines[0] == "Problems:"
    assert [line.split()[0] for line in lines[1:-1]] == ["layer", "layout"]
    assert lines[-1] == "1 layers, 2 blobs: 2 wrong"
    message = here.error("store", "check", "app", status=1)
    assert message.startswith("pylxc: app: the tree of layer sha256:")
    assert json.loads(here("store", "check", "app", "--format", "json", status=1))["ok"] is False
    lines = here("store", "repair", status=1).splitlines()
    assert lines[0] == "Repaired:"
    assert lines[-1] == "1 repaired, 1 left"
    report = json.loads(here("store", "repair", "--format", "json", status=1))
    assert [problem["kind"] for problem in report["left"]] == ["layer"]
    assert "damaged" in here.error("run", "app", "/file", status=125)


def test_a_lost_index(here, image):
    (here.root / "pylxc.db").unlink()
    assert "pylxc store repair" in here.error("images", status=1)
    assert here("store", "check", status=1).startswith("Problems:\n  index ")
    assert here("store", "repair").endswith(" repaired, 0 left\n")
    assert "app" in here("images")


def test_df(here, image):
    lines = here("store", "df").splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split("  ")[0] for line in lines[1:]] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert lines[1].split()[-1] == "(100%)"
    rows = [json.loads(line) for line in here("store", "df", "--format", "json").splitlines()]
    assert [(row["Type"], row["TotalCount"]) for row in rows][:2] == [("Images", "1"), ("Containers", "0")]


def test_prune_asks_at_a_terminal_and_nowhere_else(cli, screen):
    assert "give --force" in cli.error("prune", "-a", status=2)
    with at_terminal(cli, screen, "prune", "-a", "--filter", "label=x") as process:
        seen = screen.read_until(b"[y/N]")
        assert b"all images without at least one container" in seen
        assert b"- label=x" in seen
        screen.type(b"n\n")
        assert process.wait() == 130
    with at_terminal(cli, screen, "prune") as process:
        assert b"all dangling images" in screen.read_until(b"[y/N]")
        screen.type(b"y\n")
        assert process.wait() == 0
    assert b"Total reclaimed space: 0B" in screen.rest()


def test_prune(here, image):
    assert here("prune", "-f") == "Total reclaimed space: 0B\n"
    assert here("prune", "-f", "-a", "--filter", "until=1h", "--filter", "label!=keep").endswith(": 0B\n")
    assert "filter 'untill=1h'" in here.error("prune", "-f", "--filter", "untill=1h", status=2)
    assert "until" in here.error("prune", "-f", "--filter", "until=soon", status=1)
    lines = here("prune", "-f", "-a", "--filter", "until=2999-01-01T00:00:00Z").splitlines()
    assert lines[:2] == ["Deleted Images:", "untagged: app:latest"]
    assert lines[2].startswith("deleted: sha256:")
    assert lines[-1].startswith("Total reclaimed space: 1")
    gone = json.loads(here("prune", "-f", "--volumes", "--format", "json"))
    assert gone == {
        "containers": [],
        "images": [],
        "untagged": [],
        "volumes": [],
        "cached": 0,
        "reclaimed": 0,
        "networks": [],
    }
