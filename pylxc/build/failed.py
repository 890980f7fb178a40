"""What a failed RUN left: its root file system, kept for whoever wants to look into it.

Hides how a half-made layer becomes the writable side of a container. Invariant: what is kept belongs to this process
and goes with the error that carries it, unless a container was asked for; that belongs to the process as others do, and
its image goes with it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

from attrs import evolve

from pylxc.engine import OF_FAILED_STEP
from pylxc.imageconfig import History, ImageDocument
from pylxc.platforms import this_platform
from pylxc.runtime import isolation
from pylxc.store.layout import explained, rename_as_owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.build.steps import RunStep
    from pylxc.container import Container
    from pylxc.engine import Engine
    from pylxc.errors import BuildError
    from pylxc.image import Image
    from pylxc.imageconfig import ImageConfig
    from pylxc.store import Store

# Waits for a line that nobody writes: the one program that is there for sure is the shell that ran the step.
IDLE = "while read -r _; do :; done"


class FailedStep:
    """The root file system of a RUN that failed, in staging. ``container()`` makes a running container of it."""

    def __init__(self, engine: Engine, step: RunStep, layers: Sequence[str], upper: str, network: str) -> None:
        self._engine = engine
        self._step = step
        self._layers = tuple(layers)
        self._network = network
        self._held = ExitStack()
        try:
            lease = self._held.enter_context(engine.store.leases.take())
            lease.protect(self._layers)
            self._upper = f"{lease.stage()}/upper"
            with explained(self._upper):
                rename_as_owner(upper, self._upper)
        except BaseException:
            self._held.close()
            raise
        self._lease = lease

    def kept_by(self, error: BuildError) -> None:
        """Let an error carry this: when it goes, this goes."""
        error.keep(self)
        weakref.finalize(error, _let_go, self._engine.store, self._held, os.getpid())

    def container(self) -> Container:
        """Make a container of it, and start it: it waits, in the step's environment, for what is executed in it.

        Raises SpawnError when there is no shell in it that could wait.
        """
        from pylxc.verbs import create  # noqa: PLC0415  it is for images that are there

        step = self._step
        image = self._image()
        try:
            container = create(
                image,
                [*self._shell(), IDLE],
                entrypoint=(),
                engine=self._engine,
                env=dict(step.env),
                user=step.user or "0",
                workdir=step.workdir,
                network=self._network,
                stdin=True,
                labels={OF_FAILED_STEP: f"step {step.number}, line {step.instruction.line}"},
            )
        except BaseException:
            self._engine.store.images.remove(image.id)
            raise
        try:
            directory = self._engine.container_directory(container.id)
            tree = self._engine.tree_of(self._layers, f"{directory}/upper", f"{directory}/work")
            with explained(directory):
                rename_as_owner(self._upper, tree.upper)
                isolation.prepare_work(tree)
            container.start()
        except BaseException:
            container.remove(force=True)
            raise
        self._held.close()
        return container

    def _shell(self) -> tuple[str, ...]:
        """Return what ran the step, if that was a shell."""
        argv = self._step.argv
        return argv[:-1] if argv[:-1] == self._step.state.shell else ("/bin/sh", "-c")

    def _image(self) -> Image:
        """Add the image of the steps before: nobody else's, for its label is its own."""
        from pylxc.image import Image  # noqa: PLC0415  it imports the engine

        config: ImageConfig = self._step.state.config
        labels = {**config.labels, OF_FAILED_STEP: os.urandom(8).hex()}
        document = ImageDocument(
            config=evolve(config, labels=labels, healthcheck=None, volumes=()),
            platform=this_platform(),
            created=0.0,
            diff_ids=self._layers,
            history=tuple(History(created=0.0, created_by="") for _ in self._layers),
        )
        return Image.of(self._engine, self._engine.store.images.add(document, (), self._lease))


def _let_go(store: Store, held: ExitStack, owner: int) -> None:
    """Let go of what an error carried; a fork takes nothing from its parent."""
    if os.getpid() == owner:
        store.after_transaction(held.close)
