"""Where files come from that are not in the main context: other stages, images, named contexts.

Invariant: a source is complete before anybody gets it, and does not change while the build lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

from pylxc.build.context import FileSource
from pylxc.build.ignore import Ignore
from pylxc.build.layertree import LayerTree
from pylxc.runtime import rootless

_NOTHING = Ignore()  # layers have no ignore file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.build.confined import ConfinedTree
    from pylxc.build.stages import Origin
    from pylxc.engine import Engine

    T = TypeVar("T")


@frozen
class LayerSource(FileSource):
    """What a stage or an image shows: its ``layers`` (diff ids, the lowest first). ``root`` is what errors call it.

    To mount it: ``engine.tree_of(source.layers, "", "")`` is the read-only root file system; "scratch" has no layer.
    """

    layers: tuple[str, ...]
    lowers: tuple[str, ...]
    passthrough: tuple[str, ...]

    @classmethod
    def of(cls, engine: Engine, called: str, layers: tuple[str, ...]) -> LayerSource:
        """Return the source that some layers are."""
        return cls(called, _NOTHING, layers, *engine.lowers(layers))

    def tree(self) -> ConfinedTree:
        """Open it."""
        return LayerTree(self.lowers, self.passthrough, self.root)

    def reading(self, look: Callable[[], T]) -> T:
        """Call something that reads it: for an ordinary user in the user namespace that the layers belong to."""
        return rootless.as_owner(look)


@frozen
class Sources:
    """What the names after ``--from`` give, of a COPY and of a RUN's mounts alike.

    ``contexts`` are the named contexts that are directories; ``images`` gives the layers of an image (or of the image
    that a named context stands for) by what names it, ``stage`` those of a stage, for which it waits.
    """

    engine: Engine
    contexts: Mapping[str, FileSource] = field(hash=False)
    images: Callable[[Origin], tuple[str, ...]]
    stage: Callable[[int], tuple[str, ...]]

    def get(self, origin: Origin) -> FileSource:
        """Give what a name means: a :class:`LayerSource` for a stage or an image, else the directory of a context.

        ``origin`` is ``work.sources[name]`` of the :class:`~pylxc.build.stages.StageWork` that the name stands in. This
        waits until a stage is built.
        """
        if origin.name in self.contexts and origin.kind == "context":
            return self.contexts[origin.name]
        layers = self.stage(origin.index) if origin.kind == "stage" else self.images(origin)
        kind = "stage" if origin.kind == "stage" else "image"
        return LayerSource.of(self.engine, f"{kind} {origin.name}", layers)
