"""What happens to the containers of a store, whoever made it happen: :func:`events`.

Invariant: the log holds what its writers knew; what they did not, a container's name and image, is put to it here, from
the event of its creation or from the store. (The module is not called ``events``: the function of that name is what
``pylxc.events`` means.)
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import frozen

from pylxc.defaults import engine_of
from pylxc.errors import ContainerNotFound, SpecError
from pylxc.runtime.watching import Watch
from pylxc.scoped import Scoped
from pylxc.store.layout import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pylxc.engine import Engine
    from pylxc.store.eventlog import EventReader

Kind = Literal["created", "started", "died", "oom", "health", "paused", "unpaused", "removed", "restarting"]
Health = Literal["starting", "healthy", "unhealthy"]
LONGEST = 86400.0  # s of one wait: poll(2) counts milliseconds in an int
_KINDS = frozenset(get_args(Kind))


@frozen(kw_only=True)
class Event:
    """Something that happened to a container.

    ``kind`` is "created", "started", "died" (its main process ended), "oom" (the kernel killed one of its processes for
    want of memory), "health" (what its health check says is another than before), "paused", "unpaused", "restarting"
    (it died, and its restart policy starts it again after a while) or "removed".
    ``container`` is its id, ``name`` and ``image`` what it was made as ("" where nobody knows any more), ``time`` in
    seconds since the epoch. None where it does not apply: ``pid`` (on the host, of "started"), ``exit_code`` (of
    "died", 128 + n for signal n), ``signal`` (that ended it), ``health`` ("starting", "healthy" or "unhealthy").

    Example:
        >>> [event.exit_code for event in pylxc.events() if event.kind == "died"]   # doctest: +SKIP
        [0, 137]

    """

    kind: Kind
    container: str
    name: str
    image: str
    time: float
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    health: Health | None = None


def events(
    follow: bool = False,  # noqa: FBT001, FBT002  as in Container.logs
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, str | Sequence[str]] | None = None,
    *,
    engine: Engine | None = None,
) -> EventStream:
    """Return an iterator of what happened to the containers of a store, whichever process did it.

    Args:
        follow: go on with what happens from now on, until it is closed or ``until`` has come. Without ``since`` only
            that; otherwise, and without ``follow``, what was recorded comes first.
        since: only events from that time on (s since the epoch).
        until: only events up to that time.
        filters: ``{"container": a name or the beginning of an id, "kind": "died", "image": a reference}``; of several
            values for one, any will do. ``"event"`` is docker's word for "kind".
        engine: the store (default: ``Engine.default()``).

    Of one container, "created" comes before "started", that before "died", and "removed" last. The store keeps the last
    1 to 2 MiB of events, some 10,000. Recording is best effort: nothing waits for it or fails for it, so an event is
    lost when the disk is full, and that of a process that is killed at that very moment. One whose monitor was killed
    has no "died".

    Raises SpecError for a filter that does not exist; StoreError; UnsupportedError when the kernel's limits of inotify
    are reached (``follow``).

    Example:
        >>> with pylxc.events(follow=True, filters={"kind": "died"}) as stream:     # doctest: +SKIP
        ...     for event in stream:
        ...         print(event.name, event.exit_code)

    """
    return EventStream(engine_of(engine), follow=follow, since=since, until=until, filters=filters or {})


class EventStream(Scoped):
    """The events that :func:`pylxc.events` gives: an iterator, and a context manager that closes it.

    It may be closed by another thread than the one that waits for an event, which then comes to its end. An event loop
    waits for ``fileno()`` to become readable (only one that follows has it) and calls :meth:`take`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        follow: bool,
        since: float | None,
        until: float | None,
        filters: Mapping[str, str | Sequence[str]],
    ) -> None:
        self._reader: EventReader | None = None
        self._watch: Watch | None = None
        self._bell = -1
        self._chosen = _alternatives(filters)
        self._since, self._until = since, until
        self._store = engine.store
        self._names: dict[str, tuple[str, str]] = {}
        self._found: deque[Event] = deque()
        self._lock, self._closing = threading.RLock(), threading.RLock()
        self.ended = False
        try:
            if follow:
                self._watch = Watch()
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            with explained(self._store.layout.root):
                self._reader = self._store.events.reader(self._watch)
            if follow and since is None:  # what was before is read for the names in it
                for record in self._reader.read():
                    self._note(record)
        except BaseException:
            self._release()
            self._close_bell()
            raise

    def take(self) -> list[Event]:
        """Return the events that are there, without waiting; ``ended`` says whether there will be more."""
        with self._lock:
            self._look()
            found = list(self._found)
            self._found.clear()
        return found

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there may be more; -1 when there never is."""
        return self._watch.fileno() if self._watch is not None else -1

    def left(self) -> float:
        """Return for how long to wait before the next :meth:`take` at the most, in seconds."""
        return LONGEST if self._until is None else min(max(0.0, self._until - time.time()), LONGEST)

    def close(self) -> None:
        """End the iterator; a second time does nothing."""
        with self._closing:
            self.ended = True
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)
            with self._lock:
                self._found.clear()
                self._release()
            self._close_bell()

    def _leave(self) -> None:
        self.close()

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        with self._lock:
            while not self._found:
                if self.ended:
                    self._release()
                    raise StopIteration
                self._look()
                if not (self._found or self.ended):
                    self._wait()
            return self._found.popleft()

    def __del__(self) -> None:
        """Close what nobody closed."""
        self._release()
        self._close_bell()

    def _look(self) -> None:
        """Take what was written since the last look. Whether it is the last look is asked before it."""
        if self._reader is None:
            return
        is_last = self._watch is None or (self._until is not None and time.time() >= self._until)
        if self._watch is not None:
            self._watch.clear()
        self._found.extend(event for event in self._read() if self._passes(event))
        if is_last:
            self.ended = True

    def _wait(self) -> None:
        """Wait for more, for the time that was set, or for another thread that ends this."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        poll.poll(self.left() * 1000)

    def _release(self) -> None:
        for part in (self._reader, self._watch):
            if part is not None:
                part.close()
        self._reader = self._watch = None

    def _close_bell(self) -> None:
        """Close what :meth:`close` wakes the waiting thread with: only when nobody can ring it any more."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _read(self) -> Iterator[Event]:
        for record in self._reader.read() if self._reader is not None else ():
            if record["kind"] in _KINDS:
                yield self._complete(record)

    def _note(self, record: Mapping[str, Any]) -> None:
        """Remember the name and the image of a container while it exists."""
        if record["kind"] == "created":
            self._names[record["id"]] = (record.get("name", ""), record.get("image", ""))
        elif record["kind"] == "removed":
            self._names.pop(record["id"], None)

    def _complete(self, record: Mapping[str, Any]) -> Event:
        """Return the event that a record of the log is, with what is known of its container."""
        id, kind = record["id"], record["kind"]  # noqa: A001  docker's name
        known = self._names.get(id)
        self._note(record)
        name, image = self._names.get(id) or known or self._look_up(id)
        return Event(
            kind=kind,
            container=id,
            name=name,
            image=image,
            time=record["time_ns"] / 1e9,
            pid=record.get("pid"),
            exit_code=record.get("exit_code"),
            signal=record.get("signal") or None,
            health=record.get("health"),
        )

    def _look_up(self, id: str) -> tuple[str, str]:  # noqa: A002
        try:
            row = self._store.containers.get(id)
        except ContainerNotFound:
            return "", ""
        return self._names.setdefault(id, (row.name, json.loads(row.spec).get("image", "")))

    def _passes(self, event: Event) -> bool:
        if self._since is not None and event.time < self._since:
            return False
        if self._until is not None and event.time > self._until:
            return False
        return all(any(_FILTERS[key](event, value) for value in values) for key, values in self._chosen.items())


def _alternatives(filters: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return filter -> the values that pass. Raises SpecError for what would let nothing pass, ever."""
    chosen: dict[str, tuple[str, ...]] = {}
    for key, given in filters.items():
        if key not in _FILTERS:
            raise SpecError("filters", key, f"there are {', '.join(sorted(_FILTERS))}")
        chosen[key] = (given,) if isinstance(given, str) else tuple(given)
        unknown = set(chosen[key]) - _KINDS if key in ("kind", "event") else ()
        for value in unknown:
            raise SpecError("filters", value, f"is no kind of event; there are {', '.join(sorted(_KINDS))}")
    return chosen


_FILTERS: dict[str, Callable[[Event, str], bool]] = {
    "container": lambda event, value: value == event.name or (value != "" and event.container.startswith(value)),
    "event": lambda event, value: event.kind == value,
    "image": lambda event, value: event.image in (value, f"{value}:latest"),
    "kind": lambda event, value: event.kind == value,
}
