"""Waits until a container is fit for use.

Invariant: a container that has ended is told of at once, with its last words.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pylxc.errors import Conflict, ExitError, SpawnError, SpecError, TimeoutExpired
from pylxc.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from urllib.parse import SplitResult

    from pylxc.container import Container

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1  # s between two attempts: short at first, so that quick servers are quick
SHORTEST_TRY = 0.05  # s that a check may take at the least, so that a timeout of 0 still asks once
LAST_LINES = 20


def wait_ready(  # noqa: PLR0913  the public method's keywords
    container: Container,
    *,
    port: int | None,
    log: str | None,
    http: str | None,
    command: str | Sequence[str] | None,
    healthy: bool,
    timeout: float,
) -> None:
    """See :meth:`pylxc.Container.wait_ready`."""
    deadline = time.monotonic() + timeout
    checks: list[tuple[str, Callable[[float], bool]]] = []  # each is given the seconds that are left
    if port is not None:
        checks.append((f"port {port}", lambda left: _accepts(container, port, left)))
    if log is not None:
        checks.append((f"{log!r} in the log", lambda _: _logged(container, log)))
    if http is not None:
        url = _parse(http)
        checks.append((http, lambda left: _answers(container, url, left)))
    if command is not None:
        checks.append((f"{command!r}", lambda left: _succeeds(container, command, left)))
    if healthy:
        if container._check() is None:  # noqa: SLF001  the other half of one of its methods
            raise SpecError("healthy", True, "the container has no health check; give healthcheck when it is made")  # noqa: FBT003
        checks.append(("a successful health check", lambda _: _is_healthy(container)))
    for what, check in checks:
        pause = FIRST_PAUSE
        while not check(max(deadline - time.monotonic(), SHORTEST_TRY)):
            _fail_if_ended(container)
            if time.monotonic() + pause > deadline:
                raise TimeoutExpired(f"{what} of container {container.name}", timeout, *_output(container))
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _accepts(container: Container, port: int, left: float) -> bool:
    try:
        container.connect(port, left).close()
    except (ConnectionError, TimeoutError, Conflict):
        return False
    return True


def _parse(url: str) -> SplitResult:
    from urllib.parse import urlsplit  # noqa: PLC0415  not on the start path

    remedy = 'give a URL of the container itself, such as "http://localhost:8080/health"'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SpecError("http", url, f"{error}; {remedy}") from error
    if parts.scheme != "http" or not parts.hostname or port == 0 or parts.username is not None:
        raise SpecError("http", url, remedy)
    if any(ord(character) <= ord(" ") for character in url) or not url.isascii():
        raise SpecError("http", url, f"holds a character that must be percent-encoded; {remedy}")
    return parts


def _answers(container: Container, url: SplitResult, left: float) -> bool:
    """Ask once, with a connection made inside the container's network; a redirection is not followed."""
    import http.client  # noqa: PLC0415  not on the start path

    port = url.port or http.client.HTTP_PORT
    try:
        connection = container.connect(port, left)
    except (ConnectionError, TimeoutError, Conflict):
        return False
    with connection:
        connection.settimeout(left)
        client = http.client.HTTPConnection(url.hostname or "", port)
        client.sock = connection
        try:
            client.request("GET", f"{url.path or '/'}{f'?{url.query}' if url.query else ''}")
            with client.getresponse() as response:
                return http.HTTPStatus.OK <= response.status < http.HTTPStatus.BAD_REQUEST
        except (OSError, http.client.HTTPException):
            return False


def _logged(container: Container, text: str) -> bool:
    return any(text.encode() in line.data for line in container.logs())


def _succeeds(container: Container, command: str | Sequence[str], left: float) -> bool:
    try:
        return container.exec(command, check=False, timeout=left).ok
    except (Conflict, SpawnError, TimeoutExpired):
        return False


def _is_healthy(container: Container) -> bool:
    """Say whether it is healthy. Raises ExitError with the last check's when it is unhealthy."""
    status = container.status()
    if status.health == "unhealthy":
        state = container.inspect()["State"]
        if state.get("Health", {}).get("Log"):
            last = state["Health"]["Log"][-1]
            raise ExitError(
                (container.name, "health check"), Result(last["ExitCode"], None, last["Output"].encode(), b"")
            )
    return status.health == "healthy"


def _fail_if_ended(container: Container) -> None:
    status = container.status()
    if status == "exited":
        stdout, stderr = _output(container)
        code = status.exit_code if status.exit_code is not None else -1
        raise ExitError((container.name,), Result(code, status.signal or None, stdout, stderr))


def _output(container: Container) -> tuple[bytes, bytes]:
    lines = list(container.logs(tail=LAST_LINES))
    return tuple(b"".join(line.data for line in lines if line.stream == name) for name in ("stdout", "stderr"))  # type: ignore[return-value]
