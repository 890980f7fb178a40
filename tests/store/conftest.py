"""What all tests of the store share: small trees to import, and the check that a store is whole, without rubbish."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stores import close

import pylxc
from pylxc.reference import Reference
from pylxc.runtime import transfer
from pylxc.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They look at layers and their owners from outside, which is the machine's root's."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    close(opened)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make a directory of files: ``tree(name="content", …)``; each call gives another one."""

    def make(**files: str) -> Path:
        directory = tmp_path / f"tree{os.urandom(4).hex()}"
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_text(content)
            os.utime(directory / name, (0, 0))
        os.utime(directory, (0, 0))
        return directory

    return make


@pytest.fixture
def check_whole() -> Callable[[Path], None]:
    """Open a store anew and compare all that lies on disk with all that the index says."""
    return _check_whole


def _check_whole(root: Path) -> None:
    engine = pylxc.Engine(root)
    images = pylxc.Image.list(engine=engine)
    for name in ("staging", "trash", "containers"):
        assert os.listdir(root / name) == [], name
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        assert index.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert index.execute("PRAGMA foreign_key_check").fetchall() == []
        assert index.execute("SELECT * FROM leases").fetchall() == []
        digests = {row[0].removeprefix("sha256:") for row in index.execute("SELECT digest FROM layers")}
        archives = {row[0] for row in index.execute("SELECT digest FROM blobs UNION SELECT digest FROM manifests")}
    assert set(os.listdir(root / "layers")) == digests
    for digest in digests:
        found, _ = transfer.digest_of(str(root / "layers" / digest), scaffold=engine.scaffold)
        assert found == f"sha256:{digest}"
    assert {layer.digest.removeprefix("sha256:") for image in images for layer in image.layers} == digests
    _check_layout(root / "oci", images, archives)


def _check_layout(oci: Path, images: list[pylxc.Image], others: set[str]) -> None:
    """OCI image-spec, image-layout.md: every blob is what its name says, and the index names every tagged image."""
    blobs = oci / "blobs/sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert json.loads((oci / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert {f"sha256:{name}" for name in os.listdir(blobs)} == {image.id for image in images} | others
    assert {image.digest for image in images} <= others
    named = set()
    index = oci / "index.json"
    for entry in json.loads(index.read_bytes())["manifests"] if index.exists() else ():
        manifest = (blobs / entry["digest"].removeprefix("sha256:")).read_bytes()
        assert len(manifest) == entry["size"]
        config = json.loads(manifest)["config"]
        assert (blobs / config["digest"].removeprefix("sha256:")).stat().st_size == config["size"]
        named.add((entry["annotations"]["org.opencontainers.image.ref.name"], config["digest"]))
    assert named == {(Reference.parse(ref).canonical, image.id) for image in images for ref in image.refs}
