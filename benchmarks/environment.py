"""How long an environment of many small services takes to come up, against the same containers started one by one.

``python3 benchmarks/environment.py [--services 20]`` prints, in turns within one run, the median time of ``up``, of an
``up`` that finds nothing to do and of ``down``, and of as many ``pylxc.start`` in a loop, on a network of the same
kind, and their removal. Machines are noisy: quote the ratios. Needs root, for the networks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = ["sleep", "1000"]


def timed(work: Callable[[], object]) -> float:
    """Return how long it takes, in s."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def one_by_one(engine: pylxc.Engine, services: int) -> tuple[float, float]:
    """Return how long it takes to start containers one after the other, and to remove them."""
    with ExitStack() as stack:
        stack.enter_context(pylxc.Network.create("alone", engine=engine))
        found: list[pylxc.Container] = []

        def start() -> None:
            for number in range(services):
                options = {"network": "alone", "name": f"alone-{number}", "engine": engine}
                found.append(pylxc.start("host", COMMAND, **options))

        def remove() -> None:
            for container in found:
                container.remove(force=True)

        return timed(start), timed(remove)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    seen: dict[str, list[float]] = {name: [] for name in ("up", "up again", "down", "start", "remove")}
    with tempfile.TemporaryDirectory() as directory:
        engine = pylxc.Engine(f"{directory}/store")
        services = "".join(
            f"  s{number}: {{image: host, command: sleep 1000, stop_signal: KILL}}\n"
            for number in range(given.services)
        )
        Path(directory, "compose.yaml").write_text(f"name: many\nservices:\n{services}", encoding="utf-8")
        engine.host_image()  # made once for a machine
        for _ in range(given.rounds):
            environment = pylxc.Environment.load(f"{directory}/compose.yaml", engine=engine)
            seen["up"].append(timed(environment.up))
            seen["up again"].append(timed(environment.up))
            seen["down"].append(timed(environment.down))
            start, remove = one_by_one(engine, given.services)
            seen["start"].append(start)
            seen["remove"].append(remove)
    median = {name: statistics.median(values) for name, values in seen.items()}
    print(f"{given.services} services, {given.rounds} rounds: median (worst), in s")
    for name, values in seen.items():
        print(f"{name:>10} {median[name]:8.3f} ({max(values):.3f})")
    print(f"up / start one by one: {median['up'] / median['start']:.2f}")


if __name__ == "__main__":
    main()
