"""Reads what a container uses from its cgroups and its network namespace.

Invariant: nothing is written; a file that this kernel does not have is a None in the answer.
"""

from __future__ import annotations

import errno
import time

from pylxc.runtime.cgroup import PREFIX, hierarchies
from pylxc.stats import Pressure, Stats, Traffic

NO_LIMIT = 1 << 62  # from here on a v1 limit means none (PAGE_COUNTER_MAX)


def read(id: str, pid: int) -> Stats:  # noqa: A002  docker's name
    """Return what a running container uses; ``pid`` is its main process."""
    memory, pids = _Files("memory", id), _Files("pids", id)
    cpu, now = _cpu(id), time.time()  # at once: their quotients are what is asked for
    cache = "inactive_file" if memory.unified else "total_inactive_file"
    read_bytes, written = _io(id)
    return Stats(
        time=now,
        cpu=cpu,
        memory=memory.number("memory.current", "memory.usage_in_bytes"),
        memory_peak=memory.number("memory.peak", "memory.max_usage_in_bytes"),
        memory_limit=memory.number("memory.max", "memory.limit_in_bytes"),
        memory_cache=memory.table("memory.stat", "memory.stat").get(cache),
        pids=pids.number("pids.current", "pids.current"),
        pids_limit=pids.number("pids.max", "pids.max"),
        io_read=read_bytes,
        io_written=written,
        network=_network(pid),
        pressure=_pressure(id),
    )


def _text(path: str) -> str | None:
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
            return None  # the kernel, or its command line, has it off
        raise


class _Files:
    """The files of one controller of a container: by their name on v2, or on v1."""

    def __init__(self, controller: str, id: str) -> None:  # noqa: A002
        found = hierarchies()
        self.unified = controller in found.v2_controllers
        self.directory = found.directory(controller, id)

    def text(self, v2: str, v1: str) -> str | None:
        name = v2 if self.unified else v1
        if not (self.directory and name):
            return None
        return _text(f"{self.directory}/{name}")

    def number(self, v2: str, v1: str) -> int | None:
        """Return a file's one number; None also for "max"."""
        text = self.text(v2, v1)
        if text is None or not text.strip().isdigit():
            return None
        value = int(text)
        return value if value < NO_LIMIT else None

    def table(self, v2: str, v1: str) -> dict[str, int]:
        """Return the lines "name number" of a file."""
        words = (line.split() for line in (self.text(v2, v1) or "").splitlines())
        return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2}  # noqa: PLR2004


def _cpu(id: str) -> float | None:  # noqa: A002
    if "cpu" in hierarchies().v2_controllers:
        used = _Files("cpu", id).table("cpu.stat", "").get("usage_usec")
        return None if used is None else used / 1e6
    used = _Files("cpuacct", id).number("", "cpuacct.usage")
    return None if used is None else used / 1e9


def _io(id: str) -> tuple[int | None, int | None]:  # noqa: A002
    """Return bytes read and written: of v2 "8:0 rbytes=1 wbytes=2 …", of v1 "8:0 Read 1"."""
    text = _Files("io", id).text("io.stat", "")
    if text is not None:
        fields = [part.split("=") for line in text.splitlines() for part in line.split()[1:]]
        return tuple(sum(int(value) for key, value in fields if key == name) for name in ("rbytes", "wbytes"))  # type: ignore[return-value]
    text = _Files("blkio", id).text("", "blkio.throttle.io_service_bytes_recursive")
    if text is None:
        return None, None
    lines = [line.split() for line in text.splitlines()]
    return tuple(sum(int(line[2]) for line in lines if line[1:2] == [name]) for name in ("Read", "Write"))  # type: ignore[return-value]


def _network(pid: int) -> dict[str, Traffic]:
    """Return the interfaces of a process's network namespace (proc_pid_net(5))."""
    with open(f"/proc/{pid}/net/dev") as file:  # noqa: PTH123
        lines = file.read().splitlines()[2:]
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        n = [int(word) for word in numbers.split()]
        found[name.strip()] = Traffic(
            rx_bytes=n[0],
            rx_packets=n[1],
            rx_errors=n[2],
            rx_dropped=n[3],
            tx_bytes=n[8],
            tx_packets=n[9],
            tx_errors=n[10],
            tx_dropped=n[11],
        )
    return found


def _pressure(id: str) -> dict[str, Pressure]:  # noqa: A002
    """Return what the v2 tree tells, which measures pressure for controllers of v1 as well."""
    root = hierarchies().v2
    found = {}
    for resource in ("cpu", "memory", "io") if root else ():
        text = _text(f"{root}/{PREFIX}{id}/{resource}.pressure")
        if text:
            averages = {line.split()[0]: _averages(line) for line in text.splitlines()}
            found[resource] = Pressure(some=averages["some"], full=averages.get("full"))
    return found


def _averages(line: str) -> tuple[float, float, float]:
    """Return the three averages of "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"."""
    ten, sixty, three_hundred = (float(word.partition("=")[2]) for word in line.split()[1:4])
    return ten, sixty, three_hundred
