r"""Words with their quotes and escapes still on.

Hides how a line is split where quotes protect blanks. Invariant: nothing is expanded; every pattern here takes time
linear in the text, whatever the text.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class WordError(ValueError):
    """A word cannot be used. Fields: ``reason``, ``offset`` (from 0, in what was given)."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        return self.reason


BLANK = " \t\v\f\r"


@functools.cache
def _word(escape: str) -> re.Pattern[str]:
    r"""Give the pattern of a word: plain text, escaped characters, quotes (an open one holds to the end).

    A single-quoted part knows no escape, as in the shell.
    """
    mark = re.escape(escape)
    return re.compile(
        rf"""(?:[^{BLANK}'"{mark}]+|{mark}.?|'[^']*'?|"[^"{mark}]*(?:{mark}.?[^"{mark}]*)*"?)+""", re.DOTALL
    )


# A flag's word: a backslash escapes whatever the file's escape character is, and within single quotes, too.
_FLAG = re.compile(rf"""(?:[^{BLANK}'"\\]+|\\.?|'[^'\\]*(?:\\.?[^'\\]*)*'?|"[^"\\]*(?:\\.?[^"\\]*)*"?)+""", re.DOTALL)


def raw_words(text: str, escape: str) -> Iterator[tuple[str, int]]:
    """Yield (word, offset) of the words of ``text``: they end at blanks outside quotes."""
    for match in _word(escape).finditer(text):
        yield match[0], match.start()


def flag_word(text: str, at: int) -> str:
    """Give the word of a flag that begins at ``at``."""
    match = _FLAG.match(text, at)
    return match[0] if match else ""


def unquoted(word: str, escape: str = "\\", *, literal: str = "'") -> str:
    """Take quotes and escapes off. Within the quote ``literal`` an escape is a character like others."""
    if not any(mark in word for mark in ("'", '"', escape)):
        return word
    found, quote, at = [], "", 0
    while at < len(word):
        char = word[at]
        if char == escape and not (quote and quote == literal):
            at += 1
            found.append(word[at : at + 1])
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            found.append(char)
        at += 1
    return "".join(found)
