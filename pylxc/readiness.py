"""Waits until a container is fit for use.

Invariant: a container that has ended is told of at once, with its last words.
"""

from __future__ import annotations

import io
import time
from itertools import chain
from typing import TYPE_CHECKING

from pylxc.errors import Conflict, ExitError, SpawnError, SpecError, TimeoutExpired
from pylxc.result import Result
from pylxc.runtime.logs import LogReader
from pylxc.runtime.waiting import Wait, steps_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from urllib.parse import SplitResult

    from pylxc.container import Container
    from pylxc.runtime.waiting import Waiting

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1  # s between two attempts: short at first, so that quick servers are quick
SHORTEST_TRY = 0.05  # s that a check may take at the least, so that a timeout of 0 still asks once
LAST_LINES = 20
CHUNK, LONGEST_HEAD = 1 << 16, 1 << 20  # bytes of an answer


def wait_ready(  # noqa: PLR0913  the public method's keywords
    container: Container,
    *,
    port: int | None,
    log: str | None,
    http: str | None,
    command: str | Sequence[str] | None,
    healthy: bool,
    timeout: float,
) -> Waiting[None]:
    """See :meth:`pylxc.Container.wait_ready`."""
    deadline = time.monotonic() + timeout
    with LogReader(container._directory()) as reader:  # noqa: SLF001  the method's other half
        checks: list[tuple[str, Callable[[float], Waiting[bool]]]] = []  # each is given the seconds that are left
        if port is not None:
            checks.append((f"port {port}", lambda left: _accepts(container, port, left)))
        if log is not None:
            text = log.encode()
            checks.append((f"{log!r} in the log", lambda _: _logged(reader, text)))
        if http is not None:
            url = _parse(http)
            checks.append((http, lambda left: _answers(container, url, left)))
        if command is not None:
            checks.append((f"{command!r}", lambda left: _succeeds(container, command, left)))
        if healthy:
            if container._check() is None:  # noqa: SLF001
                raise SpecError("healthy", True, "the container has no health check; give healthcheck when it is made")  # noqa: FBT003
            checks.append(("a successful health check", lambda _: _is_healthy(container)))
        for what, check in checks:
            pause = FIRST_PAUSE
            while not (yield from check(max(deadline - time.monotonic(), SHORTEST_TRY))):
                _fail_if_ended(container)
                if time.monotonic() + pause > deadline:
                    raise TimeoutExpired(f"{what} of container {container.name}", timeout, *output_of(container))
                yield Wait(until=time.monotonic() + pause)
                pause = min(pause * 2, LONGEST_PAUSE)


def _accepts(container: Container, port: int, left: float) -> Waiting[bool]:
    try:
        (yield from steps_of(container.connect, port, left)).close()
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


def _answers(container: Container, url: SplitResult, left: float) -> Waiting[bool]:
    """Ask once, with a connection made inside the container's network; a redirection is not followed."""
    import http.client  # noqa: PLC0415  not on the start path

    deadline = time.monotonic() + left
    port = url.port or http.client.HTTP_PORT
    try:
        connection = yield from steps_of(container.connect, port, left)
    except (ConnectionError, TimeoutError, Conflict):
        return False
    with connection:
        client = http.client.HTTPConnection(url.hostname or "", port)
        client.sock = connection
        try:
            client.request("GET", f"{url.path or '/'}{f'?{url.query}' if url.query else ''}")
            status = yield from _status(connection, deadline)
        except (OSError, http.client.HTTPException):
            return False
    return http.HTTPStatus.OK <= status < http.HTTPStatus.BAD_REQUEST


def _status(connection: socket.socket, deadline: float) -> Waiting[int]:
    """Read the answer as far as its head goes and return its status; 0 when none comes. Raises HTTPException."""
    import http.client  # noqa: PLC0415  not on the start path

    answer, ended = b"", False
    while not ended and len(answer) < LONGEST_HEAD:
        if not (yield Wait((connection.fileno(),), until=deadline)):
            break
        chunk = connection.recv(CHUNK)
        answer += chunk
        ended = not chunk
        if ended or b"\n\r\n" in answer or b"\n\n" in answer:
            response = http.client.HTTPResponse(_Answer(answer))  # type: ignore[arg-type]  # it only makes a file of it
            try:
                response.begin()
            except http.client.RemoteDisconnected:  # all that came is "100 Continue": the answer follows
                continue
            return response.status
    return 0


class _Answer:
    """What has come of an answer, in the place of a socket to read it from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _logged(reader: LogReader, text: bytes) -> Waiting[bool]:
    """Look at what has come to the log since the last look, and at a line that has not come to its end (a prompt)."""
    yield from ()  # reading files takes no time to speak of
    return any(text in line.data for line in chain(reader.fresh(), reader.unfinished()))


def _succeeds(container: Container, command: str | Sequence[str], left: float) -> Waiting[bool]:
    try:
        return (yield from steps_of(container.exec, command, check=False, timeout=left)).ok
    except (Conflict, SpawnError, TimeoutExpired):
        return False


def _is_healthy(container: Container) -> Waiting[bool]:
    """Say whether it is healthy. Raises ExitError with the last check's when it is unhealthy."""
    yield from ()  # the monitor asks it
    raise_if_unhealthy(container)
    return container.status().health == "healthy"


def raise_if_unhealthy(container: Container) -> None:
    """Raise ExitError, with what its last health check said, for a container that is unhealthy."""
    if container.status().health == "unhealthy":
        state = container.inspect()["State"]
        if state.get("Health", {}).get("Log"):
            last = state["Health"]["Log"][-1]
            raise ExitError(
                (container.name, "health check"), Result(last["ExitCode"], None, last["Output"].encode(), b"")
            )


def _fail_if_ended(container: Container) -> None:
    status = container.status()
    if status == "exited":
        stdout, stderr = output_of(container)
        code = status.exit_code if status.exit_code is not None else -1
        raise ExitError((container.name,), Result(code, status.signal or None, stdout, stderr))


def output_of(container: Container) -> tuple[bytes, bytes]:
    """Return the last lines that a container wrote: of standard output and standard error."""
    lines = list(container.logs(tail=LAST_LINES))
    return tuple(b"".join(line.data for line in lines if line.stream == name) for name in ("stdout", "stderr"))  # type: ignore[return-value]
