"""Waits until a container is fit for use.

Invariant: a container that has ended is told of at once, with its last words.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pylxc.errors import Conflict, ExitError, SpawnError, TimeoutExpired
from pylxc.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pylxc.container import Container

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1  # s between two attempts: short at first, so that quick servers are quick
LAST_LINES = 20


def wait_ready(
    container: Container, *, port: int | None, log: str | None, command: str | Sequence[str] | None, timeout: float
) -> None:
    """See :meth:`pylxc.Container.wait_ready`."""
    deadline = time.monotonic() + timeout
    checks: list[tuple[str, Callable[[], bool]]] = []
    if port is not None:
        checks.append((f"port {port} of container {container.name}", lambda: _accepts(container, port)))
    if log is not None:
        checks.append((f"{log!r} in the log of container {container.name}", lambda: _logged(container, log)))
    if command is not None:
        checks.append((f"{command!r} in container {container.name}", lambda: _succeeds(container, command)))
    for what, check in checks:
        pause = FIRST_PAUSE
        while not check():
            _fail_if_ended(container)
            if time.monotonic() + pause > deadline:
                raise TimeoutExpired(what, timeout, *_output(container))
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _accepts(container: Container, port: int) -> bool:
    try:
        container.connect(port).close()
    except (ConnectionRefusedError, Conflict):
        return False
    return True


def _logged(container: Container, text: str) -> bool:
    return any(text.encode() in line.data for line in container.logs())


def _succeeds(container: Container, command: str | Sequence[str]) -> bool:
    try:
        return container.exec(command, check=False).ok
    except (Conflict, SpawnError):
        return False


def _fail_if_ended(container: Container) -> None:
    status = container.status()
    if status == "exited":
        stdout, stderr = _output(container)
        code = status.exit_code if status.exit_code is not None else -1
        raise ExitError((container.name,), Result(code, status.signal or None, stdout, stderr))


def _output(container: Container) -> tuple[bytes, bytes]:
    lines = list(container.logs(tail=LAST_LINES))
    return tuple(b"".join(line.data for line in lines if line.stream == name) for name in ("stdout", "stderr"))  # type: ignore[return-value]
