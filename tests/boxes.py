"""A busybox container at hand, and a check after every test that nothing is left: what the runtime's tests share."""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pylxc
from pylxc.runtime import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MONITOR = b"pylxc-monitor\n"


class Box:
    """The verbs, on the busybox image (or another) of one store."""

    def __init__(self, engine: pylxc.Engine) -> None:
        self.engine = engine

    def run(self, *words: str, image: str | pylxc.Image = "busybox", **options) -> pylxc.Result:
        return pylxc.run(image, list(words), engine=self.engine, **options)

    def sh(self, script: str, **options) -> pylxc.Result:
        return self.run("sh", "-c", script, **options)

    def start(self, *words: str, image: str | pylxc.Image = "busybox", **options) -> pylxc.Container:
        return pylxc.start(image, list(words), engine=self.engine, **options)

    def create(self, *words: str, image: str | pylxc.Image = "busybox", **options) -> pylxc.Container:
        return pylxc.create(image, list(words), engine=self.engine, **options)

    def popen(self, *words: str, image: str | pylxc.Image = "busybox", **options) -> pylxc.Process:
        return pylxc.popen(image, list(words), engine=self.engine, **options)


def await_true(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.002)


def descriptors() -> dict[int, str]:
    """Return this process's open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the directory's own
            continue
    return found


def children() -> set[int]:
    """Return the pids of this process's children, zombies too."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def children_of(pid: int) -> set[int]:
    """Return the pids of a process's children."""
    try:
        return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def monitors() -> set[int]:
    """Return the pids of all monitors on this machine that run. Those that ended are whoever's parent's to reap."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if Path(f"/proc/{entry}/comm").read_bytes() == MONITOR and is_alive(int(entry)):
                    found.add(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")


def is_network_of_the_host(look: Callable[[str], str]) -> bool:
    """Say whether a shell, to which ``look`` gives a script, is in this network: links come and go meanwhile."""
    before = set(os.listdir("/sys/class/net"))
    namespace, *seen = look("readlink /proc/self/ns/net; ls /sys/class/net").split()
    lasting = before & set(os.listdir("/sys/class/net"))
    return namespace == os.readlink("/proc/self/ns/net") and lasting <= set(seen)


def mounts() -> list[str]:
    """Return the mounts of this process's namespace, without what changes by itself."""
    return sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())


def entries(engine: pylxc.Engine) -> dict[str, list[str]]:
    """Return what lies in the store's directories of things under way."""
    return {name: sorted(os.listdir(engine.root / name)) for name in ("containers", "staging", "trash")}


NOTHING: dict[str, list[str]] = {"containers": [], "staging": [], "trash": []}


@pytest.fixture(scope="session")
def box_engine(shared_engine: pylxc.Engine, busybox_root: Path) -> pylxc.Engine:
    busybox_root.chmod(0o755)  # it becomes the root directory, which every user has to pass
    pylxc.Image.from_directory(busybox_root, "busybox", engine=shared_engine)
    pylxc.run("busybox", ["true"], engine=shared_engine)  # what is opened once per process is open from here on
    return shared_engine


@pytest.fixture
def box(box_engine: pylxc.Engine) -> Iterator[Box]:
    """The verbs on busybox. A container, process, mount, directory or descriptor that a test leaves fails it."""
    gc.collect()  # what an earlier test's traceback still held is closed now, not in the middle of this one
    before = (descriptors(), children(), mounts(), monitors())
    yield Box(box_engine)
    left = pylxc.Container.list(all=True, engine=box_engine)
    for container in left:
        container.remove(force=True)
    assert left == [], "the test left containers behind"
    assert entries(box_engine) == NOTHING
    assert mounts() == before[2]
    await_true(lambda: monitors() <= before[3], "the end of every monitor")
    assert children() <= before[1]
    opened = {fd: what for fd, what in descriptors().items() if fd not in before[0]}
    assert opened == {}, f"the test left descriptors open: {opened}"


def cgroups() -> set[str]:
    """Return the directories of all containers' cgroups."""
    found = cgroup.hierarchies()
    roots = [Path(root) for root in {found.v2, *found.v1.values()} - {""}]
    return {str(path) for root in roots for path in root.glob(f"{cgroup.PREFIX}*")}
