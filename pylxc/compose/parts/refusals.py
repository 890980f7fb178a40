"""What a Compose file may say and this version of pylxc does not carry out: refused by file, service and key.

Invariant: each key of a service, network, volume, secret or config is known here or in a table of those that carry it
out. What is in neither raises; what has no meaning on one machine (a swarm's settings) is told as a warning.

Source: https://github.com/compose-spec/compose-spec/blob/main/05-services.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.compose.model import Model

# Key -> what to do instead.
REFUSED = {
    "cgroup_parent": "containers have cgroups of their own; limit them with deploy.resources",
    "cpu_count": "it is for Windows; give cpus",
    "cpu_percent": "it is for Windows; give cpus",
    "cpu_rt_period": "real-time scheduling of containers is not supported; leave it out",
    "cpu_rt_runtime": "real-time scheduling of containers is not supported; leave it out",
    "credential_spec": "it is for Windows; leave it out",
    "device_cgroup_rules": "name the devices in devices",
    "gpus": "name the devices in devices",
    "mac_address": "addresses of links follow from the subnet; leave it out",
    "mem_swappiness": "leave it out; memswap_limit limits swap",
    "models": "run the model as a service of its own",
    "oom_kill_disable": "give oom_score_adj",
    "provider": "run it as a service of its own",
    "pull_refresh_after": 'give pull_policy: always, or "missing"',
    "runtime": "pylxc is the runtime; leave it out",
    "storage_opt": "the store has no quotas; leave it out",
    "use_api_socket": "there is no daemon whose socket could be used",
}
# Key -> why it has no effect here; docker compose has none for it either.
WITHOUT_EFFECT = {
    "mem_reservation": "nothing is reserved on one machine",
    "deploy.endpoint_mode": "it is for a swarm",
    "deploy.labels": "they are a swarm service's",
    "deploy.placement": "there is one machine",
    "deploy.resources.reservations": "nothing is reserved on one machine",
    "deploy.rollback_config": "it is for a swarm",
    "deploy.update_config": "it is for a swarm",
}
# What services.py and the others carry out.
CARRIED_OUT = frozenset(
    (
        "annotations",
        "attach",
        "blkio_config",
        "build",
        "cap_add",
        "cap_drop",
        "cgroup",
        "command",
        "configs",
        "container_name",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "cpus",
        "cpuset",
        "depends_on",
        "deploy",
        "develop",
        "devices",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "entrypoint",
        "env_file",
        "environment",
        "expose",
        "external_links",
        "extra_hosts",
        "group_add",
        "healthcheck",
        "hostname",
        "image",
        "init",
        "ipc",
        "isolation",
        "labels",
        "links",
        "logging",
        "mem_limit",
        "memswap_limit",
        "network_mode",
        "networks",
        "oom_score_adj",
        "pid",
        "pids_limit",
        "platform",
        "ports",
        "post_start",
        "pre_stop",
        "privileged",
        "profiles",
        "pull_policy",
        "read_only",
        "restart",
        "scale",
        "secrets",
        "security_opt",
        "shm_size",
        "stdin_open",
        "stop_grace_period",
        "stop_signal",
        "sysctls",
        "tmpfs",
        "tty",
        "ulimits",
        "user",
        "userns_mode",
        "uts",
        "volumes",
        "volumes_from",
        "working_dir",
        "label_file",
        "extends",
    )
)
# Path of a mapping -> the keys of it that are carried out.
_INSIDE = {
    "blkio_config": {"weight"},
    "deploy": {"mode", "replicas", "resources", "restart_policy"},
    "deploy.resources": {"limits"},
    "deploy.resources.limits": {"cpus", "memory", "pids"},
    "deploy.restart_policy": {"condition", "max_attempts"},
    "logging": {"driver", "options"},
    "logging.options": {"max-size", "max-file"},
}
_OF_LINK = {"aliases", "priority", "gw_priority", "ipv4_address", "ipv6_address"}
_OF_NETWORK = {"name", "driver", "ipam", "internal", "attachable", "enable_ipv4", "enable_ipv6", "external", "labels"}
_OF_VOLUME = {"name", "driver", "driver_opts", "external", "labels"}
_OF_CONTENT = {"name", "file", "environment", "content", "external", "labels"}


def unsupported(model: Model, path: str, remedy: str) -> UnsupportedError:
    """Return the error for something at a path of the file, such as "services.web.gpus"."""
    return UnsupportedError(f"{_file_of(model)}: {path}", remedy)


def _file_of(model: Model) -> str:
    return str(model.files[0]) if model.files else model.name


def check(model: Model, names: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return warnings about what has no effect in these services; raise UnsupportedError for what is refused."""
    warnings: list[str] = []
    for name, service in names.items():
        for key, value in service.items():
            if not value or key.startswith("x-"):
                continue
            warnings += _check_key(model, f"services.{name}", key, value)
        for link, given in (service.get("networks") or {}).items():
            _only(model, f"services.{name}.networks.{link}", given or {}, _OF_LINK)
    for kind, known in (("networks", _OF_NETWORK), ("volumes", _OF_VOLUME)):
        for name, given in (model.document.get(kind) or {}).items():
            _only(model, f"{kind}.{name}", given or {}, known)
    for kind in ("secrets", "configs"):
        for name, given in (model.document.get(kind) or {}).items():
            _only(model, f"{kind}.{name}", given or {}, _OF_CONTENT)
    return warnings


def _only(model: Model, path: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key, value in given.items():
        if value and key not in known and not key.startswith("x-"):
            raise unsupported(model, f"{path}.{key}", f"it is not carried out; there are {', '.join(sorted(known))}")


def _check_key(model: Model, place: str, key: str, value: Any) -> Iterator[str]:
    """Yield the warnings about a key and what is in it."""
    if key in WITHOUT_EFFECT:
        yield f"{place}.{key} has no effect: {WITHOUT_EFFECT[key]}"
    elif key in REFUSED:
        raise unsupported(model, f"{place}.{key}", REFUSED[key])
    elif key not in CARRIED_OUT:
        raise unsupported(model, f"{place}.{key}", "this version of pylxc does not know it; leave it out")
    elif key in _INSIDE:
        yield from _check_inside(model, place, key, value)


def _check_inside(model: Model, place: str, path: str, value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        below = f"{path}.{key}"
        if not inner or key.startswith("x-"):
            continue
        if below in WITHOUT_EFFECT:
            yield f"{place}.{below} has no effect: {WITHOUT_EFFECT[below]}"
        elif key not in _INSIDE[path]:
            known = ", ".join(sorted(_INSIDE[path]))
            if below not in ("deploy.restart_policy.delay", "deploy.restart_policy.window"):
                raise unsupported(model, f"{place}.{below}", f"it is not carried out; there are {known}")
            yield f"{place}.{below} has no effect: pauses between restarts are pylxc's own"
        elif below in _INSIDE:
            yield from _check_inside(model, place, below, inner)
