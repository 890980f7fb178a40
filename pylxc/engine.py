"""An engine: one store and its runtime directory. The one place that wires the parts together.

Invariant: nothing is opened, made or started before it is needed; any number of engines, in any number of processes,
may share one store.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pylxc import names, sourcedate
from pylxc.errors import Conflict, ImageNotFound, NetworkNotFound, SpawnError, SpecError, StoreError
from pylxc.identity import is_locked, own_identity
from pylxc.runtime import native, record, transfer
from pylxc.runtime.process import wait_readable
from pylxc.runtime.waiting import steps_of, waits
from pylxc.store.containers import ContainerRow
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from pylxc.care.reports import CheckReport, DiskUsage, Pruned, RepairReport
    from pylxc.container import Container
    from pylxc.image import Image
    from pylxc.launching import Launching
    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.waiting import Waiting
    from pylxc.spec import ContainerSpec
    from pylxc.store import LayerRow, Lease, Store, VolumeUse

HOST = "host"  # the word that means the embedded image wherever a reference may stand
HOST_FRESH = 0.1  # s for which the machine's packages are not looked at again
NAME_ATTEMPTS = 8
OF_FAILED_STEP = "org.pylxc.build.failed"  # a label: of a container of a build's failed step, and of its image
ORPHAN_PATIENCE = 5.0  # s
SIGKILL = 9
_MAY_REMOVE = '"remove":true'  # in the JSON of a spec


def default_root() -> Path:
    """Return where the default store lies: ``PYLXC_ROOT``, else by user (XDG Base Directory Specification)."""
    chosen = os.environ.get("PYLXC_ROOT")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/pylxc")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111
    return Path(data, "pylxc")


LOWERS_KEPT = 64  # lists of layers whose directories are remembered: what has a digest never changes


class Engine:
    """One store plus its runtime directory. ``root`` is its path; ``Engine()`` is the default one's.

    Making an Engine touches nothing; the store is made, or opened, with the first use. Raises StoreError then, when it
    cannot be: the path is read-only, full, not a directory, or on a network file system. A store that is there, on a
    file system that is read-only, can be read and its images saved; what would change it raises StoreError.

    Example:
        >>> engine = pylxc.Engine("/srv/containers")                                # doctest: +SKIP
        >>> pylxc.run("host", ["true"], engine=engine).ok
        True

    """

    _defaults: ClassVar[dict[Path, Engine]] = {}

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(os.path.abspath(root)) if root is not None else default_root().absolute()  # noqa: PTH100  no links are resolved
        self.scaffold = f"{self.root}/run"
        self._store: Store | None = None
        self._lock = threading.RLock()
        self._host: tuple[object, Image] | None = None  # and what the machine looked like
        self._host_until = 0.0
        self._lowers: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    @classmethod
    def default(cls) -> Engine:
        """Return the engine that is used where none is named; it follows ``PYLXC_ROOT``."""
        root = default_root().absolute()
        return cls._defaults.setdefault(root, cls(root))

    def __repr__(self) -> str:
        return f"Engine({str(self.root)!r})"

    # -- the store --------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The opened store."""
        if self._store is None:
            with self._lock:
                if self._store is None:
                    self._store = self._open()
        return self._store

    def _open(self) -> Store:
        from pylxc.store import Store  # noqa: PLC0415  SQLite is loaded with the first use

        store = Store(self.root)
        if store.is_read_only:
            return store
        try:
            self._make_scaffold()
        except OSError as error:
            raise StoreError(self.root, explain(error)) from error
        self._remove_orphans(store)
        return store

    # -- its care ---------------------------------------------------------------------------------------------------

    def check(self, *, deep: bool = True) -> CheckReport:
        """Look at the whole store for what is wrong with it.

        The index is checked, and that each row has its files and each file its row; with ``deep`` every layer's tree is
        compared with its tar, and every blob with its digest: that reads all of it. What the image "host" passes
        through of this machine is the machine's, and not looked at. Nothing is changed, but that a layer which is found
        damaged is marked: nothing starts on it until :meth:`repair`, or a load, a pull or a build, has replaced it.

        Raises StoreError when the store cannot be opened for another reason than a damaged index.

        Example:
            >>> pylxc.Engine().check().ok                                           # doctest: +SKIP
            True

        """
        from pylxc.care.check import check  # noqa: PLC0415  only here

        return check(self, deep=deep)

    def repair(self) -> RepairReport:
        """Mend what :meth:`check` finds, as far as what is left allows.

        A damaged tree is unpacked again from its archive, a damaged archive packed again from its tree when it is
        wanted. A layer that has neither is marked: nothing starts on it until a load, a pull or a build brings it
        again. What containers run on stays as it is, and is among what is ``left``. An index that cannot be read is
        made anew, and the damaged one moved aside: no other process should use the store meanwhile.

        Raises StoreError when the store cannot be written.

        Example:
            >>> for problem in pylxc.Engine().repair().left:                        # doctest: +SKIP
            ...     print(problem)

        """
        from pylxc.care.repair import repair  # noqa: PLC0415  only here

        return repair(self)

    def disk_usage(self) -> DiskUsage:
        """Return what room the store takes up, in bytes on disk; it walks through all directories.

        Example:
            >>> pylxc.Engine().disk_usage().images.reclaimable                      # doctest: +SKIP
            73400320

        """
        from pylxc.care.usage import disk_usage  # noqa: PLC0415  only here

        return disk_usage(self)

    def prune(  # noqa: PLR0913  docker's flags
        self,
        *,
        containers: bool = True,
        images: bool = True,
        all: bool = False,  # noqa: A002  docker's name
        volumes: bool | Literal["all"] = False,
        networks: bool = True,
        cache: bool = True,
        until: float | str | None = None,
        labels: Sequence[str] = (),
        without_labels: Sequence[str] = (),
    ) -> Pruned:
        """Remove what is not in use, as ``docker system prune`` does. Works on a full disk.

        Args:
            containers: those that do not run, unless they belong to another process that lives.
            images: those without a name; with ``all`` every one that no container was made from.
            all: see images; and of the build cache also what images have.
            volumes: the anonymous ones that no container has; ``"all"``: the others, too.
            networks: those that no container is on, unless they belong to another process that lives.
            cache: what only the build cache wants, and the caches that RUN steps mount, unless one has it now; with
                ``labels`` or ``without_labels`` it is left alone.
            until: only what was made longer ago than this (s, or "24h").
            labels: only what has each of these: "key" or "key=value".
            without_labels: only what has none of these.

        Raises SpecError for an ``until`` or a label that cannot be; StoreError.

        Example:
            >>> pylxc.Engine().prune(all=True, until="240h").reclaimed              # doctest: +SKIP
            73400320

        """
        from pylxc.care.prune import Wanted, prune  # noqa: PLC0415  only here

        wanted = Wanted.of(until, labels, without_labels)
        return prune(
            self,
            wanted,
            containers=containers,
            networks=networks,
            images=images,
            every=all,
            volumes=volumes,
            cache=cache,
        )

    def reopen(self) -> None:
        """Open the store anew with the next use: its index is another one now."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None
            self._host = None

    def _make_scaffold(self) -> None:
        """Make the mount points of starts, and the layer of stubs that lies below every image.

        It holds what the runtime mounts over, so that nothing need be made in a container's own layer. Modes are set
        apart from making: the caller's umask is not the container's.
        """
        for name in ("stubs/proc", "stubs/dev", "stubs/sys", "stubs/etc"):
            os.makedirs(f"{self.scaffold}/{name}", exist_ok=True)  # noqa: PTH103
            os.chmod(f"{self.scaffold}/{name}", 0o755)  # noqa: PTH101, S103  empty, and inside a private directory
        for name in ("hosts", "hostname", "resolv.conf"):
            path = Path(self.scaffold, "stubs/etc", name)
            path.touch()
            path.chmod(0o644)

    def _remove_orphans(self, store: Store) -> None:
        """Remove what is left of containers whose owner was killed; their monitors have ended them already."""
        for row in store.containers.orphans():
            from pylxc.runtime import cgroup  # noqa: PLC0415  hardly ever

            directory = store.layout.container(row.id)
            if record.read(directory).state == "running":
                self._end_orphan(directory)
            cgroup.remove(row.id)  # with whatever got out of its monitor's hands
            _await_monitor(directory)
            if is_locked(directory):
                continue  # it does not go: what it keeps is not to be taken from it
            _forget(store, row.id)
            store.containers.remove_directory(row.id)
        if store.networks.abandoned():
            from pylxc import networking  # noqa: PLC0415  after a kill only

            networking.sweep(store)
        self._look_after_default_network(store)

    def _look_after_default_network(self, store: Store) -> None:
        """See to it that the default network goes when nobody uses it: who waits for that may have been killed."""
        row = store.networks.default()
        if row is None:
            return
        from pylxc.runtime import keeping, network  # noqa: PLC0415  not needed by those who have no default network

        if network.is_there(row.bridge):
            with suppress(OSError, SpawnError):  # then the next one that opens the store does
                keeping.look_after(keeping.place_of(self.scaffold), row.bridge)

    @staticmethod
    def _end_orphan(directory: str) -> None:
        """Kill a container that outlived both its owner and its monitor."""
        try:
            pid_fd = native.pidfd_open(record.read(directory).pid)
        except OSError:
            return  # it has ended meanwhile
        try:
            if record.read(directory).state == "running":
                native.send_signal(pid_fd, SIGKILL)
                wait_readable(pid_fd, ORPHAN_PATIENCE)
        finally:
            os.close(pid_fd)

    # -- images and layers ------------------------------------------------------------------------------------------

    def image(self, ref: str | Image) -> Image:
        """Return the image that a reference, an id or the word "host" means. Raises ImageNotFound."""
        from pylxc.image import Image  # noqa: PLC0415  it imports this module

        if isinstance(ref, Image):
            return ref
        if ref == HOST:
            return self.host_image()
        return Image.of(self, self.store.images.find(ref))

    def host_image(self) -> Image:
        """Return the embedded image of this machine's operating system, made anew when its packages have changed."""
        from pylxc import hostimage  # noqa: PLC0415  not needed by those who use other images

        with self._lock:
            now = time.monotonic()
            host = self._host
            if host is not None and not self.store.images.exists(host[1].id):
                host = None  # it was removed
            if host is not None and now < self._host_until:
                return host[1]
            seen = hostimage.witnesses()
            if host is None or host[0] != seen:
                host = (seen, hostimage.find_or_make(self, hostimage.fingerprint()))
            self._host = host
            self._host_until = now + HOST_FRESH
            return host[1]

    def renew_host_image(self) -> Image:
        """Return the embedded image after another look at it: where its layer is marked as damaged, it is made anew."""
        with self._lock:
            self._host = None
            return self.host_image()

    def layer_directory(self, digest: str) -> str:
        """Return the directory of a layer's tree."""
        return self.store.layers.path(digest)

    def lowers(self, digests: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the directories of layers (given lowest first), topmost first, and what the host passes through."""
        key = tuple(digests)
        found = self._lowers.get(key)
        if found is None:
            layers = self.store.layers
            passthrough = layers.passthrough(key[0]) if key else ()
            # Each once, where it lies topmost: overlayfs refuses a layer that comes twice, and it would change nothing.
            found = tuple(dict.fromkeys(map(layers.path, reversed(key)))), passthrough
            if len(self._lowers) >= LOWERS_KEPT:
                self._lowers.clear()
            self._lowers[key] = found
        return found

    def tree_of(
        self, digests: Sequence[str], upper: str, work: str, *, volatile: bool = True, fleeting: bool = False
    ) -> Tree:
        """Return the root file system over these layers (lowest first)."""
        from pylxc.runtime.isolation import Tree  # noqa: PLC0415  not needed before something runs

        lowers, passthrough = self.lowers(digests)
        return Tree(
            lowers=lowers,
            scaffold=self.scaffold,
            upper=upper,
            work=work,
            passthrough=passthrough,
            volatile=volatile,
            fleeting=fleeting and kernel_is(6, 6),  # user.* attributes on tmpfs
            joined=not kernel_is(6, 5),
        )

    def commit_layer(
        self,
        lease: Lease,
        tree: str,
        created_by: str,
        passthrough: tuple[str, ...] = (),
        *,
        latest: int | None = None,
    ) -> LayerRow:
        """Make a staged tree a layer, named by the digest of its tar.

        What was modified after ``latest`` (s since the epoch; by default what SOURCE_DATE_EPOCH says) gets that time,
        also in the tree.
        """
        bound = sourcedate.latest() if latest is None else latest
        digest, size = transfer.digest_of(tree, scaffold=self.scaffold, latest=bound)
        return self.store.layers.commit(lease, tree, digest, size, created_by, passthrough)

    def filter_for(self, spec: ContainerSpec) -> bytes:
        """Return the system call filter of a container, b"" for none."""
        from pylxc.seccomp import programs  # noqa: PLC0415  not needed before something runs

        return programs.program_for(spec, f"{self.root}/seccomp")

    # -- containers -------------------------------------------------------------------------------------------------

    @waits
    def create_container(
        self,
        image: str | Image,
        command: str | Sequence[str] | None,
        options: Mapping[str, Any],
        *,
        listed: bool = True,
    ) -> Waiting[Container]:
        """Make a container; see :func:`pylxc.create`. Unless ``listed``, its start adds it to the store."""
        from pylxc.container import Container  # noqa: PLC0415  builds and lists of images need no container
        from pylxc.obtaining import obtain  # noqa: PLC0415  it imports this module
        from pylxc.spec import DEFAULT_NETWORK, ContainerSpec  # noqa: PLC0415

        reference = image if isinstance(image, str) else (*image.refs, image.id)[0]
        if options.get("network") in (None, DEFAULT_NETWORK):
            from pylxc.networking import default_network  # noqa: PLC0415  not needed by those who say which one

            options = {**options, "network": default_network(self, options=options)}
        spec = ContainerSpec.from_options(reference, command, options)
        found = yield from steps_of(obtain, self, image, spec.pull, spec.platform)
        if not spec.argv(found.config.entrypoint, found.config.cmd):
            raise SpecError("command", command, f"image {reference} names no command; give one")
        if spec.healthcheck is not None:
            from pylxc import health  # noqa: PLC0415  few containers have a check of their own

            health.require_test(spec.healthcheck, found.config.healthcheck)
        name = spec.name or names.generate()
        container = Container(self, os.urandom(32).hex(), name, found, spec, time.time(), listed=False)
        if listed:
            container._list()  # noqa: SLF001  the engine is its other half
        return container

    def add_container(self, container: Launching) -> str:
        """Add a container to the store; returns its name. One that was made up, and is taken, becomes another."""
        from pylxc.volumeuse import make_volumes, volumes_for  # noqa: PLC0415  not needed before something runs

        spec = container.spec
        volumes = volumes_for(spec, container.image.config.volumes)
        owner = None if spec.detach else own_identity()
        text, name = spec.to_json(), container.name
        for attempt in range(NAME_ATTEMPTS):
            row = ContainerRow(container.id, name, container.image.id, text, container.created, owner)
            uses = make_volumes(self, volumes) if volumes else ()
            try:
                self._add_on_networks(row, uses, container)
            except Conflict:
                if spec.name or attempt == NAME_ATTEMPTS - 1:
                    raise
                name = names.generate()
                continue
            break
        self.store.events.add("created", container.id, name=name, image=spec.image)
        return name

    def _add_on_networks(self, row: ContainerRow, uses: Sequence[VolumeUse], container: Launching) -> None:
        """Add a container's row, with its places on networks."""
        if not container.spec.networks():
            self.store.containers.add(row, uses)
            return
        from pylxc import containernetworks, networking  # noqa: PLC0415  not needed by those who are on none
        from pylxc.store.networks import DEFAULT  # noqa: PLC0415

        wishes = containernetworks.wishes_of(container, row.name)
        try:
            self.store.containers.add(row, uses, wishes)
        except NetworkNotFound as error:
            if error.name != DEFAULT:
                raise
            networking.default_row(self.store)  # needed for the first time, or removed meanwhile
            self.store.containers.add(row, uses, wishes)

    def container(self, name_or_id: str) -> Container:
        """Return a container by name, id or the beginning of an id. Raises ContainerNotFound, Conflict."""
        row = self.store.containers.get(name_or_id)
        return self._to_container(row, self._image_of(row))

    def containers(self) -> list[Container]:
        """Return all containers, the newest first.

        Detached ones that were to be removed at their end, and have ended, are removed now: their monitor cannot.
        """
        found = []
        images: dict[str, Image] = {}  # few images, many containers
        for row in self.store.containers.list():
            if row.image not in images:
                images[row.image] = self._image_of(row)
            container = self._to_container(row, images[row.image])
            # The text is looked at first: few are such, and a spec that need not be parsed costs nothing.
            if row.owner is None and _MAY_REMOVE in row.spec and self._is_over(container):
                self.remove_container(row.id)
            else:
                found.append(container)
        return found

    def _is_over(self, container: Container) -> bool:
        """Say whether a detached container has ended and was to be removed then."""
        spec = container.spec
        return spec.remove and record.read(self.container_directory(container.id)).state == "exited"

    def _image_of(self, row: ContainerRow) -> Image:
        from pylxc.image import Image  # noqa: PLC0415  it imports this module

        return Image.of(self, self.store.images.get(row.image))

    def _to_container(self, row: ContainerRow, image: Image) -> Container:
        from pylxc.container import Container  # noqa: PLC0415  builds and lists of images need no container

        return Container(self, row.id, row.name, image, row.spec, row.created)

    def container_directory(self, id: str) -> str:  # noqa: A002  docker's name
        """Return the directory of a container."""
        return self.store.layout.container(id)

    def forget_container(self, id: str) -> None:  # noqa: A002
        """Take a container that has ended out of the index; :meth:`remove_container` is still to be called."""
        _forget(self.store, id)

    def remove_container(self, id: str, *, forgotten: bool = False, spare: bool = False) -> None:  # noqa: A002
        """Remove a container that does not run from the store; ``forgotten``: it is out of the index already.

        ``spare``: its directory may be of use to the next one.
        """
        from pylxc.runtime import cgroup  # noqa: PLC0415  only here

        cgroup.remove(id)  # its monitor has; unless it was killed
        if not forgotten:
            _await_monitor(self.container_directory(id))
            _forget(self.store, id)
        self.store.containers.remove_directory(id, spare=spare and forgotten)


def _await_monitor(directory: str) -> None:
    """Wait until the monitor of a container that has ended has told so: then its removal may be told."""
    if not is_locked(directory):
        return
    try:
        monitor = native.pidfd_open(record.monitor_pid(directory))
    except OSError:
        return  # it has ended meanwhile
    try:
        if is_locked(directory):  # else the number may be another process's by now
            wait_readable(monitor, ORPHAN_PATIENCE)
    finally:
        os.close(monitor)


def _forget(store: Store, id: str) -> None:  # noqa: A002  docker's name
    """Take a container out of the index, and tell so: once, whoever else is removing it."""
    with store.hostsfiles.leaving(id):  # before its addresses may become another's
        row = store.containers.forget(id)
    if row is None:
        return
    store.events.add("removed", id)
    if OF_FAILED_STEP in row.spec:
        # The image was made for it alone. Somebody may have tagged it meanwhile, or made another container of it.
        with suppress(Conflict, ImageNotFound):
            if not store.images.get(row.image).refs:
                store.images.remove(row.image)


@cache
def kernel_is(major: int, minor: int) -> bool:
    """Say whether the kernel is at least of this version."""
    found = os.uname().release.split(".")
    digits = "".join(character for character in found[1] if character.isdigit())
    return (int(found[0]), int(digits)) >= (major, minor)
