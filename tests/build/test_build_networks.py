"""The networks of RUN steps: the default one, the host's, one of one's own; names; what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from boxes import await_true
from ownnet import host, links, run, tables

import pylxc

pytestmark = pytest.mark.root
__all__ = ["host"]

LINKS = "tail -n +3 /proc/net/dev | cut -d : -f 1"


def test_the_default_network(on_busybox) -> None:
    on_busybox(f"FROM busybox\nRUN {LINKS}")
    assert sorted(on_busybox.output().split()) == ["eth0", "lo"]
    on_busybox(f"FROM busybox\nRUN {LINKS}", network="none")
    assert on_busybox.output() == ""  # cached: the build's network is none of a step's definition
    await_true(lambda: (links(), tables()) == ({"lo"}, set()), "the end of the bridge")


def test_networks_of_steps(on_busybox) -> None:
    run("ip", "link", "add", "mark0", "type", "bridge")
    try:
        text = f"FROM busybox\nRUN --network=none {LINKS}\nRUN --network=host {LINKS}"
        with pytest.raises(
            pylxc.SpecError, match=r'asks for RUN --network=host; give network="host", or allow "network\.h'
        ):
            on_busybox(text)
        on_busybox(text, allow=["network.host"])
        assert on_busybox.output().split() == ["lo", "lo", "mark0"]
        on_busybox(f"FROM busybox\nRUN {LINKS}", network="host")
        assert on_busybox.output().split() == ["lo", "mark0"]
    finally:
        run("ip", "link", "del", "mark0")


def test_where_no_bridge_can_be_made_steps_have_the_hosts_network(on_busybox, monkeypatch) -> None:
    from pylxc.runtime import network

    def refuse(*_: object, **__: object) -> None:
        raise pylxc.UnsupportedError("networks", "none of them here")

    monkeypatch.setattr(network, "make_firewall", refuse)
    on_busybox(f"FROM busybox\nRUN {LINKS}")
    assert on_busybox.output().split() == ["lo"]
    with pytest.raises(pylxc.UnsupportedError):
        on_busybox("FROM busybox\nRUN echo bridge", network="bridge")


def test_a_network_of_ones_own(on_busybox) -> None:
    engine = on_busybox.engine
    with pytest.raises(pylxc.NetworkNotFound, match="shop"):
        on_busybox("FROM busybox\nRUN true", network="shop")
    with (
        pylxc.Network.create("shop", "10.77.0.0/24", internal=True, engine=engine) as shop,
        pylxc.start("busybox", ["sh", "-c", "nc -ll -p 80 -e echo hello"], network="shop", engine=engine) as server,
    ):
        (member,) = shop.members()
        server.wait_ready(port=80)
        on_busybox(f"FROM busybox\nRUN nc -w 5 {member.addresses[0]} 80; ip -4 addr show dev eth0", network="shop")
        assert on_busybox.output().startswith("hello\n")
        assert "inet 10.77.0.3/24" in on_busybox.output()  # another one than the container's
        assert [one.container for one in shop.members()] == [server.id]


def test_extra_hosts(on_busybox) -> None:
    text = "FROM busybox\nRUN grep -E 'db|up|pylxc' /etc/hosts"
    on_busybox(text, extra_hosts={"db": "192.0.2.7", "up": "host-gateway"})
    lines = [line.split() for line in on_busybox.output().splitlines()]
    gateways = [line[0] for line in lines if line[1] == "host.pylxc.internal"]
    assert gateways
    assert [line[0] for line in lines if line[1] == "up"] == gateways
    assert ["192.0.2.7", "db"] in lines
    # As in BuildKit a step depends on the names, not on where they lead.
    on_busybox(text, extra_hosts=["db:192.0.2.8", "up:host-gateway"])
    assert on_busybox.output() == ""
    on_busybox(text, extra_hosts={"db": "192.0.2.8"}, network="none")
    assert on_busybox.output() == "192.0.2.8\tdb\n"
    with pytest.raises(pylxc.SpecError) as caught:
        on_busybox(text, extra_hosts={"db": "somewhere"})
    assert caught.value.option == "extra_hosts"


def test_a_network_that_a_build_is_on_stays(on_busybox) -> None:
    network = pylxc.Network.create("shop", engine=on_busybox.engine)
    refused = []

    def remove(event: pylxc.BuildEvent) -> None:
        if event.kind == "output":
            with pytest.raises(pylxc.Conflict, match=r"shop: containers are on it \(a build\)"):
                network.remove()
            refused.append(event)

    on_busybox.tell = remove
    on_busybox("FROM busybox\nRUN echo here", network="shop")
    assert len(refused) == 1
    network.remove()


BUILD = """
import sys, io, pylxc
engine = pylxc.Engine(sys.argv[1])
text = io.BytesIO(b"FROM busybox\\nRUN echo ready; sleep 100")
pylxc.Image.build(text, on_event=lambda event: event.data and print("ready", flush=True), engine=engine)
"""


def test_of_a_killed_build_nothing_is_left(on_busybox) -> None:
    engine = on_busybox.engine
    with subprocess.Popen([sys.executable, "-c", BUILD, str(engine.root)], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"ready\n"
        assert any(name.startswith("pylxc-") for name in links())
        builder.kill()
    await_true(lambda: (links(), tables()) == ({"lo"}, set()), "the end of the bridge")
    engine.reopen()
    pylxc.Network.get("bridge", engine=engine).remove()  # nobody has an address on it
    await_true(lambda: os.listdir(engine.root / "staging") == [], "the end of the staging")
