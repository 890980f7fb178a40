"""Who reaches whom: the world through this host's address, other networks not at all."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, box, box_engine
from ownnet import run, tables

import pylxc
from pylxc.runtime import resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

pytestmark = pytest.mark.root
__all__ = ["box", "box_engine"]

# Answers every connection with the address that it came from.
ECHO = """
import socket, sys
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    connection, address = server.accept()
    with connection:
        connection.sendall(address[0].removeprefix("::ffff:").encode())
"""
HOST, WORLD = "192.0.2.2", "192.0.2.1"
HOST6, WORLD6 = "2001:db8::2", "2001:db8::1"


@contextmanager
def _server(*enter: str) -> Iterator[int]:
    with subprocess.Popen([*enter, sys.executable, "-c", ECHO], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listening\n"
            yield server.pid
        finally:
            server.kill()


@pytest.fixture
def world() -> Iterator[int]:
    """Another machine, which this host's default route leads to; it has no way back to containers."""
    with _server("unshare", "-n") as pid:
        run("ip", "link", "add", "uplink", "mtu", "1400", "type", "veth", "peer", "name", "far", "netns", str(pid))
        for link, inside, addresses in (("uplink", 0, (HOST, HOST6)), ("far", pid, (WORLD, WORLD6))):
            run("ip", "link", "set", link, "up", inside=inside)
            run("ip", "addr", "add", f"{addresses[0]}/24", "dev", link, inside=inside)
            run("ip", "addr", "add", f"{addresses[1]}/64", "dev", link, "nodad", inside=inside)
        run("ip", "link", "set", "lo", "up", inside=pid)
        run("ip", "route", "add", "default", "via", WORLD)
        run("ip", "-6", "route", "add", "default", "via", WORLD6)
        yield pid
        run("ip", "link", "del", "uplink")


def asked(container: pylxc.Container, address: str) -> str:
    """Return what a connection from inside is answered; "" for none within 2 s."""
    return container.exec(["nc", "-w", "2", address, "80"], timeout=20, check=False).text


def asked_from(pid: int, address: str) -> str:
    script = f"import socket; print(socket.create_connection(('{address}', 80), 2).recv(99).decode())"
    enter = ["nsenter", "-t", str(pid), "-n"]
    return subprocess.run([*enter, sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", ["lab", "bridge"])
def test_the_world_is_reached_with_the_hosts_address(box: Box, world: int, name: str) -> None:
    if name != "bridge":
        pylxc.Network.create(name, engine=box.engine)
    with box.start("sleep", "100", network=name) as container:
        assert asked(container, WORLD) == HOST
        assert asked(container, WORLD6) == HOST6
        assert container.exec(["cat", "/sys/class/net/eth0/mtu"]).text == "1400\n"  # that of the way out
    pylxc.Network.get(name, engine=box.engine).remove()
    assert tables() == set()


def test_without_ipv6_to_the_world_there_is_no_way_of_it(box: Box, world: int) -> None:
    run("ip", "-6", "route", "del", "default")
    with (
        pylxc.Network.create("lab", engine=box.engine) as lab,
        box.start("ip", "-6", "route", network="lab", log={"max_size": "1m"}) as container,
    ):
        container.wait()
        routes = [line.text for line in container.logs()]
        assert [line for line in routes if line.startswith("default")] == []
        assert [line for line in routes if line.startswith(lab.subnets[1].partition("::")[0])]
        assert run("sysctl", "-n", "net.ipv6.conf.all.forwarding").strip() == "0"


def test_nobody_reaches_in_by_routing_through_the_host(box: Box, world: int) -> None:
    with (
        pylxc.Network.create("lab", engine=box.engine) as lab,
        box.start("sh", "-c", "nc -ll -p 80 -e echo hello", network="lab"),
    ):
        (member,) = lab.members()
        await_true(lambda: asked_from_host(member.addresses[0]) == "hello", "an answer to the host")
        run("ip", "route", "add", lab.subnets[0], "via", HOST, inside=world)
        run("ip", "-6", "route", "add", lab.subnets[1], "via", HOST6, inside=world)
        for address in member.addresses:
            assert asked_from(world, address) == ""
        run("nft", "flush", "chain", "inet", lab.bridge, "forward")
        assert asked_from(world, member.addresses[0]).strip() == "hello"  # it was that which kept them out


def asked_from_host(address: str) -> str:
    script = f"import socket; print(socket.create_connection(('{address}', 80), 2).recv(99).decode().strip())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_an_internal_network_does_not_reach_out(box: Box, world: int) -> None:
    with (
        pylxc.Network.create("lab", internal=True, engine=box.engine) as lab,
        pylxc.Network.create("open", engine=box.engine),  # which switches forwarding on
        box.start("sh", "-c", "nc -ll -p 80 -e echo hello", network="lab", name="server"),
        box.start("sleep", "100", network="lab", cap_add=["NET_ADMIN"]) as container,
    ):
        await_true(lambda: asked(container, "server") == "hello\n", "an answer inside")
        assert asked(container, WORLD) == asked(container, WORLD6) == ""
        # Not even where its root makes itself a way.
        container.exec(["ip", "route", "add", "default", "via", lab.gateways[0]])
        assert asked(container, WORLD) == ""
        run("nft", "flush", "chain", "inet", lab.bridge, "forward")
        run("ip", "route", "add", lab.subnets[0], "via", HOST, inside=world)
        assert asked(container, WORLD) != ""  # it was that which kept it in


@pytest.mark.parametrize("kind", ["open", "internal"])
def test_networks_do_not_reach_each_other(box: Box, world: int, kind: str) -> None:
    with (
        pylxc.Network.create("one", engine=box.engine),
        pylxc.Network.create("two", internal=kind == "internal", engine=box.engine) as two,
        box.start("sh", "-c", "nc -ll -p 80 -e echo hello", network="two", name="server"),
        box.start("sleep", "100", network="one") as container,
    ):
        (server,) = two.members()
        await_true(lambda: asked_from_host(server.addresses[0]) == "hello", "an answer to the host")
        for address in server.addresses:
            assert asked(container, address) == ""
        run("nft", "flush", "ruleset")
        # It was that which kept them apart; an internal network has no way back either.
        assert asked(container, server.addresses[0]) == ("hello\n" if kind == "open" else "")


def test_a_name_of_one_network_is_none_of_another(box: Box) -> None:
    with (
        pylxc.Network.create("one", engine=box.engine),
        pylxc.Network.create("two", engine=box.engine),
        box.start("sleep", "100", network="two", name="server"),
        box.start("sleep", "100", network="one", name="client") as client,
    ):
        assert "server" not in client.exec(["cat", "/etc/hosts"]).text


def test_iptables_legacy_that_drops_is_explained(box: Box, world: int, caplog: pytest.LogCaptureFixture) -> None:
    from pylxc import networking

    networking._warn_of_drops_once.cache_clear()
    run("iptables-legacy", "-P", "FORWARD", "DROP")
    with pylxc.Network.create("lab", engine=box.engine), box.start("sleep", "100", network="lab") as container:
        assert asked(container, WORLD) == ""
        (said,) = [record.message for record in caplog.records if "get out of this host" in record.message]
        finding = pylxc.doctor(engine=box.engine).get("networks")
        assert (finding.level, "iptables-legacy drops what this host forwards" in finding.found) == ("warning", True)
        commands = [part for part in finding.remedy.split("`") if part.startswith("iptables-legacy")]
        assert len(commands) == 2
        assert all(command in said for command in commands)
        for command in commands:  # the remedy is one
            run(*command.split())
        assert asked(container, WORLD) == HOST


def test_nftables_that_drop_are_explained(box: Box, world: int, caplog: pytest.LogCaptureFixture) -> None:
    from pylxc import networking

    networking._warn_of_drops_once.cache_clear()
    run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    try:
        with pylxc.Network.create("lab", engine=box.engine), box.start("sleep", "100", network="lab") as container:
            assert asked(container, WORLD) == ""
            (said,) = [record.message for record in caplog.records if "get out of this host" in record.message]
            assert "chain ip filter FORWARD of nftables drops what this host forwards" in said
            finding = pylxc.doctor(engine=box.engine).get("networks")
            assert finding.level == "warning"
            commands = [part for part in finding.remedy.split("`") if part.startswith("nft ")]
            assert len(commands) == 2
            for command in commands:  # the remedy is one
                run(*shlex.split(command))
            assert asked(container, WORLD) == HOST
    finally:
        run("nft", "delete", "table", "ip", "filter")


def test_doctor_says_that_networks_work(box: Box) -> None:
    finding = pylxc.doctor(engine=box.engine).get("networks")
    assert (finding.level, finding.remedy) == ("ok", "")


@pytest.mark.parametrize("name", ["lab"])
def test_names_are_asked_of_the_hosts_servers(box: Box, world: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of the world is asked, by what resolv.conf says: over UDP, and with the host's address."""
    script = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53));"
        "print('listening', flush=True); d, a = s.recvfrom(999);"
        "s.sendto(d[:2] + b'\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + d[12:d.index(b'\\0', 12) + 5]"
        " + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4' + socket.inet_aton('198.51.100.7'), a)"
    )
    monkeypatch.setattr(resolver, "read", lambda *_: f"nameserver {WORLD}\n")
    server = ["nsenter", "-t", str(world), "-n", sys.executable, "-c", script]
    with pylxc.Network.create(name, engine=box.engine), subprocess.Popen(server, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        found = box.run("nslookup", "-type=a", "some.example", network=name, check=False, timeout=30).text
        process.kill()
    assert "198.51.100.7" in found
