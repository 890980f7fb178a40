"""Containers: one main process each, in namespaces of its own, on an image of its own choice.

What callers see; how its processes are started and found is in ``launching.py``. Invariant: a :class:`Container` holds
what never changes; every method asks the kernel or the store, so any number of processes may work on one container, and
none is ever wrong about another's doing for longer than one call.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Literal, overload

from attrs import evolve

from pylxc.errors import Conflict, ContainerNotFound, SpawnError, SpecError, TimeoutExpired, UnsupportedError
from pylxc.execution import complete
from pylxc.filters import check_filters, passes
from pylxc.launching import ALIVE, RUNS, Launching
from pylxc.normalise import signal_number
from pylxc.process import Process
from pylxc.runtime import cgroup, kept, record
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import Wait, deadline_of, iterates, steps_of, waits
from pylxc.spec import SYSTEM
from pylxc.streams import DEVNULL, PIPE, open_streams

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import IO, BinaryIO, TextIO, TypeVar

    from _typeshed import OpenBinaryMode, OpenTextMode, StrPath
    from typing_extensions import Unpack

    from pylxc.attachment import Attachment
    from pylxc.changes import Change
    from pylxc.engine import Engine
    from pylxc.image import Image
    from pylxc.normalise import Port
    from pylxc.options import Limits
    from pylxc.result import Result
    from pylxc.runtime.logs import LogLine
    from pylxc.runtime.processes import ProcessInfo
    from pylxc.runtime.waiting import Stream, Waiting
    from pylxc.runtime.watching import Watch
    from pylxc.stats import Stats
    from pylxc.streams import StreamOption

    T = TypeVar("T")

SIGTERM, SIGKILL = 15, 9
PORT_LIMIT = 65535
ASK_AGAIN = 0.5  # s; an init that has only just been started is deaf yet, and repeating does no harm
LOG_POLL = 0.1  # s between two looks at a log that is followed, where it cannot be watched


class Container(Launching):
    r"""A container. Made by :func:`pylxc.create`, :func:`pylxc.start` or :meth:`Container.get`.

    ``id`` (64 hex digits), ``name``, ``image`` (the :class:`~pylxc.Image` it was made from), ``spec`` and ``created``
    (s since the epoch) never change. As a context manager it is removed, running or not, when the block is left.

    Example:
        >>> with pylxc.start("redis:seed") as container:                            # doctest: +SKIP
        ...     container.exec(["redis-cli", "ping"]).text
        'PONG\n'

    """

    # -- finding ----------------------------------------------------------------------------------------------------

    @classmethod
    def get(cls, name_or_id: str, *, engine: Engine | None = None) -> Container:
        """Return the container with this name, id, or beginning of an id.

        Raises ContainerNotFound; Conflict when several ids begin so.
        """
        return _engine(engine).container(name_or_id)

    @classmethod
    def list(
        cls,
        all: bool = False,  # noqa: A002, FBT001, FBT002  docker-py's signature
        filters: Mapping[str, str] | None = None,
        *,
        engine: Engine | None = None,
    ) -> list[Container]:
        """Return the running containers (with ``all`` every one), the newest first.

        ``filters``: ``{"name": part of it, "status": "running", "health": "healthy" ("starting",
        "unhealthy", "none"), "ancestor": an image, "label": "key" or "key=value"}``.
        Raises SpecError for a filter that does not exist.
        """
        chosen = dict(filters or {})
        running = not all and "status" not in chosen
        check_filters(chosen)
        found = [container for container in _engine(engine).containers() if passes(container, chosen)]
        return [container for container in found if _is_alive(container)] if running else found

    # -- asking -----------------------------------------------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """Return everything about the container as a dict of JSON's types; keys as in ``docker inspect``."""
        import json  # noqa: PLC0415  not on the start path

        from pylxc.networking import described_ends  # noqa: PLC0415
        from pylxc.publishing import described  # noqa: PLC0415
        from pylxc.volumeuse import described_mounts  # noqa: PLC0415

        status = self.status()
        payload = self._payload(None, {}, None, None, tty=self.spec.tty)
        check, health = self._health()
        return {
            "Id": self.id,
            "Name": self.name,
            "Created": self.created,
            "Image": self.image.id,
            "ImageName": self.spec.image,
            "Path": payload.argv[0] if payload.argv else "",
            "Args": list(payload.argv[1:]),
            "State": {
                "Status": str(status),
                "Running": status in ALIVE,
                "Restarting": status == "restarting",
                "Pid": status.pid,
                "ExitCode": status.exit_code,
                "StartedAt": status.started_at,
                "FinishedAt": status.finished_at,
                "Paused": status == "paused",
                "OOMKilled": status.oom_killed,
                "Error": status.error,
                **({"Health": health} if health else {}),
            },
            "RestartCount": status.restart_count,
            "Config": {
                "Env": list(payload.env),
                "User": payload.user,
                "WorkingDir": payload.workdir,
                "Hostname": self._hostname(),
                "Labels": {**self.image.config.labels, **self.spec.labels},
                "StopSignal": self._shutdown().signal,
                "Tty": self.spec.tty,
                **({"Healthcheck": check} if check else {}),
            },
            "Mounts": described_mounts(self._engine, self.id, self.spec),
            "NetworkSettings": {
                "Networks": described_ends(self._engine.store.networks.ends(self.id)),
                "Ports": described(self.exposed_ports(), self.ports()),
            },
            "Spec": json.loads(self.spec.to_json()),
        }

    def exposed_ports(self) -> Sequence[str]:
        """Return the ports that the image, or ``expose``, says the container serves, such as "80/tcp"."""
        return tuple(dict.fromkeys((*self.image.config.exposed_ports, *self.spec.expose)))

    def _health(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return docker's Config.Healthcheck and State.Health; {} where there is none."""
        from pylxc import health  # noqa: PLC0415  not on the start path
        from pylxc.runtime import checks  # noqa: PLC0415

        given = health.merged(self.spec.healthcheck, self.image.config.healthcheck)
        check = health.check_of(self.spec.healthcheck, self.image.config)
        found = None if check is None else checks.described(self._directory(), check)
        return {} if given is None else given.to_oci(), found or {}

    def top(self) -> Sequence[ProcessInfo]:
        """Return the container's processes, by their pid inside. Raises Conflict when it does not run.

        Example:
            >>> [process.command for process in container.top()]                    # doctest: +SKIP
            [('redis-server',)]

        """
        from pylxc.runtime import processes  # noqa: PLC0415  not on the start path

        status = self.status()
        if status in RUNS:
            with suppress(FileNotFoundError, ProcessLookupError):
                return processes.of_container(status.pid)
        raise Conflict(self.name, f"is not running ({self.status()}); it has no processes")

    @iterates
    def logs(
        self,
        follow: bool = False,  # noqa: FBT001, FBT002  docker-py's signature
        tail: int | None = None,
        since: float | None = None,
        *,
        timestamps: bool = False,
    ) -> Stream[LogLine]:
        """Yield what the main process wrote, line by line, oldest first.

        ``tail``: only the last so many lines. ``since``: only lines from that time on (s since the epoch).
        ``follow``: go on until the container ends. ``timestamps``: ``data`` begins with the line's time (RFC 3339), as
        docker shows it. What went to the caller (``run``, ``popen``) is not in the log.
        """
        from pylxc.runtime.logs import LogReader, chosen, is_there  # noqa: PLC0415  not on the start path

        directory = self._directory()
        if not is_there(directory):
            self.status()  # which says so if the container is gone
        with LogReader(directory) as reader, _watching(directory if follow else "") as watch:
            runs = follow
            while True:
                runs = runs and self._still_runs(watch)  # asked before reading: nothing comes after a no
                lines = chosen(reader.fresh() if runs else reader.rest(), since, tail)
                yield from (line.stamped() for line in lines) if timestamps else lines
                if not runs:
                    return
                tail = None
                changes = () if watch is None else (watch.fileno(),)
                with suppress(ContainerNotFound):
                    yield from steps_of(self._await_end, None if changes else LOG_POLL, *changes)

    def _still_runs(self, watch: Watch | None) -> bool:
        """Say whether the container runs; what changes from now on is told by the watch."""
        if watch is not None:
            watch.clear()
        with suppress(ContainerNotFound):
            return self.status() in ALIVE
        return False

    @waits
    def attach(
        self,
        *,
        logs: bool = False,
        stdin: bool = True,
        start: bool = False,
        terminal_size: tuple[int, int] | None = None,
    ) -> Waiting[Attachment]:
        r"""Return the running container's output as it comes, and its standard input.

        Args:
            logs: what was written before comes first.
            stdin: whether there is to be an ``attachment.stdin``: the container's (``stdin=True``), or its terminal.
            start: start the container if it does not run, and miss nothing of what it writes.
            terminal_size: (rows, columns) for its terminal, when it is started or now.

        Any number of attachments may be made and left; the container does not notice. Raises Conflict when it does not
        run, or when its streams are in the hands of the process that started it (:func:`pylxc.popen`);
        UnsupportedError when the kernel's limit of what may be watched is reached; with ``start`` what :meth:`start`
        raises.

        Example:
            >>> container = pylxc.start("host", ["cat"], stdin=True)                # doctest: +SKIP
            >>> with container.attach() as attachment:
            ...     attachment.stdin.write(b"hello\n")
            ...     attachment.read()
            Output(stream='stdout', data=b'hello\n')

        """
        from pylxc.attachment import attach  # noqa: PLC0415  not on the start path

        steps = steps_of(attach, self, logs=logs, stdin=stdin, start=start, terminal_size=terminal_size)
        return (yield from steps)

    @waits
    def diff(self) -> Waiting[Sequence[Change]]:
        """Return a list of what differs from the image in the container's files, sorted by path; it may run or not.

        What is mounted there (volumes, ``tmpfs``, ``/proc``…) does not count. Raises UnsupportedError where what it
        wrote is in memory only (``remove=True`` without a log, on the image "host"); ContainerNotFound.

        Example:
            >>> container.diff()                                                    # doctest: +SKIP
            [Change(path='/etc', kind='changed'), Change(path='/etc/motd', kind='added')]

        """
        from pylxc import changes  # noqa: PLC0415  not on the start path

        return (yield from changes.of_tree(self._writable(), self._covered()))

    @waits
    def commit(
        self,
        ref: str | None = None,
        *,
        author: str | None = None,
        message: str | None = None,
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> Waiting[Image]:
        """Make an image of the container as it is now, running or not, and return it. The container goes on unchanged.

        What it wrote becomes a layer on those of its image; where it wrote nothing there is no new layer. Volumes and
        other mounts are left out. The image's configuration is the container's: what was given when it was made, too.

        Args:
            ref: what the image is to be called.
            author: who made it; it is in the image's history.
            message: what for; likewise.
            changes: instructions as in a Dockerfile, such as ``'CMD ["redis-server"]'``; CMD, ENTRYPOINT, ENV, EXPOSE,
                HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.
            pause: stop the container while it is copied, so that no file is caught half written. It goes on afterwards,
                also where this process is killed. Where it has no cgroup it is copied as it runs, and a warning logged.

        Raises SpecError and DockerfileError (line n is the n-th of ``changes``), UnsupportedError as :meth:`diff`;
        Conflict when it moved directories meanwhile, without pause, or wrote what no layer can hold; StoreError.
        Nothing is kept then.

        Example:
            >>> container.commit("app:2", changes=['ENV MODE=fast']).config.env["MODE"]     # doctest: +SKIP
            'fast'

        """
        from pylxc.build.commit import commit  # noqa: PLC0415  not on the start path

        return (yield from commit(self, ref, author=author, message=message, changes=changes, pause=pause))

    # -- living -----------------------------------------------------------------------------------------------------

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

    @overload
    def stats(self, stream: Literal[False] = False) -> Stats: ...  # noqa: FBT002
    @overload
    def stats(self, stream: Literal[True]) -> Iterator[Stats]: ...
    def stats(self, stream: bool = False) -> Stats | Iterator[Stats]:  # noqa: FBT001, FBT002  docker-py's signature
        """Return what the container uses now; with ``stream`` an iterator of it, once a second, until it ends.

        What the host does not count, or what a container without cgroups cannot tell, is None in it. Raises Conflict
        when it does not run.
        """
        if stream:
            return self._stats_stream()
        return self._stats()

    def _stats(self) -> Stats:
        from pylxc.runtime import usage  # noqa: PLC0415  not on the start path

        status = self.status()
        if status not in RUNS:
            raise Conflict(self.name, f"is not running ({status}); it uses nothing")
        try:
            return usage.read(self.id, status.pid)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Conflict(self.name, "ended meanwhile; it uses nothing") from error

    @iterates
    def _stats_stream(self) -> Stream[Stats]:
        while True:
            try:
                yield self._stats()
            except Conflict:
                return
            if (yield from steps_of(self._await_end, 1.0)):
                return

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

    # -- working in it ----------------------------------------------------------------------------------------------

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
        return Process(child, payload.argv, self, pipes=streams.pipes)

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

    @waits
    def wait_ready(  # noqa: PLR0913  one keyword for each way to be ready
        self,
        *,
        port: int | None = None,
        log: str | None = None,
        http: str | None = None,
        command: str | Sequence[str] | None = None,
        healthy: bool = False,
        timeout: float = 60,
    ) -> Waiting[None]:
        """Wait until the container is ready.

        It accepts connections on ``port``, a line of its log holds ``log``, a GET of ``http`` (a URL such as
        ``"http://localhost:8080/health"``, asked from inside its network) is answered with a status from 200 to 399,
        ``command`` succeeds in it, and with ``healthy`` its health check has; those that are given, one after the
        other. Raises TimeoutExpired when ``timeout`` (s) has passed; ExitError, with the end of the log, as soon as the
        container ends without having become ready, and with what the last check said, as soon as it is "unhealthy" (as
        ``docker compose up --wait`` does: give the check more retries, or a start period, if it may become healthy
        later); SpecError for a URL that cannot be asked, and for ``healthy`` where nothing checks it.

        Example:
            >>> container.wait_ready(http="http://localhost:8080/health", timeout=10)  # doctest: +SKIP

        """
        from pylxc.readiness import wait_ready  # noqa: PLC0415  not on the start path

        yield from wait_ready(self, port=port, log=log, http=http, command=command, healthy=healthy, timeout=timeout)

    # -- plumbing ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Container:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @waits
    def _leave(self) -> Waiting[None]:
        """Remove the container, unless it was given away."""
        if not self._is_disowned:
            yield from steps_of(self.remove, force=True)

    def __repr__(self) -> str:
        return f"<Container {self.name} {self.id[:12]} of {self.spec.image}>"

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


@contextmanager
def _watching(directory: str) -> Iterator[Watch | None]:
    """Yield a watch of a directory; None where there is no such directory, and where the kernel has no more of them.

    Then whoever follows looks again and again.
    """
    from pylxc.runtime.watching import Watch  # noqa: PLC0415  not on the start path

    try:
        watch = Watch(directory) if directory else None
    except (FileNotFoundError, UnsupportedError):
        watch = None
    with watch or nullcontext():
        yield watch


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


def _is_alive(container: Container) -> bool:
    try:
        return container.status() in ALIVE
    except ContainerNotFound:
        return False  # removed meanwhile


def _check_port(port: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_LIMIT:
        raise SpecError("port", port, f"give a port from 1 to {PORT_LIMIT}")


def _engine(engine: Engine | None) -> Engine:
    from pylxc.engine import Engine as EngineClass  # noqa: PLC0415  the engine imports this module

    return engine if engine is not None else EngineClass.default()
