"""A logical line taken apart: the instruction's name, its flags, and the ways to read its operands.

Hides quoting, the exec form and the two forms of name=value. Invariant: nothing is expanded, and no physical line is
known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import attrs

from pylxc.build.instructions import BLANK, Word

if TYPE_CHECKING:
    from pylxc.build.lexer import LogicalLine

_SURROGATE = re.compile("[\ud800-\udfff]")
_HEREDOC = re.compile(r"\d*<<-?(['\"]?)[A-Za-z_][A-Za-z0-9_.-]*\1")


@attrs.frozen
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

    def unsupported(self, feature: str, remedy: str, offset: int | None = None) -> NoReturn:
        """Raise the error for what comes in a later version."""
        raise self.logical.unsupported(feature, remedy, self.start if offset is None else offset)

    def one_flag(self, name: str) -> Word | None:
        """Give a flag's last value; None when it is not given."""
        values = self.flags.get(name, ())
        return values[-1] if values else None


def raw_word(text: str, at: int, escape: str) -> str:
    """Give the word that begins at ``at``, with its quotes and escapes, up to a blank that neither protects."""
    start, quote = at, ""
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'":
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char in BLANK:
            break
        at += 1
    return text[start:at]


def quoted_words(statement: Statement) -> list[Word]:
    """Split the operands at blanks outside quotes."""
    text, words, at = statement.rest.text, [], 0
    while at < len(text):
        if text[at] in BLANK:
            at += 1
            continue
        word = raw_word(text, at, statement.escape)
        words.append(Word(word, statement.rest.offset + at))
        at += len(word)
    return words


def plain_words(statement: Statement) -> tuple[Word, ...]:
    """Split the operands at blanks, whatever stands around them: COPY and its like know no quotes."""
    rest = statement.rest
    return tuple(Word(match[0], rest.offset + match.start()) for match in re.finditer(rf"[^{BLANK}]+", rest.text))


def json_array(statement: Statement) -> tuple[str, ...] | None:
    """Give the operands as the strings of a JSON array, None when they are not one: then they are plain text."""
    if not statement.rest.text.startswith("["):
        return None
    import json  # noqa: PLC0415  many Dockerfiles have no exec form

    try:
        value = json.loads(statement.rest.text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        statement.fail(f"{statement.name}: every element of the array must be a string", statement.rest.offset)
    if any("\0" in item for item in value):
        statement.fail(f"{statement.name}: a NUL character in the array", statement.rest.offset)
    # JSON can spell half a surrogate pair, which no file name or configuration can carry.
    return tuple(_SURROGATE.sub("\ufffd", item) for item in value)


def list_words(statement: Statement) -> tuple[Word, ...]:
    """Give the operands of an instruction that takes words or a JSON array of them."""
    array = json_array(statement)
    if array is None:
        return plain_words(statement)
    return tuple(Word(item, statement.rest.offset) for item in array)


def refuse_heredoc(statement: Statement) -> None:
    """Raise UnsupportedError where a here-document begins."""
    for word in quoted_words(statement):
        if _HEREDOC.fullmatch(word.text):
            statement.unsupported("here-documents", "use continuation lines, or COPY a file", word.offset)


def pairs_of(statement: Statement) -> tuple[tuple[Word, Word], ...]:
    """Read ``name=value...``, or the older ``name value``."""
    words = quoted_words(statement)
    if "=" not in words[0].text:
        # The older form: a name, and all the rest is the value.
        name = re.match(rf"[^{BLANK}]+", statement.rest.text)
        key = name[0] if name else ""
        value = statement.rest.text[len(key) :].lstrip(BLANK)
        if not value:
            statement.fail(f"{statement.name} needs a value for {key}: {key}=value", words[0].offset)
        offset = statement.rest.offset
        return ((Word(key, offset), Word(value, offset + len(statement.rest.text) - len(value))),)
    return tuple(pair_of(statement, word) for word in words)


def pair_of(statement: Statement, word: Word) -> tuple[Word, Word]:
    """Take one ``name=value`` apart."""
    key, equals, value = word.text.partition("=")
    if not equals:
        statement.fail(f"{word.text!r} has no '=': {statement.name} takes name=value (quote blanks)", word.offset)
    if not key:
        statement.fail(f"{statement.name}: a name is missing before '='", word.offset)
    return Word(key, word.offset), Word(value, word.offset + len(key) + 1)
