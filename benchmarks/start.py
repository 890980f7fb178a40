"""Start and exec against the physical floor, in turns within one run: ``python3 benchmarks/start.py [--rounds N]``.

Prints for each job the median and the 99th percentile, and the ratio of the medians to the floor's (floor.c: the same
namespaces and mounts made by a small C program). Machines are noisy: quote the ratios. Needs root and a C compiler.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.options import Options

HERE = Path(__file__).parent
LIMITS: Options = {"memory": "256m", "cpus": 1.0, "pids_limit": 100}
TRUE = 'void _start(void) { __asm__ volatile("syscall" : : "a"(231), "D"(0)); }'


class Floor:
    """The C program, doing one start per letter."""

    def __init__(self, directory: Path) -> None:
        rootfs, scratch = directory / "rootfs", directory / "scratch"
        for path in (rootfs / "bin", rootfs / "proc", rootfs / "sys", rootfs / "dev", scratch):
            path.mkdir(parents=True)
        busybox = shutil.which("busybox")
        if busybox:  # Debian's busybox-static
            shutil.copy(busybox, rootfs / "bin/true")
        else:
            source = directory / "true.c"
            source.write_text(TRUE)
            flags = ["-O2", "-static", "-nostdlib", "-fno-stack-protector"]
            subprocess.run(["cc", *flags, "-o", rootfs / "bin/true", source], check=True)  # noqa: S607
        subprocess.run(["cc", "-O2", "-o", directory / "floor", HERE / "floor.c"], check=True)  # noqa: S607
        self._process = subprocess.Popen(
            [directory / "floor", rootfs, scratch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, letter: str) -> float:
        """Return the milliseconds of one start: "n" isolated, "v" plain."""
        assert self._process.stdin is not None  # noqa: S101  both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(letter)
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


def timed(job: Callable[[], object]) -> float:
    """Return the milliseconds that a job takes."""
    begin = time.perf_counter()
    job()
    return (time.perf_counter() - begin) * 1e3


def row(name: str, ours: list[float], floor: list[float] | None = None) -> None:
    """Print one line of the table."""
    median, worst = statistics.median(ours), statistics.quantiles(ours, n=100)[-1]
    ratio = f"{median / statistics.median(floor):6.2f} x floor" if floor else ""
    print(f"{name:44} median {median:8.3f} ms   p99 {worst:8.3f} ms   {ratio}")


def imports(rounds: int) -> None:
    """Compare fresh interpreters that import nothing, attrs and pylxc."""
    statements = ("pass", "import attrs", "import pylxc")
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(rounds):
        for statement in statements:
            command = [sys.executable, "-c", statement]
            times[statement].append(timed(partial(subprocess.run, command, check=True)))
    for statement in statements:
        row(f"python -c {statement!r}", times[statement])
    extra = statistics.median(times["import pylxc"]) - statistics.median(times["import attrs"])
    print(f"{'import pylxc over import attrs':44} {extra:15.3f} ms")


def main() -> None:
    """Run the jobs in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--idle", type=float, default=0.0, help="seconds of idleness before each measurement")
    parser.add_argument("--ballast", type=int, default=0, help="MiB of memory that the calling process holds")
    options = parser.parse_args()
    ballast = bytearray(options.ballast << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])

    with tempfile.TemporaryDirectory(prefix="pylxc-bench-", dir="/var/tmp") as directory:  # a disk, not tmpfs
        floor = Floor(Path(directory))
        engine = pylxc.Engine(Path(directory, "store"))
        rows: dict[str, list[float]] = {"floor n": [], "run": [], "limits": [], "floor v": [], "exec": []}
        with pylxc.start("host", ["sleep", "infinity"], engine=engine) as container:
            for _ in range(options.rounds):
                time.sleep(options.idle)
                rows["floor n"].append(floor.start("n"))
                time.sleep(options.idle)
                rows["run"].append(timed(lambda: pylxc.run("host", ["true"], engine=engine)))
                time.sleep(options.idle)
                rows["limits"].append(timed(lambda: pylxc.run("host", ["true"], engine=engine, **LIMITS)))
                time.sleep(options.idle)
                rows["floor v"].append(floor.start("v"))
                time.sleep(options.idle)
                rows["exec"].append(timed(lambda: container.exec(["true"])))
        floor.close()
    row("floor: namespaces+net, overlay", rows["floor n"])
    row("pylxc.run('host', ['true'])", rows["run"], rows["floor n"])
    row("the same with memory, cpu, pids limits", rows["limits"], rows["floor n"])
    row("floor: vfork, exec, wait", rows["floor v"])
    row("container.exec(['true'])", rows["exec"], rows["floor v"])
    imports(max(5, options.rounds // 10))


if __name__ == "__main__":
    main()
