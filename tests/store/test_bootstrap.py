"""Bootstrapping that cannot work: one clear error, and nothing left in the store or in the temporary directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pylxc


@pytest.fixture
def store_engine(tmp_path):
    return pylxc.Engine(tmp_path / "store")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("distribution", {"distribution": "--help"}),
        ("distribution", {"distribution": "plan9"}),
        ("suite", {"suite": "-o"}),
        ("suite", {"suite": ""}),
        ("packages", {"packages": ("hello", "--hook")}),
        ("packages", {"packages": ("a,b",)}),
    ],
)
def test_what_would_be_an_option_of_the_tool_is_refused(option, words, store_engine):
    with pytest.raises(pylxc.SpecError) as caught:
        pylxc.Image.bootstrap(**{"distribution": "debian", "suite": "bookworm", "engine": store_engine, **words})
    assert caught.value.option == option


def test_without_a_tool_it_says_what_to_install(store_engine, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pylxc.UnsupportedError, match="apt-get install mmdebstrap"):
        pylxc.Image.bootstrap("debian", "bookworm", engine=store_engine)


def test_a_mirror_that_is_not_there_is_told_in_the_tools_words(store_engine, tmp_path, monkeypatch, check_whole):
    assert shutil.which("mmdebstrap"), "install mmdebstrap; tests/packages.txt names it"
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o1777)
    monkeypatch.setenv("TMPDIR", str(temporary))
    with pytest.raises(pylxc.StoreError, match=r"127\.0\.0\.1") as caught:
        pylxc.Image.bootstrap("debian", "bookworm", mirror="http://127.0.0.1:1/debian", engine=store_engine)
    assert caught.value.path == "bookworm"
    assert list(Path(temporary).iterdir()) == []
    assert pylxc.Image.list(engine=store_engine) == []
    check_whole(store_engine.root)
