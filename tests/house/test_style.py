"""Functions fit on a screen, in Python and in C."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).resolve().parents[2]
LIMIT = 50  # lines of code; the rule says about 40
SOURCES = ("pylxc", "tests", "benchmarks", "examples", "csrc")


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of each function and its lines of code: without docstring, comments and blank lines."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            first = body[0].lineno if body else node.lineno
            code = (line.strip() for line in lines[first - 1 : node.end_lineno])
            yield f"{path.relative_to(TREE)}:{node.lineno} {node.name}", sum(bool(x) and x[0] != "#" for x in code)


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the place of each function and its lines: between braces in the first column, as clang-format sets them."""
    first = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line == "{":
            first = number
        elif line == "}" and first:
            yield f"{path.relative_to(TREE)}:{first}", number - first - 1
            first = 0


def all_functions() -> list[tuple[str, int]]:
    paths = [path for source in SOURCES for path in sorted((TREE / source).rglob("*"))]
    found = [each for path in paths if path.suffix == ".py" for each in python_functions(path)]
    return found + [
        each for path in paths if path.suffix == ".c" for each in c_functions(path) if path.name != "_native.c"
    ]


def test_functions_fit_on_a_screen() -> None:
    functions = all_functions()
    assert any("csrc/" in name for name, _ in functions)
    assert [(name, lines) for name, lines in functions if lines > LIMIT] == []
