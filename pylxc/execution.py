"""Sees one process through: starts it on a plan, moves its streams, judges its end.

Invariant: whatever happens on the way, nothing of the process is left when :func:`complete` comes back, and no
descriptor is open that the caller does not hold.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.errors import ExitError, SpawnError, TimeoutExpired
from pylxc.imageconfig import DEFAULT_PATH
from pylxc.result import Result
from pylxc.runtime import kept, native, record, rootless
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import Wait, readable, steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.runtime import plan as p
    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting
    from pylxc.streams import StreamSet

SIGKILL = 9


def environment(
    hostname: str, image: Mapping[str, str], given: Mapping[str, str], *, tty: bool = False
) -> tuple[str, ...]:
    """Return a payload's environment as docker composes it; HOME is added by the helper, from the user database."""
    terminal = {"TERM": "xterm"} if tty else {}
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, **terminal, **image, **given}
    return tuple(f"{name}={value}" for name, value in env.items())


@waits
def complete(  # noqa: PLR0913  the keywords of run and exec
    child: Child,
    argv: tuple[str, ...],
    streams: StreamSet,
    input: bytes | None,  # noqa: A002  subprocess's name
    timeout: float | None,
    *,
    check: bool,
    on_output: Callable[[str, bytes], object] | None,
    keep: bool = True,
    on_end: Callable[[], object] | None = None,
) -> Waiting[Result]:
    """See a process through to its end: feed it, read it, judge it. Whatever happens, nothing of it is left.

    Without ``keep`` the output goes to ``on_output`` only, however much it is. ``on_end`` is called when the process
    has ended, while its monitor still tidies up.
    """
    begin = time.monotonic()
    pipes = streams.pipes
    flow = runtime.Streams(
        stdin=pipes.get("stdin", -1),
        data=input or b"",
        stdout=pipes.get("stdout", -1),
        stderr=pipes.get("stderr", -1),
        on_output=streams.copy or on_output,
        keep=keep and streams.copy is None,
        terminal=streams.size is not None,
    )
    try:
        yield from runtime.pump(child.control_fd, flow, None if timeout is None else begin + timeout)
        ending = native.read_ending(child)
        # A monitor that was killed tidies nothing up: then the row goes with the rest, not before it.
        if on_end is not None and ending is not None:
            on_end()
    except runtime.DeadlineError:
        yield from steps_of(runtime.finish, child)
        runtime.drain(flow)
        raise TimeoutExpired(" ".join(argv), timeout or 0.0, flow.bytes_of("stdout"), flow.bytes_of("stderr")) from None
    finally:
        flow.close()
        yield from steps_of(runtime.finish, child)
    result = Result(
        exit_code=ending.code if ending is not None else record.KILLED,
        signal=(ending.signal or None) if ending is not None else SIGKILL,
        stdout=flow.bytes_of("stdout"),
        stderr=flow.bytes_of("stderr"),
        duration=time.monotonic() - begin,
        oom_killed=ending is not None and ending.oom_killed,
    )
    if check and not result.ok:
        raise ExitError(argv, result)
    return result


@waits
def launch(plan: p.Plan, streams: StreamSet, *, owned: bool) -> Waiting[Child]:
    """Start a plan with these streams, which the caller closes: ``with streams:`` around this."""
    return (yield from steps_of(await_start, begin(plan, streams, owned=owned), streams))


def begin(plan: p.Plan, streams: StreamSet, *, owned: bool) -> Child:
    """Do the first half of :func:`launch`; :func:`await_start` or ``runtime.abandon`` must follow."""
    kept.collect()
    if owned:
        native.tie_to_caller(plan)
    rootless.apply(plan)
    return native.begin(plan, streams.childs)


@waits
def await_start(child: Child, streams: StreamSet) -> Waiting[Child]:
    """Do the second half of :func:`launch`. Whatever it raises, the process is ended first."""
    try:
        yield Wait((child.control_fd,), blocking=True)
        native.await_start(child)
        streams.connect(child.terminal_fd)
    except BaseException:
        if child.pid_fd < 0 and child.monitor_fd >= 0:
            yield from steps_of(_await_in_vain, child)
        yield from steps_of(runtime.finish, child)
        raise
    return child


@waits
def _await_in_vain(child: Child) -> Waiting[None]:
    """Wait for a start that nobody wants any more, so that the process can be killed as any other, or give it up."""
    if (yield from readable(child.control_fd, runtime.PATIENCE)):
        with suppress(SpawnError):
            native.await_start(child)
    else:
        yield from steps_of(runtime.abandon, child)
