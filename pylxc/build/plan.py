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

import functools
import json
import posixpath
import re
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pylxc.build import instructions as ast
from pylxc.build.dockerfile import parse_trigger
from pylxc.build.expand import ExpansionError, expand, expand_text, expand_words
from pylxc.build.heredoc import mark_of
from pylxc.build.modes import Mode
from pylxc.build.platforms import normal_platform, platform_args
from pylxc.build.refusals import refuse, refuse_each
from pylxc.build.remotes import check_source, remote_options
from pylxc.build.urls import shown
from pylxc.imageconfig import DEFAULT_PATH, Healthcheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pylxc.build.heredoc import Heredoc
    from pylxc.build.instructions import Command, Dockerfile, Instruction, Word
    from pylxc.imageconfig import ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")

# Given to RUN without an ARG, and then no part of the cache key: a proxy is the builder's affair, not the image's.
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)

# A port of the host before it, and an address, are let through and say nothing, as in docker.
_PORT = re.compile(
    r"(?:(?P<address>[0-9A-Fa-f.:]*|\[[0-9A-Fa-f.:]+\]):)??(?:(?P<host>[0-9]{0,5}(?:-[0-9]{1,5})?):)?"
    r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>[A-Za-z]*))?"
)
_LAST_PORT = 65535
_MOST_PORTS = 4 * _LAST_PORT  # every port of every protocol, and some said twice
_LAST_SIGNAL = 64

InstructionT = TypeVar("InstructionT", bound="Instruction")


# -- values ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class State:
    """What the steps so far have come to.

    ``variables`` is what a RUN sees and what is put in for "$name": what ENV and ARG set, the later of the two winning;
    ``args`` are the names that ARGs have declared, in order.
    """

    config: ImageConfig
    args: tuple[str, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    author: str | None = None
    command_set: bool = False  # a CMD stands in this stage, so a later ENTRYPOINT keeps it

    def lookup(self, name: str) -> str | None:
        """Give a variable's value."""
        value = self.variables.get(name)
        if value is None and name == "PATH":  # every process gets one, so that ENV PATH=$PATH:/more means what it says
            return DEFAULT_PATH
        return value

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
    """A command to run. ``env`` is its whole environment as the Dockerfile gives it; ``user`` "" is root.

    ``network`` is "default" (the build's), "none" or "host".
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(hash=False)
    user: str
    workdir: str
    network: str = "default"

    def describe(self) -> str:
        """Give the line for the image's history; ``|n`` introduces the n build arguments that were in scope."""
        args = [f"{name}={self.state.variables.get(name, '')}" for name in self.state.args]
        return " ".join(("RUN", *((f"|{len(args)}", *args) if args else ()), *self.argv))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent."""
        declared = self.state.variables
        env = {name: value for name, value in self.env.items() if name not in PROXY_ARGS or name in declared}
        network = () if self.network == "default" else (self.network,)
        return _canonical("RUN", self.argv, env, self.user, self.workdir, *network)


@attrs.frozen(kw_only=True)
class CopyStep(Step):
    """Files to bring in from the context. ``unpack``: an ADD, which unpacks local archives.

    ``destination`` is as written once expanded: relative to ``workdir`` perhaps, and a slash at its end counts.
    ``chown`` is ``"user"`` or ``"user:group"``, names or numbers, or None for 0:0; ``chmod`` a mode or None.
    ``excludes`` are patterns of what stays out; ``documents`` are here-documents, as (file name, content).
    ``fetches``: an ADD, whose sources may be URLs; of them are ``checksum`` ("" for none), ``keep_git_dir`` and
    ``unpack_remote``.
    """

    sources: tuple[str, ...]
    destination: str
    workdir: str
    chown: str | None
    chmod: Mode | None
    unpack: bool
    excludes: tuple[str, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()
    parents: bool = False
    fetches: bool = False
    checksum: str = ""
    keep_git_dir: bool = False
    unpack_remote: bool = False

    def describe(self) -> str:
        """Give the line for the image's history."""
        flags = [f"--chown={self.chown}"] if self.chown is not None else []
        flags += [f"--chmod={self.chmod}"] if self.chmod is not None else []
        flags += ["--parents"] if self.parents else []
        flags += [f"--checksum={self.checksum}"] if self.checksum else []
        flags += ["--keep-git-dir=true"] if self.keep_git_dir else []
        flags += ["--unpack=true"] if self.unpack_remote else []
        documents = (f"<<{name}" for name, _ in self.documents)
        return " ".join((self.instruction.name, *flags, *self._shown(), *documents, self.destination))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent and the files.

        What a checksum says is the files' affair.
        """
        more: tuple[object, ...] = (self.excludes, self.documents) if self.excludes or self.documents else ()
        name = "ADD" if self.unpack else "COPY"
        mode = None if self.chmod is None else self.chmod.text
        more += ("parents",) if self.parents else ()
        more += ("unpack",) if self.unpack_remote else ()
        return _canonical(name, self._shown(), self.destination, self.workdir, self.chown, mode, *more)

    def _shown(self) -> tuple[str, ...]:
        """Give the sources without the passwords of URLs."""
        return tuple(shown(source) if self.fetches and "://" in source else source for source in self.sources)


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

    ``warnings`` are sentences for the user; ``stage`` is the name after AS, or None; ``waiting`` are the instructions
    of the base image's ONBUILD.
    """

    dockerfile: Dockerfile
    base: str
    stage: str | None
    warnings: tuple[str, ...]
    total: int
    args: Mapping[str, str] = attrs.field(hash=False)
    global_args: Mapping[str, str] = attrs.field(hash=False)
    waiting: tuple[Instruction, ...] = ()

    def on(self, base: ImageConfig) -> Plan:
        """Give the plan on this base image: the instructions that it has waiting (ONBUILD) come first.

        Raises :class:`~pylxc.errors.DockerfileError` and :class:`~pylxc.errors.UnsupportedError` for those.
        """
        if not base.onbuild:
            return self
        waiting = [parse_trigger(text, self.base) for text in base.onbuild]
        for instruction in waiting:
            if isinstance(instruction, (ast.From, ast.Maintainer, ast.Onbuild)):
                raise instruction.error(f"{instruction.name} cannot be put off with ONBUILD")
        refuse_each(waiting)
        return attrs.evolve(self, waiting=tuple(waiting), total=self.total + len(waiting))

    def start(self, base: ImageConfig) -> State:
        """Give the state after FROM, on the configuration of the base image."""
        return State(attrs.evolve(base, onbuild=()), variables=base.env)

    def steps(self, base: ImageConfig) -> Iterator[Step]:
        """Resolve the steps after FROM, one at a time: a mistake in a late one shows when it is reached.

        Raises :class:`~pylxc.errors.DockerfileError` and :class:`~pylxc.errors.UnsupportedError`.
        """
        state = self.start(base)
        instructions = (*self.waiting, *self.dockerfile.stages[0].instructions)
        for number, instruction in enumerate(instructions, 2):
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
    refuse(dockerfile)
    given = dict(args or {})
    global_args = global_scope(dockerfile, given)
    stage = dockerfile.stages[0]
    base = _expand(stage.base, stage.base.image, global_args.get, dockerfile.escape)
    if not base or re.search(r"\s", base):
        reason = f"the image {stage.base.image.text!r} expands to {base!r}: give its ARG a value, before FROM"
        raise stage.base.error(reason, stage.base.image.offset)
    _check_platform(stage.base, global_args, dockerfile.escape)
    total = 1 + len(stage.instructions)
    warnings = _unused(dockerfile, given)
    return Plan(dockerfile, base, stage.base.alias, warnings, total, given, global_args)


def global_scope(dockerfile: Dockerfile, given: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that a FROM sees: the predefined ones, and the ARGs before the first FROM.

    Raises :class:`~pylxc.errors.DockerfileError`.
    """
    scope = {name: given.get(name, value) for name, value in platform_args().items()}
    scope |= {name: given[name] for name in PROXY_ARGS & given.keys()}
    for instruction in dockerfile.global_args:
        for name, default in instruction.declarations:
            key = _expand(instruction, name, scope.get, dockerfile.escape)
            if key in given:
                scope[key] = given[key]
            elif default is not None:
                scope[key] = _expand(instruction, default, scope.get, dockerfile.escape)
    return scope


def _check_platform(base: ast.From, scope: Mapping[str, str], escape: str) -> None:
    """Raise the error of a platform that is malformed, or not this machine's."""
    if base.platform is None:
        return
    text = _expand(base, base.platform, scope.get, escape)
    wanted = normal_platform(text)
    if not wanted:
        reason = f"bad platform {text!r}: write os/architecture, such as linux/amd64"
        raise base.error(reason, base.platform.offset)
    if wanted != normal_platform(platform_args()["BUILDPLATFORM"]):
        remedy = "leave it out: images are for this machine's platform"
        raise base.unsupported(f"FROM --platform={text}", remedy, base.platform.offset)


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
    state = attrs.evolve(at.configure(env={**at.state.config.env, **pairs}), variables={**at.state.variables, **pairs})
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
        args = state.args if key in state.args else (*state.args, key)
        variables = state.variables if value is None else {**state.variables, key: value}
        state = attrs.evolve(state, args=args, variables=variables)
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
        for spec in dict.fromkeys(specs):
            found += _ports(instruction, word, spec)
            if len(found) > _MOST_PORTS:
                raise instruction.error(f"more than {_MOST_PORTS} ports", word.offset)
    ports = tuple(dict.fromkeys((*at.state.config.exposed_ports, *found)))
    return at.metadata(instruction, at.configure(exposed_ports=ports), tuple(found))


def _ports(instruction: Instruction, word: Word, spec: str) -> list[str]:
    match = _PORT.fullmatch(spec)
    if match is None:
        reason = f"bad port {spec!r}: write 80, 80/udp or 8000-8010"
        raise instruction.error(reason, word.offset)
    first, protocol = int(match["first"]), (match["protocol"] or "tcp").lower()
    last = int(match["last"] or first)
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
        argv=at.argv(_with_documents(instruction.command)),
        env={**proxies, **state.variables},
        user=state.config.user or "",
        workdir=state.workdir,
        network=instruction.network,
    )


def _with_documents(command: Command) -> Command:
    """Give what the shell is to run: a lone here-document is the script, others are left to the shell."""
    if not command.heredocs:
        return command
    line = command.argv[0]
    if len(command.heredocs) == 1 and mark_of(line) is not None:
        return ast.shell_form(command.heredocs[0].text)
    bodies = (f"\n{one.content}{one.name}" for one in command.heredocs)
    return ast.shell_form(line + "".join(bodies))


def _healthcheck(at: _Resolver, instruction: ast.Healthcheck) -> Step:
    command = instruction.command
    test: tuple[str, ...] = ("NONE",)
    if command is not None:
        test = ("CMD-SHELL" if command.shell else "CMD", *command.argv)
    check = attrs.evolve(instruction.times, test=test) if command is not None else Healthcheck(test=test)
    change = (json.dumps(check.to_oci(), sort_keys=True),)
    return at.metadata(instruction, at.configure(healthcheck=check), change)


def _onbuild(at: _Resolver, instruction: ast.Onbuild) -> Step:
    state = at.configure(onbuild=(*at.state.config.onbuild, instruction.expression))
    return at.metadata(instruction, state, (instruction.expression,))


def _copy(at: _Resolver, instruction: ast.Copy) -> Step:
    sources = tuple(at.expand(instruction, word) for word in instruction.sources)
    destination = at.expand(instruction, instruction.destination)
    for word, source in zip(instruction.sources, sources, strict=True):
        check_source(instruction, word, source)
        if not source:
            raise instruction.error(f"{word.text!r} expands to nothing: name a file of the context", word.offset)
    if not destination:
        word = instruction.destination
        raise instruction.error(f"{word.text!r} expands to nothing: name a path in the image", word.offset)
    chown = at.expand(instruction, instruction.chown) if instruction.chown else None
    unpack = isinstance(instruction, ast.Add) and instruction.unpack is not False
    return CopyStep(
        instruction=instruction,
        number=at.number,
        state=at.state,
        sources=sources,
        destination=destination,
        workdir=at.state.workdir,
        chown=chown or None,
        chmod=_chmod(at, instruction),
        unpack=unpack,
        excludes=tuple(at.expand(instruction, word) for word in instruction.excludes),
        documents=tuple(_document(at, instruction, one) for one in instruction.heredocs),
        parents=instruction.parents,
        **remote_options(instruction, sources, functools.partial(at.expand, instruction)),
    )


def _document(at: _Resolver, instruction: ast.Copy, document: Heredoc) -> tuple[str, str]:
    """Give the file that a here-document makes: its name and its content."""
    if not document.mark.expand:
        return document.name, document.text
    try:
        return document.name, expand_text(document.text, at.state.lookup)
    except ExpansionError as error:
        raise instruction.error(f"here-document {document.name}: {error.reason}", document.mark.offset) from None


def _chmod(at: _Resolver, instruction: ast.Copy) -> Mode | None:
    if instruction.chmod is None:
        return None
    text = at.expand(instruction, instruction.chmod)
    try:
        return Mode.of(text)
    except ValueError:
        reason = f"bad mode {text!r}: give it in octal, 0 to 7777, or as chmod(1) takes it, such as u=rwX,go=rX"
        raise instruction.error(reason, instruction.chmod.offset) from None


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
        _resolver(ast.Healthcheck, _healthcheck),
        _resolver(ast.Label, _label),
        _resolver(ast.Maintainer, _maintainer),
        _resolver(ast.Onbuild, _onbuild),
        _resolver(ast.Run, _run),
        _resolver(ast.Shell, _shell),
        _resolver(ast.Stopsignal, _stopsignal),
        _resolver(ast.User, _user),
        _resolver(ast.Volume, _volume),
        _resolver(ast.Workdir, _workdir),
    )
)
