"""Hides that a run of the suite has several workers: what is expensive is made once, by whoever wants it first."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


def shared(places: pytest.TempPathFactory, name: str) -> Path:
    """Return a directory of that name that all workers of this run have."""
    base = places.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    place.mkdir(exist_ok=True)
    return place


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Keep the other workers out of a shared directory for as long as the block takes."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
