"""What must hold of a store that nobody works on, whatever was done to it before.

Hides how that is found out. Invariant: it reads the index, the files and the trees by itself, with sqlite3, hashlib and
tarfile; of pylxc it uses the packer alone, which names a layer that has no archive, and what lets an ordinary user read
files of its other ids.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
import stat
import tarfile
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import zstandard
from attrs import field, frozen

from pylxc.runtime import rootless, transfer

ROOT_NAMES = {"pylxc.db", "pylxc.db-wal", "pylxc.db-shm", "layers", "staging", "trash", "containers", "volumes", "run"}
ROOT_NAMES |= {"oci", "boot", "events", "events.1", "seccomp", "stack", "spares"}
ROOT_NAMES |= {"reserve", "reserve.1", "reserve.2", "reserve.3"}
ROOT_NAMES |= {"caches"}  # no row names them
OPAQUE_MARK = ".wh..wh..opq"
WHITEOUT_MARK = ".wh."
OPAQUE = "user.overlay.opaque"
# What no row of another table wants is to be gone: (what, the rows that are left over).
LEFT_OVER = {
    "leases": "SELECT id FROM leases",
    "leased layers": "SELECT layer FROM leased",
    "layers of images that are not on disk": "SELECT layer FROM unsettled JOIN image_layers USING (layer)",
    "layers that nothing uses": "SELECT digest FROM layers WHERE digest NOT IN (SELECT layer FROM image_layers)"
    " AND digest NOT IN (SELECT layer FROM cache UNION SELECT layer FROM given_uppers)",
    "containers whose layer is gone": "SELECT container FROM given_uppers"
    " WHERE layer NOT IN (SELECT digest FROM layers)",
    "images without a manifest": "SELECT id FROM images WHERE manifest NOT IN (SELECT digest FROM manifests)",
}
# The last move of each tag, and where it is.
MOVED = "SELECT ref, new FROM tag_log WHERE number IN (SELECT max(number) FROM tag_log GROUP BY ref) AND new != ''"


@frozen
class State:
    """What users see of a store: its images, and which of them each tag names. What tells times is left out."""

    images: frozenset[str]
    tags: frozenset[tuple[str, str]]


@frozen
class _Seen:
    """A store as the oracle reads it, and what it finds wrong."""

    root: Path
    index: sqlite3.Connection
    found: list[str] = field(factory=list)

    def expect(self, what: str, actual: Any, wanted: Any) -> None:
        if actual != wanted:
            self.found.append(f"{what}: {_short(actual)} instead of {_short(wanted)}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.index.execute(query).fetchall()

    def column(self, query: str) -> list[Any]:
        return [row[0] for row in self.rows(query)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 2000 else f"{text[:2000]}…"


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the index of a store."""
    with closing(sqlite3.connect(f"file:{root}/pylxc.db?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def state(root: Path) -> State:
    """Return what users see of a store."""
    images = {id: _timeless(config) for id, config in rows(root, "SELECT id, config FROM images")}  # noqa: A001
    tags = {(ref, images[id]) for ref, id in rows(root, "SELECT ref, image FROM tags")}  # noqa: A001
    return State(frozenset(images.values()), frozenset(tags))


def _timeless(config: bytes) -> str:
    """Return the digest of a configuration as it would be, had the image been made at another time."""
    value = json.loads(config)
    for part in (value, *value.get("history", ())):
        part.pop("created", None)
    return _digest(json.dumps(value, sort_keys=True).encode())


def problems(root: Path) -> list[str]:
    """Return what is wrong with a store: all of it, not the first."""
    with closing(sqlite3.connect(root / "pylxc.db")) as connection:
        seen = _Seen(root, connection)
        _check_index(seen)
        _check_directories(seen)
        _check_uppers(seen)
        _check_blobs(seen)
        _check_images(seen)
        _check_layers(seen)
    return seen.found


def _check_index(seen: _Seen) -> None:
    seen.expect("the index", seen.rows("PRAGMA integrity_check"), [("ok",)])
    seen.expect("dangling rows", seen.rows("PRAGMA foreign_key_check"), [])
    for what, query in LEFT_OVER.items():
        seen.expect(what, seen.column(query), [])
    seen.expect("the log of tags", sorted(seen.rows(MOVED)), sorted(seen.rows("SELECT ref, image FROM tags")))


def _check_directories(seen: _Seen) -> None:
    root = seen.root
    seen.expect("strays beside the index", names(root) - ROOT_NAMES, set())
    seen.expect("strays in the layout", names(root / "oci") - {"oci-layout", "index.json", "blobs"}, set())
    seen.expect("algorithms", names(root / "oci/blobs"), {"sha256"})
    for directory, query in {
        "staging": "SELECT '' WHERE 0",
        "trash": "SELECT '' WHERE 0",
        "layers": "SELECT substr(digest, 8) FROM layers",
        "containers": "SELECT id FROM containers",
        "volumes": "SELECT name FROM volumes",
        "oci/blobs/sha256": "SELECT substr(id, 8) FROM images UNION SELECT substr(digest, 8) FROM manifests"
        " UNION SELECT substr(digest, 8) FROM blobs",
    }.items():
        seen.expect(directory, names(root / directory), set(seen.column(query)))


def _check_uppers(seen: _Seen) -> None:
    """What a container wrote lies in one place."""
    given = set(seen.column("SELECT container FROM given_uppers"))
    twice = {id for id in given if (seen.root / "containers" / id / "upper").exists()}  # noqa: A001  docker's name
    seen.expect("what a container wrote lies in a layer, and here", twice, set())


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


def _check_blobs(seen: _Seen) -> None:
    """OCI image-spec, image-layout.md: every blob is what its name says; each is as long as its row says."""
    sizes = dict(seen.rows("SELECT digest, size FROM blobs UNION SELECT digest, size FROM manifests"))
    for path in (seen.root / "oci/blobs/sha256").iterdir():
        data = path.read_bytes()
        seen.expect("a blob's content", _digest(data), f"sha256:{path.name}")
        seen.expect("a blob's size", len(data), sizes.get(f"sha256:{path.name}", len(data)))


def _check_images(seen: _Seen) -> None:
    blobs = seen.root / "oci/blobs/sha256"
    layout = json.loads((seen.root / "oci/oci-layout").read_bytes())
    seen.expect("oci/oci-layout", layout, {"imageLayoutVersion": "1.0.0"})
    layers: dict[str, list[str]] = {}
    for image, layer in seen.rows("SELECT image, layer FROM image_layers ORDER BY image, position"):
        layers.setdefault(image, []).append(layer)
    for image, config in seen.rows("SELECT id, config FROM images"):
        seen.expect("a configuration", _digest(config), image)
        seen.expect("an image's layers", layers.get(image, []), json.loads(config)["rootfs"]["diff_ids"] or [])
    for image, digest in seen.rows("SELECT image, digest FROM manifests"):
        path = blobs / digest[7:]
        if path.exists():
            document = json.loads(path.read_bytes())
            if "config" in document:  # else a list of manifests
                seen.expect("a manifest's configuration", document["config"]["digest"], image)
    index = seen.root / "oci/index.json"
    entries = json.loads(index.read_bytes())["manifests"] if index.exists() else []
    named = [(entry["annotations"]["org.opencontainers.image.ref.name"], entry["digest"]) for entry in entries]
    tags = seen.rows("SELECT ref, manifest FROM tags JOIN images ON image = id ORDER BY ref")
    seen.expect("oci/index.json", named, tags)


# -- layers ------------------------------------------------------------------------------------------------------------


def _check_layers(seen: _Seen) -> None:
    """Each tree is what its archive holds; one without an archive has the digest that it is named by."""
    archives: dict[str, list[str]] = {}
    for layer, digest in seen.rows("SELECT layer, digest FROM blobs"):
        archives.setdefault(layer, []).append(digest)
    for (layer,) in seen.rows("SELECT digest FROM layers"):
        tree = seen.root / "layers" / layer[7:]
        if not tree.is_dir():
            continue  # told of already
        if layer not in archives:
            packed, _ = transfer.digest_of(str(tree), scaffold=str(seen.root / "run"))
            seen.expect(f"the tree of layer {layer[:19]}", packed, layer)
            continue
        entries = rootless.as_owner(_entries_of_tree, str(tree))
        for digest in archives[layer]:
            path = seen.root / "oci/blobs/sha256" / digest[7:]
            if path.exists():
                tar = _plain(path.read_bytes())
                seen.expect(f"the archive of layer {layer[:19]}", _digest(tar), layer)
                _expect_entries(seen, f"the tree of layer {layer[:19]}", entries, _entries_of_tar(tar))


def _expect_entries(seen: _Seen, what: str, actual: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in sorted({*actual, *wanted}):
        seen.expect(f"{what}: {name!r}", actual.get(name), wanted.get(name))


def _plain(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entries_of_tree(tree: str) -> dict[str, tuple[Any, ...]]:
    """Return everything in a tree by its path; what has several names is told by the first of them."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for directory, directories, files in os.walk(tree):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, tree)] = _entry_of(path)
    for name in sorted(found):
        status = os.lstat(os.path.join(tree, name))
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            found[name] = (*found[name], first.setdefault(status.st_ino, name))
    return found


def _entry_of(path: str) -> tuple[Any, ...]:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFCHR and status.st_rdev == 0:
        return ("whiteout",)
    common = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if kind == stat.S_IFLNK:
        return ("link", status.st_uid, status.st_gid, os.readlink(path))
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path)
        if not name.startswith("user.overlay.") or name == OPAQUE  # what overlayfs notes for itself
    }
    time = round(status.st_mtime_ns / 1000)
    if kind == stat.S_IFREG:
        return ("file", *common, time, attributes, Path(path).read_bytes())
    return ({stat.S_IFDIR: "directory", stat.S_IFIFO: "fifo"}.get(kind, "device"), *common, time, attributes)


def _entries_of_tar(data: bytes) -> dict[str, tuple[Any, ...]]:
    """Return what a layer's tar says should be in its tree, as :func:`_entries_of_tree` tells it.

    OCI image-spec, layer.md, "Whiteouts"; docs/architecture.md, "Root filesystems".
    """
    found: dict[str, tuple[Any, ...]] = {}
    links: dict[str, str] = {}
    opaque = []
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        for member in tar:
            directory, name = os.path.split(os.path.normpath(member.name))
            if name == OPAQUE_MARK:
                opaque.append(directory)
            elif name.startswith(WHITEOUT_MARK):
                found[os.path.join(directory, name.removeprefix(WHITEOUT_MARK))] = ("whiteout",)
            elif member.islnk():
                links[os.path.join(directory, name)] = os.path.normpath(member.linkname)
            elif name != ".":
                found[os.path.join(directory, name)] = _entry_of_member(tar, member)
    for directory in opaque:
        found[directory][-1][OPAQUE] = b"y"
    for name in {name for target in links.values() for name in links if links[name] == target} | {*links.values()}:
        target = links.get(name, name)
        same = sorted([target, *(other for other in links if links[other] == target)])
        found[name] = (*found[target][:7], same[0])
    return found


def _entry_of_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[Any, ...]:
    common = (member.mode, member.uid, member.gid)
    if member.issym():
        return ("link", member.uid, member.gid, member.linkname)
    attributes = {
        key.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith("SCHILY.xattr.")
    }
    time = round(float(member.mtime) * 1_000_000)
    if member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        return ("file", *common, time, attributes, content.read())
    kind = "directory" if member.isdir() else "fifo" if member.isfifo() else "device"
    return (kind, *common, time, attributes)
