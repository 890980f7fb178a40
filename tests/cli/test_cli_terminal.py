"""``run -t`` and ``exec -t`` as somebody at a terminal has them: a pseudo-terminal of the test's is the user's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from screens import LIMIT, LOOP, at_terminal


def test_a_command_at_the_terminal(cli, screen):
    script = "tty; stty size; echo $TERM; echo err >&2; exit 7"
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        pass
    assert process.returncode == 7
    assert screen.rest() == b"/dev/pts/0\r\n33 111\r\nxterm\r\nerr\r\n"
    assert screen.is_as_before()
    assert cli.text("ps", "-aq") == ""


def test_what_is_typed_goes_in_and_is_echoed_once(cli, screen):
    script = "echo ready; read x; echo got $x; stty -echo raw; echo raw; head -c 4 | od -An -tx1"
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        screen.read_until(b"ready\r\n")
        assert screen.is_raw()
        screen.type(b"hello\r")
        assert screen.read_until(b"raw\n") == b"hello\r\ngot hello\r\nraw\n"
        screen.type(b"\x03\x1a\x00\xff")  # ^C and ^Z are bytes to a program that wants them so
        screen.read_until(b" 03 1a 00 ff\n")
    assert process.returncode == 0
    assert screen.is_as_before()


def test_interrupts_go_to_the_program(cli, screen):
    script = f"trap 'echo caught; exit 5' INT; echo ready; {LOOP}"
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        screen.read_until(b"ready\r\n")
        screen.type(b"\x03")
        screen.read_until(b"caught\r\n")
    assert process.returncode == 5


def test_the_window_is_followed(cli, screen):
    script = f"stty size; trap 'stty size' WINCH; trap 'exit 0' USR1; echo ready; {LOOP}"
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        assert b"33 111\r\n" in screen.read_until(b"ready\r\n")
        screen.resize(20, 70)
        screen.read_until(b"20 70\r\n")
        screen.resize(21, 71)
        screen.read_until(b"21 71\r\n")
        process.send_signal(signal.SIGUSR1)
    assert process.returncode == 0


def test_the_end_of_input(cli, screen):
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", "stty -echo; echo ready; cat") as process:
        screen.read_until(b"ready\r\n")
        screen.type(b"line\r\x04")
    assert process.returncode == 0
    assert screen.rest() == b"line\r\n"


# What ends it: a signal to the command, or another command; the program's last words; the exit status.
ENDS = {
    "end": (None, "exit 3", 3),
    "SIGTERM": (signal.SIGTERM, LOOP, 15),
    "SIGHUP": (signal.SIGHUP, LOOP, 11),
    "SIGINT": (signal.SIGINT, LOOP, 12),
    "SIGQUIT": (signal.SIGQUIT, LOOP, 13),
    "SIGUSR1": (signal.SIGUSR1, LOOP, 14),
    "kill": (("kill", "box"), LOOP, 137),
    "rm -f": (("rm", "-f", "box"), LOOP, 137),
}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_the_terminal_is_as_before_after(cli, screen, end):
    how, script, status = ENDS[end]
    traps = "trap 'exit 15' TERM; trap 'exit 11' HUP; trap 'exit 12' INT; trap 'exit 13' QUIT; trap 'exit 14' USR1"
    words = ("run", "--rm", "--name", "box", "-it", "host", "sh", "-c", f"{traps}; echo ready; read x; {script}")
    with at_terminal(cli, screen, *words) as process:
        screen.read_until(b"ready\r\n")
        assert screen.is_raw()
        screen.type(b"go\r")
        if isinstance(how, tuple):
            cli(*how)
        elif how is not None:
            process.send_signal(how)
    assert process.returncode == status
    assert screen.is_as_before()
    assert cli.text("ps", "-aq") == ""


def test_a_container_that_minds_no_signal_is_killed_by_the_third(cli, screen):
    script = f"trap '' INT TERM; echo ready; {LOOP}"
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        screen.read_until(b"ready\r\n")
        while process.poll() is None:  # with time between: those that wait together are one
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
    assert process.returncode == 137
    assert screen.is_as_before()


def test_a_start_that_fails_leaves_the_terminal_alone(cli, screen):
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "no-such-program") as process:
        pass
    assert process.returncode == 127
    assert screen.is_as_before()
    assert screen.rest().startswith(b"pylxc: ")


def test_an_error_on_the_way_leaves_the_terminal_as_before(cli, screen):
    """A full disk where the output goes: no signal, no end of the container, an exception."""
    with open("/dev/full", "wb") as full:
        words = ("run", "--rm", "-it", "host", "sh", "-c", f"read x; echo $x; {LOOP}")
        with at_terminal(cli, screen, *words, stdout=full.fileno()) as process:
            while not screen.is_raw():
                assert process.poll() is None
                time.sleep(0.01)
            screen.type(b"text\r")
        assert process.returncode == 125
    assert b"No space left on device" in screen.rest()
    assert screen.is_as_before()


def test_while_it_is_stopped_the_terminal_is_the_users(cli, screen, tmp_path):
    """Under a shell with job control: stopped from elsewhere, and continued in the foreground."""
    program = "echo ready; read x; echo got $x"
    words = " ".join(cli.argv("run", "--rm", "-it", "host", "sh", "-c", f"'{program}'"))
    (tmp_path / "command").write_text(f"echo $$ > {tmp_path}/pid\nexec {words}\n")
    argv = ["setsid", "--ctty", "sh", "-i"]
    streams = {"stdin": screen.inside, "stdout": screen.inside, "stderr": screen.inside}
    with subprocess.Popen(argv, env={**cli.environment, "PS1": "> ", "ENV": ""}, **streams) as shell:
        screen.read_until(b"> ")
        screen.type(f"sh {tmp_path}/command\r".encode())
        screen.read_until(b"ready\r\n")
        assert screen.is_raw()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTSTP)
        screen.read_until(b"> ")
        assert screen.is_as_before()
        screen.type(b"fg\r")
        while not screen.is_raw():
            time.sleep(0.01)
        screen.type(b"text\r")
        screen.read_until(b"got text\r\n")
        screen.read_until(b"> ")
        assert screen.is_as_before()
        screen.type(b"exit 0\r")
        assert shell.wait(LIMIT) == 0


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_terminal_that_goes_takes_the_command_along(cli, screen, verb):
    cli("run", "-d", "--name", "box", "host", "sleep", "300")
    target = ("--rm", "-it", "host") if verb == "run" else ("-it", "box")
    with at_terminal(cli, screen, verb, *target, "sh", "-c", f"trap '' HUP; echo ready; {LOOP}") as process:
        screen.read_until(b"ready\r\n")
        os.close(screen.inside)
        os.close(screen.fd)
        screen.fd = screen.inside = -1
    assert process.returncode == 129
    assert len(cli.text("ps", "-aq").split()) == 1
    assert "trap" not in cli.text("top", "box")


def test_a_container_without_rm_stays_when_the_terminal_goes(cli, screen):
    script = f"trap '' HUP; echo ready; {LOOP}"
    with at_terminal(cli, screen, "run", "--name", "box", "-it", "host", "sh", "-c", script) as process:
        screen.read_until(b"ready\r\n")
        os.close(screen.inside)
        os.close(screen.fd)
        screen.fd = screen.inside = -1
    assert process.returncode == 129
    assert len(cli.text("ps", "-q").split()) == 1


def test_exec_at_the_terminal(cli, screen):
    cli("run", "-d", "--name", "box", "host", "sleep", "300")
    with at_terminal(cli, screen, "exec", "-it", "-e", "A=1", "box", "sh") as process:
        screen.type(b"stty size; echo $TERM-$A; exit 4\r")
    assert process.returncode == 4
    assert b"33 111\r\nxterm-1\r\n" in screen.rest()
    assert screen.is_as_before()


def test_a_background_process_does_not_hold_exec_up(cli, screen):
    cli("run", "-d", "--name", "box", "host", "sleep", "300")
    script = "trap '' HUP; sleep 1000 & echo started"
    with at_terminal(cli, screen, "exec", "-it", "box", "sh", "-c", script) as process:
        process.wait(LIMIT / 2)
    assert screen.rest() == b"started\r\n"


def test_a_megabyte_is_shown_byte_by_byte(cli, screen):
    script = "stty -opost; seq 1 150000; printf end"
    seen = b""
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "sh", "-c", script) as process:
        seen += screen.read_until(b"150000\nend")
    assert process.returncode == 0
    assert seen + screen.rest() == b"".join(b"%d\n" % n for n in range(1, 150_001)) + b"end"


def test_a_terminal_for_a_command_that_is_not_at_one(cli):
    script = "tty; stty size; [ -t 2 ] && echo err >&2"
    done = cli("run", "--rm", "-t", "host", "sh", "-c", script)
    assert (done.stdout, done.stderr) == (b"/dev/pts/0\r\n24 80\r\nerr\r\n", b"")
    identity = cli.text("run", "-d", "host", "sleep", "300").strip()
    assert cli("exec", "-t", identity, "sh", "-c", script).stdout == b"/dev/pts/0\r\n24 80\r\nerr\r\n"
    assert cli("run", "--rm", "-t", "host", "sh", "-c", "exit 9", status=9).stdout == b""


def test_keys_need_a_terminal(cli):
    for words in (("run", "--rm", "-it", "host", "true"), ("run", "-ti", "host", "true")):
        assert "the input device is not a TTY" in cli.error(*words, status=125)
    assert cli.text("ps", "-aq") == ""


def test_without_i_the_keys_stay_the_users(cli, screen):
    script = "echo ready; sleep 0.3; echo done"
    with at_terminal(cli, screen, "run", "--rm", "-t", "host", "sh", "-c", script) as process:
        screen.read_until(b"ready")
        assert screen.is_as_before()
        screen.type(b"for the shell\r")
    assert process.returncode == 0
    assert screen.waiting() == len("for the shell\n")


def test_in_the_background(cli):
    identity = cli.text("run", "-dit", "--name", "box", "host", "sh", "-c", "tty; stty size; read x").strip()
    while cli.text("logs", "box") != "/dev/pts/0\r\n24 80\r\n":
        assert cli.text("ps", "-q")  # it waits for a line that nobody types
    assert cli.text("ps", "-q").strip() == identity[:12]


PUSH = """
import fcntl, sys, termios
for fd in (0, 1, 2):
    try:
        for byte in b"echo attack\\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
    except OSError as error:
        print(fd, error.errno)
    else:
        print(fd, "pushed")
"""


def test_input_cannot_be_pushed_into_the_users_terminal(cli, screen):
    """TIOCSTI: with the user's own terminal a payload would type commands for the shell that comes after it."""
    with at_terminal(cli, screen, "run", "--rm", "-it", "host", "python3", "-c", PUSH) as process:
        pass
    shown = screen.rest()
    assert process.returncode == 0
    assert screen.waiting() == 0
    # The same call did work on the terminal that the payload has, where the kernel has it at all.
    with open("/proc/sys/dev/tty/legacy_tiocsti") as file:
        assert shown.count(b"pushed") == (3 if file.read().strip() == "1" else 0)
    # With -i alone it has the user's, but not as the terminal of its session.
    with at_terminal(cli, screen, "run", "--rm", "-i", "host", "python3", "-c", PUSH) as process:
        pass
    assert process.returncode == 0
    assert b"pushed" not in screen.rest()
    assert screen.waiting() == 0
