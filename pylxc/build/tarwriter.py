"""Writes what was selected as a tar stream: ustar, with a pax header where a value does not fit.

Invariant: the same entries give the same bytes.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.build.confined import Kind
    from pylxc.build.selection import Entry

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES: dict[Kind, bytes] = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "directory": b"5",
    "fifo": b"6",
    "character": b"3",
    "block": b"4",
}
_LARGEST_ID = 0o7777777
_LARGEST_NUMBER = 0o77777777777  # of a size or a time
_LONGEST_NAME = 100


def padding(size: int) -> bytes:
    """Give what fills the last block of a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def header(entry: Entry) -> bytes:
    """Give an entry's header block, with a pax header before it when a value does not fit."""
    name = os.fsencode(entry.name) + (b"/" if entry.kind == "directory" else b"")
    link = os.fsencode(entry.target)
    numbers = {"uid": entry.uid, "gid": entry.gid, "size": entry.size, "mtime": entry.mtime}
    records = b""
    for key, text in (("path", name), ("linkpath", link)):
        if len(text) > _LONGEST_NAME:
            records += _pax_record(key, text)
    for key, value in numbers.items():
        if not 0 <= value <= (_LARGEST_ID if key in ("uid", "gid") else _LARGEST_NUMBER):
            records += _pax_record(key, str(value).encode())
            numbers[key] = 0
    for key, content in entry.attributes:
        records += _pax_record(f"SCHILY.xattr.{key}", content)
    block = _block(name, entry.mode, numbers, _TYPES[entry.kind], link, entry.device)
    if not records:
        return block
    pax = {"uid": 0, "gid": 0, "size": len(records), "mtime": 0}
    return _block(b"PaxHeaders/entry", 0o644, pax, b"x", b"") + records + bytes(-len(records) % BLOCK) + block


def _pax_record(key: str, value: bytes) -> bytes:
    body = b" %b=%b\n" % (os.fsencode(key), value)
    # The length counts its own digits, which may carry it over to one digit more.
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d%b" % (length, body)


def _block(  # noqa: PLR0913, PLR0917  the fields of a header
    name: bytes, mode: int, numbers: dict[str, int], kind: bytes, link: bytes, device: tuple[int, int] = (0, 0)
) -> bytes:
    block = b"".join(
        (
            name[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % numbers["uid"],
            b"%07o\0" % numbers["gid"],
            b"%011o\0" % numbers["size"],
            b"%011o\0" % numbers["mtime"],
            b" " * 8,  # the checksum counts as blanks while it is summed up
            kind,
            link[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            b"ustar\00000".ljust(72, b"\0"),  # and the names of the owners, which nobody asks for
            b"%07o\0%07o\0" % device if any(device) else b"",
        )
    ).ljust(BLOCK, b"\0")
    checksum = sum(block.translate(None, b"\0"))  # most of it is zeros, and adding them up takes ten times as long
    return block[:148] + b"%06o\0 " % checksum + block[156:]
