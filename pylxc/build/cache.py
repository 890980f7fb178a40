"""Keys of the build cache: what a step's result depends on, as one digest.

Invariant: a key is made of the parent's content (its diff ids), the step's definition and the content of the files it
copies; never of a time, a path of this machine or a name of a tag.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = b"pylxc build 2"


def key(parents: Iterable[str], definition: bytes, content: str = "") -> str:
    """Return the key of a step: 64 hex digits. ``parents`` are diff ids, the lowest first."""
    total = hashlib.sha256()
    for part in (VERSION, *(parent.encode() for parent in parents), definition, content.encode()):
        total.update(b"%d:%b" % (len(part), part))
    return total.hexdigest()
