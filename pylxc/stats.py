"""What a container uses, as values.

Invariant: a :class:`Stats` is a snapshot; what the host does not count is None, never 0.
"""

from __future__ import annotations

from pylxc.values import frozen


@frozen(kw_only=True)
class Traffic:
    """One network interface, since the container started: bytes, packets, errors and drops, each received and sent."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@frozen(kw_only=True)
class Pressure:
    """Share of time (per cent) in which some, or all, processes waited for a resource, over 10, 60 and 300 s.

    Source: Documentation/accounting/psi.rst.
    """

    some: tuple[float, float, float]
    full: tuple[float, float, float] | None


@frozen(kw_only=True)
class Stats:
    """What a container uses at a moment.

    - ``time``: seconds since the epoch; ``cpu``: seconds of processor time since it started.
    - ``memory``, ``memory_peak``, ``memory_limit`` (None: no limit), ``memory_cache``: bytes.
    - ``pids``, ``pids_limit``: processes and threads.
    - ``io_read``, ``io_written``: bytes to and from block devices.
    - ``network``: by interface; ``pressure``: by resource ("cpu", "memory", "io"), where the kernel measures it.

    Example:
        >>> before = container.stats()                                              # doctest: +SKIP
        >>> container.stats().cpu_percent(before)
        12.5

    """

    time: float
    cpu: float | None = None
    memory: int | None = None
    memory_peak: int | None = None
    memory_limit: int | None = None
    memory_cache: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    io_read: int | None = None
    io_written: int | None = None
    network: dict[str, Traffic]
    pressure: dict[str, Pressure]

    def cpu_percent(self, since: Stats) -> float | None:
        """Return the processor time used since an earlier snapshot, as per cent of one processor."""
        if self.cpu is None or since.cpu is None or self.time <= since.time:
            return None
        return 100 * (self.cpu - since.cpu) / (self.time - since.time)
