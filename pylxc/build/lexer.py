"""The surface of a Dockerfile: the text made into logical lines, each with a map back to where it was written.

Hides the byte order mark, line endings, parser directives, comments, continuations and the bodies of here-documents.
Invariant: no instruction is known here; time is linear in the text.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc.build.heredoc import Heredoc, Mark
from pylxc.errors import DockerfileError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+)")
_MARKED = re.compile(r"\S{1,200}")
_LONGEST_REASON = 600  # characters: words of the file stand in it, and those may be megabytes
_DIRECTIVES = ("syntax", "escape", "check")


@frozen
class _Piece:
    """Part of a logical line that stands together in the file."""

    offset: int  # in the logical line
    line: int
    column: int
    physical: str


def _offset(piece: _Piece) -> int:
    return piece.offset


@frozen
class LogicalLine:
    """One instruction's text with the continuations joined, and the map back to where it was written.

    ``heredocs`` are the here-documents that follow it; ``comments`` the comment lines right before it, without their
    "#"; ``gap`` is the number of the first blank line inside it (0 = none).
    """

    text: str
    pieces: tuple[_Piece, ...]
    path: str
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    gap: int = 0
    end: int = 0

    def locate(self, offset: int) -> tuple[int, int]:
        """Give the (line, column), both from 1, of a character of ``text``."""
        piece = self._piece(offset)
        return piece.line, piece.column + offset - piece.offset

    def fault(self, reason: str, offset: int = 0) -> DockerfileError:
        """Make the error that points at a character of ``text``, and marks the word that begins there."""
        line, column = self.locate(offset)
        piece = self._piece(offset)
        word = _MARKED.match(piece.physical, column - 1)
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]}..."
        return DockerfileError(
            reason, line=line, column=column, source=piece.physical, path=self.path, width=len(word[0]) if word else 1
        )

    def unsupported(self, feature: str, remedy: str, offset: int = 0) -> UnsupportedError:
        """Make the error for what is right at this place, but not carried out yet."""
        line, column = self.locate(offset)
        where = f"{self.path}:{line}:{column}"
        return UnsupportedError(feature, f"comes in a later version of pylxc; until then {remedy} ({where})")

    def _piece(self, offset: int) -> _Piece:
        return self.pieces[max(bisect.bisect_right(self.pieces, offset, key=_offset) - 1, 0)]


def physical_lines(data: bytes | str, path: str) -> list[str]:
    """Split a file into its lines, a carriage return at their ends left on.

    Raises :class:`DockerfileError` for what is no text.
    """
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            row, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
            raise DockerfileError("the file is not UTF-8 text", line=row, column=column, path=path) from None
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        before_nul = text[: text.index("\0")]
        row, column = before_nul.count("\n") + 1, len(before_nul) - before_nul.rfind("\n")
        raise DockerfileError("a NUL character", line=row, column=column, path=path)
    return text.split("\n")


def parser_directives(lines: list[str], path: str) -> tuple[dict[str, str], int]:
    """Read the parser directives; give them and the index of the first line after them."""
    found: dict[str, str] = {}
    for index, physical in enumerate(lines):
        line = physical.strip()
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


def logical_lines(
    lines: list[str], first: int, escape: str, path: str, announced: Callable[[str], tuple[Mark, ...]]
) -> Iterator[LogicalLine]:
    """Join what continuations hold together, from the line at index ``first`` on.

    ``announced`` tells which here-documents follow a logical line. Raises :class:`DockerfileError` for one that is not
    ended.
    """
    comments: list[str] = []
    index = first
    while index < len(lines):
        stripped = lines[index].strip()
        if not stripped or stripped.startswith("#"):
            comment = stripped[1:].strip()
            if comment:
                comments.append(comment)
            else:
                comments = []
            index += 1
            continue
        text, pieces, index, gap = _joined(lines, index, escape)
        if not text.strip():  # nothing but continuations, at the end of the file
            return
        line = LogicalLine(text, pieces, path, comments=tuple(comments), gap=gap, end=pieces[-1].line)
        marks = announced(text)
        if marks:
            heredocs = []
            for mark in marks:
                body, index = _body(lines, index, mark, line)
                heredocs.append(body)
            line = evolve(line, heredocs=tuple(heredocs), end=index)
        yield line
        comments = []


def _joined(lines: list[str], index: int, escape: str) -> tuple[str, tuple[_Piece, ...], int, int]:
    """Join the lines from ``index`` on; give the text, its map, the index after it and the first blank line in it."""
    texts: list[str] = []
    pieces: list[_Piece] = []
    length = gap = 0
    while index < len(lines):
        physical = lines[index].rstrip("\r")
        index += 1
        content = physical.lstrip()
        if pieces and (not content or content.startswith("#")):
            # Neither a comment nor a blank line ends a continuation.
            gap = gap or (0 if content else index)
            continue
        indent = 0 if pieces else len(physical) - len(content)
        body = physical[indent:]
        trimmed = body.rstrip(" \t")
        # An escape that is itself escaped does not continue the line: "COPY a c:\\" ends there.
        continued = trimmed.endswith(escape) and not trimmed.endswith(escape * 2)
        pieces.append(_Piece(length, index, indent + 1, physical))
        texts.append(trimmed[:-1] if continued else body)
        length += len(texts[-1])
        if not continued:
            break
    return "".join(texts), tuple(pieces), index, gap


def _body(lines: list[str], index: int, mark: Mark, line: LogicalLine) -> tuple[Heredoc, int]:
    """Read a here-document's body from ``index`` on; give it and the index after the line that ends it."""
    for end in range(index, len(lines)):
        last = lines[end].rstrip("\r")
        if (last.lstrip("\t") if mark.chomp else last) == mark.name:
            content = "".join(f"{one}\n" for one in lines[index:end])
            return Heredoc(mark, content, index + 1), end + 1
    raise line.fault(f"the here-document {mark.name!r} has no end: a line that is just {mark.name}", mark.offset)
