"""Random Dockerfiles, and what a parser says of one in a form that parsers can be compared by.

``python tests/build/dockerfiles.py FILE`` records what Docker's own parser says (in Go; the package "dockerfile" of the
Python index brings it), for the tests that run without it.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from pylxc.build import instructions as ast
from pylxc.build.dockerfile import parse
from pylxc.errors import DockerfileError

CASES = 300
WORDS = [
    *("a", "b=c", "x=", '"d e"', "'f g'", 'h="i j"', "k='l m'", "n\\ o", "$P", "${Q:-r s}", "é", "/t/u", "-v", "-w"),
    *("#x", "y#z", "[", '["1"', "\\", "a\\\\b", '"', "'", "=", "80/udp", "8000-8010", "http://h/i", "&&", "<", ">x"),
]
ARRAYS = ['["a"]', '[ "a b" , "c" ]', "[]", '["a", 1]', "['a']", '["\\u00e9"]', '["a",]', '[["a"]]', "[1]"]
FLAGS = {
    "FROM": ["--platform=$BUILDPLATFORM"],
    "RUN": ["--mount=type=cache,target=/x", '--mount=type=bind,"target=/a b"', "--network=none", "--security=insecure"],
    "COPY": ["--from=x", "--chown=1:2", '--chown="a b"', "--chmod=755", "--link", "--link=false", "--exclude=*.o"],
    "ADD": ["--checksum=sha256:00", "--keep-git-dir", "--chown=a\\ b", "--unpack=true"],
    "HEALTHCHECK": ["--interval=5s", "--timeout=1m", "--retries=3", "--start-period=1s"],
}
NAMES = [
    *("RUN", "CMD", "ENTRYPOINT", "COPY", "ADD", "ENV", "LABEL", "ARG", "EXPOSE", "VOLUME", "WORKDIR", "USER"),
    *("STOPSIGNAL", "SHELL", "MAINTAINER", "HEALTHCHECK", "ONBUILD", "FROM"),
]


class Writer:
    """Writes Dockerfiles by chance, most of them right and some not."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def file(self) -> str:
        end = self._random.choice(["\n", "\n", "\n", "\r\n"])
        lines = [*self._head(), "FROM base", *(self._line() for _ in range(self._random.randint(1, 6)))]
        return self._random.choice(["", "", "", "\ufeff"]) + "\n".join(lines).replace("\n", end) + end

    def _head(self) -> list[str]:
        heads = ["# syntax=docker/dockerfile:1", "# a comment", "", "#Escape=\\", "# check = skip=all", "ARG a=b"]
        return self._random.sample(heads, self._random.randint(0, 2))

    def _line(self) -> str:
        name = self._random.choice(NAMES)
        line = self._instruction(name)
        if name == "ONBUILD":
            line = f"{name} {self._instruction(self._random.choice(NAMES[:-2]))}"
        return self._random.choice(["", "", "  ", "\t"]) + line + self._random.choice(["", "", " ", "\n", "\n# c\n\n"])

    def _instruction(self, name: str) -> str:
        chance = self._random.random()
        if name in ("RUN", "COPY", "ADD") and chance < 0.2:
            return self._with_heredocs(name)
        words = [self._random.choice(WORDS) for _ in range(self._random.randint(1, 4))]
        if name == "SHELL" and chance < 0.8:
            words = ['["/bin/x", "-c"]']
        elif name in ("COPY", "ADD") and chance < 0.8:
            words = ["one", *words]
        elif name == "FROM":
            words = self._random.choice([["base"], ["base", "AS", "Name"], ["base", "as", "n.1"], words])
        elif name in ("ENV", "LABEL") and chance < 0.6:
            words = [f"{self._random.choice('abc')}={word}" for word in words]
        elif name == "HEALTHCHECK" and chance < 0.8:
            words = self._random.choice([["NONE"], ["CMD", *words], ["cmd", self._random.choice(ARRAYS)]])
        elif chance > 0.85:
            words = [self._random.choice(ARRAYS)]
        flags = self._random.sample(
            FLAGS.get(name, []), min(len(FLAGS.get(name, [])), self._random.choice([0, 0, 1, 2]))
        )
        written = self._random.choice([name, name, name, name.lower(), name.title()])
        return "".join((written, *(self._gap() + word for word in (*flags, *words))))

    def _gap(self) -> str:
        return self._random.choice([" ", " ", " ", "  ", "\t", " \\\n", " \\\n  ", " \\ \n# note\n  ", " \\\n\n "])

    def _with_heredocs(self, name: str) -> str:
        marks = self._random.sample(["<<EOF", "<<-E2", "<<'Q'", '<<"D"', "3<<F", "<<-'T'"], self._random.randint(1, 2))
        bodies = []
        for mark in marks:
            end = mark.lstrip("3<-").strip("'\"")
            tabs = "\t" * self._random.randint(0, 2) if "-" in mark else ""
            content = self._random.sample(["one", "\ttwo", "$x \\$y", "# no comment", "", "EOF2", "a \\", "RUN b"], 3)
            bodies.append("".join(f"{line}\n" for line in content) + tabs + end)
        target = {"RUN": self._random.choice(["", " cat", " && x"])}.get(name, " /to/")
        return f"{name} {' '.join(marks)}{target}\n" + "\n".join(bodies)


def described(text: str) -> list[dict[str, Any]] | None:
    """Return what pylxc's parser says of a Dockerfile; None = it is refused."""
    try:
        found = parse(text)
    except DockerfileError:
        return None
    return [_described(instruction) for instruction in found.instructions]


def _described(one: ast.Instruction) -> dict[str, Any]:
    inner = one.trigger if isinstance(one, ast.Onbuild) else one
    values, is_json = _values(inner)
    return {
        "name": one.name,
        "inner": "" if inner is one else inner.name,
        "line": one.line,
        "json": is_json,
        "values": list(values),
        # Those of ONBUILD the binding of Docker's parser does not show.
        "heredocs": [[each.name, each.content] for each in one.logical.heredocs if inner is one],
    }


def _values(one: ast.Instruction) -> tuple[tuple[str, ...], bool]:
    if isinstance(one, ast.From):
        return tuple(map(str, filter(None, (one.image, one.keyword, one.alias_word)))), False
    if isinstance(one, (ast.Run, ast.Cmd, ast.Entrypoint)):
        argv = one.command.argv
        return () if argv == ("",) else argv, not one.command.shell
    if isinstance(one, ast.Healthcheck):
        if one.command is None:
            return ("NONE",), False
        return ("CMD", *one.command.argv), not one.command.shell
    return _words(one)


def _words(one: ast.Instruction) -> tuple[tuple[str, ...], bool]:
    if isinstance(one, (ast.Env, ast.Label)):
        return tuple(str(word) for pair in one.pairs for word in pair), False
    if isinstance(one, ast.Arg):
        return tuple(str(n) if v is None else f"{n}={v}" for n, v in one.declarations), False
    return _paths(one)


def _paths(one: ast.Instruction) -> tuple[tuple[str, ...], bool]:
    if isinstance(one, ast.Copy):
        words = (*one.sources, one.destination)
        return tuple(map(str, words)), False  # whether they were an array shows in the words themselves
    if isinstance(one, ast.Volume):
        return tuple(map(str, one.paths)), False
    if isinstance(one, ast.Shell):
        return one.argv, True
    if isinstance(one, ast.Expose):
        return tuple(map(str, one.ports)), False
    for name in ("path", "user", "signal", "author"):
        if hasattr(one, name):
            return (str(getattr(one, name)),), False
    raise TypeError(one)


def _go(text: str) -> list[dict[str, Any]] | None:
    """Return what Docker's own parser says, in the same form."""
    import dockerfile  # type: ignore[import-not-found]  # only where it is recorded

    try:
        found = dockerfile.parse_string(text)
    except dockerfile.GoParseError:
        return None
    if {one.cmd.upper() for one in found} - set(NAMES):
        return None  # it leaves unknown instructions to its caller
    return [_go_described(one) for one in found]


def _go_described(one: Any) -> dict[str, Any]:
    kind = (one.sub_cmd or one.cmd).upper()
    values = list(one.value)
    if kind in ("COPY", "ADD"):
        values = [value for value in values if "<<" not in value]
    if kind == "HEALTHCHECK":
        values[:1] = [values[0].upper()]
    return {
        "name": one.cmd.upper(),
        "inner": (one.sub_cmd or "").upper(),
        "line": one.start_line,
        "json": one.json and kind not in ("ADD", "COPY", "VOLUME"),
        "values": values,
        "heredocs": [[each.name, each.content] for each in one.heredocs],
    }


def record(path: str) -> None:
    texts = [Writer(seed).file() for seed in range(CASES)]
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(f"{json.dumps([text, _go(text)])}\n" for text in texts)


if __name__ == "__main__":
    record(sys.argv[1])
