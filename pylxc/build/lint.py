"""What is allowed in a Dockerfile and mostly a mistake: BuildKit's build checks, by the names of its documentation.

Hides the rules. Invariant: a check never fails, and never changes what a build does; what cannot be judged (the
environment of a base image that is not here) is passed over, not guessed.

Source: https://docs.docker.com/reference/build-checks/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from pylxc.build import instructions as ast
from pylxc.build.expand import ExpansionError, expand, expand_words
from pylxc.build.platforms import normal_platform, platform_args
from pylxc.errors import DockerfileError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pylxc.build.ignore import Ignore
    from pylxc.build.instructions import Dockerfile, Instruction, Stage, Word
    from pylxc.imageconfig import ImageConfig

RULES = frozenset(
    (
        *(
            "StageNameCasing",
            "FromAsCasing",
            "NoEmptyContinuation",
            "ConsistentInstructionCasing",
            "DuplicateStageName",
        ),
        *("ReservedStageName", "JSONArgsRecommended", "MaintainerDeprecated", "UndefinedArgInFrom"),
        *("WorkdirRelativePath", "UndefinedVar", "MultipleInstructionsDisallowed", "LegacyKeyValueFormat"),
        *("RedundantTargetPlatform", "SecretsUsedInArgOrEnv", "InvalidDefaultArgInFrom"),
        *("FromPlatformFlagConstDisallowed", "CopyIgnoredFile", "InvalidDefinitionDescription", "ExposeProtoCasing"),
        *("ExposeInvalidFormat", "InvalidBaseImagePlatform"),
    )
)
EXPERIMENTAL = frozenset(("CopyIgnoredFile", "InvalidDefinitionDescription"))
_RESERVED_STAGES = ("scratch", "context")
_TELLTALE = r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)"
_HARMLESS = r"(?:_|^)(?:public|file|version)(?:_|$)"
_CLOSE = 3  # a name with fewer differences than this is taken for what was meant


@frozen
class LintWarning:
    """One finding. ``rule`` is its name in the documentation at ``url``; ``line`` and ``column`` count from 1."""

    rule: str
    message: str
    line: int
    column: int
    url: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: {self.message} (line {self.line})"


@frozen
class Policy:
    """What ``# check=`` says: the rules that are skipped, the experimental ones that are not, whether findings fail."""

    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def of(cls, dockerfile: Dockerfile) -> Policy:
        """Read the file's directive. Raises :class:`DockerfileError` for what it cannot say."""
        text = dockerfile.directives.get("check", "").strip()
        values = {"skip": "", "error": "false", "experimental": ""}
        for part in filter(None, text.split(";")):
            name, equals, value = (word.strip() for word in part.partition("="))
            if not equals or name not in values or (name == "error" and value.lower() not in _BOOLEANS):
                reason = f"check={text}: write skip=Rule,Rule or skip=all, error=true, experimental=Rule; ';' between"
                line = list(dockerfile.directives).index("check") + 1
                raise DockerfileError(reason, line=line, column=1, path=dockerfile.path)
            values[name] = value
        return cls(
            skipped=_rules(values["skip"], RULES),
            experimental=_rules(values["experimental"], EXPERIMENTAL),
            error=_BOOLEANS[values["error"].lower()],
        )

    def heeds(self, rule: str) -> bool:
        """Tell whether a rule is to be looked at."""
        return rule not in self.skipped and (rule not in EXPERIMENTAL or rule in self.experimental)


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "t": True, "f": False}


def _rules(text: str, every: frozenset[str]) -> frozenset[str]:
    return every if text == "all" else frozenset(word.strip() for word in text.split(",") if word.strip())


@frozen(kw_only=True)
class Surroundings:
    """What a check may know besides the file.

    ``args`` are the build arguments; ``platform`` is what the image is to be for ("": this machine); ``ignore`` the
    context's ignore file; ``base`` gives the configuration and the platform of an image by name, None where it is not
    here.
    """

    args: Mapping[str, str] = field(factory=dict)
    platform: str = ""
    ignore: Ignore | None = None
    base: Callable[[str], tuple[ImageConfig, str] | None] = lambda _name: None


def lint(
    dockerfile: Dockerfile, surroundings: Surroundings | None = None, policy: Policy | None = None
) -> tuple[LintWarning, ...]:
    r"""Give what the checks find, in the order of the file.

    Raises :class:`DockerfileError` for a ``# check=`` that cannot be read.

    >>> from pylxc.build.dockerfile import parse
    >>> print(*lint(parse("FROM scratch AS Base\n")))
    StageNameCasing: Stage name 'Base' should be lowercase (line 1)
    """
    policy = Policy.of(dockerfile) if policy is None else policy
    found = _Linter(dockerfile, surroundings or Surroundings()).findings()
    chosen = {finding: None for finding in found if policy.heeds(finding.rule)}
    return tuple(sorted(chosen, key=lambda one: (one.line, one.column, one.rule)))


def _url(rule: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=JSON)", "-", rule).lower()
    return f"https://docs.docker.com/reference/build-checks/{words}/"


@define
class _Scope:
    """The variables of a stage while it is walked through; ``known`` tells whether the base image's are among them."""

    variables: dict[str, str]
    declared: set[str]
    known: bool
    workdir_set: bool = False
    shell_set: bool = False


class _Linter:
    """One check of one file."""

    def __init__(self, dockerfile: Dockerfile, surroundings: Surroundings) -> None:
        self._file = dockerfile
        self._around = surroundings
        self._scopes: dict[str, _Scope] = {}

    def findings(self) -> Iterator[LintWarning]:
        """Yield what every rule finds."""
        for instruction in self._file.instructions:
            yield from self._continuation(instruction)
            yield from self._description(instruction)
        yield from self._casing()
        yield from self._stage_names()
        scope, by_default = self._global_scope(self._around.args), self._global_scope({})
        for stage in self._file.stages:
            yield from self._from(stage.base, scope, by_default)
        for arg in self._file.global_args:
            yield from self._secrets("ARG", arg, (name for name, _ in arg.declarations))
        for stage in self._file.stages:
            yield from self._stage(stage, scope)

    def _warn(self, instruction: Instruction, rule: str, message: str, word: Word | None = None) -> LintWarning:
        offset = instruction.start if word is None else word.offset
        line, column = instruction.logical.locate(offset)
        return LintWarning(rule, message, line, column, _url(rule))

    def _global_scope(self, given: Mapping[str, str]) -> dict[str, str]:
        scope = platform_args(self._around.platform)
        scope |= {name: given[name] for name in scope.keys() & given.keys()}
        for arg in self._file.global_args:
            for name, default in arg.declarations:
                if name.text in given:
                    scope[name.text] = given[name.text]
                elif default is not None:
                    value, _ = self._expanded(default, scope)
                    scope[name.text] = value or ""
        return scope

    def _expanded(self, word: Word, variables: Mapping[str, str]) -> tuple[str | None, dict[str, bool]]:
        """Expand a word; give the text (None where it cannot be) and the variables in it with whether they are set."""
        used: dict[str, bool] = {}

        def lookup(name: str) -> str | None:
            used[name] = name in variables
            return variables.get(name)

        try:
            return expand(word.text, lookup, self._file.escape), used
        except ExpansionError:
            return None, used

    # -- rules about the text ------------------------------------------------------------------------------------------

    def _continuation(self, instruction: Instruction) -> Iterator[LintWarning]:
        if instruction.logical.gap:
            rule = "NoEmptyContinuation"
            yield LintWarning(rule, "Empty continuation line", instruction.logical.gap, 1, _url(rule))

    def _description(self, instruction: Instruction) -> Iterator[LintWarning]:
        names: list[str] = []
        if isinstance(instruction, ast.From) and instruction.alias is not None:
            names = [instruction.alias]
        elif isinstance(instruction, ast.Arg):
            names = [name.text for name, _ in instruction.declarations]
        comments = instruction.logical.comments
        if not names or not comments or comments[-1].split(" ")[0] in names:
            return
        example = names[0] if len(names) == 1 else "<arg_key>"
        message = f"Comment for {instruction.name} should follow the format: `# {example} <description>`"
        yield self._warn(instruction, "InvalidDefinitionDescription", message)

    def _casing(self) -> Iterator[LintWarning]:
        """Compare every instruction's case with that of most of them."""
        staged = [one for stage in self._file.stages for one in (stage.base, *stage.instructions)]
        written = [(one, _as_written(one)) for one in staged]
        lower = sum(word.islower() for _, word in written)
        upper = sum(word.isupper() for _, word in written)
        majority, change = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
        for one, word in written:
            if word != change(word):
                message = f"Command '{word}' should match the case of the command majority ({majority})"
                yield self._warn(one, "ConsistentInstructionCasing", message)

    def _stage_names(self) -> Iterator[LintWarning]:
        seen: set[str] = set()
        for base in (stage.base for stage in self._file.stages):
            if base.alias is None or base.alias_word is None or base.keyword is None:
                continue
            if base.alias_word.text != base.alias:
                message = f"Stage name '{base.alias_word.text}' should be lowercase"
                yield self._warn(base, "StageNameCasing", message, base.alias_word)
            word, keyword = _as_written(base), base.keyword.text
            # Of a FROM that is in neither case, another rule tells.
            if (word.islower() and keyword != "as") or (word.isupper() and keyword != "AS"):
                message = f"'{keyword}' and '{word}' keywords' casing do not match"
                yield self._warn(base, "FromAsCasing", message, base.keyword)
            if base.alias in _RESERVED_STAGES:
                message = f'Stage name should not use the same name as reserved stage "{base.alias}"'
                yield self._warn(base, "ReservedStageName", message, base.alias_word)
            if base.alias in seen:
                message = f'Duplicate stage name "{base.alias}", stage names should be unique'
                yield self._warn(base, "DuplicateStageName", message, base.alias_word)
            seen.add(base.alias)

    # -- rules about FROM ----------------------------------------------------------------------------------------------

    def _from(self, base: ast.From, scope: Mapping[str, str], by_default: Mapping[str, str]) -> Iterator[LintWarning]:
        declared = {name.text for arg in self._file.global_args for name, _ in arg.declarations} | scope.keys()
        for word in filter(None, (base.image, base.platform)):
            for name, is_set in self._expanded(word, scope)[1].items():
                if not is_set and name not in declared:
                    message = f"FROM argument '{name}' is not declared{_meant(name, declared, '')}"
                    yield self._warn(base, "UndefinedArgInFrom", message, word)
        image, _ = self._expanded(base.image, by_default)
        if image is not None and not _is_reference(image):
            message = f"Default value for ARG {base.image.text} results in empty or invalid base image name"
            yield self._warn(base, "InvalidDefaultArgInFrom", message, base.image)
        yield from self._platform(base, scope)

    def _platform(self, base: ast.From, scope: Mapping[str, str]) -> Iterator[LintWarning]:
        wanted = normal_platform(platform_args(self._around.platform)["TARGETPLATFORM"])
        if base.platform is not None:
            text, used = self._expanded(base.platform, scope)
            if text is not None and list(used) == ["TARGETPLATFORM"] and text == scope["TARGETPLATFORM"]:
                message = f"Setting platform to predefined {base.platform.text} in FROM is redundant"
                message += " as this is the default behavior"
                yield self._warn(base, "RedundantTargetPlatform", message, base.platform)
            normal = normal_platform(text or "")
            system, _, rest = normal.partition("/")
            named = base.alias or ""
            if normal and not used and system not in named and rest.split("/")[0] not in named:
                message = f'FROM --platform flag should not use constant value "{text}"'
                yield self._warn(base, "FromPlatformFlagConstDisallowed", message, base.platform)
            wanted = normal or wanted
        image, _ = self._expanded(base.image, scope)
        found = (
            self._around.base(image) if image and image != "scratch" and image not in self._stage_aliases() else None
        )
        if found is not None and normal_platform(found[1]).split("/")[:2] != wanted.split("/")[:2]:
            message = f'Base image {image} was pulled with platform "{found[1]}", expected "{wanted}" for current build'
            yield self._warn(base, "InvalidBaseImagePlatform", message, base.image)

    def _stage_aliases(self) -> set[str]:
        return {stage.base.alias for stage in self._file.stages if stage.base.alias is not None}

    # -- rules about what stands in a stage ----------------------------------------------------------------------------

    def _stage(self, stage: Stage, outside: Mapping[str, str]) -> Iterator[LintWarning]:
        scope = self._scope_of(stage.base, outside)
        last: dict[type[Instruction], Instruction] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, (ast.Cmd, ast.Entrypoint, ast.Healthcheck)):
                earlier = last.get(type(instruction))
                if earlier is not None:
                    message = f"Multiple {instruction.name} instructions should not be used in the same stage"
                    message += " because only the last one will be used"
                    yield self._warn(earlier, "MultipleInstructionsDisallowed", message)
                last[type(instruction)] = instruction
            yield from self._shape(instruction, scope)
            yield from self._undefined(instruction, scope)
            self._enter(instruction, scope, outside)
        if stage.base.alias is not None:
            self._scopes[stage.base.alias] = scope

    def _scope_of(self, base: ast.From, outside: Mapping[str, str]) -> _Scope:
        image, _ = self._expanded(base.image, outside)
        parent = self._scopes.get((image or "").lower())
        if parent is not None:
            return evolve(parent, variables=dict(parent.variables), declared=set(parent.declared))
        found = self._around.base(image) if image and image != "scratch" else None
        variables = {"PATH": ""} | (found[0].env if found else {})
        shell_set = found is not None and found[0].shell is not None
        return _Scope(variables, set(), known=found is not None or image == "scratch", shell_set=shell_set)

    def _enter(self, instruction: Instruction, scope: _Scope, outside: Mapping[str, str]) -> None:
        """Let an instruction have its effect on what the later ones see."""
        if isinstance(instruction, ast.Env):
            new = {key.text: self._expanded(value, scope.variables)[0] or "" for key, value in instruction.pairs}
            scope.variables |= new
        elif isinstance(instruction, ast.Arg):
            for name, default in instruction.declarations:
                value = self._around.args.get(name.text)
                if value is None and default is not None:
                    value = self._expanded(default, scope.variables)[0] or ""
                if value is None:
                    value = outside.get(name.text)
                scope.declared.add(name.text)
                if value is not None:
                    scope.variables[name.text] = value
        elif isinstance(instruction, ast.Shell):
            scope.shell_set = True
        elif isinstance(instruction, ast.Workdir):
            scope.workdir_set = True

    def _shape(self, instruction: Instruction, scope: _Scope) -> Iterator[LintWarning]:
        if isinstance(instruction, ast.Maintainer):
            message = "Maintainer instruction is deprecated in favor of using label"
            yield self._warn(instruction, "MaintainerDeprecated", message)
        elif isinstance(instruction, (ast.Cmd, ast.Entrypoint)):
            yield from self._shell_form(instruction, scope)
        elif isinstance(instruction, ast.Workdir):
            yield from self._workdir(instruction, scope)
        elif isinstance(instruction, (ast.Env, ast.Label)):
            yield from self._pairs(instruction)
        elif isinstance(instruction, ast.Arg):
            yield from self._secrets("ARG", instruction, (name for name, _ in instruction.declarations))
        elif isinstance(instruction, ast.Expose):
            yield from self._ports(instruction, scope)
        elif isinstance(instruction, ast.Copy):
            yield from self._ignored(instruction, scope)

    def _shell_form(self, instruction: ast.Cmd | ast.Entrypoint, scope: _Scope) -> Iterator[LintWarning]:
        if instruction.command.shell and not scope.shell_set:
            message = f"JSON arguments recommended for {instruction.name} to prevent unintended behavior"
            yield self._warn(instruction, "JSONArgsRecommended", f"{message} related to OS signals")

    def _workdir(self, instruction: ast.Workdir, scope: _Scope) -> Iterator[LintWarning]:
        path = self._expanded(instruction.path, scope.variables)[0]
        if path is not None and not scope.workdir_set and not path.startswith("/"):
            message = f'Relative workdir "{path}" can have unexpected results if the base image changes'
            yield self._warn(instruction, "WorkdirRelativePath", message, instruction.path)

    def _pairs(self, instruction: ast.Env | ast.Label) -> Iterator[LintWarning]:
        name = instruction.name
        if instruction.legacy:
            message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
            yield self._warn(instruction, "LegacyKeyValueFormat", message)
        if isinstance(instruction, ast.Env):
            yield from self._secrets(name, instruction, (key for key, _ in instruction.pairs))

    def _secrets(self, name: str, instruction: Instruction, words: Iterable[Word]) -> Iterator[LintWarning]:
        for word in words:
            if re.search(_TELLTALE, word.text, re.IGNORECASE) and not re.search(_HARMLESS, word.text, re.IGNORECASE):
                message = f'Do not use ARG or ENV instructions for sensitive data ({name} "{word.text}")'
                yield self._warn(instruction, "SecretsUsedInArgOrEnv", message, word)

    def _ports(self, instruction: ast.Expose, scope: _Scope) -> Iterator[LintWarning]:
        for word in instruction.ports:
            try:
                specs = expand_words(word.text, scope.variables.get, self._file.escape)
            except ExpansionError:
                continue
            for spec in specs:
                protocol = spec.partition("/")[2]
                if protocol != protocol.lower():
                    message = f"Defined protocol '{spec}' in EXPOSE instruction should be lowercase"
                    yield self._warn(instruction, "ExposeProtoCasing", message, word)
                if ":" in spec.partition("/")[0]:
                    message = "EXPOSE instruction should not define an IP address or host-port mapping,"
                    yield self._warn(instruction, "ExposeInvalidFormat", f"{message} found '{spec}'", word)

    def _ignored(self, instruction: ast.Copy, scope: _Scope) -> Iterator[LintWarning]:
        ignore = self._around.ignore
        # With a "!" in the file, nobody can tell before the directory is read.
        if ignore is None or instruction.source_stage is not None or ignore.has_exceptions:
            return
        for word in instruction.sources:
            source = self._expanded(word, scope.variables)[0]
            if not source or "://" in source:
                continue
            path = re.sub(r"^(?:\.?/+)+", "", source) or "."
            if path.rstrip("/") != "." and ignore.excludes(path):
                kind = "Add" if isinstance(instruction, ast.Add) else "Copy"
                message = f'Attempting to {kind} file "{source}" that is excluded by .dockerignore'
                yield self._warn(instruction, "CopyIgnoredFile", message, word)

    def _undefined(self, instruction: Instruction, scope: _Scope) -> Iterator[LintWarning]:
        """Name the variables that nothing has set: where the base image's are not known, none can be named."""
        if not scope.known:
            return
        declared = scope.declared
        if isinstance(instruction, ast.Arg):  # each default sees the names before it
            declared = declared | {name.text for name, _ in instruction.declarations}
        for word in _expanding(instruction):
            for name, is_set in self._expanded(word, scope.variables)[1].items():
                if not is_set and name not in declared:
                    message = f"Usage of undefined variable '${name}'{_meant(name, scope.variables, '$')}"
                    yield self._warn(instruction, "UndefinedVar", message, word)


def _as_written(instruction: Instruction) -> str:
    match = re.compile(r"\S+").match(instruction.logical.text, instruction.start)
    return match[0] if match else ""


def _is_reference(text: str) -> bool:
    from pylxc.reference import Reference  # noqa: PLC0415  only for checks

    try:
        Reference.parse(text)
    except SpecError:
        return False
    return True


def _expanding(instruction: Instruction) -> Iterator[Word]:
    """Yield the words of an instruction that variables are put in."""
    if isinstance(instruction, (ast.Env, ast.Label)):
        for pair in instruction.pairs:
            yield from pair
    elif isinstance(instruction, ast.Arg):
        yield from (default for _, default in instruction.declarations if default is not None)
    elif isinstance(instruction, ast.Copy):
        yield from (*instruction.sources, instruction.destination, *instruction.excludes)
        yield from filter(None, (instruction.chown, instruction.chmod))
    elif isinstance(instruction, ast.Run):
        yield from (value for mount in instruction.mounts for _, value in mount.fields if value is not None)
    else:
        for name in ("path", "user", "signal"):
            if hasattr(instruction, name):
                yield getattr(instruction, name)
        for name in ("ports", "paths"):
            yield from getattr(instruction, name, ())


def _meant(name: str, known: Iterable[str], prefix: str) -> str:
    """Give what was probably meant, in words."""
    best, distance = "", _CLOSE
    for other in sorted(known):
        if abs(len(other) - len(name)) < distance:
            found = _differences(name, other)
            if found < distance:
                best, distance = other, found
    return f" (did you mean {prefix}{best}?)" if best else ""


def _differences(one: str, other: str) -> int:
    """Count the letters to put in, take out or change (Levenshtein)."""
    row = list(range(len(other) + 1))
    for index, char in enumerate(one, 1):
        previous, row[0] = row[0], index
        for place, letter in enumerate(other, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (char != letter))
    return row[-1]
