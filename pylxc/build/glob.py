r"""The patterns of ``${name#pattern}`` and its relatives: ``*``, ``?``, and a backslash before a literal character.

Hides the search. Invariant: whatever the pattern and the text, time grows with the length of the one times the length
of the other, and never faster: a pattern runs as an automaton whose states are the bits of one number.

Source: POSIX.1-2017, XCU 2.13, without bracket expressions, as in BuildKit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator


LARGEST = 1 << 32  # elements times characters: some seconds


class GlobError(ValueError):
    """A pattern is malformed, or too long."""


@frozen
class Glob:
    """A compiled pattern: one element a character to match, None for any; and after which of them a ``*`` stands."""

    elements: tuple[str | None, ...]
    stars: int  # bit n: a "*" stands before element n

    @classmethod
    def compile(cls, pattern: str, escape: str = "\\") -> Glob:
        """Read a pattern. Raises :class:`GlobError` when it ends in the escape character."""
        elements: list[str | None] = []
        stars = at = 0
        while at < len(pattern):
            char = pattern[at]
            if char == escape:
                at += 1
                if at == len(pattern):
                    raise GlobError("a pattern cannot end in the escape character")
                elements.append(pattern[at])
            elif char == "*":
                stars |= 1 << len(elements)
            else:
                elements.append(None if char == "?" else char)
            at += 1
        return cls(tuple(elements), stars)

    def reversed(self) -> Glob:
        """Give the pattern that matches the same texts written backwards."""
        size = len(self.elements)
        stars = sum(1 << (size - bit) for bit in range(size + 1) if self.stars >> bit & 1)
        return Glob(self.elements[::-1], stars)

    def ends(self, text: str, *, anywhere: bool = False) -> Iterator[int]:
        """Yield the lengths of the parts of ``text`` that end a match: of one from its start, or from ``anywhere``.

        Raises :class:`GlobError` where that takes too long.
        """
        if len(text) * len(self.elements) > LARGEST:
            raise GlobError("the pattern and the value are too long for each other")
        accept = 1 << len(self.elements)
        any_char = sum(1 << index for index, element in enumerate(self.elements) if element is None)
        masks: dict[str, int] = {}
        for index, element in enumerate(self.elements):
            if element is not None:
                masks[element] = masks.get(element, any_char) | 1 << index
        state = 1
        if accept == 1:
            yield 0
        for length, char in enumerate(text, 1):
            state = (state & masks.get(char, any_char)) << 1 | state & self.stars
            if anywhere:
                state |= 1
            if state & accept:
                yield length
            elif not state:
                return

    def prefix(self, text: str, *, longest: bool) -> int | None:
        """Give the length of the shortest or the longest beginning that matches, None when none does."""
        found = None
        for length in self.ends(text):
            found = length
            if not longest:
                break
        return found

    def replace(self, text: str, replacement: str, *, everywhere: bool) -> str:
        """Put ``replacement`` for the first match, the longest there is from its place, or for every one."""
        backwards = self.reversed().ends(text[::-1], anywhere=True)
        starts = sorted(len(text) - length for length in backwards)
        pieces: list[str] = []
        done = 0
        for start in starts:
            if start < done:
                continue
            length = self.prefix(text[start:], longest=True) if self.stars else len(self.elements)
            pieces += (text[done:start], replacement)
            done = start + (length or 0)
            # The longest match of a pattern with a "*" leaves nothing behind it for another one.
            if self.stars or not everywhere:
                break
        return "".join((*pieces, text[done:]))
