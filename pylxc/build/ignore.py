"""Which files of a build context stay out of it: the patterns of ``.dockerignore``.

Hides the pattern language, which is Go's ``filepath.Match`` plus ``**``. Invariant: a path is judged by the last
pattern that matches it or one of its parents; order in the file is all that counts.

Source: Docker documentation, "Build context", section ".dockerignore files"; Go, ``path/filepath.Match``.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.errors import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Iterable


class PatternError(ValueError):
    """A pattern is malformed. Fields: ``pattern``, ``reason``."""

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(pattern, reason)
        self.pattern = pattern
        self.reason = reason

    def __str__(self) -> str:
        return f"bad pattern {self.pattern!r}: {self.reason}"


def compile_glob(pattern: str, *, recursive: bool) -> re.Pattern[str]:
    """Translate a pattern to a regular expression to be used with ``fullmatch`` on a slash-separated relative path.

    ``*`` and ``?`` do not cross a slash, ``[...]`` is a class (``^`` negates, ranges, escapes), a backslash makes
    the next character literal; with ``recursive``, ``**`` stands for any number of directories, none included.
    Raises :class:`PatternError`.
    """
    expression = ""
    at = 0
    if not pattern:
        raise PatternError(pattern, "it is empty")
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if recursive and pattern.startswith("**", at - 1):
            at += 1
            at += pattern.startswith("/", at)
            while pattern.startswith("**/", at):  # a run of them says no more than one, but costs a search for each
                at += 3
            expression += ".*" if at == len(pattern) or _is_suffix(pattern) else "(?:.*/)?"
        elif char == "*":
            expression += "[^/]*"
        elif char == "?":
            expression += "[^/]"
        elif char == "[":
            text, at = _character_class(pattern, at)
            expression += text
        elif char == "\\":
            if at == len(pattern):
                raise PatternError(pattern, "it ends in a backslash")
            expression += re.escape(pattern[at])
            at += 1
        else:
            expression += re.escape(char)
    return re.compile(expression, re.DOTALL)


def _is_suffix(pattern: str) -> bool:
    """Tell whether a pattern is ``**`` and plain text: Docker takes that for the end of a path, as in ``**.log``."""
    return pattern.startswith("**") and pattern[2:3] != "/" and not any(char in pattern[2:] for char in "*?[]\\")


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    """Read a class from after its ``[``; give its expression and the position after its ``]``."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges = ""
    while True:
        if at >= len(pattern):
            raise PatternError(pattern, "a '[' is not closed by ']'")
        if pattern[at] == "]" and ranges:
            # A range that runs backwards matches nothing in Go, and is an error in Python.
            return f"[{'^' if negated else ''}{ranges}]", at + 1
        low, at = _class_member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_member(pattern, at + 1)
        if low > high:
            raise PatternError(pattern, f"the range {low}-{high} runs backwards")
        ranges += f"{re.escape(low)}-{re.escape(high)}"


def _class_member(pattern: str, at: int) -> tuple[str, int]:
    if at < len(pattern) and pattern[at] == "\\":
        at += 1
    elif at < len(pattern) and pattern[at] in "-]":
        raise PatternError(pattern, f"{pattern[at]!r} must be escaped inside '[...]'")
    if at >= len(pattern):
        raise PatternError(pattern, "a '[' is not closed by ']'")
    return pattern[at], at + 1


@frozen
class _Rule:
    expression: re.Pattern[str]
    included: bool  # written with "!"


@frozen
class Ignore:
    r"""The compiled patterns of one ``.dockerignore``. Paths are relative to the context, with slashes.

    >>> ignore = Ignore.parse("*.log\n!keep.log\n")
    >>> ignore.excludes("a.log"), ignore.excludes("keep.log")
    (True, False)
    """

    _rules: tuple[_Rule, ...] = ()
    # What matched each directory, one bit for each rule: the files in it need not match their parents again.
    _known: dict[str, int] = field(factory=dict, init=False, repr=False, eq=False)

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Ignore:
        """Compile patterns that come one by one, as ``--exclude`` gives them. Raises :class:`PatternError`."""
        rules = []
        for line in patterns:
            pattern, included = _clean(f"./{line}" if line.startswith("#") else line)
            if pattern not in ("", ".", "/"):
                rules.append(_Rule(compile_glob(pattern, recursive=True), included))
        return cls(tuple(rules))

    @classmethod
    def parse(cls, data: bytes | str, path: str = ".dockerignore") -> Ignore:
        """Compile a file's content. Raises :class:`DockerfileError` with the line of a malformed pattern."""
        text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
        rules = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            pattern, included = _clean(line)
            if pattern in ("", ".", "/") and not included:
                continue  # "For historical reasons, the pattern . is ignored"
            try:
                rules.append(_Rule(compile_glob(pattern, recursive=True), included))
            except PatternError as error:
                raise DockerfileError(str(error), line=number, column=1, source=line.rstrip(), path=path) from None
        return cls(tuple(rules))

    @property
    def has_exceptions(self) -> bool:
        """Whether a pattern lets something in again."""
        return any(rule.included for rule in self._rules)

    def excludes(self, relative_path: str) -> bool:
        """Tell whether the path is kept out of the context. A directory's exclusion holds for all below it."""
        if not self._rules:
            return False
        matched = self._matched(posixpath.normpath(relative_path))
        return matched > 0 and not self._rules[matched.bit_length() - 1].included

    def prunes(self, relative_path: str) -> bool:
        """Tell whether a directory is excluded with everything below it, so that it need not be read.

        Any ``!`` pattern may reach below any directory, so with one present nothing is pruned: slower, never wrong.
        """
        return not self.has_exceptions and self.excludes(relative_path)

    def _matched(self, path: str) -> int:
        """Give the rules that match the path or one of its parents, as a set of bits."""
        pending = [path]  # the path, then those of its parents that are not known yet
        while (parent := posixpath.dirname(pending[-1])) not in ("", "/") and parent not in self._known:
            pending.append(parent)
        found = self._known.get(parent, 0)
        for part in reversed(pending):
            for index, rule in enumerate(self._rules):
                if not found >> index & 1 and rule.expression.fullmatch(part):
                    found |= 1 << index
            if part != path:
                self._known[part] = found
        return found


def _clean(line: str) -> tuple[str, bool]:
    """Give a line's pattern without its decoration, and whether it re-includes."""
    if line.startswith("#"):
        return "", False
    pattern = line.strip()
    included = pattern.startswith("!")
    pattern = pattern[included:].strip()
    if pattern:
        pattern = posixpath.normpath(pattern)
        # normpath keeps two leading slashes, which POSIX lets mean something else.
        pattern = pattern.lstrip("/") or "/"
    return pattern, included
