"""What a word of a Dockerfile stands for once variables are put in, escapes are undone and quotes are taken off.

Hides the substitution language: ``$V``, ``${V}``, the ``${V:-word}`` family, the pattern operators and the rules of
quoting. Invariant: a pure function of the word and the lookup; every failure is an :class:`ExpansionError` that says
where in the word it lies; depth and length are bounded, so that no file makes it run away.

Source: Dockerfile reference, "Environment replacement"; POSIX.1-2017, XCU 2.2 and 2.6.2 for the parts it borrows.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pylxc.build.glob import Glob, GlobError
from pylxc.build.words import WordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[^\W\d]\w*|\d+|[@*#?$!-]")
_SPACE = re.compile(r"\s+")
DEEPEST = 64  # "${" within "${"
LONGEST = 4 << 20  # characters; execve(2) takes no string of a tenth of this, and doubling gets anywhere in 40 lines


class ExpansionError(WordError):
    """A word cannot be expanded. ``offset`` is in the word."""


def expand(word: str, lookup: Lookup, escape: str = "\\") -> str:
    r"""Give the one string that ``word`` stands for.

    ``lookup`` maps a name to its value, None for a variable that is not set; ``escape`` is the Dockerfile's escape
    character. Raises :class:`ExpansionError`.

    >>> expand("${GREETING:-hello} '$world'", {}.get)
    'hello $world'
    """
    if not (escape in word or "$" in word or "'" in word or '"' in word):
        return word
    return "".join(text for text, _ in _Scanner(word, lookup, escape).fragments())


def expand_text(text: str, lookup: Lookup) -> str:
    r"""Expand the body of a here-document: quotes are characters like others, a backslash protects the next one.

    Raises :class:`ExpansionError`.

    >>> expand_text('"$GREETING" \\\\$x', {"GREETING": "hello"}.get)
    '"hello" $x'
    """
    return "".join(piece for piece, _ in _Scanner(text, lookup, "\\", quotes=False).fragments())


def expand_words(word: str, lookup: Lookup, escape: str = "\\") -> tuple[str, ...]:
    """Expand ``word``, then split it at blanks that no quote protects, those that came out of variables included.

    Only the fields that the reference splits use this (EXPOSE). Raises :class:`ExpansionError`.

    >>> expand_words("$PORTS 'a b'", {"PORTS": "80 443"}.get)
    ('80', '443', 'a b')
    """
    words: list[list[str]] = []
    open_word = False
    for text, quoted in _Scanner(word, lookup, escape).fragments():
        for index, piece in enumerate([text] if quoted else _SPACE.split(text)):
            if index:
                open_word = False
            if not piece and not quoted:
                continue
            if open_word:
                words[-1].append(piece)
            else:
                words.append([piece])
                open_word = True
    return tuple(map("".join, words))


class _Scanner:
    """One pass over a word. ``at`` is the position; ``unused`` is set inside alternatives that are not taken."""

    def __init__(self, word: str, lookup: Lookup, escape: str, *, quotes: bool = True) -> None:
        self.word = word
        self.lookup = lookup
        self.escape = escape
        self.quotes = "'\"" if quotes else ""
        self.at = 0
        self.unused = False
        self.depth = 0
        self.length = 0
        self.plain = re.compile(rf"[^$'\"}}{re.escape(escape)}]+")
        self.plain_of_pattern = re.compile(rf"[^$'\"/}}{re.escape(escape)}]+")

    def fragments(self, stops: str = "", *, raw: bool = False) -> list[tuple[str, bool]]:
        r"""Read up to one of ``stops`` (not consumed), as (text, was quoted) pairs.

        ``raw`` keeps escape characters: a pattern needs them to tell ``*`` from ``\*``.
        """
        found: list[tuple[str, bool]] = []
        start = self.at
        plain = self.plain_of_pattern if "/" in stops else self.plain
        while self.at < len(self.word):
            char = self.word[self.at]
            if char in stops:
                return found
            if char in self.quotes:
                text = self._single_quoted() if char == "'" else self._double_quoted(raw=raw)
                found.append((text, True))
            elif char == "$":
                found.append((self._variable(), False))
            elif char == self.escape:
                found.append((self._escaped(raw=raw), True))
            else:
                match = plain.match(self.word, self.at)
                text = match[0] if match else char
                found.append((text, False))
                self.at += len(text)
        if stops:
            raise ExpansionError("'${' is not closed: a '}' is missing", start)
        return found

    def _text(self, stops: str, *, raw: bool = False) -> str:
        return "".join(text for text, _ in self.fragments(stops, raw=raw))

    def _value(self, name: str) -> str | None:
        """Look a variable up, and keep account of how much has been put in."""
        value = self.lookup(name)
        self._grow(value or "")
        return value

    def _grow(self, text: str) -> str:
        self.length += len(text)
        if self.length > LONGEST:
            raise ExpansionError(f"the variables come to more than {LONGEST} characters", self.at)
        return text

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
        found: list[str] = []
        while self.at < len(self.word):
            char = self.word[self.at]
            if char == '"':
                self.at += 1
                return "".join(found)
            if char == "$":
                found.append(self._variable())
            elif char == self.escape and self.at + 1 < len(self.word):
                following = self.word[self.at + 1]
                # Inside double quotes the escape is a plain character unless it precedes one of these.
                if following in ('"', "$", self.escape):
                    found.append(char + following if raw else following)
                    self.at += 2
                else:
                    found.append(char * 2 if raw else char)  # in a pattern, the plain character is an escaped one
                    self.at += 1
            else:
                match = self.plain.match(self.word, self.at)
                text = match[0] if match else char
                found.append(text)
                self.at += len(text)
        raise ExpansionError("a double quote is not closed: escape it or add the other one", start)

    def _variable(self) -> str:
        start = self.at
        self.at += 1
        if self.word.startswith("{", self.at):
            self.at += 1
            self.depth += 1
            if self.depth > DEEPEST:
                raise ExpansionError(f"'${{' stands more than {DEEPEST} deep in others", start)
            value = self._braced(start)
            self.depth -= 1
            return value
        name = self._name()
        return (self._value(name) or "") if name else "$"

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
        value = self._value(name)
        if operator == ":" and self.word[self.at + 1 : self.at + 2] in ("#", "%"):
            self.at += 1  # the colon says nothing there, and is let through as in the reference implementation
            operator = self.word[self.at]
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
        glob = self._text("}", raw=True)
        with self._globs(start):
            pattern = Glob.compile(glob, self.escape)
            if operator == "#":
                length = pattern.prefix(value, longest=longest)
                return value if length is None else value[length:]
            length = pattern.reversed().prefix(value[::-1], longest=longest)
            return value if length is None else value[: len(value) - length]

    def _replaced(self, value: str, start: int) -> str:
        self.at += 1
        everywhere = self.word.startswith("/", self.at)
        self.at += everywhere
        glob = self._text("/}", raw=True)
        if self.word[self.at] != "/":
            raise ExpansionError("'${name/pattern' needs '/replacement' before its '}'", start)
        self.at += 1
        replacement = self._text("}", raw=True)
        if len(replacement) * (len(value) + 1 if everywhere else 1) > LONGEST:
            raise ExpansionError(f"the replacements may come to more than {LONGEST} characters", start)
        with self._globs(start):
            replaced = Glob.compile(glob, self.escape).replace(value, replacement, everywhere=everywhere)
        return self._grow(replaced)

    @staticmethod
    @contextmanager
    def _globs(start: int) -> Iterator[None]:
        """Tell where a pattern that cannot be used stands."""
        try:
            yield
        except GlobError as error:
            raise ExpansionError(str(error), start) from None
