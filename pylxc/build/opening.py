"""Opens a build context wherever it is: a directory, a tar stream, a URL, a repository, or nothing but a Dockerfile.

Invariant: what comes from elsewhere lies in the store's staging, confined and bounded, and is gone when the block is
left; a Dockerfile there is looked for inside it, never beside it.

Source: Docker documentation, "Build context".
"""

from __future__ import annotations

import os
import posixpath
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from pylxc.build.archives import BLOCK, Borrowed, decompressed, form_of, is_archive_block
from pylxc.build.confined import ConfinedTree, ContextError
from pylxc.build.context import LARGEST_DOCKERFILE, Context
from pylxc.build.gathering import Room
from pylxc.build.repository import Repository
from pylxc.build.urls import is_url, shown
from pylxc.errors import DockerfileError, SpawnError, SpecError, StoreError
from pylxc.runtime import transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.engine import Engine

    Source = str | os.PathLike[str] | IO[bytes]

STREAM = "-"  # what a stream is called, as on the command line
_GITHUB = "github.com/"  # docker takes it for a repository without more


def is_remote(context: str) -> bool:
    """Say whether a text names a context that is not on this machine."""
    return not os.path.isdir(context) and (_repository(context) is not None or is_url(context))  # noqa: PTH112


@contextmanager
def opened(engine: Engine | None, context: Source, dockerfile: Source = "Dockerfile") -> Iterator[Context]:
    """Give a context for the length of a block. ``dockerfile`` is a path in it, an absolute one, or a stream of text.

    Raises :class:`~pylxc.errors.SpecError` and :class:`~pylxc.errors.DockerfileError`.
    """
    text = None if isinstance(dockerfile, (str, os.PathLike)) else _text(dockerfile)
    name = os.fspath(dockerfile) if isinstance(dockerfile, (str, os.PathLike)) else STREAM
    if isinstance(context, os.PathLike) or (isinstance(context, str) and not is_remote(context)):
        yield Context.open(context, name, text)
        return
    if engine is None:
        raise SpecError("context", _called(context), "it has to be fetched or unpacked: give the engine to do it with")
    if not posixpath.isabs(name) and posixpath.normpath(name).startswith(".."):
        reason = "it leads out of the context: name a file in it, or give an absolute path"
        raise DockerfileError(reason, line=1, column=1, path=name)
    with _brought(engine, context, "context") as (root, found):
        if found is not None and text is not None:
            reason = "it is a Dockerfile, and another one is given: give one of them"
            raise SpecError("context", _called(context), reason)
        yield Context.open(root, STREAM if found is not None else name, text if found is None else found)


@contextmanager
def fetched(engine: Engine, url: str) -> Iterator[str]:
    """Give a directory with the files of a named context that is elsewhere, for the length of a block.

    Raises :class:`~pylxc.errors.SpecError`.
    """
    with _brought(engine, url, "contexts") as (root, dockerfile):
        if dockerfile is not None:
            raise SpecError("contexts", _called(url), "it is neither a tar archive nor a repository: it has no files")
        yield root


@contextmanager
def _brought(engine: Engine, context: str | IO[bytes], option: str) -> Iterator[tuple[str, bytes | None]]:
    """Give what :meth:`_Place.stream` returns, of a URL or of a stream."""
    with engine.store.leases.take() as lease:
        # The caller names this repository, so it is the caller's keys that open it.
        place = _Place(Room(engine, lease, agent=os.environ.get("SSH_AUTH_SOCK", "")), _called(context))
        with _explained(place, option):
            found = place.repository(context) if isinstance(context, str) else place.stream(context)
        yield found


class _Place:
    """A context on its way here. ``name`` is what errors call it."""

    def __init__(self, room: Room, name: str) -> None:
        self.name = name
        self._room = room

    def repository(self, context: str) -> tuple[str, bytes | None]:
        """Fetch what a URL names; returns as :meth:`stream` does."""
        source = _repository(context)
        if source is None:
            return self._fetched(context)
        top = self._room.checkout(source, self._room.git().resolve(source))
        with ConfinedTree(top) as tree:
            try:
                return posixpath.join(top, tree.resolve(source.subdir)), None
            except OSError as error:
                raise ContextError(self.name, f"has no directory {source.subdir!r}: {error.strerror}") from error

    def _fetched(self, url: str) -> tuple[str, bytes | None]:
        from pylxc.build.fetch import fetch  # noqa: PLC0415  loads urllib3

        path = f"{self._room.lease.stage()}/file"
        fetch(url, path)
        with open(path, "rb") as stream:  # noqa: PTH123
            return self.stream(stream)

    def stream(self, stream: IO[bytes]) -> tuple[str, bytes | None]:
        """Unpack an archive, or read a Dockerfile; returns the directory, and the Dockerfile where it was one."""
        top = f"{self._room.lease.stage()}/tree"
        os.mkdir(top, 0o755)  # noqa: PTH102
        head = _read(stream, BLOCK)
        if not head:
            raise ContextError(self.name, "is empty: give a tar archive, or the text of a Dockerfile")
        if not form_of(head) and not is_archive_block(head):
            return top, _text(stream, head)
        archive = decompressed(cast("IO[bytes]", Borrowed(stream, head)), self.name)
        self._room.unpack(top, "", lambda out: transfer.copy(cast("BinaryIO", archive), out), self.name)
        return top, None


@contextmanager
def _explained(place: _Place, option: str) -> Iterator[None]:
    """Make one kind of failure of whatever keeps a context from coming."""
    from pylxc.build.imports import unpacking_error  # noqa: PLC0415

    try:
        yield
    except SpawnError as error:
        raise SpecError(option, place.name, unpacking_error(error).reason) from error
    except ContextError as error:
        words = error.reason if error.path == place.name else str(error)
        raise SpecError(option, place.name, words) from error
    except StoreError as error:  # of the decompression
        if error.path != place.name:
            raise
        raise SpecError(option, place.name, error.reason) from error


def _repository(text: str) -> Repository | None:
    try:
        return Repository.of(f"https://{text}", unmarked=True) if text.startswith(_GITHUB) else Repository.of(text)
    except ContextError as error:
        raise SpecError("context", error.path, error.reason) from None


def _called(context: Source) -> str:
    return shown(context) if isinstance(context, str) else STREAM


def _read(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes of a stream, fewer at its end. One of text will do, too."""
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more if isinstance(more, bytes) else cast("str", more).encode()
    return data


def _text(stream: IO[bytes], head: bytes = b"") -> bytes:
    """Read the text of a Dockerfile to its end; ``head`` is what was read of it before."""
    data = head + _read(stream, LARGEST_DOCKERFILE + 1)
    if len(data) > LARGEST_DOCKERFILE:
        reason = f"neither a tar archive nor a Dockerfile: larger than {LARGEST_DOCKERFILE} bytes"
        raise DockerfileError(reason, line=1, column=1, path=STREAM)
    return data
