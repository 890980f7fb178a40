"""What the default network is for: a package manager inside that reaches the world. On this machine's own network."""

from __future__ import annotations

import pytest
from boxes import await_true
from ownnet import links, tables

import pylxc

pytestmark = [pytest.mark.root, pytest.mark.network]


def test_packages_are_fetched_on_the_default_network(shared_engine: pylxc.Engine, debian: pylxc.Image) -> None:
    done = pylxc.run(debian, ["apt-get", "update"], engine=shared_engine, timeout=300)
    assert "Reading package lists" in done.text
    assert b"Err:" not in done.stdout
    bridge = pylxc.Network.get("bridge", engine=shared_engine).bridge
    await_true(lambda: bridge not in links() | tables(), "the end of the network")
