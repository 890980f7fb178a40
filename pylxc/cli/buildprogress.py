"""What a build shows while it goes on: its steps, drawn over and over on a terminal; elsewhere line by line.

Hides where it is shown. Both are in BuildKit's manner. Invariant: progress goes to standard error, and all that a step
writes is cleaned before it is shown.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click
from attrs import define, evolve, field

from pylxc.cli.app import printable
from pylxc.cli.progress import can_draw, showing_pull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pylxc import BuildEvent, Progress

TAIL = 6  # lines of what a step that runs has written last
MODES = ("auto", "plain", "tty", "quiet")


class Lines:
    """Makes lines of what steps write, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._partial: dict[int, bytes] = {}

    def add(self, number: int, data: bytes) -> list[str]:
        """Return the lines that are complete with this piece."""
        *lines, self._partial[number] = (self._partial.get(number, b"") + data).split(b"\n")
        return [_shown(line) for line in lines]

    def rest(self, number: int) -> list[str]:
        """Return what a step wrote after its last line, if anything."""
        partial = self._partial.pop(number, b"")
        return [_shown(partial)] if partial else []


def _shown(line: bytes) -> str:
    # A carriage return is a progress bar being redrawn: what stands last is what would be seen.
    return printable(line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2], keep="\t")


class Numbers:
    """Numbers the steps of all stages in the order in which they begin."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}

    def of(self, event: BuildEvent) -> int:
        """Return the number of an event's step."""
        return self._numbers.setdefault((event.stage, event.step), len(self._numbers) + 1)


def _title(event: BuildEvent) -> str:
    stage = f"{event.stage} " if event.stage else ""
    return printable(f"[{stage}{event.step}/{event.total}] {event.instruction}", keep="\t")


class Plain:
    """Prints the events of a build, each as a line that begins with ``head`` and the step's number."""

    def __init__(self, head: str = "") -> None:
        self._head = head
        self._started: dict[int, float] = {}
        self._numbers, self._lines = Numbers(), Lines()

    def show(self, event: BuildEvent) -> None:
        """Print one event."""
        number = self._numbers.of(event)
        lines = self._lines.add(number, event.data) if event.kind == "output" else self._lines.rest(number)
        for line in lines:
            self._print(number, f"{time.monotonic() - self._started.get(number, 0):.3f} {line}")
        if event.kind == "step":
            self._started[number] = time.monotonic()
            self._print(number, _title(event))
        elif event.kind == "cached":
            self._print(number, "CACHED")
        elif event.kind == "done":
            self._print(number, f"DONE {event.duration:.1f}s")
        elif event.kind == "warning":
            self._print(number, f"WARNING: {printable(event.instruction)}")

    def _print(self, step: int, text: str) -> None:
        click.echo(f"{self._head}#{step} {text}", err=True)


@define
class StepLine:
    """A step: its title, when it began (monotonic), how long it took (None: it runs), the last lines that it wrote."""

    title: str
    began: float
    took: float | None = None
    is_cached: bool = False
    tail: deque[str] = field(factory=lambda: deque(maxlen=TAIL))


@define
class Board:
    """What is known of a build's steps, in the order in which they began. ``heard`` counts the events."""

    heard: int = 0
    began: float = field(factory=time.monotonic)
    warnings: list[str] = field(factory=list)
    _totals: dict[str, int] = field(factory=dict)
    _steps: dict[int, StepLine] = field(factory=dict)
    _numbers: Numbers = field(factory=Numbers)
    _lines: Lines = field(factory=Lines)
    _lock: threading.Lock = field(factory=threading.Lock)

    def show(self, event: BuildEvent) -> None:
        """Take an event in."""
        with self._lock:
            self.heard += 1
            if event.kind == "warning":
                self.warnings.append(printable(event.instruction))
                return
            number = self._numbers.of(event)
            if event.kind == "step":
                self._totals[event.stage] = event.total
                self._steps[number] = StepLine(_title(event), time.monotonic())
                return
            step = self._steps[number]
            step.tail.extend(self._lines.add(number, event.data) if event.kind == "output" else ())
            if event.kind == "cached":
                step.is_cached = True
            elif event.kind == "done":
                step.took = event.duration

    def steps(self) -> list[StepLine]:
        """Return what is known now."""
        with self._lock:
            return [evolve(step, tail=deque(step.tail, TAIL)) for step in self._steps.values()]

    def counts(self) -> tuple[int, int]:
        """Return how many steps are done, and how many there are in the stages that were begun."""
        with self._lock:
            return sum(step.took is not None for step in self._steps.values()), sum(self._totals.values())


class _Shown:
    """Shows first how images come, then the steps."""

    def __init__(self, begin: Callable[[], Callable[[BuildEvent], object]]) -> None:
        self._begin = begin
        self._show: Callable[[BuildEvent], object] | None = None
        self._heed: Callable[[Progress], object] | None = None
        self.pulling = ExitStack()

    def heed(self, event: Progress) -> None:
        """Show how the image after FROM comes."""
        if self._heed is None:
            self._heed = self.pulling.enter_context(showing_pull())
        self._heed(event)

    def show(self, event: BuildEvent) -> None:
        """Show one event of the build."""
        self.pulling.close()  # whatever had to come is here
        if self._show is None:
            self._show = self._begin()
        self._show(event)


@contextmanager
def showing_build(mode: str) -> Iterator[_Shown]:
    """Give what is to be told of a build's events and pulls, and show them while the block is entered.

    ``mode``: "plain" for lines, "tty" for a picture, "auto" for that where it can be drawn.
    """
    with ExitStack() as stack:

        def drawn() -> Callable[[BuildEvent], object]:
            from pylxc.cli.buildframes import frame  # noqa: PLC0415  only on a terminal
            from pylxc.cli.frames import Frames  # noqa: PLC0415

            board = Board()
            stack.enter_context(Frames(board, frame))
            return board.show

        shown = _Shown(drawn if mode == "tty" or (mode == "auto" and can_draw()) else lambda: Plain().show)
        stack.callback(shown.pulling.close)
        yield shown
