"""The build cache: from the key of a step to the layer that it made. Invariant: an entry ends with its layer.

Beside them, small facts that spare asking elsewhere; any of them may be gone at any time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.store.database import Database
    from pylxc.store.leases import Lease

MOST_REMEMBERED = 4096
ANY_STEP = "*"  # of a layer of which nobody knows what step made it


class BuildCache:
    """All entries of a store's build cache."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, lease: Lease) -> str | None:
        """Return the digest of the layer that a step made before, and keep that layer while the lease lasts."""
        found = self._database.row("SELECT layer FROM cache WHERE key = ?", (key,))
        if found is None:
            return None
        with self._database.writing(durable=False) as connection:
            found = connection.execute("SELECT layer FROM cache WHERE key = ?", (key,)).fetchone()
            if found is not None:
                connection.execute("INSERT OR IGNORE INTO leased VALUES (?, ?)", (lease.id, found[0]))
        return str(found[0]) if found is not None else None

    def put(self, key: str, digest: str, step: str = ANY_STEP) -> None:
        """Remember the layer that a step made: ``step`` is its key whatever it stands on."""
        with self._database.writing(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO cache VALUES (?, ?)", (key, digest))
            connection.execute("INSERT OR IGNORE INTO cached_steps VALUES (?, ?)", (step, digest))

    def has_step(self, step: str) -> bool:
        """Say whether there may be an entry of a step, on whatever it stands."""
        query = "SELECT 1 FROM cached_steps WHERE step IN (?, ?) LIMIT 1"
        return self._database.row(query, (step, ANY_STEP)) is not None

    def recall(self, name: str) -> str | None:
        """Return what was remembered under a name."""
        found = self._database.row("SELECT facts FROM remembered WHERE name = ?", (name,))
        return None if found is None else str(found[0])

    def remember(self, name: str, facts: str) -> None:
        """Remember what spares fetching something again; of MOST_REMEMBERED, the oldest is forgotten."""
        with self._database.writing(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)", (name, facts, time.time()))
            connection.execute(
                "DELETE FROM remembered WHERE name IN"
                " (SELECT name FROM remembered ORDER BY time DESC LIMIT -1 OFFSET ?)",
                (MOST_REMEMBERED,),
            )

    def forget(self, before: float | None = None, *, every: bool = False) -> int:
        """Forget the entries whose layers no image has (``every``: all) and were made ``before``; return how many."""
        query = (
            "DELETE FROM cache WHERE (?1 OR layer NOT IN (SELECT layer FROM image_layers))"
            " AND (?2 IS NULL OR layer IN (SELECT digest FROM layers WHERE created < ?2))"
        )
        with self._database.writing(durable=False, freeing=True) as connection:
            connection.execute("DELETE FROM remembered WHERE ?1 IS NULL OR time < ?1", (before,))
            forgotten = connection.execute(query, (every, before)).rowcount
            connection.execute("DELETE FROM cached_steps WHERE layer NOT IN (SELECT layer FROM cache)")
            return forgotten
