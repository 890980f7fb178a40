"""Everything that can be said about a container, in one value.

Invariant: a :class:`ContainerSpec` that exists is valid, holds each option in its one normal form, asks for nothing
that this version does not carry out, and survives ``to_json``/``from_json`` unchanged.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from attrs import Factory, asdict, field, fields, frozen

from pylxc.capabilities import capability_mask, effective_capabilities
from pylxc.errors import SpecError, UnsupportedError
from pylxc.mounts import Mount
from pylxc.normalise import HOST_GATEWAY, NORMAL, RLIMITS, Device, Port, read_env_file, sysctl_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from pylxc.imageconfig import Healthcheck
    from pylxc.options import Options

__all__ = ["RLIMITS", "ContainerSpec", "Device", "Mount", "Port", "sysctl_path"]

DEFAULT_SHM_SIZE = 64 << 20
DEFAULT_STOP_TIMEOUT = 10.0
DEFAULT_NETWORK = "default"  # which one that is, is settled when the container is made
BRIDGE = "bridge"
SYSTEM = "system"  # the value of init for containers that boot an operating system's own
SYSTEM_INIT = "/sbin/init"
SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh"))


def _is_shell(command: Sequence[str]) -> bool:
    """Say whether a command is empty or starts a shell for somebody at a terminal, as that of base images does."""
    return not command or (len(command) == 1 and command[0].rpartition("/")[2] in SHELLS)


# Where the sysctls of a namespace lie, by the option that shares it (sysctl names below /proc/sys).
_SYSCTLS_OF = {"network": ("net/",), "ipc": ("kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/")}


def _is_shared(value: str) -> bool:
    return value == "host" or value.startswith("container:")


@frozen(kw_only=True)
class ContainerSpec:
    """Everything that is said about a container when it is made. The verbs take each option as a keyword.

    Sizes are in bytes, durations in seconds. None, where it can be had, means: as the image or the engine has it.

    Raises SpecError, naming the option, the value and what would do; UnsupportedError for what this version does not
    carry out. ``env_file`` is read when the spec is made: its variables join ``env``, which has precedence.

    ``init``: True puts a small PID 1 before the command. ``"system"`` boots the operating system in the image (systemd,
    sysvinit, busybox's init): without a command of one's own, what the image names, or ``/sbin/init`` where that is
    nothing or only a shell. Its init has the container's part of the cgroup tree for its own, memory on ``/run``,
    ``/run/lock`` and ``/tmp``, and may halt (the container then ends with 0) and reboot (with 129, for who watches to
    start it again). All other defaults hold.

    ``restart``: what happens when the main process has ended and nobody has asked it to: ``"no"`` (the default),
    ``"on-failure"`` (start it again unless its status was 0) or ``"on-failure:5"`` (five times at the most),
    ``"always"``, ``"unless-stopped"``. The pause before it is 0.1 s at first and doubles each time, up to a minute; it
    begins anew after ten seconds of life. Nothing starts containers when the machine does: the last two are the same.

    ``stdin``: keep the standard input of a container that is started, not run, open for those who attach to it.

    ``healthcheck``: a command that says, by its exit status, whether the container is well: a string for a shell, a
    :class:`~pylxc.Healthcheck`, or ``{"test": ["CMD", "pg_isready"], "interval": 5, "timeout": "3s", "start_period":
    60, "start_interval": 1, "retries": 3}``, times in seconds. What is left out is as the image has it, or as in docker
    (30 s, 30 s, 0, 5 s, 3); without ``test`` only the times of the image's own check change; ``"none"`` switches that
    off.

    ``network``: ``"none"`` (a loopback of its own, which ``connect`` reaches), ``"host"``, ``"container:NAME"``, or the
    name of a :class:`~pylxc.Network`, or several. ``"bridge"`` comes with its first container and goes with its last;
    it is the default as root, where this machine can make it, else ``"none"`` is. ``ip`` and ``ip6``: the addresses
    that it is to have on the one network of your own that it is on. On networks of your own (as in docker not on
    ``"bridge"``) containers know each other by ``name``, ``hostname``, the beginning of their id and ``aliases``, and
    on all of them the host as ``host.pylxc.internal``, by their /etc/hosts. The way out is by the first network that is
    not internal. ``dns``: name servers in place of the host's; those that only the host's loopback reaches are left
    out. ``dns_search``: domains that names are looked for in, in place of the host's (``["."]``: in none), ``dns_opt``:
    options such as ``"ndots:2"`` (resolv.conf(5)). ``extra_hosts``: name -> address, or ``"host-gateway"`` for this
    host.

    ``ports``: what is reached from the host: ``{6379: 0}`` (0: any free port, which :meth:`Container.address` tells),
    ``{"53/udp": ("127.0.0.1", 5353)}``, ``{80: [8080, "[::1]:8081"]}``, ranges (``{"8000-8010": "9000-9010"}``), or
    docker's words (``["127.0.0.1:8080:80"]``). Without an address the port is open on all addresses of the host. In the
    container the client is somebody on its own loopback. Not with ``network="host"``, where all of its ports are the
    host's. ``expose``: further ports that are listed as those of the container, and published by ``run -P``.

    ``log``: with ``{"max_size": "10m", "max_files": 3}`` a new file of the log begins where one would grow beyond
    max_size, and the last max_files of them (1 by default) are kept. Without it the log grows as long as the container
    writes.

    Example::

        spec = ContainerSpec.from_options("debian:bookworm", ["env"], {"volumes": {"/srv": "/srv:ro"}})
        assert spec.volumes[0].read_only
    """

    image: str
    command: tuple[str, ...] | None = None

    name: str | None = None
    hostname: str | None = None
    env: dict[str, str] = field(factory=dict, hash=False)
    env_file: tuple[str, ...] = ()
    workdir: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    labels: dict[str, str] = field(factory=dict, hash=False)

    mounts: tuple[Mount, ...] = ()
    volumes: tuple[Mount, ...] = ()
    tmpfs: tuple[Mount, ...] = ()
    read_only: bool = False

    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    network: str | tuple[str, ...] = DEFAULT_NETWORK
    ip: str | None = None
    ip6: str | None = None
    aliases: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: dict[str, str] = field(factory=dict, hash=False)

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset: str | None = None
    pids_limit: int | None = None
    io_weight: int | None = None
    shm_size: int = DEFAULT_SHM_SIZE
    ulimits: dict[str, tuple[int, int]] = field(factory=dict, hash=False)
    oom_score_adj: int | None = None

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[Device, ...] = ()
    seccomp: str | None = None
    no_new_privileges: bool = True
    userns: str | None = None
    pid: str | None = None
    ipc: str | None = None
    uts: str | None = None
    cgroup: str | None = None
    sysctls: dict[str, str] = field(factory=dict, hash=False)

    tty: bool = False
    stdin: bool = False
    init: bool | Literal["system"] = False
    stop_signal: str | None = None
    stop_timeout: float = DEFAULT_STOP_TIMEOUT
    restart: str | None = None
    healthcheck: Healthcheck | None = None
    detach: bool = False
    remove: bool = False
    pull: Literal["missing", "always", "never"] = "missing"
    platform: str | None = None
    log: Mapping[str, Any] | None = None

    def __attrs_post_init__(self) -> None:
        """Bring what differs from the default into its normal form. Every start passes here: defaults cost nothing."""
        for option, value, default in zip(NORMAL, _values_of(self), _NORMAL_DEFAULTS, strict=True):
            if value is default:
                continue
            if value == {} == default:  # as its factory makes it: the commonest value that is not the default itself
                normal: Any = {}
            else:
                normal = default if value is None else NORMAL[option](option, value)
            object.__setattr__(self, option, normal)
        if self.env_file:
            self._join_env_file()
        self._check_together()

    def _join_env_file(self) -> None:
        env: dict[str, str] = {}
        for path in self.env_file:
            env.update(read_env_file(path))
        object.__setattr__(self, "env", {**env, **self.env})
        object.__setattr__(self, "env_file", ())

    def _check_together(self) -> None:
        """Refuse options that are right one by one, but not together."""
        seen: set[str] = set()
        for mount in self.filesystems():
            if mount.target in seen:
                raise SpecError("mounts", mount.target, "two mounts have this target, and one would hide the other")
            seen.add(mount.target)
        if not (self.privileged or self.userns == "host"):
            for mount in self.mounts + self.volumes:
                if mount.is_shared:
                    remedy = 'gives a container of less privilege the host\'s mounts; give "rslave", or userns="host"'
                    raise UnsupportedError(f"propagation={mount.propagation!r} on {mount.target}", remedy)
        self._check_shared()
        self._check_network()
        if self.ports:
            self._check_ports()
        if self.restarts and self.remove:
            raise SpecError(
                "restart", self.restart, "what is removed at its end cannot start again; use start, without remove"
            )
        if self.init == SYSTEM and self.userns == "host" and not self.privileged:
            raise SpecError("init", SYSTEM, 'with userns="host" its root could lift its own limits; leave userns out')

    def _check_ports(self) -> None:
        """Refuse ports that lead nowhere, and one port of the host that is to lead to two places."""
        if self.network == "host":
            words = 'with network="host" its ports are the host\'s as they are; leave ports out'
            raise SpecError("ports", self.ports, words)
        if isinstance(self.network, str) and _is_shared(self.network):
            raise SpecError(
                "ports", self.ports, f"with network={self.network!r} they are another's; publish them there"
            )
        seen: set[tuple[str, str, int]] = set()
        for port in self.ports:
            place = (port.protocol, port.host, port.port)
            if port.port and not port.last and place in seen:
                raise SpecError("ports", f"{port.host}:{port.port}/{port.protocol}", "it is given twice")
            seen.add(place)

    def _check_shared(self) -> None:
        """Refuse what a container cannot do with namespaces that it shares."""
        shared = {option: getattr(self, option) or "private" for option in ("pid", "ipc", "uts")}
        shared["network"] = self.network if isinstance(self.network, str) else "private"
        others = {value for value in shared.values() if value.startswith("container:")}
        if len(others) > 1:
            raise SpecError("pid", ", ".join(sorted(others)), "namespaces can be shared with one container only")
        for option in ("pid", "ipc"):
            if shared[option] == "host" and not (self.userns == "host" or self.privileged):
                remedy = 'the host\'s cannot be used from a user namespace of its own; give userns="host" as well'
                raise SpecError(option, "host", remedy)
        if self.hostname and _is_shared(shared["uts"]):
            raise SpecError(
                "hostname", self.hostname, f"with uts={shared['uts']!r} it would be another's; leave it out"
            )
        if self.init and _is_shared(shared["pid"]):
            raise SpecError("init", self.init, f"with pid={shared['pid']!r} it is no PID 1; leave it out")
        for name in self.sysctls:
            for option, places in _SYSCTLS_OF.items():
                if _is_shared(shared[option]) and sysctl_path(name).startswith(places):
                    remedy = f"with {option}={shared[option]!r} it would change another's; set it there"
                    raise SpecError("sysctls", name, remedy)

    def _check_network(self) -> None:
        """Refuse what only a container on networks can have, or one that does not have another one's."""
        if (self.ip or self.ip6) and (self.network in (BRIDGE, DEFAULT_NETWORK) or len(self.networks()) != 1):
            remedy = "an address is had on one network of your own: give its name as network (several: Network.connect)"
            raise SpecError("ip" if self.ip else "ip6", self.ip or self.ip6, remedy)
        if self.aliases and self.networks() in ((), (BRIDGE,)):
            raise SpecError("aliases", self.aliases, f"with network={self.network!r} nobody can ask for it by name")
        if HOST_GATEWAY in self.extra_hosts.values() and self.network == "none":
            raise SpecError("extra_hosts", HOST_GATEWAY, 'with network="none" the host cannot be reached')
        for option in ("dns", "dns_search", "dns_opt"):
            value = getattr(self, option)
            if value and isinstance(self.network, str) and self.network.startswith("container:"):
                raise SpecError(option, value, "it has those of the container whose network it shares; set them there")

    def networks(self) -> tuple[str, ...]:
        """Return the names of the networks that it is on; () with the host's, another container's or none.

        A default that is not settled yet counts as one.
        """
        if not isinstance(self.network, str):
            return self.network
        return () if self.network == "none" or _is_shared(self.network) else (self.network,)

    @classmethod
    def from_options(
        cls, image_ref: str, command: str | Sequence[str] | None, options: Options | Mapping[str, Any]
    ) -> ContainerSpec:
        """Return the spec for a verb's arguments. Raises SpecError for an option that does not exist."""
        for option in options:
            if option not in _DEFAULTS or option in ("image", "command"):
                raise SpecError(option, options[option], f"there is no such option{_suggestion(option)}")  # type: ignore[literal-required]
        return cls(image=image_ref, command=command, **options)  # type: ignore[arg-type]  # brought into form above

    @property
    def restarts(self) -> bool:
        """Whether a policy may start it again."""
        return self.restart is not None and self.restart != "no"

    def filesystems(self) -> tuple[Mount, ...]:
        """Return all mounts, parents before what lies below them."""
        if not (self.mounts or self.volumes or self.tmpfs):
            return ()
        return tuple(sorted((*self.mounts, *self.volumes, *self.tmpfs), key=lambda mount: mount.target.count("/")))

    def capabilities(self) -> frozenset[str]:
        """Return the names of the capabilities that it keeps, without ``CAP_``.

        A full init may end its own container as it would a machine: reboot(2) in a pid namespace reaches no further.
        """
        added = self.cap_add
        if self.init == SYSTEM and not {"ALL", "SYS_BOOT"} & set(self.cap_drop):
            added = (*added, "SYS_BOOT")
        return effective_capabilities(added, self.cap_drop, privileged=self.privileged)

    def capability_mask(self) -> int:
        """Return the capabilities that it keeps as a bit mask, bit n for capability n."""
        return capability_mask(self.capabilities())

    def argv(self, entrypoint: Sequence[str] | None, cmd: Sequence[str] | None) -> tuple[str, ...]:
        """Return what is executed, given the image's entrypoint and command.

        An entrypoint of one's own drops the image's command; a command of one's own replaces it. It may be empty. With
        ``init="system"`` and neither, ``/sbin/init`` stands in for an image that names nothing, or only a shell.
        """
        if self.entrypoint is not None:
            return (*self.entrypoint, *(self.command or ()))
        if self.init == SYSTEM and self.command is None and not entrypoint and _is_shell(cmd or ()):
            return (SYSTEM_INIT,)
        return (*(entrypoint or ()), *(self.command if self.command is not None else cmd or ()))

    def to_json(self) -> str:
        """Return the spec as JSON (ASCII, one line). Options at their default are left out, but for the network."""
        import json  # noqa: PLC0415  not needed by callers that store nothing

        changed = {
            option: getattr(self, option)
            for option in _DEFAULTS
            if getattr(self, option) not in (_DEFAULTS[option], {}) or option == "network"
        }
        return json.dumps(changed, default=lambda value: asdict(value, recurse=False), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> ContainerSpec:
        """Return the spec that ``to_json`` wrote. Raises SpecError where it is none."""
        import json  # noqa: PLC0415

        try:
            given = json.loads(text)
        except ValueError as error:
            raise SpecError("spec", text, f"is not JSON: {error}") from error
        if not isinstance(given, dict) or "image" not in given or set(given) - set(_DEFAULTS):
            raise SpecError("spec", text, "is not a container's spec; another version of pylxc may have written it")
        return cls(**{"network": "none", **given})  # as in stores of before there was another default


_DEFAULTS: dict[str, Any] = {
    one.name: {} if isinstance(one.default, Factory) else one.default  # type: ignore[arg-type]
    for one in fields(ContainerSpec)
}
# Many at once: a list of a thousand containers reads fifty options of each.
_values_of = attrgetter(*NORMAL)
_NORMAL_DEFAULTS = tuple(_DEFAULTS[option] for option in NORMAL)

# Names that other tools give to an option: docker's flags and docker-py's keywords.
_OTHER_NAMES = {
    "environment": "env",
    "working_dir": "workdir",
    "cwd": "workdir",
    "auto_remove": "remove",
    "rm": "remove",
    "mem_limit": "memory",
    "memswap_limit": "memory_swap",
    "network_mode": "network",
    "ipv4_address": "ip",
    "ipv6_address": "ip6",
    "exposed_ports": "expose",
    "cpuset_cpus": "cpuset",
    "publish": "ports",
    "volume": "volumes",
    "interactive": "stdin",
    "stdin_open": "stdin",
    "security_opt": "no_new_privileges",
    "restart_policy": "restart",
    "userns_mode": "userns",
    "pid_mode": "pid",
    "ipc_mode": "ipc",
    "add_host": "extra_hosts",
    "group_add": "groups",
}


def _suggestion(option: str) -> str:
    import difflib  # noqa: PLC0415  only where there is a mistake to explain

    near = [_OTHER_NAMES[option]] if option in _OTHER_NAMES else difflib.get_close_matches(option, _DEFAULTS, 1)
    return f"; did you mean {near[0]!r}?" if near else "; ContainerSpec lists them all"
