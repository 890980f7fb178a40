"""What a RUN has mounted: carried out for one step at a time.

Hides how each kind comes about. Invariant: nothing that a step writes to a bind mount or a tmpfs outlives the step; a
path that somebody else made, in the context, in an image or in a cache, is looked up within that, so no link leads out
of it; a secret is written to memory of the step's own, and nowhere else.

Use: ``shown = mounts.shown(step, sources)`` says what the step sees, and ``content_of(shown)`` what of it the cache
must know; ``with mounts.made(step, shown, view, check) as made`` gives what to start the step with.

Source: Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from pylxc.build.confined import ContextError, readable
from pylxc.build.selection import Collector, Selection, matches
from pylxc.build.sources import LayerSource
from pylxc.layerview import LayerView
from pylxc.runtime import plan as p
from pylxc.runtime import transfer
from pylxc.runtime.plan import MountAttribute as Attr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from pylxc.build.agents import Agents
    from pylxc.build.context import FileSource
    from pylxc.build.mountflag import RunMount
    from pylxc.build.secrets import Secrets
    from pylxc.build.sources import Sources
    from pylxc.build.stages import Origin
    from pylxc.build.steps import RunStep
    from pylxc.engine import Engine
    from pylxc.store import Lease
    from pylxc.store.cachemounts import CacheUse

_SECRET_MODE = 0o400
_SOCKET_MODE = 0o600
_SCRIPT_MODE = 0o755
_MOST_PIECES = p.STRINGS_LIMIT - 1  # of a file, between its NUL bytes


@frozen
class Part:
    """A part of a context: ``selection.directory`` is its path in a directory that holds the selection only."""

    source: FileSource
    selection: Selection
    digest: str
    mode: int

    @property
    def identity(self) -> str:
        """What tells it from others, wherever it comes from."""
        return f"{self.digest} {self.mode:o} {self.selection.directory}"


@frozen
class Shown:
    """What one mount takes its content from: a part of a context, or layers. Neither: nothing."""

    mount: RunMount
    part: Part | None = None
    layers: tuple[str, ...] | None = None


@frozen
class Made:
    """What a step is started with: operations, variables that nobody else is to see, a descriptor to keep or -1."""

    plan: p.Plan
    env: Mapping[str, str] = field(repr=False)
    keeper: int = -1


def content_of(shown: Sequence[Shown]) -> str:
    """Return what the result of a step depends on, of what it has mounted, apart from its definition."""
    parts = (one.part.identity if one.part else one.layers for one in shown)
    return "".join(f" {number}:{part}" for number, part in enumerate(parts) if part is not None)


class RunMounts:
    """Carries out the mounts of a build's RUN steps. Threads may ask at once."""

    def __init__(  # noqa: PLR0913, PLR0917  where mounts come from
        self, engine: Engine, lease: Lease, context: FileSource, sources: Sources, secrets: Secrets, agents: Agents
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._context = context
        self._sources = sources
        self._secrets = secrets
        self._agents = agents
        self._lock = threading.Lock()
        self._parts: dict[tuple[str, str], Part] = {}
        self._directories: dict[str, str] = {}

    def shown(self, step: RunStep, sources: Mapping[str, Origin]) -> tuple[Shown, ...]:
        """Find what the step's mounts show, ``sources`` being what the names after ``from=`` mean.

        Waits for the stages among these. Raises :class:`ContextError`.
        """
        return tuple(self._show(mount, sources) for mount in step.mounts)

    def _show(self, mount: RunMount, sources: Mapping[str, Origin]) -> Shown:
        if mount.type != "bind" and not (mount.type == "cache" and mount.stage):
            return Shown(mount)
        source = self._sources.get(sources[mount.stage]) if mount.stage else self._context
        if isinstance(source, LayerSource):
            return Shown(mount, layers=source.layers)
        return Shown(mount, part=self._part(source, mount.source))

    @contextmanager
    def made(
        self, step: RunStep, shown: Sequence[Shown], view: LayerView, check: Callable[[], object]
    ) -> Iterator[Made]:
        """Let a block start the step on the image of a view.

        Waits for caches that others have locked, and calls ``check`` meanwhile. Raises :class:`ContextError`,
        StoreError, and what ``check`` raises.
        """
        shown = [_placed(one, view) for one in shown]
        plan = p.Plan()
        env: dict[str, str] = {}
        with ExitStack() as stack:
            cached = [one for one in shown if one.mount.type == "cache"]
            uses = [self._cache_use(one) for one in cached]
            directories, keeper = stack.enter_context(self._engine.store.cachemounts.using(uses, check))
            caches = dict(zip(map(id, cached), directories, strict=True))
            for number, one in enumerate(sorted(shown, key=lambda one: one.mount.target.count("/"))):
                mount = one.mount
                if mount.type == "bind":
                    self._bind(plan, one, f"part{number}")
                elif mount.type == "cache":
                    self._bind_own(plan, mount, caches[id(one)])
                elif mount.type == "tmpfs":
                    _add_tmpfs(plan, mount)
                elif mount.type == "secret":
                    self._add_secret(plan, env, mount)
                else:
                    self._add_agent(plan, env, mount, step, stack)
            if step.script is not None:
                path, text = step.script
                _add_file(plan, path, text.encode("utf-8", "surrogateescape"), _SCRIPT_MODE, "the here-document")
            yield Made(plan, env, keeper)

    # -- bind -------------------------------------------------------------------------------------------------------

    def _part(self, source: FileSource, path: str) -> Part:
        """Find a part of a context. It is looked at once in a build."""
        key = (source.root, path)
        with self._lock:
            if key not in self._parts:
                selection, mode = _select(source, path)
                self._parts[key] = Part(source, selection, source.digest(selection.entries), mode)
            return self._parts[key]

    def _bind(self, plan: p.Plan, one: Shown, name: str) -> None:
        """Mount a view of the content, which can be written to only where the writes are thrown away."""
        from pylxc.runtime import isolation  # noqa: PLC0415  a step that is cached mounts nothing

        mount = one.mount
        if one.part is not None:
            source = one.part.selection.directory
            lowers: tuple[str, ...] = (self._directory(one.part),)
        else:
            source, lowers = mount.source, self._lowers(mount, one.layers or ())
        if not lowers:
            lowers = (self._lease.stage(),)
        tree = evolve(self._engine.tree_of((), "", ""), lowers=lowers)
        if not mount.read_only:
            staged = self._lease.stage()
            tree = evolve(tree, upper=f"{staged}/tree", work=f"{staged}/work")
            isolation.prepare_upper(tree)
        isolation.add_view(plan, tree, name)
        flags = Attr.NODEV | (Attr.RDONLY if mount.read_only else 0)
        plan.add(p.BIND, source, mount.target, name, flags=flags, a=p.MAKE_LIKE_SOURCE, subject=_words(mount))

    def _lowers(self, mount: RunMount, layers: tuple[str, ...]) -> tuple[str, ...]:
        lowers, passthrough = self._engine.lowers(layers)
        if passthrough:
            path = LayerView(lowers, passthrough).resolve(mount.source)
            if path is None or path == "/" or any(f"{path}/".startswith(f"{host}/") for host in passthrough):
                reason = "what this machine has itself cannot be mounted; name a directory that the image brings"
                raise ContextError(f"from={mount.stage},source={mount.source}", reason)
        return lowers

    def _directory(self, part: Part) -> str:
        """Return a directory that holds a copy of a part of a context; the copy is made once."""
        key = part.identity
        with self._lock:
            if key not in self._directories:
                directory = f"{self._lease.stage()}/tree"
                os.mkdir(directory)  # noqa: PTH102
                os.chmod(directory, part.mode)  # noqa: PTH101  whatever the caller's umask
                self._copy_part(part, directory)
                self._directories[key] = directory
            return self._directories[key]

    def _copy_part(self, part: Part, directory: str) -> None:
        def feed(out: BinaryIO) -> None:
            part.source.write_tar(part.selection.entries, out)

        transfer.unpack(feed, scaffold=self._engine.scaffold, directory=directory, subject="the context")

    # -- cache ------------------------------------------------------------------------------------------------------

    def _cache_use(self, one: Shown) -> CacheUse:
        """Say which cache a mount wants: those that begin differently are different, as in BuildKit."""
        from pylxc.store.cachemounts import CacheUse  # noqa: PLC0415  only for caches

        mount = one.mount
        owner = (mount.uid, mount.gid, mount.mode)
        identity = mount.id
        identity += "" if owner == (None, None, None) else f"\0owner={owner}"
        identity += f"\0from={(*one.layers, mount.source)}" if one.layers else ""
        identity += f"\0from={one.part.identity}" if one.part else ""

        def fill(directory: str) -> None:
            if one.part is not None:
                self._copy_part(one.part, directory)
            else:
                self._copy(mount, one.layers or (), directory)

        mode = 0o755 if mount.mode is None else mount.mode
        fields = {"uid": mount.uid or 0, "gid": mount.gid or 0, "mode": mode}
        return CacheUse(
            identity=identity, sharing=mount.sharing, fill=fill if one.layers or one.part else None, **fields
        )

    def _copy(self, mount: RunMount, layers: tuple[str, ...], directory: str) -> None:
        """Copy a directory of a root into a new cache."""
        tree = self._engine.tree_of(layers, "", "")
        scaffold = self._engine.scaffold

        def feed(out: BinaryIO) -> None:
            transfer.copy(stream, out)

        with transfer.packed("", scaffold=scaffold, tree=tree, flags=0, path=mount.source) as stream:
            transfer.unpack(feed, scaffold=scaffold, directory=directory, subject=_words(mount))

    def _bind_own(self, plan: p.Plan, mount: RunMount, path: str, attributes: int = 0) -> None:
        """Mount something of the store's own."""
        from pylxc.runtime.isolation import Tree  # noqa: PLC0415  a step that is cached mounts nothing

        source = Tree(lowers=(), scaffold=self._engine.scaffold).inside(path)
        flags = Attr.NODEV | attributes | (Attr.RDONLY if mount.read_only else 0)
        plan.add(p.BIND, source, mount.target, flags=flags, a=p.MAKE_LIKE_SOURCE, subject=_words(mount))

    # -- secret, ssh ------------------------------------------------------------------------------------------------

    def _add_secret(self, plan: p.Plan, env: dict[str, str], mount: RunMount) -> None:
        value = self._secrets.get(mount.id)
        if value is None:
            _pass_over(mount, f'secrets={{"{mount.id}": ...}}', f"--secret id={mount.id},src=FILE")
            return
        if mount.env:
            if b"\0" in value:
                raise ContextError(f"secret {mount.id}", "it holds a NUL byte, so it cannot be a variable; use target=")
            env[mount.env] = value.decode("utf-8", "surrogateescape")
        if mount.target:
            mode = _SECRET_MODE if mount.mode is None else mount.mode
            _add_file(plan, mount.target, value, mode, _words(mount), mount.uid or 0, mount.gid or 0)

    def _add_agent(self, plan: p.Plan, env: dict[str, str], mount: RunMount, step: RunStep, stack: ExitStack) -> None:
        from pylxc.build.relay import forwarded  # noqa: PLC0415  few steps have an agent

        agent = self._agents.get(mount.id)
        if agent is None:
            _pass_over(mount, f'ssh="{mount.id}"', f"--ssh {mount.id}")
            return
        mode = _SOCKET_MODE if mount.mode is None else mount.mode
        owner = {"uid": mount.uid or 0, "gid": mount.gid or 0}
        path = stack.enter_context(forwarded(agent, self._lease.stage(), mode=mode, **owner))
        self._bind_own(plan, mount, path, Attr.NOSUID | Attr.NOEXEC)
        if "SSH_AUTH_SOCK" not in step.env:
            env.setdefault("SSH_AUTH_SOCK", mount.target)


def _placed(one: Shown, view: LayerView) -> Shown:
    """Put a mount where its target leads in the image; a link to nothing is followed, too, as in BuildKit."""
    target = one.mount.target
    return evolve(one, mount=evolve(one.mount, target=target and view.place(target)))


def _select(context: FileSource, source: str) -> tuple[Selection, int]:
    """Find what a path of a context holds, and the mode of a directory that stands for it."""
    collector = Collector(context.ignore, (0, 0), None)
    literal = re.sub(r"([*?\[\\])", r"\\\1", source)  # a mount's source has no wildcards
    with readable(context.root), context.tree() as tree:
        try:
            found = matches(tree, context.ignore, literal)
        except ContextError as error:
            raise ContextError(source, error.reason) from None
        if not found:
            raise ContextError(source, f"no file in {tree.called} matches")
        path = found[0][1]
        if collector.add_contents(tree, path):
            mode = stat.S_IMODE(tree.lstat(path).st_mode) if path else 0o755
            return Selection(collector.sorted(), "/"), mode
        name = posixpath.basename(path)
        collector.add(tree, name, path)
    return Selection(collector.sorted(), f"/{name}"), 0o755


def _add_tmpfs(plan: p.Plan, mount: RunMount) -> None:
    size = "" if mount.size is None else f",size={mount.size}"
    flags = Attr.NOSUID | Attr.NODEV | (Attr.RDONLY if mount.read_only else 0)
    plan.add(p.MOUNT, "tmpfs", mount.target, f"mode=1777{size}", flags=flags, a=p.MAKE_DIRECTORY, subject=_words(mount))


def _add_file(  # noqa: PLR0913, PLR0917  what a file is made of
    plan: p.Plan, path: str, content: bytes, mode: int, words: str, uid: int = 0, gid: int = 0
) -> None:
    pieces = content.split(b"\0")
    if len(pieces) > _MOST_PIECES:
        raise ContextError(words, f"it holds more than {_MOST_PIECES - 1} NUL bytes")
    attributes = Attr.RDONLY | Attr.NOSUID | Attr.NODEV
    flags = (mode & 0o7777) | attributes << p.FILE_ATTRIBUTES
    plan.add(p.FILE, path, *pieces, flags=flags, a=uid, b=gid, subject=words)


def _pass_over(mount: RunMount, option: str, flag: str) -> None:
    """Leave out what the caller did not give; raise :class:`ContextError` where the step requires it."""
    if mount.required:
        remedy = f"give {option} (on the command line: {flag})"
        raise ContextError(f"{mount.type} {mount.id}", f"it is required, and was not given: {remedy}")


def _words(mount: RunMount) -> str:
    name = mount.id or ",".join(filter(None, (mount.stage and f"from={mount.stage}", mount.source)))
    return f"--mount=type={mount.type} {name} on {mount.target}".replace("  ", " ")
