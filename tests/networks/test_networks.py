"""Networks as objects: what they are given, whom they belong to, when they go."""

from __future__ import annotations

import subprocess
import sys

import pytest
from boxes import await_true, children, monitors
from ownnet import addresses, links, reap_orphans, run, tables

import pylxc
from pylxc import subnets
from pylxc.runtime import resolver

pytestmark = pytest.mark.root


def test_a_network_is_made_found_listed_and_removed(engine: pylxc.Engine) -> None:
    with pylxc.Network.create("lab", labels={"tier": "db"}, engine=engine) as network:
        assert (network.name, network.internal, network.labels) == ("lab", False, {"tier": "db"})
        assert {text.partition("/")[0] for text in addresses(network.bridge)} == set(network.gateways)
        assert tables() == {network.bridge}
        for handle in ("lab", network.id, network.id[:8]):
            assert pylxc.Network.get(handle, engine=engine).id == network.id
        assert [one.name for one in pylxc.Network.list(engine=engine)] == ["lab"]
        assert pylxc.Network.list({"label": "tier=web"}, engine=engine) == []
        assert len(pylxc.Network.list({"dangling": "true", "internal": "false"}, engine=engine)) == 1
        assert network.members() == []
    assert pylxc.Network.list(engine=engine) == []
    with pytest.raises(pylxc.NetworkNotFound) as caught:
        pylxc.Network.get("lab", engine=engine)
    assert caught.value.name == "lab"
    with pytest.raises(pylxc.NetworkNotFound):
        network.remove()
    network.remove(force=True)


def test_leaving_the_block_with_containers_on_it(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    network = pylxc.Network.create("lab", engine=engine)
    container = pylxc.create(busybox, ["true"], network="lab", engine=engine)
    with pytest.raises(pylxc.Conflict, match="lab: containers are on it"), network:
        assert len(network.members()) == 1
    with pytest.raises(ZeroDivisionError), network:
        raise ZeroDivisionError  # what really went wrong is what is heard of
    container.remove()
    network.remove()


def test_an_internal_network_has_no_way_out(engine: pylxc.Engine) -> None:
    run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    with pylxc.Network.create("lab", internal=True, engine=engine) as network:
        assert network.internal
        assert "masquerade" not in run("nft", "list", "table", "inet", network.bridge)
        assert run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"  # nobody needs it


def test_the_default_network_is_made_when_it_is_asked_for(engine: pylxc.Engine) -> None:
    first = pylxc.Network.get("bridge", engine=engine)
    assert pylxc.Network.get("bridge", engine=engine).id == first.id
    first.remove()
    with pylxc.Network.get("bridge", engine=engine) as second:
        assert second.id != first.id


def test_names_and_subnets_belong_to_one_network(engine: pylxc.Engine) -> None:
    with pylxc.Network.create("lab", "10.5.0.0/24", engine=engine) as network:
        assert network.subnets == ("10.5.0.0/24",)
        with pytest.raises(pylxc.Conflict, match="lab: there is a network of this name"):
            pylxc.Network.create("lab", engine=engine)
        with pytest.raises(
            pylxc.Conflict, match=r"other: its subnet 10\.5\.0\.0/16 overlaps with 10\.5\.0\.0/24, to which"
        ):
            pylxc.Network.create("other", "10.5.0.0/16", engine=engine)
        run("ip", "link", "del", network.bridge)  # as after a boot
        with pytest.raises(pylxc.Conflict, match=r"other: its subnet 10\.5\.0\.0/25 overlaps with that of network lab"):
            pylxc.Network.create("other", "10.5.0.0/25", engine=engine)
        assert tables() == {network.bridge}


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("10.5.0.1/24", r"did you mean 10\.5\.0\.0/24"),
        ("10.5.0.0/31", "no room for a container"),
        ("127.0.0.0/8", "cannot be a network's"),
        ("fe80::/64", "cannot be a network's"),
        ("everything", "give a subnet such as"),
        (("10.5.0.0/24", "10.6.0.0/24"), "one subnet of IPv4, one of IPv6"),
        ((), "one subnet of IPv4, one of IPv6"),
    ],
)
def test_subnets_that_cannot_be(engine: pylxc.Engine, given: str, remedy: str) -> None:
    with pytest.raises(pylxc.SpecError, match=remedy) as caught:
        pylxc.Network.create("lab", given, engine=engine)
    assert caught.value.option == "subnet"


@pytest.mark.parametrize("name", ["none", "host", "", "a b", "container:x", "-x"])
def test_names_that_cannot_be(engine: pylxc.Engine, name: str) -> None:
    with pytest.raises(pylxc.SpecError) as caught:
        pylxc.Network.create(name, engine=engine)
    assert caught.value.option == "name"


def test_subnets_keep_off_routes_and_name_servers(engine: pylxc.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "read", lambda *_: "nameserver 10.255.255.53\n")
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "link", "set", "up0", "up")
    try:
        # Of the first pool only its last subnet is left, and there is the name server.
        for network in ("10.192.0.0/11", "10.224.0.0/12", "10.240.0.0/13", "10.248.0.0/14", "10.252.0.0/15"):
            run("ip", "route", "add", network, "dev", "up0")
        run("ip", "route", "add", "10.254.0.0/16", "dev", "up0", "table", "7")
        run("ip", "route", "add", "10.255.0.0/17", "dev", "up0")
        run("ip", "route", "add", "10.255.128.0/18", "dev", "up0")
        run("ip", "route", "add", "10.255.192.0/19", "dev", "up0")
        run("ip", "route", "add", "10.255.224.0/20", "dev", "up0")
        run("ip", "route", "add", "172.16.0.0/20", "dev", "up0")
        with pylxc.Network.create("lab", engine=engine) as network:
            assert network.subnets[0] == "172.16.16.0/20"
    finally:
        run("ip", "link", "del", "up0")


def test_a_host_without_a_free_subnet_is_told_so() -> None:
    taken = subnets.parsed(("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
    with pytest.raises(pylxc.SpecError, match="overlaps with a route of this host or a network; give one"):
        subnets.choose(taken, ipv6=False)
    assert [str(subnet) for subnet in subnets.choose(taken[:2], ipv6=False)] == ["192.168.0.0/24"]


def test_addresses_are_not_given_again_before_all_others_were(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    with pylxc.Network.create("tiny", "10.5.0.0/29", engine=engine) as network:  # 2 to 6
        made = [pylxc.create(busybox, ["true"], network="tiny", engine=engine) for _ in range(3)]
        assert [one.addresses[0] for one in network.members()] == ["10.5.0.2", "10.5.0.3", "10.5.0.4"]
        made.pop(0).remove()
        made += [pylxc.create(busybox, ["true"], network="tiny", engine=engine) for _ in range(3)]
        assert [one.addresses[0] for one in network.members()] == [f"10.5.0.{n}" for n in (2, 3, 4, 5, 6)]
        with pytest.raises(pylxc.Conflict, match="tiny: all 5 addresses of the network are taken"):
            pylxc.create(busybox, ["true"], network="tiny", engine=engine)
        with pytest.raises(pylxc.Conflict, match="tiny: containers are on it"):
            network.remove()
        for container in made:
            container.remove()


def test_a_network_that_is_not_there(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    with pytest.raises(pylxc.NetworkNotFound, match="no network named 'lab'"):
        pylxc.create(busybox, ["true"], network="lab", engine=engine)
    assert pylxc.Container.list(all=True, engine=engine) == []


MAKE = """
import os, pylxc, sys
engine = pylxc.Engine(sys.argv[1])
network = pylxc.Network.create("lab", detach=sys.argv[2] == "detach", engine=engine)
print(network.bridge, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["owned", "detach"])
def test_a_network_goes_with_its_owner_unless_it_is_detached(engine: pylxc.Engine, how: str) -> None:
    command, running = [sys.executable, "-c", MAKE, str(engine.root), how], monitors()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        bridge = maker.stdout.readline().strip()
        assert bridge in links()
        maker.kill()
    names = [network.name for network in pylxc.Network.list(engine=engine)]  # the next process
    reap_orphans(running)
    assert names == (["lab"] if how == "detach" else [])
    assert (bridge in links(), bridge in tables()) == (how == "detach", how == "detach")
    if how == "detach":
        pylxc.Network.get("lab", engine=engine).remove()


SERVE = MAKE.replace("print(", "made = pylxc.start('busybox', ['sleep', '1000'], network='lab', engine=engine)\nprint(")


@pytest.mark.parametrize("script", [MAKE, SERVE])
def test_what_a_killed_owner_has_in_the_kernel_goes_at_once(
    engine: pylxc.Engine, busybox: pylxc.Image, script: str
) -> None:
    command = [sys.executable, "-c", script, str(engine.root), "owned"]
    before, running = links(), monitors()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        bridge = maker.stdout.readline().strip()
        assert {bridge} == tables() <= links()
        maker.kill()
    await_true(lambda: (links(), tables()) == (before, set()), "the end of the network", timeout=10)
    reap_orphans(running)
    engine.reopen()
    assert pylxc.Network.list(engine=engine) == []


def test_a_network_with_somebody_elses_container_stays(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    command, running = [sys.executable, "-c", MAKE, str(engine.root), "owned"], monitors()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        bridge = maker.stdout.readline().strip()
        with pylxc.start(busybox, ["sleep", "100"], network="lab", engine=engine) as container:
            maker.kill()
            maker.wait()
            engine.reopen()
            assert [network.name for network in pylxc.Network.list(engine=engine)] == ["lab"]
            assert bridge in links()
            assert container.status() == "running"
        engine.reopen()
        assert pylxc.Network.list(engine=engine) == []
    await_true(lambda: bridge not in links(), "the end of the network")
    reap_orphans(running)


def test_a_network_can_be_detached_later(engine: pylxc.Engine) -> None:
    command = [sys.executable, "-c", MAKE.replace("print(", "network.detach()\nprint("), str(engine.root), "owned"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        bridge = maker.stdout.readline().strip()
        maker.kill()
    with pylxc.Network.get("lab", engine=engine) as network:
        assert network.bridge == bridge
        assert bridge in links()


def test_no_keeper_is_left(engine: pylxc.Engine) -> None:
    before = children()
    with pylxc.Network.create("lab", engine=engine):
        assert len(children() - before) == 1
    assert children() == before
    network = pylxc.Network.create("lab", engine=engine)
    network.detach()
    assert children() == before
    network.remove()
    with pytest.raises(pylxc.Conflict):
        pylxc.Network.create("lab", "10.9.0.0/24", engine=engine) and pylxc.Network.create("lab", engine=engine)
    pylxc.Network.get("lab", engine=engine).remove()
    assert children() == before


def test_a_removal_that_was_cut_short_is_gone_on_with(engine: pylxc.Engine) -> None:
    network = pylxc.Network.create("lab", detach=True, engine=engine)
    assert engine.store.networks.begin_removal(network.id)  # killed right after
    assert network.bridge in links()
    engine.reopen()
    assert pylxc.Network.list(engine=engine) == []
    assert (network.bridge in links(), tables()) == (False, set())


def test_a_network_that_cannot_be_made_leaves_nothing(engine: pylxc.Engine) -> None:
    before = links()
    run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    try:
        with pytest.raises(pylxc.UnsupportedError, match="this host has no IPv6"):
            pylxc.Network.create("lab", "fd00:5::/64", engine=engine)
        with pylxc.Network.create("plain", engine=engine) as network:
            assert len(network.subnets) == 1
    finally:
        run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
    assert links() == before
    assert pylxc.Network.list(engine=engine) == []
