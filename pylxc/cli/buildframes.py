"""A picture of a build on a terminal: a line for each step, and below those that run the last of what they wrote.

Invariant: it is never higher or wider than the terminal, however many steps there are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pylxc.cli.buildprogress import Board, StepLine


def frame(board: Board, console: Console, *, is_last: bool = False) -> Text:
    """Return a picture of what is known, in as many lines as there is room for.

    Where there are too many steps for that, the latest are shown, and those that run in any case.
    """
    from rich.text import Text  # noqa: PLC0415  heavy

    width, room = console.size.width - 1, max(0, console.size.height - 2)  # the head's, and the one of who is next
    now = time.monotonic()
    done, total = board.counts()
    lines = [Text(f"[+] Building {now - board.began:.1f}s ({done}/{total})")]
    lines += [Text(f" WARNING: {warning}", "yellow") for warning in board.warnings[: room // 4]]
    steps = board.steps()
    left = max(0, room - len(lines) + 1)
    running = [step for step in steps if step.took is None]
    kept = {id(step) for step in [*(step for step in steps if step.took is not None), *running][-left:]} if left else ()
    shown = [step for step in steps if id(step) in kept]
    spare = left - len(shown)
    for step in shown:
        lines.append(_line(step, width, now))
        if step.took is None and not is_last:
            tail = [Text(f" => => # {text}", "dim") for text in step.tail][-spare:] if spare else []
            spare -= len(tail)
            lines += tail
    for line in lines:
        line.truncate(width)
    return Text("\n", no_wrap=True).join(lines)


def _line(step: StepLine, width: int, now: float) -> Text:
    from rich.text import Text  # noqa: PLC0415  heavy

    time_text = f" {now - step.began if step.took is None else step.took:.1f}s"
    line = Text(f" => {'CACHED ' if step.is_cached else ''}{step.title}", "" if step.took is None else "blue")
    line.expand_tabs(1)
    line.truncate(max(0, width - len(time_text)), pad=True)
    return line.append(time_text)
