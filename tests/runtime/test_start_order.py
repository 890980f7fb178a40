"""A start does several things side by side: whichever fails, or ends, first, nothing is left and the truth is told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from boxes import NOTHING, await_true, children, descriptors, entries, monitors, mounts

import pylxc
from pylxc.runtime import process


def everything(engine) -> tuple[object, ...]:
    """Return what a start may leave behind."""
    return descriptors().keys(), children(), mounts(), monitors(), entries(engine)


@pytest.mark.parametrize("verb", ["run", "popen"])
def test_a_name_that_is_taken(box, verb):
    """The name is looked at while the helper makes the namespaces already: it gives them up."""
    with box.start("sleep", "100", name="holder"):
        before = everything(box.engine)
        for _ in range(20):
            with pytest.raises(pylxc.Conflict, match="holder"):
                getattr(pylxc, verb)("busybox", ["true"], name="holder", engine=box.engine)
        assert everything(box.engine) == before


def test_a_fork_of_the_caller_made_meanwhile(box, monkeypatch):
    """It holds the socket to the helper open, which must learn by other means that it is given up."""
    monkeypatch.setattr(process, "PATIENCE", 60.0)
    containers = box.engine.store.containers
    add, forks = containers.add, []

    def fork_and_add(*operands):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        forks.append(pid)
        return add(*operands)

    with box.start("sleep", "100", name="holder"):
        monkeypatch.setattr(containers, "add", fork_and_add)
        begin = time.monotonic()
        with pytest.raises(pylxc.Conflict):
            box.run("true", name="holder")
        took = time.monotonic() - begin
        monkeypatch.undo()
    for pid in forks:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert len(forks) == 1
    assert took < 30


def test_a_store_that_cannot_take_the_container(engine, busybox):
    place = engine.root / "containers"
    pylxc.run("busybox", ["true"], engine=engine)
    before = everything(engine)
    place.rename(engine.root / "elsewhere")
    try:
        with pytest.raises(pylxc.StoreError) as caught:
            pylxc.run("busybox", ["true"], engine=engine)
    finally:
        (engine.root / "elsewhere").rename(place)
    assert str(place) in str(caught.value)
    assert pylxc.Container.list(all=True, engine=engine) == []
    assert everything(engine) == before


def test_a_helper_that_fails_first(box):
    """It has given up long before the caller, which waits for a lock here, has made the container's row."""
    before = everything(box.engine)
    for options in ({"mounts": [{"type": "bind", "source": "/no/such", "target": "/x"}]}, {"user": "nobody-known"}):
        with pytest.raises(pylxc.SpawnError) as caught:
            box.run("true", **options)
        assert caught.value.stage in ("mount", "user")
    assert everything(box.engine) == before


def test_the_network_namespace_belongs_to_the_container(box):
    script = "readlink /proc/self/ns/net; ls /sys/class/net; cat /sys/class/net/lo/operstate; ip addr show lo"
    namespace, name, *rest = box.sh(script, network="none").text.splitlines()
    assert namespace != os.readlink("/proc/self/ns/net")
    assert name == "lo"
    assert any("127.0.0.1/8" in line for line in rest)
    # Only who has CAP_NET_ADMIN over the namespace may change an interface: its owner is the container's namespace.
    assert box.sh("ip link set lo down && ip link show lo", cap_add=["NET_ADMIN"]).exit_code == 0


NO_NETWORK = """
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
pylxc.Image.from_directory(sys.argv[2], "busybox", engine=engine)
try:
    pylxc.run("busybox", ["true"], engine=engine)
except pylxc.SpawnError as error:
    print(error.stage, error.errno, len(pylxc.Container.list(all=True, engine=engine)))
"""


def test_a_kernel_that_gives_no_network_namespace(tmp_path, busybox_root):
    """The limit is one of a user namespace made for the test, so that nobody else meets it."""
    limited = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'
    script = [sys.executable, "-c", NO_NETWORK, str(tmp_path / "store"), str(busybox_root)]
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh", *script]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.split() == ["namespaces", str(errno.ENOSPC), "0"]
    assert sorted(os.listdir(tmp_path / "store/containers")) == NOTHING["containers"]


def test_what_a_container_wrote_is_gone_when_run_comes_back(box):
    """The caller and the monitor remove it at the same time."""
    before = everything(box.engine)
    for _ in range(20):
        box.sh("mkdir -p /a/b/c /d && touch /a/b/c/$(seq 50 | tr '\\n' 'x') /d/1 /d/2 && ln -s / /d/3; chmod 0 /a")
        assert entries(box.engine) == NOTHING
    await_true(lambda: monitors() <= before[3], "the end of every monitor")
    assert everything(box.engine) == before
