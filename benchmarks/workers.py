"""Processes that do one thing per line they read, and answer with the milliseconds that it took.

So that rivals can take turns within one run, none of them paying for the memory or the start-up of another.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
HERE = Path(__file__).parent
TRUE = 'void _start(void) { __asm__ volatile("syscall" : : "a"(231), "D"(0)); }'


def in_turn(who: list[T], number: int) -> list[T]:
    """Return who takes part in a round, in that round's order: another one comes first in each."""
    first = number % len(who)
    return who[first:] + who[:first]


class Worker:
    """A process that does one job per letter."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, letter: str) -> float:
        """Return the milliseconds of one job."""
        assert self._process.stdin is not None  # noqa: S101  both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(letter)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._process.args!r} ended")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Floor(Worker):
    """The C program (floor.c): "n" is one isolated start, "v" a plain one."""

    def __init__(self, directory: Path) -> None:
        scratch = directory / "scratch"
        scratch.mkdir()
        subprocess.run(["cc", "-O2", "-o", directory / "floor", HERE / "floor.c"], check=True)  # noqa: S607
        super().__init__([directory / "floor", make_rootfs(directory), scratch])


class Pylxc(Worker):
    """A Python process with a store of its own: "r" is one ``run``, "l" one with limits. It holds ``ballast`` MiB."""

    def __init__(self, store: Path, ballast: int = 0) -> None:
        super().__init__([sys.executable, __file__, "pylxc", str(store), str(ballast)])


class Command(Worker):
    """A command, run once per letter; ``within`` is what the loop itself runs in, for example unshare(1)."""

    def __init__(self, command: Sequence[str], within: Sequence[str] = ()) -> None:
        super().__init__([*within, sys.executable, __file__, "command", *command])


def make_rootfs(directory: Path) -> Path:
    """Make a root file system with nothing but a static /bin/true, where there is none yet."""
    rootfs = directory / "rootfs"
    if rootfs.exists():
        return rootfs
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        (rootfs / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox:  # Debian's busybox-static
        shutil.copy(busybox, rootfs / "bin/true")
    else:
        source = directory / "true.c"
        source.write_text(TRUE)
        flags = ["-O2", "-static", "-nostdlib", "-fno-stack-protector"]
        subprocess.run(["cc", *flags, "-o", rootfs / "bin/true", source], check=True)  # noqa: S607
    return rootfs


def timed(job: Callable[[], object]) -> float:
    """Return the milliseconds that a job takes."""
    begin = time.perf_counter()
    job()
    return (time.perf_counter() - begin) * 1e3


def _serve(jobs: Callable[[str], Callable[[], object]]) -> None:
    while letter := sys.stdin.read(1):
        print(timed(jobs(letter)), flush=True)


def _serve_pylxc(store: str, ballast: str) -> None:
    import pylxc  # noqa: PLC0415  the other workers do without

    memory = bytearray(int(ballast) << 20)
    memory[::4096] = b"x" * len(memory[::4096])
    engine = pylxc.Engine(store)

    def job(letter: str) -> Callable[[], object]:
        if letter == "l":
            return lambda: pylxc.run(
                "host", ["true"], engine=engine, network="none", memory="256m", cpus=1.0, pids_limit=100
            )
        return lambda: pylxc.run("host", ["true"], engine=engine, network="none")

    for letter in "rl":
        job(letter)()
    _serve(job)


if __name__ == "__main__":
    kind, *operands = sys.argv[1:]
    if kind == "pylxc":
        _serve_pylxc(*operands)
    else:
        _serve(lambda _: lambda: subprocess.run(operands, check=True, stdin=subprocess.DEVNULL))
