"""What a person sees on a terminal of so many lines and columns, once a program has written so many bytes on it."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Emulator:
    """The part of a VT100 that drawing over takes; a sequence that it does not know fails the test.

    ``screen`` has the lines that can be seen, ``above`` those that have been scrolled away.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.screen = [" " * columns for _ in range(rows)]
        self.above: list[str] = []
        self.is_cursor_shown = True
        self.row = self.column = 0

    def feed(self, data: bytes) -> None:
        text, position = data.decode(), 0
        while position < len(text):
            match = _SEQUENCE.match(text, position)
            if match:
                self._obey(match[1], match[2])
                position = match.end()
            else:
                self._show(text[position])
                position += 1

    def text(self) -> str:
        """Return what is to be seen, with what has gone by."""
        return "\n".join(line.rstrip() for line in [*self.above, *self.screen]).rstrip()

    def lines(self) -> list[str]:
        return self.text().split("\n")

    def _obey(self, numbers: str, what: str) -> None:
        number = int(numbers) if numbers.isdecimal() else 0
        if what == "A":
            self.row = max(0, self.row - (number or 1))
        elif what == "K" and number in (0, 2):
            start = self.column if number == 0 else 0
            self.screen[self.row] = self.screen[self.row][:start].ljust(self.columns)
        elif what in "hl" and numbers == "?25":
            self.is_cursor_shown = what == "h"
        else:
            assert what == "m", (numbers, what)

    def _show(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_line()
        else:
            assert character.isprintable(), character
            if self.column == self.columns:
                self.column = 0
                self._next_line()
            line = self.screen[self.row]
            self.screen[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _next_line(self) -> None:
        if self.row < self.rows - 1:
            self.row += 1
        else:
            self.above.append(self.screen.pop(0))
            self.screen.append(" " * self.columns)
