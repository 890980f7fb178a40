"""The surface of a Dockerfile: the text made into logical lines, each with a map back to where it was written.

Hides the byte order mark, line endings, parser directives, comments and continuations. Invariant: no instruction is
known here.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from pylxc.errors import DockerfileError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")


@attrs.frozen
class _Piece:
    """Part of a logical line that stands together in the file."""

    offset: int  # in the logical line
    line: int
    column: int
    physical: str


@attrs.frozen
class LogicalLine:
    """One instruction's text with the continuations joined, and the map back to where it was written."""

    text: str
    pieces: tuple[_Piece, ...]
    path: str

    def locate(self, offset: int) -> tuple[int, int]:
        """Give the (line, column), both from 1, of a character of ``text``."""
        piece = self._piece(offset)
        return piece.line, piece.column + offset - piece.offset

    def fault(self, reason: str, offset: int = 0) -> DockerfileError:
        """Make the error that points at a character of ``text``."""
        line, column = self.locate(offset)
        return DockerfileError(reason, line=line, column=column, source=self._piece(offset).physical, path=self.path)

    def unsupported(self, feature: str, remedy: str, offset: int = 0) -> UnsupportedError:
        """Make the error for what is right at this place, but not carried out yet."""
        line, column = self.locate(offset)
        where = f"{self.path}:{line}:{column}"
        return UnsupportedError(feature, f"comes in a later version of pylxc; until then {remedy} ({where})")

    def _piece(self, offset: int) -> _Piece:
        return next(piece for piece in reversed(self.pieces) if piece.offset <= offset or piece.offset == 0)


def physical_lines(data: bytes | str, path: str) -> list[str]:
    """Split a file into its lines. Raises :class:`DockerfileError` for what is no text."""
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            row, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
            raise DockerfileError("the file is not UTF-8 text", line=row, column=column, path=path) from None
    lines: list[str] = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DockerfileError("a NUL character", line=number, column=line.index("\0") + 1, path=path)
    return lines


def parser_directives(lines: list[str], path: str) -> tuple[dict[str, str], int]:
    """Read the parser directives; give them and the index of the first line after them."""
    found: dict[str, str] = {}
    for index, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            return found, index
        problem = ""
        if name in found:
            problem = f"the directive {name!r} may be given only once"
        elif name == "escape" and match[2] not in ("\\", "`"):
            problem = f"escape={match[2]}: the escape character is \\ or `"
        if problem:
            raise DockerfileError(problem, line=index + 1, column=1, source=line, path=path)
        found[name] = match[2]
    return found, len(lines)


def logical_lines(lines: list[str], first: int, escape: str, path: str) -> Iterator[LogicalLine]:
    """Join what continuations hold together, from the line at index ``first`` on."""
    # An escape that is itself escaped does not continue the line: "COPY a c:\\" ends there.
    mark = re.escape(escape)
    continuation = re.compile(rf"(?<!{mark}){mark}[ \t]*\Z")
    text = ""
    pieces: list[_Piece] = []
    for number, physical in enumerate(lines[first:], first + 1):
        if not physical.strip() or physical.lstrip().startswith("#"):
            continue  # neither a comment nor a blank line ends a continuation
        indent = 0 if pieces else len(physical) - len(physical.lstrip())
        match = continuation.search(physical, indent)
        pieces.append(_Piece(len(text), number, indent + 1, physical))
        text += physical[indent : match.start() if match else None]
        if match is None:
            yield LogicalLine(text, tuple(pieces), path)
            text, pieces = "", []
    if pieces and text.strip():
        yield LogicalLine(text, tuple(pieces), path)
