"""A watch becomes readable when a file changes, and only then; its limits are explained."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING

import pytest

import pylxc
from pylxc.runtime.watching import Watch

if TYPE_CHECKING:
    from pathlib import Path


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


def set_attribute(path: Path) -> None:
    os.setxattr(path.parent, "user.pylxc.state", b"1")


CHANGES = {
    "append": append,
    "attribute": set_attribute,
    "create": lambda path: (path.parent / "second").touch(),
    "remove": lambda path: path.unlink(),
    "rename": lambda path: path.rename(path.with_name("other")),
    "replace": lambda path: (path.parent.parent / "elsewhere").rename(path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_a_directory_is_told_until_cleared(tmp_path: Path, change: str) -> None:
    directory, file = tmp_path / "watched", tmp_path / "watched/file"
    directory.mkdir()
    file.touch()
    (tmp_path / "elsewhere").touch()
    with Watch(str(directory)) as watch:
        assert not watch.wait(0)
        (tmp_path / "beside").touch()
        assert not watch.wait(0)
        CHANGES[change](file)
        assert watch.wait(0)
        assert watch.wait(0)
        watch.clear()
        assert not watch.wait(0)


@pytest.mark.parametrize("change", ["append", "remove", "rename"])
def test_a_watched_file_hides_its_neighbours(tmp_path: Path, change: str) -> None:
    (tmp_path / "file").touch()
    with Watch(str(tmp_path / "file")) as watch:
        append(tmp_path / "neighbour")
        assert not watch.wait(0)
        CHANGES[change](tmp_path / "file")
        assert watch.wait(0)


def test_the_end_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    with Watch(str(tmp_path / "watched")) as watch:
        (tmp_path / "watched").rmdir()
        assert watch.wait(0)


def test_several_paths_wake_one_watch(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Watch(str(tmp_path / "one")) as watch:
        watch.add(str(tmp_path / "two"))
        watch.add(str(tmp_path / "two"))
        for name in ("one", "two"):
            (tmp_path / name / "file").touch()
            assert watch.wait(0)
            watch.clear()
            assert not watch.wait(0)


def test_an_event_loop_can_wait_for_it(tmp_path: Path) -> None:
    async def wait() -> bool:
        with Watch(str(tmp_path)) as watch:
            changed = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(watch, changed.set)
            loop.call_soon((tmp_path / "file").touch)
            await asyncio.wait_for(changed.wait(), 10)
            loop.remove_reader(watch)
        return changed.is_set()

    assert asyncio.run(wait())


def test_what_cannot_be_watched_is_named(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match="inotify_add_watch"):
        Watch(str(tmp_path), str(tmp_path / "missing"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(pylxc.UnsupportedError, match="max_user_instances"):
            Watch(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(os.listdir("/proc/self/fd")) == before
