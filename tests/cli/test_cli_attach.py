"""``attach``, ``run -it`` that is left by its keys, ``start -a``: at a terminal, and between pipes."""

from __future__ import annotations

import os
import select
import signal
import subprocess

import click
import pytest
from screens import LIMIT, LOOP, at_terminal

import pylxc
from pylxc.cli.copying import DetachKeys

KEYS = b"\x10\x11"  # ctrl-p,ctrl-q
SHELL = ("-e", "PS1=> ", "host", "sh")


@pytest.fixture
def store(cli):
    """The command's store, for what need not go through the command."""
    engine = pylxc.Engine(cli.root)
    yield engine
    for container in pylxc.Container.list(all=True, engine=engine):
        container.remove(force=True)


def in_background(store, *words: str, **options) -> pylxc.Container:
    """Start a container as ``run -d`` does."""
    return pylxc.start("host", words, engine=store, name="box", detach=True, **options)


def shell(store) -> pylxc.Container:
    return in_background(store, "sh", stdin=True, tty=True, env={"PS1": "> "})


def attached(cli, container, *words: str, **streams) -> subprocess.Popen[bytes]:
    """Start a command that attaches, and see that it has: it shows what the container writes then."""
    process = cli.start("attach", *words, "box", stdout=subprocess.PIPE, **{"stdin": subprocess.DEVNULL, **streams})
    while not select.select([process.stdout], [], [], 0.02)[0]:
        assert process.poll() is None
        container.exec(["sh", "-c", "echo attached > /proc/1/fd/1"])
    return process


def shown(process: subprocess.Popen[bytes]) -> list[bytes]:
    """Return the lines that a command shows to its end, but for those that showed that it is attached."""
    lines = process.communicate(timeout=LIMIT)[0].splitlines()
    return [line for line in lines if line != b"attached"]


def running(store) -> int:
    return len(pylxc.Container.list(engine=store))


# -- run -it -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove", [True, False])
def test_left_and_taken_up_again(cli, screen, store, remove):
    words = ("run", "-it", "--name", "box", *(("--rm",) if remove else ()), *SHELL)
    with at_terminal(cli, screen, *words) as process:
        screen.read_until(b"> ")
        screen.type(b"stty size; x=kept\r")
        screen.read_until(b"33 111\r\n> ")
        screen.type(KEYS)
    assert process.returncode == 0
    assert screen.rest() == b"read escape sequence\r\n"
    assert screen.is_as_before()
    assert running(store), "it outlives the command"
    screen.resize(40, 120)
    with at_terminal(cli, screen, "attach", "box") as process:
        screen.type(b"stty size; echo it was $x\r")
        screen.read_until(b"40 120\r\nit was kept\r\n> ")
        screen.type(b"exit 7\r")
    assert process.returncode == 7
    assert screen.is_as_before()
    assert len(pylxc.Container.list(all=True, engine=store)) == (0 if remove else 1)


def test_keys_of_ones_own(cli, screen, store):
    script = "stty raw -echo; echo ready; head -c 4 | od -An -tx1; read x"
    words = ("run", "--rm", "-it", "--detach-keys", "ctrl-a,ctrl-a,d", "host", "sh", "-c", script)
    with at_terminal(cli, screen, *words) as process:
        screen.read_until(b"ready")
        screen.type(b"\x01\x01\x01x")
        screen.read_until(b" 01 01 01 78")
        for number in b"\x01\x01d":
            screen.type(bytes((number,)))
    assert process.returncode == 0
    assert running(store)


@pytest.mark.parametrize(
    ("keys", "typed", "passed", "left"),
    [
        ("ctrl-p,ctrl-q", [b"a\x10", b"\x11b"], b"a", True),
        ("ctrl-p,ctrl-q", [b"\x10\x10", b"\x10x\x11"], b"\x10\x10\x10x\x11", False),
        ("a,a,b", [b"aaab"], b"a", True),
        ("DEL,ctrl-]", [b"\x1d\x7f\x1d"], b"\x1d", True),
        ("ctrl-@", [b"\x00"], b"", True),
        ("ctrl-_", [b"\x1f"], b"", True),
        ("", [b"\x10\x11"], b"\x10\x11", False),
    ],
)
def test_what_is_typed_beside_the_keys_is_passed_on(keys, typed, passed, left):
    found = DetachKeys(keys)
    pieces = [found.pass_on(each) for each in typed]
    assert (b"".join(piece for piece, _ in pieces), pieces[-1][1]) == (passed, left)


@pytest.mark.parametrize("keys", ["ctrl-1", "ab", "a,,b", "é"])
def test_keys_that_are_none(keys):
    with pytest.raises(click.UsageError, match="--detach-keys"):
        DetachKeys(keys)


def test_keys_that_are_none_start_nothing(cli):
    assert "--detach-keys 'ctrl-1'" in cli.error("run", "--detach-keys", "ctrl-1", "host", "true", status=125)


def test_with_a_restart_policy(cli, store):
    script = "echo x >>/n; wc -l </n; echo err >&2; exit 3"
    done = cli("run", "--restart", "on-failure:1", "host", "sh", "-c", script.replace("/n", "/tmp/n"), status=3)
    assert (done.stdout, done.stderr) == (b"1\n2\n", b"err\nerr\n")
    done = cli("run", "-i", "--restart", "on-failure:1", "host", "cat", stdin=b"typed\n")
    assert (done.stdout, done.stderr) == (b"typed\n", b"")


# -- attach at a terminal ----------------------------------------------------------------------------------------------


# A signal to the command, and its exit status.
ENDS = {"SIGTERM": 143, "SIGINT": 130}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_signal_ends_the_command_and_not_the_container(cli, screen, store, end):
    shell(store)
    with at_terminal(cli, screen, "attach", "box") as process:
        screen.type(b"echo ready\r")
        screen.read_until(b"\nready\r\n")
        assert screen.is_raw()
        process.send_signal(getattr(signal, end))
    assert process.returncode == ENDS[end]
    assert screen.is_as_before()
    assert running(store)


def test_a_terminal_that_goes_leaves_the_container(cli, screen, store):
    shell(store)
    with at_terminal(cli, screen, "attach", "box") as process:
        screen.type(b"echo ready\r")
        screen.read_until(b"\nready\r\n")
        os.close(screen.inside)
        os.close(screen.fd)
        screen.fd = screen.inside = -1
    assert process.returncode == 129
    assert running(store)


def test_a_screen_is_drawn_anew(cli, screen, store):
    """A program that draws when its window changes does so for each who attaches, whatever size his is."""
    container = in_background(store, "sh", "-c", f"trap 'echo drawn' WINCH; echo ready; {LOOP}", stdin=True, tty=True)
    container.wait_ready(log="ready")
    for _ in range(2):
        with at_terminal(cli, screen, "attach", "box") as process:
            screen.read_until(b"drawn\r\n")
            screen.type(KEYS)
        assert process.returncode == 0
        screen.rest()


def test_two_at_once(cli, screen, store):
    container = shell(store)
    with at_terminal(cli, screen, "attach", "box") as process:
        other = attached(cli, container, "--no-stdin")
        screen.type(b"echo for $((1 + 1))\r")
        screen.read_until(b"for 2\r\n")
        screen.type(b"exit 4\r")
        assert b"for 2" in shown(other)
    assert process.returncode == other.returncode == 4


def test_keys_need_a_terminal(cli, store):
    shell(store)
    assert "the input device is not a TTY" in cli.error("attach", "box", status=2)


# -- attach between pipes ----------------------------------------------------------------------------------------------


def test_streams_stay_apart_and_the_end_of_input_is_passed_on(cli, store):
    in_background(store, "sh", "-c", "while read x; do echo out $x; echo err $x >&2; done; exit 6", stdin=True)
    done = cli("attach", "box", stdin=b"one\ntwo\n", status=6)
    assert (done.stdout, done.stderr) == (b"out one\nout two\n", b"err one\nerr two\n")


def test_nothing_is_no_end_of_input(cli, store):
    container = in_background(store, "sh", "-c", "read x; echo got $x", stdin=True)
    processes = [attached(cli, container), attached(cli, container, "--no-stdin", stdin=subprocess.PIPE)]
    processes[1].stdin.close()
    processes[1].stdin = None
    assert cli("attach", "box", stdin=b"word\n").stdout == b"got word\n"
    for process in processes:
        assert shown(process) == [b"got word"]
        assert process.returncode == 0


@pytest.mark.parametrize("proxied", [True, False])
def test_signals_are_passed_on_or_not(cli, store, proxied):
    container = in_background(store, "sh", "-c", f"trap 'echo caught; exit 5' INT; echo ready; {LOOP}")
    container.wait_ready(log="ready")
    process = attached(cli, container, *(() if proxied else ("--sig-proxy=false",)), stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    assert shown(process) == ([b"caught"] if proxied else [])
    assert process.returncode == (5 if proxied else 130)
    assert running(store) == (not proxied)


def test_a_container_that_minds_no_signal_is_left_by_the_third(cli, store):
    container = in_background(store, "sh", "-c", f"trap 'echo no' INT; echo ready; {LOOP}")
    container.wait_ready(log="ready")
    process = attached(cli, container)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        while process.stdout.readline() != b"no\n":
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert shown(process) == []
    assert process.returncode == 130
    assert running(store)


def test_nobody_to_show_it_to(cli, store):
    in_background(store, "sh", "-c", "while :; do echo on and on; sleep 0.02; done")
    process = cli.start("attach", "box", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(LIMIT) == 141
    process.stderr.close()
    assert running(store)


def test_what_cannot_be_attached_to(cli, store):
    assert "ghost" in cli.error("attach", "ghost", status=1)
    foreground = cli.start("run", "--name", "box", "host", "sh", "-c", "echo ready; sleep 100", stdout=subprocess.PIPE)
    assert foreground.stdout.readline() == b"ready\n"
    assert "in the hands of" in cli.error("attach", "box", status=1)
    pylxc.Container.get("box", engine=store).kill()
    foreground.communicate(timeout=LIMIT)
    assert "is not running (exited)" in cli.error("attach", "box", status=1)


# -- start -a, exec ----------------------------------------------------------------------------------------------------


def test_start_attached(cli, store):
    in_background(store, "sh", "-c", "echo begin; cat; echo err >&2; exit 3", stdin=True)
    cli("attach", "box", stdin=b"first\n", status=3)
    done = cli("start", "-ai", "box", stdin=b"second\n", status=3)
    assert (done.stdout, done.stderr) == (b"begin\nsecond\n", b"err\n")
    assert "one container at a time" in cli.error("start", "-a", "box", "other", status=2)


def test_start_attached_at_a_terminal(cli, screen, store):
    with at_terminal(cli, screen, "run", "-it", "--name", "box", *SHELL):
        screen.read_until(b"> ")
        screen.type(b"exit\r")
    screen.rest()
    with at_terminal(cli, screen, "start", "-ai", "box") as process:
        assert screen.read_until(b"> ") == b"> "
        screen.type(b"stty size\r")
        screen.read_until(b"33 111\r\n")
        screen.type(KEYS)
    assert process.returncode == 0
    assert running(store)


def test_the_keys_of_exec_end_it(cli, screen, store):
    container = in_background(store, "sleep", "100")
    with at_terminal(
        cli, screen, "exec", "-it", "--detach-keys", "ctrl-x", "box", "sh", "-c", "echo ready; sleep 99"
    ) as process:
        screen.read_until(b"ready\r\n")
        screen.type(b"\x18")
    assert process.returncode == 137
    assert screen.is_as_before()
    assert ("sleep", "99") not in [process.command for process in container.top()]
