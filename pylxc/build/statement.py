"""A logical line taken apart: the instruction's name, its flags, and the ways to read its operands.

Hides quoting, the exec form and the two forms of name=value. Invariant: nothing is expanded, and no physical line is
known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from attrs import frozen

from pylxc.build.instructions import Word
from pylxc.build.words import BLANK, raw_words

if TYPE_CHECKING:
    from pylxc.build.lexer import LogicalLine

_SURROGATE = "[\ud800-\udfff]"
_PLAIN = re.compile(rf"[^{BLANK}]+")


@frozen
class Statement:
    """A logical line taken apart: the name, the flags, and where the operands lie."""

    logical: LogicalLine
    name: str
    start: int
    flags: dict[str, tuple[Word, ...]]
    rest: Word
    escape: str

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        """Raise the error that points at an offset of the logical line (default: the name)."""
        raise self.logical.fault(reason, self.start if offset is None else offset)

    def one_flag(self, name: str) -> Word | None:
        """Give a flag's last value; None when it is not given."""
        values = self.flags.get(name, ())
        return values[-1] if values else None


def quoted_words(statement: Statement) -> list[Word]:
    """Split the operands at blanks outside quotes."""
    start = statement.rest.offset
    return [Word(word, start + offset) for word, offset in raw_words(statement.rest.text, statement.escape)]


def plain_words(statement: Statement) -> tuple[Word, ...]:
    """Split the operands at blanks, whatever stands around them: COPY and its like know no quotes."""
    rest = statement.rest
    return tuple(Word(match[0], rest.offset + match.start()) for match in _PLAIN.finditer(rest.text))


def json_list(text: str) -> list[object] | None:
    """Give the elements of a JSON array, None when the text is none."""
    if not text.startswith("["):
        return None
    import json  # noqa: PLC0415  many Dockerfiles have no exec form

    try:
        value: list[object] = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return value


def _no_number(name: str) -> object:
    """Refuse NaN and Infinity, which Python reads and JSON does not have (RFC 8259, section 6)."""
    raise ValueError(name)


def json_array(statement: Statement) -> tuple[str, ...] | None:
    """Give the operands as the strings of a JSON array, None when they are not one: then they are plain text."""
    value = json_list(statement.rest.text)
    if value is None:
        return None
    found = []
    for item in value:
        if not isinstance(item, str):
            statement.fail(f"{statement.name}: every element of the array must be a string", statement.rest.offset)
        if "\0" in item:
            statement.fail(f"{statement.name}: a NUL character in the array", statement.rest.offset)
        # JSON can spell half a surrogate pair, which no file name or configuration can carry.
        found.append(re.sub(_SURROGATE, "\ufffd", item))
    return tuple(found)


def list_words(statement: Statement) -> tuple[Word, ...]:
    """Give the operands of an instruction that takes words or a JSON array of them."""
    array = json_array(statement)
    if array is None:
        return plain_words(statement)
    return tuple(Word(item, statement.rest.offset) for item in array)


def pairs_of(statement: Statement) -> tuple[tuple[tuple[Word, Word], ...], bool]:
    """Read ``name=value...``, or the older ``name value``; say whether it was the older one."""
    words = quoted_words(statement)
    if "=" not in words[0].text:
        # The older form: a name, and all the rest is the value.
        name = re.match(rf"[^{BLANK}]+", statement.rest.text)
        key = name[0] if name else ""
        value = statement.rest.text[len(key) :].lstrip(BLANK)
        if not value:
            statement.fail(f"{statement.name} needs a value for {key}: {key}=value", words[0].offset)
        offset = statement.rest.offset
        return ((Word(key, offset), Word(value, offset + len(statement.rest.text) - len(value))),), True
    return tuple(pair_of(statement, word) for word in words), False


def pair_of(statement: Statement, word: Word) -> tuple[Word, Word]:
    """Take one ``name=value`` apart."""
    key, equals, value = word.text.partition("=")
    if not equals:
        statement.fail(f"{word.text!r} has no '=': {statement.name} takes name=value (quote blanks)", word.offset)
    if not key:
        statement.fail(f"{statement.name}: a name is missing before '='", word.offset)
    return Word(key, word.offset), Word(value, word.offset + len(key) + 1)
