"""Carries out a stage: every step that touches files becomes a layer, or is found in the cache.

Hides how a layer comes to be: the step works on an overlay whose upper directory is the layer, by rename and without a
copy. Invariant: a step's layer is in the store only when the step succeeded and its bytes are on disk; a failed build
leaves no image, no tag and no staging, and keeps the layers of the steps before it as cache.
"""

from __future__ import annotations

import errno
import functools
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from pylxc.build import cache, times, told
from pylxc.build.accounts import owner
from pylxc.build.confined import ContextError
from pylxc.build.copying import copy_into, copying_of
from pylxc.build.events import BuildEvent
from pylxc.build.inputs import Inputs
from pylxc.build.naming import Naming
from pylxc.build.runmounts import content_of
from pylxc.build.steps import CopyStep, MetadataStep, RunStep, Step, WorkdirStep
from pylxc.errors import BuildError, SpawnError, SpecError, StoreError
from pylxc.layerview import LayerView
from pylxc.normalise import HOST_GATEWAY
from pylxc.runtime import transfer
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pylxc.build.context import FileSource
    from pylxc.build.request import Request
    from pylxc.build.runmounts import Made, RunMounts, Shown
    from pylxc.build.schedule import Schedule
    from pylxc.build.sources import Sources
    from pylxc.build.stages import StageWork
    from pylxc.engine import Engine
    from pylxc.imageconfig import History, ImageConfig
    from pylxc.runtime.isolation import Tree
    from pylxc.store import Lease

BUILD_HOSTNAME = "build"  # the same on every machine: what a step sees must not depend on where it runs
# What the runtime mounts files on; an image whose /etc hides the layers below gets mount points of its own for them.
GIVEN_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
OUTPUT_KEPT = 64 << 10  # bytes of a failed step's output that its error carries


@frozen
class StageResult:
    """What a stage came to: the configuration, the diff ids (lowest first), the history, its time.

    Of an image that a stage begins with, it is what that has.
    """

    config: ImageConfig
    layers: tuple[str, ...] = ()
    history: tuple[History, ...] = ()
    created: float = 0.0


@frozen
class Surroundings:
    """What the stages of one build have in common. ``shared``: the definitions of steps that several stages have."""

    engine: Engine
    lease: Lease
    context: FileSource
    sources: Sources
    schedule: Schedule[StageResult]
    request: Request
    mounts: RunMounts
    shared: frozenset[bytes]
    telling: threading.Lock = field(factory=threading.Lock)


class Executor:
    """One stage of a build. ``run()`` gives what it came to."""

    def __init__(self, around: Surroundings, work: StageWork, base: StageResult) -> None:
        self._around = around
        self._engine = around.engine
        self._lease = around.lease
        self._context = around.context
        self._request = around.request
        self._work = work
        self._layers: list[str] = list(base.layers)
        self._history: list[History] = list(base.history)
        latest = around.request.latest
        self._created = base.created if latest is None else float(latest)
        self._latest = max(0, int(self._created))
        self._unnamed: Naming | None = None  # the layer on top of the others, if it was made and has no name yet

    def run(self) -> StageResult:
        """Carry out every step. Raises BuildError, naming the step."""
        words = f"FROM {self._work.stage.base}"
        self._tell("step", 1, words)
        parent = self._work.stage.parent
        if parent.kind == "context" and parent.name in self._around.sources.contexts:
            self._begin_with_directory(words)
        self._tell("done", 1, words)
        try:
            for step in self._work.steps:
                self._around.schedule.check()
                self._carry_out(step)
        except BaseException:
            with suppress(BuildError, StoreError):  # what stopped the build is what is told
                self._name()
            raise
        self._name()
        config = self._work.state.config
        return StageResult(config, tuple(self._layers), tuple(self._history), self._created)

    def _begin_with_directory(self, words: str) -> None:
        """Make the files of a named context the first layer: that is what FROM means of a directory."""
        stage = self._work.stage
        step = CopyStep(
            instruction=stage.from_,
            number=1,
            state=self._work.start,
            sources=("/",),
            destination="/",
            workdir="/",
            chown=None,
            chmod=None,
            unpack=False,
            source=stage.parent.name,
        )
        with self._blame(step):
            self._layer_of(step, words)

    def _carry_out(self, step: Step) -> None:
        begin = time.monotonic()
        words = step.describe()
        self._tell("step", step.number, words)
        if isinstance(step, MetadataStep):
            self._note(step)
        else:
            with self._blame(step):
                self._layer_of(step, words)
        self._tell("done", step.number, words, duration=time.monotonic() - begin)

    def _note(self, step: Step) -> None:
        entry = told.entry(step, self._created)
        if entry is not None:
            self._history.append(entry)

    @contextmanager
    def _blame(self, step: Step) -> Iterator[None]:
        """Turn what goes wrong in a step into a BuildError that names it."""
        try:
            yield
        except (ContextError, SpawnError, SpecError) as error:
            exit_code = error.exit_code if isinstance(error, SpawnError) and isinstance(step, RunStep) else None
            raise self._error(step, _reason(error), exit_code=exit_code) from error

    def _error(self, step: Step, reason: str, *, exit_code: int | None = None, output: bytes = b"") -> BuildError:
        instruction = step.instruction
        return BuildError(
            reason,
            step=step.number,
            line=instruction.line,
            instruction=instruction.source,
            exit_code=exit_code,
            output=output,
        )

    # -- layers -----------------------------------------------------------------------------------------------------

    def _layer_of(self, step: Step, words: str) -> None:
        """Find the step's layer in the cache, or make it: once, if other stages have the same step on the same base."""
        if not isinstance(step, RunStep):
            self._name()  # what is below is looked into
        copying = copying_of(self._around, self._work, step, self._view()) if isinstance(step, CopyStep) else None
        shown = self._around.mounts.shown(step, self._work.sources) if isinstance(step, RunStep) else ()
        inputs = Inputs(step, copying, self._content(step, shown))
        making = functools.partial(self._make, inputs, shown)
        if self._unnamed is not None and self._may_be_known(inputs):
            self._name()
        if self._unnamed is not None:
            tree = making()
            self._name()
            self._begin_naming(inputs, tree)
        elif step.definition() in self._around.shared:
            find_or_make = functools.partial(self._find_or_make, inputs, making)
            digest, is_made = self._around.schedule.once(self._key(step, inputs.identity()), find_or_make)
            if not is_made:
                self._tell("cached", step.number, words)
            self._layers.append(digest)
        elif found := self._find(inputs):
            self._layers.append(found)
        else:
            self._begin_naming(inputs, making())
        self._note(step)

    def _content(self, step: Step, shown: Sequence[Shown]) -> str:
        """Return what a step depends on beside its definition and what it copies."""
        hosts = self._request.extra_hosts if isinstance(step, RunStep) else ()
        # As in BuildKit a step depends on their names, not on where they lead.
        return " ".join((content_of(shown), *sorted(hosts)))

    def _key(self, step: Step, content: str) -> str:
        return cache.key(self._layers, step.definition(), f"{content} {self._latest}")

    def _step_key(self, inputs: Inputs) -> str:
        return cache.key((), inputs.step.definition(), f"{inputs.outline()} {self._latest}")

    def _may_be_known(self, inputs: Inputs) -> bool:
        """Say whether the layer of such a step may be there, whatever it stands on; else it is made without a look."""
        if inputs.step.definition() in self._around.shared:
            return True
        return not self._request.no_cache and self._engine.store.cache.has_step(self._step_key(inputs))

    def _find(self, inputs: Inputs) -> str | None:
        """Look for a step's layer by what it is made of, then by what is in that."""
        step = inputs.step
        if inputs.is_to_be_read and not self._may_be_known(inputs):
            return None
        contents: tuple[str, ...] = (inputs.identity(),)
        digest = self._cached(self._key(step, contents[0]))
        is_known = digest is not None
        if digest is None and inputs.has_identity and self._may_be_known(inputs):
            contents = inputs.contents()
            digest = self._cached(self._key(step, contents[-1]))  # other layers may show the same files
        if digest is not None:
            self._tell("cached", step.number, step.describe())
            self._remember(inputs, contents, digest, is_known=is_known)
        return digest

    def _remember(self, inputs: Inputs, contents: Sequence[str], digest: str, *, is_known: bool = False) -> None:
        """Let the caches know a step's layer; this store's only where that is not known there."""
        keys = [self._key(inputs.step, content) for content in contents]
        if not is_known:  # else it would be written for nothing
            step_key = self._step_key(inputs)
            for key in keys:
                self._engine.store.cache.put(key, digest, step_key)
        for key in keys:
            self._request.caches.note(key, digest)

    def _cached(self, key: str) -> str | None:
        return None if self._request.no_cache else self._engine.store.cache.get(key, self._lease)

    def _find_or_make(self, inputs: Inputs, make: Callable[[], str]) -> str:
        digest = self._find(inputs)
        if digest is not None:
            return digest
        self._begin_naming(inputs, make())
        self._name()
        return self._layers.pop()

    def _begin_naming(self, inputs: Inputs, tree: str) -> None:
        self._unnamed = Naming(inputs, tree, scaffold=self._engine.scaffold, latest=self._latest)
        if isinstance(inputs.step, RunStep):
            self._lease.write_beside()  # most of what goes to the disk

    def _name(self) -> None:
        """Wait for the digest of the layer that was made last, if it has none, and make it one of the store's."""
        made, self._unnamed = self._unnamed, None
        if made is None:
            return
        step = made.inputs.step
        with self._blame(step):
            digest, size = made.found()
        self._engine.store.layers.commit(self._lease, made.tree, digest, size, told.words(step))
        self._remember(made.inputs, made.contents, digest)
        self._layers.append(digest)

    def _make(self, inputs: Inputs, shown: Sequence[Shown]) -> str:
        """Carry out a step; returns the tree of the layer that comes of it."""
        from pylxc.runtime import isolation  # noqa: PLC0415  what is cached is not made

        step, staged = inputs.step, self._lease.stage()
        self._engine.store.layers.require_whole(self._layers)
        self._engine.store.layers.require_trees(self._layers)
        tree = self._engine.tree_of(self._layers, f"{staged}/tree", f"{staged}/work")
        if self._unnamed is not None:
            tree = evolve(tree, lowers=(self._unnamed.tree, *tree.lowers))
        with self._writing():
            begin = 0 if isinstance(step, RunStep) else times.beginning(staged)
            isolation.prepare_upper(tree)
        if isinstance(step, RunStep):
            with self._keeping(step, tree):
                self._run(step, tree, shown)
        elif isinstance(step, WorkdirStep):
            self._make_directory(step, tree)
        elif inputs.copying is not None:
            copy_into(tree, inputs.copying.parts(), self._engine.scaffold)
        with self._writing():
            if not isinstance(step, RunStep):
                times.settle(tree, begin)
            isolation.settle_upper(tree)
        return tree.upper

    def _view(self) -> LayerView:
        """Return what the step stands on, to look into."""
        lowers, passthrough = self._engine.lowers(self._layers)
        return LayerView(lowers if self._unnamed is None else (self._unnamed.tree, *lowers), passthrough)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what a failure of the disk means for the store."""
        try:
            yield
        except OSError as error:
            raise StoreError(self._engine.root, explain(error)) from error

    @contextmanager
    def _keeping(self, step: RunStep, tree: Tree) -> Iterator[None]:
        """Keep the root file system of a command that failed, or did not begin, for whoever wants to look into it."""
        try:
            with self._blame(step):
                yield
        except BuildError as error:
            cause = error.__cause__
            if cause is None or (isinstance(cause, SpawnError) and cause.stage == "exec"):
                from pylxc.build.failed import FailedStep  # noqa: PLC0415

                self._name()
                FailedStep(self._engine, step, self._layers, tree.upper, self._network(step)).kept_by(error)
            raise

    def _network(self, step: RunStep) -> str:
        if step.network != "default":
            return step.network
        from pylxc.networking import default_network  # noqa: PLC0415  what is cached needs no network

        return self._request.network or default_network(self._engine, otherwise="host")

    def _extra_hosts(self, network: str) -> dict[str, str]:
        hosts = self._request.extra_hosts.items()
        return {name: address for name, address in hosts if address != HOST_GATEWAY or network != "none"}

    def _run(self, step: RunStep, tree: Tree, shown: Sequence[Shown]) -> None:
        from pylxc.build.stubs import Stubs  # noqa: PLC0415  what is cached does not run

        view = self._view()
        stubs = Stubs.of(view, (*GIVEN_FILES, *(mount.target for mount in step.mounts if mount.target)))
        with self._around.mounts.made(step, shown, view, self._around.schedule.check) as made:
            self._execute(step, tree, made)
        with self._writing():
            stubs.remove(tree.upper, view)

    def _execute(self, step: RunStep, tree: Tree, made: Made) -> None:
        from pylxc.containernetworks import lent_links  # noqa: PLC0415
        from pylxc.execution import complete, environment, launch  # noqa: PLC0415  what is cached does not run
        from pylxc.runtime import isolation  # noqa: PLC0415
        from pylxc.spec import ContainerSpec  # noqa: PLC0415
        from pylxc.streams import DEVNULL, PIPE, StreamSet  # noqa: PLC0415

        network = self._network(step)
        spec = ContainerSpec(
            image=self._work.stage.base,
            network=network,
            extra_hosts=self._extra_hosts(network),
            privileged=step.insecure,
        )
        payload = isolation.Payload(
            argv=step.argv,
            env=environment(BUILD_HOSTNAME, step.env, made.env),
            user=step.user or "0",
            workdir=step.workdir,
            program=self._engine.filter_for(spec),
        )
        tail = _Tail()

        def on_output(stream: str, data: bytes) -> None:
            tail.add(data)
            self._tell("output", step.number, "", data=data, stream=stream)

        with lent_links(self._engine, spec, self._lease.id) as links:
            with StreamSet(DEVNULL, PIPE, PIPE) as streams, isolation.ids_for(spec) as ids:
                plan = isolation.container_plan(spec, payload, tree, BUILD_HOSTNAME, ids, links=links, more=made.plan)
                if made.keeper >= 0:
                    plan.descriptor(made.keeper)
                child = launch(plan, streams, owned=True)
            with self._around.schedule.ending(child.pid_fd):
                result = complete(child, step.argv, streams, None, None, check=False, on_output=on_output, keep=False)
        if not result.ok:
            ended = f"was ended by signal {result.signal}" if result.signal else f"exited with {result.exit_code}"
            raise self._error(step, f"the command {ended}", exit_code=result.exit_code, output=tail.bytes())

    def _make_directory(self, step: WorkdirStep, tree: Tree) -> None:
        from pylxc.runtime.isolation import transfer_plan  # noqa: PLC0415  what is cached is not made

        plan = transfer_plan(tree, "", self._engine.scaffold)
        transfer.add_directories(plan, step.path, self._owner_of(step.user))
        transfer.run(plan)

    def _owner_of(self, user: str) -> tuple[int, int]:
        """Return the owner of what WORKDIR makes: root, where the image has no such user, as in BuildKit."""
        try:
            return owner(user, self._view())
        except SpecError:
            return 0, 0

    def _tell(  # noqa: PLR0913  the fields of an event
        self, kind: str, step: int, instruction: str, *, data: bytes = b"", stream: str = "", duration: float = 0.0
    ) -> None:
        if self._request.on_event is None:
            return
        event = BuildEvent(
            kind=kind,
            step=step,
            total=self._work.total,
            instruction=instruction,
            data=data,
            stream=stream,
            duration=duration,
            stage=self._work.stage.name,
        )
        with self._around.telling:
            self._request.on_event(event)


class _Tail:
    """The last of a stream of output."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * OUTPUT_KEPT:
            del self._data[:-OUTPUT_KEPT]

    def bytes(self) -> bytes:
        return bytes(self._data[-OUTPUT_KEPT:])


def _reason(error: Exception) -> str:
    """Return what a failure means to who wrote the Dockerfile."""
    if isinstance(error, SpawnError) and error.stage == "pack" and error.errno == errno.EINVAL:
        return f"the step {transfer.RESERVED_NAME}: {error.subject.rpartition(': ')[2]}; give it another name"
    return str(error)
