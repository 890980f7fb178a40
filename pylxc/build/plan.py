"""What a Dockerfile builds: its stages, the images they begin with, and what they do once their variables have values.

Invariant: planning touches no file and starts no process.

Use: ``made = plan(parse(text), args)``, then ``made.unfold(...)`` with what gives the configurations of images: it
gives the stages that are needed, in order, their steps resolved. ``step.state`` is the state after a step; of the last
one, ``state.config`` is the image's configuration. A :class:`~pylxc.build.steps.MetadataStep` needs nothing more; the
others have work to do in the file system.

Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc import sourcedate
from pylxc.build import instructions as ast
from pylxc.build.platforms import normal_platform, platform_args
from pylxc.build.resolve import Scope, expanded
from pylxc.build.stages import Names, Origin, PlannedStage, unfold
from pylxc.build.steps import PROXY_ARGS
from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pylxc.build.instructions import Dockerfile
    from pylxc.build.stages import StageWork
    from pylxc.build.steps import Step
    from pylxc.imageconfig import ImageConfig


@frozen
class Plan:
    """What to build. ``warnings`` are sentences for the user; ``target`` is the index of the stage that is wanted."""

    stages: tuple[PlannedStage, ...]
    target: int
    warnings: tuple[str, ...]
    names: Names
    scope: Scope

    @property
    def base(self) -> str:
        """What the FROM of the wanted stage names; ``"scratch"`` is no image at all."""
        return self.stages[self.target].base

    @property
    def origin(self) -> Origin:
        """What the wanted stage comes from, through all stages between."""
        stage = self.stages[self.target]
        while stage.parent.kind == "stage":
            stage = self.stages[stage.parent.index]
        return stage.parent

    def unfold(self, base: Callable[[PlannedStage], ImageConfig]) -> tuple[StageWork, ...]:
        """Resolve all that is needed; see :func:`pylxc.build.stages.unfold`."""
        return unfold(self.stages, self.target, self.names, self.scope, base)

    def steps(self, base: ImageConfig) -> Iterator[Step]:
        """Give the steps of the wanted stage, where every image has this configuration."""
        return iter(self.unfold(lambda _stage: base)[-1].steps)


def plan(
    dockerfile: Dockerfile,
    args: Mapping[str, str] | None = None,
    target: str | None = None,
    contexts: Collection[str] = (),
    platform: str = "",
) -> Plan:
    r"""Plan the build of a Dockerfile with these build arguments.

    ``target`` is a stage by name or number (default: the last one); ``contexts`` are the names of further contexts;
    ``platform`` is what the image is to be for, in normal form ("": this machine).
    Raises :class:`~pylxc.errors.DockerfileError`; :class:`~pylxc.errors.SpecError` when there is no such stage.

    >>> from pylxc.build.dockerfile import parse
    >>> plan(parse("ARG TAG=12\nFROM debian:$TAG"), {"TAG": "13"}).base
    'debian:13'
    """
    given = dict(args or {})
    names = Names([stage.base.alias for stage in dockerfile.stages], frozenset(contexts), platform)
    index = _index_of(dockerfile, target)
    scope = global_scope(dockerfile, given, dockerfile.stages[index].base.alias or "default", platform)
    stages = tuple(_planned(dockerfile, number, names, scope) for number in range(len(dockerfile.stages)))
    return Plan(stages, index, _unused(dockerfile, given), names, Scope(given, scope, dockerfile.escape))


def _index_of(dockerfile: Dockerfile, target: str | None) -> int:
    """Find the stage that is wanted."""
    last = len(dockerfile.stages) - 1
    if target is None:
        return last
    aliases = [stage.base.alias for stage in dockerfile.stages]
    for index in reversed(range(len(aliases))):
        if aliases[index] == target.lower():
            return index
    if target.isascii() and target.isdigit() and int(target) <= last:
        return int(target)
    known = ", ".join(repr(alias or str(index)) for index, alias in enumerate(aliases))
    raise SpecError("target", target, f"there is no such stage; the Dockerfile has {known}")


def _planned(dockerfile: Dockerfile, index: int, names: Names, scope: Mapping[str, str]) -> PlannedStage:
    """Give a stage with what its FROM means."""
    stage = dockerfile.stages[index]
    base = expanded(stage.base, stage.base.image, scope.get, dockerfile.escape)
    if not base or re.search(r"\s", base):
        reason = f"the image {stage.base.image.text!r} expands to {base!r}: give its ARG a value, before FROM"
        raise stage.base.error(reason, stage.base.image.offset)
    platform = _platform(stage.base, scope, dockerfile.escape, names.platform)
    alias = stage.base.alias
    name = alias or (f"stage-{index}" if len(dockerfile.stages) > 1 else "")
    context = names.context(alias) if alias is not None else None
    if context is not None:
        return PlannedStage(index, name, base, Origin("context", context), stage.base, (), replaced=True)
    parent = names.of_base(base, index)
    if parent.kind != "stage":  # which is what it is
        parent = evolve(parent, platform=platform)
    return PlannedStage(index, name, base, parent, stage.base, stage.instructions)


def global_scope(
    dockerfile: Dockerfile, given: Mapping[str, str], stage: str = "default", platform: str = ""
) -> dict[str, str]:
    """Give the variables that a FROM sees: the predefined ones, and the ARGs before the first FROM.

    ``stage`` is the name of the one that is wanted, ``platform`` what it is wanted for.
    Raises :class:`~pylxc.errors.DockerfileError`.
    """
    predefined = platform_args(platform) | {"TARGETSTAGE": stage}
    scope = {name: given.get(name, value) for name, value in predefined.items()}
    scope |= {name: given[name] for name in PROXY_ARGS & given.keys()}
    for instruction in dockerfile.global_args:
        for name, default in instruction.declarations:
            key = expanded(instruction, name, scope.get, dockerfile.escape)
            if key in given:
                scope[key] = given[key]
            elif default is not None:
                scope[key] = expanded(instruction, default, scope.get, dockerfile.escape)
    return scope


def _platform(base: ast.From, scope: Mapping[str, str], escape: str, by_default: str) -> str:
    """Return the platform of a FROM, "" for this machine's. Raises DockerfileError for one that is malformed."""
    if base.platform is None:
        return by_default
    text = expanded(base, base.platform, scope.get, escape)
    wanted = normal_platform(text)
    if not wanted:
        reason = f"bad platform {text!r}: write os/architecture, such as linux/amd64"
        raise base.error(reason, base.platform.offset)
    return "" if wanted == normal_platform(platform_args()["BUILDPLATFORM"]) else wanted


def _unused(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[str, ...]:
    arg_lines = [one for one in dockerfile.instructions if isinstance(one, ast.Arg)]
    declared = {name.text.strip("'\"") for line in arg_lines for name, _ in line.declarations}
    return tuple(
        f"build argument {name!r} has no effect: no ARG declares it"
        for name in sorted(given.keys() - declared - PROXY_ARGS - {sourcedate.VARIABLE})
    )
