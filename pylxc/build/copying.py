"""What COPY and ADD take, and how it comes into the root file system of a step.

Hides where the files are: in the context, in layers, in a directory, on the web. Invariant: what a cache can answer for
is not looked at; both sides may be layers, so an ordinary user looks with the ids that own them.
"""

from __future__ import annotations

import functools
import posixpath
from typing import TYPE_CHECKING, BinaryIO, cast

from attrs import evolve

from pylxc.build.accounts import owner
from pylxc.build.agents import DEFAULT
from pylxc.build.confined import ContextError
from pylxc.build.gathering import Place, Room, gather
from pylxc.build.sources import LayerSource
from pylxc.errors import StoreError
from pylxc.runtime import plan as p
from pylxc.runtime import rootless, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pylxc.build.context import FileSource
    from pylxc.build.executor import Surroundings
    from pylxc.build.gathering import Gathered
    from pylxc.build.selection import Entry, Selection
    from pylxc.build.stages import StageWork
    from pylxc.build.steps import CopyStep
    from pylxc.layerview import LayerView
    from pylxc.runtime.isolation import Tree


class Copying:
    """What one COPY takes, looked for when it is asked for: a layer that is found by other means needs no look."""

    def __init__(self, source: FileSource, select: Callable[[], Selection]) -> None:
        self.source = source
        self._select = select

    @functools.cached_property
    def selection(self) -> Selection:
        """Which files. Raises ContextError."""
        return rootless.as_owner(self._select)

    @property
    def has_identity(self) -> bool:
        """Say whether the source as a whole has a name that says what is in it."""
        return isinstance(self.source, LayerSource)

    def parts(self) -> tuple[tuple[FileSource, Selection], ...]:
        """Give the files, and where they come from."""
        return ((self.source, self.selection),)

    def identity(self) -> str:
        """Return what tells what is copied: the layers, else the content of the files themselves."""
        return " ".join(self.source.layers) if isinstance(self.source, LayerSource) else self.content()

    def outline(self) -> str:
        """Return what can be said of the files before they are read."""
        return self.selection.outline()

    def content(self) -> str:
        """Return what tells the files that are copied, and where to."""
        return self._content

    @functools.cached_property
    def _content(self) -> str:
        chosen = self.selection
        digest = self.source.reading(lambda: self.source.digest((*chosen.entries, *chosen.archives)))
        return digest + chosen.directory


def copying_of(around: Surroundings, work: StageWork, step: CopyStep, view: LayerView) -> Copying | Gathered:
    """Return what a step of a stage takes; ``view`` is what it stands on. Raises ContextError, SpecError."""
    place = Place(
        is_directory=lambda path: rootless.as_owner(view.is_directory, path),
        target=lambda path: rootless.as_owner(_target, view, path),
    )
    if step.source is None:
        chosen = owner(step.chown, view) if step.chown else (0, 0)
        room = Room(around.engine, around.lease, agent=around.request.agents.get(DEFAULT))
        return gather(room, around.context, step, chosen, place)
    source = around.sources.get(work.sources.get(step.source, work.stage.parent))
    owner_else = None if isinstance(source, LayerSource) else (0, 0)  # in layers files have owners, outside none
    select = functools.partial(
        source.select,
        step.sources,
        step.destination,
        step.workdir,
        owner=owner(step.chown, view) if step.chown else owner_else,
        mode=step.chmod,
        unpack=step.unpack,
        excludes=step.excludes,
        documents=step.documents,
        parents=step.parents,
        is_directory=view.is_directory,
        target=functools.partial(_target, view),
    )
    return Copying(source, select)


def _target(view: LayerView, path: str) -> str:
    """Return where a file goes that is copied onto a link."""
    return view.place(path) if view.is_directory(posixpath.dirname(path)) else path


# -- bringing it in --------------------------------------------------------------------------------------------------


def copy_into(tree: Tree, parts: Sequence[tuple[FileSource, Selection]], scaffold: str) -> None:
    """Copy files into a root file system. Raises ContextError, SpawnError."""
    # What was mounted as volatile once cannot be mounted again (overlayfs.rst, "Volatile mount").
    parts = [part for part in parts if part[1].directory]
    tree = evolve(tree, volatile=len(parts) == 1 and not parts[0][1].archives)
    for source, selection in parts:
        _copy_part(tree, source, selection, scaffold)


def _copy_part(tree: Tree, source: FileSource, selection: Selection, scaffold: str) -> None:
    unpack = functools.partial(
        transfer.unpack, scaffold=scaffold, tree=tree, destination=selection.directory, owner=selection.owner
    )
    if selection.entries or not selection.archives:

        def feed(out: BinaryIO) -> None:
            source.reading(lambda: source.write_tar(selection.entries, out, hashing=True))

        unpack(feed, subject=selection.directory, flags=p.UNPACK_CREATE)
    for entry in selection.archives:
        _add_archive(unpack, source, entry)


def _add_archive(unpack: Callable[..., None], source: FileSource, entry: Entry) -> None:
    try:
        with source.open_archive(entry) as archive:
            feed = functools.partial(transfer.copy, cast("BinaryIO", archive))
            flags = p.UNPACK_CREATE | p.UNPACK_KEEP_TOP | p.UNPACK_REPLACE
            unpack(feed, subject=entry.source, flags=flags)
    except StoreError as error:  # of the decompression
        raise ContextError(entry.source, error.reason) from error
