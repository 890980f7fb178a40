"""``run``, ``popen`` and ``exec``: statuses, signals, streams, limits of time; all with real processes."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from boxes import NOTHING, await_true, children_of, entries, is_alive

import pylxc


def test_a_result_has_everything(box):
    result = box.sh("echo out; echo err >&2")
    assert (result.exit_code, result.signal, result.ok) == (0, None, True)
    assert (result.stdout, result.stderr, result.text) == (b"out\n", b"err\n", "out\n")
    assert 0 < result.duration < 5


def test_a_status_other_than_zero_raises_unless_told_otherwise(box):
    with pytest.raises(pylxc.ExitError) as caught:
        box.sh("echo so far; echo why >&2; exit 7")
    assert (caught.value.result.exit_code, caught.value.result.stdout) == (7, b"so far\n")
    assert "why" in str(caught.value)
    assert box.sh("exit 7", check=False).exit_code == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_told_of(box, number):
    # The first process of a pid namespace cannot be killed from within, so a child is, and its status is the shell's.
    assert box.sh(f"sh -c 'kill -{int(number)} $$'; exit $?", check=False).exit_code == 128 + number
    with box.start("sleep", "100") as container:
        result = container.exec(["sh", "-c", f"kill -{int(number)} $$"], check=False)
        assert (result.exit_code, result.signal) == (128 + number, number)


def test_megabytes_go_both_ways_at_once_unchanged(box):
    data = random.Random(1).randbytes(6 << 20)
    result = box.sh("tee /dev/stderr", input=data)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(result.stderr).digest() == hashlib.sha256(data).digest()
    with box.start("sleep", "100") as container:
        assert container.exec(["cat"], input=data).stdout == data


def test_input_that_nobody_reads_is_no_error(box):
    assert box.run("true", input=bytes(4 << 20)).ok


def test_no_input_is_an_empty_one(box):
    assert box.run("cat").stdout == b""
    assert box.run("cat", input=b"").stdout == b""


def test_standard_error_can_go_where_output_goes(box):
    result = box.sh("echo 1; echo 2 >&2; echo 3", stderr=subprocess.STDOUT)
    assert (result.stdout, result.stderr) == (b"1\n2\n3\n", b"")


def test_output_to_files_descriptors_and_nowhere(box, tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(b"before\n")
        result = box.sh("echo out; echo err >&2", stdout=file, stderr=subprocess.DEVNULL)
    assert (result.stdout, result.stderr) == (b"", b"")
    assert (tmp_path / "file").read_bytes() == b"before\nout\n"
    fd = os.open(tmp_path / "fd", os.O_CREAT | os.O_WRONLY)
    try:
        box.run("echo", "through a descriptor", stdout=fd)
    finally:
        os.close(fd)
    assert (tmp_path / "fd").read_bytes() == b"through a descriptor\n"


def test_an_object_without_a_descriptor_is_refused(box):
    with pytest.raises(pylxc.SpecError, match="stdout"):
        box.run("true", stdout=io.BytesIO())


SCRIPT = """
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
"""


def python(engine, script, **options):
    """Start a Python of its own that has ``engine`` and pylxc."""
    code = SCRIPT + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", code, str(engine.root)], **options)


def test_inherited_streams_are_the_callers(box):
    script = """
    r = pylxc.run("busybox", ["sh", "-c", "echo out; echo err >&2"], stdout=pylxc.INHERIT, stderr=pylxc.INHERIT,
                  engine=engine)
    assert r.stdout == r.stderr == b""
    """
    with python(box.engine, script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.communicate(timeout=30) == (b"out\n", b"err\n")
    assert process.returncode == 0


def test_on_output_sees_chunks_as_they_come(box):
    seen = []
    with pytest.raises(ZeroDivisionError):
        box.sh("echo first; sleep 100", on_output=lambda *_: 1 / 0)
    box.sh("echo a; sleep 0.1; echo b >&2", on_output=lambda *chunk: seen.append(chunk))
    assert seen == [("stdout", b"a\n"), ("stderr", b"b\n")]


def test_a_timeout_kills_and_keeps_what_was_written(box):
    begin = time.monotonic()
    with pytest.raises(pylxc.TimeoutExpired) as caught:
        box.sh("echo so far; echo why >&2; sleep 100", timeout=0.3)
    assert 0.3 <= time.monotonic() - begin < 3
    assert (caught.value.timeout, caught.value.stdout, caught.value.stderr) == (0.3, b"so far\n", b"why\n")
    with box.start("sleep", "100") as container:
        with pytest.raises(pylxc.TimeoutExpired) as caught:
            container.exec(["sh", "-c", "echo so far; exec sleep 55"], timeout=0.3)
        assert caught.value.stdout == b"so far\n"
        assert "sleep 55" not in container.exec(["ps"]).text
        assert container.status() == "running"


def test_a_background_child_of_an_exec_that_floods_its_output_does_not_hold_it_up(box):
    with box.start("sleep", "100") as container:
        begin = time.monotonic()
        result = container.exec(["sh", "-c", "yes & echo $!"], timeout=20)
        assert result.ok
        assert time.monotonic() - begin < 10


def test_control_c_in_the_middle_of_a_run_leaves_nothing(box):
    script = """
    def up(*_):
        print("up", flush=True)
    pylxc.run("busybox", ["sh", "-c", "echo $$; exec sleep 100"], on_output=up, engine=engine)
    """
    with python(box.engine, script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in err
    assert time.monotonic() - begin < 5
    assert pylxc.Container.list(all=True, engine=box.engine) == []
    assert entries(box.engine) == NOTHING


def test_popen_is_shaped_like_subprocess(box):
    with box.popen("tr", "a-z", "A-Z") as process:
        assert process.poll() is None
        assert is_alive(process.pid)
        assert process.communicate(b"hello") == (b"HELLO", b"")
        assert (process.returncode, process.args) == (0, ("tr", "a-z", "A-Z"))
    with box.popen("sh", "-c", "read x; echo got $x; exit 3") as process:
        process.stdin.write(b"a line\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got a line\n"
        assert process.wait(timeout=10) == 3
    with box.popen("sleep", "100", stdout=subprocess.DEVNULL) as process:
        assert process.stdout is None
        with pytest.raises(pylxc.TimeoutExpired):
            process.wait(timeout=0.05)
        process.kill()
        assert process.wait(timeout=10) == 137
    with box.popen("sleep", "100") as process:
        pid = process.pid
    assert not is_alive(pid)


def test_communicate_goes_on_after_a_timeout(box):
    script = "echo before; read line; echo $line; sleep 100"
    with box.popen("sh", "-c", script) as process:
        with pytest.raises(pylxc.TimeoutExpired) as caught:
            process.communicate(b"fed\n", timeout=1)
        assert caught.value.stdout == b"before\nfed\n"
        assert process.poll() is None
        process.kill()
        assert process.communicate(timeout=20) == (b"before\nfed\n", b"")
        assert process.returncode == 137


def test_popen_in_a_running_container(box):
    with box.start("sleep", "100") as container, container.popen(["cat"], user="nobody") as process:
        assert process.communicate(b"x") == (b"x", b"")


def test_the_first_process_is_number_one_and_alone(box):
    assert box.run("ps", "-o", "pid,comm").text.split() == ["PID", "COMMAND", "1", "ps"]


def test_a_killed_main_process_takes_all_others_along(box):
    container = box.start("sh", "-c", "sleep 1234 & sleep 1234 & wait")
    pid = container.status().pid
    await_true(lambda: len(children_of(pid)) == 2, "two children")
    everyone = {pid, *children_of(pid)}
    container.remove(force=True)
    assert [one for one in everyone if is_alive(one)] == []
