"""``watch``: what changes in the sources of a service is brought into its containers, as ``develop.watch`` says.

Hides what changed: the watch tells only that something did; what, is found by comparing what is there with what was.
Invariant: links are never followed out of a watched directory; a file that is half written is copied again when it is
whole, for that is a change, too.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from pylxc.compose.parts.refusals import unsupported
from pylxc.errors import Conflict, ContainerNotFound, PylxcError
from pylxc.runtime.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pylxc.compose.model import Model
    from pylxc.container import Container

_SETTLING = 0.1  # s of quiet before a burst of changes is acted upon
_MOST_FILES = 200_000
_ACTIONS = ("sync", "rebuild", "restart", "sync+restart", "sync+exec")

Seen = dict[str, tuple[int, int, int]]  # path below -> mtime (ns), size, mode


@frozen
class Synced:
    """What ``Environment.watch`` did about a change: the ``service``, the ``action`` of its rule, and the ``paths``.

    These are relative to the path that is watched. ``error``: why it failed; None: it did not.

    Example:
        >>> next(environment.watch())                                               # doctest: +SKIP
        Synced(service='web', action='sync', paths=('app.py',), error=None)

    """

    service: str
    action: str
    paths: tuple[str, ...]
    error: PylxcError | OSError | None = None


@frozen
class Rule:
    """One entry of ``develop.watch``."""

    service: str
    path: str
    action: Literal["sync", "rebuild", "restart", "sync+restart", "sync+exec"]
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    initial: bool = field(default=False)

    def is_meant(self, name: str) -> bool:
        """Say whether a path below the watched one counts."""
        if any(_matches(name, pattern) for pattern in self.ignore):
            return False
        return not self.include or any(_matches(name, pattern) for pattern in self.include)


def _matches(name: str, pattern: str) -> bool:
    """Say whether a pattern of a file means a path, or a directory that it is in."""
    wanted = pattern.strip("/").removeprefix("./")
    parts = name.split("/")
    heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    return any(fnmatch.fnmatchcase(head, wanted) for head in heads) or any(
        fnmatch.fnmatchcase(part, wanted) for part in parts
    )


def rules_of(model: Model, services: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """Return the rules of services. Raises UnsupportedError."""
    rules = []
    for name, service in services.items():
        for number, given in enumerate((service.get("develop") or {}).get("watch") or ()):
            path = f"services.{name}.develop.watch[{number}]"
            if given.get("action") not in _ACTIONS:
                raise unsupported(model, f"{path}.action: {given.get('action')}", f"give one of {', '.join(_ACTIONS)}")
            rules.append(_rule(model, name, given))
    return rules


def _rule(model: Model, name: str, given: Mapping[str, Any]) -> Rule:
    ignored = (".git", *(given.get("ignore") or ()))
    command = (given.get("exec") or {}).get("command") or ()
    return Rule(
        service=name,
        path=os.path.join(model.working_dir, given["path"]),  # noqa: PTH118
        action=given["action"],
        target=given.get("target") or "",
        ignore=tuple(ignored),
        include=tuple(given.get("include") or ()),
        command=tuple(command),
        initial=bool(given.get("initial_sync")),
    )


def look(rule: Rule) -> Seen:
    """Return the files that a rule is about, as they are now. Links are files of their own."""
    seen: Seen = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(rule.path):  # noqa: PTH112
            status = os.lstat(rule.path)
            return {"": (status.st_mtime_ns, status.st_size, status.st_mode)}
    rest = [""]
    while rest and len(seen) < _MOST_FILES:
        below = rest.pop()
        with suppress(OSError), os.scandir(os.path.join(rule.path, below)) as entries:  # noqa: PTH118
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if any(_matches(name, pattern) for pattern in rule.ignore):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    rest.append(name)
                elif rule.is_meant(name):
                    status = entry.stat(follow_symlinks=False)
                    seen[name] = (status.st_mtime_ns, status.st_size, status.st_mode)
    return seen


def _directories(rule: Rule) -> Iterator[str]:
    if not os.path.isdir(rule.path):  # noqa: PTH112
        yield os.path.dirname(rule.path)  # noqa: PTH120  an editor puts another file in its place
        return
    rest = [""]
    while rest:
        below = rest.pop()
        path = os.path.join(rule.path, below)  # noqa: PTH118
        yield path
        with suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                ignored = any(_matches(name, pattern) for pattern in rule.ignore)
                if entry.is_dir(follow_symlinks=False) and not ignored:
                    rest.append(name)


class Watcher:
    """Watches the sources of services, and does what the rules say."""

    def __init__(
        self,
        rules: list[Rule],
        containers: Callable[[str], list[Container]],
        rebuild: Callable[[str], object],
    ) -> None:
        self._rules = rules
        self._containers = containers
        self._rebuild = rebuild
        self._watch = Watch()
        self._seen: dict[int, Seen] = {}
        try:
            self._add_directories()
            self._seen = {number: look(rule) for number, rule in enumerate(rules)}
        except BaseException:
            self._watch.close()
            raise

    def fileno(self) -> int:
        """Return what becomes readable when something changes."""
        return self._watch.fileno()

    def close(self) -> None:
        """End it."""
        self._watch.close()

    def _add_directories(self) -> None:
        for rule in self._rules:
            for path in _directories(rule):
                with suppress(FileNotFoundError, NotADirectoryError):
                    self._watch.add(path)

    def initial(self) -> Iterator[Synced]:
        """Do what is to be done before anything changes (``initial_sync``)."""
        for number, rule in enumerate(self._rules):
            if rule.initial and self._seen[number]:
                yield self._act(rule, sorted(self._seen[number]), [])

    def act(self) -> Iterator[Synced]:
        """Find what has changed since the last look, and do what the rules say about it."""
        while self._watch.wait(_SETTLING):
            self._watch.clear()
        self._add_directories()
        for number, rule in enumerate(self._rules):
            now, before = look(rule), self._seen[number]
            self._seen[number] = now
            changed = sorted(name for name, state in now.items() if before.get(name) != state)
            gone = sorted(set(before) - set(now))
            if changed or gone:
                yield self._act(rule, changed, gone)

    def _act(self, rule: Rule, changed: list[str], gone: list[str]) -> Synced:
        names = tuple(sorted({*changed, *gone}))
        try:
            if rule.action == "rebuild":
                self._rebuild(rule.service)
                return Synced(rule.service, rule.action, names)
            for container in self._containers(rule.service):
                if rule.action.startswith("sync"):
                    _sync(rule, container, changed, gone)
                if rule.action.endswith("restart"):
                    container.restart()
                elif rule.action == "sync+exec" and rule.command:
                    container.exec(rule.command)
        except (PylxcError, OSError) as error:  # told: the next change may mend it
            return Synced(rule.service, rule.action, names, error)
        return Synced(rule.service, rule.action, names)


def _sync(rule: Rule, container: Container, changed: list[str], gone: list[str]) -> None:
    """Bring changed files into a container, and take away there what is gone here."""
    for name in changed:
        source = os.path.join(rule.path, name) if name else rule.path  # noqa: PTH118
        target = f"{rule.target.rstrip('/')}/{name}" if name else rule.target
        with suppress(FileNotFoundError):  # gone since the look; the next one tells
            if stat.S_ISREG(os.lstat(source).st_mode) or os.path.islink(source):  # noqa: PTH114
                _make_parent(container, target)
                container.copy_in(source, target)
    targets = [f"{rule.target.rstrip('/')}/{name}" if name else rule.target for name in gone]
    if targets:
        with suppress(Conflict, ContainerNotFound):
            container.exec(["rm", "-rf", "--", *targets])


def _make_parent(container: Container, target: str) -> None:
    parent = os.path.dirname(target) or "/"  # noqa: PTH120
    if parent != "/":
        container.exec(["mkdir", "-p", "--", parent], user="0")
