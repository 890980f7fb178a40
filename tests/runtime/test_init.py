"""``init=True``: a PID 1 that reaps, passes signals on and ends with the payload."""

from __future__ import annotations

import os
import signal

import pytest
from boxes import await_true

import pylxc


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", 143), ("true", 0)])
def test_it_ends_with_the_payloads_status(box, script, code):
    assert box.sh(script, init=True, check=False).exit_code == code


def test_the_payload_is_no_pid_1(box):
    assert box.sh("echo $$", init=True).text == "2\n"
    assert box.sh("echo $$").text == "1\n"


def test_output_and_input_pass(box):
    assert box.run("cat", init=True, input=b"x" * 100_000).stdout == b"x" * 100_000


def test_orphans_are_reaped(box):
    """A process whose parent ended first: without an init a shell that does not wait leaves a zombie."""
    script = "(sh -c 'exit 0' & exec true) ; sleep 100 & (setsid sh -c 'sleep 0.01 & exit' &) ; wait"
    with box.start("sh", "-c", script, init=True) as container:

        def zombies() -> str:
            return container.exec(["sh", "-c", "grep -l 'State:.Z' /proc/[0-9]*/status || true"]).text

        await_true(lambda: zombies() == "", "the end of every zombie")
    leave = "sh -c 'sleep 0.01 & exit' ; exec sleep 100"
    with box.start("sh", "-c", leave) as container:  # it bites: sleep, as PID 1, does not wait for strangers
        look = ["sh", "-c", "grep -l 'State:.Z' /proc/[0-9]*/status || true"]
        await_true(lambda: container.exec(look).text != "", "a zombie")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMIN + 3])
def test_signals_are_passed_on(box, number):
    script = f"trap 'echo got; exit 3' {int(number)}; echo ready; while true; do sleep 0.01; done"
    with box.start("sh", "-c", script, init=True) as container:
        container.wait_ready(log="ready")
        container.kill(int(number))
        assert container.wait(10) == 3
        assert b"got" in b"".join(line.data for line in container.logs())


def test_stop_ends_a_payload_that_a_pid_1_would_not_be(box):
    """SIGTERM at its default ends any process but a PID 1."""
    with box.start("sleep", "1000", init=True) as container:
        container.stop(timeout=60)
        assert container.status().exit_code == 143


def test_the_init_has_no_descriptor_and_cannot_be_traced(box):
    with box.start("sleep", "1000", init=True) as container:
        found = container.exec(["sh", "-c", "ls -l /proc/1/fd; cat /proc/1/mem; cp /bin/true /proc/1/exe"], check=False)
        if os.geteuid() == 0:
            assert b"Permission denied" in found.stderr
            assert found.text in {"", "total 0\n"}
        else:  # it may be looked at, or nobody could enter the container; there is nothing to take from it
            assert b"can't create '/proc/1/exe': Text file busy" in found.stderr
            assert found.text == "total 0\n"
        status = container.exec(["cat", "/proc/1/status"]).text
        assert "Seccomp:\t2\n" in status
        assert "NoNewPrivs:\t1\n" in status


def test_a_program_that_is_not_there(box):
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("/no/such/program", init=True)
    assert (caught.value.stage, caught.value.exit_code) == ("exec", 127)


def test_a_flood_of_children(box):
    script = "i=0; while [ $i -lt 300 ]; do (true &) ; i=$((i+1)); done; echo done"
    assert box.sh(script, init=True).text == "done\n"
