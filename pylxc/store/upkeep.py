"""What a check asks of the index and of the directories, and what a repair writes there.

Hides the queries. Invariant: nothing here reads the content of a layer or of a blob; what is found on disk and in the
index at once was looked at inside a transaction, so that nobody was just about to change both.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.documents import OCI_LAYOUT
from pylxc.errors import SpecError
from pylxc.identity import is_locked
from pylxc.mounts import volume_name
from pylxc.reference import is_full_id
from pylxc.store.blobs import NAMED
from pylxc.store.database import TABLE_NAMES, missing_tables
from pylxc.store.going import is_marked
from pylxc.store.layers import SELECT, TREES, LayerRow, to_row
from pylxc.store.layout import explained, open_regular, rename_as_owner

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout

LARGEST = 8 << 20  # bytes of a manifest or a configuration
# What a row needs another one for: table, its column, the other table, that one's column.
_REFERENCES = (
    ("image_layers", "image", "images", "id"),
    ("image_layers", "layer", "layers", "digest"),
    ("tags", "image", "images", "id"),
    ("manifests", "image", "images", "id"),
    ("containers", "image", "images", "id"),
    ("container_volumes", "container", "containers", "id"),
    ("container_volumes", "volume", "volumes", "name"),
    ("given_uppers", "container", "containers", "id"),
    ("endpoints", "container", "containers", "id"),
    ("endpoints", "network", "networks", "id"),
    ("lent", "network", "networks", "id"),
    ("lent", "lease", "leases", "id"),
    ("blobs", "layer", "layers", "digest"),
    ("cache", "layer", "layers", "digest"),
    ("cached_steps", "layer", "layers", "digest"),
    ("damaged", "layer", "layers", "digest"),
    ("unsettled", "layer", "layers", "digest"),
    ("leased", "lease", "leases", "id"),
    ("leased", "layer", "layers", "digest"),
)
_LAST_MOVES = "SELECT ref, new FROM tag_log WHERE number IN (SELECT max(number) FROM tag_log GROUP BY ref)"


@frozen
class Document:
    """A configuration or a manifest that the index names: ``image`` is whose, ``config`` what the index has of it."""

    digest: str
    image: str
    config: bytes | None = None


@frozen
class Dangling:
    """Rows of ``table`` that name a row of ``other`` which is not there, by its ``key``."""

    table: str
    column: str
    other: str
    key: str


class Upkeep:
    """The index, as a check and a repair see it."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    # -- asking -----------------------------------------------------------------------------------------------------

    def damage(self) -> list[str]:
        """Return what is wrong with the index as a file (PRAGMA integrity_check), and which tables it has not."""
        found = [row[0] for row in self._database.rows("PRAGMA integrity_check(20)") if row[0] != "ok"]
        tables = [(str(row[0]),) for row in self._database.rows(TABLE_NAMES)]
        return found + [f"has no table {name}" for name in missing_tables(tables)]

    def dangling(self) -> list[Dangling]:
        """Return the rows that name others which are not there."""
        found = []
        for table, column, other, key in _REFERENCES:
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} NOT IN (SELECT {key} FROM {other})"  # noqa: S608
            found += [Dangling(table, column, other, str(row[0])) for row in self._database.rows(query)]
        return found

    def layers(self) -> list[LayerRow]:
        """Return all layers."""
        return [to_row(row) for row in self._database.rows(f"{SELECT} ORDER BY digest")]

    def documents(self) -> list[Document]:
        """Return all configurations and manifests."""
        rows = self._database.rows("SELECT id, id, CAST(config AS BLOB) FROM images ORDER BY id")
        configs = [Document(*row) for row in rows]
        query = "SELECT digest, image FROM manifests ORDER BY digest"
        return configs + [Document(*row) for row in self._database.rows(query)]

    def images_without_manifest(self) -> list[str]:
        """Return the images whose latest manifest the index has no row of."""
        query = "SELECT id FROM images WHERE manifest NOT IN (SELECT digest FROM manifests WHERE image = id)"
        return [row[0] for row in self._database.rows(query)]

    def manifest_candidates(self, image: str) -> list[str]:
        """Return the blobs that may be a manifest of an image: those the index says so of first, then the strays."""
        rows = self._database.rows("SELECT digest FROM manifests WHERE image = ? ORDER BY digest", (image,))
        strays = [f"sha256:{name}" for name in self.strays()[1] if is_full_id(f"sha256:{name}")]
        small = [digest for digest in strays if os.lstat(self._layout.blob(digest)).st_size <= LARGEST]
        return [row[0] for row in rows] + small

    def layers_of(self, image: str) -> list[tuple[str, int]]:
        """Return the layers of an image, the lowest first: digest, and size of the tar (bytes)."""
        query = "SELECT digest, size FROM image_layers JOIN layers ON layer = digest WHERE image = ? ORDER BY position"
        return [(row[0], row[1]) for row in self._database.rows(query, (image,))]

    def content(self) -> dict[str, set[str]]:
        """Return what each image consists of: its id, its manifests, its layers, and their archives, as digests."""
        query = (
            "SELECT id, id FROM images UNION SELECT image, digest FROM manifests"
            " UNION SELECT image, layer FROM image_layers"
            " UNION SELECT image, digest FROM image_layers JOIN blobs USING (layer)"
        )
        found: dict[str, set[str]] = {}
        for image, digest in self._database.rows(query):
            found.setdefault(image, set()).add(digest)
        return found

    def digests(self) -> set[str]:
        """Return all that has a digest: documents, layers and archives."""
        return {row[0] for row in self._database.rows(f"{NAMED} UNION SELECT digest FROM layers")}  # noqa: S608

    def cached(self) -> tuple[int, int, set[str]]:
        """Return how many entries the build cache has, of how many an image has the layer, and all it keeps alone."""
        query = "SELECT layer, layer IN (SELECT layer FROM image_layers) FROM cache"
        rows = self._database.rows(query)
        alone = {layer for layer, used in rows if not used}
        archives = self._database.rows("SELECT layer, digest FROM blobs")
        return len(rows), sum(used for _, used in rows), alone | {one for layer, one in archives if layer in alone}

    def orphans(self) -> list[str]:
        """Return the layers that neither an image nor the build cache names, nor are what a container wrote."""
        query = (
            "SELECT digest FROM layers WHERE digest NOT IN (SELECT layer FROM image_layers)"
            " AND digest NOT IN (SELECT layer FROM cache UNION SELECT layer FROM given_uppers)"
        )
        return [row[0] for row in self._database.rows(query)]

    def configs_as_text(self) -> list[str]:
        """Return the images whose configuration is text in the index, and no bytes."""
        return [row[0] for row in self._database.rows("SELECT id FROM images WHERE typeof(config) = 'text'")]

    def without_spec(self) -> list[str]:
        """Return the containers whose spec is no JSON object. One that another version wrote is none of them."""
        rows = self._database.rows("SELECT id, spec FROM containers ORDER BY id")
        return [id for id, spec in rows if not _is_object(spec)]  # noqa: A001  docker's name

    def users_of(self, layer: str) -> list[str]:
        """Return the images that have a layer, each by a tag where it has one."""
        query = (
            "SELECT DISTINCT coalesce((SELECT min(ref) FROM tags WHERE tags.image = image_layers.image),"
            " image_layers.image) FROM image_layers WHERE layer = ?"
        )
        return [row[0] for row in self._database.rows(query, (layer,))]

    def mismatched(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the images whose layers in the index are not those of their configuration, and these."""
        found = []
        # In one statement: an image may go and come again meanwhile.
        query = (
            "SELECT id, CAST(config AS BLOB), (SELECT group_concat(layer, ' ') FROM (SELECT layer FROM image_layers"
            " JOIN layers ON layer = digest WHERE image = images.id ORDER BY position)) FROM images"
        )
        for id, config, layers in self._database.rows(query):  # noqa: A001  docker's name
            wanted = diff_ids(config)
            if wanted is not None and (layers or "").split() != list(wanted):
                found.append((id, wanted))
        return found

    def unlogged(self) -> list[str]:
        """Return the tags that are not where the last move in the log brought them."""
        query = (
            "SELECT ref FROM tags WHERE image IS NOT"
            " (SELECT new FROM tag_log WHERE tag_log.ref = tags.ref ORDER BY number DESC LIMIT 1)"
        )
        return [row[0] for row in self._database.rows(query)]

    def untagged(self) -> list[str]:
        """Return the references that the last move in the log brought to an image, and that are no tags."""
        query = f"SELECT ref FROM ({_LAST_MOVES}) WHERE new != '' AND ref NOT IN (SELECT ref FROM tags) ORDER BY ref"  # noqa: S608
        return [row[0] for row in self._database.rows(query)]

    def strays(self, *, quiet: bool = False) -> tuple[list[str], list[str]]:
        """Return the names of the trees, and of the blobs, that nothing in the index names.

        ``quiet``: none while anybody has a lease or a note. What others are just removing has no row any more; they
        leave a note for as long as that takes.
        """
        with self._database.writing(durable=False, freeing=True) as connection:
            if quiet and connection.execute("SELECT 1 FROM leases").fetchone() is not None:
                return [], []
            trees = self._layout.strays("layers", connection.execute(TREES))
            blobs = self._layout.strays("oci/blobs/sha256", connection.execute(NAMED))
        return trees, blobs

    def unnamed(self) -> tuple[list[str], list[str]]:
        """Return what has a directory and no row, and was not removed: ids of containers, and names of volumes."""
        with self._database.writing(durable=False, freeing=True) as connection:
            containers = self._layout.strays("containers", connection.execute("SELECT id FROM containers"))
            volumes = self._layout.strays("volumes", connection.execute("SELECT name FROM volumes"))
        return (
            [id for id in containers if not is_marked(self._layout.container(id))],  # noqa: A001  docker's name
            [name for name in volumes if not is_marked(self._layout.volume(name))],
        )

    def is_volume(self, name: str) -> bool:
        """Say whether something without a row can be a volume: it is a directory, and its name that of one."""
        with suppress(SpecError):
            return os.path.isdir(self._layout.volume(volume_name(name, "name")))  # noqa: PTH112
        return False

    def homeless(self) -> tuple[list[str], list[str]]:
        """Return the containers, and the volumes, that have a row and no directory."""
        found = []
        for table, column, directory in (("containers", "id", "containers"), ("volumes", "name", "volumes")):
            names = [row[0] for row in self._database.rows(f"SELECT {column} FROM {table}")]  # noqa: S608
            missing = [name for name in names if not os.path.isdir(f"{self._layout.root}/{directory}/{name}")]  # noqa: PTH112
            # One that was just being made, or removed, is not missing at the second look.
            query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608
            there = [name for name in missing if self._database.row(query, (name,)) is not None]
            found.append([name for name in there if not os.path.isdir(f"{self._layout.root}/{directory}/{name}")])  # noqa: PTH112
        return found[0], found[1]

    def index_is_right(self) -> bool:
        """Say whether ``oci/index.json`` names every tagged image and no other."""
        query = "SELECT ref, manifest FROM tags JOIN images ON tags.image = id ORDER BY ref"
        with self._database.writing(durable=False, freeing=True) as connection:
            wanted: list[tuple[str, str]] = connection.execute(query).fetchall()
            found = index_entries(self._layout.root)
        return found == wanted or not (wanted or os.path.lexists(f"{self._layout.root}/oci/index.json"))

    def layout_is_right(self) -> bool:
        """Say whether ``oci/oci-layout`` says what it should."""
        return bool(read_json(f"{self._layout.root}/oci/oci-layout") == json.loads(OCI_LAYOUT))

    # -- mending ----------------------------------------------------------------------------------------------------

    def reindex(self) -> None:
        """Make the indexes of the tables anew: where only these are damaged, nothing is lost."""
        with self._database.writing(durable=True) as connection:
            connection.execute("REINDEX")

    def restore_config(self, image: str, config: bytes) -> None:
        """Let the index have an image's configuration as the blob has it."""
        self._database.write("UPDATE images SET config = ? WHERE id = ?", (config, image))

    def restore_bytes(self) -> None:
        """Make bytes of the configurations that are text in the index."""
        self._database.write("UPDATE images SET config = CAST(config AS BLOB) WHERE typeof(config) = 'text'", ())

    def restore_image(self, image: str, config: bytes, manifest: tuple[str, int], created: float) -> None:
        """Give an image that others name its row again."""
        with self._database.writing(durable=True) as connection:
            values = (image, *manifest, config, created)
            connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?)", values)

    def restore_layers(self, image: str, digests: Sequence[str]) -> None:
        """Give an image the layers that its configuration names; those must have rows."""
        with self._database.writing(durable=True) as connection:
            connection.execute("DELETE FROM image_layers WHERE image = ?", (image,))
            rows = [(image, position, layer) for position, layer in enumerate(digests)]
            connection.executemany("INSERT INTO image_layers VALUES (?, ?, ?)", rows)

    def restore_layer(self, digest: str, created_by: str) -> None:
        """Give a layer that images name its row again, as one that is damaged until it was looked at."""
        with self._database.writing(durable=True) as connection:
            values = (digest, 0, created_by, time.time(), "")
            if connection.execute("INSERT OR IGNORE INTO layers VALUES (?, ?, ?, ?, ?)", values).rowcount:
                connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, 'its row was lost')", (digest,))

    def restore_archive(self, digest: str, layer: str, media_type: str, size: int) -> None:
        """Give an archive that manifests name its row again, as one that came."""
        with self._database.writing(durable=True) as connection:
            values = (digest, layer, media_type, size, False)
            connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?)", values)

    def restore_manifest(self, digest: str, image: str, media_type: str, size: int) -> None:
        """Give a manifest its row again, as the image's latest."""
        with self._database.writing(durable=True) as connection:
            connection.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?, ?, ?)", (digest, image, media_type, size))
            connection.execute("UPDATE images SET manifest = ?, manifest_size = ? WHERE id = ?", (digest, size, image))

    def set_size(self, layer: str, size: int) -> None:
        """Note how large the tar of a layer is (bytes)."""
        self._database.write("UPDATE layers SET size = ? WHERE digest = ?", (size, layer))

    def log_moves(self, refs: Iterable[str]) -> None:
        """Let the log of tags end where the tags are."""
        query = (
            "INSERT INTO tag_log (ref, old, new, time) SELECT ref, coalesce((SELECT new FROM tag_log AS past"
            " WHERE past.ref = tags.ref ORDER BY number DESC LIMIT 1), ''), image, ? FROM tags WHERE ref = ?"
        )
        with self._database.writing(durable=True) as connection:
            connection.executemany(query, [(time.time(), ref) for ref in refs])

    def restore_tags(self) -> None:
        """Let the log bring tags again that were lost; those whose image is lost, too, end there."""
        with self._database.writing(durable=True) as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO tags SELECT ref, new FROM ({_LAST_MOVES})"  # noqa: S608
                " WHERE new IN (SELECT id FROM images)"
            )
            connection.execute(
                f"INSERT INTO tag_log (ref, old, new, time) SELECT ref, new, '', ? FROM ({_LAST_MOVES})"  # noqa: S608
                " WHERE new != '' AND ref NOT IN (SELECT ref FROM tags)",
                (time.time(),),
            )

    def drop_dangling(self, kept: Collection[str] = ()) -> None:
        """Delete the rows that name others which are not there; but none of the tables in ``kept``."""
        with self._database.writing(durable=True, freeing=True) as connection:
            for table, column, other, key in _REFERENCES:
                if table not in kept:
                    connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {key} FROM {other})")  # noqa: S608

    def forget_archive(self, digest: str) -> None:
        """Delete the row of an archive: it can be packed again."""
        with self._database.writing(durable=True, freeing=True) as connection:
            connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))

    def set_aside(self, digest: str, inode: int) -> None:
        """Remove the file of a blob that is not what its name says; its row stays, and the same blob may come again.

        ``inode``: of the file that was looked at; another one, which has come meanwhile, is left alone.
        """
        path = self._layout.blob(digest)
        buried: list[str] = []
        with self._database.writing(durable=False, freeing=True), suppress(FileNotFoundError):
            if os.lstat(path).st_ino == inode:
                buried = self._layout.bury([path])
        self._layout.empty(buried)

    def adopt_volumes(self) -> None:
        """Give the directories of volumes rows that have none: they count as named, so that nothing removes them."""
        for name in filter(self.is_volume, self.unnamed()[1]):
            self._database.write("INSERT OR IGNORE INTO volumes VALUES (?, '{}', ?, 0)", (name, time.time()))

    def set_aside_unnamed(self) -> list[str]:
        """Move the directories of containers aside that have no row; return where to."""
        with explained(self._layout.root):
            return [set_aside_container(self._layout, id) for id in self.unnamed()[0]]  # noqa: A001  docker's name

    def set_aside_lost(self) -> list[str]:
        """Take the containers out of the index whose image or spec is lost; return where their directories went.

        One without a spec that runs is left until it has ended.
        """
        query = "SELECT id FROM containers WHERE image NOT IN (SELECT id FROM images)"
        lost = {row[0] for row in self._database.rows(query)}
        lost.update(id for id in self.without_spec() if not is_locked(self._layout.container(id)))  # noqa: A001  docker's
        moved = []
        for id in sorted(lost):  # noqa: A001  docker's name
            with suppress(FileNotFoundError), explained(self._layout.root):
                moved.append(set_aside_container(self._layout, id))
            self._database.write("DELETE FROM containers WHERE id = ?", (id,))
        return moved

    def untag_lost(self) -> None:
        """Take the tags away whose image is lost, and note that in their log."""
        lost = "FROM tags WHERE image NOT IN (SELECT id FROM images)"
        with self._database.writing(durable=True, freeing=True) as connection:
            connection.execute(
                f"INSERT INTO tag_log (ref, old, new, time) SELECT ref, image, '', ? {lost}",
                (time.time(),),
            )
            connection.execute(f"DELETE {lost}")


def set_aside_container(layout: Layout, id: str) -> str:  # noqa: A002  docker's name
    """Move a container's directory to where no store looks at it; return where that is."""
    os.makedirs(f"{layout.root}/lost/containers", mode=0o700, exist_ok=True)  # noqa: PTH103
    target = f"{layout.root}/lost/containers/{id}"
    rename_as_owner(layout.container(id), target)
    return target


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def diff_ids(config: bytes) -> tuple[str, ...] | None:
    """Return the layers that a configuration names; None where it is none."""
    try:
        found = json.loads(config)["rootfs"]["diff_ids"]
        return tuple(map(str, found))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def index_entries(root: str) -> list[tuple[str, str]] | None:
    """Return the references and digests that ``oci/index.json`` names; None where it is not readable."""
    values: Any = read_json(f"{root}/oci/index.json")
    name = "org.opencontainers.image.ref.name"
    try:
        return sorted((entry["annotations"][name], entry["digest"]) for entry in values["manifests"])
    except (KeyError, TypeError):
        return None


def read_json(path: str) -> object:
    """Return the value of a file; None where it is not there, or is no JSON."""
    try:
        return json.loads(read_regular(path) or b"")
    except (ValueError, RecursionError):
        return None


def read_regular(path: str, largest: int | None = None) -> bytes | None:
    """Return the content of a file; None where it is longer (bytes), cannot be read, or is no regular file."""
    try:
        with open(path, "rb", buffering=0, opener=open_regular) as file:
            if largest is not None and os.fstat(file.fileno()).st_size > largest:
                return None
            return file.readall()
    except OSError:
        return None
