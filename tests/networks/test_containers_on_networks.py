"""Containers on networks: their links, their names, what they ask whom for."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, box, box_engine
from ownnet import addresses, ip, links, place, ports, run

import pylxc
from pylxc.runtime import network as kernel
from pylxc.runtime import resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

    from pylxc.runtime.network import Stack
    from pylxc.store import NetworkRow

__all__ = ["box", "box_engine"]

HELLO = "exec nc -ll -p 80 -e echo hello from $(hostname)"


@pytest.fixture
def lab(box: Box) -> Iterator[pylxc.Network]:
    with pylxc.Network.create("lab", engine=box.engine) as made:
        yield made


def hosts(container: pylxc.Container) -> dict[str, set[str]]:
    """Return name -> addresses, as the container's hosts file has them."""
    found: dict[str, set[str]] = {}
    for line in container.exec(["cat", "/etc/hosts"]).text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found.setdefault(name, set()).add(address)
    return found


def own(container: pylxc.Container, network: pylxc.Network) -> tuple[str, ...]:
    return next(member.addresses for member in network.members() if member.container == container.id)


def ask(container: pylxc.Container, name: str) -> str:
    """Connect to port 80 of a name, and return what comes; "" while nobody listens there."""
    return container.exec(["nc", "-w", "5", name, "80"], timeout=20, check=False).text


@pytest.mark.parametrize("userns", [None, pytest.param("host", marks=pytest.mark.root)])
def test_the_link_inside_has_what_the_store_says(box: Box, lab: pylxc.Network, userns: str | None) -> None:
    with box.start("sleep", "100", network="lab", userns=userns) as container:
        pid = container.status().pid
        inside = addresses("eth0", inside=pid)
        assert {text.partition("/")[0] for text in inside} == set(own(container, lab))
        assert [route["gateway"] for route in ip("route", "show", "default", inside=pid)] == [lab.gateways[0]]
        settings = container.inspect()["NetworkSettings"]["Networks"]["lab"]
        assert settings["IPAddress"] in own(container, lab)
        assert ip("link", "show", "dev", "eth0", inside=pid)[0]["address"] == settings["MacAddress"]
        assert ports(lab, box.engine) == 1
        before = place(box.engine)
    if not before:  # else all of the stack goes
        await_true(lambda: ports(lab, box.engine) == 0, "the end of the pair of links")


def test_two_containers_talk_by_name_and_alias(box: Box, lab: pylxc.Network) -> None:
    with (
        box.start("sh", "-c", HELLO, network="lab", name="server", hostname="srv", aliases=["web", "www.example"]),
        box.start("sleep", "100", network="lab", name="client") as client,
    ):
        for name in ("server", "srv", "web", "www.example"):
            await_true(lambda name=name: ask(client, name) == "hello from srv\n", f"an answer of {name}")
    assert box.sh("cat /etc/hosts; nc -w 1 server 80", network="lab", check=False).exit_code != 0


def test_names_come_and_go_with_their_containers(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", network="lab", name="first") as first:
        assert hosts(first)["first"] == set(own(first, lab))
        with box.start("sleep", "100", network="lab", name="second", aliases=["both"], stop_timeout=0) as second:
            for container in (first, second):
                names = hosts(container)
                assert names["second"] == names["both"] == names[second.id[:12]] == set(own(second, lab))
            before = own(second, lab)
            second.stop()
            assert "second" not in hosts(first)
            second.start()
            assert hosts(first)["second"] == set(before)  # it has kept its address
            second.kill()
            second.wait()
            assert "both" not in hosts(first)
        assert "second" not in hosts(first)
        assert box.run("true", network="lab", name="third").ok
        assert "third" not in hosts(first)


def test_a_start_that_fails_leaves_no_name_and_no_link(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", network="lab", name="first") as first:
        with pytest.raises(pylxc.SpawnError):
            box.start("no-such-program", network="lab", name="second")
        assert "second" not in hosts(first)
        await_true(lambda: ports(lab, box.engine) == 1, "the end of the pair of links")
        assert len(lab.members()) == 1


def test_a_bridge_that_is_gone_is_made_again(box: Box, lab: pylxc.Network) -> None:
    with pylxc.Network.create("back", engine=box.engine), box.start("sleep", "100", network="back"):
        assert box.run("true", network="lab").ok
        where = place(box.engine)
        run("ip", "link", "del", lab.bridge, inside=where)  # as after a boot
        run("nft", "delete", "table", "inet", lab.bridge, inside=where)
        assert box.sh(f"ping -c 1 -W 5 {lab.gateways[0]}", network="lab", check=False).exit_code in (0, 1)
        assert lab.bridge in links(inside=where)
        assert "masquerade" in run("nft", "list", "table", "inet", lab.bridge, inside=where)


def test_a_link_that_cannot_be_made_names_the_network(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with pylxc.Network.create("lab", engine=box.engine) as lab:
        container = box.create("true", network="lab")
        from pylxc import containernetworks

        def take_down(_: pylxc.Engine, row: NetworkRow, stack: Stack) -> int:
            kernel.remove_link(row.bridge, stack)
            return -1

        monkeypatch.setattr(containernetworks, "bring_up", take_down)
        with pytest.raises(pylxc.SpawnError) as caught:
            container.start()
        assert (caught.value.stage, caught.value.errno) == ("network", 19)
        assert "eth0, the link to one of the networks lab" in str(caught.value)
        container.remove()
        assert lab.members() == []


def test_a_container_on_several_networks(box: Box, lab: pylxc.Network) -> None:
    with (
        pylxc.Network.create("back", internal=True, engine=box.engine) as back,
        box.start("sh", "-c", HELLO, network="back", name="database"),
        box.start("sleep", "100", network=["back", "lab"], name="app") as app,
    ):
        pid = app.status().pid
        assert links(inside=pid) == {"lo", "eth0", "eth1"}
        assert {text.partition("/")[0] for text in addresses("eth0", inside=pid)} == set(own(app, back))
        assert [route["dev"] for route in ip("route", "show", "default", inside=pid)] == ["eth1"]
        assert hosts(app)["app"] == {*own(app, back), *own(app, lab)}
        await_true(lambda: ask(app, "database").startswith("hello"), "an answer of the database")
        assert app.spec.network == ("back", "lab")
        assert pylxc.ContainerSpec.from_json(app.spec.to_json()) == app.spec


def test_a_restart_by_its_monitor_has_the_same_links(box: Box, lab: pylxc.Network) -> None:
    script = "test -e /again && exec sleep 100; touch /again; exit 1"
    with box.start("sh", "-c", script, network="lab", restart="always") as container:
        await_true(lambda: container.status().restart_count == 1 and container.status() == "running", "a restart")
        inside = addresses("eth0", inside=container.status().pid)
        assert {text.partition("/")[0] for text in inside} == set(own(container, lab))
        await_true(lambda: ports(lab, box.engine) == 1, "the end of the former pair")


def test_a_running_container_is_connected_and_disconnected(box: Box, lab: pylxc.Network) -> None:
    script = "test -e /again || { touch /again; until test -e /go; do sleep 0.05; done; exit 1; }; exec sleep 100"
    with (
        pylxc.Network.create("back", engine=box.engine) as back,
        box.start("sh", "-c", HELLO, network="back", name="database"),
        box.start("sh", "-c", script, network="lab", name="app", restart="always") as app,
    ):
        assert "database" not in hosts(app)
        back.connect(app, aliases=["front"])
        with pytest.raises(pylxc.Conflict, match="back: app is on this network already"):
            back.connect("app")
        await_true(lambda: ask(app, "database").startswith("hello"), "an answer of the database")
        assert hosts(pylxc.Container.get("database", engine=box.engine))["front"] == set(own(app, back))
        lab.disconnect("app")
        pid = app.status().pid
        assert links(inside=pid) == {"lo", "eth1"}
        assert [route["dev"] for route in ip("route", "show", "default", inside=pid)] == ["eth1"]
        app.exec(["touch", "/go"])  # its monitor starts it again, as it is now
        await_true(lambda: app.status().restart_count == 1 and app.status() == "running", "a restart")
        assert links(inside=app.status().pid) == {"lo", "eth1"}
        await_true(lambda: ask(app, "database").startswith("hello"), "an answer of the database")
        with pytest.raises(pylxc.Conflict, match="app: is not on network lab"):
            lab.disconnect(app)
        back.disconnect(app)
        assert links(inside=app.status().pid) == {"lo"}
        assert "database" not in hosts(app)
        assert "app" not in hosts(pylxc.Container.get("database", engine=box.engine))


def test_a_container_that_does_not_run_is_connected(box: Box, lab: pylxc.Network) -> None:
    with pylxc.Network.create("back", engine=box.engine) as back, box.create("sleep", "100", network="lab") as app:
        back.connect(app)
        app.start()
        assert links(inside=app.status().pid) == {"lo", "eth0", "eth1"}
        app.stop(timeout=0)
        lab.disconnect(app)
        app.start()
        assert links(inside=app.status().pid) == {"lo", "eth1"}


def test_what_cannot_be_connected(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", name="alone", network="none") as alone:
        with pytest.raises(pylxc.Conflict, match="alone: has a network of another kind"):
            lab.connect(alone)
        with pytest.raises(pylxc.ContainerNotFound):
            lab.connect("nobody")
        assert lab.members() == []


def test_who_shares_a_network_shares_its_names(box: Box, lab: pylxc.Network) -> None:
    with (
        box.start("sh", "-c", HELLO, network="lab", name="server"),
        box.start("sleep", "100", network="lab", name="first", dns=["192.0.2.53"]) as first,
        box.start("sleep", "100", network="container:first") as second,
    ):
        assert links(inside=second.status().pid) == {"lo", "eth0"}
        assert hosts(second) == hosts(first)
        assert second.exec(["cat", "/etc/resolv.conf"]).text.endswith("nameserver 192.0.2.53\n")
        await_true(lambda: ask(second, "server").startswith("hello"), "an answer of the server")


@pytest.mark.root
def test_the_host_has_a_name(box: Box, lab: pylxc.Network) -> None:
    command = [sys.executable, "-m", "http.server", "8017", "--bind", lab.gateways[0]]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            options = {"network": "lab", "extra_hosts": {"gateway": "host-gateway", "db": "192.0.2.7"}}
            with box.start("sleep", "100", **options) as container:
                names = hosts(container)
                assert names["host.pylxc.internal"] == names["gateway"] == set(lab.gateways)
                assert names["db"] == {"192.0.2.7"}
                with box.start("sleep", "100", **{**options, "network": "host"}) as beside:
                    assert hosts(beside)["host.pylxc.internal"] == hosts(beside)["gateway"] == {"127.0.0.1"}
                get = ["wget", "-q", "-O", "-", "http://gateway:8017/"]
                await_true(lambda: container.exec(get, check=False).ok, "an answer of the host")
        finally:
            server.kill()


@pytest.mark.root
def test_name_servers(box: Box, lab: pylxc.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(**options) -> list[str]:
        return box.run("cat", "/etc/resolv.conf", **options).text.splitlines()

    files = {resolver.PATH: "search example.org\noptions ndots:2\nnameserver 192.0.2.53\nnameserver 127.0.0.1\n"}
    monkeypatch.setattr(resolver, "read", lambda path=resolver.PATH: files.get(path, ""))
    assert seen(network="lab") == ["search example.org", "options ndots:2", "nameserver 192.0.2.53"]
    own_servers = ["search example.org", "options ndots:2", "nameserver 192.0.2.1", "nameserver 2001:db8::1"]
    assert seen(network="lab", dns=["192.0.2.1", "2001:db8::1"]) == own_servers
    assert seen(network="none", dns=["192.0.2.1"])[-1:] == ["nameserver 192.0.2.1"]
    assert seen(network="lab", dns_search=["one.example", "two.example"], dns_opt=["ndots:1", "edns0"]) == [
        "search one.example two.example",
        "options ndots:1 edns0",
        "nameserver 192.0.2.53",
    ]
    assert seen(network="none", dns_search=["."]) == ["options ndots:2", "nameserver 192.0.2.53"]
    files[resolver.PATH] = "search stub.example\nnameserver 127.0.0.53\n"
    (line,) = [line for line in seen(network="lab") if not line.startswith("search")]
    assert line.startswith("# The host has no name server that can be reached")
    files[resolver.BEHIND_STUBS[0]] = "search real.example\nnameserver 192.0.2.9\nnameserver fe80::1%eth0\n"
    assert seen(network="lab") == ["search real.example", "nameserver 192.0.2.9"]


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"aliases": ["web"]}, "aliases"),
        ({"extra_hosts": {"up": "host-gateway"}}, "extra_hosts"),
        ({"network": ["lab", "lab"]}, "network"),
        ({"network": ["lab", "host"]}, "network"),
        ({"network": ["lab", "container:x"]}, "network"),
        ({"network": []}, "network"),
        ({"network": "x:y"}, "network"),
        ({"network": "container:x", "dns": ["192.0.2.1"]}, "dns"),
        ({"network": "container:x", "dns_search": ["example.org"]}, "dns_search"),
        ({"network": "container:x", "dns_opt": ["edns0"]}, "dns_opt"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], option: str) -> None:
    given = {"network": "none", **options}
    with pytest.raises(pylxc.SpecError) as caught:
        pylxc.ContainerSpec(image="busybox", **given)
    assert caught.value.option == option


def test_what_the_runtime_writes_is_no_change_of_the_container(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", network="lab") as container:
        assert [change.path for change in container.diff()] == []
