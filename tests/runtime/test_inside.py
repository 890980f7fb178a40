"""Python inside a container's namespaces: ``call``, and ``network_namespace`` for a thread."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time

import pytest
from boxes import await_true, children

import pylxc
from pylxc import aio


def network(pid="self"):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def network_of_thread():
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.fixture
def container(box):
    with box.start("nc", "-ll", "-p", "80", "-e", "cat", hostname="inside") as made:
        await_true(lambda: answers(made), "the echo")
        yield made


def answers(made):
    try:
        with made.connect(80) as connection:
            connection.sendall(b"x")
            return connection.recv(1) == b"x"
    except ConnectionRefusedError:
        return False


def test_a_function_is_called_in_the_containers_network(container):
    inside = network(container.status().pid)
    assert inside != network()
    assert container.call(network) == inside
    assert container.call(socket.if_nameindex)[0] == (1, "lo")
    assert network() != inside


def test_its_operands_value_and_exception_come_through(container):
    marks = {"a": [1, 2]}

    def change(name, value):
        marks[name] = value
        return marks

    assert container.call(change, "b", bytes(3 << 20)) == {"a": [1, 2], "b": bytes(3 << 20)}
    assert marks == {"a": [1, 2]}
    with pytest.raises(KeyError, match="nowhere"):
        container.call(lambda: marks["nowhere"])
    with pytest.raises(SystemExit):
        container.call(lambda: sys.exit(3))
    with pytest.raises(TypeError, match="the value cannot come back from a call"):
        container.call(lambda: lambda: 1)


def test_sockets_come_back_as_they_are(container):
    def pair():
        listening = socket.create_server(("127.0.0.1", 0))
        return {"to": socket.create_connection(("127.0.0.1", 80), 10), "listening": listening, "again": listening}

    made = container.call(pair)
    assert made["again"] is made["listening"]
    with made["to"] as connection, made["listening"] as listening:
        connection.settimeout(10)
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        with container.connect(listening.getsockname()[1]):
            listening.accept()[0].close()


def test_other_namespaces(container):
    assert container.call(socket.gethostname, namespaces={"net", "uts"}) == "inside"
    assert container.call(socket.gethostname) == socket.gethostname()
    for name in ("mnt", "pid", "user"):
        with pytest.raises(pylxc.UnsupportedError, match="use exec"):
            container.call(network, namespaces={name})
    with pytest.raises(pylxc.SpecError, match="net, ipc, uts"):
        container.call(network, namespaces={"network"})


def test_what_it_prints_is_printed_once(container, capfd):
    sys.stdout.write("before ")
    container.call(lambda: sys.stdout.write("within\n") and None)
    sys.stdout.write("after\n")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before within\nafter\n"


def test_a_container_that_does_not_run(container):
    container.stop(timeout=0)
    with pytest.raises(pylxc.Conflict, match="is not running"):
        container.call(network)


def test_a_call_that_is_killed(container):
    with pytest.raises(pylxc.Conflict, match="was killed"):
        container.call(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_call_on_an_event_loop_leaves_the_loop_free_and_can_be_cancelled(container):
    inside = network(container.status().pid)
    before = children()

    async def main():
        view = aio.Container(container)
        assert await view.call(network) == inside
        assert await asyncio.gather(*(view.call(lambda n=n: n) for n in range(5))) == [0, 1, 2, 3, 4]
        assert await view.ports() == []
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(view.call(time.sleep, 1000), 0.2)

    asyncio.run(main())
    assert children() == before


@pytest.mark.root
def test_a_thread_is_in_the_network_until_the_block_is_left(container):
    inside, own = network(container.status().pid), network()
    seen = []
    with container.network_namespace():
        assert network_of_thread() == inside
        with socket.create_connection(("127.0.0.1", 80), 10) as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
        thread = threading.Thread(target=lambda: seen.append(network()))
    thread.start()
    thread.join()
    assert seen == [own]
    assert network_of_thread() == own


@pytest.mark.root
def test_other_threads_stay_where_they_are(container):
    entered, left, seen = threading.Event(), threading.Event(), []

    def look():
        entered.wait(20)
        seen.append(network_of_thread())
        left.set()

    thread = threading.Thread(target=look)
    thread.start()  # before: a thread is born where its maker is
    with pytest.raises(ZeroDivisionError), container.network_namespace():
        entered.set()
        assert left.wait(20)
        raise ZeroDivisionError
    thread.join()
    assert seen == [network()] == [network_of_thread()]


@pytest.mark.root
def test_a_network_of_a_container_that_does_not_run(container):
    container.stop(timeout=0)
    with pytest.raises(pylxc.Conflict, match="is not running"), container.network_namespace():
        pass


@pytest.mark.ordinary_user
def test_an_ordinary_user_is_told_what_does(container):
    with pytest.raises(pylxc.UnsupportedError, match="call"), container.network_namespace():
        pass
