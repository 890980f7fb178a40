"""The one normal form of each option, made from any form in which it can be given.

Hides the many spellings: sizes, durations, lists and mappings, docker's short forms. Invariant: a value in its normal
form, also one that has been through JSON, is left as it is.

``forms`` are those of many options; ``programs`` is what runs, ``resources`` what it has of the host, ``reach`` where
it is reached and what it reaches. Each function of :data:`NORMAL` takes the option's name and the value, and raises
SpecError for one that cannot be used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError
from pylxc.mounts import container_path, to_mounts, to_tmpfs, to_volumes
from pylxc.normalise.forms import choice, duration, flag, integer, labels, matching, paths, size, some_size, text
from pylxc.normalise.programs import (
    environment,
    groups,
    read_env_file,
    signal_name,
    signal_number,
    signal_of,
    user,
    words,
)
from pylxc.normalise.reach import (
    CONTAINER,
    HOST_GATEWAY,
    HOST_NAME,
    Port,
    addresses,
    dns_options,
    domains,
    expose,
    extra_hosts,
    hostname,
    hostnames,
    network,
    network_name,
    one_address,
    ports,
)
from pylxc.normalise.resources import (
    RLIMITS,
    UNLIMITED,
    Device,
    capabilities,
    cpus,
    devices,
    swap,
    sysctl_path,
    sysctls,
    ulimits,
)
from pylxc.units import parse_size

if TYPE_CHECKING:
    from pylxc.normalise.forms import Normalise

__all__ = [
    "HOST_GATEWAY",
    "HOST_NAME",
    "NORMAL",
    "RLIMITS",
    "UNLIMITED",
    "Device",
    "Port",
    "network_name",
    "read_env_file",
    "signal_name",
    "signal_number",
    "sysctl_path",
]

# Patterns are compiled where they are first used (re keeps them): importing stays cheap.
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_CPUSET = r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*"
_RESTART = r"no|always|unless-stopped|on-failure(?::[0-9]+)?"
_PLATFORM = r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?"
_LOG_FILES_MAX = 1_000_000


def _init(option: str, value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if value != "system":
        raise SpecError(option, value, 'give True for a small init, or "system" for the operating system\'s own')
    return "system"


def _shared(option: str, value: Any) -> str:
    """Return with whom a namespace is shared; docker's "shareable" is what every container's is here."""
    if value in ("private", "shareable", "host"):
        return "private" if value == "shareable" else str(value)
    if isinstance(value, str) and re.fullmatch(r"container:" + CONTAINER, value):
        return value
    raise SpecError(option, value, 'give "private", "host" or "container:NAME"')


def _seccomp(option: str, value: Any) -> str:
    from pylxc.seccomp.programs import normalise  # noqa: PLC0415  only where there is a profile to read

    return normalise(option, value)


def _healthcheck(option: str, value: Any) -> Any:
    from pylxc import health  # noqa: PLC0415  few containers have one of their own

    return health.normalise(option, value)


def _log(option: str, value: Any) -> dict[str, int]:
    remedy = 'give {"max_size": "10m", "max_files": 3}: bytes after which a new file begins, and how many are kept'
    if not isinstance(value, Mapping) or "max_size" not in value or set(value) - {"max_size", "max_files"}:
        raise SpecError(option, value, remedy)
    size, files = parse_size(value["max_size"], option), value.get("max_files", 1)
    if size < 1 or isinstance(files, bool) or not isinstance(files, int) or not 1 <= files <= _LOG_FILES_MAX:
        raise SpecError(option, value, remedy)
    return {"max_size": size, "max_files": files}


NORMAL: dict[str, Normalise] = {
    "image": text,
    "command": words,
    "name": matching(_NAME, "a name is two or more of [a-zA-Z0-9_.-], and starts with a letter or a digit"),
    "hostname": hostname,
    "env": environment,
    "env_file": paths,
    "workdir": lambda option, value: container_path(value, option),
    "user": user,
    "groups": groups,
    "entrypoint": words,
    "labels": labels,
    "mounts": lambda _, value: to_mounts(value),
    "volumes": lambda _, value: to_volumes(value),
    "tmpfs": lambda _, value: to_tmpfs(value),
    "read_only": flag,
    "ports": ports,
    "expose": expose,
    "network": network,
    "ip": one_address(4),
    "ip6": one_address(6),
    "aliases": hostnames,
    "dns": addresses,
    "dns_search": domains,
    "dns_opt": dns_options,
    "extra_hosts": extra_hosts,
    "memory": size,
    "memory_swap": swap,
    "cpus": cpus,
    "cpu_shares": integer(2, 262144),
    "cpuset": matching(_CPUSET, 'give processors as a list, such as "0-3,5"'),
    "pids_limit": integer(-1, 2**31 - 1),
    "io_weight": integer(10, 1000),
    "shm_size": some_size,
    "ulimits": ulimits,
    "oom_score_adj": integer(-1000, 1000),
    "cap_add": capabilities,
    "cap_drop": capabilities,
    "privileged": flag,
    "devices": devices,
    "seccomp": _seccomp,
    "no_new_privileges": flag,
    "userns": choice("private", "host"),
    "pid": _shared,
    "ipc": _shared,
    "uts": _shared,
    "cgroup": choice("private", "host"),
    "sysctls": sysctls,
    "tty": flag,
    "stdin": flag,
    "init": _init,
    "stop_signal": signal_of,
    "stop_timeout": duration,
    "restart": matching(_RESTART, 'give "no", "always", "unless-stopped" or "on-failure[:n]"'),
    "healthcheck": _healthcheck,
    "detach": flag,
    "remove": flag,
    "pull": choice("missing", "always", "never"),
    "platform": matching(_PLATFORM, 'give a platform such as "linux/amd64"'),
    "log": _log,
}
