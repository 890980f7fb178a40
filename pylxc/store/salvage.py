"""Makes an index anew from what can still be read of a damaged one, and from what lies beside it.

Hides which of the two knows what: images, their layers and tags are in the OCI layout; volumes are directories; what
only the index knew (containers, the log of tags, labels of volumes) is read from it row by row as far as it goes.
Invariant: the damaged index and directories of containers that nothing is known of any more are moved aside, never
removed; the new index appears whole. Killed in between, the next one does the same again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pylxc.digests import digest_of
from pylxc.documents import LAYERS, OCI_MANIFEST, form_said
from pylxc.errors import PylxcError
from pylxc.imageconfig import ImageDocument
from pylxc.reference import is_full_id
from pylxc.store.database import TABLE_NAMES, Database, missing_tables, translated
from pylxc.store.layers import is_tree
from pylxc.store.layout import Layout, explained, sync_directory, sync_file
from pylxc.store.upkeep import LARGEST, Upkeep, index_entries, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# In the order in which rows need each other, with the column that is a digest, if any.
TABLES = {
    "layers": 0,
    "images": 0,
    "image_layers": None,
    "manifests": 0,
    "blobs": 0,
    "tags": None,
    "tag_log": None,
    "containers": None,
    "given_uppers": 1,
    "cache": None,
    "cached_steps": None,
    "volumes": None,
    "container_volumes": None,
    "networks": None,
    "endpoints": None,
    "damaged": 0,
    "unsettled": 0,
}
BESIDE = ("-wal", "-shm", "-journal")


def rebuild(root: Path) -> tuple[str, ...]:
    """Make the index of a store anew; return where the old one, and what else was moved aside, is.

    No other process should use the store meanwhile: what it writes to the old index is not in the new one. Raises
    StoreError.
    """
    layout = Layout(str(root))
    layout.make()
    with explained(layout.root), translated(layout.database):
        place = os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(place, fcntl.LOCK_EX)  # as who makes a new store: one at a time
            return () if _is_whole(layout.database) else _rebuild(layout)
        finally:
            os.close(place)


def _is_whole(path: str) -> bool:
    """Say whether there is an index that can be read: another process may have made it anew meanwhile."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            is_whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            has_version = connection.execute("PRAGMA user_version").fetchone()[0]
            return bool(is_whole and has_version and not missing_tables(connection.execute(TABLE_NAMES)))
    except sqlite3.Error:
        return False


def _rebuild(layout: Layout) -> tuple[str, ...]:
    layout.make_room()
    # Not in the staging: who opens the store removes what it does not know there.
    scratch = f"{layout.root}/lost/making"
    shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed
    os.makedirs(scratch, mode=0o700)  # noqa: PTH103
    try:
        rows = _read(layout.database, scratch)
        new = f"{scratch}/new.db"
        database = Database(new, layout.make_room, layout.keep_reserve)
        database.make(new)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for table, found in rows.items():
                _insert(connection, table, found)
            _add_images(connection, layout)
            _add_tags(connection, layout)
            connection.execute("COMMIT")
        upkeep = Upkeep(database, layout)
        upkeep.adopt_volumes()
        upkeep.drop_dangling()
        lost = upkeep.set_aside_unnamed()
        database.close()
        _settle(new)
        return (*lost, *_replace(layout, new))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(f"{layout.root}/lost")  # noqa: PTH106  nothing was moved aside


def _settle(path: str) -> None:
    """Put all of a database into its one file, and on disk."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync_file(path)


def _replace(layout: Layout, new: str) -> tuple[str, ...]:
    """Move the old index aside, its journal first (one that is left would be played into the new one)."""
    aside = f"{layout.root}/lost/{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(3).hex()}"
    os.makedirs(aside, mode=0o700)  # noqa: PTH103
    if os.path.exists(layout.database):  # noqa: PTH110
        os.link(layout.database, f"{aside}/pylxc.db")
    for suffix in BESIDE:
        with suppress(FileNotFoundError):
            os.rename(layout.database + suffix, f"{aside}/pylxc.db{suffix}")  # noqa: PTH104
    os.rename(new, layout.database)  # noqa: PTH104
    sync_directory(layout.root)
    if not os.listdir(aside):  # noqa: PTH208
        os.rmdir(aside)  # noqa: PTH106
        return ()
    return (aside,)


# -- what the old index still tells ------------------------------------------------------------------------------------


def _read(path: str, scratch: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what can be read of each table. A copy is read: opening a database may change it."""
    copy = f"{scratch}/old.db"
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(path + suffix, copy + suffix)
    if not os.path.exists(copy):  # noqa: PTH110
        return rows
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.text_factory = lambda data: data.decode(errors="replace")
        for table, found in rows.items():
            with suppress(sqlite3.Error):  # what was read up to here is what there is
                for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608
                    found.append(row)
    return rows


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    column = TABLES[table]
    width = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    for row in rows:
        if len(row) != width or (column is not None and not (isinstance(row[column], str) and is_full_id(row[column]))):
            continue
        with suppress(sqlite3.IntegrityError):  # a row that does not fit is none
            connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608


# -- what lies beside it -----------------------------------------------------------------------------------------------


def _documents(layout: Layout) -> dict[str, bytes]:
    """Return the blobs that are JSON objects, by digest; those that are not what their name says are left out."""
    directory = f"{layout.root}/oci/blobs/sha256"
    found = {}
    for name in sorted(os.listdir(directory)):  # noqa: PTH208
        data = read_regular(f"{directory}/{name}", LARGEST) or b""
        if is_full_id(f"sha256:{name}") and data.lstrip().startswith(b"{") and digest_of(data) == f"sha256:{name}":
            found[f"sha256:{name}"] = data
    return found


def _add_images(connection: sqlite3.Connection, layout: Layout) -> None:
    blobs = _documents(layout)
    for digest, data in blobs.items():
        try:
            values = json.loads(data)
            config = values["config"]["digest"]
            document = ImageDocument.from_bytes(blobs[config])
            layers = [(str(layer["digest"]), str(layer["mediaType"]), int(layer["size"])) for layer in values["layers"]]
        except (KeyError, TypeError, ValueError, RecursionError, PylxcError):
            continue  # a configuration, or a document of another kind
        if len(layers) != len(document.diff_ids) or not _is_here(connection, layout, document.diff_ids):
            continue
        media_type = str(values.get("mediaType") or OCI_MANIFEST)
        _add_image(connection, (config, digest, len(data), blobs[config], document.created), document, media_type)
        for (archive, kind, size), layer in zip(layers, document.diff_ids, strict=True):
            if is_full_id(archive) and os.path.exists(layout.blob(archive)):  # noqa: PTH110
                row = (archive, layer, LAYERS[form_said(kind)], size)
                connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, 0)", row)


def _is_here(connection: sqlite3.Connection, layout: Layout, digests: Iterable[str]) -> bool:
    """Say whether something is left of each layer. A host image's says in the index only what it passes through."""
    for digest in digests:
        known = connection.execute("SELECT 1 FROM layers WHERE digest = ?", (digest,)).fetchone() is not None
        tree = layout.layer(digest)
        if not known and (not is_tree(tree) or os.path.lexists(f"{tree}/usr/.pylxc-host")):
            return False
    return True


def _add_image(
    connection: sqlite3.Connection, row: tuple[str, str, int, bytes, float], document: ImageDocument, media_type: str
) -> None:
    id, digest, size, _, created = row  # noqa: A001  docker's name
    connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?)", row)
    connection.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?, ?, ?)", (digest, id, media_type, size))
    for position, (layer, step) in enumerate(zip(document.diff_ids, document.steps, strict=True)):
        # Without a size, which the repair that follows finds out.
        connection.execute("INSERT OR IGNORE INTO layers VALUES (?, 0, ?, ?, '')", (layer, step, created))
        connection.execute("INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?)", (id, position, layer))


def _add_tags(connection: sqlite3.Connection, layout: Layout) -> None:
    for ref, digest in index_entries(layout.root) or ():
        query = "SELECT image FROM manifests WHERE digest = ?"
        found = connection.execute(query, (digest,)).fetchone()
        if found is not None and connection.execute("SELECT 1 FROM tags WHERE ref = ?", (ref,)).fetchone() is None:
            connection.execute("INSERT INTO tags VALUES (?, ?)", (ref, found[0]))
