"""A context of 10,000 files, hashed and copied into an image, against docker's BuildKit, in turns within one run.

``python3 benchmarks/context.py`` prints the medians of whole commands and of ``Image.build`` in this process, and
docker's as a multiple: of a context that is new to the engine ("new"), of the same after one file was changed
("changed"), and of the same again ("same"). Every round has a context of its own for each engine: docker's daemon keeps
a copy of those that it has seen. Docker's daemon is started for the run, where Debian's docker.io is installed. Nothing
is removed before the end (see ``commit.py``). Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dockerd import Daemon, is_here
from workers import in_turn, timed

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORIES, FILES = 100, 100
SIZES = (200, 1000, 4000, 16000)  # bytes of a file, each as often
DOCKERFILE = "FROM scratch\nCOPY . /context/\n"
JOBS = ("new", "changed", "same")


def make_context(directory: Path, seed: int) -> str:
    """Make a context whose files nobody has seen."""
    source = random.Random(seed)  # noqa: S311  contents, not secrets
    for number in range(DIRECTORIES):
        place = directory / f"d{number // 10}/s{number}"
        place.mkdir(parents=True)
        for name in range(FILES):
            (place / f"f{name}").write_bytes(source.randbytes(source.choice(SIZES)))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return str(directory)


def change(context: str, seed: int) -> None:
    """Give one file of a context another content."""
    Path(context, "d3/s33/f33").write_bytes(random.Random(-seed).randbytes(1000))  # noqa: S311


def builders(directory: Path, docker: list[str] | None) -> dict[str, Callable[[str], object]]:
    """Return who builds a context, by name."""
    engine = pylxc.Engine(directory / "in-process")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}

    def command(words: list[str], context: str) -> None:
        subprocess.run([*words, context], check=True, capture_output=True, env=environment)

    own = [sys.executable, "-m", "pylxc", "--root", f"{directory}/store", "build", "-q"]
    found: dict[str, Callable[[str], object]] = {
        "pylxc": partial(command, own),
        "in process": lambda context: pylxc.Image.build(context, engine=engine),
    }
    return found if docker is None else {**found, "docker": partial(command, docker)}


def measure(
    builders: dict[str, Callable[[str], object]], directory: Path, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of each job of each builder; they take turns, and who comes first changes."""
    times: dict[tuple[str, str], list[float]] = {}
    names = list(builders)
    for number in range(rounds):
        contexts = {name: make_context(directory / f"{name}{number}", number) for name in names}
        turn = in_turn(names, number)
        for job in JOBS:
            for name in turn:
                if job == "changed":
                    change(contexts[name], number)
                os.sync()
                times.setdefault((job, name), []).append(timed(partial(builders[name], contexts[name])))
    return times


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    if os.geteuid() != 0:
        raise SystemExit("this needs root")
    with tempfile.TemporaryDirectory(prefix="pylxc-context-") as name:
        directory = Path(name)
        if is_here():
            with Daemon(directory) as daemon:
                times = measure(builders(directory, daemon.client("build", "-q")), directory, rounds)
        else:
            times = measure(builders(directory, None), directory, rounds)
    print(f"{DIRECTORIES * FILES} files of {sum(SIZES) // len(SIZES)} bytes on average, {rounds} rounds")
    for job in JOBS:
        rival = times.get((job, "docker"))
        for name in ("pylxc", "in process", "docker"):
            ms = times.get((job, name))
            if ms:
                ratio = f"docker's is {statistics.median(rival) / statistics.median(ms):5.1f} x" if rival else ""
                spread = f"min {min(ms):9.1f}   max {max(ms):9.1f}"
                print(f"{job:8} {name:10} median {statistics.median(ms):9.1f} ms   {spread} ms   {ratio}")


if __name__ == "__main__":
    main()
