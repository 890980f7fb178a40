"""Containers that share namespaces with another one, or with the host."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from boxes import await_true, is_alive, is_network_of_the_host

import pylxc
from pylxc.errors import Conflict, ContainerNotFound, SpecError
from pylxc.runtime import cgroup

KINDS = {"network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts"}
# Of two containers' main processes, sharing nothing.
OWN = {"net", "pid", "ipc", "uts", "mnt", "user", "cgroup"}


def differing(one: pylxc.Container, other: pylxc.Container) -> set[str]:
    pids = [container.status().pid for container in (one, other)]
    return {kind for kind in OWN if len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids}) == 2}


def test_two_containers_share_nothing(box):
    with box.start("sleep", "100") as one, box.start("sleep", "100") as other:
        assert differing(one, other) == OWN


@pytest.mark.parametrize("options", [("network",), ("pid",), ("ipc",), ("uts",), tuple(KINDS)])
@pytest.mark.parametrize("userns", [None, "host"])
def test_namespaces_of_another_container(box, options, userns):
    with box.start("sleep", "100", name="first", hostname="first", userns=userns) as first:
        shared = dict.fromkeys(options, "container:first")
        with box.start("sleep", "100", userns=userns, **shared) as second:
            same = OWN - differing(first, second)
            # Whoever shares has the other's ids, for only its root has rights over what is shared.
            assert same == {KINDS[option] for option in options} | {"user"}
            assert second.exec(["id", "-u"]).text == "0\n"
            assert second.exec(["cat", "/proc/self/uid_map"]).text == first.exec(["cat", "/proc/self/uid_map"]).text


def test_a_shared_network(box):
    with box.start("nc", "-ll", "-p", "7000", "-e", "echo", "hello", name="server", network="none") as server:
        server.wait_ready(port=7000, timeout=10)
        assert box.run("nc", "127.0.0.1", "7000", network="container:server").text == "hello\n"
        # What the root of a network may do, the other's may.
        assert box.sh("ls /sys/class/net", network="container:server").text == "lo\n"
        with box.start("nc", "-ll", "-p", "80", "-e", "echo", "low", network="container:server") as other:
            other.wait_ready(port=80, timeout=10)
            with server.connect(80) as connection:
                assert connection.recv(10) == b"low\n"


def test_shared_processes(box):
    with box.start("sleep", "12345", name="seen") as seen:
        text = box.sh("ps; kill -0 1 && echo may", pid="container:seen").text
        assert "sleep 12345" in text
        assert "may" in text
        with box.start("sh", "-c", "sleep 7 & sleep 8", pid="container:seen") as other:
            await_true(lambda: seen.exec(["sh", "-c", "ps | grep -c '[s]leep [78]'"]).text == "2\n", "its processes")
            assert len(other.top()) >= 3
            other.remove(force=True)
            # Its descendants go with it, though it is not their PID 1: by its cgroup, where it can have one.
            left = "0\n" if cgroup.hierarchies().v2 else "1\n"
            assert seen.exec(["sh", "-c", "ps | grep -c '[s]leep [78]' || true"]).text == left
            assert seen.status() == "running"


def test_processes_end_with_the_container_whose_they_are(box):
    first = box.start("sleep", "100", name="first")
    second = box.start("sleep", "100", pid="container:first")
    pid = second.status().pid
    first.remove(force=True)
    assert second.wait(timeout=10) == 137
    assert not is_alive(pid)
    second.remove()


def test_a_shared_name(box):
    with box.start("sleep", "100", name="named", hostname="common"):
        assert box.run("hostname", uts="container:named").text == "common\n"


def test_shared_memory_of_system_v(box):
    program = "import ctypes,sys; libc=ctypes.CDLL(None); print(libc.msgget(77, int(sys.argv[1])) >= 0)"
    with box.start("sleep", "100", image="host", name="queue") as owner:
        assert owner.exec(["python3", "-c", program, str(0o1600)]).text == "True\n"
        look = ["python3", "-c", program, "0"]
        assert box.run(*look, image="host", ipc="container:queue").text == "True\n"
        assert box.run(*look, image="host").text == "False\n"


@pytest.mark.root
def test_the_hosts(box):
    with box.start("sleep", "100", userns="host", pid="host", ipc="host", uts="host", cgroup="host") as container:
        pid = container.status().pid
        for kind in ("pid", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
        assert container.exec(["hostname"]).text.strip() == socket.gethostname()
        assert str(os.getpid()) in container.exec(["ls", "/proc"]).text.split()
        probe = Path("/dev/shm/pylxc-probe")
        probe.write_text("seen")
        try:
            assert container.exec(["cat", "/dev/shm/pylxc-probe"]).text == "seen"
        finally:
            probe.unlink()


def test_a_name_of_the_hosts(box):
    assert box.run("hostname", uts="host").text.strip() == socket.gethostname()
    assert not box.run("hostname", "mine", uts="host", cap_add=["SYS_ADMIN"], check=False).ok


def test_with_the_hosts_network_an_exec_works(box):
    with box.start("sleep", "100", network="host") as container:
        assert is_network_of_the_host(lambda script: container.exec(["sh", "-c", script]).text)


def test_whom_there_is_not(box):
    with pytest.raises(ContainerNotFound):
        box.run("true", network="container:nobody")
    resting = box.create("true", name="resting")
    with pytest.raises(Conflict, match="resting"):
        box.run("true", network="container:resting")
    resting.remove()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pid": "host"}, "userns"),
        ({"ipc": "host"}, "userns"),
        ({"pid": "container:a", "network": "container:b"}, "one container only"),
        ({"uts": "host", "hostname": "mine"}, "hostname"),
        ({"pid": "container:a", "init": True}, "PID 1"),
        ({"network": "container:a", "sysctls": {"net.ipv4.ip_forward": 1}}, "another's"),
        ({"ipc": "container:a", "sysctls": {"kernel.msgmax": 1}}, "another's"),
        ({"pid": "container:"}, "container:NAME"),
        ({"cgroup": "container:a"}, "cgroup"),
    ],
)
def test_what_cannot_be_shared(options, words):
    with pytest.raises(SpecError, match=words):
        pylxc.ContainerSpec(image="x", **options)
