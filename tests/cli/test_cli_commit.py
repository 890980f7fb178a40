"""pylxc diff and pylxc commit: docker's words."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def box(busybox_cli):
    """Return a command line with a container "box" that wrote something."""
    cli = busybox_cli
    cli("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    cli("exec", "box", "sh", "-c", "mkdir /new; rm /etc/group; chmod 755 /tmp; touch \"$(printf '/\\033x')\"")
    return cli


def test_diff(box):
    expected = ["A /\\x1bx", "C /etc", "D /etc/group", "A /new", "C /tmp"]
    assert box("diff", "box").stdout.decode().splitlines() == expected
    rows = [json.loads(line) for line in box("diff", "--format", "json", "box").stdout.splitlines()]
    assert rows[0] == {"Kind": "A", "Path": "/\x1bx"}
    assert [row["Kind"] for row in rows] == ["A", "C", "D", "A", "C"]


def test_commit(box):
    words = ["-a", "me", "-m", "why", "-c", 'CMD ["ls", "-d", "/new"]', "--change", "ENV A=1", "-p=false"]
    made = box("commit", *words, "box", "made:1").stdout.decode().strip()
    assert made.startswith("sha256:")
    assert box("run", "--rm", "made:1").stdout == b"/new\n"
    assert box("commit", "--pause", "true", "box").stdout.decode().startswith("sha256:")
