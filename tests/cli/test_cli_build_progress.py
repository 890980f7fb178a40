"""How a build is shown: drawn on a terminal, as lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from emulator import Emulator
from rich.console import Console
from screens import at_terminal

from pylxc.build.events import BuildEvent
from pylxc.cli.buildframes import frame
from pylxc.cli.buildprogress import Board


def event(kind: str, step: int, instruction: str = "", *, total: int = 3, stage: str = "", **more) -> BuildEvent:
    return BuildEvent(kind=kind, step=step, total=total, instruction=instruction, stage=stage, **more)


def told(*events: BuildEvent) -> Board:
    board = Board()
    for one in events:
        board.show(one)
    return board


def drawn(board: Board, rows: int = 24, columns: int = 80, *, is_last: bool = False) -> list[str]:
    console = Console(width=columns, height=rows, file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    return frame(board, console, is_last=is_last).plain.split("\n")


def test_a_line_for_each_step_and_the_last_of_what_runs():
    board = told(
        event("step", 1, "FROM busybox"),
        event("done", 1, duration=0.04),
        event("step", 2, "RUN one"),
        event("cached", 2),
        event("done", 2, duration=0.0),
        event("step", 3, "RUN two"),
        event("output", 3, data=b"first\nsecond\nhalf"),
    )
    lines = drawn(board)
    assert re.fullmatch(r"\[\+\] Building \d\.\ds \(2/3\)", lines[0])
    assert lines[1].split() == ["=>", "[1/3]", "FROM", "busybox", "0.0s"]
    assert lines[2].split() == ["=>", "CACHED", "[2/3]", "RUN", "one", "0.0s"]
    assert lines[3].startswith(" => [3/3] RUN two")
    assert [line.rstrip() for line in lines[4:]] == [" => => # first", " => => # second"]
    assert all(len(line) == 79 for line in lines[1:4])
    assert not any("#" in line for line in drawn(board, is_last=True))


def test_stages_have_their_names_and_count_together():
    board = told(event("step", 1, "FROM a", stage="one", total=2), event("step", 1, "FROM b", stage="two", total=5))
    lines = drawn(board)
    assert lines[0].endswith("(0/7)")
    assert lines[1].startswith(" => [one 1/2] FROM a")
    assert lines[2].startswith(" => [two 1/5] FROM b")


@pytest.mark.parametrize("rows", [24, 10, 3, 2, 1])
@pytest.mark.parametrize("columns", [200, 80, 40, 13, 2])
def test_hundreds_of_steps_fit(rows, columns):
    events = []
    for step in range(1, 301):
        events.append(event("step", step, f"RUN {'x' * 100}", total=300))
        events.append(event("output", step, data=b"line of output\n" * 20))
        events += [event("done", step)] if step % 3 else []
    events.append(event("warning", 0, "take care"))
    for is_last in (False, True):
        lines = drawn(told(*events), rows, columns, is_last=is_last)
        assert len(lines) <= max(1, rows - 1)
        assert max(map(len, lines)) < columns
    if columns >= 40:
        assert lines[0].startswith("[+] Building")


def test_what_a_step_writes_does_nothing_to_the_terminal():
    board = told(
        event("step", 1, "RUN \x1b[2J"), event("output", 1, data=b"\x1b]0;title\x07evil\x1b[31m\r\nold\rnew\n")
    )
    text = "\n".join(drawn(board))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "evil" in text
    assert "new" in text
    assert "old" not in text


@pytest.fixture
def context(busybox_cli, tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(
        "FROM busybox\nRUN echo seen-in-passing; sleep 0.4; echo made >/made\nRUN test -e /made\n"
    )
    return tmp_path / "context"


def test_at_a_terminal(busybox_cli, screen, context):
    busybox_cli.environment |= {"TERM": "xterm", "LANG": "C.UTF-8"}
    with at_terminal(busybox_cli, screen, "build", "-t", "made", context) as process:
        pass
    assert process.returncode == 0
    said = screen.rest()
    assert b"seen-in-passing" in said
    picture = Emulator(33, 111)
    picture.feed(said)
    lines = [line for line in picture.text().splitlines() if line.strip()]
    assert re.match(r"\[\+\] Building \d+\.\ds \(3/3\)", lines[0]), lines
    assert [line.split()[1] for line in lines[1:4]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert lines[4].startswith("writing image sha256:")
    assert lines[5] == "naming to made"
    assert not any("#" in line for line in lines)
    assert screen.is_as_before()


def test_a_step_that_fails_at_a_terminal(busybox_cli, screen, context):
    busybox_cli.environment |= {"TERM": "xterm", "LANG": "C.UTF-8"}
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo the reason; exit 3\n")
    with at_terminal(busybox_cli, screen, "build", context) as process:
        pass
    assert process.returncode == 1
    picture = Emulator(33, 111)
    picture.feed(screen.rest())
    assert "exited with 3" in picture.text()
    assert "the reason" in picture.text()


@pytest.mark.parametrize("mode", ["plain", "quiet"])
def test_lines_where_they_are_wanted(busybox_cli, screen, context, mode):
    with at_terminal(busybox_cli, screen, "build", f"--progress={mode}", context) as process:
        pass
    assert process.returncode == 0
    said = screen.rest().decode()
    assert ("#2 [2/3] RUN" in said) == (mode == "plain")
    assert "[+]" not in said
