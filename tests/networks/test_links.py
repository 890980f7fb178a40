"""What the netlink module makes, as iproute2 and nft read it."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from boxes import await_true
from ownnet import addresses, ip, links, run, tables

from pylxc.runtime import network

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

BRIDGE = "pylxc-test"
MAC, INNER_MAC = bytes.fromhex("025000000001"), bytes.fromhex("025000000002")
SUBNETS = (ipaddress.ip_network("10.77.0.0/24"), ipaddress.ip_network("fd77::/64"))


def at(number: int) -> tuple[network.Interface, ...]:
    return tuple(ipaddress.ip_interface((subnet[number], subnet.prefixlen)) for subnet in SUBNETS)


END = network.Endpoint(
    name="eth0",
    bridge=BRIDGE,
    mac=INNER_MAC,
    addresses=at(2),
    gateways=tuple(address.ip for address in at(1)),
)


@pytest.fixture
def bridge() -> Iterator[str]:
    network.make_bridge(BRIDGE, MAC, at(1), 1380)
    yield BRIDGE
    network.remove_link(BRIDGE)


@contextmanager
def namespace() -> Iterator[tuple[int, int, int]]:
    """A process in a network namespace of its own: its pid, a pidfd of it, a descriptor of the namespace."""
    own = os.stat("/proc/thread-self/ns/net").st_ino
    with subprocess.Popen(["unshare", "-n", "sleep", "100"]) as process:
        try:
            await_true(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != own, "a namespace")
            pid_fd, netns = os.pidfd_open(process.pid), os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
            try:
                yield process.pid, pid_fd, netns
            finally:
                os.close(pid_fd)
                os.close(netns)
        finally:
            process.kill()


def test_a_bridge_is_up_with_its_addresses(bridge: str) -> None:
    (link,) = ip("-d", "link", "show", "dev", bridge)
    assert "UP" in link["flags"]
    assert link["mtu"] == 1380
    assert link["address"] == "02:50:00:00:00:01"
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert link["linkinfo"]["info_data"]["forward_delay"] == 0
    assert addresses(bridge) == {"10.77.0.1/24", "fd77::1/64"}
    assert network.is_there(bridge)
    assert network.ports(bridge) == 0


def test_a_bridge_that_is_there_is_left_alone(bridge: str) -> None:
    network.make_bridge(bridge, MAC, at(9), 1000)
    assert addresses(bridge) == {"10.77.0.1/24", "fd77::1/64"}


def test_a_bridge_with_an_address_that_cannot_be_leaves_nothing() -> None:
    multicast = ipaddress.ip_interface("ff02::1/64")
    with pytest.raises(OSError, match="make the bridge pylxc-test: "):
        network.make_bridge(BRIDGE, MAC, (multicast,))
    assert BRIDGE not in links()


def test_removing_twice_is_no_error(bridge: str) -> None:
    network.remove_link(bridge)
    assert not network.is_there(bridge)
    network.remove_link(bridge)
    network.remove_firewall(bridge)
    with pytest.raises(OSError, match="No such device"):
        network.ports(bridge)


def test_an_endpoint_has_addresses_and_routes(bridge: str) -> None:
    with namespace() as (pid, pid_fd, netns):
        network.attach(pid_fd, netns, END)
        (link,) = ip("link", "show", "dev", "eth0", inside=pid)
        assert (link["mtu"], link["address"], "UP" in link["flags"]) == (1380, "02:50:00:00:00:02", True)
        assert addresses("eth0", inside=pid) == {"10.77.0.2/24", "fd77::2/64"}
        assert [route["gateway"] for route in ip("route", "show", "default", inside=pid)] == ["10.77.0.1"]
        assert [route["gateway"] for route in ip("-6", "route", "show", "default", inside=pid)] == ["fd77::1"]
        assert network.ports(bridge) == 1
        network.detach(pid_fd, "eth0")
        assert links(inside=pid) == {"lo"}
        assert network.ports(bridge) == 0
        (link,) = ip("link", "show", "dev", bridge)
        assert link["mtu"] == 1380  # whatever was on it
        network.detach(pid_fd, "eth0")


def test_an_endpoint_goes_with_its_namespace(bridge: str) -> None:
    with namespace() as (pid, pid_fd, netns):
        network.attach(pid_fd, netns, END)
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: network.ports(bridge) == 0, "the end of the pair of links")


def test_an_endpoint_that_fails_leaves_nothing(bridge: str) -> None:
    with namespace() as (pid, pid_fd, netns):
        network.attach(pid_fd, netns, END)
        with pytest.raises(OSError, match=r"make eth0 on pylxc-test: File exists"):
            network.attach(pid_fd, netns, END)
        assert network.ports(bridge) == 1
        unreachable = network.Endpoint(
            name="eth1", bridge=BRIDGE, mac=MAC, addresses=(), gateways=(ipaddress.ip_address("192.0.2.1"),)
        )
        with pytest.raises(OSError, match="make eth1 on pylxc-test: Network is unreachable"):
            network.attach(pid_fd, netns, unreachable)
        assert links(inside=pid) == {"lo", "eth0"}
        network.detach(pid_fd, "eth0")


def test_an_endpoint_needs_its_bridge() -> None:
    with namespace() as (_, pid_fd, netns), pytest.raises(OSError, match="make eth0 on pylxc-test: No such device"):
        network.attach(pid_fd, netns, END)


def test_routes_are_those_that_iproute2_lists(bridge: str) -> None:
    run("ip", "route", "add", "192.0.2.0/25", "via", "10.77.0.9", "metric", "7")
    run("ip", "route", "add", "198.51.100.0/24", "dev", bridge, "table", "77")
    run("ip", "route", "add", "blackhole", "203.0.113.0/24")
    run("ip", "-6", "route", "add", "2001:db8::/32", "via", "fd77::9")
    found = {str(route.to): route for route in network.routes()}
    expected = {"10.77.0.0/24", "192.0.2.0/25", "198.51.100.0/24", "2001:db8::/32", "fd77::/64"}
    assert expected <= set(found)
    assert "203.0.113.0/24" not in found  # it leads nowhere
    assert found["192.0.2.0/25"].metric == 7
    assert not found["198.51.100.0/24"].is_main


def test_many_routes_are_all_listed(bridge: str) -> None:
    lines = "".join(f"route add 10.{a}.{b}.0/24 dev {bridge}\n" for a in range(100, 104) for b in range(250))
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True, timeout=60)
    assert len([route for route in network.routes() if route.to.version == 4]) >= 1000


def test_the_uplink_is_where_the_default_route_leads(bridge: str) -> None:
    assert network.uplink_mtu() == 0
    run("ip", "route", "add", "default", "via", "10.77.0.9")
    assert network.uplink_mtu() == 1380


OPEN = """table inet pylxc-test {
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "pylxc-test" oifname "pylxc-test" accept
		iifname "pylxc-test" oifname "pylxc-*" drop
		iifname "pylxc-test" accept
		oifname "pylxc-test" ct state established,related accept
		oifname "pylxc-test" drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.77.0.0/24 oifname != "pylxc-test" masquerade
		ip6 saddr fd77::/64 oifname != "pylxc-test" masquerade
	}
}
"""
INTERNAL = """table inet pylxc-test {
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "pylxc-test" oifname "pylxc-test" accept
		iifname "pylxc-test" drop
		oifname "pylxc-test" drop
	}
}
"""


def test_the_packet_filter_as_nft_reads_it() -> None:
    for _ in range(2):  # made anew it is the same
        network.make_firewall(BRIDGE, SUBNETS, internal=False)
        assert run("nft", "list", "table", "inet", BRIDGE) == OPEN
    network.make_firewall(BRIDGE, SUBNETS, internal=True)
    assert run("nft", "list", "table", "inet", BRIDGE) == INTERNAL
    assert tables() == {BRIDGE}
    network.remove_firewall(BRIDGE)
    assert tables() == set()


def test_the_packet_filter_leaves_those_of_others_alone() -> None:
    run("nft", "add", "table", "inet", "others")
    network.make_firewall(BRIDGE, SUBNETS, internal=False)
    network.remove_firewall(BRIDGE)
    assert tables() == {"others"}
    run("nft", "delete", "table", "inet", "others")


def test_iptables_legacy_that_drops_is_seen() -> None:
    assert [network.legacy_drops(4), network.legacy_drops(6)] == [False, False]
    run("iptables-legacy", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")  # a rule is no policy
    assert not network.legacy_drops(4)
    run("iptables-legacy", "-P", "FORWARD", "DROP")
    assert [network.legacy_drops(4), network.legacy_drops(6)] == [True, False]
    run("ip6tables-legacy", "-P", "FORWARD", "DROP")
    assert network.legacy_drops(6)
    run("iptables-legacy", "-P", "FORWARD", "ACCEPT")
    assert not network.legacy_drops(4)


def test_forwarding_is_switched_on_and_routers_are_still_heard(bridge: str) -> None:
    run(
        "sysctl",
        "-qw",
        "net.ipv4.ip_forward=0",
        "net.ipv6.conf.all.forwarding=0",
        f"net.ipv6.conf.{bridge}.accept_ra=1",
    )
    network.forward((4,))
    assert run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").split() == ["1", "0"]
    network.forward((4, 6))
    names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", f"net.ipv6.conf.{bridge}.accept_ra")
    assert run("sysctl", "-n", *names).split() == ["1", "1", "2"]
