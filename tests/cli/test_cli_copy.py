"""pylxc cp: docker cp's words."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def box(busybox_cli):
    """Return a command line with a container "box" that runs and one, "still", that does not."""
    cli = busybox_cli
    cli("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    cli("run", "-d", "--name", "still", "busybox", "true")
    cli("wait", "still")
    return cli


@pytest.mark.parametrize("name", ["box", "still"])
def test_there_and_back(box, tmp_path, name):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    (tree / "link").symlink_to("file")
    os.chown(tree / "file", 12, 34)
    assert box("cp", tree, f"{name}:/tmp").stdout == b""
    box("cp", f"{name}:/tmp/tree/.", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["file", "link"]
    assert (tmp_path / "back/link").readlink() == Path("file")
    assert (tmp_path / "back/file").stat().st_uid == 0
    box("cp", "-a", tree / "file", f"{name}:tmp/kept")  # relative to the root
    box("cp", "-aL", f"{name}:/tmp/kept", tmp_path / "kept")
    assert ((tmp_path / "kept").stat().st_uid, (tmp_path / "kept").stat().st_gid) == (12, 34)
    box("cp", "-L", tree / "link", f"{name}:/tmp/followed")
    box("cp", "-q", f"{name}:/tmp/followed", tmp_path / "followed")
    assert not (tmp_path / "followed").is_symlink()


def test_streams(box, tmp_path):
    (tmp_path / "file").write_text("content")
    box("cp", tmp_path / "file", "box:/tmp/")
    archive = box("cp", "box:/tmp", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["tmp", "tmp/file"]
    box("cp", "-", "still:/etc", stdin=archive)
    box("cp", "still:/etc/tmp/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"
    box.error("cp", "-", "box:/etc", stdin=b"no archive" * 100, status=1)


def test_a_path_of_this_machine_with_a_colon(box, tmp_path):
    (tmp_path / "box:file").write_text("content")
    box("cp", tmp_path / "box:file", "box:/tmp/file")
    box("cp", "box:/tmp/file", tmp_path / "box:other")
    assert (tmp_path / "box:other").read_text() == "content"


def test_errors_are_one_line(box, tmp_path):
    for words, status, part in (
        (("box:/a", "box:/b"), 2, "one of box:/a and box:/b must be CONTAINER:PATH"),
        (("/a", "/b"), 2, "must be CONTAINER:PATH"),
        (("box:/no/such", tmp_path), 1, "No such file or directory: '/no/such'"),
        (("no-such:/etc", tmp_path), 1, "no-such"),
        ((tmp_path / "no", "box:/tmp"), 1, f"No such file or directory: '{tmp_path}/no'"),
        (("box:/etc/passwd", f"{tmp_path}/no/"), 1, "No such file or directory"),
    ):
        message = box.error("cp", *words, status=status)
        assert part in message
        assert message.count("\n") == 1
