"""An engine: one store and its runtime directory. The one place that wires the parts together.

Invariant: nothing is opened, made or started before it is needed; any number of engines, in any number of processes, may
share one store.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pylxc.errors import Conflict, ContainerNotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pylxc.container import Container
    from pylxc.image import Image
    from pylxc.runtime.isolation import Tree
    from pylxc.store import Store

NAME_ATTEMPTS = 8
_SEARCH = 0o711  # the scaffold's directories: empty, and only ever mounted over


def default_root() -> Path:
    """Return where the default store lies: ``PYLXC_ROOT``, else by user (XDG Base Directory Specification)."""
    chosen = os.environ.get("PYLXC_ROOT")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/pylxc")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111
    return Path(data, "pylxc")


class Engine:
    """One store plus its runtime directory. ``root`` is its path; ``Engine()`` is the default one's.

    Making an Engine touches nothing; the store is made, or opened, with the first use. Raises StoreError then, when it
    cannot be: the path is read-only, full, not a directory, or on a network file system.

    Example:
        >>> engine = pylxc.Engine("/srv/containers")                                # doctest: +SKIP
        >>> pylxc.run("host", ["true"], engine=engine).ok
        True

    """

    _defaults: ClassVar[dict[Path, Engine]] = {}

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(os.path.abspath(root)) if root is not None else default_root().absolute()  # noqa: PTH100  no links are resolved
        self.scaffold = f"{self.root}/run"
        self._store: Store | None = None
        self._lock = threading.RLock()
        self._pid = 0
        self._host: Image | None = None

    @classmethod
    def default(cls) -> Engine:
        """Return the engine that is used where none is named; it follows ``PYLXC_ROOT``."""
        root = default_root().absolute()
        return cls._defaults.setdefault(root, cls(root))

    def __repr__(self) -> str:
        return f"Engine({str(self.root)!r})"

    # -- the store --------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The opened store."""
        if self._store is None:
            with self._lock:
                if self._store is None:
                    self._store = self._open()
        return self._store

    def _open(self) -> Store:
        from pylxc.store import Store  # noqa: PLC0415  SQLite is loaded with the first use

        store = Store.open(self.root)
        try:
            for name in ("root", "memory", "stubs/proc", "stubs/dev", "stubs/sys", "stubs/etc"):
                os.makedirs(f"{self.scaffold}/{name}", mode=0o755, exist_ok=True)  # noqa: PTH103
            for name in ("hosts", "hostname", "resolv.conf"):
                Path(self.scaffold, "stubs/etc", name).touch(0o644)
        except OSError as error:
            raise StoreError(self.root, f"cannot be prepared: {error.strerror}") from error
        return store
