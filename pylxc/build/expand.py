"""What a word of a Dockerfile stands for once variables are put in, escapes are undone and quotes are taken off.

Hides the substitution language: ``$V``, ``${V}``, the ``${V:-word}`` family, the pattern operators and the rules of
quoting. Invariant: a pure function of the word and the lookup; every failure is an :class:`ExpansionError` that says
where in the word it lies.

Source: Dockerfile reference, "Environment replacement"; POSIX.1-2017, XCU 2.2 and 2.6.2 for the parts it borrows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_SPACE = re.compile(r"\s+")


class ExpansionError(ValueError):
    """A word cannot be expanded. Fields: ``reason``, ``offset`` (in the word, from 0)."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        return self.reason


def expand(word: str, lookup: Lookup, escape: str = "\\") -> str:
    r"""Give the one string that ``word`` stands for.

    ``lookup`` maps a name to its value, None for a variable that is not set; ``escape`` is the Dockerfile's escape
    character. Raises :class:`ExpansionError`.

    >>> expand("${GREETING:-hello} '$world'", {}.get)
    'hello $world'
    """
    return "".join(text for text, _ in _Scanner(word, lookup, escape).fragments())


def expand_words(word: str, lookup: Lookup, escape: str = "\\") -> tuple[str, ...]:
    """Expand ``word``, then split it at blanks that no quote protects, those that came out of variables included.

    Only the fields that the reference splits use this (EXPOSE). Raises :class:`ExpansionError`.

    >>> expand_words("$PORTS 'a b'", {"PORTS": "80 443"}.get)
    ('80', '443', 'a b')
    """
    words: list[str] = []
    open_word = False
    for text, quoted in _Scanner(word, lookup, escape).fragments():
        for index, piece in enumerate([text] if quoted else _SPACE.split(text)):
            if index:
                open_word = False
            if not piece and not quoted:
                continue
            if open_word:
                words[-1] += piece
            else:
                words.append(piece)
                open_word = True
    return tuple(words)


class _Scanner:
    """One pass over a word. ``at`` is the position; ``unused`` is set inside alternatives that are not taken."""

    def __init__(self, word: str, lookup: Lookup, escape: str) -> None:
        self.word = word
        self.lookup = lookup
        self.escape = escape
        self.at = 0
        self.unused = False

    def fragments(self, stops: str = "", *, raw: bool = False) -> list[tuple[str, bool]]:
        r"""Read up to one of ``stops`` (not consumed), as (text, was quoted) pairs.

        ``raw`` keeps escape characters: a pattern needs them to tell ``*`` from ``\*``.
        """
        found: list[tuple[str, bool]] = []
        start = self.at
        while self.at < len(self.word):
            char = self.word[self.at]
            if char in stops:
                return found
            if char == "'":
                found.append((self._single_quoted(), True))
            elif char == '"':
                found.append((self._double_quoted(raw=raw), True))
            elif char == "$":
                found.append((self._variable(), False))
            elif char == self.escape:
                found.append((self._escaped(raw=raw), True))
            else:
                found.append((char, False))
                self.at += 1
        if stops:
            raise ExpansionError("'${' is not closed: a '}' is missing", start)
        return found

    def _text(self, stops: str, *, raw: bool = False) -> str:
        return "".join(text for text, _ in self.fragments(stops, raw=raw))

    def _escaped(self, *, raw: bool) -> str:
        # An escape at the very end has nothing to escape and goes, as in the reference implementation.
        pair = self.word[self.at : self.at + 2]
        self.at += 2
        return pair if raw else pair[1:]

    def _single_quoted(self) -> str:
        start = self.at
        end = self.word.find("'", start + 1)
        if end < 0:
            raise ExpansionError("a single quote is not closed: escape it or add the other one", start)
        self.at = end + 1
        return self.word[start + 1 : end]

    def _double_quoted(self, *, raw: bool) -> str:
        start = self.at
        self.at += 1
        text = ""
        while self.at < len(self.word):
            char = self.word[self.at]
            if char == '"':
                self.at += 1
                return text
            if char == "$":
                text += self._variable()
            elif char == self.escape and self.at + 1 < len(self.word):
                following = self.word[self.at + 1]
                # Inside double quotes the escape is a plain character unless it precedes one of these.
                special = following in ('"', "$", self.escape)
                text += following if special and not raw else char + following
                self.at += 2
            else:
                text += char
                self.at += 1
        raise ExpansionError("a double quote is not closed: escape it or add the other one", start)

    def _variable(self) -> str:
        start = self.at
        self.at += 1
        if self.word.startswith("{", self.at):
            self.at += 1
            return self._braced(start)
        name = self._name()
        return (self.lookup(name) or "") if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self.word, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def _braced(self, start: int) -> str:
        name = self._name()
        if self.at >= len(self.word):
            raise ExpansionError("'${' is not closed: a '}' is missing", start)
        if not name:
            raise ExpansionError("bad substitution: a variable name must follow '${'", start)
        operator = self.word[self.at]
        value = self.lookup(name)
        if operator == "}":
            result = value or ""
        elif operator == ":" and self.word[self.at + 1 : self.at + 2] in ("+", "-", "?"):
            self.at += 1
            result = self._alternative(name, value, value is not None and value != "", start)
        elif operator in "+-?":
            result = self._alternative(name, value, value is not None, start)
        elif operator in "#%":
            result = self._trimmed(value or "", operator, start)
        elif operator == "/":
            result = self._replaced(value or "", start)
        else:
            raise ExpansionError(f"unsupported modifier {operator!r} in the substitution of {name}", self.at)
        self.at += 1  # the closing brace, on which every branch stops
        return result

    def _alternative(self, name: str, value: str | None, given: bool, start: int) -> str:  # noqa: FBT001  a fact
        operator = self.word[self.at]
        self.at += 1
        # ${A:-${B:?needed}} must not fail for want of B when A is set, though the word is still read for syntax.
        outer, self.unused = self.unused, self.unused or (given != (operator == "+"))
        word = self._text("}")
        self.unused = outer
        if operator == "+":
            return word if given else ""
        if given:
            return value or ""
        if operator == "-":
            return word
        if self.unused:
            return ""
        missing = "is not set" if value is None else "is empty"
        raise ExpansionError(f"{name}: {word or missing}", start)

    def _trimmed(self, value: str, operator: str, start: int) -> str:
        self.at += 1
        longest = self.word.startswith(operator, self.at)
        self.at += longest
        pattern = self._pattern(self._text("}", raw=True), start)
        # Candidate lengths in the order of preference; the whole candidate has to match.
        lengths = range(len(value), -1, -1) if longest else range(len(value) + 1)
        for length in lengths:
            cut = length if operator == "#" else len(value) - length
            if pattern.fullmatch(value[:cut] if operator == "#" else value[cut:]):
                return value[cut:] if operator == "#" else value[:cut]
        return value

    def _replaced(self, value: str, start: int) -> str:
        self.at += 1
        everywhere = self.word.startswith("/", self.at)
        self.at += everywhere
        pattern = self._pattern(self._text("/}", raw=True), start)
        if self.word[self.at] != "/":
            raise ExpansionError("'${name/pattern' needs '/replacement' before its '}'", start)
        self.at += 1
        replacement = self._text("}", raw=True)
        return pattern.sub(lambda _: replacement, value, count=0 if everywhere else 1)

    def _pattern(self, glob: str, start: int) -> re.Pattern[str]:
        expression = ""
        position = 0
        while position < len(glob):
            char = glob[position]
            if char == self.escape:
                position += 1
                if position == len(glob):
                    raise ExpansionError("a pattern cannot end in the escape character", start)
                expression += re.escape(glob[position])
            else:
                expression += {"*": ".*", "?": "."}.get(char) or re.escape(char)
            position += 1
        return re.compile(expression, re.DOTALL)
