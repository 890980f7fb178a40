"""Archives for the tests of unpacking and packing: hides how a tar block is laid out, down to its wrong forms.

Invariant: nothing here uses pylxc; well-formed archives come from tarfile, malformed ones are made byte by byte.
Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

import io
import struct
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

END = bytes(1024)
ACL = "system.posix_acl_default"
# user::rwx user:1000:rwx group::r-x mask::rwx other::r-x, as acl(5) attributes have it (linux/posix_acl_xattr.h)
ACL_OF_1000 = struct.pack(
    "<I" + 5 * "HHI", 2, 1, 7, 2**32 - 1, 2, 7, 1000, 4, 5, 2**32 - 1, 16, 7, 2**32 - 1, 32, 5, 2**32 - 1
)
UNPACK_LAYER, UNPACK_OWNER_ROOT, UNPACK_KEEP_DIRECTORIES = 1, 2, 8
PACK_LAYER, PACK_SETTLE = 1, 8


def block(name: bytes, kind: bytes = b"0", *, link: bytes = b"", **fields: bytes) -> bytes:
    """One header with a right checksum; ``fields`` replace ``mode uid gid size mtime major minor magic``."""
    numbers = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "size": b"00000000000\0"}
    numbers |= {"mtime": b"00000000000\0", "major": b"0000000\0", "minor": b"0000000\0", "magic": b"ustar\x0000"}
    numbers |= fields
    widths = {"mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "major": 8, "minor": 8, "magic": 8}
    part = {key: value.ljust(widths[key], b"\0") for key, value in numbers.items()}
    assert all(len(part[key]) == width for key, width in widths.items())
    head = name.ljust(100, b"\0") + part["mode"] + part["uid"] + part["gid"] + part["size"] + part["mtime"]
    tail = kind + link.ljust(100, b"\0") + part["magic"] + bytes(64) + part["major"] + part["minor"] + bytes(167)
    checksum = sum(head) + sum(tail) + 8 * ord(" ")
    made = head + b"%06o\0 " % checksum + tail
    assert len(made) == 512
    return made


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    return block(name, size=b"%011o\0" % len(data), **fields) + padded(data)


def directory(name: bytes, **fields: bytes) -> bytes:
    return block(name, b"5", **{"mode": b"0000755\0", **fields})


def record(key: bytes, value: bytes) -> bytes:
    """One pax record; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length += len(str(length)) - len(str(rest))
    return b"%d %s=%s\n" % (length, key, value)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    data = b"".join(record(key, value) for key, value in records)
    return block(b"PaxHeaders/entry", kind, size=b"%011o\0" % len(data)) + padded(data)


def gnu(kind: bytes, text: bytes) -> bytes:
    """A GNU long name (``L``) or long link (``K``)."""
    data = text + b"\0"
    return block(b"././@LongLink", kind, size=b"%011o\0" % len(data), magic=b"ustar  \0") + padded(data)


def archive(fill: Callable[[tarfile.TarFile], None], form: int = tarfile.PAX_FORMAT) -> bytes:
    """What ``fill`` puts into a tarfile."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        fill(tar)
    return out.getvalue()
