"""What tests of the store do to one, what must hold of it afterwards, and processes that die while they work on it.

Invariant: ``problems`` reads the files and the index by itself, without the code under test.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import sys
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.store import ContainerRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pylxc.store import ImageRow, LayerRow, Lease, Store
    from pylxc.store.database import Database

LIMIT = 500  # calls; no operation makes so many
# What a process does to the world outside of it, one by one.
CALLS = frozenset(
    (
        "execute",
        "executemany",
        "executescript",
        "link",
        "rename",
        "mkdir",
        "chmod",
        "flock",
        "unlink",
        "fsync",
        "open",
        "write",
        "pylxc_syncfs",
        "pylxc_remove_tree",
    )
)


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def add_layer(store: Store, lease: Lease, text: str) -> LayerRow:
    """Commit a layer that holds one file of this text."""
    tree = Path(lease.stage(), "tree")
    tree.mkdir()
    Path(tree, "file").write_text(text)
    return store.layers.commit(lease, str(tree), digest_of(text), 10240, f"made of {text}")


def document(*digests: str, labels: dict[str, str] | None = None, created: float = 0.0) -> ImageDocument:
    config = ImageConfig(labels=labels or {})
    return ImageDocument(config=config, platform="linux/amd64", created=created, diff_ids=digests)


def add_image(store: Store, ref: str | None, *texts: str, there: Collection[str] = ()) -> ImageRow:
    """Add an image of one layer for each text; ``there``: the digests of those that are layers already."""
    with store.leases.take() as lease:
        lease.protect(there)
        digests = [
            digest if digest in there else add_layer(store, lease, text).digest
            for text in texts
            for digest in (digest_of(text),)
        ]
        return store.images.add(document(*digests), ref, lease)


def container(image: str, name: str, **fields: Any) -> ContainerRow:
    id = fields.pop("id", None) or hashlib.sha256(name.encode()).hexdigest()  # noqa: A001
    return ContainerRow(id, name, image, "{}", fields.pop("created", 1.0), **fields)


def run_in_child(work: Callable[[], object]) -> int:
    """Run a function in a fork; return how that ended: its status, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  nothing of the test's process may run on in the child
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run a function in a fork that ``kill -9`` ends before its call number ``number`` of CALLS; say whether it did."""
    left = number

    def count(_frame: object, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and function.__name__ in CALLS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.setprofile(count)
        work()
        sys.setprofile(None)

    status = run_in_child(watched)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def every_kill(work: Callable[[], object], check: Callable[[], object]) -> int:
    """Call ``check`` after each of the deaths that ``work`` can die; return how many there were."""
    for number in range(LIMIT):
        if not killed_at(number, work):
            return number
        check()
    raise AssertionError("it never came to its end")


def calls_of(work: Callable[[], object]) -> int:
    """Run a function in a fork; return how many calls of CALLS it makes."""
    reading, writing = os.pipe()
    made = 0

    def count(_frame: object, event: str, function: Any) -> None:
        nonlocal made
        made += event == "c_call" and function.__name__ in CALLS

    def counted() -> None:
        sys.setprofile(count)
        work()
        sys.setprofile(None)
        os.write(writing, str(made).encode())

    assert run_in_child(counted) == 0
    os.close(writing)
    with open(reading) as pipe:
        return int(pipe.read())


def index_of(store: Store) -> Database:
    return store.leases._database


def close(store: Store) -> None:
    """Close a store's connection now, not when the garbage is collected."""
    index = index_of(store)
    connection, index._connection = index._connection, None
    if connection is not None:
        connection.close()


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / "pylxc.db")) as connection:
        return connection.execute(query).fetchall()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def problems(root: Path) -> list[str]:
    """Return what is wrong with a store that no process works on."""
    found = []

    def expect(what: str, actual: object, wanted: object) -> None:
        if actual != wanted:
            found.append(f"{what}: {actual} instead of {wanted}")

    expect("damage", rows(root, "PRAGMA integrity_check"), [("ok",)])
    expect("dangling rows", rows(root, "PRAGMA foreign_key_check"), [])
    expect("leases", rows(root, "SELECT * FROM leases"), [])
    expect("staging", names(root / "staging"), set())
    expect("trash", names(root / "trash"), set())
    expect("trees", names(root / "layers"), {row[0][7:] for row in rows(root, "SELECT digest FROM layers")})
    blobs = rows(root, "SELECT id FROM images UNION SELECT digest FROM manifests UNION SELECT digest FROM blobs")
    expect("blobs", names(root / "oci/blobs/sha256"), {digest[7:] for (digest,) in blobs})
    expect(
        "images' manifests",
        rows(root, "SELECT id FROM images WHERE manifest NOT IN (SELECT digest FROM manifests)"),
        [],
    )
    for path in (root / "oci/blobs/sha256").iterdir():
        expect("a blob's content", hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    for tree in (root / "layers").iterdir():
        content = (tree / "file").read_bytes() if (tree / "file").exists() else b"nothing"
        expect("a tree's content", hashlib.sha256(content).hexdigest(), tree.name)
    tags = rows(root, "SELECT ref, manifest FROM tags JOIN images ON image = id ORDER BY ref")
    index = json.loads((root / "oci/index.json").read_bytes())["manifests"]
    entries = [(entry["annotations"]["org.opencontainers.image.ref.name"], entry["digest"]) for entry in index]
    expect("oci/index.json", entries, tags)
    expect("oci/oci-layout", json.loads((root / "oci/oci-layout").read_bytes()), {"imageLayoutVersion": "1.0.0"})
    volumes = {row[0] for row in rows(root, "SELECT name FROM volumes")}
    expect("directories without a volume", names(root / "volumes") - volumes, set())
    known = {row[0] for row in rows(root, "SELECT id FROM containers")}
    expect("directories without a container", names(root / "containers") - known, set())
    return found
