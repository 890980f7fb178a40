"""How a transfer is shown: at a terminal, on one that cannot be drawn over, and where there is none."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time

import pytest
from emulator import Emulator
from rich.console import Console
from screens import LIMIT

from pylxc.cli.frames import frame
from pylxc.cli.progress import PULL, PUSH, Ledger, showing
from pylxc.registry.progress import Progress

MB = 1_000_000


def digest(number: int) -> str:
    return f"sha256:{number:012d}{'0' * 52}"


def told(*events: tuple[str, int, int, int], words=PULL) -> Ledger:
    """Return a ledger that has heard of (what, layer, done, total)."""
    ledger = Ledger(words)
    for what, number, done, total in events:
        ledger.enter(Progress(what, digest(number), done, total))
    return ledger


def drawn(ledger: Ledger, rows: int = 24, columns: int = 80, *, is_last: bool = False, encoding: str = "utf-8") -> str:
    console = Console(width=columns, height=rows, file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    return frame(ledger, console, is_last=is_last).plain


# -- one frame ---------------------------------------------------------------------------------------------------------


def test_a_bar_for_each_layer_and_a_sum():
    ledger = told(
        ("present", 1, 0, 5 * MB),
        ("downloading", 2, 0, 0),
        ("downloading", 3, 10 * MB, 40 * MB),
        ("downloaded", 4, 3 * MB, 3 * MB),
        ("unpacked", 5, 2 * MB, 2 * MB),
    )
    bars = drawn(ledger, is_last=True).split("\n")
    assert bars[:2] == ["000000000001 Already exists", "000000000002 Downloading       0B"]
    assert re.fullmatch(r"000000000003 Downloading       ━{8}─{24}\s+10MB/40MB", bars[2]), bars[2]
    assert bars[3:] == [
        "000000000004 Download complete",
        "000000000005 Pull complete",
        "2/5 layers  20MB/50MB",
    ]


def test_one_layer_has_no_sum():
    assert drawn(told(("unpacked", 7, MB, MB))) == "000000000007 Pull complete"


def test_the_sum_tells_the_speed_while_something_moves(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ledger = told(("downloading", 1, 0, 8 * MB), ("downloading", 2, 0, 8 * MB), ("downloading", 1, 6 * MB, 8 * MB))
    now += 2
    assert drawn(ledger).split("\n")[-1] == "0/2 layers  6MB/16MB  3MB/s"


def test_what_a_push_says():
    ledger = told(("packing", 1, 0, 0), ("uploading", 2, MB, 2 * MB), ("mounted", 3, 0, MB), ("present", 4, 0, MB),
                  ("uploaded", 5, MB, MB), words=PUSH)  # fmt: skip
    words = [line[13:33].rstrip() for line in drawn(ledger).split("\n")[:-1]]
    assert words == ["Preparing", "Pushing", "Mounted", "Layer already exists", "Pushed"]


@pytest.mark.parametrize("rows", [24, 10, 3, 2, 1])
@pytest.mark.parametrize("columns", [200, 80, 40, 13, 2])
def test_two_hundred_layers_fit(rows, columns):
    ledger = told(*(("downloading", number, number, 200) for number in range(200)))
    lines = drawn(ledger, rows, columns).split("\n")
    assert len(lines) <= max(1, rows - 1)
    assert max(map(len, lines)) < columns
    if columns >= 40:
        assert lines[-1].startswith("0/200 layers")
        assert [line[:12] for line in lines[:-1]] == [f"{number:012d}" for number in range(len(lines) - 1)]


def test_where_there_is_no_room_only_what_moves_is_shown():
    ledger = told(*(("unpacked", number, 1, 1) for number in range(100)), ("downloading", 150, 0, 1))
    assert [line[:12] for line in drawn(ledger).split("\n")] == ["000000000150", "100/101 laye"]
    assert drawn(ledger, is_last=True) == "100/101 layers  100B/101B"


def test_a_terminal_without_such_characters():
    assert "==" in drawn(told(("downloading", 1, 1, 2)), encoding="ascii")
    assert drawn(told(("downloading", 1, 1, 2)), encoding="ascii").isascii()


# -- the whole, as a program shows it ----------------------------------------------------------------------------------

TELL = """
import os, signal, sys, time
from click.exceptions import Exit
from pylxc.cli.foreground import leaving
from pylxc.cli.progress import PULL, showing
from pylxc.registry.progress import Progress

def tell(what, number, done=0, total=0):
    heed(Progress(what, f"sha256:{number:012d}{'0' * 52}", done, total))

def wait():  # until whoever watches says so
    os.read(int(os.environ["GATE"]), 1)

try:
    with leaving(), showing(PULL, quiet="quiet" in sys.argv) as heed:
        SCRIPT
except Exit as error:
    sys.exit(error.exit_code)
print("and then")
"""


def program(script: str) -> list[str]:
    return [sys.executable, "-c", TELL.replace("SCRIPT", script.strip().replace("\n", "\n        "))]


class Program(subprocess.Popen):
    """A program that waits, again and again, until it is told to go on."""

    def __init__(self, command: list[str], gate: int, **how: object) -> None:
        super().__init__(command, **how)
        self._gate = gate

    def go_on(self) -> None:
        os.write(self._gate, b"x")


@pytest.fixture
def at_screen(cli, screen):
    """Return a function that runs a script at the screen, and returns the process."""
    started = []
    reading, writing = os.pipe()

    def start(script: str, *words: str, **variables: str) -> Program:
        inside = {"stdin": screen.inside, "stdout": screen.inside, "stderr": screen.inside}
        environment = {**cli.environment, "TERM": "xterm", "LANG": "C.UTF-8", "GATE": str(reading), **variables}
        environment.pop("COLUMNS", None)
        command = ["setsid", "--ctty", *program(script), *words]
        started.append(Program(command, writing, env=environment, pass_fds=[reading], **inside))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    os.close(reading)
    os.close(writing)


THREE = """
for number in range(3): tell("downloading", number, 0, 1000000)
wait()
tell("downloading", 0, 500000, 1000000)
wait()
for number in range(3): tell("unpacked", number, 1000000, 1000000)
"""


def test_the_picture_follows_and_the_last_stays(at_screen, screen):
    screen.resize(24, 80)
    picture = Emulator(24, 80)
    process = at_screen(THREE)
    picture.feed(screen.read_until(b"0/3 layers"))
    process.go_on()
    picture.feed(screen.read_until(b"500kB/1MB"))
    process.go_on()
    picture.feed(screen.read_until(b"and then\r\n"))
    assert process.wait(LIMIT) == 0
    assert picture.lines() == [
        "000000000000 Pull complete",
        "000000000001 Pull complete",
        "000000000002 Pull complete",
        "3/3 layers  3MB/3MB",
        "and then",
    ]
    assert screen.is_as_before()


def test_two_hundred_layers_leave_nothing_above(at_screen, screen):
    """However they come and go, no line is scrolled away that is drawn over: it would be there twice."""
    screen.resize(24, 80)
    picture = Emulator(24, 80)
    process = at_screen("""
for number in range(200):
    tell("downloading", number, 0, 1000)
    if number > 4: tell("unpacked", number - 5, 1000, 1000)
    time.sleep(0.005)
for number in range(195, 200): tell("unpacked", number, 1000, 1000)
""")
    picture.feed(screen.read_until(b"and then\r\n"))
    assert process.wait(LIMIT) == 0
    assert picture.above == []
    assert picture.lines() == ["200/200 layers  200kB/200kB", "and then"]


def test_frames_are_few(at_screen, screen):
    process = at_screen("""
began = time.monotonic()
while time.monotonic() < began + 1: tell("downloading", 1, int((time.monotonic() - began) * 1e6), 1000000)
print(f"{time.monotonic() - began:.3f} s")
""")
    data = screen.read_until(b"and then\r\n")
    assert process.wait(LIMIT) == 0
    took = float(re.search(rb"([0-9.]+) s\r\n", data)[1])
    assert 1 < data.count(b"000000000001") <= 10 * took + 4


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_however_it_ends_the_terminal_is_as_before(at_screen, screen, how):
    process = at_screen(f"""
for number in range(3): tell("downloading", number, 5, 1000000)
wait()
os.kill(os.getpid(), signal.{how})
wait()
""")
    data = screen.read_until(b"0/3 layers")
    process.go_on()
    status = process.wait(LIMIT)
    picture = Emulator(33, 111)
    picture.feed(data + screen.rest())
    assert status == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[how]
    assert picture.is_cursor_shown
    assert screen.is_as_before()


def test_what_others_say_stands_above(at_screen, screen):
    picture = Emulator(33, 111)
    process = at_screen("""
tell("downloading", 1, 5, 1000000)
wait()
import logging
logging.getLogger("pylxc").warning("a word of warning")
wait()
tell("unpacked", 1, 10, 10)
""")
    picture.feed(screen.read_until(b"5B/1MB"))
    process.go_on()
    picture.feed(screen.read_until(b"warning\r\n"))
    process.go_on()
    picture.feed(screen.read_until(b"and then\r\n"))
    assert process.wait(LIMIT) == 0
    assert picture.lines() == ["a word of warning", "000000000001 Pull complete", "and then"]


def test_without_colour(at_screen, screen):
    process = at_screen('tell("downloading", 1, 5, 10)\nwait()\ntell("unpacked", 1, 10, 10)', NO_COLOR="1")
    data = screen.read_until(b"5B/10B")
    process.go_on()
    data += screen.read_until(b"and then\r\n")
    assert process.wait(LIMIT) == 0
    assert set(re.findall(rb"\x1b\[([0-9;]*)m", data)) <= {b"", b"0", b"2"}


PLAIN = ["000000000001: Pulling fs layer", "000000000001: Download complete", "000000000001: Pull complete"]
ONE = """
for done in range(3): tell("downloading", 1, done, 10)
tell("downloaded", 1, 10, 10)
tell("unpacked", 1, 10, 10)
"""


@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_on_a_terminal_that_cannot_be_drawn_over(at_screen, screen, terminal):
    process = at_screen(ONE, TERM=terminal)
    data = screen.read_until(b"and then\r\n")
    assert process.wait(LIMIT) == 0
    assert data.decode().splitlines() == [*PLAIN, "and then"]


def test_where_there_is_no_terminal(cli):
    done = subprocess.run(program(ONE), capture_output=True, env=cli.environment, timeout=LIMIT, check=True)
    assert done.stderr.decode().splitlines() == PLAIN
    assert done.stdout == b"and then\n"


def test_quiet(at_screen, screen):
    process = at_screen(ONE, "quiet")
    data = screen.read_until(b"and then\r\n")
    assert process.wait(LIMIT) == 0
    assert data == b"and then\r\n"


def test_plain_lines_tell_of_a_retry_again_when_it_has_got_on_by_a_percent(capsys):
    with showing(PULL) as heed:
        for done in (3, 5, 5, 5, 6, 6, 105, 106):
            heed(Progress("downloading", digest(1), done, 10_000))
            heed(Progress("retrying", digest(1), done, 10_000))
        heed(Progress("resolved", digest(2), 0, 0))
    said = capsys.readouterr()
    assert said.err.splitlines() == ["000000000001: Pulling fs layer", *["000000000001: Retrying"] * 2]
    assert said.out == ""
