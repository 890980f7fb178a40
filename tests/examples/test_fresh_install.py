"""What a new user does first: a copy of the tree, a fresh virtual environment, the README's first command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
MADE = ("*.so", "pylxc-helper", "_native.c", "__pycache__")  # what building leaves in the tree


@pytest.mark.network
@pytest.mark.root
def test_readme_first_command(tmp_path: Path) -> None:
    for name in ("pylxc", "csrc", "examples"):
        shutil.copytree(TREE / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns(*MADE))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tmp_path / "tree" / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "VIRTUAL_ENV"))}
    environment = {**clean, "PATH": f"{tmp_path}/venv/bin:{os.environ['PATH']}", "VIRTUAL_ENV": str(tmp_path / "venv")}
    done = subprocess.run(
        ["sh", "-c", "python3 -m pip install --quiet . && python3 examples/quickstart.py"],
        cwd=tmp_path / "tree",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Hello world, this is process 1 of container" in done.stdout
    assert "CONTAINER ID" in done.stdout
