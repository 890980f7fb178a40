"""Hides SQLite: connections, transactions, the schema, and what its failures mean.

Invariant: a connection never crosses a fork and is never used by two threads at once; every write is one
``BEGIN IMMEDIATE`` transaction, so readers in other processes see all of it or nothing.
Source: https://sqlite.org/wal.html, https://sqlite.org/howtocorrupt.html (2.6, forks).
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import weakref
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pylxc.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

VERSION = 9
BUSY_MS = 60_000
TABLE_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table'"
REMEDY = "`pylxc store repair` makes it anew from what lies beside it"
# What is in one of SQLite's messages, and what it means for the user.
_MEANINGS = {
    "readonly": "is on a read-only file system, or not yours to write ({}); choose another store with PYLXC_ROOT",
    "unable to open": "cannot be written ({}); choose another store with PYLXC_ROOT or Engine(root)",
    "full": "the disk is full ({}); free some space, for example by removing images",
    "disk I/O": "the disk is full or failing ({}); free some space, or look into the kernel's log",
    "locked": f"another process holds it for over {BUSY_MS // 1000} s ({{}}); try again",
}

SCHEMA = """
CREATE TABLE layers (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_by TEXT NOT NULL, created REAL NOT NULL,
    passthrough TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE images (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, manifest_size INTEGER NOT NULL, config BLOB NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers, PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (layer);
CREATE TABLE tags (ref TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images) WITHOUT ROWID;
CREATE INDEX tags_by_image ON tags (image);
CREATE TABLE tag_log (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL,
    time REAL NOT NULL
);
CREATE INDEX tag_log_by_ref ON tag_log (ref, number);
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL REFERENCES images, spec TEXT NOT NULL,
    created REAL NOT NULL, owner_pid INTEGER NOT NULL, owner_start INTEGER NOT NULL, boot_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_by_image ON containers (image);
CREATE TABLE cache (key TEXT PRIMARY KEY, layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX cache_by_layer ON cache (layer);
CREATE TABLE leases (
    id TEXT PRIMARY KEY, pid INTEGER NOT NULL, start_time INTEGER NOT NULL, boot_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE leased (
    lease TEXT NOT NULL REFERENCES leases ON DELETE CASCADE, layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE,
    PRIMARY KEY (lease, layer)
) WITHOUT ROWID;
CREATE INDEX leased_by_layer ON leased (layer);
"""
# What a version added to the one before it; carried out once or again, it comes to the same.
UPGRADES = {
    2: """
CREATE TABLE IF NOT EXISTS volumes (
    name TEXT PRIMARY KEY, labels TEXT NOT NULL, created REAL NOT NULL, anonymous INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS container_volumes (
    container TEXT NOT NULL REFERENCES containers ON DELETE CASCADE, target TEXT NOT NULL,
    volume TEXT NOT NULL REFERENCES volumes, copy INTEGER NOT NULL, PRIMARY KEY (container, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS container_volumes_by_volume ON container_volumes (volume);
""",
    3: """
CREATE TABLE IF NOT EXISTS manifests (
    digest TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, media_type TEXT NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manifests_by_image ON manifests (image);
INSERT OR IGNORE INTO manifests
    SELECT manifest, id, 'application/vnd.oci.image.manifest.v1+json', manifest_size FROM images;
CREATE TABLE IF NOT EXISTS blobs (
    digest TEXT PRIMARY KEY, layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, made INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_layer ON blobs (layer);
""",
    4: """
CREATE TABLE IF NOT EXISTS damaged (
    layer TEXT PRIMARY KEY REFERENCES layers ON DELETE CASCADE, reason TEXT NOT NULL
) WITHOUT ROWID;
""",
    5: """
CREATE TABLE IF NOT EXISTS remembered (name TEXT PRIMARY KEY, facts TEXT NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
""",
    6: """
CREATE TABLE IF NOT EXISTS unsettled (
    layer TEXT PRIMARY KEY REFERENCES layers ON DELETE CASCADE, boot_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cached_steps (
    step TEXT NOT NULL, layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE, PRIMARY KEY (step, layer)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cached_steps_by_layer ON cached_steps (layer);
INSERT OR IGNORE INTO cached_steps SELECT '*', layer FROM cache;
""",
    7: """
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, bridge TEXT NOT NULL UNIQUE, subnets TEXT NOT NULL,
    internal INTEGER NOT NULL, labels TEXT NOT NULL, created REAL NOT NULL, owner_pid INTEGER NOT NULL,
    owner_start INTEGER NOT NULL, boot_id TEXT NOT NULL, last INTEGER NOT NULL, untold INTEGER NOT NULL,
    going INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS endpoints (
    container TEXT NOT NULL REFERENCES containers ON DELETE CASCADE, network TEXT NOT NULL REFERENCES networks,
    position INTEGER NOT NULL, number INTEGER NOT NULL, names TEXT NOT NULL, up INTEGER NOT NULL,
    PRIMARY KEY (container, network)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS endpoints_by_number ON endpoints (network, number);
""",
    8: """
CREATE TABLE IF NOT EXISTS lent (
    network TEXT NOT NULL REFERENCES networks, number INTEGER NOT NULL,
    lease TEXT NOT NULL REFERENCES leases ON DELETE CASCADE, PRIMARY KEY (network, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lent_by_lease ON lent (lease);
""",
    # The layer may have no row: the rename of its tree, and the row, come after this one.
    9: """
CREATE TABLE IF NOT EXISTS given_uppers (
    container TEXT PRIMARY KEY REFERENCES containers ON DELETE CASCADE, layer TEXT NOT NULL UNIQUE
) WITHOUT ROWID;
""",
}
SCHEMA += "".join(UPGRADES.values())
_SCHEMA_TABLES = re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", SCHEMA)


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_abandoned: list[sqlite3.Connection] = []


def _after_fork() -> None:
    """Keep a child of a fork from closing the parent's connections: that may remove the journal (howtocorrupt, 2.6)."""
    for database in tuple(_databases):
        database.abandon()
    if _abandoned:
        import atexit  # noqa: PLC0415  only a child that ends as interpreters do runs it

        atexit.register(_immortalise)


def _immortalise() -> None:
    """Keep the abandoned connections from being closed by the end of the interpreter as well."""
    import ctypes  # noqa: PLC0415

    while _abandoned:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_abandoned.pop()))


os.register_at_fork(after_in_child=_after_fork)


class DamagedIndexError(StoreError):
    """The index is not readable as what it was: it is to be made anew from what lies beside it."""


class Database:
    """The index, in one file. Rows come as tuples.

    ``make_room`` is called before what must be possible on a full disk; if it did something, ``keep_reserve`` after it.
    ``is_read_only``: its file system is.
    """

    def __init__(
        self,
        path: str,
        make_room: Callable[[], bool],
        keep_reserve: Callable[[], object],
        *,
        is_read_only: bool = False,
    ) -> None:
        self.path = path
        self.is_read_only = is_read_only
        self._make_room = make_room
        self._keep_reserve = keep_reserve
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._durable = False
        self._put_off: list[Callable[[], object]] = []
        _databases.add(self)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with translated(self.path), self._locked() as connection:
            return connection.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row that a query finds, or None."""
        found = self.rows(query, values)
        return found[0] if found else None

    def write(self, statement: str, values: Sequence[Any]) -> None:
        """Carry out one statement, a transaction of its own: as :meth:`writing` without ``durable``, but faster."""
        with translated(self.path), self._locked() as connection:
            self._set_durable(connection, durable=False)
            connection.execute(statement, values)

    @contextmanager
    def writing(self, *, durable: bool, freeing: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the connection, inside a transaction that is committed at the end of the block, or rolled back.

        ``durable``: it has survived a power loss once the block is left. Without it, it has survived anything less.
        ``freeing``: it removes something, so it may use the store's reserve.
        """
        with translated(self.path), self._locked() as connection:
            made_room = freeing and self._make_room()
            self._set_durable(connection, durable=durable)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._catch_up()
                if made_room:
                    # The journal does not shrink by itself: it would eat up the reserve, removal by removal.
                    with suppress(sqlite3.Error):
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self._keep_reserve()

    def after_transaction(self, work: Callable[[], object]) -> None:
        """Do what a garbage collection asks for: at once, or when the transaction that it came upon has ended."""
        with self._lock:
            if self._connection is not None and self._connection.in_transaction:  # this thread's own: it has the lock
                self._put_off.append(work)
                return
        work()

    def _catch_up(self) -> None:
        while self._put_off:
            try:
                self._put_off.pop()()
            except (StoreError, OSError) as error:  # noqa: PERF203  whoever writes has nothing to do with it
                import logging  # noqa: PLC0415  hardly ever

                logging.getLogger("pylxc").warning("after a transaction: %s", error)

    def _set_durable(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        if durable != self._durable:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection

    def abandon(self) -> None:
        """Leave the connection alone in a child of a fork: it, and the lock as it was copied, belong to the parent."""
        if self._connection is not None:
            _abandoned.append(self._connection)
        self._connection = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection; the next use makes another one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        self._make_room()  # shared memory is needed even for reading
        connection = _open_to_read(self.path) if self.is_read_only else _open(self.path)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._durable = False
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            self._refuse_other(version)
            if version < VERSION:
                _upgrade(connection, version)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_other(self, version: int) -> None:
        if version > VERSION:
            raise StoreError(self.path, f"was written by a newer pylxc (schema {version}); upgrade this one")
        if version < 1:
            if not os.path.getsize(self.path):  # noqa: PTH202
                raise DamagedIndexError(self.path, f"is damaged (it is empty); {REMEDY}")
            raise StoreError(self.path, "is no index of pylxc; move it away, or choose another store with PYLXC_ROOT")

    def make(self, temporary: str) -> None:
        """Make the index of a new store in a file of another name, which gets its own when it is whole.

        Switching to WAL needs the file for oneself, and SQLite does not wait for that: it cannot be done in place while
        other processes open the file. The mode is private: the index holds what users put into environments. Raises
        OSError, StoreError.
        """
        with translated(self.path):
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(_open(temporary)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn what SQLite says of an index in a block into a StoreError; what rows must not be stays IntegrityError."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        kind = DamagedIndexError if _is_damage(str(error)) else StoreError
        raise kind(path, _reason(str(error))) from error


def missing_tables(rows: Iterable[tuple[str]]) -> list[str]:
    """Return the tables that an index should have, and that are not among the rows of TABLE_NAMES."""
    there = {name for (name,) in rows}
    return [name for name in _SCHEMA_TABLES if name not in there]


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring an older store's index to this version. Several processes may do so at once, one after the other."""
    script = "".join(UPGRADES[number] for number in range(version + 1, VERSION + 1))
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={VERSION}; COMMIT;")


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    return connection


def _open_to_read(path: str) -> sqlite3.Connection:
    """Open an index whose file system is read-only: without its journal, if it has none (sqlite.org/wal.html, 7)."""
    from urllib.parse import quote  # noqa: PLC0415  hardly ever

    has_journal = os.path.exists(f"{path}-wal")  # noqa: PTH110
    address = f"file:{quote(path)}?mode=ro" + ("" if has_journal else "&immutable=1")
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)


def _reason(message: str) -> str:
    """Return what one of SQLite's messages means for the user."""
    if _is_damage(message):
        return f"is damaged ({message}); {REMEDY}"
    meaning = next((meaning.format(message) for words, meaning in _MEANINGS.items() if words in message), None)
    return message if meaning is None else meaning


def _is_damage(message: str) -> bool:
    return any(words in message for words in ("not a database", "malformed", "no such table"))
