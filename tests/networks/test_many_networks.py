"""Many networks and containers, made and removed by several processes at once; and all of these killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

import pytest
from boxes import await_true, monitors
from ownnet import ip, links, reap_orphans, tables

import pylxc

pytestmark = pytest.mark.root

WORKER = """
import json, sys, pylxc

engine, number, networks, containers = pylxc.Engine(sys.argv[1]), *map(int, sys.argv[2:])
print("begun", flush=True)
seen = []
for n in range(networks):
    with pylxc.Network.create(f"net-{number}-{n}", engine=engine) as network:
        made = []
        for c in range(containers):
            names = {"name": f"box-{number}-{n}-{c}", "aliases": [f"alias{c}"]}
            made.append(pylxc.start("busybox", ["sleep", "1000"], network=network.name, engine=engine, **names))
        told = [container.exec(["cat", "/etc/hosts"]).text.split() for container in made]
        for c in range(containers):
            assert all(f"alias{c}" in words for words in told), (c, told)
        members = network.members()
        assert len(members) == containers, members
        seen.append([network.subnets, [member.addresses for member in members]])
        for container in made:
            container.remove(force=True)
print(json.dumps(seen), flush=True)
"""


def workers(engine: pylxc.Engine, processes: int, networks: int, containers: int) -> list[subprocess.Popen[str]]:
    """Start processes that make ``networks`` networks together."""
    shares = [networks // processes + (n < networks % processes) for n in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(engine.root), str(n), str(share), str(containers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, share in enumerate(shares)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    return started


def all_done(started: list[subprocess.Popen[str]]) -> list[tuple[tuple[str, ...], list[list[str]]]]:
    """Return what the processes have seen, once all have ended well."""
    seen = []
    for process in started:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        seen += json.loads(out)
    return seen


def assert_nothing_left(engine: pylxc.Engine, before: set[str]) -> None:
    assert pylxc.Container.list(all=True, engine=engine) == []
    assert pylxc.Network.list(engine=engine) == []
    await_true(lambda: (links(), tables()) == (before, set()), "the end of all links and tables")
    assert {route["dev"] for route in ip("route")} <= before


def make_and_remove(engine: pylxc.Engine, processes: int, networks: int, containers: int) -> None:
    before = links()
    seen = all_done(workers(engine, processes, networks, containers))
    assert len(seen) == networks
    addresses = [address for _, members in seen for member in members for address in member]
    assert len(addresses) == networks * containers * 2
    assert_nothing_left(engine, before)


def kill_in_the_middle(engine: pylxc.Engine, processes: int, networks: int, containers: int, after: float) -> None:
    before, running = links(), monitors()
    started = workers(engine, processes, networks, containers)
    time.sleep(after)
    for process in started:
        process.kill()
    for process in started:
        process.communicate(timeout=60)
    engine.reopen()
    try:
        assert_nothing_left(engine, before)
        reap_orphans(running)
    except AssertionError as error:
        raise AssertionError(f"all were killed after {after} s") from error


def test_several_processes_make_and_remove_networks(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    make_and_remove(engine, 4, 8, 3)


def test_processes_that_are_killed_leave_nothing_to_the_next_one(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    for moment in (0.1, random.uniform(0.2, 2), random.uniform(0.2, 2)):
        kill_in_the_middle(engine, 4, 8, 3, moment)


@pytest.mark.slow
def test_fifty_networks_of_four_containers_by_eight_processes(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    make_and_remove(engine, 8, 50, 4)


@pytest.mark.slow
def test_eight_processes_are_killed_again_and_again(engine: pylxc.Engine, busybox: pylxc.Image) -> None:
    for _ in range(20):
        kill_in_the_middle(engine, 8, 50, 4, random.uniform(0, 6))
