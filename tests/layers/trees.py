"""What the tests of layers say about trees: a tree as one comparable value, and the answer of the C code.

Invariant: two trees with equal snapshots cannot be told apart by a program that lives in them, sizes of directories,
inode numbers and times of reading aside.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Entry = tuple[object, ...]


class TarError(Exception):
    """What the C code answered: ``errno`` and the ``subject`` it named."""

    def __init__(self, errno: int, subject: str) -> None:
        super().__init__(f"errno {errno}: {subject}")
        self.errno = errno
        self.subject = subject


def snapshot(root: Path) -> dict[str, Entry]:
    """All of a tree: path -> (kind and mode, uid, gid, mtime in ns, device, link text, content, attributes, links)."""
    seen: dict[str, Entry] = {".": _entry(os.fspath(root))}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(directory, name)
            seen[os.path.relpath(path, root)] = _entry(path)
    return seen


def _entry(path: str) -> Entry:
    found = os.lstat(path)
    link = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
    content = b""
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = file.read()
    names = sorted(os.listxattr(path, follow_symlinks=False))
    attributes = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    links = 1 if stat.S_ISDIR(found.st_mode) else found.st_nlink
    return (
        oct(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        found.st_rdev,
        link,
        content,
        attributes,
        links,
    )
