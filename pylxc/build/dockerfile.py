"""The text of a Dockerfile, read into instructions.

Hides the surface: byte order mark, line endings, parser directives, comments, continuations, flags, quoting, the shell
and the exec form. Invariant: no variable is expanded here, and every :class:`Word` knows where in the file it stands,
so that later stages can point at it.

Two layers, so that heredocs and stages fit in: the *lexer* makes logical lines with a map back to the file, and knows
no instruction; a table of *operand parsers*, one for each instruction, makes values of them and knows no physical line.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import attrs

from pylxc.errors import DockerfileError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BLANK = " \t\v\f\r"
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEREDOC = re.compile(r"\d*<<-?(['\"]?)[A-Za-z_][A-Za-z0-9_.-]*\1")


# -- values ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Piece:
    """Part of a logical line that stands together in the file."""

    offset: int  # in the logical line
    line: int
    column: int
    physical: str


@attrs.frozen
class LogicalLine:
    """One instruction's text with the continuations joined, and the map back to where it was written."""

    text: str
    pieces: tuple[_Piece, ...]
    path: str

    def locate(self, offset: int) -> tuple[int, int]:
        """Give the (line, column), both from 1, of a character of ``text``."""
        piece = self._piece(offset)
        return piece.line, piece.column + offset - piece.offset

    def fault(self, reason: str, offset: int = 0) -> DockerfileError:
        """Make the error that points at a character of ``text``."""
        line, column = self.locate(offset)
        return DockerfileError(reason, line=line, column=column, source=self._piece(offset).physical, path=self.path)

    def unsupported(self, feature: str, remedy: str, offset: int = 0) -> UnsupportedError:
        """Make the error for what is right at this place, but not carried out yet."""
        line, column = self.locate(offset)
        where = f"{self.path}:{line}:{column}"
        return UnsupportedError(feature, f"comes in a later version of pylxc; until then {remedy} ({where})")

    def _piece(self, offset: int) -> _Piece:
        return next(piece for piece in reversed(self.pieces) if piece.offset <= offset or piece.offset == 0)


@attrs.frozen
class Word:
    """An operand as written, not expanded. ``offset`` is its place in the instruction's logical line."""

    text: str
    offset: int = attrs.field(default=0, eq=False)

    def __str__(self) -> str:
        return self.text


@attrs.frozen
class Command:
    """What RUN, CMD and ENTRYPOINT take: a line for the shell (``shell``, one string) or an argument vector."""

    argv: tuple[str, ...]
    shell: bool


@attrs.frozen(kw_only=True)
class Instruction:
    """What all instructions have. ``flags`` maps a flag's name without dashes to its values, in order."""

    logical: LogicalLine = attrs.field(repr=False, eq=False)
    start: int = attrs.field(default=0, repr=False, eq=False)
    flags: Mapping[str, tuple[Word, ...]] = attrs.field(factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The instruction's name in upper case."""
        return type(self).__name__.upper()

    @property
    def line(self) -> int:
        """The line it begins on, from 1."""
        return self.logical.locate(self.start)[0]

    @property
    def column(self) -> int:
        """The column of its name, from 1."""
        return self.logical.locate(self.start)[1]

    @property
    def end_line(self) -> int:
        """The last line that belongs to it."""
        return self.logical.pieces[-1].line

    @property
    def source(self) -> str:
        """Its text as written, continuations joined."""
        return self.logical.text.strip(_BLANK)

    def error(self, reason: str, offset: int | None = None) -> DockerfileError:
        """Make an error that points at this instruction, or at an offset of its logical line."""
        return self.logical.fault(reason, self.start if offset is None else offset)


@attrs.frozen(kw_only=True)
class From(Instruction):
    """``FROM image [AS alias]``."""

    image: Word
    alias: str | None = None


@attrs.frozen(kw_only=True)
class Run(Instruction):
    """``RUN command``."""

    command: Command


@attrs.frozen(kw_only=True)
class Cmd(Instruction):
    """``CMD command``."""

    command: Command


@attrs.frozen(kw_only=True)
class Entrypoint(Instruction):
    """``ENTRYPOINT command``."""

    command: Command


@attrs.frozen(kw_only=True)
class Copy(Instruction):
    """``COPY [--chown=] [--chmod=] source... destination``."""

    sources: tuple[Word, ...]
    destination: Word
    chown: Word | None = None
    chmod: Word | None = None


@attrs.frozen(kw_only=True)
class Add(Copy):
    """``ADD``: a COPY that unpacks archives."""


@attrs.frozen(kw_only=True)
class Env(Instruction):
    """``ENV name=value...``, or the older ``ENV name value``."""

    pairs: tuple[tuple[Word, Word], ...]


@attrs.frozen(kw_only=True)
class Label(Instruction):
    """``LABEL name=value...``."""

    pairs: tuple[tuple[Word, Word], ...]


@attrs.frozen(kw_only=True)
class Arg(Instruction):
    """``ARG name[=default]...``; a default of None is one that is not given."""

    declarations: tuple[tuple[Word, Word | None], ...]


@attrs.frozen(kw_only=True)
class Workdir(Instruction):
    """``WORKDIR path``."""

    path: Word


@attrs.frozen(kw_only=True)
class User(Instruction):
    """``USER user[:group]``."""

    user: Word


@attrs.frozen(kw_only=True)
class Expose(Instruction):
    """``EXPOSE port[-port][/protocol]...``."""

    ports: tuple[Word, ...]


@attrs.frozen(kw_only=True)
class Volume(Instruction):
    """``VOLUME path...``."""

    paths: tuple[Word, ...]


@attrs.frozen(kw_only=True)
class Shell(Instruction):
    """``SHELL ["program", "argument"...]``."""

    argv: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Stopsignal(Instruction):
    """``STOPSIGNAL signal``."""

    signal: Word


@attrs.frozen(kw_only=True)
class Maintainer(Instruction):
    """``MAINTAINER author``, superseded by a label."""

    author: Word


@attrs.frozen
class Stage:
    """A FROM and what follows it."""

    base: From
    instructions: tuple[Instruction, ...]


@attrs.frozen
class Dockerfile:
    """A whole file: ``directives``, the ARGs before the first FROM, the stages (one, in this version)."""

    path: str
    escape: str
    directives: Mapping[str, str] = attrs.field(hash=False)
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All instructions in the order of the file."""
        staged = (one for stage in self.stages for one in (stage.base, *stage.instructions))
        return (*self.global_args, *staged)


def parse(data: bytes | str, path: str = "Dockerfile") -> Dockerfile:
    r"""Read a Dockerfile. ``path`` is only what errors call it.

    Raises :class:`DockerfileError` (with line and column) for what is wrong, and :class:`UnsupportedError` for what is
    right but not carried out by this version.

    >>> parse("FROM debian\nRUN true\n").stages[0].instructions[0].command
    Command(argv=('true',), shell=True)
    """
    lines = _physical_lines(data, path)
    directives, first = _directives(lines, path)
    escape = directives.get("escape", "\\")
    global_args: list[Arg] = []
    base: From | None = None
    body: list[Instruction] = []
    for logical in _logical_lines(lines, first, escape, path):
        instruction = _instruction(logical, escape)
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


# -- the lexer ---------------------------------------------------------------------------------------------------------


def _physical_lines(data: bytes | str, path: str) -> list[str]:
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            row, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
            raise DockerfileError("the file is not UTF-8 text", line=row, column=column, path=path) from None
    lines: list[str] = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DockerfileError("a NUL character", line=number, column=line.index("\0") + 1, path=path)
    return lines


def _directives(lines: list[str], path: str) -> tuple[dict[str, str], int]:
    """Read the parser directives; give them and the index of the first line after them."""
    found: dict[str, str] = {}
    for index, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            return found, index
        problem = ""
        if name in found:
            problem = f"the directive {name!r} may be given only once"
        elif name == "escape" and match[2] not in ("\\", "`"):
            problem = f"escape={match[2]}: the escape character is \\ or `"
        if problem:
            raise DockerfileError(problem, line=index + 1, column=1, source=line, path=path)
        found[name] = match[2]
    return found, len(lines)


def _logical_lines(lines: list[str], first: int, escape: str, path: str) -> Iterator[LogicalLine]:
    # An escape that is itself escaped does not continue the line: "COPY a c:\\" ends there.
    mark = re.escape(escape)
    continuation = re.compile(rf"(?<!{mark}){mark}[ \t]*\Z")
    text = ""
    pieces: list[_Piece] = []
    for number, physical in enumerate(lines[first:], first + 1):
        if not physical.strip() or physical.lstrip().startswith("#"):
            continue  # neither a comment nor a blank line ends a continuation
        indent = 0 if pieces else len(physical) - len(physical.lstrip())
        match = continuation.search(physical, indent)
        pieces.append(_Piece(len(text), number, indent + 1, physical))
        text += physical[indent : match.start() if match else None]
        if match is None:
            yield LogicalLine(text, tuple(pieces), path)
            text, pieces = "", []
    if pieces and text.strip():
        yield LogicalLine(text, tuple(pieces), path)


# -- operands ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Statement:
    """A logical line taken apart: the name, the flags, and where the operands lie."""

    logical: LogicalLine
    name: str
    start: int
    flags: dict[str, tuple[Word, ...]]
    rest: Word
    escape: str

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        raise self.logical.fault(reason, self.start if offset is None else offset)

    def unsupported(self, feature: str, remedy: str, offset: int | None = None) -> NoReturn:
        raise self.logical.unsupported(feature, remedy, self.start if offset is None else offset)

    def one_flag(self, name: str) -> Word | None:
        values = self.flags.get(name, ())
        return values[-1] if values else None


def _instruction(logical: LogicalLine, escape: str) -> Instruction:
    match = re.match(rf"([{_BLANK}]*)([^{_BLANK}]+)[{_BLANK}]*", logical.text)
    if match is None:  # blank lines never get here
        raise logical.fault("an instruction is missing")
    name, start = match[2].upper(), match.start(2)
    parser = _PARSERS.get(name)
    if parser is None:
        raise logical.fault(f"unknown instruction {match[2]!r}{_suggestion(name, _PARSERS)}", start)
    flags, end = _flags(logical, name, match.end(), escape)
    text = logical.text[end:].rstrip(_BLANK)
    statement = _Statement(logical, name, start, flags, Word(text, min(end, len(logical.text) - 1)), escape)
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
        word = _raw_word(logical.text, at, escape)
        end = at + len(word)
        if word != "--":
            flag, equals, value = word[2:].partition("=")
            _check_flag(logical, name, flag, at)
            if not equals or not value:
                raise logical.fault(f"--{flag} needs a value: --{flag}=...", at)
            if flag in flags:
                raise logical.fault(f"--{flag} is given twice", at)
            flags[flag] = (Word(value, at + len(flag) + 3),)
        at = end + len(logical.text[end:]) - len(logical.text[end:].lstrip(_BLANK))
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


def _raw_word(text: str, at: int, escape: str) -> str:
    """Give the word that begins at ``at``, with its quotes and escapes, up to a blank that neither protects."""
    start, quote = at, ""
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'":
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char in _BLANK:
            break
        at += 1
    return text[start:at]


def _quoted_words(statement: _Statement) -> list[Word]:
    """Split the operands at blanks outside quotes."""
    text, words, at = statement.rest.text, [], 0
    while at < len(text):
        if text[at] in _BLANK:
            at += 1
            continue
        word = _raw_word(text, at, statement.escape)
        words.append(Word(word, statement.rest.offset + at))
        at += len(word)
    return words


def _plain_words(statement: _Statement) -> tuple[Word, ...]:
    """Split the operands at blanks, whatever stands around them: COPY and its like know no quotes."""
    rest = statement.rest
    return tuple(Word(match[0], rest.offset + match.start()) for match in re.finditer(rf"[^{_BLANK}]+", rest.text))


def _json_array(statement: _Statement) -> tuple[str, ...] | None:
    """Give the operands as the strings of a JSON array, None when they are not one: then they are plain text."""
    if not statement.rest.text.startswith("["):
        return None
    import json  # noqa: PLC0415  many Dockerfiles have no exec form

    try:
        value = json.loads(statement.rest.text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        statement.fail(f"{statement.name}: every element of the array must be a string", statement.rest.offset)
    if any("\0" in item for item in value):
        statement.fail(f"{statement.name}: a NUL character in the array", statement.rest.offset)
    # JSON can spell half a surrogate pair, which no file name or configuration can carry.
    return tuple(_SURROGATE.sub("\ufffd", item) for item in value)


def _list_words(statement: _Statement) -> tuple[Word, ...]:
    array = _json_array(statement)
    if array is None:
        return _plain_words(statement)
    return tuple(Word(item, statement.rest.offset) for item in array)


def _refuse_heredoc(statement: _Statement) -> None:
    for word in _quoted_words(statement):
        if _HEREDOC.fullmatch(word.text):
            statement.unsupported("here-documents", "use continuation lines, or COPY a file", word.offset)


def _pairs(statement: _Statement) -> tuple[tuple[Word, Word], ...]:
    words = _quoted_words(statement)
    if "=" not in words[0].text:
        # The older form: a name, and all the rest is the value.
        name = re.match(rf"[^{_BLANK}]+", statement.rest.text)
        key = name[0] if name else ""
        value = statement.rest.text[len(key) :].lstrip(_BLANK)
        if not value:
            statement.fail(f"{statement.name} needs a value for {key}: {key}=value", words[0].offset)
        offset = statement.rest.offset
        return ((Word(key, offset), Word(value, offset + len(statement.rest.text) - len(value))),)
    return tuple(_pair(statement, word) for word in words)


def _pair(statement: _Statement, word: Word) -> tuple[Word, Word]:
    key, equals, value = word.text.partition("=")
    if not equals:
        statement.fail(f"{word.text!r} has no '=': {statement.name} takes name=value (quote blanks)", word.offset)
    if not key:
        statement.fail(f"{statement.name}: a name is missing before '='", word.offset)
    return Word(key, word.offset), Word(value, word.offset + len(key) + 1)


# -- one parser for each instruction -----------------------------------------------------------------------------------


def _from(statement: _Statement) -> From:
    words = _plain_words(statement)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].text.upper() != "AS"):  # noqa: PLR2004  a AS b
        statement.fail("FROM takes one image, optionally followed by: AS name", words[0].offset)
    alias = words[2].text.lower() if len(words) > 1 else None
    if alias is not None and not _STAGE_NAME.fullmatch(alias):
        reason = f"{alias!r} cannot name a stage: letters, digits, '_', '.', '-', a letter first"
        statement.fail(reason, words[2].offset)
    return From(logical=statement.logical, start=statement.start, flags=statement.flags, image=words[0], alias=alias)


def _command(statement: _Statement) -> Command:
    array = _json_array(statement)
    return Command((statement.rest.text,) if array is None else array, array is None)


def _run(statement: _Statement) -> Run:
    command = _command(statement)
    if command.shell:
        _refuse_heredoc(statement)
    elif not command.argv:
        statement.fail("RUN needs a command: the array is empty", statement.rest.offset)
    return Run(logical=statement.logical, start=statement.start, flags=statement.flags, command=command)


def _copy(kind: type[Copy]) -> Callable[[_Statement], Copy]:
    def read(statement: _Statement) -> Copy:
        _refuse_heredoc(statement)
        words = _list_words(statement)
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


def _arg(statement: _Statement) -> Arg:
    declarations: tuple[tuple[Word, Word | None], ...] = tuple(
        _pair(statement, word) if "=" in word.text else (word, None) for word in _quoted_words(statement)
    )
    return Arg(logical=statement.logical, start=statement.start, declarations=declarations)


def _volume(statement: _Statement) -> Volume:
    paths = _list_words(statement)
    if not paths:
        statement.fail("VOLUME needs at least one path", statement.rest.offset)
    return Volume(logical=statement.logical, start=statement.start, paths=paths)


def _shell(statement: _Statement) -> Shell:
    argv = _json_array(statement)
    if not argv:
        statement.fail('SHELL takes a JSON array: SHELL ["/bin/sh", "-c"]', statement.rest.offset)
    return Shell(logical=statement.logical, start=statement.start, argv=argv)


def _later(remedy: str) -> Callable[[_Statement], NoReturn]:
    def refuse(statement: _Statement) -> NoReturn:
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

_PARSERS: dict[str, Callable[[_Statement], Instruction]] = {
    "ADD": _copy(Add),
    "ARG": _arg,
    "CMD": lambda s: Cmd(logical=s.logical, start=s.start, command=_command(s)),
    "COPY": _copy(Copy),
    "ENTRYPOINT": lambda s: Entrypoint(logical=s.logical, start=s.start, command=_command(s)),
    "ENV": lambda s: Env(logical=s.logical, start=s.start, pairs=_pairs(s)),
    "EXPOSE": lambda s: Expose(logical=s.logical, start=s.start, ports=_plain_words(s)),
    "FROM": _from,
    "HEALTHCHECK": _later("leave it out, and wait with Container.wait_ready"),
    "LABEL": lambda s: Label(logical=s.logical, start=s.start, pairs=_pairs(s)),
    "MAINTAINER": lambda s: Maintainer(logical=s.logical, start=s.start, author=s.rest),
    "ONBUILD": _later("put the instruction into the Dockerfiles that build on this image"),
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda s: Stopsignal(logical=s.logical, start=s.start, signal=s.rest),
    "USER": lambda s: User(logical=s.logical, start=s.start, user=s.rest),
    "VOLUME": _volume,
    "WORKDIR": lambda s: Workdir(logical=s.logical, start=s.start, path=s.rest),
}
