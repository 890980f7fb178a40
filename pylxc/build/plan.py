"""What a Dockerfile does, step by step, once its variables have values.

Hides the semantics of the instructions: what each changes in the image's configuration, which variable is seen where,
what a shell form turns into. Invariant: planning touches no file and starts no process; a step holds all that its
result depends on, except its parent and the content of the files it copies.

Use: ``made = plan(parse(text), args)``, find the image ``made.base``, then walk ``made.steps(its config)``. Every
:class:`Step` comes resolved. ``step.state`` is the state after it; of the last one, ``state.config`` is the image's
configuration. A :class:`MetadataStep` needs nothing more; the others have work to do in the file system.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pylxc.build import instructions as ast
from pylxc.build.expand import ExpansionError, expand, expand_words
from pylxc.errors import UnsupportedError
from pylxc.imageconfig import DEFAULT_PATH
from pylxc.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pylxc.build.instructions import Command, Dockerfile, Instruction, Word
    from pylxc.imageconfig import ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")

# Given to RUN without an ARG, and then no part of the cache key: a proxy is the builder's affair, not the image's.
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([A-Za-z]+))?")
_MODE = re.compile(r"0*[0-7]{1,4}")
_REMOTE = re.compile(r"(?:https?|ftp|git|ssh)://|git@", re.IGNORECASE)
_LAST_PORT = 65535
_LAST_SIGNAL = 64

InstructionT = TypeVar("InstructionT", bound="Instruction")


# -- values ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class State:
    """What the steps so far have come to. ``args`` are the ARGs in scope that have a value."""

    config: ImageConfig
    args: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    author: str | None = None
    command_set: bool = False  # a CMD stands in this stage, so a later ENTRYPOINT keeps it

    def lookup(self, name: str) -> str | None:
        """Give a variable's value. ENV always overrides an ARG of the same name, whichever comes first."""
        value: str | None = self.config.env.get(name)
        if value is not None:
            return value
        if name == "PATH":  # every process gets one, so that ENV PATH=$PATH:/more means what it says
            return self.args.get(name, DEFAULT_PATH)
        return self.args.get(name)

    @property
    def workdir(self) -> str:
        """The current directory, absolute."""
        return self.config.workdir or "/"

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs a shell form."""
        return self.config.shell or DEFAULT_SHELL


@attrs.frozen(kw_only=True)
class Step:
    """One instruction, resolved. ``number`` counts from 1, which is FROM; ``state`` is the state after it."""

    instruction: Instruction
    number: int
    state: State

    def describe(self) -> str:
        """Give the line for the image's history."""
        raise NotImplementedError

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent and the content copied."""
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class MetadataStep(Step):
    """A step that changes the configuration only. ``change`` is what it says, in JSON's types."""

    change: tuple[object, ...]
    text: str

    def describe(self) -> str:
        """Give the line for the image's history."""
        return self.text

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on."""
        return _canonical(self.instruction.name, self.change)


@attrs.frozen(kw_only=True)
class RunStep(Step):
    """A command to run. ``env`` is its whole environment as the Dockerfile gives it; ``user`` "" is root."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(hash=False)
    user: str
    workdir: str

    def describe(self) -> str:
        """Give the line for the image's history; ``|n`` introduces the n build arguments that were in scope."""
        args = [f"{name}={value}" for name, value in sorted(self.state.args.items())]
        return " ".join(("RUN", *((f"|{len(args)}", *args) if args else ()), *self.argv))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent."""
        declared = {**self.state.args, **self.state.config.env}
        env = {name: value for name, value in self.env.items() if name not in PROXY_ARGS or name in declared}
        return _canonical("RUN", self.argv, env, self.user, self.workdir)


@attrs.frozen(kw_only=True)
class CopyStep(Step):
    """Files to bring in from the context. ``unpack``: an ADD, which unpacks local archives.

    ``destination`` is as written once expanded: relative to ``workdir`` perhaps, and a slash at its end counts.
    ``chown`` is ``"user"`` or ``"user:group"``, names or numbers, or None for 0:0; ``chmod`` permission bits or None.
    """

    sources: tuple[str, ...]
    destination: str
    workdir: str
    chown: str | None
    chmod: int | None
    unpack: bool

    def describe(self) -> str:
        """Give the line for the image's history."""
        flags = [f"--chown={self.chown}"] if self.chown is not None else []
        flags += [f"--chmod={self.chmod:o}"] if self.chmod is not None else []
        return " ".join((self.instruction.name, *flags, *self.sources, self.destination))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent and the files."""
        return _canonical(self.instruction.name, self.sources, self.destination, self.workdir, self.chown, self.chmod)


@attrs.frozen(kw_only=True)
class WorkdirStep(Step):
    """A directory to make where it is missing. ``path`` is absolute and normalised."""

    path: str

    def describe(self) -> str:
        """Give the line for the image's history."""
        return f"WORKDIR {self.path}"

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent."""
        return _canonical("WORKDIR", self.path)


@attrs.frozen
class Plan:
    """What to build. ``base`` is the image FROM names (``"scratch"`` is none at all), ``total`` counts the steps.

    ``warnings`` are sentences for the user; ``stage`` is the name after AS, or None.
    """

    dockerfile: Dockerfile
    base: str
    stage: str | None
    warnings: tuple[str, ...]
    total: int
    args: Mapping[str, str] = attrs.field(hash=False)
    global_args: Mapping[str, str] = attrs.field(hash=False)

    def start(self, base: ImageConfig) -> State:
        """Give the state after FROM, on the configuration of the base image.

        Raises :class:`~pylxc.errors.UnsupportedError` when the base has ONBUILD instructions waiting.
        """
        if base.onbuild:
            remedy = (
                "its ONBUILD instructions come in a later version of pylxc; until then put them into this Dockerfile"
            )
            raise UnsupportedError(f"ONBUILD of the base image {self.base}", remedy)
        return State(base)

    def steps(self, base: ImageConfig) -> Iterator[Step]:
        """Resolve the steps after FROM, one at a time: a mistake in a late one shows when it is reached.

        Raises :class:`~pylxc.errors.DockerfileError` and :class:`~pylxc.errors.UnsupportedError`.
        """
        state = self.start(base)
        for number, instruction in enumerate(self.dockerfile.stages[0].instructions, 2):
            step = _RESOLVERS[type(instruction)](_Resolver(self, state, number), instruction)
            state = step.state
            yield step


def plan(dockerfile: Dockerfile, args: Mapping[str, str] | None = None) -> Plan:
    r"""Plan the build of a Dockerfile with these build arguments.

    Raises :class:`~pylxc.errors.DockerfileError`.

    >>> from pylxc.build.dockerfile import parse
    >>> plan(parse("ARG TAG=12\nFROM debian:$TAG"), {"TAG": "13"}).base
    'debian:13'
    """
    given = dict(args or {})
    global_args = _platform_args() | {name: given[name] for name in PROXY_ARGS & given.keys()}
    for instruction in dockerfile.global_args:
        for name, default in instruction.declarations:
            key = _expand(instruction, name, global_args.get, dockerfile.escape)
            if key in given:
                global_args[key] = given[key]
            elif default is not None:
                global_args[key] = _expand(instruction, default, global_args.get, dockerfile.escape)
    stage = dockerfile.stages[0]
    base = _expand(stage.base, stage.base.image, global_args.get, dockerfile.escape)
    if not base or re.search(r"\s", base):
        reason = f"the image {stage.base.image.text!r} expands to {base!r}: give its ARG a value, before FROM"
        raise stage.base.error(reason, stage.base.image.offset)
    total = 1 + len(stage.instructions)
    warnings = _unused(dockerfile, given)
    return Plan(dockerfile, base, stage.base.alias, warnings, total, given, global_args)


def _platform_args() -> dict[str, str]:
    """Give the predefined platform arguments of the global scope; a stage has to declare those it uses."""
    name = this_platform()
    _, architecture, variant = (*name.split("/"), "")[:3]
    values = {"PLATFORM": name, "OS": "linux", "ARCH": architecture, "VARIANT": variant}
    return {side + key: value for side in ("TARGET", "BUILD") for key, value in values.items()}


def _unused(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[str, ...]:
    arg_lines = [one for one in dockerfile.instructions if isinstance(one, ast.Arg)]
    declared = {name.text.strip("'\"") for line in arg_lines for name, _ in line.declarations}
    return tuple(
        f"build argument {name!r} has no effect: no ARG declares it"
        for name in sorted(given.keys() - declared - PROXY_ARGS)
    )


def _canonical(*parts: object) -> bytes:
    # Surrogates stand for bytes that are not UTF-8; ASCII escapes carry them.
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _expand(instruction: Instruction, word: Word, lookup: Callable[[str], str | None], escape: str) -> str:
    try:
        return expand(word.text, lookup, escape)
    except ExpansionError as error:
        raise instruction.error(error.reason, word.offset + error.offset) from None


# -- resolving ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Resolver:
    """An instruction's surroundings while it is resolved: the plan, the state before it and its number."""

    plan: Plan
    state: State
    number: int

    def expand(self, instruction: Instruction, word: Word) -> str:
        return _expand(instruction, word, self.state.lookup, self.plan.dockerfile.escape)

    def metadata(
        self, instruction: Instruction, state: State, change: tuple[object, ...], text: str | None = None
    ) -> MetadataStep:
        text = " ".join((instruction.name, *map(str, change))) if text is None else text
        return MetadataStep(instruction=instruction, number=self.number, state=state, change=change, text=text)

    def assignments(self, instruction: Instruction, state: State, pairs: Mapping[str, str]) -> MetadataStep:
        text = " ".join((instruction.name, *(f"{name}={value}" for name, value in pairs.items())))
        return self.metadata(instruction, state, tuple(pairs.items()), text)

    def configure(self, **changes: Any) -> State:
        """Give the state with fields of the configuration replaced."""
        return attrs.evolve(self.state, config=attrs.evolve(self.state.config, **changes))

    def argv(self, command: Command) -> tuple[str, ...]:
        return (*self.state.shell, *command.argv) if command.shell else command.argv

    def pairs(self, instruction: ast.Env | ast.Label) -> dict[str, str]:
        """Expand name=value pairs; all see the values from before their line."""
        found = {}
        for name, value in instruction.pairs:
            key = self.expand(instruction, name)
            if not key or (isinstance(instruction, ast.Env) and "=" in key):
                raise instruction.error(f"{name.text!r} expands to {key!r}, which is not a name", name.offset)
            found[key] = self.expand(instruction, value)
        return found


def _env(at: _Resolver, instruction: ast.Env) -> Step:
    pairs = at.pairs(instruction)
    state = at.configure(env={**at.state.config.env, **pairs})
    return at.assignments(instruction, state, pairs)


def _label(at: _Resolver, instruction: ast.Label) -> Step:
    pairs = at.pairs(instruction)
    state = at.configure(labels={**at.state.config.labels, **pairs})
    return at.assignments(instruction, state, pairs)


def _arg(at: _Resolver, instruction: ast.Arg) -> Step:
    state = at.state
    names = []
    text = ["ARG"]
    for name, default in instruction.declarations:
        # Unlike ENV's pairs, each declaration sees the ones before it.
        within = attrs.evolve(at, state=state)
        key = within.expand(instruction, name)
        value: str | None = None
        if key in at.plan.args:
            value = at.plan.args[key]
        elif default is not None:
            value = within.expand(instruction, default)
        else:
            value = at.plan.global_args.get(key)
        if value is not None:
            state = attrs.evolve(state, args={**state.args, key: value})
        names.append(key)
        text.append(key if value is None else f"{key}={value}")
    # The value is left out of the change: it alters nothing until a RUN sees it, whose definition has it.
    return at.metadata(instruction, state, tuple(names), " ".join(text))


def _cmd(at: _Resolver, instruction: ast.Cmd) -> Step:
    argv = at.argv(instruction.command)
    state = attrs.evolve(at.configure(cmd=argv), command_set=True)
    return at.metadata(instruction, state, argv, f"CMD {json.dumps(argv)}")


def _entrypoint(at: _Resolver, instruction: ast.Entrypoint) -> Step:
    argv = at.argv(instruction.command)
    # A CMD that came with the base image was meant for its entry point, not for this one.
    cmd = at.state.config.cmd if at.state.command_set else None
    state = at.configure(entrypoint=argv, cmd=cmd)
    return at.metadata(instruction, state, argv, f"ENTRYPOINT {json.dumps(argv)}")


def _shell(at: _Resolver, instruction: ast.Shell) -> Step:
    state = at.configure(shell=instruction.argv)
    return at.metadata(instruction, state, instruction.argv, f"SHELL {json.dumps(instruction.argv)}")


def _user(at: _Resolver, instruction: ast.User) -> Step:
    user = at.expand(instruction, instruction.user)
    if not user:
        reason = f"{instruction.user.text!r} expands to nothing: USER needs a user"
        raise instruction.error(reason, instruction.user.offset)
    return at.metadata(instruction, at.configure(user=user), (user,))


def _expose(at: _Resolver, instruction: ast.Expose) -> Step:
    found: list[str] = []
    for word in instruction.ports:
        try:
            specs = expand_words(word.text, at.state.lookup, at.plan.dockerfile.escape)
        except ExpansionError as error:
            raise instruction.error(error.reason, word.offset + error.offset) from None
        for spec in specs:
            found += _ports(instruction, word, spec)
    ports = tuple(dict.fromkeys((*at.state.config.exposed_ports, *found)))
    return at.metadata(instruction, at.configure(exposed_ports=ports), tuple(found))


def _ports(instruction: Instruction, word: Word, spec: str) -> list[str]:
    match = _PORT.fullmatch(spec)
    if match is None:
        reason = f"bad port {spec!r}: write 80, 80/udp or 8000-8010 (ports of the host are chosen when it runs)"
        raise instruction.error(reason, word.offset)
    first, protocol = int(match[1]), (match[3] or "tcp").lower()
    last = int(match[2] or first)
    if not 1 <= first <= last <= _LAST_PORT:
        raise instruction.error(f"bad port {spec!r}: ports go from 1 to {_LAST_PORT}, ranges upwards", word.offset)
    if protocol not in ("tcp", "udp", "sctp"):
        raise instruction.error(f"bad protocol in {spec!r}: it is tcp, udp or sctp", word.offset)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(at: _Resolver, instruction: ast.Volume) -> Step:
    found = []
    for word in instruction.paths:
        path = at.expand(instruction, word)
        if not path.strip():
            raise instruction.error(f"{word.text!r} expands to nothing: VOLUME needs a path", word.offset)
        found.append(path)
    volumes = tuple(dict.fromkeys((*at.state.config.volumes, *found)))
    return at.metadata(instruction, at.configure(volumes=volumes), tuple(found))


def _stopsignal(at: _Resolver, instruction: ast.Stopsignal) -> Step:
    import signal  # noqa: PLC0415  enum-heavy, rarely used

    name = at.expand(instruction, instruction.signal)
    bare = name.upper().removeprefix("SIG")
    names = {member.name.removeprefix("SIG") for member in signal.Signals}
    real_time = re.fullmatch(r"RTMIN(\+([0-9]|1[0-5]))?|RTMAX(-([0-9]|1[0-4]))?", bare)
    number = name.isascii() and name.isdigit() and 1 <= int(name) <= _LAST_SIGNAL
    if not (bare in names or real_time or number):
        reason = f"unknown signal {name!r}: give a name such as SIGTERM or a number from 1 to {_LAST_SIGNAL}"
        raise instruction.error(reason, instruction.signal.offset)
    return at.metadata(instruction, at.configure(stop_signal=name), (name,))


def _maintainer(at: _Resolver, instruction: ast.Maintainer) -> Step:
    author = instruction.author.text
    return at.metadata(instruction, attrs.evolve(at.state, author=author), (author,))


def _run(at: _Resolver, instruction: ast.Run) -> Step:
    state = at.state
    proxies = {name: value for name, value in at.plan.args.items() if name in PROXY_ARGS}
    return RunStep(
        instruction=instruction,
        number=at.number,
        state=state,
        argv=at.argv(instruction.command),
        env={**proxies, **state.args, **state.config.env},
        user=state.config.user or "",
        workdir=state.workdir,
    )


def _copy(at: _Resolver, instruction: ast.Copy) -> Step:
    sources = tuple(at.expand(instruction, word) for word in instruction.sources)
    destination = at.expand(instruction, instruction.destination)
    for word, source in zip(instruction.sources, sources, strict=True):
        if _REMOTE.match(source):
            remedy = "fetch it with RUN, or into the context beforehand"
            raise instruction.logical.unsupported(f"{instruction.name} of a URL", remedy, word.offset)
        if not source:
            raise instruction.error(f"{word.text!r} expands to nothing: name a file of the context", word.offset)
    if not destination:
        word = instruction.destination
        raise instruction.error(f"{word.text!r} expands to nothing: name a path in the image", word.offset)
    chown = at.expand(instruction, instruction.chown) if instruction.chown else None
    return CopyStep(
        instruction=instruction,
        number=at.number,
        state=at.state,
        sources=sources,
        destination=destination,
        workdir=at.state.workdir,
        chown=chown or None,
        chmod=_chmod(at, instruction),
        unpack=isinstance(instruction, ast.Add),
    )


def _chmod(at: _Resolver, instruction: ast.Copy) -> int | None:
    if instruction.chmod is None:
        return None
    text = at.expand(instruction, instruction.chmod)
    if _MODE.fullmatch(text):
        return int(text, 8)
    if re.fullmatch(r"[ugoa]*[-+=][rwxXst]*(,[ugoa]*[-+=][rwxXst]*)*", text):
        remedy = "give the mode in octal, such as 755"
        raise instruction.logical.unsupported("symbolic --chmod", remedy, instruction.chmod.offset)
    raise instruction.error(f"bad mode {text!r}: give it in octal, 0 to 7777", instruction.chmod.offset)


def _workdir(at: _Resolver, instruction: ast.Workdir) -> Step:
    path = at.expand(instruction, instruction.path)
    if not path:
        reason = f"{instruction.path.text!r} expands to nothing: WORKDIR needs a path"
        raise instruction.error(reason, instruction.path.offset)
    absolute = "/" + posixpath.normpath(posixpath.join("/", at.state.workdir, path)).lstrip("/")
    state = at.configure(workdir=absolute)
    return WorkdirStep(instruction=instruction, number=at.number, state=state, path=absolute)


def _resolver(
    kind: type[InstructionT], function: Callable[[_Resolver, InstructionT], Step]
) -> tuple[type[Instruction], Callable[[_Resolver, Instruction], Step]]:
    """Pair an instruction's class with its function, in a form that one table can hold."""

    def resolve(at: _Resolver, instruction: Instruction) -> Step:
        if not isinstance(instruction, kind):  # the table pairs them; this tells the type checker
            raise TypeError(instruction)
        return function(at, instruction)

    return kind, resolve


_RESOLVERS = dict(
    (
        _resolver(ast.Add, _copy),
        _resolver(ast.Arg, _arg),
        _resolver(ast.Cmd, _cmd),
        _resolver(ast.Copy, _copy),
        _resolver(ast.Entrypoint, _entrypoint),
        _resolver(ast.Env, _env),
        _resolver(ast.Expose, _expose),
        _resolver(ast.Label, _label),
        _resolver(ast.Maintainer, _maintainer),
        _resolver(ast.Run, _run),
        _resolver(ast.Shell, _shell),
        _resolver(ast.Stopsignal, _stopsignal),
        _resolver(ast.User, _user),
        _resolver(ast.Volume, _volume),
        _resolver(ast.Workdir, _workdir),
    )
)
