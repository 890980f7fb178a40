"""Ends that are told while a container is being made: what becomes of it when they are not, or not all of them."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from boxes import NOTHING, box, box_engine, entries, monitors
from ownnet import addresses, links, reap_orphans

import pylxc
from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

pytestmark = pytest.mark.root
__all__ = ["box", "box_engine"]

KILLED = """
import os, sys, pylxc
from pylxc.runtime import native
tell, left = native.tell_endpoint, int(sys.argv[3])
def told(child, endpoint):
    global left
    if not left:
        os.kill(os.getpid(), 9)
    left -= 1
    tell(child, endpoint)
native.tell_endpoint = told
pylxc.run("busybox", ["sleep", "100"], engine=pylxc.Engine(sys.argv[1]), network=["lab", "other"], name=sys.argv[2])
"""

FOLLOWING = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"


@pytest.fixture
def lab(box: Box) -> Iterator[pylxc.Network]:
    with pylxc.Network.create("lab", engine=box.engine) as made, pylxc.Network.create("other", engine=box.engine):
        yield made


def test_all_ends_come_in_their_order(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", network=["other", "lab"]) as container:
        pid = container.status().pid
        assert links(inside=pid) == {"lo", "eth0", "eth1"}
        (member,) = lab.members()
        assert set(member.addresses) == {text.partition("/")[0] for text in addresses("eth1", inside=pid)}


@pytest.mark.parametrize("told", [0, 1])
def test_one_that_is_not_told_fails_the_start(
    box: Box, lab: pylxc.Network, monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    tell, left = native.tell_endpoint, [told]

    def some(child: native.Child, endpoint: bytes) -> None:
        if left[0]:
            left[0] -= 1
            tell(child, endpoint)

    monkeypatch.setattr(native, "tell_endpoint", some)
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", network=["lab", "other"])
    assert caught.value.errno == errno.EPIPE
    assert lab.members() == []
    assert entries(box.engine) == NOTHING


def test_an_error_meanwhile_leaves_nothing(box: Box, lab: pylxc.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(child: native.Child, endpoint: bytes) -> None:
        raise OSError(errno.EIO, "sendmsg")

    before = monitors()
    monkeypatch.setattr(native, "tell_endpoint", fails)
    with pytest.raises(pylxc.StoreError):
        box.run("true", network="lab")
    assert lab.members() == []
    assert entries(box.engine) == NOTHING
    assert monitors() <= before


@pytest.mark.parametrize("told", [0, 1])
def test_a_caller_that_is_killed_meanwhile_leaves_nothing(box: Box, lab: pylxc.Network, told: int) -> None:
    before = monitors()
    words = [sys.executable, "-c", KILLED, str(box.engine.root), "late", str(told)]
    assert subprocess.run(words, timeout=60, check=False).returncode == -9
    reap_orphans(before)
    listed = subprocess.run([sys.executable, "-c", FOLLOWING, str(box.engine.root)], check=True, capture_output=True)
    assert listed.stdout == b"[]\n"
    assert lab.members() == []
    assert entries(box.engine) == NOTHING
