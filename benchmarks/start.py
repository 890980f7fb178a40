"""Start and exec against the physical floor, in turns within one run: ``python3 benchmarks/start.py --full``.

Prints for each job the median and the 99th percentile, and the ratio of the medians to the floor's (floor.c: the same
namespaces and mounts made by a small C program). Without ``--full`` only the rows of one caller; ``--idle``,
``--ballast`` and ``--threads`` vary it. ``--full`` prints them all, and other engines where they are installed.
Machines are noisy: quote the ratios, of a machine that does nothing else. Needs root and a C compiler.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from peers import all_peers
from workers import Floor, Pylxc, in_turn, make_rootfs, timed

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.options import Options

LIMITS: Options = {"memory": "256m", "cpus": 1.0, "pids_limit": 100}
MANY_THREADS = 16
IDLE = 0.3  # s
BALLAST = 2048  # MiB
SECONDS = 5.0  # for which threads start containers


def row(name: str, ours: list[float], rival: list[float] | None = None, *, unit: str = "floor") -> None:
    """Print one line of the table."""
    median, worst = statistics.median(ours), statistics.quantiles(ours, n=100)[-1]
    ratio = f"{median / statistics.median(rival):6.2f} x {unit}" if rival else ""
    print(f"{name:44} median {median:8.3f} ms   p99 {worst:8.3f} ms   {ratio}", flush=True)


def in_turns(jobs: Mapping[str, Callable[[], float]], rounds: int, idle: float = 0.0) -> dict[str, list[float]]:
    """Return the times of each job; they take turns, and who comes first changes."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(rounds):
        for name in in_turn(names, number):
            time.sleep(idle)
            times[name].append(jobs[name]())
    return times


def starts(floor: Floor, engine: pylxc.Engine, rounds: int, idle: float) -> None:
    """Compare starts and execs of this process with the floor.

    The image "same" is the floor's own root file system: one overlay, a static program. "host" is two overlays and a
    program that the dynamic linker has to load, which is 0.3 ms without any container.
    """
    run = partial(pylxc.run, "host", ["true"], engine=engine, network="none")
    same = partial(pylxc.run, "same", ["true"], engine=engine, network="none")
    default = partial(pylxc.run, "same", ["true"], engine=engine)
    bridge = partial(pylxc.run, "same", ["true"], engine=engine, network="bench")
    with (
        pylxc.Network.create("bench", engine=engine),
        pylxc.start("host", ["sleep", "infinity"], engine=engine) as container,  # the default network stays
    ):
        jobs: dict[str, Callable[[], float]] = {
            "floor n": lambda: floor.start("n"),
            "run": lambda: timed(run),
            "limits": lambda: timed(partial(run, **LIMITS)),
            "same": lambda: timed(same),
            "same default": lambda: timed(default),
            "same bridge": lambda: timed(bridge),
            "same limits": lambda: timed(partial(same, **LIMITS)),
            "floor v": lambda: floor.start("v"),
            "exec": lambda: timed(lambda: container.exec(["true"])),
        }
        times = in_turns(jobs, rounds, idle)
    row("floor: namespaces+net, overlay", times["floor n"])
    row("pylxc.run on the floor's own root", times["same"], times["floor n"])
    row("the same with memory, cpu, pids limits", times["same limits"], times["floor n"])
    row("the same on the default network", times["same default"], times["floor n"])
    row("the same on a network of its own", times["same bridge"], times["floor n"])
    row("pylxc.run('host', ['true'])", times["run"], times["floor n"])
    row("the same with memory, cpu, pids limits", times["limits"], times["floor n"])
    row("floor: vfork, exec, wait", times["floor v"])
    row("container.exec(['true'])", times["exec"], times["floor v"])


def memory_of_the_caller(directory: Path, rounds: int) -> None:
    """Compare a caller that holds much memory with a small one."""
    small, large = Pylxc(directory / "small"), Pylxc(directory / "large", BALLAST)
    times = in_turns({"small": lambda: small.start("r"), "large": lambda: large.start("r")}, rounds)
    row("run from a small process", times["small"])
    row(f"run from a process that holds {BALLAST} MiB", times["large"], times["small"], unit="small")
    small.close()
    large.close()


def together(engine: pylxc.Engine, count: int, seconds: float = SECONDS) -> None:
    """Print how many starts a second so many threads of one process do, and what a start costs in processor time."""
    done: list[float] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        while time.perf_counter() < end:
            done.append(timed(lambda: pylxc.run("host", ["true"], engine=engine, network="none")))

    before = _processor_time()
    begin = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    own, helpers = (now - then for now, then in zip(_processor_time(), before, strict=True))
    row(f"pylxc.run in {count} threads", done)
    cost = f"{own / len(done) * 1e3:.2f} ms of this process, {helpers / len(done) * 1e3:.2f} ms of its helpers each"
    print(f"{'':44} {len(done) / took:8.0f} starts/s; {cost}", flush=True)


def _processor_time() -> tuple[float, float]:
    own, helpers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, helpers.ru_utime + helpers.ru_stime


def against_peers(directory: Path, floor: Floor, engine: pylxc.Engine, rounds: int) -> None:
    """Compare with the other engines that this machine has."""
    workers, absent = all_peers(directory)
    jobs: dict[str, Callable[[], float]] = {
        "floor: namespaces+net, overlay": lambda: floor.start("n"),
        "pylxc.run('host', ['true'])": lambda: timed(
            lambda: pylxc.run("host", ["true"], engine=engine, network="none")
        ),
        **{name: partial(worker.start, "r") for name, worker in workers.items()},
    }
    times = in_turns(jobs, rounds)
    floors = times.pop("floor: namespaces+net, overlay")
    for name, found in times.items():
        row(name, found, floors)
    for name, reason in absent.items():
        print(f"{name:44} left out: {reason}")
    for worker in workers.values():
        worker.close()


def imports(rounds: int) -> None:
    """Compare fresh interpreters that import nothing, attrs and pylxc."""
    jobs = {
        statement: partial(timed, partial(subprocess.run, [sys.executable, "-c", statement], check=True))
        for statement in ("pass", "import attrs", "import pylxc")
    }
    times = in_turns(jobs, rounds)
    for statement, found in times.items():
        row(f"python -c {statement!r}", found)
    extra = statistics.median(times["import pylxc"]) - statistics.median(times["import attrs"])
    print(f"{'import pylxc over import attrs':44} {extra:15.3f} ms")


def main() -> None:
    """Run the jobs in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--idle", type=float, default=0.0, help="seconds of idleness before each measurement")
    parser.add_argument("--ballast", type=int, default=0, help="MiB of memory that the calling process holds")
    parser.add_argument("--threads", type=int, default=0, help="also start from so many threads at once")
    parser.add_argument("--full", action="store_true", help="all rows, and other engines")
    options = parser.parse_args()
    ballast = bytearray(options.ballast << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    rounds = max(5, options.rounds)

    with tempfile.TemporaryDirectory(prefix="pylxc-bench-", dir="/var/tmp") as name:  # a disk, not tmpfs
        directory = Path(name)
        floor, engine = Floor(directory), pylxc.Engine(directory / "store")
        pylxc.Image.from_directory(make_rootfs(directory), "same", engine=engine)
        starts(floor, engine, rounds, options.idle)
        if options.full:
            print(f"after {IDLE * 1e3:.0f} ms of idleness:")
            starts(floor, engine, max(5, rounds // 5), IDLE)
            memory_of_the_caller(directory, rounds)
        if options.threads or options.full:
            together(engine, options.threads or MANY_THREADS)
        if options.full:
            against_peers(directory, floor, engine, max(5, rounds // 5))
        floor.close()
    imports(max(5, rounds // 10))


if __name__ == "__main__":
    main()
