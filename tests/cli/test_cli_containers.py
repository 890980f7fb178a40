"""The verbs about containers that are there: ``ps logs stop start kill wait rm inspect info``."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

HEADERS = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]


def columns(table):
    """Cut a table into cells by the places of its headers."""
    head, *lines = table.splitlines()
    places = [*(head.index(title) for title in HEADERS), None]
    return [[line[start:end].strip() for start, end in itertools.pairwise(places)] for line in [head, *lines]]


def test_ps_has_dockers_seven_columns(cli):
    identity = cli.text("run", "-d", "--name", "box", "host", "sleep", "1000000000000000000").strip()
    head, row = columns(cli.text("ps"))
    assert head == HEADERS
    assert row[:3] == [identity[:12], "host", '"sleep 1000000000000…"']
    assert row[3].endswith(" ago")
    assert row[4].startswith("Up ")
    assert row[5:] == ["", "box"]


def test_ps_is_not_cut_to_the_width_of_a_terminal(cli):
    cli.environment["COLUMNS"] = "20"
    identity = cli.text("run", "-d", "--name", "b" * 60, "host", "sleep", "300").strip()
    assert cli.text("ps", "--no-trunc").splitlines()[1].startswith(f"{identity}   host")
    assert cli.text("ps").splitlines()[1].endswith("b" * 60)


def test_ps_of_nothing_is_the_headers(cli):
    assert cli.text("ps") == "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    assert cli.text("ps", "-q") == ""
    assert cli.text("ps", "--format", "json") == ""


def test_ps_shows_filters_and_states(cli):
    running = cli.text("run", "-d", "--name", "up", "-l", "tier=web", "host", "sleep", "300").strip()
    cli("run", "--name", "down", "host", "false", status=1)
    rows = {row["Names"]: row for row in map(json.loads, cli.text("ps", "-a", "--format", "json").splitlines())}
    assert (rows["up"]["State"], rows["down"]["State"]) == ("running", "exited")
    assert rows["up"]["ID"] == running[:12]
    assert "tier=web" in rows["up"]["Labels"].split(",")  # beside the image's own
    assert rows["down"]["Status"].startswith("Exited (1) ")
    assert rows["down"]["Status"].count("ago") == 1

    def names(*words):
        lines = cli.text("ps", "--format", "json", *words).splitlines()
        return {json.loads(line)["Names"] for line in lines}

    assert names() == {"up"}
    assert names("--filter", "status=exited") == {"down"}
    assert names("--filter", "exited=1") == {"down"}
    assert names("-a", "--filter", "name=u", "--filter", "label=tier=web") == {"up"}
    assert names("-a", "--filter", "label=tier=db") == set()
    assert names("-a", "--filter", "ancestor=host") == {"up", "down"}
    assert names("-a", "--filter", "name=up", "--filter", "name=down") == {"up", "down"}
    assert names("-n", "1") == {"down"}
    assert cli.text("ps", "-q", "--no-trunc").strip() == running


def test_control_characters_of_a_command_do_not_reach_the_terminal(cli):
    cli("run", "-d", "host", "sleep", "300", "\x1b[2J", status=None)
    assert "\x1b" not in cli.text("ps", "-a", "--no-trunc")


def test_logs_give_the_bytes_to_the_stream_they_were_written_to(cli):
    cli("run", "-d", "--name", "box", "host", "sh", "-c", r"printf 'one\ntwo\n'; printf 'three\377\n' >&2; printf tail")
    assert cli.text("wait", "box") == "0\n"
    done = cli("logs", "box")
    assert (done.stdout, done.stderr) == (b"one\ntwo\ntail", b"three\xff\n")
    assert cli("logs", "--tail", "0", "box").stdout == b""
    assert cli("logs", "--since", "10m", "box").stdout == b"one\ntwo\ntail"
    assert cli("logs", "--since", str(time.time() + 60), "box").stdout == b""
    stamped = cli("logs", "-t", "box").stdout.decode().splitlines()
    assert all(line[10] == "T" and line[29:31] == "Z " for line in stamped)
    assert "tail" in cli.error("logs", "--tail", "x", "box", status=2)
    assert "since" in cli.error("logs", "--since", "yesterday", "box", status=1)


def test_logs_follow_until_the_container_ends(cli):
    cli(
        "run",
        "-d",
        "-i",
        "--name",
        "box",
        "host",
        "sh",
        "-c",
        "echo a; trap 'echo b; exit' TERM; while :; do sleep 0.05; done",
    )
    with cli.start("logs", "-f", "box", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"a\n"
        cli("stop", "box")
        assert process.communicate(timeout=60)[0] == b"b\n"
    assert process.returncode == 0


def test_stop_start_kill_wait_rm(cli):
    cli("run", "-d", "--name", "box", "host", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    assert cli.text("stop", "box") == "box\n"
    assert cli.text("start", "box") == "box\n"
    assert cli.text("ps", "-q") != ""
    assert "is running" in cli.error("rm", "box", status=1)
    assert cli.text("kill", "-s", "KILL", "box") == "box\n"
    assert cli.text("wait", "box") == "137\n"
    assert cli.text("rm", "box") == "box\n"
    assert "box" in cli.error("rm", "box", status=1)
    assert cli.text("rm", "-f", "box") == ""


def test_an_error_with_one_name_does_not_keep_the_others(cli):
    cli("run", "-d", "--name", "box", "host", "sleep", "300")
    done = cli("rm", "-f", "-v", "box", status=0)
    assert done.stdout == b"box\n"
    cli("run", "-d", "--name", "box", "host", "sleep", "300")
    done = cli("stop", "-t", "0", "none", "box", status=1)
    assert done.stdout == b"box\n"
    assert done.stderr.startswith(b"pylxc: no container named 'none'")


def test_restart_makes_a_new_process_and_starts_what_has_ended(cli):
    cli("run", "-d", "--name", "box", "host", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    first = json.loads(cli.text("inspect", "box"))[0]["State"]["Pid"]
    assert cli.text("restart", "-t", "10", "box") == "box\n"
    second = json.loads(cli.text("inspect", "box"))[0]["State"]["Pid"]
    assert 0 not in {first, second}
    assert first != second
    cli("kill", "box")
    assert cli.text("wait", "box") == "137\n"
    assert cli.text("restart", "box") == "box\n"
    assert json.loads(cli.text("inspect", "box"))[0]["State"]["Status"] == "running"


def test_a_log_with_a_limit_keeps_the_end(cli):
    limit = ("--log-opt", "max-size=1k", "--log-opt", "max-file=2")
    cli("run", "-d", "--name", "box", *limit, "host", "seq", "1", "1000")
    cli.text("wait", "box")
    kept = cli.text("logs", "box").split()
    assert kept == [str(number) for number in range(1001 - len(kept), 1001)]
    assert 10 < len(kept) < 100


@pytest.mark.parametrize("verb", ["stop", "start", "restart", "kill", "wait", "rm", "logs", "inspect"])
def test_what_is_not_there_is_named(cli, verb):
    done = cli(verb, "nobody", status=1)
    assert b"'nobody'" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_inspect_is_one_json_array(cli):
    identity = cli.text("run", "-d", "--name", "box", "-e", "A=1", "host", "sleep", "300").strip()
    container, image = json.loads(cli.text("inspect", "box", "host"))
    assert container["Id"] == identity
    assert container["State"]["Status"] == "running"
    assert "A=1" in container["Config"]["Env"]
    assert image["Os"] == "linux"
    done = cli("inspect", "box", "nobody", status=1)
    assert len(json.loads(done.stdout)) == 1
    assert json.loads(cli("inspect", "--type", "image", "box", status=1).stdout) == []


def test_info_counts(cli):
    cli("run", "-d", "--name", "up", "host", "sleep", "300")
    cli("run", "--name", "down", "host", "true")
    facts = json.loads(cli.text("info", "--format", "json"))
    assert (facts["Containers"], facts["Running"], facts["Root"]) == (2, 1, str(cli.root))
    assert f"Root: {cli.root}\n" in cli.text("info")


def test_a_store_that_cannot_be_is_one_clear_error(cli, tmp_path):
    (tmp_path / "file").write_text("")
    message = cli.error("--root", tmp_path / "file", "ps", status=1)
    assert str(tmp_path / "file") in message


def test_an_interrupt_is_status_130(cli):
    cli("run", "-d", "--name", "box", "host", "sh", "-c", "echo ready; exec sleep 300")
    with cli.start("logs", "-f", "box", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error(cli, unbuffered):
    environment = {**cli.environment, "PYTHONUNBUFFERED": unbuffered}
    with pathlib.Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            cli.argv("ps"), stdout=full, stderr=subprocess.PIPE, env=environment, check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == b"pylxc: [Errno 28] No space left on device\n"


def test_a_reader_that_has_gone_is_no_error_message(cli):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            cli.argv("ps"), stdout=pipe, stderr=subprocess.PIPE, env=cli.environment, check=False, timeout=60
        )
    assert done.stderr == b""
