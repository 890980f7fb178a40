"""Builds an image: reads the context, plans, executes, and adds the result to the store.

Invariant: everything that can be judged without work is judged before it; the image and its tags come at the very end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc.build import lint, outputs
from pylxc.build.check import warnings_of
from pylxc.build.contexts import opened_contexts
from pylxc.build.dockerfile import parse
from pylxc.build.events import BuildEvent
from pylxc.build.executor import Executor, StageResult, Surroundings
from pylxc.build.instructions import Run
from pylxc.build.opening import opened
from pylxc.build.plan import plan
from pylxc.build.request import INSECURE, OF_THE_HOST
from pylxc.build.runmounts import RunMounts
from pylxc.build.schedule import Schedule
from pylxc.build.sources import Sources
from pylxc.build.stages import SCRATCH
from pylxc.errors import ImageNotFound, SpecError
from pylxc.image import Image
from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.normalise import network_name
from pylxc.obtaining import obtain
from pylxc.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pylxc.build.context import Context
    from pylxc.build.contexts import Contexts
    from pylxc.build.opening import Source
    from pylxc.build.request import Request
    from pylxc.build.stages import Origin, StageWork
    from pylxc.engine import Engine
    from pylxc.store import Lease


def build(engine: Engine, context: Source, dockerfile: Source, request: Request) -> Image:
    """See :meth:`pylxc.Image.build`."""
    _check_network(engine, request.network)
    with (
        opened_contexts(engine, request.contexts or {}) as named,
        opened(engine, context, dockerfile) as found,
        engine.store.leases.take() as lease,
    ):
        parsed = parse(found.dockerfile_bytes, found.dockerfile_path)
        planned = plan(parsed, request.args, request.target or None, named.names, request.platform)
        bases = _Bases(engine, lease, named, request)
        works = planned.unfold(lambda stage: bases.config(stage.parent))
        _check_networks(works, request)
        _check_rights(works, request)
        bases.obtain_sources(works)
        root = bases.root(planned.origin)
        if root is not None:
            outputs.refuse_passthrough(engine, root, request.outputs)
        around = lint.Surroundings(args=request.args, platform=request.platform, ignore=found.ignore, base=bases.known)
        missing = request.caches.bring(engine, lease, request.on_progress)
        warnings = (*planned.warnings, *warnings_of(parsed, around), *missing)
        _warn(request, works[-1], warnings)
        result = _carry_out(engine, lease, found, bases, works, request)
        platform = planned.origin.platform or this_platform()
        document = _document(result, root, works[-1].state.author, platform, request.labels)
        row = engine.store.images.add(document, request.tags, lease)
        outputs.write(engine, Image.of(engine, row), request.outputs)
        request.caches.carry(engine, lease)
    return Image.of(engine, engine.store.images.get(row.id))


def _document(
    result: StageResult, root: Image | None, author: str | None, platform: str, labels: Mapping[str, str]
) -> ImageDocument:
    """Return the configuration of what the last stage came to, beginning with ``root``, else for ``platform``."""
    return ImageDocument(
        config=evolve(result.config, labels={**result.config.labels, **labels}),
        platform=platform if root is None else root._document.platform,  # noqa: SLF001  its own half
        created=result.created,
        diff_ids=result.layers,
        history=result.history,
        extra=_notes(root, author),
    )


def _notes(base: Image | None, author: str | None) -> dict[str, Any]:
    """Return what else the document says: what BuildKit takes over from the base's, and the author."""
    kept = base._document.handed_on if base else {}  # noqa: SLF001  its own half
    return kept if author is None else {**kept, "author": author}


def _carry_out(  # noqa: PLR0913, PLR0917  what a build is made of
    engine: Engine, lease: Lease, context: Context, bases: _Bases, works: Sequence[StageWork], request: Request
) -> StageResult:
    """Carry out the stages, each once; return what the last one came to."""
    schedule: Schedule[StageResult] = Schedule()
    sources = Sources(engine, bases.contexts.directories, bases.layers, lambda index: schedule.result(index).layers)
    mounts = RunMounts(engine, lease, context, sources, request.secrets, request.agents)
    around = Surroundings(engine, lease, context, sources, schedule, request, mounts, _shared(works))
    by_index = {work.stage.index: work for work in works}

    def carry_out(index: int) -> StageResult:
        parent = by_index[index].stage.parent
        base = schedule.result(parent.index) if parent.kind == "stage" else bases.result(parent)
        return Executor(around, by_index[index], base).run()

    return schedule.run(tuple(by_index), carry_out)


def _shared(works: Sequence[StageWork]) -> frozenset[bytes]:
    """Return the definitions of the steps that several stages have."""
    stages = [{step.definition() for step in work.steps} for work in works] if len(works) > 1 else ()
    counts = Counter(definition for stage in stages for definition in stage)
    return frozenset(definition for definition, count in counts.items() if count > 1)


def _warn(request: Request, target: StageWork, warnings: Sequence[str]) -> None:
    for warning in warnings:
        if request.on_event is not None:
            request.on_event(BuildEvent(kind="warning", step=0, total=target.total, instruction=warning))


def _runs(works: Sequence[StageWork]) -> Iterator[Run]:
    """Yield the RUNs of all stages."""
    instructions = (step.instruction for work in works for step in work.steps)
    return (one for one in instructions if isinstance(one, Run))


def _check_network(engine: Engine, network: str | None) -> None:
    """Look for the network of RUN steps. Raises SpecError, NetworkNotFound."""
    if network not in (None, "none", "host"):
        from pylxc import networking  # noqa: PLC0415  most builds name none

        networking.find(engine, network_name(network, "network"))


def _check_networks(works: Sequence[StageWork], request: Request) -> None:
    """Raise SpecError for a RUN that takes more of the network than the caller gives to the build."""
    line = next((instruction.line for instruction in _runs(works) if instruction.network == "host"), 0)
    if not line or request.network == "host" or OF_THE_HOST in request.allow:
        return
    from pylxc import networking  # noqa: PLC0415  few Dockerfiles ask for it

    if request.network is not None or networking.has_default():  # else it is what steps have anyhow
        remedy = f'give network="host", or allow "{OF_THE_HOST}"'
        raise SpecError("network", request.network, f"line {line} asks for RUN --network=host; {remedy}")


def _check_rights(works: Sequence[StageWork], request: Request) -> None:
    """Raise SpecError for a RUN that takes more rights than the caller allows."""
    for instruction in _runs(works):
        if instruction.security == "insecure" and INSECURE not in request.allow:
            remedy = f"line {instruction.line} asks for RUN --security=insecure, which can do all that the builder can"
            raise SpecError("allow", request.allow, f'{remedy}; where you trust the Dockerfile, give "{INSECURE}"')


class _Bases:
    """The images that a build takes, by the names that it has for them. The lease keeps their layers."""

    def __init__(self, engine: Engine, lease: Lease, contexts: Contexts, request: Request) -> None:
        self.contexts = contexts
        self._engine = engine
        self._lease = lease
        self._pull = "always" if request.pull else "missing"
        self._platform = request.platform
        self._on_progress = request.on_progress
        self._images: dict[tuple[str, str], Image] = {}  # by name and platform

    def obtain_sources(self, works: Sequence[StageWork]) -> None:
        """Obtain the images that only files are copied from."""
        for origin in (origin for work in works for origin in work.sources.values()):
            if origin.kind != "stage":
                self._image(origin, "--from")

    def _image(self, origin: Origin, word: str = "FROM") -> Image | None:
        """Return what a name means, None for what is no image: "scratch", and a directory."""
        if origin.name == SCRATCH or origin.name in self.contexts.directories:
            return None
        ref = self.contexts.images.get(origin.name, origin.name) if origin.kind == "context" else origin.name
        key = ref, origin.platform
        if key not in self._images:
            self._images[key] = self._obtain(ref, origin.platform, word)
        return self._images[key]

    def _obtain(self, ref: str, platform: str, word: str) -> Image:
        try:
            # The tag goes on naming what is for this machine.
            tagged = not platform
            image = obtain(self._engine, ref, self._pull, platform, tagged=tagged, on_progress=self._on_progress)
            self._lease.protect(image.diff_ids)
            self._engine.store.images.get(image.id)  # whoever removed it before the lease held it removed its layers
        except ImageNotFound as error:
            raise ImageNotFound(ref, f"{word} names it, and {error.remedy}") from error
        return image

    def config(self, origin: Origin) -> ImageConfig:
        """Return the configuration of what a stage begins with."""
        image = self._image(origin)
        return image.config if image is not None else ImageConfig()

    def result(self, origin: Origin) -> StageResult:
        """Return an image in the form of a finished stage."""
        image = self._image(origin)
        if image is None:
            return StageResult(ImageConfig())
        return StageResult(image.config, image.diff_ids, tuple(image.history()), image.created)

    def layers(self, origin: Origin) -> tuple[str, ...]:
        """Return the layers of an image that was obtained, by its name or its context's."""
        image = self._image(origin, "--from")
        return () if image is None else image.diff_ids

    def known(self, name: str) -> tuple[ImageConfig, str] | None:
        """Return configuration and platform of an image that was obtained, for the build checks."""
        image = self._images.get((name, self._platform))
        return None if image is None else (image.config, image.platform)

    def root(self, origin: Origin) -> Image | None:
        """Return the image that the wanted stage comes from, None where it comes from nothing."""
        return self._image(origin)
