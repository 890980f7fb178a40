"""Carries out a plan: every step that touches files becomes a layer, or is found in the cache.

Hides how a layer comes to be: the step works on an overlay whose upper directory is the layer, by rename and without a
copy. Invariant: a step's layer is in the store only when the step succeeded and its bytes are on disk; a failed build
leaves no image, no tag and no staging, and keeps the layers of the steps before it as cache.
"""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import attrs

from pylxc import sourcedate
from pylxc.build import cache, times
from pylxc.build.accounts import owner
from pylxc.build.confined import ContextError
from pylxc.build.events import BuildEvent
from pylxc.build.gathering import Room, gather
from pylxc.build.plan import CopyStep, MetadataStep, RunStep, Step, WorkdirStep
from pylxc.errors import BuildError, SpawnError, SpecError, StoreError
from pylxc.execution import complete, environment, launch
from pylxc.imageconfig import History
from pylxc.layerview import LayerView
from pylxc.runtime import isolation, transfer
from pylxc.runtime import plan as p
from pylxc.runtime.isolation import Payload, Tree
from pylxc.spec import ContainerSpec
from pylxc.store.layout import explain
from pylxc.streams import DEVNULL, PIPE, StreamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc.build.context import Context
    from pylxc.build.gathering import Gathered
    from pylxc.build.plan import Plan
    from pylxc.build.selection import Entry
    from pylxc.engine import Engine
    from pylxc.image import Image
    from pylxc.imageconfig import ImageConfig
    from pylxc.store import Lease

BUILD_HOSTNAME = "build"  # the same on every machine: what a step sees must not depend on where it runs
OUTPUT_KEPT = 64 << 10  # bytes of a failed step's output that its error carries


@attrs.frozen(kw_only=True)
class Options:
    """How to build: ``no_cache``, ``network`` of RUN ("host" or "none"), ``on_event`` for what happens meanwhile."""

    no_cache: bool = False
    network: str = "host"
    on_event: Callable[[BuildEvent], object] | None = None


class Executor:
    """One build. ``run()`` gives the finished configuration, the diff ids and the history."""

    def __init__(  # noqa: PLR0913, PLR0917  what a build is made of
        self, engine: Engine, lease: Lease, base: Image | None, plan: Plan, context: Context, options: Options
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._plan = plan
        self._context = context
        self._options = options
        self._base = base
        self._layers: list[str] = [layer.digest for layer in base.layers] if base else []
        self._history: list[History] = []
        self._created = base.created if base else 0.0

    def run(self, config: ImageConfig) -> ExecutorResult:
        """Carry out every step. ``config`` is the base image's.

        Raises BuildError, naming the step; DockerfileError and UnsupportedError, naming the line.
        """
        steps = tuple(self._plan.steps(config))  # what is wrong with a late one shows before an early one runs
        for warning in self._plan.warnings:
            self._tell("warning", 0, warning)
        self._tell("step", 1, f"FROM {self._plan.base}")
        self._tell("done", 1, f"FROM {self._plan.base}")
        state = self._plan.start(config)
        for step in steps:
            self._carry_out(step)
            state = step.state
        return ExecutorResult(state.config, tuple(self._layers), tuple(self._history), self._created)

    def _carry_out(self, step: Step) -> None:
        begin = time.monotonic()
        words = step.describe()
        self._tell("step", step.number, words)
        if isinstance(step, MetadataStep):
            self._history.append(History(created=self._created, created_by=words, empty_layer=True))
        else:
            with self._blame(step):
                self._layer_of(step, words)
        self._tell("done", step.number, words, duration=time.monotonic() - begin)

    @contextmanager
    def _blame(self, step: Step) -> Iterator[None]:
        """Turn what goes wrong in a step into a BuildError that names it."""
        try:
            yield
        except (ContextError, SpawnError, SpecError) as error:
            exit_code = error.exit_code if isinstance(error, SpawnError) and isinstance(step, RunStep) else None
            raise self._error(step, str(error), exit_code=exit_code) from error

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
        """Find the step's layer in the cache, or make it."""
        gathered = self._gather(step) if isinstance(step, CopyStep) else None
        content = gathered.content if gathered is not None else ""
        latest = sourcedate.latest()
        content += "" if latest is None else f" {latest}"
        key = cache.key(self._layers, step.definition(), content)
        digest = None if self._options.no_cache else self._engine.store.cache.get(key, self._lease)
        if digest is not None:
            self._tell("cached", step.number, words)
        else:
            digest = self._make(step, gathered, words)
            self._engine.store.cache.put(key, digest)
        self._layers.append(digest)
        self._created = max(self._created, self._engine.store.layers.get(digest).created)
        self._history.append(History(created=self._created, created_by=words))

    def _make(self, step: Step, gathered: Gathered | None, words: str) -> str:
        staged = self._lease.stage()
        self._engine.store.layers.require_whole(self._layers)
        tree = self._engine.tree_of(self._layers, f"{staged}/tree", f"{staged}/work")
        with self._writing():
            begin = 0 if isinstance(step, RunStep) else times.beginning(staged)
            isolation.prepare_upper(tree)
        if isinstance(step, RunStep):
            self._run(step, tree)
        elif isinstance(step, WorkdirStep):
            self._make_directory(step.path, tree)
        elif gathered is not None:
            self._copy(gathered, tree)
        with self._writing():
            if not isinstance(step, RunStep):
                times.settle(tree, begin)
            isolation.settle_upper(tree)
        return self._engine.commit_layer(self._lease, tree.upper, words).digest

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what a failure of the disk means for the store."""
        try:
            yield
        except OSError as error:
            raise StoreError(self._engine.root, explain(error)) from error

    def _run(self, step: RunStep, tree: Tree) -> None:
        network = self._options.network if step.network == "default" else step.network
        spec = ContainerSpec(image=self._plan.base, network=network)
        payload = Payload(
            argv=step.argv,
            env=environment(BUILD_HOSTNAME, {}, step.env),
            user=step.user or "0",
            workdir=step.workdir,
            program=self._engine.filter_for(spec),
        )
        tail = _Tail()

        def on_output(stream: str, data: bytes) -> None:
            tail.add(data)
            self._tell("output", step.number, "", data=data, stream=stream)

        with StreamSet(DEVNULL, PIPE, PIPE) as streams, isolation.ids_for(spec) as ids:
            plan = isolation.container_plan(spec, payload, tree, BUILD_HOSTNAME, ids)
            child = launch(plan, streams, owned=True)
        result = complete(child, step.argv, streams, None, None, check=False, on_output=on_output, keep=False)
        if not result.ok:
            ended = f"was ended by signal {result.signal}" if result.signal else f"exited with {result.exit_code}"
            raise self._error(step, f"the command {ended}", exit_code=result.exit_code, output=tail.bytes())

    def _make_directory(self, path: str, tree: Tree) -> None:
        plan = isolation.transfer_plan(tree, "", self._engine.scaffold)
        plan.add(p.DIRECTORY, path, flags=0o755, subject=f"directory {path}")
        transfer.run(plan)

    # -- copies -----------------------------------------------------------------------------------------------------

    def _gather(self, step: CopyStep) -> Gathered:
        view = LayerView(*self._engine.lowers(self._layers))
        ids = owner(step.chown, view) if step.chown else (0, 0)
        return gather(Room(self._engine, self._lease), self._context, step, ids, view.is_directory)

    def _copy(self, gathered: Gathered, tree: Tree) -> None:
        opened = [portion.open() for portion in gathered.portions]
        # What was mounted as volatile once cannot be mounted again (overlayfs.rst, "Volatile mount").
        tree = attrs.evolve(tree, volatile=len(opened) == 1 and not opened[0][1].archives)
        for context, selection in opened:
            where = selection.directory
            if selection.entries or not selection.archives:
                feed = functools.partial(context.write_tar, selection.entries)
                self._unpack(feed, where, tree, where)
            for entry in selection.archives:
                self._add_archive(context, entry, where, tree)

    def _add_archive(self, context: Context, entry: Entry, directory: str, tree: Tree) -> None:
        try:
            with context.open_archive(entry) as archive:
                feed = functools.partial(transfer.copy, cast("BinaryIO", archive))
                self._unpack(feed, directory, tree, entry.source)
        except StoreError as error:  # of the decompression
            raise ContextError(entry.source, error.reason) from error

    def _unpack(self, feed: Callable[[BinaryIO], object], directory: str, tree: Tree, subject: str) -> None:
        flags = p.UNPACK_CREATE | p.UNPACK_KEEP_DIRECTORIES
        scaffold = self._engine.scaffold
        transfer.unpack(feed, scaffold=scaffold, tree=tree, destination=directory, flags=flags, subject=subject)

    def _tell(  # noqa: PLR0913  the fields of an event
        self, kind: str, step: int, instruction: str, *, data: bytes = b"", stream: str = "", duration: float = 0.0
    ) -> None:
        if self._options.on_event is not None:
            total = self._plan.total
            event = BuildEvent(
                kind=kind, step=step, total=total, instruction=instruction, data=data, stream=stream, duration=duration
            )
            self._options.on_event(event)


@attrs.frozen
class ExecutorResult:
    """What a build came to: the configuration, the diff ids (lowest first), the history of its own steps, its time."""

    config: ImageConfig
    layers: tuple[str, ...]
    history: tuple[History, ...]
    created: float


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
