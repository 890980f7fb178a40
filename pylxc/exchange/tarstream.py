"""Reads tar archives that hold images: their members one after the other, from a stream that cannot seek.

Hides the forms of headers (ustar, pax, GNU). Invariant: a name is relative, in UTF-8, and leads nowhere else; what an
image archive has no use for (devices, sparse files) is refused; nothing is unpacked here.
Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar, "Basic Tar Format".
"""

from __future__ import annotations

import posixpath
from typing import IO, TYPE_CHECKING

from attrs import frozen

from pylxc.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
CHUNK = 1 << 20
EXTENSION_LIMIT = 1 << 20  # bytes of a pax header or a long name
TRAILER_LIMIT = 1 << 20  # bytes read behind the end, for the sake of who writes them
LONGEST_NUMBER = 18  # digits; 2**63 has one more
_KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"5": "directory"}


@frozen
class Member:
    """One entry: ``name`` and ``link`` (what a link leads to) are relative to the archive's root; ``size`` in bytes."""

    name: str
    kind: str
    size: int
    link: str = ""


class TarStream:
    """The members of an archive, in their order. ``subject`` is what errors call it."""

    def __init__(self, stream: IO[bytes], subject: str) -> None:
        self._stream = stream
        self._subject = subject
        self._left = 0  # bytes of the present member that were not read
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Yield the members. Raises StoreError for what is damaged, ends early or may not be."""
        said: dict[str, bytes] = {}
        while (block := self._header()) is not None:
            kind, size = block[156:157], self._number(block[124:136])
            if kind in b"xgLK" and kind:
                extension = self._extension(size)
                if kind == b"x":
                    said.update(self._records(extension))
                elif kind != b"g":
                    said["path" if kind == b"L" else "linkpath"] = extension.split(b"\0")[0]
                continue
            if any(key.startswith("GNU.sparse") for key in said):
                raise self._error("holds a sparse file, which has no place in an image archive")
            member = self._member(block, size, said)
            said = {}
            self._left = member.size
            self._padding = -member.size % BLOCK
            yield member
            self._skip(self._left + self._padding)
        self._finish()

    def read(self, size: int = CHUNK) -> bytes:
        """Return some of the present member's content, b"" at its end."""
        data = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise self._error("ends too early")
        self._left -= len(data)
        return data

    def _header(self) -> bytes | None:
        """Return the next header, None at the end of the archive."""
        block = self._exactly(BLOCK, "is no tar archive, or ends too early")
        if not any(block):
            return None
        try:
            expected = int(block[148:156].strip(b" \0") or b"0", 8)
        except ValueError:
            expected = -1
        if sum(block) - sum(block[148:156]) + 8 * ord(" ") != expected:
            raise self._error("is no tar archive, or is damaged")
        return block

    def _member(self, block: bytes, size: int, said: dict[str, bytes]) -> Member:
        kind = _KINDS.get(block[156:157], "")
        prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        own = block[:100].split(b"\0")[0]
        name = self._name(said.get("path") or (prefix + b"/" + own if prefix else own))
        if not kind:
            raise self._error(f"{name!r} is of a kind that has no place in an image archive")
        if "size" in said:
            size = self._decimal(said["size"])
        if kind != "file":
            size = 0
        if kind not in ("symlink", "hardlink"):
            return Member(name, kind, size)
        target = self._text(said.get("linkpath") or block[157:257].split(b"\0")[0])
        base = posixpath.dirname(name) if kind == "symlink" else ""
        return Member(name, kind, 0, self._inside(posixpath.join(base, target), target))

    def _name(self, raw: bytes) -> str:
        name = self._text(raw)
        if ".." in name.split("/"):
            raise self._error(f"a name leads out of the archive: {name!r}")
        return self._inside(name, name)

    def _inside(self, path: str, shown: str) -> str:
        """Return a path without what means nothing in it. Raises StoreError when it leads out of the archive."""
        normal = posixpath.normpath(path)
        if normal.startswith("/") or normal.split("/")[0] == "..":
            raise self._error(f"a name leads out of the archive: {shown!r}")
        return normal

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._error(f"a name is not UTF-8: {raw[:80]!r}") from None

    def _number(self, field: bytes) -> int:
        if field[0] & 0x80:  # GNU: a binary number
            return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        try:
            number = int(field.strip(b" \0") or b"0", 8)
        except ValueError:
            number = -1
        if number < 0:
            raise self._error("is damaged: a size is no number")
        return number

    def _decimal(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > LONGEST_NUMBER:
            raise self._error("is damaged: a size is no number")
        return int(text)

    def _extension(self, size: int) -> bytes:
        if size > EXTENSION_LIMIT:
            raise self._error("has a header of more than 1 MiB")
        data = self._exactly(size + -size % BLOCK, "ends too early")
        return data[:size]

    def _records(self, data: bytes) -> dict[str, bytes]:
        found = {}
        while data:
            length, blank, _ = data.partition(b" ")
            end = self._decimal(length) if blank else 0
            key, equals, value = data[len(length) + 1 : max(end - 1, 0)].partition(b"=")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                raise self._error("is damaged: a pax header is malformed")
            found[key.decode("utf-8", "replace")] = value
            data = data[end:]
        return found

    def _exactly(self, size: int, otherwise: str) -> bytes:
        data = b""
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise self._error(otherwise)
            data += more
        return data

    def _skip(self, size: int) -> None:
        while size:
            data = self._stream.read(min(size, CHUNK))
            if not data:
                raise self._error("ends too early")
            size -= len(data)

    def _finish(self) -> None:
        left = TRAILER_LIMIT
        while left > 0 and (data := self._stream.read(min(left, CHUNK))):
            left -= len(data)

    def _error(self, words: str) -> StoreError:
        return StoreError(self._subject, words)
