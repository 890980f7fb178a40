"""What the files of a context were when they were last read: their SHA-256, and for a while the content itself.

Hides how reading a file twice is spared, within one build and from one to the next. Invariant: a hash counts only for a
file with the same inode, size, mtime and ctime, whose times lay well before it was read (as git has it): a file that
changes without those changing is one that nobody but the machine's root, with another clock, can make.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.build.selection import Entry

SETTLED = 2_000_000_000  # ns; a file that was changed later than that before it was read may change unseen
MOST = 200_000  # files that are remembered
WORTH = 200  # files: with fewer, reading them is as fast as remembering
LARGEST_KEPT = 1 << 20  # bytes of one content
KEPT = 64 << 20  # bytes of all

Facts = tuple[int, int, int, int, str]


class FileHashes:
    """Those of one context; threads may share it. Paths are those of :attr:`~pylxc.build.selection.Entry.source`."""

    def __init__(self) -> None:
        self._begin = time.time_ns()  # before anything was read
        self._lock = threading.Lock()
        self._known: dict[str, Facts] = {}
        self._contents: dict[str, tuple[Facts, bytes]] = {}
        self._room = KEPT
        self._news = 0
        self.is_loaded = False

    def get(self, entry: Entry) -> str | None:
        """Return the hash of a file, in hexadecimal digits, if it is known."""
        known = self._known.get(entry.source)
        return known[4] if known is not None and known[:4] == (*entry.stamp, entry.size) else None

    def put(self, entry: Entry, digest: str, content: bytes | None = None) -> None:
        """Remember what a file was, and its content until :meth:`take` where there is room for it."""
        facts = (*entry.stamp, entry.size, digest)
        with self._lock:
            self._known[entry.source] = facts
            self._news += 1
            if content is not None and len(content) <= self._room and entry.source not in self._contents:
                self._room -= len(content)
                self._contents[entry.source] = facts, content

    def take(self, entry: Entry) -> bytes | None:
        """Return the content of a file, once, if it is here."""
        with self._lock:
            facts, content = self._contents.pop(entry.source, (None, b""))
            self._room += len(content)
        return content if facts is not None and facts[:4] == (*entry.stamp, entry.size) else None

    def load(self, text: str | None) -> None:
        """Read what :meth:`dump` gave."""
        self.is_loaded = True
        if text is not None:
            known = {os.fspath(path): tuple(facts) for path, facts in json.loads(text).items()}
            with self._lock:
                self._known = {**known, **self._known}

    def dump(self) -> str | None:
        """Return what is known as a text; None where there is nothing new, or not enough to be worth it."""
        before = self._begin - SETTLED
        with self._lock:
            if not self._news or not WORTH <= len(self._known) <= MOST:
                return None
            self._news = 0
            settled = {path: facts for path, facts in self._known.items() if max(facts[1], facts[2]) < before}
        return json.dumps(settled, separators=(",", ":"))
