"""The default network: containers that ask for none are on it; it comes with its first use and goes after its last."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, box, box_engine, is_alive, monitors
from ownnet import addresses, ip, links, reap_orphans, run, tables

import pylxc
from pylxc import networking
from pylxc.runtime import network as kernel
from pylxc.runtime import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

pytestmark = pytest.mark.root
__all__ = ["box", "box_engine"]


def bridges() -> set[str]:
    return {name for name in links() if name.startswith("pylxc-")}


def keepers(engine: pylxc.Engine) -> set[int]:
    """Return the pids of the processes that wait for the end of a store's default network, on this host's network."""
    found, here = set(), os.stat("/proc/thread-self/ns/net").st_ino
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{entry}/ns/net").st_ino != here:
                continue
            opened = [os.readlink(f"/proc/{entry}/fd/{name}") for name in os.listdir(f"/proc/{entry}/fd")]
            if Path(f"/proc/{entry}/comm").read_bytes() == b"pylxc-keeper\n":
                found.update({int(entry)} if any(path.startswith(f"{engine.root}/") for path in opened) else ())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def await_gone(engine: pylxc.Engine) -> None:
    await_true(
        lambda: (bridges(), tables(), keepers(engine)) == (set(), set(), set()), "the end of the default network"
    )


@pytest.fixture(autouse=True)
def gone(box_engine: pylxc.Engine) -> Iterator[None]:
    """Let every test begin and end without it."""
    yield
    await_gone(box_engine)


def eth0(container: pylxc.Container) -> str:
    found = addresses("eth0", inside=container.status().pid)
    return next(text.partition("/")[0] for text in found if ":" not in text)


def test_every_verb_is_on_it(box: Box) -> None:
    look = ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d : -f 1"]
    assert sorted(box.run(*look).text.split()) == ["eth0", "lo"]
    with box.popen(*look) as process:
        assert sorted(process.communicate()[0].split()) == [b"eth0", b"lo"]
    created = box.create("sleep", "100", name="made")
    assert (created.spec.network, created.status()) == ("bridge", "created")
    with box.start("sleep", "100", network="default", name="other") as started, created:
        created.start()
        address = eth0(created)
        assert started.exec(["ping", "-c", "1", "-W", "5", address]).ok
        assert created.exec(["grep", address, "/etc/hosts"]).text.split()[1:] == ["made", created.id[:12]]
        assert not started.exec(["grep", "made", "/etc/hosts"], check=False).ok  # as in docker, and with any number
        assert created.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == eth0(created)
        assert len(bridges()) == len(keepers(box.engine)) == 1
    assert box.run(*look, network="none").text.split() == ["lo"]
    assert [one.name for one in pylxc.Network.list(engine=box.engine)] == ["bridge"]


def test_it_goes_after_its_last_use_and_comes_again(box: Box) -> None:
    with box.start("sleep", "100") as first, box.start("sleep", "100") as second:
        (bridge,) = bridges()
        first.stop(timeout=0)
        await_true(lambda: kernel.ports(bridge) == 1, "the end of the first one's link")
        assert second.exec(["true"]).ok
    await_gone(box.engine)
    with box.start("sleep", "100"):
        assert bridges() == {bridge}


@pytest.mark.parametrize("options", [{"userns": "host"}, {"privileged": True}, {"init": True}, {"uts": "host"}])
def test_with_other_options(box: Box, options: dict[str, object]) -> None:
    with box.start("sleep", "100", **options) as container:
        assert eth0(container)


def test_with_what_others_have(box: Box) -> None:
    with (
        box.start("sleep", "100", name="first") as first,
        box.start("sleep", "100", pid="container:first") as beside,
        box.start("sleep", "100", network="container:first") as within,
    ):
        assert beside.exec(["pidof", "sleep"]).ok
        assert eth0(beside) != eth0(first)
        assert links(inside=within.status().pid) == {"lo", "eth0"}
        assert eth0(within) == eth0(first)


def test_a_container_that_rests_keeps_it(box: Box) -> None:
    script = "echo >>/runs; test $(wc -l </runs) -ge 5 || exit 1; exec sleep 100"
    with box.start("sh", "-c", script, restart="on-failure") as container:  # rests 0.1, 0.2, 0.4, 0.8 s
        (bridge,) = bridges()
        await_true(
            lambda: container.status().restart_count == 4 and container.status() == "running", "the last restart"
        )
        assert bridges() == {bridge}
        assert kernel.ports(bridge) == 1
        assert eth0(container)


def test_a_container_that_was_connected_keeps_it(box: Box) -> None:
    with (
        pylxc.Network.create("lab", internal=True, engine=box.engine) as lab,
        box.start("sleep", "100", network="lab") as container,
    ):
        pylxc.Network.get("bridge", engine=box.engine).connect(container)
        (bridge,) = bridges() - {lab.bridge}
        (keeper,) = keepers(box.engine)
        assert not ends_within(keeper, 1.2)
        assert bridge in bridges()
        assert {"eth0", "eth1"} < links(inside=container.status().pid)
        for _ in range(3):
            pylxc.Network.get("bridge", engine=box.engine).disconnect(container)
            pylxc.Network.get("bridge", engine=box.engine).connect(container)
        opened = f"/proc/{record.monitor_pid(box.engine.container_directory(container.id))}/fd"
        assert sum("/run/bridge-" in os.readlink(f"{opened}/{name}") for name in os.listdir(opened)) == 1
        container.remove(force=True)


def ends_within(pid: int, timeout: float) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


START = """
import pylxc, sys
engine = pylxc.Engine(sys.argv[1])
for number in range(int(sys.argv[2])):
    with pylxc.start("busybox", ["sleep", "1000"], engine=engine) as container:
        container.exec(["ip", "addr", "show", "dev", "eth0"])
if len(sys.argv) > 3:
    container = pylxc.start("busybox", ["sleep", "1000"], detach=sys.argv[3] == "detach", engine=engine)
    print(container.id, flush=True)
    sys.stdin.read()
"""


def test_many_processes_at_once(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    command = [sys.executable, "-c", START, str(engine.root), "4"]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(8)]
    assert [worker.communicate(timeout=120)[1] for worker in workers] == [b""] * 8
    assert len(bridges()) <= 1
    await_gone(engine)
    assert pylxc.Network.get("bridge", engine=engine).members() == []


@pytest.mark.parametrize("how", ["owned", "detach"])
def test_it_does_not_need_the_process_that_made_it(engine: pylxc.Engine, busybox: pylxc.Image, how: str) -> None:
    command, running = [sys.executable, "-c", START, str(engine.root), "0", how], monitors()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        id = starter.stdout.readline().strip()  # noqa: A001
        starter.kill()
    if how == "detach":
        container = pylxc.Container.get(id, engine=engine)
        (keeper,) = keepers(engine)
        assert not ends_within(keeper, 1.2)
        assert eth0(container)
        container.remove(force=True)
    await_gone(engine)
    reap_orphans(running)
    engine.reopen()
    assert pylxc.Container.list(all=True, engine=engine) == []


def test_a_killed_keeper_is_replaced(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    with pylxc.start(busybox, ["sleep", "100"], engine=engine):
        (keeper,) = keepers(engine)
        os.kill(keeper, signal.SIGKILL)
        await_true(lambda: not is_alive(keeper), "the end of the keeper")
        pylxc.run(busybox, ["true"], engine=engine)  # whoever starts one sees to it
        assert len(keepers(engine)) == 1
        (keeper,) = keepers(engine)
        os.kill(keeper, signal.SIGKILL)
        await_true(lambda: not is_alive(keeper), "the end of the keeper")
    assert len(bridges()) == 1
    engine.reopen()
    assert pylxc.Container.list(engine=engine) == []  # whoever opens the store does, too
    await_gone(engine)


def test_killed_while_it_is_made(engine: pylxc.Engine, busybox: pylxc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(kernel, "make_bridge", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        pylxc.run(busybox, ["true"], engine=pylxc.Engine(engine.root))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    await_gone(engine)
    assert pylxc.run(busybox, ["true"], engine=engine).ok


def test_it_gives_way_to_a_route_that_came_meanwhile(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    made = pylxc.create(busybox, ["sleep", "100"], name="made", engine=engine)
    before = pylxc.Network.get("bridge", engine=engine).subnets
    await_gone(engine)
    run("ip", "link", "add", "up0", "type", "bridge")
    try:
        run("ip", "addr", "add", before[0].replace(".0/", ".9/"), "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        made.start()
        after = pylxc.Network.get("bridge", engine=engine).subnets
        assert after[0] != before[0]
        routes = {route["dst"] for route in ip("route", "show", "dev", "eth0", inside=made.status().pid)}
        assert routes == {"default", after[0]}
        assert "made" in made.exec(["grep", eth0(made), "/etc/hosts"]).text
        made.remove(force=True)
    finally:
        run("ip", "link", "del", "up0")


@pytest.fixture
def powerless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no nftables."""

    def refuse(*_: object, **__: object) -> None:
        raise pylxc.UnsupportedError("networks", "the kernel lacks nftables")

    monkeypatch.setattr(kernel, "make_firewall", refuse)
    monkeypatch.setattr(networking, "_found_possible", {})


def test_where_it_cannot_be_made_containers_have_none(
    engine: pylxc.Engine, busybox: pylxc.Image, powerless: None
) -> None:
    look = ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d : -f 1"]
    assert pylxc.run(busybox, look, engine=engine).text.split() == ["lo"]
    assert pylxc.create(busybox, ["true"], name="made", engine=engine).spec.network == "none"
    with pytest.raises(pylxc.UnsupportedError, match="the kernel lacks nftables"):
        pylxc.run(busybox, ["true"], network="bridge", engine=engine)
    (finding,) = [one for one in pylxc.doctor(engine=engine).findings if one.name == "networks"]
    assert finding.level == "warning"
    assert "containers have no network unless they ask for one" in finding.found
    pylxc.Container.get("made", engine=engine).remove()


WITHIN = """
import pylxc, sys
print(pylxc.run("busybox", ["cat", "/proc/net/dev"], engine=pylxc.Engine(sys.argv[1])).text)
"""


def test_without_the_right_to_make_networks(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    """Root without CAP_NET_ADMIN, as in many a container of others."""
    command = [
        "setpriv",
        "--bounding-set=-net_admin",
        "--inh-caps=-all",
        sys.executable,
        "-c",
        WITHIN,
        str(engine.root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "lo:" in done.stdout
    assert "eth0" not in done.stdout


@pytest.mark.parametrize("network", [None, "default", "bridge"])
def test_there_are_no_names_on_it(box: Box, network: str | None) -> None:
    with pytest.raises(pylxc.SpecError, match="nobody can ask for it by name") as caught:
        box.run("true", aliases=["web"], network=network)
    assert caught.value.option == "aliases"


def test_the_spec_that_is_kept_says_which_network(box: Box) -> None:
    container = box.create("true")
    (row,) = box.engine.store.containers.list()
    assert json.loads(row.spec)["network"] == "bridge"
    container.remove()
