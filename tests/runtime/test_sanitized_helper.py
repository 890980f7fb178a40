"""The helper built against libc with the address and undefined-behaviour sanitizers, doing all that it does for real.

A finding ends the process that had it, so whatever was under way fails; the monitor's findings are read from files.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from boxes import await_true
from once import shared
from ownnet import links, own_network

import pylxc
from pylxc import containernetworks
from pylxc.runtime import control, native, record
from pylxc.runtime import network as kernel
from tests.published import ask, command, dial, rest
from tests.sanitizers import FLAGS, build_helper, reports


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """Build the helper with sanitizers; returns it and the directory of its reports."""
    place = tmp_path_factory.mktemp("sanitized")
    build_helper(place, shared(tmp_path_factory, "sanitized"))
    return place


@pytest.fixture
def helper(sanitized, monkeypatch, box):
    """Let this process use it, and look for reports at the end."""
    monkeypatch.setattr(native, "HELPER_PATH", str(sanitized / "helper"))
    monkeypatch.setattr(native, "_helper_fd", -1)
    yield box
    assert os.fstat(native._helper_fd).st_size == (sanitized / "helper").stat().st_size  # it was really this one
    os.close(native._helper_fd)
    assert reports(sanitized) == {}


def test_a_run_with_everything(helper, tmp_path):
    mode = "ro"
    if os.geteuid() == 0:  # nobody else may map the ids of a mount, or give files away
        os.chown(tmp_path, 1000, 1001)
        mode = "ro,idmap"
    options = {
        "volumes": {tmp_path: f"/a/deep/place:{mode}"},
        "tmpfs": ["/t"],
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "ulimits": {"nofile": 100},
        "devices": ["/dev/zero:/dev/again"],
        "extra_hosts": {"db": "10.0.0.1"},
        "user": "nobody",
        "workdir": "/made/for/it",
    }
    data = random.Random(3).randbytes(1 << 20)
    for image in ("busybox", "host"):
        assert helper.run("cat", image=image, input=data, **options).stdout == data
        assert helper.sh("id -u; pwd", image=image, read_only=True, **options).text == "65534\n/made/for/it\n"


@pytest.mark.root
def test_networks(helper):
    script = "test -e /again && exec sleep 100; touch /again; exit 1"
    with own_network(), pylxc.Network.create("lab", engine=helper.engine) as network:  # with a keeper
        with helper.start("sh", "-c", script, network="lab", restart="always") as container:
            await_true(lambda: container.status().restart_count == 1 and container.status() == "running", "a restart")
            network.disconnect(container)
            network.connect(container)
            assert "eth0" in links(inside=container.status().pid)
        with pytest.raises(pylxc.SpawnError) as caught:
            container = helper.create("true", network="lab", remove=True)
            try:
                with without_bridge(network):
                    container.start()
            finally:
                container.remove()
        assert caught.value.stage == "network"


@contextmanager
def without_bridge(network):
    """Let the bridge be gone after it was seen to be there."""
    before = containernetworks.bring_up

    def take_down(_, row, stack):
        kernel.remove_link(row.bridge, stack)
        return -1

    containernetworks.bring_up = take_down
    try:
        yield
    finally:
        containernetworks.bring_up = before
        before(network._engine, network._row, kernel.HOST)


def test_starts_that_fail(helper):
    for stage, options in (
        ("exec", {"entrypoint": ["no-such"]}),
        ("user", {"user": "no-such:group"}),
        ("mount", {"volumes": {"/no/such": "/in"}}),
        ("workdir", {"workdir": "/etc/passwd"}),
    ):
        with pytest.raises(pylxc.SpawnError) as caught:
            helper.run("true", **options)
        assert caught.value.stage == stage


def test_checks_of_the_health(helper):
    script = (
        "n=$(cat /tmp/n); echo $((n + 1)) >/tmp/n; head -c 9999 /dev/urandom; [ $((n % 3)) = 2 ] && sleep 9; exit $n"
    )
    check = {"test": script, "interval": 0.001, "timeout": 0.2}
    with helper.start("sleep", "100", healthcheck=check) as container:
        await_true(lambda: container.status().health == "unhealthy", "unhealthy", timeout=30)
        assert len(container.inspect()["State"]["Health"]["Log"]) >= 3


def test_the_life_of_a_container(helper):
    script = "trap 'echo bye; exit 3' TERM; seq 1 20000; head -c 200000 /dev/zero; echo; echo ready; "
    script += "while :; do sleep 0.01; done"
    with helper.start("sh", "-c", script) as container:
        container.wait_ready(log="ready", timeout=20)
        assert container.exec(["sh", "-c", "cat; id -G"], input=b"in ", user="nobody").text == "in 65534\n"
        container.stop(timeout=20)
        assert container.wait() == 3
        lines = [line.data for line in container.logs()]
        assert (lines[0], lines[19999], len(lines[20000]), lines[-1]) == (b"1\n", b"20000\n", 200001, b"bye\n")


def test_a_life_of_restarts_and_requests(helper):
    """A thousand things happen to one monitor, and it holds as many descriptors as before."""
    script = "echo >>/runs; echo up; while read line; do test $line = end && exit 1; echo $line; done"
    options = {"restart": "on-failure:3", "stdin": True, "log": {"max_size": "4k", "max_files": 2}}
    with helper.start("sh", "-c", script, **options) as container:
        directory, monitor = container._directory(), record.monitor_pid(container._directory())

        def held():
            return len(os.listdir(f"/proc/{monitor}/fd")) if os.geteuid() == 0 else 0

        before = held()
        for number in range(1000):
            fd = control.standard_input(directory)
            os.write(fd, b"end\n" if number == 500 else b"%d\n" % number)
            os.close(fd)
        container.wait_ready(log="999", timeout=60)
        assert (held(), container.status().restart_count) == (before, 1)
        container.detach()
        container.stop(timeout=0)
        assert container.status() == "exited"
    container.remove()


def test_terminals(helper):
    script = "tty; head -c 200000 /dev/zero | tr '\\0' x; echo; cat; echo end"
    shown = b"/dev/pts/0\r\n" + b"x" * 200_000 + b"\r\nend\r\n"
    for options in ({}, {"init": True, "user": "nobody"}, {"userns": "host"}):
        assert helper.sh(script, tty=True, input=b"\x04", **options).stdout == shown
    with helper.start("sh", "-c", "echo ready; sleep 100", tty=True) as container:
        container.wait_ready(log="ready", timeout=20)
        assert container.exec(["sh", "-c", script], tty=True, input=b"\x04").stdout == shown.replace(b"/0", b"/1")
        with container.popen(["cat"], tty=True) as process:
            process.resize(1, 2)
    with pytest.raises(pylxc.SpawnError) as caught:
        helper.run("true", tty=True, tmpfs=["/dev/pts"])
    assert caught.value.stage == "terminal"


def test_files_go_in_and_out(helper, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("content")
    (tmp_path / "tree/link").symlink_to("sub/file")
    with helper.start("sleep", "100") as container:
        for runs in (True, False):
            container.copy_in(tmp_path / "tree", "/tmp")
            container.copy_out("/tmp/tree", tmp_path / f"out{runs}")
            container.copy_out("/tmp/tree/link", tmp_path / f"file{runs}", follow=True)
            assert (tmp_path / f"out{runs}/sub/file").read_text() == (tmp_path / f"file{runs}").read_text() == "content"
            with container.open("/tmp/tree/link", "r+") as file:
                assert file.read() == "content"
            for path in ("/no/such", "/etc", "/dev/null", "/" + "x" * 5000, "/tmp/tree/link/.."):
                with pytest.raises(OSError, match=path):
                    container.open(path)
            container.stop(timeout=0)


def test_layers_go_in_and_out(helper, busybox_root):
    image = pylxc.Image.from_directory(busybox_root, "sanitized", engine=helper.engine)
    assert [layer.digest for layer in image.layers] == [layer.digest for layer in helper.engine.image("busybox").layers]
    image.untag("sanitized")


def test_a_user_database_of_junk(helper, tmp_path):
    bits = random.Random(4)
    for number in range(20):
        alphabet = b"root:x:0\n,," + bytes([bits.randrange(256)])
        (tmp_path / "passwd").write_bytes(bytes(bits.choice(alphabet) for _ in range(number * 100)))
        try:
            helper.run("true", user="root", volumes={tmp_path / "passwd": "/etc/passwd"})
        except pylxc.SpawnError as error:
            assert error.stage == "user"  # noqa: PT017  one of two outcomes


def test_it_bites(tmp_path):
    """A read past the end, built the same way, is found."""
    (tmp_path / "bad.c").write_text("int main(int n, char **v) { char a[4] = {0}; (void)v; return a[n + 3]; }")
    subprocess.run(["gcc", *FLAGS, "-w", "-o", tmp_path / "bad", tmp_path / "bad.c"], check=True)
    assert subprocess.run([tmp_path / "bad"], check=False, capture_output=True).returncode != 0


def test_published_ports(helper):
    """Connections of every end, datagrams, a restart, and what is under way when the container ends."""
    ports = {8000: ("127.0.0.1", 0), "9000/udp": 0}
    with helper.start(*command(), image="host", ports=ports, restart="on-failure") as container:
        container.wait_ready(port=8000, timeout=60)
        data = random.Random(1).randbytes(3 << 20)
        with dial(container, words="echo") as connection:
            sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
            sender.start()
            assert rest(connection) == data + b"end"
            sender.join()
        slow = [dial(container, words="flood") for _ in range(100)]
        for words in ("peer", "give 100000", "first", "reset", "echo"):
            dial(container, words=words).close()
        assert ask(container.address("9000/udp"), b"abc") == b"cba"
        with dial(container, words="exit 100000 3") as connection:
            assert len(rest(connection)) == 100000
        for connection in slow:
            connection.close()
        await_true(lambda: container.status().restart_count == 1 and container.status() == "running", "the next life")
        container.stop(timeout=0)
