"""From a logical line to an instruction: one operand parser for each, in a table.

Hides which flags and operands an instruction takes. Invariant: all that the reference allows is read, whether this
version carries it out or not; what is wrong is told with line and column, an unknown word with what was probably meant.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc.build import mountflag
from pylxc.build.heredoc import Mark, marks
from pylxc.build.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    MountFlag,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Word,
    Workdir,
    shell_form,
)
from pylxc.build.statement import (
    Statement,
    json_array,
    json_list,
    list_words,
    pair_of,
    pairs_of,
    plain_words,
    quoted_words,
)
from pylxc.build.words import BLANK, flag_word, unquoted
from pylxc.imageconfig import Healthcheck as HealthcheckValue
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.build.lexer import LogicalLine

_HEAD = re.compile(rf"([{BLANK}]*)([^{BLANK}]+)[{BLANK}]*")
_FLAG_AHEAD = re.compile(rf"--|[{BLANK}]+")
_STAGE_NAME = r"[a-z][a-z0-9_.-]*"
_DURATION = r"\+?0|\+?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+"  # Go's
_SHORTEST = 0.001  # s, docker's bound of a health check's times
_MOST_RETRIES = 2**31 - 1
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


def read(logical: LogicalLine, escape: str) -> Instruction:
    """Make an instruction of a logical line. Raises :class:`DockerfileError`."""
    match = _HEAD.match(logical.text)
    if match is None:  # blank lines never get here
        raise logical.fault("an instruction is missing")
    return _read(logical, escape, match)


def _read(logical: LogicalLine, escape: str, match: re.Match[str]) -> Instruction:
    name, start = match[2].upper(), match.start(2)
    parser = _PARSERS.get(name)
    if parser is None:
        raise logical.fault(f"unknown instruction {match[2]!r}{_suggestion(name, _PARSERS)}", start)
    flags, end = _flags(logical, name, match.end())
    text = logical.text[end:].rstrip(BLANK)
    statement = Statement(logical, name, start, flags, Word(text, min(end, len(logical.text) - 1)), escape)
    if not text and name not in _MAY_BE_BARE:
        statement.fail(f"{name} needs {_NEEDS.get(name, 'an operand')}")
    return parser(statement)


def announced(text: str) -> tuple[Mark, ...]:
    """Tell which here-documents follow a logical line: those of RUN, COPY and ADD in their shell form."""
    if "<<" not in text:
        return ()
    match = _HEAD.match(text)
    if match is not None and match[2].upper() == "ONBUILD":
        match = _HEAD.match(text, match.end())
    if match is None or match[2].upper() not in _WITH_HEREDOCS:
        return ()
    at = match.end()
    while text.startswith("--", at):
        at += len(flag_word(text, at))
        at += len(text[at:]) - len(text[at:].lstrip(BLANK))
    return () if json_list(text[at:].rstrip(BLANK)) is not None else marks(text)


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    import difflib  # noqa: PLC0415  only for the error

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5) if len(word) < 100 else []  # noqa: PLR2004  a name
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(sorted(known))}"


# -- flags -------------------------------------------------------------------------------------------------------------


def _flags(logical: LogicalLine, name: str, at: int) -> tuple[dict[str, tuple[Word, ...]], int]:
    """Read leading ``--name=value`` words; give them and the offset of the first operand."""
    flags: dict[str, tuple[Word, ...]] = {}
    text = logical.text
    while text.startswith("--", at):
        word = flag_word(text, at)
        if word != "--":
            flag, value = _flag(logical, name, word, at)
            if flag in flags and flag not in _REPEATED:
                raise logical.fault(f"--{flag} is given twice", at)
            flags[flag] = (*flags.get(flag, ()), value)
        at += len(word)
        blanks = _FLAG_AHEAD.match(text, at)
        at = blanks.end() if blanks is not None and blanks[0] != "--" else at
        if word == "--":
            break
    return flags, at


def _flag(logical: LogicalLine, name: str, word: str, at: int) -> tuple[str, Word]:
    """Read one flag; a Boolean one may stand without a value."""
    flag, equals, value = word[2:].partition("=")
    known = _FLAGS.get(name, frozenset())
    if flag not in known:
        more = _suggestion(flag, dict.fromkeys(known)) if known else f": {name} takes no flags"
        raise logical.fault(f"unknown flag --{flag} of {name}{more}", at)
    value = unquoted(value, literal="")
    if flag in _BOOLEAN:
        if (equals and not value) or value.lower() not in ("", "true", "false"):
            raise logical.fault(f"--{flag}={value}: give true or false", at)
        value = value.lower() or "true"
    elif not equals or not value:
        raise logical.fault(f"--{flag} needs a value: --{flag}=...", at)
    return flag, Word(value, at + len(flag) + 3)


def _one_of(statement: Statement, flag: str, *values: str) -> str:
    """Give a flag that takes one of a few words; without it the first of them."""
    word = statement.one_flag(flag)
    if word is None:
        return values[0]
    if word.text not in values:
        statement.fail(f"--{flag}={word.text}: give one of {', '.join(values)}", word.offset)
    return word.text


def _is_set(statement: Statement, flag: str) -> bool:
    word = statement.one_flag(flag)
    return word is not None and word.text == "true"


# -- operands ----------------------------------------------------------------------------------------------------------


def _from(statement: Statement) -> From:
    words = plain_words(statement)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].text.upper() != "AS"):  # noqa: PLR2004  a AS b
        statement.fail("FROM takes one image, optionally followed by: AS name", words[0].offset)
    alias = words[2].text.lower() if len(words) > 1 else None
    if alias is not None and not re.fullmatch(_STAGE_NAME, alias):
        reason = f"{alias!r} cannot name a stage: letters, digits, '_', '.', '-', a letter first"
        statement.fail(reason, words[2].offset)
    return From(
        logical=statement.logical,
        start=statement.start,
        flags=statement.flags,
        image=words[0],
        alias=alias,
        platform=statement.one_flag("platform"),
        keyword=words[1] if alias is not None else None,
        alias_word=words[2] if alias is not None else None,
    )


def _command(statement: Statement) -> Command:
    array = json_array(statement)
    if array is not None:
        return Command(array, shell=False)
    return shell_form(statement.rest.text, statement.logical.heredocs)


def _run(statement: Statement) -> Run:
    command = _command(statement)
    if not command.argv:
        statement.fail("RUN needs a command: the array is empty", statement.rest.offset)
    mounts = (_mount(statement, word) for word in statement.flags.get("mount", ()))
    return Run(
        logical=statement.logical,
        start=statement.start,
        flags=statement.flags,
        command=command,
        mounts=tuple(mounts),
        network=_one_of(statement, "network", "default", "none", "host"),
        security=_one_of(statement, "security", "sandbox", "insecure"),
        devices=statement.flags.get("device", ()),
    )


def _mount(statement: Statement, word: Word) -> MountFlag:
    try:
        return mountflag.read(word)
    except mountflag.MountFlagError as error:
        statement.fail(error.reason, min(error.offset, len(statement.logical.text) - 1))


def _copy(statement: Statement) -> Copy:
    made = Copy(
        logical=statement.logical,
        start=statement.start,
        flags=statement.flags,
        parents=_is_set(statement, "parents"),
        source_stage=statement.one_flag("from"),
        **_operands(statement),
    )
    stage = made.source_stage
    if stage is not None and "$" in stage.text:
        statement.fail("--from takes no variables: name a stage that is FROM the variable", stage.offset)
    return made


def _add(statement: Statement) -> Add:
    unpack = statement.one_flag("unpack")
    return Add(
        logical=statement.logical,
        start=statement.start,
        flags=statement.flags,
        checksum=statement.one_flag("checksum"),
        keep_git_dir=_is_set(statement, "keep-git-dir"),
        unpack=None if unpack is None else unpack.text == "true",
        **_operands(statement),
    )


def _operands(statement: Statement) -> dict[str, Any]:
    """Read what COPY and ADD have in common."""
    words = list_words(statement)
    if len(words) < 2:  # noqa: PLR2004  a source and a destination
        statement.fail(f"{statement.name} needs at least one source and a destination", statement.rest.offset)
    heredocs = statement.logical.heredocs
    places = {one.mark.offset for one in heredocs}
    if words[-1].offset in places:
        statement.fail(f"{statement.name}: a here-document cannot be the destination", words[-1].offset)
    return {
        "sources": tuple(word for word in words[:-1] if word.offset not in places),
        "destination": words[-1],
        "heredocs": heredocs,
        "chown": statement.one_flag("chown"),
        "chmod": statement.one_flag("chmod"),
        "link": _is_set(statement, "link"),
        "excludes": statement.flags.get("exclude", ()),
    }


def _arg(statement: Statement) -> Arg:
    declarations: tuple[tuple[Word, Word | None], ...] = tuple(
        pair_of(statement, word) if "=" in word.text else (word, None) for word in quoted_words(statement)
    )
    return Arg(logical=statement.logical, start=statement.start, declarations=declarations)


def _env(statement: Statement) -> Env:
    pairs, legacy = pairs_of(statement)
    return Env(logical=statement.logical, start=statement.start, pairs=pairs, legacy=legacy)


def _label(statement: Statement) -> Label:
    pairs, legacy = pairs_of(statement)
    return Label(logical=statement.logical, start=statement.start, pairs=pairs, legacy=legacy)


def _volume(statement: Statement) -> Volume:
    paths = list_words(statement)
    if not paths or not all(path.text.strip() for path in paths):
        statement.fail("VOLUME needs at least one path, and none that is empty", statement.rest.offset)
    return Volume(logical=statement.logical, start=statement.start, paths=paths)


def _shell(statement: Statement) -> Shell:
    argv = json_array(statement)
    if not argv:
        statement.fail('SHELL takes a JSON array: SHELL ["/bin/sh", "-c"]', statement.rest.offset)
    return Shell(logical=statement.logical, start=statement.start, argv=argv)


def _healthcheck(statement: Statement) -> Healthcheck:
    match = _HEAD.match(statement.rest.text)
    kind = match[2].upper() if match else ""
    at = match.end() if match else 0
    rest = Word(statement.rest.text[at:], min(statement.rest.offset + at, len(statement.logical.text) - 1))
    command = None
    if kind == "NONE":
        if rest.text:
            statement.fail("HEALTHCHECK NONE takes no operands", rest.offset)
    elif kind == "CMD":
        command = _command(evolve(statement, rest=rest)) if rest.text else Command((), shell=False)
        if not command.argv:
            statement.fail("HEALTHCHECK CMD needs a command", statement.rest.offset)
    else:
        statement.fail(f"HEALTHCHECK {kind}: write HEALTHCHECK CMD command, or NONE", statement.rest.offset)
    times = HealthcheckValue(
        interval=_duration(statement, "interval"),
        timeout=_duration(statement, "timeout"),
        start_period=_duration(statement, "start-period"),
        start_interval=_duration(statement, "start-interval"),
        retries=_retries(statement),
    )
    return Healthcheck(
        logical=statement.logical, start=statement.start, flags=statement.flags, command=command, times=times
    )


def _duration(statement: Statement, flag: str) -> float:
    word = statement.one_flag(flag)
    if word is None:
        return 0.0
    if not re.fullmatch(_DURATION, word.text):
        statement.fail(f"--{flag}={word.text}: give a duration such as 30s, 1m30s or 500ms", word.offset)
    seconds = parse_duration(word.text.removeprefix("+"))
    if 0 < seconds < _SHORTEST:
        statement.fail(f"--{flag}={word.text}: the shortest is 1ms", word.offset)
    return seconds


def _retries(statement: Statement) -> int:
    word = statement.one_flag("retries")
    if word is None:
        return 0
    if not re.fullmatch(r"\+?[0-9]{1,10}", word.text) or int(word.text) > _MOST_RETRIES:
        statement.fail(f"--retries={word.text}: give a number from 1 to {_MOST_RETRIES}; 0 = default", word.offset)
    return int(word.text)


def _onbuild(statement: Statement) -> Onbuild:
    logical = statement.logical
    match = _HEAD.match(logical.text, statement.rest.offset)
    if match is None:
        statement.fail("ONBUILD needs an instruction")
    name = match[2].upper()
    if name == "ONBUILD":
        statement.fail("ONBUILD cannot stand within ONBUILD", match.start(2))
    if name in ("FROM", "MAINTAINER"):
        statement.fail(f"{name} cannot be put off with ONBUILD", match.start(2))
    trigger = _read(logical, statement.escape, match)
    bodies = "".join(f"\n{one.content}{one.name}" for one in logical.heredocs)
    return Onbuild(logical=logical, start=statement.start, trigger=trigger, expression=f"{statement.rest.text}{bodies}")


_MAY_BE_BARE = frozenset(("RUN", "CMD", "ENTRYPOINT"))  # the shell is then given nothing to run
_NEEDS = {
    "FROM": "an image: FROM debian:bookworm",
    "COPY": "at least one source and a destination",
    "ADD": "at least one source and a destination",
    "ENV": "name=value",
    "LABEL": "name=value",
    "ARG": "a name",
    "HEALTHCHECK": "CMD and a command, or NONE",
    "ONBUILD": "an instruction",
}

_BOOLEAN = frozenset(("link", "parents", "keep-git-dir", "unpack"))
_REPEATED = frozenset(("mount", "exclude", "device"))
_COPY_FLAGS = frozenset(("chown", "chmod", "link", "exclude"))
_FLAGS = {
    "FROM": frozenset(("platform",)),
    "HEALTHCHECK": frozenset(("interval", "timeout", "start-period", "start-interval", "retries")),
    "RUN": frozenset(("mount", "network", "security", "device")),
    "COPY": _COPY_FLAGS | {"from", "parents"},
    "ADD": _COPY_FLAGS | {"checksum", "keep-git-dir", "unpack"},
}

_PARSERS: dict[str, Callable[[Statement], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda s: Cmd(logical=s.logical, start=s.start, command=_command(s)),
    "COPY": _copy,
    "ENTRYPOINT": lambda s: Entrypoint(logical=s.logical, start=s.start, command=_command(s)),
    "ENV": _env,
    "EXPOSE": lambda s: Expose(logical=s.logical, start=s.start, ports=plain_words(s)),
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": lambda s: Maintainer(logical=s.logical, start=s.start, author=s.rest),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda s: Stopsignal(logical=s.logical, start=s.start, signal=s.rest),
    "USER": lambda s: User(logical=s.logical, start=s.start, user=s.rest),
    "VOLUME": _volume,
    "WORKDIR": lambda s: Workdir(logical=s.logical, start=s.start, path=s.rest),
}
