"""The README's promises: its two set-up commands are the ones that are tested, its blocks run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from collections.abc import Mapping

TREE = Path(__file__).resolve().parents[1]
README = (TREE / "README.md").read_text()
SET_UP = ["python3 -m pip install . && python3 examples/quickstart.py\n", "bash tests/run\n"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


PYTHON = [(f"line-{README[: README.index(block)].count(chr(10)) + 1}", block) for block in blocks("python")]
OFFLINE = [pytest.param(block, id=name) for name, block in PYTHON if "bootstrap" not in block]
ONLINE = [pytest.param(block, id=name) for name, block in PYTHON if "bootstrap" in block]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory to type the README's commands in, with the checkout's examples and the command ``pylxc``."""
    desk = tmp_path / "desk"
    (desk / "bin").mkdir(parents=True)
    (desk / "examples").symlink_to(TREE / "examples")
    command = desk / "bin/pylxc"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pylxc "$@"\n')
    command.chmod(0o755)
    return desk


def surroundings(desk: Path, engine: pylxc.Engine) -> Mapping[str, str]:
    path = os.pathsep.join((str(desk / "bin"), os.environ["PATH"]))
    package = str(Path(pylxc.__file__).parents[1])
    return {**os.environ, "PATH": path, "PYTHONPATH": package, "PYLXC_ROOT": str(engine.root)}


def run_block(block: str, desk: Path, engine: pylxc.Engine) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", block],
        cwd=desk,
        env=surroundings(desk, engine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert pylxc.Container.list(all=True, engine=engine) == []


def test_there_are_exactly_two_commands_to_set_up() -> None:
    before_the_tour, heading, _ = README.partition("## A short tour")
    assert heading
    assert re.findall(r"^```sh\n(.*?)^```$", before_the_tour, re.DOTALL | re.MULTILINE) == SET_UP


def test_blocks_are_found() -> None:
    # The parametrised tests below are as many as the blocks: none is lost by a change of the README's form.
    assert len(OFFLINE) + len(ONLINE) == README.count("```python")
    assert len(ONLINE) == 2


def test_links_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (TREE / target).exists()] == []


@pytest.mark.parametrize("block", OFFLINE)
def test_python_block(block: str, desk: Path, engine: pylxc.Engine) -> None:
    run_block(block, desk, engine)


@pytest.mark.network
@pytest.mark.parametrize("block", ONLINE)
def test_python_block_with_debian(
    block: str, desk: Path, request: pytest.FixtureRequest, shared_engine: pylxc.Engine
) -> None:
    """What a block bootstraps is there already, of the same words: it is what other tests have, too."""
    image = request.getfixturevalue("debian_system" if "debian:system" in block else "debian")
    assert f'"{image.refs[0]}"' in block
    run_block(block, desk, shared_engine)


def test_command_line_tour(desk: Path, engine: pylxc.Engine) -> None:
    (tour,) = (block for block in blocks("sh") if block not in SET_UP)
    done = subprocess.run(
        ["sh", "-e", "-c", tour],
        cwd=desk,
        env=surroundings(desk, engine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Linux"
    assert lines[2].startswith("CONTAINER ID")
    assert lines[3].endswith("shelf")
    assert lines[4:6] == ["blue", "started"]
    assert pylxc.Container.list(all=True, engine=engine) == []
