"""SSH agents that a build may use: the sockets that steps find, and what is passed on from them.

Hides the relay. An agent answers its own user only, and the root of a container is nobody on the host; so the builder
itself asks the agent. Invariant: a step can list keys and have data signed, and nothing else: it neither adds, removes
nor locks keys; no key leaves the agent; when the step has ended, nothing listens any more.

Source: https://datatracker.ietf.org/doc/html/draft-miller-ssh-agent; Dockerfile reference, "RUN --mount=type=ssh".
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from pylxc.errors import SpecError
from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Iterator

AgentSource: TypeAlias = "bool | str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]"
DEFAULT = "default"
_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_ALLOWED = (_REQUEST_IDENTITIES, _SIGN_REQUEST)
_FAILURE = b"\x05"
_LARGEST = 256 << 10  # bytes of a message, as in OpenSSH
_MOST = 32  # connections of one step at a time
_LENGTH = struct.Struct(">I")


class Agents:
    """The sockets of agents by their ids."""

    def __init__(self, given: AgentSource | None = None) -> None:
        """Look the sockets up. Raises SpecError.

        ``given``: True or "default" for the caller's own agent (SSH_AUTH_SOCK), "id=/socket", several of these, or a
        mapping from ids to sockets (None: the caller's own).
        """
        self._sockets = {name: _socket(name, path) for name, path in _pairs(given).items()}

    def get(self, name: str) -> str | None:
        """Return the path of an agent's socket; None where the caller gave none of this id."""
        return self._sockets.get(name)


def _pairs(given: AgentSource | None) -> dict[str, str | None]:
    if given is None or given is False:
        return {}
    if given is True:
        return {DEFAULT: None}
    if isinstance(given, Mapping):
        return {name: None if path is None else os.fspath(path) for name, path in given.items()}
    words = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(word, str) for word in words):
        raise SpecError("ssh", given, 'give "default", "id=/socket", a list of these, or {"id": "/socket"}')
    parts = (word.partition("=") for word in words)
    return {name: path or None for name, _, path in parts}


def _socket(name: str, path: str | None) -> str:
    given = name if path is None else f"{name}={path}"
    if path is None:
        path = os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise SpecError("ssh", given, "SSH_AUTH_SOCK names no agent: start one with ssh-agent, or give its socket")
    path = os.path.abspath(path)  # noqa: PTH100  pathlib does not normalise
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        raise SpecError("ssh", given, f"{path}: {error.strerror}; give the socket of an agent that runs") from error
    if not stat.S_ISSOCK(mode):
        raise SpecError("ssh", given, f"{path} is no socket: load the key into an agent with ssh-add, and give that")
    return path


@contextmanager
def forwarded(agent: str, directory: str, *, uid: int, gid: int, mode: int) -> Iterator[str]:
    """Listen on a socket in a new ``directory``, for a block, and pass on what may be asked of an agent.

    The socket's owner is that of a container's: ``uid`` and ``gid`` as they are inside. Raises OSError.
    """
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"/proc/self/fd/{place}/agent")  # short, however deep the store lies (unix(7): 108 bytes)
            path = f"{directory}/agent"
            os.chmod(path, mode)  # noqa: PTH101
            if uid or gid:
                rootless.as_owner(os.chown, path, uid, gid)
            listener.listen()
            relay = _Relay(listener, agent)
            relay.start()
            try:
                yield path
            finally:
                relay.stop()
    finally:
        os.close(place)


class _Relay:
    """Serves the connections of one listening socket, each in a thread, until it is stopped."""

    def __init__(self, listener: socket.socket, agent: str) -> None:
        self._listener = listener
        self._agent = agent
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="pylxc-ssh-agent", daemon=True)]

    def start(self) -> None:
        self._threads[0].start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which is what ends accept(2)
        self._threads[0].join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                full = len(self._open) >= 2 * _MOST
            if full:
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="pylxc-ssh-agent", daemon=True)
            self._threads = [self._threads[0], *(one for one in self._threads[1:] if one.is_alive()), thread]
            with self._lock:
                self._open.add(connection)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._lock:
            self._open.add(agent)
        try:
            with suppress(OSError, EOFError):  # either end is gone: that is the end of the connection
                agent.connect(self._agent)
                _pass_on(connection, agent)
        finally:
            with self._lock:
                self._open -= {connection, agent}
            connection.close()
            agent.close()


def _pass_on(client: socket.socket, agent: socket.socket) -> None:
    while True:
        message = _receive(client)
        if message[:1] and message[0] in _ALLOWED:
            _send(agent, message)
            _send(client, _receive(agent))
        else:
            _send(client, _FAILURE)


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(_LENGTH.pack(len(message)) + message)


def _receive(source: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    if length > _LARGEST:
        raise EOFError
    return _exactly(source, length)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
