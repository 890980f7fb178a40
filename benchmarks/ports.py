"""Published ports against docker's own proxy and against nobody in between, in turns within one run.

``python3 benchmarks/ports.py`` prints how many bytes pass in a second, downwards and upwards, and how long it takes to
connect, say a word, hear it back and hang up. Three ways lead to three copies of one server: straight to it over the
loopback, through ``docker-proxy`` (as dockerd starts it; Debian's docker.io), and through a published port of a
container with a loopback only. The last rows are the memory that it takes. Machines are noisy: quote the ratios. Needs
root, for docker's proxy and for the memory of others.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workers import in_turn

import pylxc
from pylxc.runtime import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Address = tuple[str, int]

DOCKER_PROXY = shutil.which("docker-proxy") or "/usr/sbin/docker-proxy"
PORT = 8000
PIECE = 1 << 18
PATIENCE = 10.0  # s
# "down N": sends N bytes; "up N": takes N and says so; "word": gives a word back.
SERVER = """
import os, socket, sys, threading
listening = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
piece = bytes(1 << 18)

def serve(connection):
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        what, _, size = connection.recv(64).decode().strip().partition(" ")
        if what == "word":
            connection.sendall(b"word")
        elif what == "down":
            for _ in range(int(size) // len(piece)):
                connection.sendall(piece)
        else:
            connection.sendall(b"go")
            left, room = int(size), bytearray(1 << 20)
            while left > 0 and (n := connection.recv_into(room)):
                left -= n
            connection.sendall(b"done")

while True:
    connection, _ = listening.accept()
    if len(sys.argv) > 3:
        serve(connection)
    else:
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""


def free_port() -> int:
    """Return a port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block is left."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def direct() -> Iterator[Address]:
    """Yield the address of a server of the host's."""
    port = free_port()
    with program(sys.executable, "-c", SERVER, "127.0.0.1", str(port)):
        await_word(("127.0.0.1", port))
        yield "127.0.0.1", port


def await_word(address: Address) -> None:
    """Wait until somebody answers at an address. Raises TimeoutError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            word(address)
        except OSError:  # noqa: PERF203  it is tried again
            if time.monotonic() > end:
                raise TimeoutError(f"nobody answers at {address}") from None
            time.sleep(0.01)
        else:
            return


@contextmanager
def through_docker() -> Iterator[tuple[Address, int]]:
    """Yield where docker's proxy is, and its pid. It says on descriptor 3 that it is ready, as dockerd wants it."""
    port = free_port()
    places = ("-host-ip", "127.0.0.1", "-host-port", str(port))
    with direct() as (host, behind):
        ends = ("-proto", "tcp", *places, "-container-ip", host, "-container-port", str(behind))
        with program("sh", "-c", 'exec "$@" 3>&1 4</dev/null', "sh", DOCKER_PROXY, *ends) as process:
            await_word(("127.0.0.1", port))
            yield ("127.0.0.1", port), process.pid


@contextmanager
def published(engine: pylxc.Engine) -> Iterator[tuple[Address, int]]:
    """Yield where a published port is, and the pid of the container's monitor."""
    command = ["python3", "-c", SERVER, "127.0.0.1", str(PORT)]
    with pylxc.start("host", command, ports={PORT: ("127.0.0.1", 0)}, engine=engine) as container:
        container.wait_ready(port=PORT, timeout=PATIENCE)
        yield container.address(PORT), record.monitor_pid(str(engine.root / "containers" / container.id))


def connected(address: Address) -> socket.socket:
    """Return a connection without delays."""
    connection = socket.create_connection(address, PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def word(address: Address) -> float:
    """Return the time that a connection takes for one word there and back, in microseconds."""
    begin = time.perf_counter()
    with connected(address) as connection:
        connection.sendall(b"word\n")
        if connection.recv(16) != b"word" or connection.recv(16):
            raise ConnectionError("another answer")
    return (time.perf_counter() - begin) * 1e6


def down(address: Address, size: int) -> float:
    """Return the rate at which bytes come, in MB a second."""
    room, left = bytearray(1 << 20), size
    with connected(address) as connection:
        begin = time.perf_counter()
        connection.sendall(f"down {size}\n".encode())
        while left > 0:
            count = connection.recv_into(room)
            if not count:
                raise ConnectionError(f"{left} bytes are missing")
            left -= count
        return size / (time.perf_counter() - begin) / 1e6


def up(address: Address, size: int) -> float:
    """Return the rate at which bytes go, in MB a second."""
    piece = bytes(PIECE)
    with connected(address) as connection:
        connection.sendall(f"up {size}\n".encode())
        connection.recv(2)
        begin = time.perf_counter()
        for _ in range(size // PIECE):
            connection.sendall(piece)
        if connection.recv(16) != b"done":
            raise ConnectionError("it did not take all")
        return size / (time.perf_counter() - begin) / 1e6


def measured(
    job: Callable[[Address], float], addresses: dict[str, Address], rounds: int, *, batch: int = 1
) -> dict[str, list[float]]:
    """Return what a job measures on each way; they take turns, and who comes first changes."""
    found: dict[str, list[float]] = {name: [] for name in addresses}
    for number in range(rounds):
        for name in in_turn(list(addresses), number):
            found[name] += [job(addresses[name]) for _ in range(batch)]
    return found


def show(title: str, unit: str, found: dict[str, list[float]], *against: str) -> None:
    """Print the medians of a job, and the ratios of the published port's to those of others."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    shown = "   ".join(f"{name} {value:8.1f}" for name, value in medians.items())
    ratios = [f"{medians['published'] / medians[name]:.2f} x {name}" for name in against if name in medians]
    print(f"{title:24} {shown} {unit}   published: {', '.join(ratios)}", flush=True)


def proportional_memory(pid: int) -> int:
    """Return the proportional set size of a process, in KiB (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def show_memory(monitor: int, docker: int | None, engine: pylxc.Engine) -> None:
    """Print the memory of what serves the ports, beside a monitor that has none to serve."""
    with pylxc.start("host", ["sleep", "infinity"], engine=engine) as plain:
        bare = proportional_memory(record.monitor_pid(str(engine.root / "containers" / plain.id)))
    (proxy, *_), own = children_of(monitor), proportional_memory(monitor)
    print(f"{'memory (PSS)':24} a monitor without ports {bare} KiB; with ports {own} KiB", end=" ")
    print(f"and {proportional_memory(proxy)} KiB for what serves them", end="")
    print(f"; docker-proxy {proportional_memory(docker)} KiB" if docker else "")


def children_of(monitor: int) -> list[int]:
    """Return the processes of a monitor that serve its ports."""
    pids = map(int, Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split())
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "pylxc-ports\n"]


def main() -> None:
    """Measure all ways in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=512, help="MiB of one transfer")
    options = parser.parse_args()
    size = options.size << 20
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pylxc-bench-", dir="/var/tmp"))
        engine = pylxc.Engine(Path(directory) / "store")
        addresses: dict[str, Address] = {"direct": stack.enter_context(direct())}
        docker = None
        if Path(DOCKER_PROXY).exists():
            addresses["docker-proxy"], docker = stack.enter_context(through_docker())
        else:
            print("docker-proxy            left out: it is not installed (apt-get install docker.io)")
        addresses["published"], monitor = stack.enter_context(published(engine))
        for job in (down, up):
            measured(partial(job, size=size >> 3), addresses, 1)  # warm
            found = measured(partial(job, size=size), addresses, options.rounds)
            show(f"bytes, {job.__name__}", "MB/s", found, "docker-proxy", "direct")
        found = measured(word, addresses, options.rounds * 4, batch=25)
        show("connect, word, hang up", "µs", found, "direct", "docker-proxy")
        show_memory(monitor, docker, engine)


if __name__ == "__main__":
    main()
