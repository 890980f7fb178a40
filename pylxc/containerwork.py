"""Working in a container: commands, files, sockets, and Python in its namespaces.

Hides which of the engine's parts does what. Invariant: what needs a running container raises Conflict where it does not
run; a command's process, its descriptors and a copy's helpers are gone when a call has come back with an exception.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, cast, overload

from pylxc.errors import SpecError
from pylxc.execution import complete
from pylxc.launching import ALIVE, Launching
from pylxc.process import Process
from pylxc.runtime.waiting import Wait, deadline_of, steps_of, waits
from pylxc.streams import DEVNULL, PIPE, open_streams

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import IO, BinaryIO, TextIO, TypeVar

    from _typeshed import OpenBinaryMode, OpenTextMode, StrPath

    from pylxc.container import Container
    from pylxc.normalise import Port
    from pylxc.result import Result
    from pylxc.runtime.waiting import Waiting
    from pylxc.streams import StreamOption

    T = TypeVar("T")

PORT_LIMIT = 65535


class Working(Launching):
    """What is done in a :class:`~pylxc.Container`."""

    @waits
    def exec(  # noqa: PLR0913  the same keywords as run
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002  subprocess's name
        timeout: float | None = None,
        check: bool = True,
        stdout: StreamOption = PIPE,
        stderr: StreamOption = PIPE,
        on_output: Callable[[str, bytes], object] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
        tty: bool = False,
    ) -> Waiting[Result]:
        """Run a command in the running container, to its end.

        The keywords are those of :func:`pylxc.run`; environment, user and directory are the container's unless given.
        ``tty`` gives the command a terminal of its own, whatever the container's main process has.
        Raises ExitError for a non-zero status unless ``check`` is false; TimeoutExpired (the command is killed);
        SpawnError; Conflict when the container does not run.
        """
        payload = self._payload(command, env or {}, user, workdir, tty=tty)
        stdin = PIPE if input is not None else DEVNULL
        streams = open_streams(stdin, stdout, stderr, tty=tty, seen_through=True)
        child = yield from self._spawn_exec(payload, streams)
        completion = steps_of(complete, child, payload.argv, streams, input, timeout, check=check, on_output=on_output)
        return (yield from completion)

    @waits
    def popen(  # noqa: PLR0913  the same keywords as popen
        self,
        command: str | Sequence[str],
        *,
        stdin: StreamOption = PIPE,
        stdout: StreamOption = PIPE,
        stderr: StreamOption = PIPE,
        env: Mapping[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
        tty: bool = False,
        terminal_size: tuple[int, int] | None = None,
    ) -> Waiting[Process]:
        r"""Start a command in the running container and return at once, with its streams in the caller's hands.

        ``tty`` gives it a terminal of its own, of ``terminal_size`` (rows, columns); see :func:`pylxc.popen`.

        Example:
            >>> with container.popen(["sh"], tty=True) as shell:                    # doctest: +SKIP
            ...     shell.stdin.write(b"exit 3\n"); shell.stdin.flush(); shell.wait()
            3

        """
        payload = self._payload(command, env or {}, user, workdir, tty=tty)
        streams = open_streams(stdin, stdout, stderr, tty=tty, size=terminal_size)
        child = yield from self._spawn_exec(payload, streams)
        return Process(child, payload.argv, cast("Container", self), pipes=streams.pipes)

    @waits
    def copy_in(
        self, src: StrPath | BinaryIO, dst: str, *, archive: bool = False, follow: bool = False
    ) -> Waiting[None]:
        """Copy a file or directory of this machine into the container, which may run or not.

        ``dst`` as with ``docker cp``: a directory that exists takes ``src`` under its own name; otherwise ``dst`` is
        the new name, in a directory that exists. ``"DIR/."`` as ``src`` means what is in the directory. A symbolic link
        is copied as a link, with ``follow`` what ``src`` leads to. What is copied belongs to the container's root and
        has no set-id bits; ``archive`` keeps owners (by number) and all else. ``src`` may also be a stream of a tar
        archive, which is unpacked in the directory ``dst`` with the owners that it names.

        Raises OSError, with the path in question (FileNotFoundError, NotADirectoryError …); ContainerNotFound.

        Example:
            >>> container.copy_in("redis.conf", "/etc/redis/")                      # doctest: +SKIP

        """
        from pylxc import files  # noqa: PLC0415  not on the start path

        yield from self._make_writable()
        yield from steps_of(files.copy_in, self._inside, src, dst, archive=archive, follow=follow)

    @waits
    def copy_out(
        self, src: str, dst: StrPath | BinaryIO, *, archive: bool = False, follow: bool = False
    ) -> Waiting[None]:
        """Copy a file or directory of the container, which may run or not, to this machine.

        The rules are those of :meth:`copy_in`. What is copied belongs to the caller; ``archive`` keeps owners, by the
        numbers that the container sees, which takes root. Devices, set-id bits and attributes but ``user.*`` never
        come out. Links come out as they are, and lead where the container chose: a ``dst`` that is a link to anything
        but a directory is replaced. ``dst`` may also be a stream open for writing, which gets a tar archive with
        everything in it.

        Raises OSError, with the path in question; ContainerNotFound.

        Example:
            >>> container.copy_out("/var/log/.", "logs")                            # doctest: +SKIP

        """
        from pylxc import files  # noqa: PLC0415  not on the start path

        yield from self._make_writable()
        yield from steps_of(files.copy_out, self._inside, src, dst, archive=archive, follow=follow)

    @overload
    def open(
        self,
        path: str,
        mode: OpenTextMode = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIO: ...
    @overload
    def open(self, path: str, mode: OpenBinaryMode) -> BinaryIO: ...
    def open(
        self,
        path: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file of the container, which may run or not, as the built-in ``open`` opens one of this machine.

        Only regular files, and none that the kernel makes up (those of /proc). One that is made belongs to the
        container's root (mode 0644). The file stays open and usable when the container ends. Raises OSError
        (FileNotFoundError, IsADirectoryError …) with the container's path; ContainerNotFound.

        Example:
            >>> with container.open("/etc/motd", "a") as file:                      # doctest: +SKIP
            ...     file.write("hello")

        """
        from pylxc import files  # noqa: PLC0415  not on the start path

        return files.open_in(self._inside, path, mode, encoding=encoding, errors=errors, newline=newline)

    @waits
    def connect(self, port: int, timeout: float | None = 10.0) -> Waiting[socket.socket]:
        """Return a TCP connection to a port of the container, made inside its network: nothing is published.

        ``timeout`` (s) is how long connecting may take; the socket that comes back blocks. Raises
        ConnectionRefusedError when nothing listens there (see :meth:`wait_ready`), SpecError for a port that is none,
        Conflict when the container does not run.
        """
        import socket  # noqa: PLC0415  not on the start path

        _check_port(port)
        refused: OSError | None = None
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            connection = socket.socket(fileno=self._socket(family, socket.SOCK_STREAM))
            try:
                yield from _connect(connection, (address, port), deadline_of(timeout))
            except ConnectionRefusedError as error:
                connection.close()
                refused = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise ConnectionRefusedError(*(refused.args if refused else ()), f"port {port} of container {self.name}")

    def ports(self) -> Sequence[Port]:
        """Return a list of the ports that the container publishes, as they are: each :class:`Port` with its address.

        One that was published on all addresses of the host is there twice, for "0.0.0.0" and for "::". Ports that the
        kernel picked (0) have the number that it picked. Empty while the container does not run. Raises
        ContainerNotFound.

        Example:
            >>> container.ports()                                                   # doctest: +SKIP
            [Port(container=6379, protocol='tcp', host='127.0.0.1', port=49153, last=0)]

        """
        if self.status() not in ALIVE or not self.spec.ports:
            return []
        from pylxc.runtime import ports  # noqa: PLC0415  not on the start path

        return ports.published(self._directory(), self.spec.ports)

    def address(self, port: int | str) -> tuple[str, int]:
        """Return the (host, port) at which a published port of the container is reached from this machine.

        ``port`` is the container's, such as 6379 or ``"53/udp"``. Of a port that is open on all addresses of the host
        it is the one of the loopback. With ``network="host"`` every port is reached as it is. Raises NotFound for a
        port that is not published (:meth:`connect` needs none that is), Conflict when the container does not run,
        SpecError for a port that is none.

        Example:
            >>> with pylxc.start("redis:seed", ports={6379: 0}) as container:       # doctest: +SKIP
            ...     host, port = container.address(6379)

        """
        from pylxc import publishing  # noqa: PLC0415  not on the start path

        return publishing.address(self, port)

    @waits
    def call(
        self, function: Callable[..., T], *args: object, namespaces: Collection[str] = frozenset(("net",))
    ) -> Waiting[T]:
        """Call a Python function inside namespaces of the running container, and return its value.

        ``namespaces``: "net", "ipc", "uts". The function runs in a fork of this process: it sees all that this process
        has, what it changes there is lost, and other threads are not there (what they had locked stays locked). Its
        value, or the exception that it raises, comes back by pickle; sockets in it come back as they are, and stay in
        the network that they were made in. As an ordinary user it runs as the container's root. Not the container's
        files or processes: a program that is to see these is :meth:`exec`'s, for Python there would load the
        container's code. Raises Conflict when the container does not run, SpecError, UnsupportedError.

        Example:
            >>> container.call(socket.if_nameindex)                                 # doctest: +SKIP
            [(1, 'lo')]

        """
        from pylxc import inside  # noqa: PLC0415  not on the start path

        return (yield from inside.call(self, function, args, namespaces))

    def network_namespace(self) -> AbstractContextManager[None]:
        """Let the calling thread be in the running container's network until the block is left; other threads are not.

        Sockets that are made in the block stay in that network. For the machine's root; an ordinary user has
        :meth:`call` and :meth:`connect`, for the kernel lets no thread into another user namespace (setns(2)). Not
        across an ``await`` or ``yield``. Raises UnsupportedError, Conflict when the container does not run.

        Example:
            >>> with container.network_namespace():                                 # doctest: +SKIP
            ...     urllib.request.urlopen("http://localhost:8000")

        """
        from pylxc import inside  # noqa: PLC0415  not on the start path

        return inside.network_namespace(self)


def _connect(connection: socket.socket, address: tuple[str, int], deadline: float | None) -> Waiting[None]:
    """Connect a socket, which blocks afterwards. Raises OSError: TimeoutError at the deadline."""
    from socket import SO_ERROR, SOL_SOCKET  # noqa: PLC0415  not on the start path

    connection.settimeout(0)
    error = connection.connect_ex(address)
    if error == errno.EINPROGRESS:
        if not (yield Wait(write=(connection.fileno(),), until=deadline)):
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
        error = connection.getsockopt(SOL_SOCKET, SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    connection.settimeout(None)


def _check_port(port: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_LIMIT:
        raise SpecError("port", port, f"give a port from 1 to {PORT_LIMIT}")
