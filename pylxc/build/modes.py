"""What ``--chmod`` makes of a file's mode: octal digits, or the symbolic form of chmod(1).

Invariant: a :class:`Mode` is sound; equal texts are equal modes, and nothing of the process (its umask) counts.

Source: Dockerfile reference, "COPY --chown --chmod"; POSIX.1-2017, XCU chmod.
"""

from __future__ import annotations

import re
import stat

from attrs import frozen

_OCTAL = r"0*[0-7]{1,4}"
_ACTION = r"([-+=])([ugo]|[rwxXst]*)"
_CLAUSE = re.compile(rf"([ugoa]*)((?:{_ACTION})+)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_ALL = 0o7777


@frozen
class Mode:
    """A mode as ``--chmod`` takes it: ``text`` is octal without needless zeros, or symbolic."""

    text: str

    @classmethod
    def of(cls, text: str) -> Mode:
        """Read one. Raises ValueError.

        >>> Mode.of("0644"), Mode.of("u=rwX,go=rX").apply(0o600, is_directory=True) == 0o755
        (Mode(text='644'), True)
        """
        if re.fullmatch(_OCTAL, text):
            return cls(f"{int(text, 8):o}")
        if not text or not all(map(_CLAUSE.fullmatch, text.split(","))):
            raise ValueError(text)
        return cls(text)

    def __str__(self) -> str:
        return self.text

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """Give the permission bits of a file that has ``mode``."""
        if self.text.isdigit():
            return int(self.text, 8)
        for clause in self.text.split(","):
            match = _CLAUSE.fullmatch(clause)
            who, actions = (match[1], match[2]) if match else ("", "")
            who = "ugo" if not who or "a" in who else who
            for operator, operand in re.findall(_ACTION, actions):
                bits = _bits(who, operand, mode, is_directory=is_directory)
                if operator == "=":
                    mode = mode & ~_reach(who) | bits
                else:
                    mode = mode | bits if operator == "+" else mode & ~bits
        return mode & _ALL


def _reach(who: str) -> int:
    """Give the bits that "=" sets anew; the sticky bit goes with the others' (as GNU has it)."""
    special = (stat.S_ISUID if "u" in who else 0) | (stat.S_ISGID if "g" in who else 0)
    special |= stat.S_ISVTX if "o" in who else 0
    return special | sum(0o7 << _SHIFTS[one] for one in set(who))


def _bits(who: str, operand: str, mode: int, *, is_directory: bool) -> int:
    """Give the bits that one action is about."""
    if operand and operand in _SHIFTS:  # those of another class
        low = mode >> _SHIFTS[operand] & 0o7
    else:
        low = 0
        for letter in operand:
            low |= _BITS.get(letter, 0)
        if "X" in operand and (is_directory or mode & 0o111):
            low |= 1
    bits = sum(low << _SHIFTS[one] for one in set(who))
    if "s" in operand:
        bits |= _reach(who) & (stat.S_ISUID | stat.S_ISGID)
    return bits | (_reach(who) & stat.S_ISVTX if "t" in operand else 0)
