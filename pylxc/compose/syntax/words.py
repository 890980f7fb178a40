"""A command that is written as one text, split into its words.

Hides the quoting rules, which are not quite those of a shell: a backslash takes the meaning of any character away, also
between double quotes, and a ``#`` is a word like others. Invariant: no variable is put in and no program is started.
"""

from __future__ import annotations

_STOPS = frozenset(";&|<>")
_BLANKS = frozenset(" \t\r\n")


class SplitError(ValueError):
    """A text cannot be split; the text of the error says why."""


def split(text: str) -> tuple[list[str], str]:
    r"""Return the words, and what is left out from the first operator of a shell on ("" = nothing).

    Raises SplitError.

    >>> split("sh -c 'echo $HOME' a\\ b"), split("echo a | cat")
    ((['sh', '-c', 'echo $HOME', 'a b'], ''), (['echo', 'a'], '| cat'))
    """
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char == ">" and word is not None and word[:1].isdigit():
            word = None  # the number of what a shell would redirect
        if char in _STOPS:
            return words + ([word] if word is not None else []), text[at:]
        if char in _BLANKS:
            words += [word] if word is not None else []
            word = None
            at += 1
            continue
        piece, at = _piece(text, at)
        word = (word or "") + piece
    return words + ([word] if word is not None else []), ""


def _piece(text: str, at: int) -> tuple[str, int]:
    """Return the next piece of a word, without its quotes, and the position behind it."""
    char = text[at]
    if char == '"':
        return _double_quoted(text, at + 1)
    if char == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise SplitError("a single quote is not closed")
        return text[at + 1 : end], end + 1
    if char == "\\":
        return _escaped(text, at)
    for opening, closing in (("`", "`"), ("$(", ")")):
        if text.startswith(opening, at):
            end = text.find(closing, at + len(opening))
            if end < 0:
                raise SplitError(f"{opening!r} is not closed: a {closing!r} is missing")
            return text[at : end + 1], end + 1
    if char in "()":
        raise SplitError(f"{char!r} means something to a shell, and none is asked for: quote it")
    return char, at + 1


def _escaped(text: str, at: int) -> tuple[str, int]:
    if at + 1 == len(text):
        raise SplitError("it ends in a backslash, which takes away the meaning of nothing")
    return text[at + 1], at + 2


def _double_quoted(text: str, at: int) -> tuple[str, int]:
    found: list[str] = []
    while at < len(text):
        if text[at] == '"':
            return "".join(found), at + 1
        at += text[at] == "\\"
        found.append(text[at : at + 1])
        at += 1
    raise SplitError("a double quote is not closed")
