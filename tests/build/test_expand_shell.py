"""Variable substitution against shells: where the Dockerfile's language is the shell's, dash and bash are the judges.

Left out is what the two languages mean differently: quotes inside a pattern, a pattern that is empty, "*" on nothing,
a blank or an escape in a replacement.
"""

from __future__ import annotations

import random
import subprocess

import pytest

from pylxc.build.expand import ExpansionError, expand

CASES = 2000
SEPARATOR = "\x1e"
VARIABLES = {
    "A": "alpha",
    "E": "",
    "P": "/usr/local/lib/x.tar.gz",
    "S": "two words",
    "G": "a*b?c",
    "N": "12321",
    "B": "back\\slash",
    "L": "aaaa",
}
NAMES = [*VARIABLES, "UNSET"]


class Words:
    """Makes words by chance. ``replace``: with the operators that bash has and dash has not."""

    def __init__(self, seed: int, *, replace: bool) -> None:
        self._random = random.Random(seed)
        self._replace = replace

    def word(self) -> str:
        return "".join(self._part(0) for _ in range(self._random.randint(1, 4)))

    def _part(self, depth: int) -> str:
        kind = self._random.randint(0, 9)
        if kind < 3:
            return self._random.choice(["x", "yz", "0", ".", "/", ",", "é", "-", "=", ":", "%", "#", "@"])
        if kind == 3:
            return "'" + self._random.choice(["", "q", "$A", "a b", "\\", '"', "}"]) + "'"
        if kind == 4:
            inner = (self._random.choice(["q", " ", "$A", "'", "\\\\", '\\"', "\\$", "${S}", "\\z"]) for _ in range(2))
            return '"' + "".join(inner) + '"'
        if kind == 5:
            return "\\" + self._random.choice("$\\'\"x }")
        if kind == 6:
            return (
                "$" + self._random.choice(NAMES) + self._random.choice([".", "/"])
            )  # letters of all the world continue a name
        return self._braced(depth)

    def _braced(self, depth: int) -> str:
        name = self._random.choice(NAMES)
        if self._random.random() < 0.2:
            return f"${{{name}}}"
        operators = [":-", "-", ":+", "+", "#", "##", "%", "%%"]
        operator = self._random.choice([*operators, "/", "//"] if self._replace else operators)
        if operator in (":-", "-", ":+", "+"):
            inner = "".join(self._part(depth + 1) for _ in range(self._random.randint(0, 2))) if depth < 4 else "w"
            return f"${{{name}{operator}{inner}}}"
        if operator in ("/", "//"):
            return f"${{{name}{operator}{self._pattern() or 'a'}/{self._random.choice(['', 'R', '--', '$A'])}}}"
        return f"${{{name}{operator}{self._pattern()}}}"

    def _pattern(self) -> str:
        parts = ["*", "?", "a", "b", ".", "1", "2", "l", "\\*", "\\?", "${N}", "${UNSET:-a}"]
        return "".join(self._random.choice(parts) for _ in range(self._random.randint(0, 3)))


def by_shell(shell: str, words: list[str]) -> list[str]:
    """Return what a shell makes of the words in an assignment, where nothing is split and no file is looked for."""
    lines = (f"w={word}; printf '%s{SEPARATOR}' \"$w\"\n" for word in words)
    done = subprocess.run(
        [shell],
        check=False,
        input="".join(lines),
        env={**VARIABLES, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split(SEPARATOR)[:-1]


@pytest.mark.parametrize(("shell", "replace"), [("dash", False), ("bash", True)])
def test_shells_say_the_same(shell, replace):
    words = [Words(seed, replace=replace).word() for seed in range(CASES)]
    ours = [expand(word, VARIABLES.get) for word in words]
    theirs = by_shell(shell, words)
    assert len(theirs) == CASES
    assert [row for row in zip(words, ours, theirs, strict=True) if row[1] != row[2]] == []


def test_what_a_shell_refuses_for_want_of_a_value():
    for word in ("${UNSET?}", "${E:?}", "${UNSET:?no $A}", "x${UNSET:-${UNSET?y}}"):
        done = subprocess.run(["dash", "-c", f"w={word}"], env=VARIABLES, capture_output=True, check=False, timeout=60)
        assert done.returncode == 2
        with pytest.raises(ExpansionError):
            expand(word, VARIABLES.get)
