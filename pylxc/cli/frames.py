"""Drawing what is known of a transfer on the user's terminal, over and over: a bar for each layer, and a sum.

Hides rich, and the thread that draws. Invariants: a frame is never higher or wider than the terminal, however many
layers there are; there are ten a second at most; the terminal has no state that would have to be restored: the cursor
can always be seen, and no mode is set.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from pylxc.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
    from typing_extensions import Self

    from pylxc.cli.progress import Ledger, Part


class Heard(Protocol):
    """What is known of something that goes on."""

    @property
    def heard(self) -> int:
        """How often something was heard of it."""


_INTERVAL = 0.1  # s between two frames
_LONGEST = 1.0  # s without one, even where nothing is heard: the speed falls
_NAME = 12
_AMOUNT = 15  # "1.23GB/1.23GB"
_WIDEST_BAR = 40
_NARROWEST_BAR = 8
_BARS = {True: "━─", False: "=-"}  # done and not yet: with a terminal that has such characters, and without


class Frames:
    """Draws what is known, while it is entered; the last frame stays."""

    def __init__(self, known: Heard, picture: Callable[..., Text]) -> None:
        self._known = known
        self._picture = picture
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pylxc-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        live: Live | None = None
        seen, drawn = 0, time.monotonic()
        with suppress(OSError):  # the terminal is gone: nobody misses the frames, and the transfer goes on
            while not self._over.wait(_INTERVAL):
                heard, now = self._known.heard, time.monotonic()
                if heard != seen or (live is not None and now - drawn >= _LONGEST):
                    live = live or _live()  # rich is loaded while the first bytes come
                    live.update(self._picture(self._known, live.console), refresh=True)
                    seen, drawn = heard, now
            if self._known.heard:
                live = live or _live()
                live.update(self._picture(self._known, live.console, is_last=True))
                live.stop()


def _live() -> Live:
    """Return what draws over its last frame, above which lines of others' may still be written."""
    from rich.console import Console  # noqa: PLC0415  heavy: not before there is something to show
    from rich.live import Live  # noqa: PLC0415

    class Visible(Console):
        """A terminal whose cursor stays: nobody has to bring it back when this process is stopped or killed."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002  rich's signature
            return False

    live = Live(console=Visible(stderr=True, highlight=False), auto_refresh=False, redirect_stdout=False)
    live.start()
    return live


def frame(ledger: Ledger, console: Console, *, is_last: bool = False) -> Text:
    """Return a picture of what is known, in as many lines as there is room for.

    Where there are too many layers for that, those on their way are shown, and after the end none but the sum.
    """
    from rich.text import Text  # noqa: PLC0415  heavy

    parts = ledger.parts()
    width, room = console.size.width, max(0, console.size.height - 2)  # the sum's, and the one of who is called next
    shown: Sequence[Part] = parts
    if len(parts) > room:
        shown = [] if is_last else [part for part in parts if part.is_moving()][:room]
    word = max(map(len, ledger.words.values()))
    bar = min(_WIDEST_BAR, width - _NAME - word - _AMOUNT - 4)  # a space between two, and the last column left free
    marks = _BARS[console.encoding.startswith("utf")]
    lines = [_line(part, word, bar, marks) for part in shown]
    if len(parts) > 1 or not shown:
        lines.append(Text(_sum(parts, 0 if is_last else ledger.speed())))
    for line in lines:
        line.truncate(width - 1)
    return Text("\n", no_wrap=True).join(lines)


def _line(part: Part, word: int, width: int, marks: str) -> Text:
    from rich.text import Text  # noqa: PLC0415  heavy

    style = {"unpacked": "green", "uploaded": "green", "retrying": "yellow"}.get(part.what, "")
    line = Text.assemble(part.name.ljust(_NAME), " ", (part.word, style))
    if not part.is_moving() or part.what == "packing":
        return line
    line.pad_right(word - len(part.word))
    if part.total and width >= _NARROWEST_BAR:
        full = min(width, width * part.done // part.total)
        line.append(" ").append(marks[0] * full, "bar.complete").append(marks[1] * (width - full), "bar.back")
    amount = f"{format_size(part.done)}/{format_size(part.total)}" if part.total else format_size(part.done)
    return line.append(f" {amount:>{_AMOUNT}}" if part.total else f" {amount}")


def _sum(parts: Iterable[Part], speed: float) -> str:
    known = list(parts)
    ready = sum(part.is_done() for part in known)
    done, total = sum(part.bytes_done() for part in known), sum(part.total for part in known)
    words = [f"{ready}/{len(known)} layers", f"{format_size(done)}/{format_size(total)}"]
    return "  ".join([*words, f"{format_size(speed)}/s"] if speed else words)
