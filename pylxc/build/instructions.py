"""The instructions of a Dockerfile, as values: what was written, not what it comes to.

Invariant: every :class:`Word` and every instruction knows where in the file it stands, so that later stages can point
at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.build.words import BLANK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.build.heredoc import Heredoc
    from pylxc.build.lexer import LogicalLine
    from pylxc.errors import DockerfileError, UnsupportedError
    from pylxc.imageconfig import Healthcheck as HealthcheckValue


@frozen
class Word:
    """An operand as written, not expanded. ``offset`` is its place in the instruction's logical line."""

    text: str
    offset: int = field(default=0, eq=False)

    def __str__(self) -> str:
        return self.text


@frozen
class Command:
    """What RUN, CMD and ENTRYPOINT take: a line for the shell (``shell``, one string) or an argument vector.

    ``heredocs`` are the here-documents that the line announces.
    """

    argv: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


def shell_form(line: str, heredocs: tuple[Heredoc, ...] = ()) -> Command:
    """Make the command that is a line for the shell."""
    return Command((line,), shell=True, heredocs=heredocs)  # noqa: S604  a field of a value; nothing is started


@frozen
class MountFlag:
    """A ``--mount`` of RUN as written: its fields in order, a value of None being one that is not given.

    What it comes to once variables have values is a :class:`pylxc.build.mountflag.RunMount`.
    """

    fields: tuple[tuple[str, Word | None], ...]
    offset: int = field(default=0, eq=False)


@frozen(kw_only=True)
class Instruction:
    """What all instructions have. ``flags`` maps a flag's name without dashes to its values, in order."""

    logical: LogicalLine = field(repr=False, eq=False)
    start: int = field(default=0, repr=False, eq=False)
    flags: Mapping[str, tuple[Word, ...]] = field(factory=dict, hash=False)

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
        return self.logical.end

    @property
    def source(self) -> str:
        """Its text as written, continuations joined."""
        return self.logical.text.strip(BLANK)

    def error(self, reason: str, offset: int | None = None) -> DockerfileError:
        """Make an error that points at this instruction, or at an offset of its logical line."""
        return self.logical.fault(reason, self.start if offset is None else offset)

    def unsupported(self, feature: str, remedy: str, offset: int | None = None) -> UnsupportedError:
        """Make the error for what this version does not carry out, with its place."""
        return self.logical.unsupported(feature, remedy, self.start if offset is None else offset)


@frozen(kw_only=True)
class From(Instruction):
    """``FROM [--platform=] image [AS alias]``. The alias is in lower case; ``keyword`` is the AS as written."""

    image: Word
    alias: str | None = None
    platform: Word | None = None
    keyword: Word | None = field(default=None, eq=False)
    alias_word: Word | None = field(default=None, eq=False)


@frozen(kw_only=True)
class Run(Instruction):
    """``RUN [--mount=]... [--network=] [--security=] [--device=]... command``.

    ``network`` is "default", "none" or "host"; ``security`` is "sandbox" or "insecure".
    """

    command: Command
    mounts: tuple[MountFlag, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[Word, ...] = ()


@frozen(kw_only=True)
class Cmd(Instruction):
    """``CMD command``."""

    command: Command


@frozen(kw_only=True)
class Entrypoint(Instruction):
    """``ENTRYPOINT command``."""

    command: Command


@frozen(kw_only=True)
class Copy(Instruction):
    """``COPY [flags] source... destination``. ``heredocs`` are sources, too: files with these names.

    ``source_stage`` is the stage, image or named context after ``--from``.
    """

    sources: tuple[Word, ...]
    destination: Word
    heredocs: tuple[Heredoc, ...] = ()
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[Word, ...] = ()
    source_stage: Word | None = None


@frozen(kw_only=True)
class Add(Copy):
    """``ADD``: a COPY that unpacks archives and fetches URLs; ``unpack`` None: local archives only."""

    checksum: Word | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None


@frozen(kw_only=True)
class Env(Instruction):
    """``ENV name=value...``, or the older ``ENV name value`` (``legacy``)."""

    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = field(default=False, eq=False)


@frozen(kw_only=True)
class Label(Instruction):
    """``LABEL name=value...``, or the older ``LABEL name value`` (``legacy``)."""

    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = field(default=False, eq=False)


@frozen(kw_only=True)
class Arg(Instruction):
    """``ARG name[=default]...``; a default of None is one that is not given."""

    declarations: tuple[tuple[Word, Word | None], ...]


@frozen(kw_only=True)
class Workdir(Instruction):
    """``WORKDIR path``."""

    path: Word


@frozen(kw_only=True)
class User(Instruction):
    """``USER user[:group]``."""

    user: Word


@frozen(kw_only=True)
class Expose(Instruction):
    """``EXPOSE port[-port][/protocol]...``."""

    ports: tuple[Word, ...]


@frozen(kw_only=True)
class Volume(Instruction):
    """``VOLUME path...``."""

    paths: tuple[Word, ...]


@frozen(kw_only=True)
class Shell(Instruction):
    """``SHELL ["program", "argument"...]``."""

    argv: tuple[str, ...]


@frozen(kw_only=True)
class Stopsignal(Instruction):
    """``STOPSIGNAL signal``."""

    signal: Word


@frozen(kw_only=True)
class Maintainer(Instruction):
    """``MAINTAINER author``, superseded by a label."""

    author: Word


@frozen(kw_only=True)
class Healthcheck(Instruction):
    """``HEALTHCHECK [options] CMD command`` or ``HEALTHCHECK NONE``.

    ``command`` is None for NONE. ``times`` holds the options, its ``test`` is empty: a shell form needs the SHELL.
    """

    command: Command | None
    times: HealthcheckValue


@frozen(kw_only=True)
class Onbuild(Instruction):
    """``ONBUILD instruction``: ``trigger`` is that instruction, ``expression`` its text, here-documents included."""

    trigger: Instruction
    expression: str


@frozen
class Stage:
    """A FROM and what follows it."""

    base: From
    instructions: tuple[Instruction, ...]


@frozen
class Dockerfile:
    """A whole file: ``directives``, the ARGs before the first FROM, the stages."""

    path: str
    escape: str
    directives: Mapping[str, str] = field(hash=False)
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All instructions in the order of the file."""
        staged = (one for stage in self.stages for one in (stage.base, *stage.instructions))
        return (*self.global_args, *staged)
