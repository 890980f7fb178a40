r"""Here-documents: where a line announces them, and what they hold.

Hides the syntax of ``<<NAME``, ``<<-NAME`` and ``<<"NAME"``. Invariant: a body is kept byte for byte as it stands in
the file; tabs are taken off and variables are put in by those who use it.

Source: Dockerfile reference, "Here-Documents"; what the reference leaves open is as in BuildKit's parser.
"""

from __future__ import annotations

import re

from attrs import field, frozen

from pylxc.build.words import raw_words, unquoted

_MARK = r"(\d*)<<(-?)([^<]+)"
_TABS = re.compile(r"^\t+", re.MULTILINE)
_ESCAPE = "\\"  # whatever the file's escape character is: these words are the shell's


@frozen
class Mark:
    """An announcement: the ``name`` that ends the body, and how the body is meant.

    ``chomp``: leading tabs go (``<<-``); ``expand``: no part of the name is quoted; ``descriptor``: the number before
    it (0 = none); ``offset``: its place in the logical line.
    """

    name: str
    chomp: bool = False
    expand: bool = True
    descriptor: int = 0
    offset: int = field(default=0, eq=False)


@frozen
class Heredoc:
    """A here-document. ``content`` is as written, the last line's end included; ``line`` is its first (from 1)."""

    mark: Mark
    content: str
    line: int = field(default=0, eq=False)

    @property
    def name(self) -> str:
        """The word that ends it, which is also the name of the file that COPY makes of it."""
        return self.mark.name

    @property
    def text(self) -> str:
        """Its content, without leading tabs where ``<<-`` announced it."""
        return _TABS.sub("", self.content) if self.mark.chomp else self.content


def mark_of(word: str, offset: int = 0) -> Mark | None:
    """Read one word, quotes and all, None when it announces nothing."""
    match = re.fullmatch(_MARK, word, re.DOTALL)
    if match is None:
        return None
    name = unquoted(match[3], _ESCAPE)
    if not name:
        return None
    quotes = ("'", '"')
    expand = sum(map(name.count, quotes)) == sum(map(match[3].count, quotes))
    return Mark(name, match[2] == "-", expand, int(match[1][-9:] or 0), offset)


def marks(text: str) -> tuple[Mark, ...]:
    """Find what a logical line announces, in order."""
    if "<<" not in text:
        return ()
    found = (mark_of(word, offset) for word, offset in raw_words(text, _ESCAPE))
    return tuple(mark for mark in found if mark is not None)
