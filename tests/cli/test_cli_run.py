"""``run`` and ``exec`` on real containers: streams, statuses, signals."""

import json
import os
import signal
import subprocess
import time

import pytest


def test_output_goes_where_it_belongs_and_the_status_is_the_commands(cli):
    done = cli("run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert cli.text("ps", "-aq") == ""


def test_words_after_the_image_belong_to_the_command(cli):
    assert cli.text("run", "--rm", "host", "echo", "--rm", "-d", "--help") == "--rm -d --help\n"


def test_stdin_comes_with_i_and_not_without(cli):
    assert cli("run", "--rm", "-i", "host", "cat", stdin=b"\x00\xffbytes").stdout == b"\x00\xffbytes"
    assert cli("run", "--rm", "host", "cat", stdin=b"not for it").stdout == b""


def test_output_is_not_held_back(cli):
    with cli.start("run", "--rm", "-i", "host", "sh", "-c", "echo first; read x; echo got $x",
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout.readline() == b"first\n"  # while it still runs: it waits for the line
        assert process.communicate(b"line\n", timeout=60)[0] == b"got line\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["host", "/no/such/program"], 127),
        (["host", "no-such-program"], 127),
        (["host", "/etc"], 126),
        (["-u", "no-such-user", "host", "true"], 125),
        (["--pull", "never", "no-such-image:at-all", "true"], 125),
    ],
)
def test_the_status_tells_what_failed(cli, words, status):
    assert cli.error("run", "--rm", *words, status=status).count("\n") == 1
    assert cli.text("ps", "-aq") == ""


def test_options_arrive_in_the_container(cli, tmp_path):
    (tmp_path / "env").write_text("FROM_FILE=1\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("content")
    script = "echo $A $FROM_FILE $(hostname) $(pwd) $(cat /in/file) $(ulimit -n); touch /in/x 2>/dev/null || echo ro"
    words = ["-e", "A=1", "--env-file", tmp_path / "env", "-h", "box", "-w", "/tmp", "-v", f"{tmp_path}/in:/in:ro"]
    out = cli.text("run", "--rm", *words, "--ulimit", "nofile=99", "host", "sh", "-c", script)
    assert out == "1 1 box /tmp content 99\nro\n"


def test_an_entrypoint_of_ones_own(cli):
    assert cli.text("run", "--rm", "--entrypoint", "echo", "host", "a", "b") == "a b\n"


def test_a_signal_counts_from_128(cli):
    with cli.start(
        "run", "--name", "box", "host", "sh", "-c", "echo ready; exec sleep 300", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        cli("kill", "box")
        assert process.wait(timeout=60) == 137


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 12), (signal.SIGTERM, 15), (signal.SIGHUP, 11)])
def test_signals_go_to_the_container(cli, sent, status):
    script = "trap 'exit 12' INT; trap 'exit 15' TERM; trap 'exit 11' HUP; echo ready; while :; do sleep 0.05; done"
    with cli.start("run", "--rm", "host", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(sent)
        assert process.wait(timeout=60) == status
    assert cli.text("ps", "-aq") == ""


def test_a_container_that_minds_no_signal_is_killed_by_the_third(cli):
    script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
    with cli.start("run", "--rm", "host", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None:  # signals that wait together are one: send until it has counted three
            os.kill(process.pid, signal.SIGINT)
            try:
                process.wait(2)  # one sent while this process already ends would end it at once
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 137


def test_without_rm_the_container_stays(cli):
    cli("run", "--name", "kept", "host", "sh", "-c", "exit 3", status=3)
    assert cli.text("ps", "-q") == ""
    assert "Exited (3)" in cli.text("ps", "-a")
    assert cli.text("rm", "kept") == "kept\n"


def test_exec_in_a_running_container(cli):
    identity = cli.text("run", "-d", "--name", "box", "-e", "A=1", "host", "sleep", "300").strip()
    assert len(identity) == 64
    assert cli.text("exec", "-e", "B=2", "-w", "/tmp", "box", "sh", "-c", "echo $A $B $(pwd)") == "1 2 /tmp\n"
    assert cli("exec", "-i", "box", "cat", stdin=b"x").stdout == b"x"
    assert cli("exec", "box", "sh", "-c", "exit 9", status=9).stdout == b""
    assert cli("exec", identity[:12], "no-such-program", status=127).stderr.startswith(b"pylxc: ")
    assert "not a TTY" in cli.error("exec", "-it", "box", "true", status=125)
    assert "nobody-there" in cli.error("exec", "nobody-there", "true", status=125)


def test_a_name_that_is_taken_is_refused(cli):
    cli("run", "-d", "--name", "one", "host", "sleep", "300")
    assert "one" in cli.error("run", "-d", "--name", "one", "host", "true", status=125)
    assert len(cli.text("ps", "-aq").split()) == 1


def test_namespaces_of_another_container(cli):
    cli("run", "-d", "--name", "first", "-h", "common", "host", "sleep", "1000")
    shared = ["--network", "container:first", "--pid", "container:first", "--ipc", "container:first"]
    done = cli("run", "--rm", *shared, "--uts", "container:first", "host", "sh", "-c", "hostname; cat /proc/1/cmdline")
    assert done.stdout == b"common\nsleep\x001000\x00"
    assert b"NAME" in cli("run", "--rm", "--pid", "web", "host", "true", status=125).stderr
    cli("rm", "-f", "first")


def test_a_health_check(cli):
    """Its flags are docker's; ``ps`` shows what it comes to, and can be asked for it."""
    times = ["--health-interval", "20ms", "--health-timeout", "5s", "--health-start-period", "1m"]
    flags = ["--health-cmd", "test -e /tmp/well", *times, "--health-start-interval", "10ms", "--health-retries", "1"]
    cli("run", "-d", "--name", "ill", *flags, "host", "sleep", "300")
    cli("run", "-d", "--name", "plain", "--no-healthcheck", "host", "sleep", "300")
    check = json.loads(cli.text("inspect", "ill"))[0]["Config"]["Healthcheck"]
    assert check == {
        "Test": ["CMD-SHELL", "test -e /tmp/well"],
        "Interval": 20_000_000,
        "Timeout": 5_000_000_000,
        "StartPeriod": 60_000_000_000,
        "StartInterval": 10_000_000,
        "Retries": 1,
    }

    def found(wanted):
        lines = cli.text("ps", "--filter", f"health={wanted}", "--format", "json").splitlines()
        return {row["Names"]: row["Status"] for row in map(json.loads, lines)}

    assert found("starting")["ill"].endswith(" (health: starting)")
    assert found("none").keys() == {"plain"}
    cli("exec", "ill", "touch", "/tmp/well")
    deadline = time.monotonic() + 20
    while not found("healthy"):
        assert time.monotonic() < deadline
    assert found("healthy")["ill"].endswith(" (healthy)")
    message = cli.error("run", "--no-healthcheck", "--health-retries", "3", "host", "true", status=125)
    assert "--no-healthcheck" in message
    assert "interval" in cli.error(
        "run", "--health-cmd", "true", "--health-interval", "1us", "host", "true", status=125
    )
