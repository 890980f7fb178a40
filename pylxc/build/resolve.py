"""What the instructions mean: what each changes in the image's configuration, and the step it becomes.

Hides which variable is seen where and what a shell form turns into. Invariant: resolving touches no file and starts no
process.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, field, frozen

from pylxc.build import instructions as ast
from pylxc.build import mountflag
from pylxc.build.expand import ExpansionError, expand, expand_text, expand_words
from pylxc.build.heredoc import mark_of
from pylxc.build.modes import Mode
from pylxc.build.remotes import check_source, remote_options
from pylxc.build.steps import PROXY_ARGS, CopyStep, MetadataStep, RunStep, State, Step, WorkdirStep
from pylxc.imageconfig import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pylxc.build.heredoc import Heredoc
    from pylxc.build.instructions import Command, Instruction, Word

# A port of the host before it, and an address, are let through and say nothing, as in docker.
_PORT = (
    r"(?:(?P<address>[0-9A-Fa-f.:]*|\[[0-9A-Fa-f.:]+\]):)??(?:(?P<host>[0-9]{0,5}(?:-[0-9]{1,5})?):)?"
    r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>[A-Za-z]*))?"
)
_LAST_PORT = 65535
_MOST_PORTS = 4 * _LAST_PORT  # every port of every protocol, and some said twice
_LAST_SIGNAL = 64

SCRIPTS = "/dev/pipes/"  # where BuildKit has them; "$0" of a script shows it

InstructionT = TypeVar("InstructionT", bound="Instruction")


@frozen
class Scope:
    """What all stages see: the build's arguments as ``given``, the variables of a FROM (``globals``), the escape."""

    given: Mapping[str, str] = field(hash=False)
    globals: Mapping[str, str] = field(hash=False)
    escape: str = "\\"


def resolve(scope: Scope, state: State, instructions: Iterable[Instruction]) -> Iterator[Step]:
    """Resolve instructions one at a time, from the state after FROM on.

    Raises :class:`~pylxc.errors.DockerfileError` and :class:`~pylxc.errors.UnsupportedError`: a mistake in a late one
    when it is reached.
    """
    for number, instruction in enumerate(instructions, 2):
        step = _RESOLVERS[type(instruction)](_Resolver(scope, state, number), instruction)
        state = step.state
        yield step


def expanded(instruction: Instruction, word: Word, lookup: Callable[[str], str | None], escape: str) -> str:
    """Put the variables into a word. Raises :class:`~pylxc.errors.DockerfileError`, with its place."""
    try:
        return expand(word.text, lookup, escape)
    except ExpansionError as error:
        raise instruction.error(error.reason, word.offset + error.offset) from None


@frozen
class _Resolver:
    """An instruction's surroundings while it is resolved: the scope, the state before it and its number."""

    scope: Scope
    state: State
    number: int

    def expand(self, instruction: Instruction, word: Word) -> str:
        return expanded(instruction, word, self.state.lookup, self.scope.escape)

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
        return evolve(self.state, config=evolve(self.state.config, **changes))

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
    state = evolve(at.configure(env={**at.state.config.env, **pairs}), variables={**at.state.variables, **pairs})
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
        within = evolve(at, state=state)
        key = within.expand(instruction, name)
        value: str | None = None
        if key in at.scope.given:
            value = at.scope.given[key]
        elif default is not None:
            value = within.expand(instruction, default)
        else:
            value = at.scope.globals.get(key)
        args = state.args if key in state.args else (*state.args, key)
        variables = state.variables if value is None else {**state.variables, key: value}
        state = evolve(state, args=args, variables=variables)
        names.append(key)
        text.append(key if value is None else f"{key}={value}")
    # The value is left out of the change: it alters nothing until a RUN sees it, whose definition has it.
    return at.metadata(instruction, state, tuple(names), " ".join(text))


def _cmd(at: _Resolver, instruction: ast.Cmd) -> Step:
    argv = at.argv(instruction.command)
    # ArgsEscaped is of no use but on Windows; BuildKit has it in every configuration with a CMD.
    extra = {**at.state.config.extra, "ArgsEscaped": True}
    state = evolve(at.configure(cmd=argv or None, extra=extra), command_set=True)
    return at.metadata(instruction, state, argv, f"CMD {json.dumps(argv)}")


def _entrypoint(at: _Resolver, instruction: ast.Entrypoint) -> Step:
    argv = at.argv(instruction.command)
    # A CMD that came with the base image was meant for its entry point, not for this one.
    cmd = at.state.config.cmd if at.state.command_set else None
    state = at.configure(entrypoint=argv or None, cmd=cmd)
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
            specs = expand_words(word.text, at.state.lookup, at.scope.escape)
        except ExpansionError as error:
            raise instruction.error(error.reason, word.offset + error.offset) from None
        for spec in dict.fromkeys(specs):
            found += _ports(instruction, word, spec)
            if len(found) > _MOST_PORTS:
                raise instruction.error(f"more than {_MOST_PORTS} ports", word.offset)
    ports = tuple(dict.fromkeys((*at.state.config.exposed_ports, *found)))
    return at.metadata(instruction, at.configure(exposed_ports=ports), tuple(found))


def _ports(instruction: Instruction, word: Word, spec: str) -> list[str]:
    match = re.fullmatch(_PORT, spec)
    if match is None:
        reason = f"bad port {spec!r}: write 80, 80/udp or 8000-8010"
        raise instruction.error(reason, word.offset)
    first, protocol = int(match["first"]), (match["protocol"] or "tcp").lower()
    last = int(match["last"] or first)
    if not first <= last <= _LAST_PORT:
        raise instruction.error(f"bad port {spec!r}: ports go from 0 to {_LAST_PORT}, ranges upwards", word.offset)
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
    return at.metadata(instruction, evolve(at.state, author=author), (author,))


def _run(at: _Resolver, instruction: ast.Run) -> Step:
    state = at.state
    proxies = {name: value for name, value in at.scope.given.items() if name in PROXY_ARGS}
    script = _script(instruction.command)
    return RunStep(
        instruction=instruction,
        number=at.number,
        state=state,
        argv=at.argv(_with_documents(instruction.command)) if script is None else (script[0],),
        env={**proxies, **state.variables},
        user=state.config.user or "",
        workdir=state.workdir,
        network=instruction.network,
        insecure=instruction.security == "insecure",
        mounts=_mounts(at, instruction),
        script=script,
    )


def _mounts(at: _Resolver, instruction: ast.Run) -> tuple[mountflag.RunMount, ...]:
    found: list[mountflag.RunMount] = []
    for flag in instruction.mounts:
        agents = sum(mount.type == "ssh" for mount in found)
        try:
            resolved = mountflag.resolve(flag, lambda word: at.expand(instruction, word))
            found.append(mountflag.complete(resolved, at.state.workdir, agents, flag.offset))
        except mountflag.MountFlagError as error:
            raise instruction.error(error.reason, error.offset) from None
    return tuple(found)


def _script(command: Command) -> tuple[str, str] | None:
    """Give the here-document that is a program, as the path that it gets and its content; None for everything else."""
    if len(command.heredocs) != 1 or mark_of(command.argv[0]) is None or not command.heredocs[0].text.startswith("#!"):
        return None
    document = command.heredocs[0]
    name = posixpath.basename(document.name)
    return SCRIPTS + (name if name not in ("", ".", "..") else "script"), document.text


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
    check = evolve(instruction.times, test=test) if command is not None else Healthcheck(test=test)
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
    chown = at.expand(instruction, instruction.chown) if instruction.chown else None
    unpack = isinstance(instruction, ast.Add) and instruction.unpack is not False
    return CopyStep(
        instruction=instruction,
        number=at.number,
        state=at.state,
        sources=sources,
        destination=destination or "./",  # what expands to nothing is the current directory
        workdir=at.state.workdir,
        chown=chown or None,
        chmod=_chmod(at, instruction),
        unpack=unpack,
        excludes=tuple(at.expand(instruction, word) for word in instruction.excludes),
        documents=tuple(_document(at, instruction, one) for one in instruction.heredocs),
        source=instruction.source_stage.text if instruction.source_stage is not None else None,
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
    return WorkdirStep(instruction=instruction, number=at.number, state=state, path=absolute, user=state.config.user)


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
