"""Variables in the values of a file: ``$V``, ``${V}`` and what may stand behind a name in braces.

Hides the substitution language. Invariant: a ``$`` that begins no variable is itself, ``$$`` is one ``$``, and what a
variable's value contains is never looked at again; depth and length are bounded.
Source: Compose specification, 12-interpolation.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pylxc.compose.syntax.tree import transformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.compose.syntax.tree import At

    Lookup = Callable[[str], str | None]
    Warn = Callable[[str], None]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = re.compile(r":?[-+?]")
_SHOWN = 80  # characters of what is wrong
DEEPEST = 64  # "${" within "${"
LONGEST = 4 << 20  # characters of one value


class SubstitutionError(ValueError):
    """A value cannot be filled in; the text says why."""


def interpolate(tree: Any, at: At, lookup: Lookup, warn: Warn) -> Any:
    """Return a tree with the variables of all texts filled in. Raises ComposeError, which names the key.

    ``lookup`` maps a name to its value, None for a variable that is not set; ``warn`` is told of those.
    """

    def leaf(value: Any, at: At) -> Any:
        if not isinstance(value, str) or "$" not in value:
            return value
        try:
            return substitute(value, lookup, warn)
        except SubstitutionError as error:
            raise at.error(str(error)) from None

    return transformed(tree, at, leaf)


def substitute(text: str, lookup: Lookup, warn: Warn = lambda _: None) -> str:
    """Return a text with its variables filled in. Raises SubstitutionError.

    >>> substitute("$GREETING ${NAME:-world} $$5 $5", {"GREETING": "hello"}.get)
    'hello world $5 $5'
    """
    return _Filling(lookup, warn).fill(text, 0)


class _Filling:
    """One value's substitution; ``_length`` is what has been put in so far."""

    def __init__(self, lookup: Lookup, warn: Warn) -> None:
        self._lookup = lookup
        self._warn = warn
        self._length = 0

    def fill(self, text: str, depth: int) -> str:
        """Return a text with its variables filled in; it stands ``depth`` deep within others."""
        if depth > DEEPEST:
            raise SubstitutionError(f"'${{' stands more than {DEEPEST} deep in others")
        found: list[str] = []
        done = 0
        while (start := text.find("$", done)) >= 0:
            found.append(text[done:start])
            piece, done = self._variable(text, start, depth)
            found.append(piece)
            self._length += len(piece)
            if self._length > LONGEST:
                raise SubstitutionError(f"the variables come to more than {LONGEST} characters")
        return "".join([*found, text[done:]])

    def _variable(self, text: str, start: int, depth: int) -> tuple[str, int]:
        """Return what the ``$`` at ``start`` and what belongs to it stand for, and the position behind."""
        following = text[start + 1 : start + 2]
        if following == "$":
            return "$", start + 2
        if following == "{":
            end = _closing(text, start + 1)
            return self._braced(text[start + 2 : end], text[start : end + 1], depth), end + 1
        name = _NAME.match(text, start + 1)
        if name is None:
            return "$", start + 1
        return self._value(name[0]), name.end()

    def _value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self._warn(f'The "{name}" variable is not set. Defaulting to a blank string.')
        return value or ""

    def _braced(self, inside: str, whole: str, depth: int) -> str:
        name = _NAME.match(inside)
        if name is None:
            raise _malformed(whole, "a variable's name must follow '${'")
        if name.end() == len(inside):
            return self._value(name[0])
        operator = _OPERATORS.match(inside, name.end())
        if operator is None:
            raise _malformed(whole, f"{inside[name.end()]!r} cannot follow a name: only :- - :? ? :+ + can")
        value = self._lookup(name[0])
        is_given = bool(value) if operator[0].startswith(":") else value is not None
        word = inside[operator.end() :]
        if operator[0].endswith("+"):
            return self.fill(word, depth + 1) if is_given else ""
        if is_given:
            return value or ""
        if operator[0].endswith("-"):
            return self.fill(word, depth + 1)
        told = self.fill(word, depth + 1)
        raise SubstitutionError(f"required variable {name[0]} is missing a value" + (f": {told}" if told else ""))


def _closing(text: str, start: int) -> int:
    """Return where the brace that opens at ``start`` is closed."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
    raise _malformed(text[start - 1 :], "'${' is not closed: a '}' is missing")


def _malformed(text: str, reason: str) -> SubstitutionError:
    return SubstitutionError(f"invalid interpolation format {text[:_SHOWN]!r}: {reason}; for a plain $ write $$")
