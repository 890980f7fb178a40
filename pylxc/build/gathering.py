"""What one COPY or ADD brings in, wherever it comes from: the context, the web, repositories.

Invariant: what is to be brought is known by its content before it is there: a step that is cached fetches nothing that
a server says to be unchanged, that a checksum names, or that a commit is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import posixpath
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from pylxc.build.confined import ContextError
from pylxc.build.context import FileSource, is_into_directory, refuse_several
from pylxc.build.ignore import Ignore
from pylxc.build.repository import Repository
from pylxc.build.urls import file_name, is_url, shown
from pylxc.runtime import plan as p
from pylxc.runtime import transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from pylxc.build.fetch import Download
    from pylxc.build.git import Git
    from pylxc.build.selection import Selection
    from pylxc.build.steps import CopyStep
    from pylxc.engine import Engine
    from pylxc.store import Lease

FILE_MODE = 0o600  # of what comes from a URL
UNPACKED_LIMIT = 1 << 36  # bytes of the files of one repository, or of one context


@frozen
class Room:
    """Where a build puts what it fetches: a store, and a lease of it.

    ``agent`` and ``protocols``: see :class:`~pylxc.build.git.Git`.
    """

    engine: Engine
    lease: Lease
    agent: str | None = None
    protocols: str = "http:https:ssh:git"

    def git(self) -> Git:
        """Return a git with a directory of its own."""
        from pylxc.build.git import Git  # noqa: PLC0415  only for repositories

        return Git(self.lease.stage(), agent=self.agent, protocols=self.protocols)

    def unpack(self, top: str, place: str, feed: Callable[[BinaryIO], object], subject: str = "the archive") -> None:
        """Unpack a tar stream below an own directory, as the caller's own files."""
        transfer.unpack(
            feed,
            scaffold=self.engine.scaffold,
            directory=top,
            destination=f"/{place}",
            flags=p.UNPACK_CREATE | p.UNPACK_OWNER_ROOT | p.UNPACK_NO_DEVICES,
            limit=UNPACKED_LIMIT,
            subject=subject,
        )

    def checkout(self, source: Repository, commit: str, *, keep_git: bool = False) -> str:
        """Return a directory with the files of a commit."""
        from pylxc.build.git import export  # noqa: PLC0415  only for repositories

        top = f"{self.lease.stage()}/tree"
        os.mkdir(top, 0o755)  # noqa: PTH102
        git = export(self.git, source, commit, functools.partial(self.unpack, top))
        if keep_git and not source.subdir:
            git.tidy(source, commit)
            _date(git.repository, git.time(source, commit))
            if os.path.lexists(f"{top}/.git"):
                raise ContextError(source.shown(), "has a file .git of its own, so its .git directory cannot be kept")
            os.rename(git.repository, f"{top}/.git")  # noqa: PTH104
        return top


def _date(top: str, seconds: int) -> None:
    """Give all files below a directory, and itself, one time."""
    for directory, _, files in os.walk(top):
        for name in (*files, "."):
            os.utime(posixpath.join(directory, name), (seconds, seconds), follow_symlinks=False)


@frozen
class Portion:
    """What comes from one place: ``content`` says what it is, ``open`` gives it, and where from.

    ``outline`` is less than ``content`` and sooner known: what differs in it differs.
    """

    outline: str
    content: Callable[[], str]
    open: Callable[[], tuple[FileSource, Selection]]


@frozen
class Place:
    """What is asked of the image: whether a path is a directory, and where a file goes that is copied onto a path."""

    is_directory: Callable[[str], bool]
    target: Callable[[str], str]


@frozen
class Gathered:
    """All that one step brings in."""

    portions: tuple[Portion, ...]
    has_identity = False  # there is none but what is in it

    def identity(self) -> str:
        """Return what it is: part of the key."""
        return self.content()

    def outline(self) -> str:
        """Return what can be said of it before its files are read."""
        return " ".join(portion.outline for portion in self.portions)

    def content(self) -> str:
        """Return what it is: part of the key."""
        return " ".join(portion.content() for portion in self.portions)

    def parts(self) -> tuple[tuple[FileSource, Selection], ...]:
        """Give the files, and where they come from: what is elsewhere is fetched."""
        return tuple(portion.open() for portion in self.portions)


def gather(
    room: Room,
    context: FileSource,
    step: CopyStep,
    owner: tuple[int, int],
    place: Place,
) -> Gathered:
    """Find what a step brings in. Raises :class:`ContextError`."""
    surroundings = _Surroundings(room, context, step, owner, place)
    into_directory = is_into_directory(step.destination, step.workdir, place.is_directory)
    refuse_several(len(step.sources) + len(step.documents), step.destination)
    portions: list[Portion] = []
    local: list[str] = []
    for source in step.sources:
        repository = Repository.of(source) if step.fetches else None
        if repository is None and not (step.fetches and is_url(source)):
            local.append(source)
            continue
        if local:
            portions.append(surroundings.of_context(local))
            local = []
        if repository is not None:
            portions.append(surroundings.of_repository(repository))
        else:
            portions.append(surroundings.of_url(source, into_directory=into_directory))
    if local or step.documents or not portions:
        portions.append(surroundings.of_context(local, step.documents))
    return Gathered(tuple(portions))


@frozen
class _Surroundings:
    room: Room
    context: FileSource
    step: CopyStep
    owner: tuple[int, int]
    place: Place

    def select(self, context: FileSource, sources: Sequence[str], **more: Any) -> Selection:
        step = self.step
        return context.select(
            sources, step.destination, step.workdir, owner=self.owner, mode=step.chmod, excludes=step.excludes,
            is_directory=self.place.is_directory, target=self.place.target, **more,
        )  # fmt: skip

    def of_context(self, sources: Sequence[str], documents: Sequence[tuple[str, str]] = ()) -> Portion:
        step = self.step
        found = self.select(
            self.context, sources, unpack=step.unpack, documents=documents, parents=step.parents,
        )  # fmt: skip
        memory = _Memory(self.room, self.context)
        memory.load()

        @functools.cache
        def content() -> str:
            digest = self.context.digest((*found.entries, *found.archives))
            memory.keep()
            return digest + found.directory

        return Portion(found.outline(), content, lambda: (self.context, found))

    def of_repository(self, source: Repository) -> Portion:
        step = self.step
        commit = self.room.git().resolve(source)
        if step.checksum and not commit.startswith(step.checksum.lower()):
            reason = f"{source.ref or 'HEAD'} is the commit {commit}, not {step.checksum} as --checksum says"
            raise ContextError(source.shown(), reason)

        def opened() -> tuple[FileSource, Selection]:
            tree = FileSource(self.room.checkout(source, commit, keep_git=step.keep_git_dir), Ignore())
            return tree, self.select(tree, [source.subdir or "."])

        facts = self._facts("git", commit, source.subdir, keep=step.keep_git_dir)
        return Portion(facts, lambda: facts, opened)

    def of_url(self, url: str, *, into_directory: bool) -> Portion:
        step = self.step
        name = file_name(url)
        if into_directory and not name:
            reason = f"the URL names no file: write the file's name after {step.destination!r}"
            raise ContextError(shown(url), reason)
        file = _WebFile(self.room, url, f"{self.room.lease.stage()}/{name or 'file'}", step.checksum)
        digest = file.digest()

        def opened() -> tuple[FileSource, Selection]:
            directory, name = posixpath.split(file.bring(digest))
            tree = FileSource(directory, Ignore())
            return tree, self.select(tree, [_literal(name)], unpack=step.unpack_remote)

        facts = self._facts("web", digest, name if into_directory else "")
        return Portion(facts, lambda: facts, opened)

    def _facts(self, *words: str, keep: bool = False) -> str:
        """Return what the result depends on beside the step's definition."""
        into = is_into_directory(self.step.destination, self.step.workdir, self.place.is_directory)
        return json.dumps([*words, *self.owner, into, keep])


class _Memory:
    """Lets the files of a context that are the same as in the build before not be read again."""

    def __init__(self, room: Room, context: FileSource) -> None:
        self._cache, self._hashes = room.engine.store.cache, context.hashes
        self._name = f"hashes:{hashlib.sha256(os.fsencode(context.root)).hexdigest()}"

    def load(self) -> None:
        if not self._hashes.is_loaded:
            self._hashes.load(self._cache.recall(self._name))

    def keep(self) -> None:
        text = self._hashes.dump()
        if text is not None:
            self._cache.remember(self._name, text)


def _literal(name: str) -> str:
    """Return a pattern that matches one name."""
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in name)


class _WebFile:
    """A URL's file, fetched when it has to be."""

    def __init__(self, room: Room, url: str, path: str, checksum: str) -> None:
        self._cache = room.engine.store.cache
        self._url = url
        self._path = path
        self._checksum = checksum
        self._mtime: int | None = None  # known once the file is there
        # Not the URL itself, which may have a password in it.
        self._name = f"url:{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def digest(self) -> str:
        """Return the file's SHA-256; asks the server, unless the checksum says it."""
        if self._checksum.startswith("sha256:"):
            return self._checksum
        from pylxc.build import fetch  # noqa: PLC0415  loads urllib3

        text = None if self._checksum else self._cache.recall(self._name)
        known = fetch.Memory(**json.loads(text)) if text is not None else None
        came = fetch.fetch(self._url, self._path, known=known, checksum=self._checksum)
        if came is None and known is not None:
            return known.digest
        return self._keep(came)

    def bring(self, digest: str) -> str:
        """Return the path of the file, which is to have this SHA-256."""
        if self._mtime is None:
            from pylxc.build import fetch  # noqa: PLC0415  loads urllib3

            self._keep(fetch.fetch(self._url, self._path, checksum=digest))
        mtime = self._mtime or 0
        os.chmod(self._path, FILE_MODE)  # noqa: PTH101
        os.utime(self._path, (mtime, mtime))
        return self._path

    def _keep(self, came: Download | None) -> str:
        if came is None:  # an answer to a question that was not asked
            raise ContextError(shown(self._url), "answers that nothing has changed, unasked")
        self._mtime = came.mtime
        if came.memory.etag or came.memory.modified:
            self._cache.remember(self._name, json.dumps(asdict(came.memory)))
        return came.digest
