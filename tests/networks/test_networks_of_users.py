"""Networks of an ordinary user: the stack that they are in, what leads out of it, who comes and goes with it.

The host is that of tests/rootless/test_as_ordinary_user.py: HOST and HOST6 on a link that leads nowhere, with default
routes, and a name server on the loopback.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, box, box_engine, is_alive, monitors
from ownnet import addresses, ip, links, place, stacks, tables

import pylxc
from pylxc.runtime import uplink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

pytestmark = pytest.mark.ordinary_user
__all__ = ["box", "box_engine"]

HOST, HOST6 = "192.0.2.2", "2001:db8::2"
SAYS_HELLO = "exec nc -ll -p 80 -e echo hello"  # there is no moment at which it does not listen
SIZE = 3_000_000
NS_GET_PARENT = 0xB702  # ioctl_ns(2)

# Answers every connection with SIZE bytes, and says from where it came.
SERVER = f"""
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
print(server.getsockname()[1], flush=True)
while True:
    connection, peer = server.accept()
    with connection:
        print(peer[0], flush=True)
        connection.sendall(bytes({SIZE}))
"""
# Answers one question, for the address of whatever name, as the name server in the host's resolv.conf.
NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
print("53", flush=True)
while True:
    d, peer = server.recvfrom(999)
    question = d[12:d.index(b"\\0", 12) + 5]
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("198.51.100.7")
    server.sendto(d[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question + answer, peer)
"""


class Server:
    """A program on the host that listens on a port, and tells of who connects."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self.next())

    def next(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def serving(script: str, *operands: str) -> Iterator[Server]:
    command = [sys.executable, "-c", script, *operands]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


@pytest.fixture
def lab(box: Box) -> Iterator[pylxc.Network]:
    with pylxc.Network.create("lab", engine=box.engine) as made:
        yield made


def fetched(container: pylxc.Container, address: str, port: int) -> int:
    """Return how many bytes come from a port; 0 where nobody is reached.

    Its input does not end: pasta of 2023 forgets the rest of a long answer to who has said its last word.
    """
    script = f"[ -p /input ] || mkfifo /input; nc -w 3 {address} {port} 0<>/input | wc -c"
    return int(container.exec(["sh", "-c", script], timeout=60, check=False).text)


def program_of(stack: int) -> int:
    """Return the pid of what connects a stack, by the process that is in it; 0 for nobody."""
    try:
        keeper = int(Path(f"/proc/{stack}/stat").read_text().rpartition(")")[2].split()[1])
        found = {int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()} - {stack}
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(filter(is_alive, found), 0)


# -- out of the host ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [HOST, HOST6])
def test_the_world_is_reached_with_the_hosts_address(box: Box, lab: pylxc.Network, address: str) -> None:
    """Large answers come whole: pasta of 2023 sends segments without flags, which would end the connection."""
    with serving(SERVER, address, "0") as server, box.start("sleep", "100", network="lab") as container:
        for _ in range(3):
            assert fetched(container, address, server.port) == SIZE
            assert server.next() == address


def test_links_are_as_large_as_the_programs_can_be(box: Box, lab: pylxc.Network) -> None:
    with box.start("sleep", "100", network="lab") as container:
        sizes = {ip("link", "show", "dev", "eth0", inside=container.status().pid)[0]["mtu"]}
        sizes |= {ip("link", "show", "dev", link, inside=place(box.engine))[0]["mtu"] for link in (lab.bridge, "tap0")}
        assert sizes == {uplink.MTU}


def test_name_servers_on_the_hosts_loopback_are_asked(box: Box, lab: pylxc.Network) -> None:
    with serving(NAME_SERVER):
        found = box.run("nslookup", "-type=a", "some.example", network="lab", check=False, timeout=30).text
    assert "198.51.100.7" in found
    given = box.run("cat", "/etc/resolv.conf", network="lab", dns=["192.0.2.53"]).text
    assert "nameserver 192.0.2.53" in given
    assert uplink.DNS not in given


def test_the_host_has_a_name(box: Box, lab: pylxc.Network) -> None:
    options = {"network": "lab", "extra_hosts": {"gateway": "host-gateway"}}
    with serving(SERVER, HOST, "0") as server, box.start("sleep", "100", **options) as container:
        for name in ("host.pylxc.internal", "gateway"):
            assert fetched(container, name, server.port) == SIZE


def test_the_default_network(box: Box) -> None:
    with serving(SERVER, HOST, "0") as server, box.start("sleep", "100", name="first") as container:
        assert container.spec.network == "bridge"
        assert fetched(container, HOST, server.port) == SIZE
        with box.start("sleep", "100", pid="container:first") as second:  # which can have none of its own
            assert second.spec.network == "none"
    pylxc.Network.get("bridge", engine=box.engine).remove()


def test_published_ports(box: Box, lab: pylxc.Network) -> None:
    with box.start("sh", "-c", SAYS_HELLO, network="lab", ports={80: 0}) as container:
        await_true(lambda: said_on(container.address(80)) == b"hello\n", "an answer")


def said_on(address: tuple[str, int]) -> bytes:
    try:
        with socket.create_connection(address, 10) as connection:
            return connection.recv(99)
    except ConnectionResetError:  # between one nc and the next
        return b""


@pytest.fixture
def slirp4netns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink, "_PROGRAMS", uplink._PROGRAMS[1:])


@pytest.mark.usefixtures("slirp4netns")
def test_slirp4netns_will_do(box: Box, lab: pylxc.Network) -> None:
    with serving(SERVER, HOST, "0") as server, serving(NAME_SERVER), box.start("sleep", "100", network="lab") as one:
        assert Path(f"/proc/{program_of(place(box.engine))}/comm").read_text() == "slirp4netns\n"
        assert fetched(one, HOST, server.port) == SIZE
        assert "198.51.100.7" in one.exec(["nslookup", "-type=a", "some.example"], check=False, timeout=30).text
        assert [route["dev"] for route in ip("-6", "route", "show", "default", inside=one.status().pid)] == []


# -- what is not reached -----------------------------------------------------------------------------------------------


def loopback_reached(container: pylxc.Container, network: pylxc.Network, port: int) -> list[str]:
    """Try all addresses that might be the host's loopback; returns those by which a port of it was reached."""
    its = [*network.gateways, uplink.GATEWAY, uplink.ADDRESS, uplink.DNS, uplink.GATEWAY6, uplink.ADDRESS6]
    tried = " ".join((*its, "127.0.0.1", "::1", HOST, HOST6, "192.0.2.1"))
    one = f'[ "$(nc -w 3 $a {port} 0<>/input | wc -c)" -gt 0 ] && echo $a'
    script = f"mkfifo /input; for a in {tried}; do ({one}) & done; wait"
    return container.exec(["sh", "-c", script], timeout=60, check=False).text.split()


@pytest.mark.parametrize("canary", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_the_hosts_loopback_is_out_of_reach(
    box: Box, canary: str, program: str, request: pytest.FixtureRequest
) -> None:
    if program == "slirp4netns":
        request.getfixturevalue("slirp4netns")
    with (
        serving(SERVER, canary, "0") as server,
        pylxc.Network.create("lab", engine=box.engine) as network,
        box.start("sleep", "100", network="lab", cap_add=["NET_ADMIN"]) as container,
    ):
        # By a route of its own, too: it is root of its network namespace.
        container.exec(["ip", "route", "add", "198.51.100.0/24", "via", network.gateways[0]])
        assert loopback_reached(container, network, server.port) == []
        with socket.create_connection((canary, server.port), 5) as connection:
            assert connection.recv(1)
        assert server.next() == canary  # the first that came


def test_without_its_option_pasta_leads_to_the_loopback(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice."""
    words = uplink._pasta
    monkeypatch.setattr(
        uplink,
        "_PROGRAMS",
        (("pasta", True, lambda *args, **options: [w for w in words(*args, **options) if w != "--no-map-gw"]),),
    )
    with (
        serving(SERVER, "127.0.0.1", "0") as server,
        pylxc.Network.create("lab", engine=box.engine) as network,
        box.start("sleep", "100", network="lab") as container,
    ):
        assert loopback_reached(container, network, server.port) == [uplink.GATEWAY]


def test_networks_do_not_reach_each_other(box: Box, lab: pylxc.Network) -> None:
    with (
        serving(SERVER, HOST, "0") as server,
        pylxc.Network.create("back", internal=True, engine=box.engine) as back,
        pylxc.Network.create("other", engine=box.engine) as other,
        box.start("sh", "-c", SAYS_HELLO, network=["lab", "back"], name="both", ports={80: 0}) as both,
        box.start("sleep", "100", network="lab") as friend,
        box.start("sleep", "100", network="other") as stranger,
        box.start("sleep", "100", network="back") as inner,
    ):
        both.wait_ready(port=80, timeout=20)
        its = {network: network.members()[0].addresses for network in (lab, back)}
        for address in its[lab]:
            assert fetched(friend, address, 80) == len("hello\n")
            assert fetched(inner, address, 80) == 0
        for address in (*its[lab], *its[back]):
            assert fetched(stranger, address, 80) == 0
        for address in (HOST, HOST6):
            assert fetched(inner, address, server.port) == 0
        assert fetched(inner, "both", 80) == len("hello\n")
        assert other.members()[0].container == stranger.id


def test_a_container_has_no_right_over_the_stack(box: Box, lab: pylxc.Network) -> None:
    """Its namespaces are its own, and its user namespace lies below that of the stack."""
    with box.start("sleep", "100", network="lab", cap_add=["NET_ADMIN"]) as container:
        pid, stack = container.status().pid, place(box.engine)
        for name in ("net", "user", "pid", "mnt"):
            assert os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/{stack}/ns/{name}").st_ino
        own = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        parent = fcntl.ioctl(own, NS_GET_PARENT)
        try:
            assert os.fstat(parent).st_ino == os.stat(f"/proc/{stack}/ns/user").st_ino
        finally:
            os.close(parent)
            os.close(own)
        before = links(inside=stack)
        assert "Operation not permitted" in _stderr(container, "ip link set eth0 netns 1") or links(inside=pid)
        assert links(inside=stack) == before
        seen = container.exec(["sh", "-c", "cat /proc/[0-9]*/comm"]).text.split()
        assert "pylxc-stack" not in seen
        status = Path(f"/proc/{stack}/status").read_text()
        assert "CapPrm:\t0000000000000000" in status  # who might take it over has nothing of it


def _stderr(container: pylxc.Container, script: str) -> str:
    return container.exec(["sh", "-c", script], check=False).stderr.decode()


# -- coming and going --------------------------------------------------------------------------------------------------


def test_the_stack_is_there_while_a_container_is(box: Box, lab: pylxc.Network) -> None:
    assert stacks() == set()
    with box.start("sleep", "100", network="lab") as first:
        stack = place(box.engine)
        program = program_of(stack)
        assert Path(f"/proc/{program}/cmdline").read_bytes().partition(b"\0")[0].endswith(b"/pasta")
        assert tables(inside=stack) == {lab.bridge}
        back = pylxc.Network.create("back", internal=True, engine=box.engine)
        with back, box.start("sleep", "100", network="back"):
            assert place(box.engine) == stack
            assert tables(inside=stack) == {lab.bridge, back.bridge}
        assert (tables(inside=stack), back.bridge in links(inside=stack)) == ({lab.bridge}, False)
        first.restart(timeout=0)
        assert place(box.engine) == stack
        assert addresses("eth0", inside=first.status().pid)
    await_true(lambda: not (stacks() or is_alive(program)), "the end of the stack", timeout=5)
    assert (box.engine.root / "stack").read_text() == ""
    with box.start("sleep", "100", network="lab"):
        assert place(box.engine) != stack


OTHER = """
import pylxc, sys
engine = pylxc.Engine(sys.argv[1])
with pylxc.start("busybox", ["sleep", "100"], network="lab", name="theirs", engine=engine) as container:
    print("started", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(engine: pylxc.Engine) -> Iterator[subprocess.Popen[str]]:
    """Start a container in a process of its own."""
    command = [sys.executable, "-c", OTHER, str(engine.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def test_containers_of_several_processes_meet(box: Box, lab: pylxc.Network) -> None:
    with box.start("sh", "-c", SAYS_HELLO, network="lab", name="mine") as mine:
        mine.wait_ready(port=80, timeout=20)
        stack = place(box.engine)
        with another(box.engine):
            assert place(box.engine) == stack
            theirs = pylxc.Container.get("theirs", engine=box.engine)
            assert fetched(theirs, "mine", 80) == len("hello\n")
            with pylxc.Network.create("back", engine=box.engine) as back:
                back.connect(theirs)
                assert links(inside=theirs.status().pid) == {"lo", "eth0", "eth1"}
                back.disconnect(theirs)
    box.engine.reopen()


def test_the_stack_outlives_who_made_it(box: Box, lab: pylxc.Network) -> None:
    running = monitors()
    with another(box.engine) as other:
        stack = place(box.engine)
        with box.start("sleep", "100", network="lab") as container, serving(SERVER, HOST, "0") as server:
            other.kill()
            other.wait()
            await_true(lambda: len(monitors() - running) == 1, "the end of the other's container")
            assert place(box.engine) == stack
            assert fetched(container, HOST, server.port) == SIZE
    box.engine.reopen()


def test_a_killed_owner_leaves_nothing(box: Box, lab: pylxc.Network) -> None:
    running = monitors()
    with another(box.engine) as other:
        assert stacks()
        other.kill()
        await_true(lambda: not stacks() and monitors() <= running, "the end of all", timeout=10)
    box.engine.reopen()
    assert pylxc.Container.list(all=True, engine=box.engine) == []


@pytest.mark.parametrize("who", ["anchor", "keeper"])
def test_a_stack_that_is_killed_goes_whole_and_another_one_comes(box: Box, lab: pylxc.Network, who: str) -> None:
    with box.start("sleep", "100", network="lab") as before:
        stack = place(box.engine)
        program = program_of(stack)
        keeper = next(iter(stacks() - {stack}))
        os.kill(stack if who == "anchor" else keeper, signal.SIGKILL)
        await_true(lambda: not (stacks() or is_alive(program)), "the end of the stack", timeout=10)
        with serving(SERVER, HOST, "0") as server, box.start("sleep", "100", network="lab") as after:
            assert place(box.engine) != stack
            assert fetched(after, HOST, server.port) == SIZE
        assert before.status() == "running"
        before.restart(timeout=0)
        with serving(SERVER, HOST, "0") as server:
            assert fetched(before, HOST, server.port) == SIZE


def test_a_program_that_is_killed_is_started_again(box: Box, lab: pylxc.Network) -> None:
    with serving(SERVER, HOST, "0") as server, box.start("sleep", "100", network="lab") as container:
        stack = place(box.engine)
        program = program_of(stack)
        os.kill(program, signal.SIGKILL)
        await_true(lambda: program_of(stack) not in (0, program), "another one")
        await_true(lambda: fetched(container, HOST, server.port) == SIZE, "a way out")


def test_an_owned_network_goes_with_its_owner(box: Box) -> None:
    script = "import pylxc, sys; pylxc.Network.create('gone', engine=pylxc.Engine(sys.argv[1])); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(box.engine.root)]
    names: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE) as owner:
        await_true(lambda: pylxc.Network.list(engine=box.engine), "the network")
        owner.kill()
    names = [network.name for network in pylxc.Network.list(engine=box.engine)]
    assert names == []


# -- what is missing ---------------------------------------------------------------------------------------------------


@pytest.fixture
def without_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uplink, "_PROGRAMS", (("no-such-program", True, uplink._pasta),))


@pytest.mark.usefixtures("without_programs")
def test_without_pasta(box: Box) -> None:
    for make in (
        lambda: pylxc.Network.create("lab", engine=box.engine),
        lambda: pylxc.Network.get("bridge", engine=box.engine),
        lambda: box.run("true", network="bridge"),
    ):
        with pytest.raises(pylxc.UnsupportedError, match="apt-get install passt") as caught:
            make()
        assert 'network="none"' in caught.value.remedy
    assert pylxc.Network.list(engine=box.engine) == []
    container = box.create("true")
    assert container.spec.network == "none"
    container.remove()
    finding = pylxc.doctor(engine=box.engine).get("networks")
    assert (finding.level, "apt-get install passt" in finding.remedy) == ("warning", True)
    with (
        pylxc.Network.create("inner", internal=True, engine=box.engine),
        box.start("sh", "-c", SAYS_HELLO, network="inner", name="server", ports={80: 0}) as server,
        box.start("sleep", "100", network="inner") as client,
    ):
        server.wait_ready(port=80, timeout=20)
        assert fetched(client, "server", 80) == len("hello\n")
        assert program_of(place(box.engine)) == 0


def test_a_stack_that_is_older_than_pasta(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with pylxc.Network.create("lab", engine=box.engine), pylxc.Network.create("in", internal=True, engine=box.engine):
        with monkeypatch.context() as changed:
            changed.setattr(uplink, "_PROGRAMS", ())
            inner = box.start("sleep", "100", network="in")
            with inner, pytest.raises(pylxc.UnsupportedError, match="apt-get install passt"):
                box.run("true", network="lab")
            inner = box.start("sleep", "100", network="in")
        with inner, pytest.raises(pylxc.UnsupportedError, match="stop all containers on networks"):
            box.run("true", network="lab")


def test_a_program_that_fails_says_why(box: Box, lab: pylxc.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/bin/sh", "-c", "echo no such luck >&2; exit 3", "sh", ""]
    monkeypatch.setattr(uplink, "_PROGRAMS", (("sh", True, lambda *_, **__: words),))
    with pytest.raises(pylxc.UnsupportedError, match="has ended: no such luck"):
        box.run("true", network="lab")
    assert (box.engine.root / "stack").read_text() == ""


def test_a_closed_device_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uplink, "TUN", str(tmp_path / "tun"))
    assert "modprobe tun" in uplink.lack()
    (tmp_path / "tun").touch(0o000)
    assert f"chmod 0666 {tmp_path}/tun" in uplink.lack()


def test_doctor_says_what_leads_out(box: Box) -> None:
    finding = pylxc.doctor(engine=box.engine).get("networks")
    assert (finding.level, finding.remedy) == ("ok", "")
    assert finding.found.endswith("/pasta")


def test_who_shares_namespaces_has_no_networks_of_its_own(box: Box, lab: pylxc.Network) -> None:
    first = box.start("sleep", "100", network="none", name="first")
    with first, pytest.raises(pylxc.UnsupportedError, match="shares another one's namespaces"):
        box.create("true", network="lab", pid="container:first")
