"""The verb ``network``, and networks among the flags of ``run``."""

from __future__ import annotations

import json

import pytest
from boxes import await_true
from ownnet import host, links

pytestmark = pytest.mark.root
__all__ = ["host"]


def test_a_network_from_its_making_to_its_end(cli):
    identity = cli.text(
        "network", "create", "--subnet", "10.5.0.0/24", "--internal", "--label", "tier=db", "lab"
    ).strip()
    lines = cli.text("network", "ls").splitlines()
    assert lines[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert lines[1].split() == [identity[:12], "lab", "bridge", "local"]
    assert cli.text("network", "ls", "-q", "--no-trunc", "-f", "label=tier=db") == f"{identity}\n"
    assert cli.text("network", "ls", "-q", "-f", "name=other") == ""
    row = json.loads(cli.text("network", "ls", "--format", "json"))
    assert (row["Name"], row["Internal"], row["IPv6"]) == ("lab", "true", "false")
    [found] = json.loads(cli.text("network", "inspect", "lab"))
    assert found["IPAM"] == {"Config": [{"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.1"}]}
    assert (found["Id"], found["Internal"], found["Containers"]) == (identity, True, {})
    assert found["Options"]["bridge"] in links()
    assert "there is a network of this name" in cli.error("network", "create", "lab", status=1)
    assert cli.text("network", "rm", identity[:12]) == f"{identity[:12]}\n"
    assert cli.text("network", "ls", "-q") == ""


def test_what_is_not_there(cli):
    assert "no network named 'lab'" in cli.error("network", "rm", "lab", status=1)
    assert "no network named 'bridge'" in cli.error("network", "rm", "bridge", status=1)
    assert cli.text("network", "rm", "-f", "lab") == "lab\n"
    assert json.loads(cli("network", "inspect", "lab", status=1).stdout) == []
    assert "give name=value, the name one of dangling, driver" in cli.error("network", "ls", "-f", "x=y", status=2)
    assert "subnet='x': give a subnet" in cli.error("network", "create", "--subnet", "x", "lab", status=1)
    assert "no network named 'lab'" in cli.error("run", "--network", "lab", "host", "true", status=125)


def test_containers_on_networks(cli):
    cli("network", "create", "front")
    cli("network", "create", "back")
    flags = ("--network", "front", "--network", "back", "--network-alias", "web", "--dns", "192.0.2.53")
    served = ("--add-host", "up:host-gateway", "--name", "server", "host", "sleep", "300")
    identity = cli.text("run", "-d", *flags, *served).strip()
    seen = cli.text("run", "--rm", "--network", "back", "host", "cat", "/etc/hosts")
    [found] = json.loads(cli.text("network", "inspect", "back"))
    member = found["Containers"][identity]
    assert (member["Name"], member["Aliases"]) == ("server", ["web", identity[:12]])
    assert f"{member['IPv4Address'].partition('/')[0]}\tserver web {identity[:12]}" in seen
    assert cli.text("exec", "server", "cat", "/etc/resolv.conf").endswith("nameserver 192.0.2.53\n")
    assert f"{found['IPAM']['Config'][0]['Gateway']}\tup" not in cli.text("exec", "server", "cat", "/etc/hosts")
    [front] = json.loads(cli.text("network", "inspect", "front"))
    assert f"{front['IPAM']['Config'][0]['Gateway']}\tup" in cli.text("exec", "server", "cat", "/etc/hosts")
    row = json.loads(cli.text("ps", "--format", "json", "-f", "network=back"))
    assert row["Networks"] == "front,back"
    assert "containers are on it (server)" in cli.error("network", "rm", "back", status=1)
    cli("network", "disconnect", "back", "server")
    assert "is not on network back" in cli.error("network", "disconnect", "back", "server", status=1)
    cli("network", "connect", "--alias", "again", "back", "server")
    assert "again" in cli.text("run", "--rm", "--network", "back", "host", "cat", "/etc/hosts")
    assert "nobody can be asked here" in cli.error("network", "prune", status=2)
    cli("network", "create", "idle")
    assert cli.text("network", "prune", "-f") == "idle\n"
    cli("rm", "-f", "server")
    assert cli.text("network", "rm", "front", "back") == "front\nback\n"


def test_one_word_may_be_more_than_a_name(cli):
    assert cli.text("run", "--rm", "--network", "none", "host", "ls", "/sys/class/net") == "lo\n"
    cli("run", "-d", "--network", "bridge", "--name", "first", "host", "sleep", "300")
    assert cli.text("run", "--rm", "--network", "container:first", "host", "ls", "/sys/class/net") == "eth0\nlo\n"
    assert "network" in cli.error("run", "--network", "none", "--network", "bridge", "host", "true", status=125)
    cli("rm", "-f", "first")
    assert cli.text("network", "prune", "-f") == ""  # the default one stays
    assert cli.text("network", "rm", "bridge") == "bridge\n"


def test_what_a_killed_command_leaves_the_next_one_removes(cli):
    with cli.start("run", "--rm", "--network", "bridge", "host", "sleep", "300") as running:
        await_true(lambda: "sleep" in cli.text("ps"), "a container", timeout=60)
        running.kill()
    assert cli.text("ps", "-aq") == ""
    assert cli.text("network", "rm", "bridge") == "bridge\n"  # nobody is on it any more


def test_chosen_addresses(cli):
    cli("network", "create", "--subnet", "10.55.0.0/24", "lab")
    try:
        show = ["ip", "-4", "-o", "addr", "show", "dev", "eth0"]
        assert "10.55.0.9/24" in cli.text("run", "--rm", "--network", "lab", "--ip", "10.55.0.9", "host", *show)
        cli("run", "-d", "--name", "first", "host", "sleep", "300")
        cli("network", "connect", "--ip", "10.55.0.8", "lab", "first")
        assert "10.55.0.8/24" in cli.text("exec", "first", "ip", "-4", "-o", "addr", "show", "dev", "eth1")
        cli("rm", "-f", "first")
        assert "one network of your own" in cli.error("run", "--ip", "10.55.0.8", "host", "true", status=125)
    finally:
        cli("network", "rm", "lab")


def test_prune_has_dockers_filters(cli):
    cli("network", "create", "--internal", "--label", "keep=1", "kept")
    cli("network", "create", "--internal", "gone")
    assert cli.text("network", "prune", "-f", "--filter", "until=1h") == ""
    assert cli.text("network", "prune", "-f", "--filter", "label!=keep") == "gone\n"
    assert "Deleted Networks:\nkept\n" in cli.text("prune", "-f")
    assert cli.text("network", "ls", "-q") == ""
