"""Many detached containers at once, from the first start to the last removal: ``python3 benchmarks/soak.py``.

Prints what starts cost (against the floor of floor.c, in turns with them: the first hundred beside the last hundred),
the memory of the monitors, what it takes to list them, to stop and to remove them, and what is left of them in the end.
The exit status is 1 when anything is. ``--containers N`` says how many, 1,000 by default. Needs root and a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workers import Floor, timed

import pylxc
from pylxc.cli.app import invoke
from pylxc.runtime import cgroup, idrange, record

if TYPE_CHECKING:
    from collections.abc import Callable

LISTINGS = 15
SAMPLE = 100  # starts that are compared, of the first and of the last
PATIENCE = 10.0  # s, until everything is gone
IMPORTS = "import pylxc.cli.ps, pylxc.container, pylxc.engine, pylxc.image, pylxc.store"


def show(name: str, value: str) -> None:
    """Print one line of the table."""
    print(f"{name:44} {value}", flush=True)


class Seen:
    """What the machine has of these containers while they run, to be looked for when they are gone."""

    def __init__(self, containers: list[pylxc.Container]) -> None:
        self.ids = [container.id for container in containers]
        directories = [container._directory() for container in containers]  # noqa: SLF001  monitors are no public matter
        self.monitors = [record.monitor_pid(directory) for directory in directories]
        self.processes = self.monitors + [container.status().pid for container in containers]

    def memory(self, *fields: str) -> list[int]:
        """Return the KiB of each monitor, the sum of these fields of its smaps_rollup (proc_pid_smaps(5))."""
        return [sum(_rollup(pid)[field] for field in fields) for pid in self.monitors]

    def left(self, engine: pylxc.Engine) -> dict[str, int]:
        """Return how much of each kind is still there."""
        found = cgroup.hierarchies()
        roots = {place for place in (found.v2, *found.v1.values()) if place}
        return {
            "processes": sum(Path(f"/proc/{pid}").exists() for pid in self.processes),
            "cgroups": sum(Path(root, f"{cgroup.PREFIX}{id}").exists() for root in roots for id in self.ids),  # noqa: A001
            "directories": sum(len(os.listdir(engine.root / name)) for name in ("containers", "staging", "trash")),  # noqa: PTH208
        }


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}


def held() -> dict[str, int]:
    """Return how many mounts this process sees, how many ranges of ids are locked, what it has open."""
    ids = Path(idrange.DIRECTORY, "ids")
    inode = f":{ids.stat().st_ino}" if ids.exists() else "none"
    return {
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "locks": sum(inode in line for line in Path("/proc/locks").read_text().splitlines()),
        "descriptors": sum(map(_is_of_a_container, os.listdir("/proc/self/fd"))),  # noqa: PTH208
    }


def _is_of_a_container(fd: str) -> bool:
    """Say whether it is no file: SQLite keeps its files open for longer than its connections."""
    with contextlib.suppress(FileNotFoundError):
        return not os.readlink(f"/proc/self/fd/{fd}").startswith("/")  # noqa: PTH115
    return False


def start_all(engine: pylxc.Engine, floor: Floor, count: int) -> list[pylxc.Container]:
    """Start the containers, in turns with the floor."""
    containers: list[pylxc.Container] = []
    ours, floors = [], []

    def start() -> None:
        containers.append(pylxc.start("host", ["sleep", "infinity"], detach=True, network="none", engine=engine))

    for _ in range(count):
        floors.append(floor.start("n"))
        ours.append(timed(start))
    show("starts", f"{1e3 * count / sum(ours):8.1f} /s")
    for name, part in (("first", slice(SAMPLE)), ("last", slice(-SAMPLE, None))):
        median, base = statistics.median(ours[part]), statistics.median(floors[part])
        show(
            f"  the {name} {len(ours[part])}", f"{median:8.3f} ms median   {median / base:6.2f} x floor ({base:.3f} ms)"
        )
    return containers


def listing(engine: pylxc.Engine) -> None:
    """Print what it takes to list them: in this process, and with the command."""

    def ps() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            if invoke(["--root", str(engine.root), "ps"]):
                raise SystemExit("ps failed")

    def command(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    jobs: dict[str, Callable[[], None]] = {
        "Container.list()": lambda: _ignore(pylxc.Container.list(engine=engine)),
        "ps in this process": ps,
        "the command pylxc ps": partial(command, "-m", "pylxc", "--root", str(engine.root), "ps"),
        "  of which the interpreter and its imports": partial(command, "-c", IMPORTS),
        "  of which the bare interpreter": partial(command, "-c", "pass"),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(LISTINGS):
        for name, job in jobs.items():
            times[name].append(timed(job))
    for name, found in times.items():
        show(name, f"{statistics.median(found):8.3f} ms median")


def _ignore(_: object) -> None:
    pass


def end_all(containers: list[pylxc.Container]) -> None:
    """Stop and remove them, one after the other."""
    stops = [timed(partial(container.stop, 0)) for container in containers]
    removals = [timed(container.remove) for container in containers]
    both = sum(stops) + sum(removals)
    show("stop and remove", f"{1e3 * len(containers) / both:8.1f} /s")
    for name, found in (("stop", stops), ("remove", removals)):
        show(f"  {name}", f"{statistics.median(found):8.3f} ms median")


def what_is_left(seen: Seen, engine: pylxc.Engine, before: dict[str, int]) -> dict[str, int]:
    """Return what is left after a while, of each kind more than none."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = held()
        left = {**seen.left(engine), **{name: now[name] - before[name] for name in now}}
        left = {name: count for name, count in left.items() if count > 0}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def soak(directory: Path, count: int) -> dict[str, int]:
    """Do it all; returns what is left."""
    floor, engine = Floor(directory), pylxc.Engine(directory / "store")
    pylxc.run("host", ["true"], engine=engine)  # what is opened once per process is open from here on
    before = held()
    containers = start_all(engine, floor, count)
    try:
        seen = Seen(containers)
        for name, fields in (("private", ("Private_Clean", "Private_Dirty")), ("proportional (PSS)", ("Pss",))):
            found = seen.memory(*fields)
            show(
                f"memory of a monitor, {name}", f"{statistics.median(found):8.0f} KiB median   {max(found)} KiB at most"
            )
        show("descriptors of this process", f"{held()['descriptors'] - before['descriptors']:8} more")
        listing(engine)
        end_all(containers)
    finally:
        for container in containers:
            container.remove(force=True)
    containers.clear()
    left = what_is_left(seen, engine, before)
    floor.close()
    show("left", ", ".join(f"{count} {name}" for name, count in left.items()) or "nothing")
    return left


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pylxc-soak-", dir="/var/tmp") as name:  # a disk, not tmpfs
        sys.exit(1 if soak(Path(name), options.containers) else 0)


if __name__ == "__main__":
    main()
