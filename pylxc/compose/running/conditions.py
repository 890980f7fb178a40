"""Waiting for what a service depends on, and for an environment to be ready.

Invariant: whoever waits learns at once of a container that can no more become what is waited for; a wait ends when
``stop`` is set.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pylxc.compose.running.order import StoppedError
from pylxc.errors import Conflict, ExitError, TimeoutExpired
from pylxc.launching import ALIVE
from pylxc.readiness import output_of, raise_if_unhealthy
from pylxc.result import Result

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from pylxc.container import Container

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1  # s between two looks


def await_all(
    containers: Iterable[Container],
    condition: str,
    stop: threading.Event,
    deadline: float | None = None,
) -> None:
    """Wait until each of the containers is in a condition: one of Compose's, or "running_or_healthy".

    ``deadline``: of ``time.monotonic()``, in s. Raises ExitError where one has ended, or is unhealthy; Conflict where
    nothing checks its health; TimeoutExpired.
    """
    for container in containers:
        _await(container, _CONDITIONS[condition], condition, stop, deadline)


def _await(
    container: Container,
    holds: Callable[[Container], bool],
    condition: str,
    stop: threading.Event,
    deadline: float | None,
) -> None:
    begin, pause = time.monotonic(), _FIRST_PAUSE
    while not holds(container):
        if deadline is not None and time.monotonic() + pause > deadline:
            what = f"the wait for {container.name} ({condition})"
            raise TimeoutExpired(what, round(deadline - begin, 1), *output_of(container))
        if stop.wait(pause):
            raise StoppedError
        pause = min(pause * 2, _LONGEST_PAUSE)


def _is_started(container: Container) -> bool:
    return container.status() != "created"


def _is_healthy(container: Container) -> bool:
    if container._check() is None:  # noqa: SLF001  its own kind
        raise Conflict(container.name, "has no health check, and another service waits for it to be healthy")
    _fail_if_ended(container)
    raise_if_unhealthy(container)
    return container.status().health == "healthy"


def _is_completed(container: Container) -> bool:
    status = container.status()
    if status in ALIVE or status.exit_code is None:
        return False
    if status.exit_code:
        _fail(container)
    return True


def _is_ready(container: Container) -> bool:
    """Say whether it runs, and is healthy where something checks that (``up --wait``)."""
    if container._check() is not None:  # noqa: SLF001
        return _is_healthy(container)
    status = container.status()
    if status == "exited" and status.exit_code:
        _fail(container)
    return status in ALIVE or status == "exited"


def _fail_if_ended(container: Container) -> None:
    if container.status() == "exited":
        _fail(container)


def _fail(container: Container) -> None:
    status = container.status()
    stdout, stderr = output_of(container)
    code = status.exit_code if status.exit_code is not None else -1
    raise ExitError((container.name,), Result(code, status.signal or None, stdout, stderr))


_CONDITIONS = {
    "service_started": _is_started,
    "service_healthy": _is_healthy,
    "service_completed_successfully": _is_completed,
    "running_or_healthy": _is_ready,
}
