"""Builds of the redis example: ``python3 benchmarks/build.py``.

Prints what a build costs beside its RUN commands (which tell how long they take themselves), what a rebuild costs when
everything is cached, in this process and as a command, docker's for both, with BuildKit, where Debian's docker.io is
installed: its daemon is started for the run. Needs root and the network (Debian's mirror).
"""

from __future__ import annotations

import argparse
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dockerd import Daemon, is_here
from workers import in_turn, timed

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[1] / "examples/redis"
BASE = "debian:bookworm"
CACHED = 30  # rebuilds in this process for each round: they take milliseconds
TOOK = re.compile(rb"TOOK (\d+)")


def timed_dockerfile() -> bytes:
    """Return the example, each of whose commands tells how long it took (ns)."""
    words = r"RUN s=$(date +%s%N); \1; status=$?; echo TOOK $(($(date +%s%N) - s)); exit $status"
    return re.sub("(?m)^RUN (.*)$", words, (EXAMPLE / "Dockerfile").read_text()).encode()


def docker_of(daemon: Daemon, directory: Path, engine: pylxc.Engine) -> list[str]:
    """Give docker the same base image; return what builds with it."""
    archive = directory / "base.tar"
    pylxc.Image.get(BASE, engine=engine).save(archive, "docker")
    subprocess.run(daemon.client("load", "-i", str(archive)), check=True, capture_output=True, stdin=subprocess.DEVNULL)
    archive.unlink()
    return daemon.client("build", "-q", "--network", "host")


def build_and_commands(engine: pylxc.Engine) -> tuple[float, float]:
    """Build; return the milliseconds of all, and of the commands."""
    output: list[bytes] = []
    text = io.BytesIO(timed_dockerfile())
    took = timed(
        lambda: pylxc.Image.build(
            text, no_cache=True, network="host", engine=engine, on_event=lambda event: output.append(event.data)
        )
    )
    return took, sum(map(int, TOOK.findall(b"".join(output)))) / 1e6


def jobs_of(engine: pylxc.Engine, docker: list[str] | None) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}

    def command(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment)

    def cached() -> None:
        for _ in range(CACHED):
            pylxc.Image.build(EXAMPLE, engine=engine)

    pylxc_build = [sys.executable, "-m", "pylxc", "--root", str(engine.root), "build", "-q"]
    found: dict[str, Callable[[], object]] = {
        "build": lambda: pylxc.Image.build(EXAMPLE, no_cache=True, engine=engine),
        "cached, in process": cached,
        "cached, command": lambda: command(*pylxc_build, str(EXAMPLE)),
    }
    if docker is not None:
        found["docker, build"] = lambda: command(*docker, "--no-cache", str(EXAMPLE))
        found["docker, cached"] = lambda: command(*docker, str(EXAMPLE))
    return found


def report(times: dict[str, list[float]]) -> None:
    """Print medians and the ratios that are asked for."""
    median = {name: statistics.median(values) for name, values in times.items()}
    median["cached, in process"] /= CACHED
    for name, value in median.items():
        print(f"{name:20} {value:10.1f} ms")
    print(f"build / commands     {median['timed build'] / median['its commands']:10.3f}")
    if "docker, build" in median:
        print(f"docker / build       {median['docker, build'] / median['build']:10.2f}")
        print(f"docker / command     {median['docker, cached'] / median['cached, command']:10.2f}  (cached)")
        print(f"docker / in process  {median['docker, cached'] / median['cached, in process']:10.2f}  (cached)")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    rounds = options.parse_args().rounds
    if os.geteuid() != 0:
        raise SystemExit("this needs root")
    with tempfile.TemporaryDirectory(prefix="pylxc-build-") as name, ExitStack() as stack:
        engine = pylxc.Engine(Path(name, "store"))
        pylxc.Image.bootstrap("debian", "bookworm", engine=engine)
        docker = None
        if is_here():
            docker = docker_of(stack.enter_context(Daemon(Path(name))), Path(name), engine)
        jobs = jobs_of(engine, docker)
        times: dict[str, list[float]] = {name: [] for name in (*jobs, "timed build", "its commands")}
        names = list(jobs)
        for number in range(rounds + 1):  # the first one warms up
            for job in in_turn(names, number):
                os.sync()
                took = timed(jobs[job])
                if number:
                    times[job].append(took)
            whole, commands = build_and_commands(engine)
            times["timed build"].append(whole)
            times["its commands"].append(commands)
    report(times)


if __name__ == "__main__":
    main()
