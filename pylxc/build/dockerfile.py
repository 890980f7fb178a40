"""The text of a Dockerfile, read into instructions.

Puts the layers together: ``lexer`` makes logical lines and knows no instruction, ``operands`` makes values of them and
knows no physical line. Invariant: no variable is expanded here.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

from pylxc.build.instructions import Arg, Dockerfile, From, Instruction, Stage
from pylxc.build.lexer import logical_lines, parser_directives, physical_lines
from pylxc.build.operands import read
from pylxc.errors import DockerfileError


def parse(data: bytes | str, path: str = "Dockerfile") -> Dockerfile:
    r"""Read a Dockerfile. ``path`` is only what errors call it.

    Raises :class:`DockerfileError` (with line and column) for what is wrong, and :class:`UnsupportedError` for what is
    right but not carried out by this version.

    >>> parse("FROM debian\nRUN true\n").stages[0].instructions[0].command
    Command(argv=('true',), shell=True)
    """
    lines = physical_lines(data, path)
    directives, first = parser_directives(lines, path)
    escape = directives.get("escape", "\\")
    global_args: list[Arg] = []
    base: From | None = None
    body: list[Instruction] = []
    for logical in logical_lines(lines, first, escape, path):
        instruction = read(logical, escape)
        if isinstance(instruction, From):
            if base is not None:
                remedy = "build each stage as an image of its own"
                raise instruction.logical.unsupported("multi-stage builds", remedy, instruction.start)
            base = instruction
        elif base is not None:
            body.append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise instruction.error(f"{instruction.name} before FROM: only ARG may precede the first FROM")
    if base is None:
        line = global_args[-1].line if global_args else 1
        reason = "there is no FROM: the file names no image to build on" if global_args else "the file is empty"
        raise DockerfileError(f"{reason}; write FROM image", line=line, column=1, path=path)
    return Dockerfile(path, escape, directives, tuple(global_args), (Stage(base, tuple(body)),))
