"""What waits says what for; whoever stops waiting, wherever that is, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from boxes import entries

import pylxc
from pylxc.runtime.waiting import Wait, drive, items, readable, steps_of, waits

if TYPE_CHECKING:
    from pylxc.runtime.waiting import Waiting


class Interruption(BaseException):
    """What a handler of a signal raises, as KeyboardInterrupt is raised."""


@pytest.fixture
def alarm():
    """Give what lets a signal that raises come in so many seconds (0: never)."""

    def interrupt(*_):
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def test_it_is_sent_what_is_ready_and_nothing_when_its_time_is_over(pipe):
    def steps():
        first = yield Wait((pipe[0],), (pipe[1],))
        over = yield Wait((pipe[0],), until=time.monotonic() + 0.01)
        os.write(pipe[1], b"x")
        both = yield Wait((pipe[0],), (pipe[1],))
        return list(first), list(over), sorted(both)

    assert drive(steps()) == ([pipe[1]], [], sorted(pipe))
    assert drive(readable(pipe[0], 0))
    os.read(pipe[0], 1)
    assert not drive(readable(pipe[0], 0))


def test_what_interrupts_is_thrown_in_and_the_end_may_wait(pipe, alarm):
    said = []

    @waits
    def finish() -> Waiting[None]:
        said.append("finishing")
        yield Wait(write=(pipe[1],))
        said.append("finished")

    @waits
    def work(seconds: float) -> Waiting[None]:
        try:
            alarm(seconds)
            yield Wait((pipe[0],))
        except Interruption:
            said.append("interrupted")
            raise
        finally:
            yield from steps_of(finish)

    with pytest.raises(Interruption):
        work(0.02)
    assert said == ["interrupted", "finishing", "finished"]
    said.clear()
    steps = steps_of(work, 0)
    next(steps)
    steps.close()  # thrown away: it may not yield any more
    assert said == ["finishing", "finished"]


def test_a_stream_that_is_left_is_closed(pipe):
    closed = []

    def stream():
        try:
            yield "first"
            yield Wait((pipe[0],))
            yield "second"
        finally:
            closed.append(True)

    assert next(items(stream())) == "first"
    assert closed == [True]
    os.write(pipe[1], b"x")
    assert list(items(stream())) == ["first", "second"]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_an_interrupted_command_leaves_nothing(box, alarm, verb):
    command, options = ["sh", "-c", "echo x; exec sleep 1000"], {"on_output": lambda *_: alarm(0.001)}
    if verb == "run":
        with pytest.raises(Interruption):
            box.run(*command, **options)
        assert entries(box.engine)["containers"] == []
        return
    with box.start("sleep", "1000") as container:
        with pytest.raises(Interruption):
            container.exec(command, **options)
        assert [process.command[0] for process in container.top()] == ["sleep"]


def test_a_run_that_is_thrown_away_leaves_nothing(box):
    steps = steps_of(pylxc.run, "busybox", ["sh", "-c", "echo x; exec sleep 1000"], engine=box.engine)
    wait = next(steps)
    wait = steps.send(wait.poll())  # it was started
    assert len(wait.read) == 3
    steps.close()
    assert entries(box.engine)["containers"] == []


@pytest.mark.parametrize("last", ["thrown in", "thrown away"])
def test_an_interruption_of_the_very_end_leaves_nothing_either(box, last):
    """The container has ended, and its monitor is waited for: ``box`` finds a child that is not."""
    with box.start("sleep", "1000") as container:
        steps = steps_of(container.exec, ["sh", "-c", "echo x >&2; exit 3"], check=False)
        wait = next(steps)
        while len(wait.read) != 1 or not os.readlink(f"/proc/self/fd/{wait.read[0]}").startswith("anon_inode:[pidfd"):
            wait = steps.send(wait.poll())
        if last == "thrown in":
            with pytest.raises(Interruption):
                drive(steps, Interruption())
        else:
            steps.close()
