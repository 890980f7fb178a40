"""From a logical line to an instruction: one operand parser for each, in a table.

Hides which flags and operands an instruction takes, and what of it this version does not carry out. Invariant: what is
wrong is told with line and column; an unknown word comes with what was probably meant.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from pylxc.build.instructions import (
    BLANK,
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Maintainer,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Word,
    Workdir,
)
from pylxc.build.statement import (
    Statement,
    json_array,
    list_words,
    pair_of,
    pairs_of,
    plain_words,
    quoted_words,
    raw_word,
    refuse_heredoc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.build.lexer import LogicalLine

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def read(logical: LogicalLine, escape: str) -> Instruction:
    """Make an instruction of a logical line. Raises :class:`DockerfileError`, :class:`UnsupportedError`."""
    match = re.match(rf"([{BLANK}]*)([^{BLANK}]+)[{BLANK}]*", logical.text)
    if match is None:  # blank lines never get here
        raise logical.fault("an instruction is missing")
    name, start = match[2].upper(), match.start(2)
    parser = _PARSERS.get(name)
    if parser is None:
        raise logical.fault(f"unknown instruction {match[2]!r}{_suggestion(name, _PARSERS)}", start)
    flags, end = _flags(logical, name, match.end(), escape)
    text = logical.text[end:].rstrip(BLANK)
    statement = Statement(logical, name, start, flags, Word(text, min(end, len(logical.text) - 1)), escape)
    if not text:
        statement.fail(f"{name} needs {_NEEDS.get(name, 'an operand')}")
    return parser(statement)


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    import difflib  # noqa: PLC0415  only for the error

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(sorted(known))}"


def _flags(logical: LogicalLine, name: str, at: int, escape: str) -> tuple[dict[str, tuple[Word, ...]], int]:
    """Read leading ``--name=value`` words; give them and the offset of the first operand."""
    flags: dict[str, tuple[Word, ...]] = {}
    while logical.text.startswith("--", at):
        word = raw_word(logical.text, at, escape)
        end = at + len(word)
        if word != "--":
            flag, equals, value = word[2:].partition("=")
            _check_flag(logical, name, flag, at)
            if not equals or not value:
                raise logical.fault(f"--{flag} needs a value: --{flag}=...", at)
            if flag in flags:
                raise logical.fault(f"--{flag} is given twice", at)
            flags[flag] = (Word(value, at + len(flag) + 3),)
        at = end + len(logical.text[end:]) - len(logical.text[end:].lstrip(BLANK))
        if word == "--":
            break
    return flags, at


def _check_flag(logical: LogicalLine, name: str, flag: str, offset: int) -> None:
    known = _FLAGS.get(name, {})
    if flag not in known:
        more = _suggestion(flag, known) if known else f": {name} takes no flags"
        raise logical.fault(f"unknown flag --{flag} of {name}{more}", offset)
    remedy = known[flag]
    if remedy:
        raise logical.unsupported(f"{name} --{flag}", remedy, offset)


def _from(statement: Statement) -> From:
    words = plain_words(statement)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].text.upper() != "AS"):  # noqa: PLR2004  a AS b
        statement.fail("FROM takes one image, optionally followed by: AS name", words[0].offset)
    alias = words[2].text.lower() if len(words) > 1 else None
    if alias is not None and not _STAGE_NAME.fullmatch(alias):
        reason = f"{alias!r} cannot name a stage: letters, digits, '_', '.', '-', a letter first"
        statement.fail(reason, words[2].offset)
    return From(logical=statement.logical, start=statement.start, flags=statement.flags, image=words[0], alias=alias)


def _command(statement: Statement) -> Command:
    array = json_array(statement)
    return Command((statement.rest.text,) if array is None else array, array is None)


def _run(statement: Statement) -> Run:
    command = _command(statement)
    if command.shell:
        refuse_heredoc(statement)
    elif not command.argv:
        statement.fail("RUN needs a command: the array is empty", statement.rest.offset)
    return Run(logical=statement.logical, start=statement.start, flags=statement.flags, command=command)


def _copy(kind: type[Copy]) -> Callable[[Statement], Copy]:
    def read(statement: Statement) -> Copy:
        refuse_heredoc(statement)
        words = list_words(statement)
        if len(words) < 2:  # noqa: PLR2004  a source and a destination
            statement.fail(f"{statement.name} needs at least one source and a destination", statement.rest.offset)
        return kind(
            logical=statement.logical,
            start=statement.start,
            flags=statement.flags,
            sources=words[:-1],
            destination=words[-1],
            chown=statement.one_flag("chown"),
            chmod=statement.one_flag("chmod"),
        )

    return read


def _arg(statement: Statement) -> Arg:
    declarations: tuple[tuple[Word, Word | None], ...] = tuple(
        pair_of(statement, word) if "=" in word.text else (word, None) for word in quoted_words(statement)
    )
    return Arg(logical=statement.logical, start=statement.start, declarations=declarations)


def _volume(statement: Statement) -> Volume:
    paths = list_words(statement)
    if not paths:
        statement.fail("VOLUME needs at least one path", statement.rest.offset)
    return Volume(logical=statement.logical, start=statement.start, paths=paths)


def _shell(statement: Statement) -> Shell:
    argv = json_array(statement)
    if not argv:
        statement.fail('SHELL takes a JSON array: SHELL ["/bin/sh", "-c"]', statement.rest.offset)
    return Shell(logical=statement.logical, start=statement.start, argv=argv)


def _later(remedy: str) -> Callable[[Statement], NoReturn]:
    def refuse(statement: Statement) -> NoReturn:
        statement.unsupported(statement.name, remedy)

    return refuse


_NEEDS = {
    "FROM": "an image: FROM debian:bookworm",
    "RUN": "a command",
    "CMD": "a command; CMD [] clears it",
    "ENTRYPOINT": "a command; ENTRYPOINT [] clears it",
    "COPY": "at least one source and a destination",
    "ADD": "at least one source and a destination",
    "ENV": "name=value",
    "LABEL": "name=value",
    "ARG": "a name",
}

# Each flag the reference knows, with what to do while this version does not carry it out ("" = it does).
_COPY_FLAGS = {
    "chown": "",
    "chmod": "",
    "link": "leave it out: the result is the same",
    "exclude": "list the files in .dockerignore",
}
_FLAGS: dict[str, dict[str, str]] = {
    "FROM": {"platform": "leave it out: images are for this machine's platform"},
    # Refused as a whole, so its flags are let through to the refusal.
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), ""),
    "RUN": {
        "mount": "COPY what the command needs",
        "network": "give the network to the whole build",
        "security": "leave it out",
        "device": "leave it out",
    },
    "COPY": _COPY_FLAGS
    | {"from": "build the other image first and copy its files into the context", "parents": "name the directories"},
    "ADD": _COPY_FLAGS
    | {
        "checksum": "check it in a RUN",
        "keep-git-dir": "clone into the context first",
        "unpack": "ADD unpacks archives, COPY does not",
    },
}

_PARSERS: dict[str, Callable[[Statement], Instruction]] = {
    "ADD": _copy(Add),
    "ARG": _arg,
    "CMD": lambda s: Cmd(logical=s.logical, start=s.start, command=_command(s)),
    "COPY": _copy(Copy),
    "ENTRYPOINT": lambda s: Entrypoint(logical=s.logical, start=s.start, command=_command(s)),
    "ENV": lambda s: Env(logical=s.logical, start=s.start, pairs=pairs_of(s)),
    "EXPOSE": lambda s: Expose(logical=s.logical, start=s.start, ports=plain_words(s)),
    "FROM": _from,
    "HEALTHCHECK": _later("leave it out, and wait with Container.wait_ready"),
    "LABEL": lambda s: Label(logical=s.logical, start=s.start, pairs=pairs_of(s)),
    "MAINTAINER": lambda s: Maintainer(logical=s.logical, start=s.start, author=s.rest),
    "ONBUILD": _later("put the instruction into the Dockerfiles that build on this image"),
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda s: Stopsignal(logical=s.logical, start=s.start, signal=s.rest),
    "USER": lambda s: User(logical=s.logical, start=s.start, user=s.rest),
    "VOLUME": _volume,
    "WORKDIR": lambda s: Workdir(logical=s.logical, start=s.start, path=s.rest),
}
