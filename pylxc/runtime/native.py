"""Hides the C extension: its memory, its error convention, the sealed helper.

Invariant: descriptors that come out of here are close-on-exec and belong to the caller; failures are
:class:`~pylxc.errors.SpawnError` (with the plan's own words) or ``OSError`` with the call's name.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Any

from pylxc._native import ffi, lib
from pylxc.errors import SpawnError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.runtime.plan import Plan

HELPER_PATH = os.path.join(os.path.dirname(__file__), "pylxc-helper")  # noqa: PTH118, PTH120  pathlib costs at import
STAGES = {
    getattr(lib, name): name.removeprefix("PYLXC_STAGE_").lower()
    for name in dir(lib)
    if name.startswith("PYLXC_STAGE_")
}

_lock = threading.Lock()
_helper_fd = -1
_own_pidfd = (-1, -1)


class Child:
    """A process started by the helper, and its monitor.

    ``pid`` and ``monitor_pid`` as this process sees them; ``pid_fd`` and ``monitor_fd`` are pidfds, ``control_fd`` is
    the socket on which the monitor reports the end, ``terminal_fd`` the other end of its terminal (-1: it has none, or
    the monitor keeps it for the log). ``pid`` is 0 until :func:`await_start` has come back. ``close()`` closes what is
    still open; it neither waits nor kills.
    """

    __slots__ = ("control_fd", "monitor_fd", "monitor_pid", "pid", "pid_fd", "plan", "terminal_fd")

    def __init__(self, plan: Plan, child: Any) -> None:
        self.plan = plan
        self.take(child)

    def take(self, child: Any) -> None:
        """Become what the extension says of the process."""
        self.pid: int = child.pid
        self.monitor_pid: int = child.monitor_pid
        self.pid_fd: int = child.pid_fd
        self.monitor_fd: int = child.monitor_fd
        self.control_fd: int = child.control_fd
        self.terminal_fd: int = child.terminal_fd

    def to_c(self) -> Any:
        """Return it as the extension's ``struct pylxc_child``."""
        fields = (self.monitor_pid, self.pid, self.monitor_fd, self.pid_fd, self.control_fd, self.terminal_fd)
        return ffi.new("struct pylxc_child *", fields)

    def let_go(self) -> None:
        """Close all but the monitor's pidfd: who looks for the process finds it by its record."""
        self._close("pid_fd", "control_fd", "terminal_fd")

    @property
    def is_let_go(self) -> bool:
        """Whether :meth:`let_go` was called, and :meth:`close` was not."""
        return self.pid_fd < 0 <= self.monitor_fd

    def close(self) -> None:
        """Close the descriptors that are still open."""
        self._close("pid_fd", "monitor_fd", "control_fd", "terminal_fd")

    def _close(self, *names: str) -> None:
        for name in names:
            fd = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)

    def __del__(self) -> None:
        """Close what nobody closed: the process of a container that outlives the object which started it."""
        self.close()


class Ending:
    """How a process ended, as its monitor reports it: ``code`` (128 + n for signal n), ``signal``, ``time`` (s).

    ``oom_killed``: whether the kernel killed one of the container's processes for want of memory.
    """

    __slots__ = ("code", "error", "oom_killed", "signal", "time")

    def __init__(self, code: int, signal: int, time: float, error: SpawnError | None, *, oom_killed: bool) -> None:
        self.oom_killed = oom_killed
        self.code = code
        self.signal = signal
        self.time = time
        self.error = error


def _os_error(call: str) -> OSError:
    return OSError(ffi.errno, f"{call}: {os.strerror(ffi.errno)}")


def helper_fd() -> int:
    """Return the sealed memfd that holds the helper; made once per process, and inherited by forks of it."""
    global _helper_fd  # noqa: PLW0603  one descriptor per process is the point
    with _lock:
        if _helper_fd < 0:
            ret = ffi.new("int *")
            if lib.pylxc_helper_load(HELPER_PATH.encode(), ret) < 0:
                reason = f"the helper cannot be loaded ({os.strerror(ffi.errno)}); reinstall pylxc"
                raise StoreError(HELPER_PATH, reason)
            _helper_fd = ret[0]
        return _helper_fd


def own_pidfd() -> int:
    """Return a pidfd of this very process (not of the one it was forked from)."""
    global _own_pidfd  # noqa: PLW0603  one descriptor per process is the point
    pid = os.getpid()
    with _lock:
        if _own_pidfd[0] != pid:
            _own_pidfd = (pid, pidfd_open(pid))
        return _own_pidfd[1]


def _error(plan: Plan, error: Any) -> SpawnError:
    stage, errnum, index = error.stage, error.errnum, error.index
    subject = plan.subject(index)
    detail = ffi.string(error.subject).decode("utf-8", "replace")
    return SpawnError(STAGES.get(stage, str(stage)), errnum, f"{subject}: {detail}" if detail else subject)


def spawn(plan: Plan, streams: Sequence[int]) -> Child:
    """Start the helper on a plan. ``streams`` become its descriptors 0 to 2 (-1 = closed).

    Returns when the process runs, or when a transfer has begun.

    Raises:
        SpawnError: a step failed; nothing is left of the process.
    """
    return await_start(begin(plan, streams))


def begin(plan: Plan, streams: Sequence[int]) -> Child:
    """Do the first half of :func:`spawn`; the caller is free while the helper makes the process."""
    fds = [*streams, -1, -1, *plan.extra_fds]  # 3 and 4 are filled in there
    encoded = plan.encode()
    c_plan = ffi.from_buffer(encoded)
    c_fds = ffi.new("int[]", fds)
    spec = ffi.new(
        "struct pylxc_spec *",
        {"helper_fd": helper_fd(), "plan": c_plan, "plan_size": len(encoded), "fds": c_fds, "fd_count": len(fds)},
    )
    child = ffi.new("struct pylxc_child *")
    error = ffi.new("struct pylxc_error *")
    if lib.pylxc_spawn_begin(spec, child, error) < 0:
        raise _error(plan, error)
    return Child(plan, child)


def tell_endpoint(child: Child, endpoint: bytes) -> None:
    """Tell a process that waits for its release the next endpoint that its plan lacks (``struct pylxc_endpoint``)."""
    if lib.pylxc_spawn_endpoint(child.to_c(), ffi.from_buffer("struct pylxc_endpoint *", endpoint)) < 0:
        raise _os_error("sendmsg")


def release(child: Child, directory_fd: int) -> None:
    """Let a process go on whose plan has ``PLAN_AWAIT_CALLER``, and give it its record directory (-1: give it up)."""
    if lib.pylxc_spawn_release(child.to_c(), directory_fd) < 0:
        raise _os_error("sendmsg")


def await_start(child: Child) -> Child:
    """Do the second half of :func:`spawn`."""
    c_child = child.to_c()
    error = ffi.new("struct pylxc_error *")
    result = lib.pylxc_spawn_end(c_child, error)
    child.take(c_child)
    if result < 0:
        raise _error(child.plan, error)
    return child


def read_ending(child: Child) -> Ending | None:
    """Read the monitor's last report; None when the monitor was killed before it could write one. Blocks."""
    report = ffi.new("struct pylxc_report *")
    buffer = ffi.buffer(report)
    data = os.read(child.control_fd, len(buffer))
    if len(data) != len(buffer):
        return None
    buffer[:] = data
    error = _error(child.plan, report.error) if report.error.stage else None
    killed = bool(report.oom_killed)
    return Ending(report.code, report.signal, report.time_ns / 1e9, error, oom_killed=killed)


def reap(pid_fd: int) -> bool:
    """Reap the child behind a pidfd if it has ended; says whether it has."""
    ended = ffi.new("int *")
    if lib.pylxc_reap(pid_fd, ended) < 0:
        raise _os_error("waitid")
    return bool(ended[0])


def await_end(pid_fd: int) -> None:
    """Wait for the child behind a pidfd to end, and reap it."""
    while not reap(pid_fd):
        select.select([pid_fd], [], [])


def tie_to_caller(plan: Plan) -> None:
    """Let what the plan starts end with this process, however that ends."""
    plan.flags |= lib.PYLXC_PLAN_KILL_WITH_OWNER
    plan.owner_fd = plan.descriptor(own_pidfd())


def pidfd_open(pid: int) -> int:
    """Open a pidfd (pidfd_open(2)). Raises OSError."""
    ret = ffi.new("int *")
    if lib.pylxc_pidfd_open(pid, ret) < 0:
        raise _os_error("pidfd_open")
    return int(ret[0])


def send_signal(pid_fd: int, signal: int) -> None:
    """Send a signal to the process behind a pidfd; one that has ended is no error (pidfd_send_signal(2))."""
    import errno  # noqa: PLC0415  not needed on the start path

    if lib.pylxc_pidfd_send_signal(pid_fd, signal) < 0 and ffi.errno != errno.ESRCH:
        raise _os_error("pidfd_send_signal")


def socket_in(pid_fd: int, domain: int, kind: int, protocol: int = 0) -> int:
    """Return a socket made in the network namespace of the process behind a pidfd. Raises OSError."""
    ret = ffi.new("int *")
    if lib.pylxc_socket_in(pid_fd, domain, kind, protocol, ret) < 0:
        raise _os_error("socket")
    return int(ret[0])


def remove_tree(parent_fd: int, name: str) -> None:
    """Remove ``name`` below a directory with all it holds, following no link, crossing no mount. Raises OSError."""
    if lib.pylxc_remove_tree(parent_fd, os.fsencode(name)) < 0:
        raise _os_error(f"remove {name}")


def empty_tree(directory: int, kept: str) -> None:
    """Remove all that is in a directory, as :func:`remove_tree`; its directory ``kept`` is emptied. Raises OSError."""
    if lib.pylxc_empty_tree(directory, os.fsencode(kept)) < 0:
        raise _os_error(f"empty all but {kept}")


def remove_cgroup(directory: str) -> None:
    """Remove a cgroup with all below it; one that is not there is no error. Raises OSError (EBUSY: it is in use)."""
    if lib.pylxc_remove_cgroup(os.fsencode(directory)) < 0:
        raise _os_error(f"remove {directory}")


def append_event(directory: str, line: bytes) -> None:
    """Append a line to the event log in a directory; waits for nobody. Raises OSError: it is lost."""
    if lib.pylxc_event_log_append(os.fsencode(directory), line, len(line)) < 0:
        raise _os_error("append to the event log")


def attach_device_filter(cgroup: str, program: bytes) -> None:
    """Let an eBPF program decide on the use of devices in a cgroup of version 2 (bpf(2)). Raises OSError."""
    if lib.pylxc_device_filter_attach(os.fsencode(cgroup), ffi.from_buffer(program), len(program)) < 0:
        raise _os_error("bpf")


def syncfs(fd: int) -> None:
    """Write a whole file system to its disk (syncfs(2)). Raises OSError."""
    if lib.pylxc_syncfs(fd) < 0:
        raise _os_error("syncfs")


def spread(directory: int) -> None:
    """Let the file system lay the directories in this one apart from each other (chattr(1), T).

    Raises OSError: EOPNOTSUPP, EINVAL or ENOTTY where the file system knows of nothing such.
    """
    if lib.pylxc_spread(directory) < 0:
        raise _os_error("ioctl FS_IOC_SETFLAGS")
