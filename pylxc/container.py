"""Containers: one main process each, in namespaces of its own, on an image of its own choice.

What callers see: what is done in one is in ``containerwork.py``, what becomes of one in ``containerlife.py``, and how
its processes are started and found in ``launching.py``.
Invariant: a :class:`Container` holds what never changes; every method asks the kernel or the store, so any number of
processes may work on one container, and none is ever wrong about another's doing for longer than one call.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Literal, overload

from pylxc.containerlife import Living
from pylxc.defaults import engine_of
from pylxc.errors import Conflict, ContainerNotFound, UnsupportedError
from pylxc.filters import OF_CONTAINERS, checked_filters, passes
from pylxc.launching import ALIVE, RUNS
from pylxc.runtime.waiting import iterates, steps_of, waits
from pylxc.scoped import Scoped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeVar

    from pylxc.attachment import Attachment
    from pylxc.changes import Change
    from pylxc.engine import Engine
    from pylxc.image import Image
    from pylxc.runtime.logs import LogLine
    from pylxc.runtime.processes import ProcessInfo
    from pylxc.runtime.waiting import Stream, Waiting
    from pylxc.runtime.watching import Watch
    from pylxc.stats import Stats

    T = TypeVar("T")

LOG_POLL = 0.1  # s between two looks at a log that is followed, where it cannot be watched


class Container(Living, Scoped):
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
        return engine_of(engine).container(name_or_id)

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
        wanted = checked_filters(filters, OF_CONTAINERS)
        running = not all and "status" not in wanted
        found = [container for container in engine_of(engine).containers() if passes(container, wanted, OF_CONTAINERS)]
        return [container for container in found if _is_alive(container)] if running else found

    # -- asking -----------------------------------------------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """Return everything about the container as a dict of JSON's types; keys as in ``docker inspect``."""
        import json  # noqa: PLC0415  not on the start path

        from pylxc.containernetworks import described_ends  # noqa: PLC0415
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

    def __repr__(self) -> str:
        return f"<Container {self.name} {self.id[:12]} of {self.spec.image}>"


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


def _is_alive(container: Container) -> bool:
    try:
        return container.status() in ALIVE
    except ContainerNotFound:
        return False  # removed meanwhile
