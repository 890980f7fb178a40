"""What a transfer shows while it goes on: bars on a terminal, elsewhere a line for each thing that happens.

Hides where it is shown, and docker's words for it. Invariant: progress goes to standard error, and costs the transfer
nothing but to keep a few numbers; with ``quiet`` nothing is shown at all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from attrs import define, evolve, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pylxc

# What has happened to a layer -> how docker calls it.
PULL = {
    "waiting": "Waiting",
    "present": "Already exists",
    "downloading": "Downloading",
    "downloaded": "Download complete",
    "unpacked": "Pull complete",
    "retrying": "Retrying",
}
PUSH = {
    "waiting": "Waiting",
    "packing": "Preparing",
    "uploading": "Pushing",
    "uploaded": "Pushed",
    "mounted": "Mounted",
    "present": "Layer already exists",
    "retrying": "Retrying",
}
_MOVING = frozenset({"packing", "downloading", "uploading", "retrying"})
_DONE = frozenset({"present", "unpacked", "uploaded", "mounted"})
_TRANSFERRED = frozenset({"downloading", "downloaded", "uploading", "uploaded", "retrying"})
# Where nothing is drawn over, docker says only that a layer will come, and that it has gone.
_PLAIN = {"waiting": "", "downloading": "Pulling fs layer", "uploading": ""}
_SHORT_ID = 12


@define
class Part:
    """A layer: its short id, and what was last heard of it, in docker's words too.

    ``retold``: how many bytes there were when a retry was told of, -1 before.
    """

    name: str
    what: str
    word: str
    done: int
    total: int
    retold: int = -1

    def is_done(self) -> bool:
        """Say whether nothing more is to be heard of it."""
        return self.what in _DONE

    def is_moving(self) -> bool:
        """Say whether it is on its way."""
        return self.what in _MOVING

    def bytes_done(self) -> int:
        """Return how much of it is where it is to be."""
        return self.done if self.is_moving() or self.what == "waiting" else self.total


@define
class Ledger:
    """What is known of all layers, in the order in which they were first heard of. Threads may share it.

    ``heard`` counts the events.
    """

    words: Mapping[str, str]
    heard: int = 0
    _moved: int = 0
    _began: float = field(factory=time.monotonic)
    _parts: dict[str, Part] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def enter(self, event: pylxc.Progress) -> bool:
        """Take an event in; say whether it is more than another number of bytes, or than a retry like the last one."""
        word = self.words[event.what]
        with self._lock:
            part = self._parts.get(event.digest)
            if part is None:
                name = event.digest.rpartition(":")[2][:_SHORT_ID]
                part = self._parts[event.digest] = Part(name, "", word, 0, 0)
            if event.what in _TRANSFERRED:
                self._moved += max(0, event.done - part.done)
            self.heard += 1
            goes_on = event.what in _MOVING and part.what in {event.what, "retrying"}
            part.what, part.word, part.done, part.total = event.what, word, event.done, event.total
            if event.what != "retrying":
                return not goes_on
            gets_on = part.retold < 0 or event.done - part.retold >= max(event.total // 100, 1)
            if gets_on:
                part.retold = event.done
            return gets_on

    def speed(self) -> float:
        """Return how many bytes a second there were on average."""
        return self._moved / max(time.monotonic() - self._began, 1e-3)

    def parts(self) -> list[Part]:
        """Return what is known now."""
        with self._lock:
            return [evolve(part) for part in self._parts.values()]


@contextmanager
def showing(words: Mapping[str, str], *, quiet: bool = False) -> Iterator[Callable[[pylxc.Progress], object]]:
    """Give what is to be told of a transfer's events, and show them in ``words`` while the block is entered.

    ``words`` are :data:`PULL` or :data:`PUSH`; events that they have no word for are not shown.
    """
    ledger = Ledger(words)
    if quiet:
        yield lambda _: None
    elif can_draw():
        from pylxc.cli.frames import Frames, frame  # noqa: PLC0415  only on a terminal

        with Frames(ledger, frame):
            yield lambda event: ledger.enter(event) if event.what in words else None
    else:
        yield lambda event: _print(ledger, event) if event.what in words else None


@contextmanager
def showing_pull(*, quiet: bool = False) -> Iterator[Callable[[pylxc.Progress], None]]:
    """Do as :func:`showing` does for a pull: that layers are here is said once there are others that are not."""
    held: list[pylxc.Progress] | None = []
    with showing(PULL, quiet=quiet) as show:

        def heed(event: pylxc.Progress) -> None:
            nonlocal held
            if held is not None and event.what in {"found", "resolved", "waiting", "present"}:
                held.append(event)
                return
            for earlier in held or ():
                show(earlier)
            held = None
            show(event)

        yield heed


def can_draw() -> bool:
    """Say whether standard error is a terminal on which can be drawn over what is there."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


def _print(ledger: Ledger, event: pylxc.Progress) -> None:
    if ledger.enter(event):
        name = event.digest.rpartition(":")[2][:_SHORT_ID]
        word = _PLAIN.get(event.what, ledger.words[event.what])
        if word:
            click.echo(f"{name}: {word}", err=True)
