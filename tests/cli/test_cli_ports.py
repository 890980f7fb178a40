"""Published ports on the command line: ``run -p -P``, ``port``, and the column of ``ps``."""

import json
import socket

import pytest

ECHO = ("nc", "-ll", "-p", "80", "-e", "cat")


def places(text):
    """Return the numbers of the host's ports in what ``port`` prints."""
    return {int(line.rpartition(":")[2]) for line in text.splitlines()}


def rows(cli):
    return {row["Names"]: row for row in map(json.loads, cli.text("ps", "--format", "json").splitlines())}


def test_a_port_is_published_shown_and_reached(busybox_cli):
    busybox_cli("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-p", "9/udp", "busybox", *ECHO)
    (place,) = busybox_cli.text("port", "web", "80").splitlines()
    number = place.removeprefix("127.0.0.1:")
    lines = busybox_cli.text("port", "web").splitlines()
    (of_udp,) = places(busybox_cli.text("port", "web", "9/udp"))
    assert lines == [f"9/udp -> 0.0.0.0:{of_udp}", f"9/udp -> [::]:{of_udp}", f"80/tcp -> 127.0.0.1:{number}"]
    shown = f"127.0.0.1:{number}->80/tcp, 0.0.0.0:{of_udp}->9/udp, [::]:{of_udp}->9/udp"
    assert rows(busybox_cli)["web"]["Ports"] == shown
    assert shown in busybox_cli.text("ps")
    with socket.create_connection(("127.0.0.1", int(number)), 10) as connection:
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
    busybox_cli("restart", "-t", "0", "web")
    assert busybox_cli.text("port", "web", "80/tcp") == f"127.0.0.1:{number}\n"
    busybox_cli("stop", "-t", "0", "web")
    assert busybox_cli.text("port", "web") == ""


def test_every_exposed_port_is_published_with_capital_p(cli):
    cli("build", "-q", "-t", "exposing", "-", stdin=b"FROM host\nEXPOSE 80 81 53/udp\n")
    cli("run", "-d", "--name", "none", "exposing", "sleep", "300")
    cli("run", "-d", "--name", "all", "-P", "-p", "127.0.0.1::81", "exposing", "sleep", "300")
    assert rows(cli)["none"]["Ports"] == "53/udp, 80/tcp, 81/tcp"
    lines = cli.text("port", "all").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["53/udp", "53/udp", "80/tcp", "80/tcp", "81/tcp"]
    assert lines[-1].startswith("81/tcp -> 127.0.0.1:")


def test_ports_in_a_row_are_shown_as_docker_shows_them(cli):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = min(free.getsockname()[1], 65000)
    while True:  # three in a row that nobody has
        ports = f"127.0.0.1:{first}-{first + 2}:7000-7002"
        done = cli("run", "-d", "--rm", "--name", "row", "-p", ports, "host", "sleep", "300", status=None)
        if done.returncode == 0:
            break
        assert b"is in use" in done.stderr
        first = first + 3 if first < 65000 else 10000
    assert rows(cli)["row"]["Ports"] == f"127.0.0.1:{first}-{first + 2}->7000-7002/tcp"


def test_a_port_in_use_is_one_line_and_nothing_is_left(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        message = cli.error("run", "--rm", "-p", f"127.0.0.1:{number}:80", "host", "true", status=125)
    assert message == (
        f"pylxc: port 127.0.0.1:{number}/tcp of the host: is in use: another program listens there; "
        "give another one, or 0 for any that is free\n"
    )
    assert cli.text("ps", "-aq") == ""


def test_the_host_network_has_docker_warning(cli):
    done = cli("run", "--rm", "--network", "host", "-p", "80:80", "-P", "host", "echo", "hello")
    assert (done.stdout, done.stderr) == (
        b"hello\n",
        b"WARNING: Published ports are discarded when using host network mode\n",
    )


@pytest.mark.parametrize("asked", ["80", "80/tcp", "9/udp"])
def test_a_port_that_is_not_published(cli, asked):
    cli("run", "-d", "--name", "web", "-p", "81", "host", "sleep", "300")
    assert f"container web: publishes no port {asked};" in cli.error("port", "web", asked, status=1)


@pytest.mark.parametrize("words", ["x:80", "80/sctp", "8000-8002:80-81", "1.2.3:80:80", "0", "70000"])
def test_words_that_are_no_ports(cli, words):
    assert "ports=" in cli.error("run", "--rm", "-p", words, "host", "true", status=125)


def test_a_port_can_be_exposed_by_run(busybox_cli):
    busybox_cli("run", "-d", "--name", "quiet", "--expose", "80", "--expose", "90-91/udp", "busybox", "sleep", "300")
    assert rows(busybox_cli)["quiet"]["Ports"] == "80/tcp, 90/udp, 91/udp"
    assert busybox_cli.text("port", "quiet") == ""
    busybox_cli("run", "-d", "--name", "loud", "-P", "--expose", "80", "busybox", "sleep", "300")
    assert len(places(busybox_cli.text("port", "loud", "80"))) == 1
