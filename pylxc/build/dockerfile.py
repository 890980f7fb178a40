"""The text of a Dockerfile, read into instructions.

Puts the layers together: ``lexer`` makes logical lines and knows no instruction, ``operands`` makes values of them and
knows no physical line. Invariant: no variable is expanded here, and nothing that the reference allows is refused:
what this version does not carry out is the business of ``refusals``.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

from pylxc.build.instructions import Arg, Dockerfile, From, Instruction, Stage
from pylxc.build.lexer import logical_lines, parser_directives, physical_lines
from pylxc.build.operands import announced, read
from pylxc.errors import DockerfileError


def parse(data: bytes | str, path: str = "Dockerfile") -> Dockerfile:
    r"""Read a Dockerfile. ``path`` is only what errors call it.

    Raises :class:`DockerfileError`, with line and column, for what is wrong.

    >>> parse("FROM debian\nRUN true\n").stages[0].instructions[0].command
    Command(argv=('true',), shell=True, heredocs=())
    """
    lines = physical_lines(data, path)
    directives, first = parser_directives(lines, path)
    escape = directives.get("escape", "\\")
    global_args: list[Arg] = []
    bases: list[From] = []
    bodies: list[list[Instruction]] = []
    for logical in logical_lines(lines, first, escape, path, announced):
        instruction = read(logical, escape)
        if isinstance(instruction, From):
            bases.append(instruction)
            bodies.append([])
        elif bodies:
            bodies[-1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise instruction.error(f"{instruction.name} before FROM: only ARG may precede the first FROM")
    if not bases:
        line = global_args[-1].line if global_args else 1
        reason = "there is no FROM: the file names no image to build on" if global_args else "the file is empty"
        raise DockerfileError(f"{reason}; write FROM image", line=line, column=1, path=path)
    stages = tuple(Stage(base, tuple(body)) for base, body in zip(bases, bodies, strict=True))
    return Dockerfile(path, escape, directives, tuple(global_args), stages)


def parse_trigger(text: str, image: str) -> Instruction:
    """Read an instruction that ``image`` has waiting (ONBUILD). Raises :class:`DockerfileError`."""
    path = f"ONBUILD of {image}"
    found = list(logical_lines(physical_lines(text, path), 0, "\\", path, announced))
    if len(found) != 1:
        raise DockerfileError("it is not one instruction", line=1, column=1, path=path)
    return read(found[0], "\\")
