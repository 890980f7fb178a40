"""``pylxc events``: what has happened, what happens, and a clear word where it cannot be shown."""

from __future__ import annotations

import json
import signal
import subprocess
import time

FOUR = ["created", "started", "died", "removed"]


def test_what_has_happened(cli):
    cli("run", "--rm", "--name", "job", "host", "sh", "-c", "exit 3", status=3)
    lines = cli.text("events", "--since", "0", "--until", str(time.time())).splitlines()
    stamps, words, kinds, ids = zip(*(line.split()[:4] for line in lines), strict=True)
    assert list(kinds) == FOUR
    assert set(words) == {"container"}
    assert sorted(stamps) == list(stamps)
    assert {len(one) for one in ids} == {64}
    assert lines[2].endswith("(name=job, image=host, exit_code=3)")
    found = cli.text("events", "--since", "1h", "--until", "0s", "--filter", "event=died", "--format", "json")
    assert {**json.loads(found), "time": 0} == {
        "kind": "died",
        "container": ids[0],
        "name": "job",
        "image": "host",
        "time": 0,
        "exit_code": 3,
    }
    either = ("--filter", "event=created", "--filter", "event=removed", "--filter", "container=job")
    assert len(cli.text("events", "--since", "0", "--until", "0s", *either).splitlines()) == 2
    assert cli.text("events", "--until", "0s") == ""


def test_what_happens_until_interrupted(cli):
    begin = time.time()
    cli("info")  # the store is there
    with cli.start("events", "--since", begin, "--format", "json", stdout=subprocess.PIPE) as following:
        cli("run", "--rm", "host", "true")
        assert [json.loads(following.stdout.readline())["kind"] for _ in FOUR] == FOUR
        following.send_signal(signal.SIGINT)
        assert following.stdout.read() == b""
        assert following.wait(60) == 130


def test_a_wrong_call_says_what_would_do(cli):
    assert "colour" in cli.error("events", "--filter", "colour=red", status=1)
    assert "give name=value" in cli.error("events", "--filter", "colour", status=2)
    assert "until" in cli.error("events", "--until", "yesterday", status=1)
