"""Finds the ids behind the names of ``--chown``, in the image's own user database (passwd(5), group(5)).

Invariant: as everywhere, digits are an id and never a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from pylxc.layerview import LayerView

ID_LIMIT = 2**32 - 2


def owner(text: str, view: LayerView) -> tuple[int, int]:
    """Return (uid, gid) for "user", "user:group", "uid" or "uid:gid".

    A user's group is the database's, a uid's is the same number.

    Raises SpecError: no such user or group in the image.
    """
    user, colon, group = text.partition(":")
    uid, gid = _lookup("user", user, "/etc/passwd", view) if user else (0, 0)
    if colon:
        gid, _ = _lookup("group", group, "/etc/group", view)
    return uid, gid


def _lookup(kind: str, name: str, database: str, view: LayerView) -> tuple[int, int]:
    """Return the third and fourth field of an entry; for a number both are the number."""
    if name.isascii() and name.isdigit():
        if int(name) > ID_LIMIT:
            raise SpecError("chown", name, f"an id lies between 0 and {ID_LIMIT}")
        return int(name), int(name)
    for line in (view.read(database) or b"").decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 3 and fields[2].isdigit():  # noqa: PLR2004  name, "x", id, id or members
            return int(fields[2]), int(fields[3]) if fields[3].isdigit() else int(fields[2])
    remedy = f"there is no such {kind} in the image's {database}; give the number, or add it first"
    raise SpecError("chown", name, remedy)
