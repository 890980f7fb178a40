"""The way from a container's spec to a running process, and from its record back to that process.

Hides plans, descriptors and who keeps them. Invariant: a start either comes back with a process that runs, or raises
and leaves nothing; whatever a method looks up (pid, ids, cgroups) it asks the kernel or the store for, then and there.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc.errors import Conflict, ContainerNotFound, SpawnError, SpecError, StoreError, UnsupportedError
from pylxc.execution import await_start, begin, environment, launch
from pylxc.normalise import NORMAL
from pylxc.runtime import cgroup, isolation, joining, life, native, record, rootless
from pylxc.runtime import plan as p
from pylxc.runtime import process as runtime
from pylxc.runtime.isolation import Payload, Tree
from pylxc.runtime.waiting import Wait, deadline_of, drive, steps_of, waits
from pylxc.spec import SYSTEM, ContainerSpec
from pylxc.status import Status
from pylxc.store.layout import explain
from pylxc.volumeuse import prepare, volumes_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pylxc.engine import Engine
    from pylxc.health import Check
    from pylxc.image import Image
    from pylxc.runtime.native import Child
    from pylxc.runtime.network import Links
    from pylxc.runtime.waiting import Waiting
    from pylxc.streams import StreamSet
    from pylxc.systeminit import Shutdown

RUNS = frozenset(("running", "paused"))  # there is a process
ALIVE = RUNS | {"restarting"}  # there is a monitor


class Launching:
    """What a :class:`~pylxc.Container` is made of, and how its processes are started, found and waited for."""

    id: str
    name: str
    image: Image
    created: float

    def __init__(  # noqa: PLR0913, PLR0917  made by the engine only
        self,
        engine: Engine,
        id: str,  # noqa: A002  docker's name
        name: str,
        image: Image,
        spec: ContainerSpec | str,
        created: float,
        *,
        listed: bool = True,
    ) -> None:
        self._engine = engine
        self._given_spec = spec
        self._child: Child | None = None
        self._listed = listed
        self._forgotten = False
        self._is_spared = False
        self._is_disowned = False
        self.id = id
        self.name = name
        self.image = image
        self.created = created

    @cached_property
    def spec(self) -> ContainerSpec:
        """What was said about the container when it was made, and by ``update``."""
        given = self._given_spec  # as JSON it is parsed when it is asked for: half of the time that a list takes
        return ContainerSpec.from_json(given) if isinstance(given, str) else given

    def status(self) -> Status:
        """Return what the container is doing: "created", "running", "paused", "restarting" or "exited", and more.

        Raises ContainerNotFound when it was removed.
        """
        found = record.read(self._directory())
        if found.state == "removed":
            raise ContainerNotFound(self.name, "it was removed")
        return Status.of(found, paused=found.state == "running" and cgroup.is_frozen(self.id))

    # -- what it is made of -----------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Add the container to the store."""
        self.name = self._engine.add_container(self)
        self._listed = True

    def _forget(self) -> None:
        """Remove the container from the store while its monitor takes its mounts apart: each has 0.4 ms to do."""
        self._engine.forget_container(self.id)
        self._forgotten = True
        self._engine.store.containers.help_to_remove(self.id, spare=self._is_spared)

    def _directory(self) -> str:
        return self._engine.container_directory(self.id)

    def _hostname(self) -> str:
        return self.spec.hostname or self.id[:12]

    def _stop_signal(self) -> str:
        return self.spec.stop_signal or self.image.config.stop_signal or "SIGTERM"

    def _shutdown(self) -> Shutdown:
        """Return how the main process is asked to end."""
        from pylxc import systeminit  # noqa: PLC0415  not on the start path

        chosen = self.spec.stop_signal or self.image.config.stop_signal
        if chosen or self.spec.init != SYSTEM:
            return systeminit.Shutdown(self._stop_signal())
        from pylxc.layerview import LayerView  # noqa: PLC0415

        view = LayerView(*self._engine.lowers(self.image.diff_ids))
        config = self.image.config
        return systeminit.shutdown_of(view, self.spec.argv(config.entrypoint, config.cmd))

    def _marks(self) -> dict[str, str]:
        """Return what the environment of a container with a full init says of it."""
        if self.spec.init != SYSTEM:
            return {}
        from pylxc import systeminit  # noqa: PLC0415  few containers have one

        return systeminit.environment(self.id)

    def _check(self) -> Check | None:
        """Return the health check; None: there is none."""
        own, images = self.spec.healthcheck, self.image.config.healthcheck
        if own is None and images is None:
            return None
        from pylxc import health  # noqa: PLC0415  few containers have one

        return health.check_of(own, self.image.config) if health.is_wanted(own, images) else None

    def _life(self, ids: isolation.Ids | None, cgroups: tuple[str, ...]) -> p.Plan:
        """Return what the monitor does of its own accord: start it again, publish its ports, check its health."""
        plan = life.life_of(self.spec, self.id, str(self._engine.root))
        if self.spec.ports:
            from pylxc.runtime import ports  # noqa: PLC0415  few containers have any

            ports.add_ports(plan, self.spec.ports, self._directory())
        check = self._check()
        if check is not None:
            payload = self._payload(check.argv, {}, None, None, tty=False)
            plan.add_health(check.numbers(), isolation.check_plan(self.spec, payload, ids, cgroups))
        return plan

    def _tree(self, *, once: bool) -> Tree:
        """Return the root file system. ``once``: it is mounted for this one run and then thrown away."""
        directory = self._directory()
        return self._engine.tree_of(
            self.image.diff_ids, f"{directory}/upper", f"{directory}/work", volatile=once, fleeting=once
        )

    def _writable(self) -> Tree:
        """Return the root file system for a look at what was written to it, wherever that lies.

        Raises ContainerNotFound; UnsupportedError where some of that is in memory, out of reach.
        """
        from pylxc.runtime.logs import is_there  # noqa: PLC0415  not on the start path

        self.status()
        tree = self._tree(once=self.spec.remove and not is_there(self._directory()))
        if tree.fleeting and tree.passthrough:
            remedy = (
                f"with remove=True and the host's {', '.join(tree.passthrough)} that is in memory; leave remove out"
            )
            raise UnsupportedError("looking at what this container wrote", remedy)
        return evolve(tree, upper=self._engine.store.uppers.place(self.id))

    def _covered(self) -> list[str]:
        """Return the paths of the container on which something is mounted."""
        volumes = volumes_for(self.spec, self.image.config.volumes)
        return [*isolation.covered(self.spec), *(volume.target for volume in volumes)]

    def _volumes(self) -> Mapping[str, str]:
        """Return target -> directory of the container's volumes, filled where they are to be."""
        if not volumes_for(self.spec, self.image.config.volumes):
            return {}
        if not self._listed:
            self._list()  # it must be known who uses them before they are filled
        return prepare(self._engine, self.id, self.image.diff_ids)

    def _payload(
        self,
        command: str | Sequence[str] | None,
        env: Mapping[str, str],
        user: str | int | None,
        workdir: str | None,
        *,
        tty: bool,
    ) -> Payload:
        """Return what runs: the main process, or with ``command`` a further one."""
        spec, config = self.spec, self.image.config
        argv = spec.argv(config.entrypoint, config.cmd) if command is None else NORMAL["command"]("command", command)
        if not argv:
            raise SpecError("command", argv, "is empty; give the program to execute, and its arguments")
        if user is not None or workdir is not None or env:
            changes: dict[str, Any] = {"user": spec.user if user is None else user, "workdir": workdir or spec.workdir}
            spec = evolve(spec, **changes, env={**spec.env, **env})
        return Payload(
            argv=argv,
            env=environment(self._hostname(), config.env, {**self._marks(), **spec.env}, tty=tty),
            user=spec.user or config.user or "0",
            workdir=spec.workdir or config.workdir or "/",
            groups=spec.groups,
            program=self._engine.filter_for(spec),
        )

    @waits
    def _spawn(self, streams: StreamSet, *, log: bool, late: bool = False) -> Waiting[Child]:
        """Start the main process; the record of it is kept in the container's directory.

        ``late``: the record may come a moment after the start, for the caller will not look at it.
        """
        is_new = not self._listed
        with streams, self._joined() as joined, isolation.ids_for(self.spec, joined) as ids:
            payload = self._payload(None, {}, None, None, tty=self.spec.tty)
            # One that keeps a log may be started again: what is volatile can be mounted once only.
            ephemeral = self.spec.remove and not log
            self._engine.store.layers.require_whole(self.image.diff_ids)
            tree = self._tree(once=ephemeral)
            delegate = isolation.root_on_host(ids) if self.spec.init == SYSTEM else None
            volumes = self._volumes()
            # What is left of it in another's pid namespace at its end is known by its cgroup only.
            accounted = not late or joined is not None
            if not self._listed and cgroup.is_wanted(self.spec, accounted=accounted, delegate=delegate):
                self._list()  # first: by its row the cgroups of a caller that was killed are found
            cgroups = cgroup.create(self.spec, self.id, accounted=accounted, delegate=delegate)
            links = None
            try:
                links = self._prepare_networks()
                plan = isolation.container_plan(
                    self.spec,
                    payload,
                    tree,
                    self._hostname(),
                    ids,
                    cgroups=cgroups,
                    terminal=streams.size,
                    volumes=volumes,
                    joined=joined,
                    life=self._life(ids, cgroups),
                    links=links,
                )
                plan.flags |= p.PLAN_AWAIT_CALLER
                plan.flags |= p.PLAN_EPHEMERAL if ephemeral else 0
                plan.flags |= p.PLAN_RECORD_LATE if late else 0
                # Without privilege what is in it belongs to ids that only a user namespace can remove.
                self._is_spared = ephemeral and late and rootless.is_privileged()
                plan.flags |= p.PLAN_KEEP_WORK if self._is_spared else 0
                if log:
                    self._keep_streams(plan)
                start = self._start_on if is_new else self._start_holding
                self._child = yield from start(plan, streams, tree, links)
            except BaseException as error:
                cgroup.remove(self.id)
                self._engine.store.hostsfiles.leave(self.id)
                if isinstance(error, SpawnError):
                    self._explain(error)
                raise
            finally:
                if links is not None:
                    links.let_go()
        return self._child

    def _prepare_networks(self) -> Links | None:
        """Return what the container gets of its networks; None: it has none of its own or of another's."""
        if not (self.spec.networks() or joining.other(self.spec)[1] & joining.NEWNET):
            return None
        from pylxc import containernetworks  # noqa: PLC0415  some are on none

        try:
            return containernetworks.prepare(self._engine, self, is_listed=self._listed)
        except OSError as error:
            raise StoreError(self._directory(), explain(error)) from error

    def _join_networks(self, child: Child, links: Links | None) -> None:
        """Let the others on its networks know the container, and it them: before its process runs."""
        if links is None or links.join is None:
            return
        try:
            for endpoint in links.join():
                native.tell_endpoint(child, endpoint)
        except OSError as error:
            raise StoreError(self._directory(), explain(error)) from error

    def _leave_networks(self) -> None:
        """Let the names of a container that has ended be known no more."""
        if self.spec.networks():
            with suppress(ContainerNotFound):  # whoever removed it has seen to that
                if self.status() not in ALIVE:  # somebody else has started it again
                    self._engine.store.hostsfiles.leave(self.id)

    def _explain(self, error: SpawnError) -> None:
        """Raise what a failed start means, where that is about a layer that is lost, or about a published port."""
        if error.stage == "root":
            try:
                self._engine.store.layers.require_trees(self.image.diff_ids)
            except StoreError as lost:
                raise lost from error
        if not self.spec.ports:
            return
        from pylxc import publishing  # noqa: PLC0415  not on the start path

        explained = publishing.explained(error, self)  # type: ignore[arg-type]  # the whole of it
        try:
            if explained is not error:
                raise explained from error
        finally:
            del explained  # an error whose frame knows it would stay, with all that it refers to, for the collector

    def _keep_streams(self, plan: p.Plan) -> None:
        """Let the monitor have the streams of the main process."""
        plan.flags |= p.PLAN_LOG
        if self.spec.stdin and not self.spec.tty:
            plan.flags |= p.PLAN_STDIN
        if self.spec.log:
            plan.log_size, plan.log_files = self.spec.log["max_size"], self.spec.log["max_files"]

    def _start_holding(self, plan: p.Plan, streams: StreamSet, tree: Tree, links: Links | None) -> Waiting[Child]:
        """Start a plan on what the container wrote before; see :meth:`_start_on`."""
        held = yield from self._hold_upper()
        try:
            return (yield from self._start_on(plan, streams, tree, links))
        finally:
            if held >= 0:
                os.close(held)

    def _hold_upper(self) -> Waiting[int]:
        """Keep what the container wrote where it can be written to until the descriptor is closed (-1: none is)."""
        try:
            return (yield from steps_of(self._engine.store.uppers.hold, self.id))
        except OSError as error:
            raise StoreError(self._engine.root, explain(error)) from error

    def _make_writable(self) -> Waiting[None]:
        """See to it beforehand, where others may have their turn, that :meth:`_inside` finds nothing to be copied."""
        if self.status() not in RUNS:
            held = yield from self._hold_upper()
            if held >= 0:
                os.close(held)

    def _start_on(self, plan: p.Plan, streams: StreamSet, tree: Tree, links: Links | None) -> Waiting[Child]:
        """Start a plan; what it needs of the store is made while the helper makes the namespaces (0.3 ms each)."""
        child = begin(plan, streams, owned=not self.spec.detach)
        try:
            if not self._listed:
                self._list()
            self._join_networks(child, links)
            self._make_place(tree)
            directory = os.open(self._directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                native.release(child, directory)
            finally:
                os.close(directory)
            return (yield from steps_of(await_start, child, streams))
        except BaseException:
            yield from steps_of(runtime.abandon, child)
            raise

    def _make_place(self, tree: Tree) -> None:
        """Make sure that the container is in the store, with the writable side of its root."""
        if not self._listed:
            self._list()
        try:
            isolation.prepare_upper(tree)
        except OSError as error:
            raise StoreError(self._engine.root, explain(error)) from error

    def _spawn_exec(self, payload: Payload, streams: StreamSet) -> Waiting[Child]:
        with streams:
            pid_fd, pid = self._process()
            try:
                try:
                    return (yield from self._launch_exec(payload, streams, pid_fd, pid))
                except SpawnError as error:
                    if error.errno != errno.EBUSY:
                        raise
                # A full init was just about to take the cgroup for a parent of others, which takes no process: now it
                # is in one of these.
                return (yield from self._launch_exec(payload, streams, pid_fd, pid))
            except SpawnError as error:
                # The cgroups go with the main process, the namespaces a moment later.
                if error.stage == "namespaces" or (error.stage == "cgroup" and runtime.wait_readable(pid_fd, 0)):
                    raise Conflict(self.name, "ended while the command was being started") from error
                raise
            finally:
                os.close(pid_fd)

    def _launch_exec(self, payload: Payload, streams: StreamSet, pid_fd: int, pid: int) -> Waiting[Child]:
        ids, cgroups = self._ids(pid), self._cgroups(pid)
        plan = isolation.exec_plan(self.spec, payload, ids, cgroups=cgroups, terminal=streams.size)
        plan.target_fd = plan.descriptor(pid_fd)
        return (yield from steps_of(launch, plan, streams, owned=True))

    def _cgroups(self, pid: int) -> tuple[str, ...]:
        """Return the cgroups for a further process beside the main one."""
        return cgroup.directories(self.id, pid if self.spec.init == SYSTEM else 0)

    @contextmanager
    def _inside(self) -> Iterator[p.Plan]:
        """Yield the beginning of a plan that works on the container's files, whether it runs or not."""
        if self.status() not in RUNS:
            tree = self._tree(once=False)
            held = drive(self._hold_upper())
            try:
                self._make_place(tree)
                yield isolation.resting_plan(self.spec, tree, self._volumes())
            finally:
                if held >= 0:
                    os.close(held)
            return
        pid_fd, pid = self._process()
        try:
            plan = isolation.inside_plan(self._ids(pid))
            plan.target_fd = plan.descriptor(pid_fd)
            yield plan
        except SpawnError as error:
            if error.stage == "namespaces":
                raise Conflict(self.name, "ended meanwhile; try again") from error
            raise
        finally:
            os.close(pid_fd)

    @contextmanager
    def _joined(self) -> Iterator[joining.Joined | None]:
        """Yield the container that this one shares namespaces with. Raises ContainerNotFound, Conflict (it ended)."""
        name, flags = joining.other(self.spec)
        if not name:
            yield None
            return
        pid_fd, pid = self._engine.container(name)._process()  # noqa: SLF001  one of its own kind
        userns_fd = -1
        try:
            userns_fd = joining.user_namespace(pid)
            yield joining.Joined(pid_fd, userns_fd, pid, flags)
        except ProcessLookupError as error:
            raise Conflict(name, f"ended while {self.name} was being started") from error
        finally:
            for fd in (pid_fd, userns_fd):
                if fd >= 0:
                    os.close(fd)

    def _ids(self, pid: int) -> isolation.Ids | None:
        """Return the ids of the running main process. Raises Conflict when it does not run."""
        try:
            return isolation.ids_of(pid)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Conflict(self.name, "ended while the command was being started") from error

    def _pid_fd(self) -> int:
        """Return a new pidfd of the main process. Raises Conflict when it does not run."""
        return self._process()[0]

    def _process(self) -> tuple[int, int]:
        """Return a new pidfd of the main process, and its pid. Raises Conflict when it does not run."""
        status = self.status()
        if status in RUNS:
            if self._child is not None and self._child.pid_fd >= 0 and self._child.pid == status.pid:
                return os.dup(self._child.pid_fd), status.pid
            try:
                fd = native.pidfd_open(status.pid)
            except ProcessLookupError:
                pass
            else:
                # The pid may have become another process's between the two looks; then the record has changed too.
                if self.status() in RUNS:
                    return fd, status.pid
                os.close(fd)
        raise Conflict(self.name, f"is not running ({self.status()}); start it first")

    def _signal(self, number: int) -> bool:
        """Send a signal to the main process; says whether there was one."""
        try:
            pid_fd = self._pid_fd()
        except Conflict:
            return False
        try:
            native.send_signal(pid_fd, number)
        finally:
            os.close(pid_fd)
        return True

    @waits
    def _await_end(self, timeout: float | None, *others: int) -> Waiting[bool]:
        """Wait until the monitor has written its last word.

        False when ``timeout`` (s) passed before, or one of ``others`` became readable.
        """
        deadline = deadline_of(timeout)
        if self.status() not in ALIVE:
            return True
        if not (yield from self._await_monitor(deadline, others)):
            return False
        try:
            process = self._pid_fd()
        except (Conflict, ContainerNotFound):
            return True
        try:  # the monitor was killed, which ends the process a moment later
            return bool((yield Wait((process,), until=deadline)))
        finally:
            os.close(process)

    def _await_monitor(self, deadline: float | None, others: tuple[int, ...]) -> Waiting[bool]:
        """Wait until the monitor has ended; False when something else came first."""
        try:
            _, monitor = self._monitor()
        except (Conflict, ContainerNotFound):
            return True
        try:
            return self.status() not in ALIVE or monitor in (yield Wait((monitor, *others), until=deadline))
        finally:
            os.close(monitor)

    def _monitor(self) -> tuple[int, int]:
        """Return the pid of the monitor, and a new pidfd of it. Raises Conflict when the container does not run."""
        child, pid = self._child, record.monitor_pid(self._directory())
        if child is not None and child.monitor_fd >= 0 and pid in (child.monitor_pid, 0):
            return child.monitor_pid, os.dup(child.monitor_fd)  # even if it has ended
        with suppress(ProcessLookupError):
            fd = native.pidfd_open(pid) if pid else -1
            # As in _pid_fd: it may have become another process's.
            if fd >= 0 and self.status() in ALIVE:
                return pid, fd
            if fd >= 0:
                os.close(fd)
        raise Conflict(self.name, f"is not running ({self.status()}); start it first")

    def _ending_of(self, monitor: int) -> Waiting[int]:
        """Return the exit status under a monitor that has ended: that of a kill where nobody knows any more."""
        with suppress(ContainerNotFound):
            if record.monitor_pid(self._directory()) == monitor:
                # The process of a monitor that was killed ends a moment later.
                yield from steps_of(self._await_end, None)
            status = self.status()
            return record.KILLED if status.exit_code is None else status.exit_code
        return record.KILLED

    def _socket(self, family: int, kind: int) -> int:
        pid_fd = self._pid_fd()
        try:
            return native.socket_in(pid_fd, family, kind)
        except ProcessLookupError as error:
            raise Conflict(self.name, "ended meanwhile; start it first") from error
        finally:
            os.close(pid_fd)
