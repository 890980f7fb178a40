"""Fixtures for all tests: stores that are checked to leave nothing behind, and what this machine is, in the report."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import MONITOR, await_true
from once import alone, shared

import pylxc
from pylxc.runtime import cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_report_header() -> list[str]:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    unified = Path("/sys/fs/cgroup/unified")
    cgroups = "v2" if controllers.exists() else "hybrid" if unified.exists() else "v1"
    namespaces = Path("/proc/sys/user/max_user_namespaces").read_text().strip()
    kernel = os.uname().release
    return [f"kernel {kernel}, uid {os.geteuid()}, user namespaces {namespaces}, cgroups {cgroups}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for another user: tests/rootless runs those of an ordinary user as one.

    The machine's root has cgroups, or its tests fail; an ordinary user has those that it was given.
    """
    others = {"ordinary_user"} if os.geteuid() == 0 else {"root"}
    if os.geteuid() != 0 and not (cgroup.hierarchies().v2 or cgroup.hierarchies().v1):
        others.add("cgroups")
    left_out = [item for item in items if any(map(item.get_closest_marker, others))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, others))]


def pytest_collection_finish() -> None:
    """Take the tests themselves out of what a collection of garbage walks through: it is asked for after each test."""
    gc.collect()
    gc.freeze()


KEEPER = b"pylxc-keeper\n"


def pytest_sessionfinish() -> None:
    """Wait for those who take default networks apart, half a second after their last use: they end with a worker."""
    deadline = time.monotonic() + 5  # s; those of others on this machine may stay longer
    while monitors(KEEPER) and time.monotonic() < deadline:
        time.sleep(0.02)


def monitors(name: bytes = MONITOR) -> set[int]:
    """Return the pids of all monitors on this machine (zombies too)."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "comm").read_bytes() == name:
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(path))]


def assert_nothing_left(engine: pylxc.Engine, monitors_before: set[int]) -> None:
    """No container, directory, mount or monitor of this store is left."""
    assert pylxc.Container.list(all=True, engine=engine) == []
    for name in ("containers", "staging", "trash"):
        assert list((engine.root / name).iterdir()) == [], name
    assert mounts_below(engine.root) == []
    await_true(lambda: monitors() <= monitors_before, "the end of every monitor")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[pylxc.Engine]:
    """A store of the test's own; whatever the test leaves in it fails the test."""
    before = monitors()
    made = pylxc.Engine(tmp_path / "store")
    yield made
    if not (made.root / "pylxc.db").exists():
        return
    gc.collect()  # an error of a build has what the failed step left, and a traceback is a cycle
    left = pylxc.Container.list(all=True, engine=made)
    for container in left:
        container.remove(force=True)
    assert left == [], "the test left containers behind"
    assert_nothing_left(made, before)


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No registry can be reached, wherever the test runs: the way to all of them leads to a port that nobody is at."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> pylxc.Engine:
    """A store for what is expensive to make; tests remove their own containers from it."""
    return pylxc.Engine(tmp_path_factory.mktemp("shared") / "store")


def bootstrapped(
    ref: str, packages: tuple[str, ...], engine: pylxc.Engine, places: pytest.TempPathFactory
) -> pylxc.Image:
    """Return a Debian from its own mirror: one worker makes it, the others load it."""
    place = shared(places, ref.replace(":", "-"))
    with alone(place):
        if (place / "image.tar").exists():
            pylxc.Image.load(place / "image.tar", engine=engine)
            return pylxc.Image.get(ref, engine=engine)
        image = pylxc.Image.bootstrap("debian", "bookworm", packages=packages, ref=ref, engine=engine)
        image.save(place / "image.tar")
    return image


@pytest.fixture(scope="session")
def debian(shared_engine: pylxc.Engine, tmp_path_factory: pytest.TempPathFactory) -> pylxc.Image:
    """Debian bookworm, tagged ``debian:bookworm``."""
    return bootstrapped("debian:bookworm", (), shared_engine, tmp_path_factory)


@pytest.fixture(scope="session")
def debian_system(shared_engine: pylxc.Engine, tmp_path_factory: pytest.TempPathFactory) -> pylxc.Image:
    """Debian bookworm with systemd and dbus, tagged ``debian:system`` as in the README."""
    return bootstrapped("debian:system", ("systemd", "systemd-sysv", "dbus"), shared_engine, tmp_path_factory)


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of a few names of a static busybox (Debian's busybox-static).

    They are hard links, as in the images that busybox comes in: a store of a test's own is made hundreds of times, and
    symbolic links cost three times as much as all the rest of one.
    """
    root = tmp_path_factory.mktemp("busybox")
    root.chmod(0o755)
    (root / "bin").mkdir()
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).hardlink_to(root / "bin/busybox")
    return root


@pytest.fixture
def busybox(engine: pylxc.Engine, busybox_root: Path) -> pylxc.Image:
    """A busybox image, tagged ``busybox``, in the test's own store."""
    return pylxc.Image.from_directory(busybox_root, "busybox", engine=engine)
