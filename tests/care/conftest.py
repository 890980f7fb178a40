"""What the tests of a store's care share: images that were made here, and images that came."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from foreign import image_archive

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"zebra": b"first" * 4000, "apple": b"second", "empty": b""}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a few files, an attribute among them."""
    directory = tmp_path / "tree"
    (directory / "below").mkdir(parents=True)
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
        (directory / "below" / name).write_bytes(content)
    os.setxattr(directory / "apple", "user.colour", b"red")
    return directory


@pytest.fixture
def made(engine: pylxc.Engine, tree: Path) -> pylxc.Image:
    """An image that was made here, from ``tree``: its layer has a tree and no archive."""
    return pylxc.Image.from_directory(tree, "made", engine=engine)


@pytest.fixture
def archive() -> bytes:
    """An archive of an image as another tool wrote it: in an order that pylxc does not pack in."""
    return image_archive(FILES, "came:latest")


@pytest.fixture
def came(engine: pylxc.Engine, archive: bytes) -> pylxc.Image:
    """An image that came, with a compressed archive of its one layer."""
    return pylxc.Image.load(io.BytesIO(archive), engine=engine)
