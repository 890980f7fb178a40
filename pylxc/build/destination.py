"""The directories that a COPY with an owner makes on its way: they are its owner's.

Hides which of them are missing. Invariant: what is there in any form (a directory, a file, a link to nowhere) is left
to whoever unpacks.

Source: Dockerfile reference, COPY --chown.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

import attrs

from pylxc.build.selection import Entry, Selection

if TYPE_CHECKING:
    from pylxc.build.confined import ConfinedTree

MODE = 0o755


def with_directories(selection: Selection, owner: tuple[int, int], image: ConfinedTree) -> Selection:
    """Add the directories to a selection that are not in the image, with this owner."""
    present, missing = _split(selection.directory, image)
    if not missing or selection.archives:
        return selection
    made = tuple(
        Entry("/".join(missing[: end + 1]), "", "directory", MODE, 0, 0, *owner) for end in range(len(missing))
    )
    prefix = "/".join(missing)
    return Selection((*made, *(_below(prefix, entry) for entry in selection.entries)), present)


def _split(directory: str, image: ConfinedTree) -> tuple[str, list[str]]:
    """Give the part of a directory's path that is there, without links, and the names of what is not."""
    parts = [part for part in directory.split("/") if part]
    done = ""
    for index, part in enumerate(parts):
        path = posixpath.join(done, part)
        try:
            done = image.resolve(path)
        except FileNotFoundError:
            return f"/{done}", [] if _is_there(image, path) else parts[index:]
        except NotADirectoryError:
            return directory, []
    return directory, []


def _is_there(image: ConfinedTree, path: str) -> bool:
    try:
        image.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _below(prefix: str, entry: Entry) -> Entry:
    target = f"{prefix}/{entry.target}" if entry.kind == "hardlink" else entry.target
    return attrs.evolve(entry, name=f"{prefix}/{entry.name}", target=target)
