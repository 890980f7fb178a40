"""``kill -9`` in the middle of an ``up``: the next ``up`` finishes it, the next ``down`` takes it away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from boxes import monitors
from composing import ids, load, names
from ownnet import host, reap_orphans

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

    from composing import Load

pytestmark = pytest.mark.root
__all__ = ["host", "load"]

SEVERAL = """
    services:
      web: {image: busybox, command: sleep 1000, stop_grace_period: 0s, depends_on: [db], scale: 2, secrets: [token]}
      db: {image: busybox, command: sleep 1000, stop_grace_period: 0s, environment: {WHICH: one}, volumes: [/data]}
      other: {image: busybox, command: sleep 1000, stop_grace_period: 0s, networks: [one, default]}
    networks: {one: {}}
    secrets: {token: {environment: HOME}}
"""
WANTED = ["shop-db-1", "shop-other-1", "shop-web-1", "shop-web-2"]
PROGRAM = """
import sys, pylxc
environment = pylxc.Environment.load(sys.argv[1], engine=pylxc.Engine(sys.argv[2]))
print("up", flush=True)
environment.up(detach=sys.argv[3] == "detach", force_recreate=True)
print("done", flush=True)
"""


def kill_an_up(environment: pylxc.Environment, engine: pylxc.Engine, how: str, after: float) -> bool:
    """Kill an ``up`` of another process so many seconds after its beginning; say whether it had ended by then."""
    before = monitors()
    arguments = [str(environment.files[0]), str(engine.root), how]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    if how == "owned":
        reap_orphans(before)
    return rest == b"done\n"


@pytest.mark.parametrize("how", ["detach", "owned"])
def test_a_killed_up_is_finished_or_taken_away(load: Load, engine: pylxc.Engine, how: str) -> None:
    chance = random.Random(int(os.environ.get("PYLXC_KILLS", "7")))
    environment = load(SEVERAL)
    ended = []
    for number in range(8):
        ended.append(kill_an_up(environment, engine, how, chance.uniform(0.02, 0.5)))
        if number % 2:
            environment.down(remove_orphans=True)
            assert environment.ps(all=True) == []
            assert pylxc.Network.list(engine=engine) == []
            continue
        assert names(environment.up()) == WANTED
        assert names(environment.ps(all=True)) == WANTED
        assert names(pylxc.Container.list(all=True, engine=engine)) == WANTED  # nothing beside them
        assert environment.exec("web", ["cat", "/run/secrets/token"], index=2).ok
        before = ids(environment)
        environment.up()
        assert ids(environment) == before
    assert not all(ended), "no kill came in time; give it less"
    # A removal that was cut short: the next that opens the store ends it.
    assert pylxc.Container.list(all=True, engine=pylxc.Engine(engine.root)) == []


def test_a_container_set_aside_by_a_killed_up_takes_its_place_again(load: Load, engine: pylxc.Engine) -> None:
    """The state between two steps of a replacement: the old one has been renamed, the new one is not there yet."""
    environment = load("services: {web: {image: busybox, command: sleep 1000, stop_grace_period: 0s}}")
    (container,) = environment.up()
    engine.store.containers.rename(container.id, f"{container.id[:12]}_shop-web-1")
    assert names(environment.up()) == ["shop-web-1"]
    assert ids(environment) == {"shop-web-1": container.id}


def test_secrets_go_with_the_environment(load: Load, tmp_path: Path) -> None:
    environment = load(SEVERAL)
    environment.up()
    assert (tmp_path / "store/volumes/shop.contents").is_dir()
    environment.down()
    assert not (tmp_path / "store/volumes/shop.contents").exists()
