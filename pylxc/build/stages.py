"""The stages of a Dockerfile as a graph: which one needs which, and what each of those that are needed does.

Hides how a name finds a stage, a named context or an image, and that an ONBUILD of a base may add to what is needed.
Invariant: every stage comes after those it needs, each once; what is wrong anywhere in them shows before one begins.

Source: Dockerfile reference, FROM and COPY --from; BuildKit, frontend/dockerfile/dockerfile2llb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import define, evolve, field, frozen

from pylxc.build import instructions as ast
from pylxc.build.dockerfile import parse_trigger
from pylxc.build.refusals import refuse_each
from pylxc.build.resolve import Scope, resolve
from pylxc.build.steps import State
from pylxc.imageconfig import DEFAULT_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pylxc.build.instructions import Instruction, Word
    from pylxc.build.steps import Step
    from pylxc.imageconfig import ImageConfig

SCRATCH = "scratch"


@frozen
class Origin:
    """What a name after FROM or ``--from`` means. ``index`` is that of a stage; ``name`` is the name for the others.

    ``platform``: what an image is to be for, in normal form; "" for this machine.
    """

    kind: Literal["stage", "context", "image"]
    name: str
    index: int = -1
    platform: str = ""


@frozen
class PlannedStage:
    """A stage before anything is known of images.

    ``name`` is what events call it: the name after AS, else ``stage-<index>``, and "" in a file of one stage without a
    name. ``base`` is the name after FROM, ``parent`` what that means. ``replaced``: a named context stands for it.
    """

    index: int
    name: str
    base: str
    parent: Origin
    from_: ast.From
    instructions: tuple[Instruction, ...]
    replaced: bool = False


@frozen
class StageWork:
    """A stage that is needed, resolved.

    ``start`` is the state after FROM, ``steps`` follow it; ``sources`` says what the names after ``--from`` mean.
    """

    stage: PlannedStage
    start: State
    steps: tuple[Step, ...]
    sources: Mapping[str, Origin] = field(hash=False)

    @property
    def state(self) -> State:
        """The state after the last step."""
        return self.steps[-1].state if self.steps else self.start

    @property
    def total(self) -> int:
        """The number of steps, FROM included."""
        return 1 + len(self.steps)


@frozen
class Names:
    """Finds what a name means: a named context first, then a stage, then an image (for a platform)."""

    aliases: Sequence[str | None]  # of the stages, in order
    contexts: Collection[str] = ()
    platform: str = ""

    def of_base(self, name: str, index: int) -> Origin:
        """Find what the FROM of stage ``index`` names: among stages only those before it."""
        found = self._stage(name, index)
        return found or self._other(name)

    def of_source(self, name: str) -> Origin | None:
        """Find what ``--from`` names; digits are a stage's number. None: there is no stage of that number."""
        if name.isascii() and name.isdigit():
            index = int(name)
            return Origin("stage", name, index) if index < len(self.aliases) else None
        return self._stage(name, len(self.aliases)) or self._other(name)

    def _stage(self, name: str, before: int) -> Origin | None:
        lowered = name.lower()
        for index in reversed(range(before)):  # of two with one name the later counts
            if self.aliases[index] == lowered:
                return Origin("stage", lowered, index)
        return None

    def _other(self, name: str) -> Origin:
        context = self.context(name)
        kind: Literal["image", "context"] = "image" if context is None else "context"
        return Origin(kind, context or name, platform=self.platform)

    def context(self, name: str) -> str | None:
        """Give the named context that stands for a stage or an image of this name; the tag "latest" may be left out."""
        if name.lower() in (SCRATCH, "context"):
            return None
        for candidate in (name, name.lower(), name.removesuffix(":latest")):
            if candidate in self.contexts:
                return candidate
        return None


def names_taken(instruction: Instruction) -> list[Word]:
    """Give the names after ``--from`` of a COPY, and of the mounts of a RUN."""
    if isinstance(instruction, ast.Copy):
        return [instruction.source_stage] if instruction.source_stage is not None else []
    if isinstance(instruction, ast.Run):
        fields = (field for mount in instruction.mounts for field in mount.fields)
        return [word for key, word in fields if key == "from" and word is not None and word.text]
    return []


def unfold(
    stages: Sequence[PlannedStage],
    target: int,
    names: Names,
    scope: Scope,
    base: Callable[[PlannedStage], ImageConfig],
) -> tuple[StageWork, ...]:
    """Give what is needed for a stage, each after those it needs: the target is the last.

    ``base`` gives the configuration of the image (or the context) that a stage begins with, and is asked about those
    that are needed only. Raises :class:`~pylxc.errors.DockerfileError` and :class:`~pylxc.errors.UnsupportedError`.
    """
    unfolding = _Unfolding(stages, names, scope, base)
    way = [target]
    pending = [unfolding.needs(target)]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            way.pop()
        elif found[0] in way:
            round_trip = " needs ".join(stages[index].name or "it" for index in (*way[way.index(found[0]) :], found[0]))
            raise found[1].error(f"a stage cannot need itself: {round_trip}")
        elif found[0] not in unfolding.done:
            way.append(found[0])
            pending.append(unfolding.needs(found[0]))
    return tuple(unfolding.done.values())


@define
class _Unfolding:
    stages: Sequence[PlannedStage]
    names: Names
    scope: Scope
    base: Callable[[PlannedStage], ImageConfig]
    done: dict[int, StageWork] = field(factory=dict)

    def needs(self, index: int) -> Iterator[tuple[int, Instruction]]:
        """Yield the stages that a stage needs, and which instruction says so; it is done when nothing more comes."""
        stage = self.stages[index]
        if stage.parent.kind == "stage":
            yield stage.parent.index, stage.from_
            start = _start(self.done[stage.parent.index].state)
            waiting = self.done[stage.parent.index].state.config.onbuild
        else:
            config = _completed(self.base(stage), stage.base)
            start = _start(State(config))
            waiting = () if stage.replaced else config.onbuild
        instructions = (*_triggers(waiting, stage.base), *stage.instructions)
        refuse_each(instructions)
        sources: dict[str, Origin] = {}
        for instruction in instructions:
            for word in names_taken(instruction):
                origin = self.names.of_source(word.text)
                if origin is None:
                    reason = f"there is no stage {word.text}: the last one is {len(self.stages) - 1}"
                    raise instruction.error(reason, word.offset)
                if origin.kind == "stage":
                    yield origin.index, instruction
                sources[word.text] = origin
        steps = tuple(resolve(self.scope, start, instructions))
        self.done[index] = StageWork(stage, start, steps, sources)


def _completed(config: ImageConfig, base: str) -> ImageConfig:
    """Give the configuration of a base with what BuildKit adds to it: a PATH, and for "scratch" a directory."""
    env = config.env if "PATH" in config.env else {**config.env, "PATH": DEFAULT_PATH}
    return evolve(config, env=env, workdir=config.workdir or ("/" if base == SCRATCH else ""))


def _start(before: State) -> State:
    """Give the state after FROM: what ENV set wins over the ARGs of the stage before, and a CMD is inherited."""
    config = evolve(before.config, onbuild=())
    return evolve(before, config=config, variables={**before.variables, **config.env}, command_set=False)


def _triggers(texts: Sequence[str], base: str) -> tuple[Instruction, ...]:
    """Read the instructions that a base has waiting."""
    found = tuple(parse_trigger(text, base) for text in texts)
    for instruction in found:
        if isinstance(instruction, (ast.From, ast.Maintainer, ast.Onbuild)):
            raise instruction.error(f"{instruction.name} cannot be put off with ONBUILD")
    return found
