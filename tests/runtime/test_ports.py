"""Published ports: what connects on the host is joined to the container, whatever either side does."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs
import pytest
from boxes import await_true, is_alive

import pylxc
from pylxc.runtime import ports as runtime_ports
from pylxc.runtime import record
from tests.published import ask, command, datagrams, descriptors_of, dial, open_files, proxies, proxy, rest

MANY = 1000
IS_ROOT = os.geteuid() == 0


@contextmanager
def served(box, address="127.0.0.1", **options):
    """Yield a container with the server of tests/published.py, all of whose ports are published."""
    options = {"ports": {8000: 0, "9000/udp": 0}, **options}
    with box.start(*command(address), image="host", **options) as container:
        if address == "127.0.0.1":
            container.wait_ready(port=8000, timeout=30)
        else:
            await_true(lambda: says(container, "peer"), "an answer", timeout=30)
        yield container


def says(container, words):
    """Return what the server answers; b"" while it does not."""
    try:
        with dial(container, words=words) as connection:
            return rest(connection)
    except OSError:
        return b""


def log(container):
    with container.open("/log") as file:
        return file.read()


@contextmanager
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- where they are ----------------------------------------------------------------------------------------------------


def test_a_port_is_reached_on_every_address_of_the_host(box):
    with served(box) as container:
        number = container.address(8000)[1]
        both = [pylxc.Port(8000, "tcp", host, number) for host in ("0.0.0.0", "::")]
        assert container.ports()[:2] == both
        assert container.address(8000) == container.address("8000/tcp") == ("127.0.0.1", number)
        for host in ("127.0.0.1", "127.0.0.9", "::1"):
            with socket.create_connection((host, number), 20) as connection:
                connection.sendall(b"peer\n")
                assert rest(connection) == b"127.0.0.1"
        places = container.inspect()["NetworkSettings"]["Ports"]
        assert places["8000/tcp"] == [{"HostIp": port.host, "HostPort": str(number)} for port in both]
        assert set(places) == {"8000/tcp", "9000/udp"}


@pytest.mark.parametrize(("host", "other"), [("127.0.0.5", "127.0.0.1"), ("::1", "127.0.0.1"), ("0.0.0.0", "::1")])
def test_a_port_is_reached_on_the_address_that_was_given_and_no_other(box, host, other):
    with served(box, ports={8000: (host, 0)}) as container:
        (port,) = container.ports()
        assert (port.host, port.container) == (host, 8000)
        assert says(container, "peer") == b"127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, port.port), 20)


def free_run(length):
    """Return the first of so many numbers in a row that nobody has on the loopback."""
    chance = random.Random()
    while True:
        first = chance.randrange(10000, 30000)
        with ExitStack() as stack:
            try:
                for number in range(first, first + length):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", number))
            except OSError:
                continue
            return first


def test_a_range_leads_to_a_range(box):
    first = free_run(3)
    place = f"127.0.0.1:{first}-{first + 2}"
    with served(box, ports=[f"{place}:7999-8001", f"{place}:8998-9000/udp"]) as container:
        assert [port.port for port in container.ports()] == [first + n for n in (0, 1, 2)] * 2
        assert container.address(8000) == ("127.0.0.1", first + 1)
        assert says(container, "peer") == b"127.0.0.1"
        assert ask(("127.0.0.1", first + 2), b"abc") == b"cba"


def test_many_ports(box):
    with many_descriptors(), served(box, ports=["127.0.0.1::8000", "127.0.0.1::10000-10999"]) as container:
        assert len({port.port for port in container.ports()}) == len(container.ports()) == MANY + 1
        assert says(container, "peer") == b"127.0.0.1"


def test_the_first_free_one_of_a_range(box):
    first = free_run(2)
    ports = {8000: ("127.0.0.1", f"{first}-{first + 1}")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        with served(box, ports=ports) as container:
            assert container.address(8000)[1] == first + 1
            with pytest.raises(pylxc.Conflict, match=f"port 127.0.0.1:{first}-{first + 1}/tcp of the host: is in use"):
                box.run("true", ports=ports)


def test_a_port_in_use_is_one_error_that_names_it_and_who_has_it(box):
    with box.start("sleep", "100", name="holder", ports={80: ("127.0.0.1", 0), "81/udp": ("127.0.0.1", 0)}) as holder:
        for port in holder.ports():
            for host in ("127.0.0.1", ""):
                with pytest.raises(pylxc.Conflict) as caught:
                    box.start("sleep", "100", ports={f"5/{port.protocol}": (host, port.port)})
                assert f"{port.port}/{port.protocol}" in caught.value.name
                assert "container holder publishes it" in caught.value.reason
        created = box.create("true", ports={1: holder.address(80)})
        with pytest.raises(pylxc.Conflict):
            created.start()
        assert created.status() == "created"
        created.remove()


def test_all_or_none(box):
    """The one port that is free is free again."""
    with socket.socket() as taken, socket.socket() as probe:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = free_run(1)
        with pytest.raises(pylxc.Conflict):
            box.run("true", ports=[f"127.0.0.1:{free}:1", f"127.0.0.1:{taken.getsockname()[1]}:2"])
        probe.bind(("127.0.0.1", free))


def test_an_address_that_the_host_has_not(box):
    with pytest.raises(pylxc.SpawnError, match=r"port 192\.0\.2\.1:0/tcp .*no such address") as caught:
        box.run("true", ports={80: ("192.0.2.1", 0)})
    assert caught.value.stage == "network"


@pytest.mark.ordinary_user
def test_a_port_that_is_not_everybodys(box):
    last = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) - 1
    with pytest.raises(pylxc.SpawnError, match=f"port 127.0.0.1:{last}/tcp .*ip_unprivileged_port_start") as caught:
        box.run("true", ports={80: ("127.0.0.1", last)})
    assert (caught.value.stage, caught.value.errno) == ("network", errno.EACCES)


def test_ports_that_lead_nowhere_are_refused(box):
    for network in ("host", "container:other"):
        with pytest.raises(pylxc.SpecError, match=f"ports.*{network}"):
            box.run("true", ports={80: 0}, network=network)
    with pytest.raises(pylxc.SpecError, match="given twice"):
        box.run("true", ports=["8080:80", "8080:81"])
    with pytest.raises(pylxc.UnsupportedError, match="sctp"):
        box.run("true", ports={"80/sctp": 0})


def test_what_is_asked_for_and_is_not_there(box):
    with box.start("sleep", "100", ports={80: 0}) as container:
        for port in (81, "80/udp"):
            with pytest.raises(pylxc.NotFound, match="is not published"):
                container.address(port)
        for port in (0, -1, 70000, True, "x", "8080:80", "80-81", None, b"80", "80/sctp"):
            with pytest.raises((pylxc.SpecError, pylxc.UnsupportedError)):
                container.address(port)
        container.stop(timeout=0)
        assert container.ports() == []
        with pytest.raises(pylxc.Conflict, match="is not running"):
            container.address(80)
    with box.start("sleep", "100", network="host") as container:
        assert container.address(80) == ("127.0.0.1", 80)


def test_every_verb_publishes(box):
    with box.popen("nc", "-ll", "-p", "80", "-e", "cat", ports={80: ("127.0.0.1", 0)}) as process:
        await_true(lambda: has_echo(process.container), "an echo")
        process.kill()
    assert box.run("true", ports={80: 0}).ok


def has_echo(container, port=80):
    try:
        with dial(container, port, "hello") as connection:
            return connection.recv(6) == b"hello\n"
    except OSError:
        return False


def test_the_payload_keeps_its_limit_of_descriptors(box):
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, own[1]))
    try:
        with box.start("sh", "-c", "ulimit -n; sleep 100", ports=["127.0.0.1::1000-1299"]) as container:
            await_true(lambda: list(container.logs()), "its word")
            assert next(iter(container.logs())).data == b"200\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, own)


# -- connections -------------------------------------------------------------------------------------------------------


def test_bytes_are_the_same_both_ways_at_once(box):
    data = random.Random(7).randbytes(12 << 20)
    with served(box) as container, dial(container, words="echo") as connection:

        def send():
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = rest(connection)
        sender.join()
        assert got == data + b"end"


def test_pieces_of_every_size(box):
    """Around the sizes at which bytes begin to be moved another way."""
    chance = random.Random(3)
    with served(box) as container, dial(container, words="echo") as connection:
        for size in (1, 2, 4095, 16383, 16384, 16385, 65536, *(chance.randint(1, 200000) for _ in range(40))):
            piece = chance.randbytes(size)
            connection.sendall(piece)
            got = b""
            while len(got) < size:
                got += connection.recv(size - len(got))
            assert got == piece, size


def test_the_clients_end_is_no_end_of_the_answer(box):
    with served(box) as container, dial(container, words="echo") as connection:
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b"questionend"


def test_the_servers_end_is_no_end_of_what_the_client_says(box):
    with served(box) as container, dial(container, words="first") as connection:
        assert rest(connection) == b"mine"
        connection.sendall(bytes(300000))
        connection.shutdown(socket.SHUT_WR)
        await_true(lambda: log(container) == "got 300000\n", "what was said after the end")


def test_a_reset_is_passed_on_to_either_side(box):
    with served(box) as container:
        connection = dial(container, words="wait")
        assert connection.recv(4) == b"here"
        reset(connection)
        await_true(lambda: log(container) == "ConnectionResetError\n", "the reset inside")
        with dial(container, words="reset") as connection, pytest.raises(ConnectionResetError):
            rest(connection)


def test_where_nobody_listens_the_connection_is_reset(box):
    with box.start("sleep", "100", ports={80: 0}) as container:
        for host in ("127.0.0.1", "::1"):
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection((host, container.address(80)[1]), 20) as connection,
            ):
                connection.recv(1)
        assert container.status() == "running"


def test_a_server_on_the_loopback_of_ipv6(box):
    with served(box, "::1") as container:
        assert says(container, "peer") == b"::1"
        await_true(lambda: answers(container), "an answer; the first datagram finds out where")


def answers(container):
    """Say whether there is an answer to one of three datagrams of one client."""
    with datagrams(container.address("9000/udp")) as asking:
        asking.settimeout(0.2)
        for _ in range(3):
            with suppress(OSError):
                asking.send(b"abc")
                return asking.recv(10) == b"cba"
    return False


def test_a_server_on_the_containers_own_address_only(box):
    """As a network gives it one; here it is put on the loopback interface."""
    script = 'busybox ip addr add 10.9.8.7/32 dev lo && exec "$@"'
    words = ("sh", "-c", script, "sh", *command("10.9.8.7"))
    with box.start(*words, image="host", ports={8000: 0, "9000/udp": 0}, cap_add=["NET_ADMIN"]) as container:
        await_true(lambda: says(container, "peer") == b"10.9.8.7", "an answer", timeout=30)
        await_true(lambda: answers(container), "an answer; the first datagrams find out where")


def test_a_thousand_connections_at_once(box):
    with many_descriptors(), served(box) as container, ExitStack() as stack:
        server = proxy(container)
        idle = descriptors_of(server) if IS_ROOT else 0
        everyone = [stack.enter_context(dial(container, words="echo")) for _ in range(MANY)]
        for number, connection in enumerate(everyone):
            connection.sendall(b"%d" % number)
        for number, connection in enumerate(everyone):
            assert connection.recv(10) == b"%d" % number
        for connection in everyone:
            connection.shutdown(socket.SHUT_WR)
        assert [rest(connection) for connection in everyone] == [b"end"] * MANY
        if IS_ROOT:  # who may look
            await_true(lambda: descriptors_of(server) <= idle + 2, "the end of all that they took")


def test_clients_that_do_not_read_keep_nobody_waiting(box):
    """More than there are pipes."""
    with many_descriptors(), served(box) as container, ExitStack() as stack:
        server = proxy(container)
        slow = [stack.enter_context(dial(container, words="flood")) for _ in range(150)]
        for connection in slow:
            assert connection.recv(1)
        for _ in range(20):
            data = os.urandom(100000)
            with dial(container, words="echo") as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                assert rest(connection) == data + b"end"
        if IS_ROOT:  # who may look
            assert pipes_of(server) <= 2 * 32 + 1
            assert private_memory(server) < 1 << 20
        # They are served again when they read.
        for connection in slow[:3]:
            got = 0
            while got < 8 << 20:
                got += len(connection.recv(1 << 20))


def pipes_of(pid):
    return sum(link.startswith("pipe:") for link in open_files(pid))


def private_memory(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private"))


def test_a_server_that_does_not_read_keeps_nobody_waiting(box):
    with box.start("sh", "-c", "nc -l -p 80 -e sleep 100 & nc -ll -p 81 -e cat", ports={80: 0, 81: 0}) as container:
        await_true(lambda: has_echo(container, 81), "the echo")
        await_true(lambda: b":80 " in container.exec(["netstat", "-ltn"]).stdout, "the server that does not read")
        with dial(container, 80) as stuck:
            stuck.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while True:
                    stuck.send(bytes(1 << 16))
            assert has_echo(container, 81)


def test_what_the_container_said_before_it_ended_arrives(box):
    with served(box) as container, dial(container, words="exit 1000000 7") as connection:
        assert len(rest(connection)) == 1000000
        assert container.wait(timeout=20) == 7


# -- datagrams ---------------------------------------------------------------------------------------------------------


def test_datagrams_of_every_size_come_back(box):
    with served(box) as container:
        address = container.address("9000/udp")
        assert ask(address, b"") == b"nothing"
        for size in (1, 1400, 60000):
            data = os.urandom(size)
            assert ask(address, data) == data[::-1]
        assert ask(("::1", address[1]), b"abc") == b"cba"


def test_an_answer_comes_from_the_address_that_was_asked(box):
    """The client's socket is connected: it takes nothing from another address."""
    with served(box) as container:
        number = container.address("9000/udp")[1]
        for host in ("127.0.0.1", "127.0.0.7", "127.1.2.3"):
            assert ask((host, number), b"abc") == b"cba"


def test_every_client_is_another_one_inside(box):
    with served(box) as container, ExitStack() as stack:
        address = container.address("9000/udp")
        clients = [stack.enter_context(datagrams(address)) for _ in range(50)]
        for _ in range(2):
            for client in clients:
                client.send(b"who")
        answers = [{client.recv(10), client.recv(10)} for client in clients]
        assert all(len(answer) == 1 for answer in answers)
        assert len(set.union(*answers)) == len(clients)


@pytest.mark.root
def test_a_quiet_flow_is_forgotten(box, monkeypatch):
    monkeypatch.setattr(runtime_ports, "UDP_IDLE", 0.2)
    with served(box) as container, datagrams(container.address("9000/udp")) as client:
        server = proxy(container)
        idle = descriptors_of(server)
        client.send(b"who")
        first = client.recv(10)
        await_true(lambda: descriptors_of(server) == idle, "the end of the flow")
        client.send(b"who")
        assert client.recv(10) != first


@pytest.mark.root
def test_flows_are_bounded(box):
    """The one that was quiet for longest goes first; who speaks on keeps its place."""
    with many_descriptors(), served(box) as container, datagrams(container.address("9000/udp")) as faithful:
        server = proxy(container)
        faithful.send(b"who")
        first = faithful.recv(10)
        for n in range(6000):
            ask(faithful.getpeername(), b"x")
            if n % 500 == 0:
                faithful.send(b"who")
                assert faithful.recv(10) == first
        assert descriptors_of(server) < 4096 + 100


# -- lives -------------------------------------------------------------------------------------------------------------


def test_ports_stay_over_restarts_by_the_policy(box):
    with served(box, restart="on-failure") as container:
        before = container.ports()
        with dial(container, words="exit 0 3") as connection:
            rest(connection)
            await_true(lambda: container.status().restart_count == 1 and container.status() == "running", "the next")
        await_true(lambda: says(container, "peer"), "an answer", timeout=30)
        assert container.ports() == before
        assert len(proxies(container)) == 1


def test_ports_stay_over_stop_and_start(box):
    with served(box) as container:
        before, numbers = container.ports(), {port.port for port in container.ports()}
        container.restart(timeout=0)
        assert container.ports() == before
        await_true(lambda: says(container, "peer"), "an answer", timeout=30)
        container.stop(timeout=0)
        for number in numbers:
            with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as other:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", number))
                other.bind(("127.0.0.1", number))
        with socket.socket() as taken:
            number = before[0].port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", number))
            taken.listen()
            container.start()
            assert container.address(8000)[1] != number  # any that was free would do
            assert {port.port for port in container.ports() if port.protocol == "udp"} == {
                port.port for port in before if port.protocol == "udp"
            }


def test_another_process_serves_them_when_one_is_killed(box):
    with served(box) as container:
        first = proxy(container)
        os.kill(first, signal.SIGKILL)
        await_true(lambda: proxies(container) not in ([], [first]), "another one")
        assert says(container, "peer") == b"127.0.0.1"


def test_a_monitor_that_is_killed_takes_them_along(box):
    with served(box) as container:
        server, number = proxy(container), container.address(8000)[1]
        os.kill(record.monitor_pid(container._directory()), signal.SIGKILL)
        await_true(lambda: not is_alive(server), "its end", timeout=1)
        container.wait(timeout=20)
        assert container.ports() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", number), 20)


OWNER = """
import sys, time, pylxc
engine = pylxc.Engine(sys.argv[1])
container = pylxc.start("busybox", ["nc", "-ll", "-p", "80", "-e", "cat"], ports={80: 0}, engine=engine)
print(container.id, container.address(80)[1], flush=True)
time.sleep(1000)
"""
LISTING = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"


def test_they_go_with_their_owner(box):
    root = str(box.engine.root)
    with subprocess.Popen([sys.executable, "-c", OWNER, root], stdout=subprocess.PIPE, text=True) as process:
        try:
            identity, number = process.stdout.readline().split()
            container = pylxc.Container.get(identity, engine=box.engine)
            server = proxy(container)
            await_true(lambda: has_echo(container), "the echo")
            with dial(container, 80):
                process.kill()
                await_true(lambda: not is_alive(server), "the end of what serves them", timeout=1)
        finally:
            process.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(number)), 20)
    out = subprocess.run([sys.executable, "-c", LISTING, root], check=True, capture_output=True)
    assert out.stdout == b"[]\n"


def test_a_container_without_ports_has_no_such_process(box):
    with box.start("sleep", "100") as container:
        assert proxies(container) == []
        assert container.ports() == []


def test_ports_are_part_of_the_spec(box):
    with box.start("sleep", "100", ports={80: 0}) as container:
        again = pylxc.Container.get(container.id, engine=box.engine)
        assert again.spec.ports == (pylxc.Port(80),)
        assert again.ports() == container.ports()
        assert attrs.evolve(again.spec) == again.spec
