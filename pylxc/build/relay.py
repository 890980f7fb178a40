"""What a step may ask of an SSH agent: a socket for the step, and what is passed on from it.

Hides the agent. It answers its own user only, and the root of a container is nobody on the host; so the builder itself
asks the agent. Invariant: a step can list keys and have data signed, and nothing else: it neither adds, removes nor
locks keys; no key leaves the agent; when the step has ended, nothing listens any more.

Source: https://datatracker.ietf.org/doc/html/draft-miller-ssh-agent.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_ALLOWED = (_REQUEST_IDENTITIES, _SIGN_REQUEST)
_FAILURE = b"\x05"
_LARGEST = 256 << 10  # bytes of a message, as in OpenSSH
_MOST = 32  # connections of one step at a time
_LENGTH = struct.Struct(">I")


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
