"""The life of a container: started, stopped, paused, changed, waited for, removed.

Invariant: any process may do any of this to any container; whatever another one does meanwhile, a call comes back with
what it was for, or says what stands against it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import evolve

from pylxc.containerwork import Working
from pylxc.errors import Conflict, ContainerNotFound, SpawnError, SpecError, TimeoutExpired
from pylxc.launching import ALIVE, RUNS
from pylxc.normalise import signal_number
from pylxc.runtime import cgroup, kept, record
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import steps_of, waits
from pylxc.spec import SYSTEM
from pylxc.streams import open_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from pylxc.options import Limits
    from pylxc.runtime.waiting import Waiting

SIGKILL = 9
ASK_AGAIN = 0.5  # s; an init that has only just been started is deaf yet, and repeating does no harm


class Living(Working):
    """What becomes of a :class:`~pylxc.Container`."""

    @waits
    def start(self) -> Waiting[None]:
        """Start the main process. A container that runs is left alone.

        Its output goes to the log; with ``tty=True`` all that its terminal shows, as standard output. Raises SpawnError
        naming the step that failed; ContainerNotFound.
        """
        yield from steps_of(self._start, None)

    @waits
    def _start(self, terminal_size: tuple[int, int] | None) -> Waiting[None]:
        if self.status() in ALIVE:
            return
        directory = self._directory()
        record.forget(directory)
        streams = open_streams(None, None, None, tty=self.spec.tty, size=terminal_size)
        kept.keep((yield from steps_of(self._spawn, streams, log=True)))

    @waits
    def stop(self, timeout: float | None = None) -> Waiting[None]:
        """Ask the main process to end (the stop signal, SIGTERM by default); kill it when ``timeout`` (s) has passed.

        With ``init="system"`` and no stop signal, the init is asked in its own way to shut the system down. Without
        ``timeout`` the spec's ``stop_timeout`` holds, 10 s by default. A container that does not run is left
        alone.
        """
        if self.status() not in ALIVE:
            return
        patience = self.spec.stop_timeout if timeout is None else timeout
        deadline = time.monotonic() + patience
        shutdown = self._shutdown()
        again = ASK_AGAIN if self.spec.init == SYSTEM else 0.0
        self._end(0 if shutdown.command else signal_number(shutdown.signal), patience, again)
        if shutdown.command:
            yield from self._ask_to_end(shutdown.command, deadline)
        yield from steps_of(self._await_end, None)
        self._leave_networks()

    def _end(self, signal: int, patience: float | None = None, again: float = 0.0) -> bool:
        """Let the monitor end the main process for good, as :func:`pylxc.runtime.control.stop`; False: there is none.

        What the monitor was told it does, whatever becomes of this process.
        """
        from pylxc.runtime import control  # noqa: PLC0415  loads socket

        told = control.stop(self._directory(), signal, patience, again)
        self._thaw()  # what is paused cannot end
        return told

    def _ask_to_end(self, command: Sequence[str], deadline: float) -> Waiting[None]:
        """Execute a command that asks the main process to end, until it does or the deadline has passed."""
        while (left := deadline - time.monotonic()) > 0:
            # Whatever becomes of the command: what counts is whether the container ends.
            with suppress(Conflict, SpawnError, TimeoutExpired):
                yield from steps_of(self.exec, command, check=False, timeout=left)
            if (yield from steps_of(self._await_end, min(max(0.0, deadline - time.monotonic()), ASK_AGAIN))):
                return

    def detach(self) -> None:
        """Let the container outlive this process: it belongs to nobody any more, as if made with ``detach=True``.

        Leaving its ``with`` block does not remove it then. Raises ContainerNotFound.

        Example:
            >>> with pylxc.start("redis:seed", name="cache") as container:          # doctest: +SKIP
            ...     container.wait_ready(port=6379)
            ...     container.detach()

        """
        from pylxc.runtime import control  # noqa: PLC0415  loads socket

        if self.status() in ALIVE:
            control.disown(self._directory())  # first: should this process be killed now, it is removed as an orphan
        self.spec = evolve(self.spec, detach=True)
        self._engine.store.containers.disown(self.id, self.spec.to_json())
        self._is_disowned = True

    def pause(self) -> None:
        """Stop everything in the container where it is, until :meth:`unpause`; it is not told (cgroup freezer).

        Raises Conflict when it does not run; UnsupportedError when it has no cgroup.
        """
        status = self.status()
        if status not in RUNS:
            raise Conflict(self.name, "is not running; there is nothing to pause")
        cgroup.freeze(self.id, frozen=True)
        if status != "paused":
            self._engine.store.events.add("paused", self.id)

    def unpause(self) -> None:
        """Let a paused container go on. Raises Conflict when it is not paused."""
        if self.status() != "paused":
            raise Conflict(self.name, "is not paused")
        cgroup.freeze(self.id, frozen=False)
        self._engine.store.events.add("unpaused", self.id)

    def _thaw(self) -> None:
        if cgroup.is_frozen(self.id):
            cgroup.freeze(self.id, frozen=False)

    def update(self, **limits: Unpack[Limits]) -> None:
        """Change limits of the container, at once when it runs, and for every later start.

        ``memory``, ``memory_swap``, ``cpus``, ``cpu_shares``, ``cpuset``, ``pids_limit``, ``io_weight``: as in
        :class:`~pylxc.ContainerSpec`. Raises SpecError for any other option, and UnsupportedError, with nothing
        changed, for a limit that this host, or a container started without cgroups, cannot have.

        Example:
            >>> container.update(memory="512m", cpus=1.5)                           # doctest: +SKIP

        """
        for option, value in limits.items():
            if option not in cgroup.LIMITS:
                raise SpecError(option, value, f"cannot be updated; {', '.join(cgroup.LIMITS)} can")
        spec = evolve(self.spec, **limits)  # type: ignore[arg-type]  # brought into form there
        if self.status() in RUNS:
            cgroup.update(spec, self.id)
        self._engine.store.containers.change(self.id, spec.to_json())
        self.spec = spec

    def kill(self, signal: int | str = SIGKILL) -> None:
        """Send a signal, by number or name, to the main process. Raises Conflict when it does not run.

        After SIGKILL or its stop signal its restart policy does not start it again (docker's rule).
        """
        from pylxc.runtime import control  # noqa: PLC0415  loads socket

        number = signal_number(signal)
        if self.spec.restarts and number in {SIGKILL, signal_number(self._shutdown().signal)}:
            sent = self.status() in ALIVE and control.stop(self._directory(), number, None)
        else:
            sent = self._signal(number)
        if not sent:
            raise Conflict(self.name, "is not running; there is nothing to send a signal to")

    @waits
    def restart(self, timeout: float | None = None) -> Waiting[None]:
        """Stop the container as :meth:`stop` does, and start it."""
        yield from steps_of(self.stop, timeout)
        yield from steps_of(self.start)

    @waits
    def wait(self, timeout: float | None = None) -> Waiting[int]:
        """Wait for the main process to end and return its exit status (128 + n for signal n).

        Raises TimeoutExpired when ``timeout`` (s) has passed; Conflict when it was never started.
        """
        if not (yield from steps_of(self._await_end, timeout)):
            raise TimeoutExpired(f"container {self.name}", timeout or 0.0)
        self._leave_networks()
        status = self.status()
        if status.exit_code is None:
            raise Conflict(self.name, "was never started; there is nothing to wait for")
        return status.exit_code

    @waits
    def remove(self, force: bool = False) -> Waiting[None]:  # noqa: FBT001, FBT002  docker-py's signature
        """Remove the container with all it wrote, and its anonymous volumes. With ``force`` one that runs is killed.

        Raises Conflict when it runs. One that is gone already is no error with ``force``.
        """
        try:
            running = self.status() in ALIVE
        except ContainerNotFound:
            if not force:
                raise
            yield from self._settle()  # another process removed it: what is left is this one's child
            return
        if running and not force:
            raise Conflict(self.name, "is running; stop it first, or remove it with force")
        if running:
            if not self._end(SIGKILL):
                self._signal(SIGKILL)
            yield from steps_of(self._await_end, None)
        yield from self._settle()
        self._engine.remove_container(self.id)

    def _settle(self) -> Waiting[None]:
        """Reap the monitor, where this process started the container, and close what is open of it."""
        child = self._child
        if child is not None:
            yield from steps_of(runtime.settle, child)
            self._child = None if self._child is child else self._child

    @waits
    def _leave(self) -> Waiting[None]:
        """Remove the container, unless it was given away."""
        if not self._is_disowned:
            yield from steps_of(self.remove, force=True)

    @waits
    def _discard(self) -> Waiting[None]:
        """Remove the container whatever its state: the process that asked for it has no use for it any more."""
        child = self._child
        if child is not None and not child.is_let_go:
            try:
                yield from steps_of(runtime.finish, child)
            finally:
                self._child = None
                self._engine.remove_container(self.id, forgotten=self._forgotten, spare=self._is_spared)
        else:
            yield from steps_of(self.remove, force=True)
