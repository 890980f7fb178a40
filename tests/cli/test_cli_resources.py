"""``stats update pause unpause``, and the flags of ``run`` that limit."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def box(cli) -> str:
    cli("run", "-d", "--name", "box", "-m", "64m", "--pids-limit", "50", "--cpus", "1", "host", "sleep", "300")
    return "box"


def test_limits_from_the_command_line(cli, box):
    assert cli.text("update", "--memory", "48m", "--pids-limit", "40", box) == "box\n"
    row = json.loads(cli.text("stats", "--no-stream", "--format", "json", box))
    assert row["MemUsage"].endswith(" / 50.3MB")
    assert row["PIDs"] == "1"
    assert row["CPUPerc"].endswith("%")
    assert "MEM USAGE / LIMIT" in cli.text("stats", "--no-stream")


def test_pausing_from_the_command_line(cli, box):
    assert cli.text("pause", box) == "box\n"
    assert "(Paused)" in cli.text("ps")
    assert cli.text("unpause", box) == "box\n"
    assert "not paused" in cli.error("unpause", box, status=1)


def test_wrong_calls(cli, box):
    assert "at least one limit" in cli.error("update", box, status=2)
    assert "cpus" in cli.error("update", "--cpus", "0", box, status=1)
    assert "nobody" in cli.error("pause", "nobody", status=1)


def test_top_from_the_command_line(cli, box):
    head, row = cli.text("top", box).splitlines()
    assert head.split() == ["PID", "INSIDE", "USER", "STATE", "TIME", "COMMAND"]
    assert row.split()[1:4] == ["1", "0", "S"]
    assert row.endswith("sleep 300")
