"""Files of variables: ``.env``, ``--env-file`` and a service's ``env_file``.

Hides the language of such files. Invariant: a pure function of the text and the lookup; an error names the line.
Source: Docker documentation, "Env-file syntax".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pylxc.compose.syntax.interpolation import SubstitutionError, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.compose.syntax.interpolation import Lookup, Warn

_BLANK = " \t\v\f\r"
_START = re.compile(r"(?:\s+|#[^\n]*)*")
_EXPORT = re.compile(rf"export[{_BLANK}]+(?=\w)")
_NAME = re.compile(rf"([\w.\[\]{_BLANK}-]*)([=:]|\n|\Z)")
_QUOTED = {"'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL), '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)}
_REST = re.compile(rf"[{_BLANK}]*(?:#[^\n]*)?(?=\n|\Z)")
_COMMENT = re.compile(rf"[{_BLANK}]#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_SHOWN = 60  # characters of what is wrong


class DotenvError(ValueError):
    """A file of variables cannot be read. Fields: ``line`` (from 1), ``reason``."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason


def parse(
    text: str, lookup: Lookup, warn: Warn = lambda _: None, earlier: Mapping[str, str] | None = None
) -> dict[str, str]:
    r"""Return the variables of a file in the usual format.

    ``lookup`` gives the value of a variable of the environment (None: not set), which goes before those of the file
    where a value refers to one. A name alone takes its value from there. ``earlier``: the variables of files before
    this one, which go behind. Raises DotenvError.

    >>> parse("A=1 # one\nB='$A'\nC=\"$A\\n\"\n", {}.get)
    {'A': '1', 'B': '$A', 'C': '1\n'}
    """
    return _Parser(text.removeprefix("\ufeff"), lookup, warn, earlier or {}).variables()


class _Parser:
    """One pass over a text; ``_at`` is the position."""

    def __init__(self, text: str, lookup: Lookup, warn: Warn, earlier: Mapping[str, str]) -> None:
        self._text = text
        self._environment = lookup
        self._warn = warn
        self._earlier = earlier
        self._at = 0
        self._found: dict[str, str] = {}

    def variables(self) -> dict[str, str]:
        """Read all statements."""
        while True:
            self._skip(_START)
            if self._at == len(self._text):
                return self._found
            self._skip(_EXPORT)
            name, has_value = self._name()
            if has_value:
                self._found[name] = self._value()
            elif (inherited := self._environment(name)) is not None:
                self._found[name] = inherited

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _error(self, reason: str) -> DotenvError:
        return DotenvError(self._text.count("\n", 0, self._at) + 1, reason)

    def _name(self) -> tuple[str, bool]:
        match = _NAME.match(self._text, self._at)
        if match is None:
            line = self._text[self._at :].partition("\n")[0]
            raise self._error(f"a name is expected, not {line[:_SHOWN]!r}: write NAME=value")
        name = match[1].strip(_BLANK)
        if not name or any(blank in name for blank in _BLANK):
            raise self._error(f"{match[1][:_SHOWN]!r} is no name: it cannot be empty or hold blanks")
        self._at = match.end()
        return name, match[2] in ("=", ":")

    def _value(self) -> str:
        text, start = self._text, self._at
        while start < len(text) and text[start] in _BLANK:
            start += 1
        quote = text[start : start + 1]
        if quote in _QUOTED:
            return self._quoted(quote, start)
        end = text.find("\n", start)
        line = text[self._at : end if end >= 0 else len(text)]
        self._at += len(line)
        # A "#" begins a comment behind a blank, but not as the first character of a value.
        value = line.lstrip(_BLANK)
        return self._filled(_COMMENT.sub("", value, count=1).rstrip())

    def _quoted(self, quote: str, start: int) -> str:
        match = _QUOTED[quote].match(self._text, start)
        if match is None:
            raise self._error(f"a {'single' if quote == chr(39) else 'double'} quote is not closed")
        rest = _REST.match(self._text, match.end())
        if rest is None:
            raise self._error("only a comment may follow the closing quote")
        inside = match[1]
        value = inside.replace("\\'", "'") if quote == "'" else self._filled(_unescaped(inside))
        self._at = rest.end()
        return value

    def _filled(self, value: str) -> str:
        try:
            return substitute(value, self._lookup, self._warn)
        except SubstitutionError as error:
            raise self._error(str(error)) from None

    def _lookup(self, name: str) -> str | None:
        value = self._environment(name)
        return self._found.get(name, self._earlier.get(name)) if value is None else value


def _unescaped(text: str) -> str:
    """Undo the escapes between double quotes; an escaped ``$`` is one that the substitution leaves alone."""

    def replaced(match: re.Match[str]) -> str:
        return "$$" if match[1] == "$" else _ESCAPES.get(match[1], match[0])

    return _ESCAPE.sub(replaced, text)


def parse_raw(
    text: str,
    lookup: Lookup,
    warn: Warn = lambda _: None,  # noqa: ARG001  as parse
    earlier: Mapping[str, str] | None = None,  # noqa: ARG001
) -> dict[str, str]:
    """Return the variables of a file in the format of ``docker run --env-file``: what is behind ``=`` is the value.

    Raises DotenvError.

    >>> parse_raw("A='1' # $B", {}.get)
    {'A': "'1' # $B"}
    """
    found = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        statement = line.lstrip().removesuffix("\r")
        if not statement or statement.startswith("#"):
            continue
        name, equals, value = statement.partition("=")
        if not name or any(char.isspace() for char in name):
            raise DotenvError(number, f"{name[:_SHOWN]!r} is no name: it cannot be empty or hold blanks")
        if equals:
            found[name] = value
        elif (inherited := lookup(name)) is not None:
            found[name] = inherited
    return found


FORMATS: dict[str, Callable[[str, Lookup, Warn, Mapping[str, str] | None], dict[str, str]]] = {
    "": parse,
    "raw": parse_raw,
}
