"""What may stand in a Compose file: each key, and what its value must be.

A table, to be read beside the Compose specification, whose order of words it keeps. Invariant: a key that is not in it
is refused, with the nearest one that is; a value that is read has the one form that the model gives it.
Source: Compose specification, 05-services.md to 09-secrets.md, build.md, deploy.md and develop.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pylxc.compose.files import shorthand as short
from pylxc.compose.files.kinds import (
    anything,
    duration,
    flag,
    flag_or_text,
    integer,
    integer_within,
    list_of,
    map_of,
    number,
    one_of,
    one_or_list_of,
    pairs,
    record,
    scalar_text,
    size,
    strict_flag,
    text,
    text_or_none,
    word,
)
from pylxc.compose.files.shorthand import either, made, named
from pylxc.compose.syntax.tree import At, List, Map

if TYPE_CHECKING:
    from pylxc.compose.files.kinds import Reader

NAME = r"[a-zA-Z0-9._-]+"
_BIG = 2**63 - 1
LABELS = pairs(nothing="")
VARIABLES = pairs(nothing=None)
TEXTS = list_of(text)
DISTINCT = list_of(text, unique=True)
SOME_TEXTS = one_or_list_of(text, unique=False)
OPTIONS = map_of(scalar_text)
PERCENT = integer_within(0, 100)
COUNT = integer_within(0, _BIG)


def _option(value: Any, at: At) -> str | None:
    return None if value is None else scalar_text(value, at)


def _developed(reader: Reader) -> Reader:
    """Make a reader of what may be left empty."""

    def read_it(value: Any, at: At) -> Any:
        return None if value is None else reader(value, at)

    return read_it


def _started(at: At) -> Map:
    return made(at, condition="service_started", required=True)


# -- services ----------------------------------------------------------------------------------------------------------

FILE_MOUNT = either(
    lambda value, at: made(at, source=text(value, at)),
    record({"source": text, "target": text, "uid": text, "gid": text, "mode": short.file_mode}),
)

BUILD = either(
    lambda value, at: made(at, context=text(value, at)),
    record(
        {
            "additional_contexts": LABELS,
            "args": VARIABLES,
            "cache_from": TEXTS,
            "cache_to": TEXTS,
            "context": text,
            "dockerfile": text,
            "dockerfile_inline": text,
            "entitlements": TEXTS,
            "extra_hosts": short.extra_hosts,
            "isolation": text,
            "labels": LABELS,
            "network": text,
            "no_cache": flag,
            "platforms": TEXTS,
            "privileged": flag,
            "provenance": flag_or_text,
            "pull": flag,
            "sbom": flag_or_text,
            "secrets": list_of(FILE_MOUNT),
            "shm_size": size,
            "ssh": short.ssh,
            "tags": TEXTS,
            "target": text,
            "ulimits": map_of(short.limit),
        }
    ),
)

BLKIO_LIMITS = list_of(record({"path": text, "rate": size}, extensible=False))

BLKIO = record(
    {
        "device_read_bps": BLKIO_LIMITS,
        "device_read_iops": BLKIO_LIMITS,
        "device_write_bps": BLKIO_LIMITS,
        "device_write_iops": BLKIO_LIMITS,
        "weight": integer_within(0, 1000),
        "weight_device": list_of(record({"path": text, "weight": integer_within(0, 1000)}, extensible=False)),
    },
    extensible=False,
)

HOOK = record(
    {
        "command": short.command,
        "environment": VARIABLES,
        "privileged": flag,
        "user": text,
        "working_dir": text,
    }
)

DEVICE_REQUEST = record(
    {
        "capabilities": DISTINCT,
        "count": short.count,
        "device_ids": DISTINCT,
        "driver": text,
        "options": LABELS,
    }
)


def _gpus(value: Any, at: At) -> List:
    if value != "all":
        return list_of(DEVICE_REQUEST)(value, at)  # type: ignore[no-any-return]
    found = List(at.place)
    found.add(made(at, count=-1))
    return found


_ROLLOUT = record(
    {
        "delay": duration,
        "failure_action": text,
        "max_failure_ratio": number,
        "monitor": duration,
        "order": one_of("start-first", "stop-first"),
        "parallelism": COUNT,
    }
)

DEPLOY = record(
    {
        "endpoint_mode": text,
        "labels": LABELS,
        "mode": text,
        "placement": record(
            {
                "constraints": TEXTS,
                "max_replicas_per_node": COUNT,
                "preferences": list_of(record({"spread": text})),
            }
        ),
        "replicas": COUNT,
        "resources": record(
            {
                "limits": record({"cpus": number, "memory": size, "pids": integer}),
                "reservations": record(
                    {
                        "cpus": number,
                        "devices": list_of(DEVICE_REQUEST),
                        "generic_resources": list_of(
                            record({"discrete_resource_spec": record({"kind": text, "value": integer})})
                        ),
                        "memory": size,
                    }
                ),
            }
        ),
        "restart_policy": record(
            {
                "condition": text,
                "delay": duration,
                "max_attempts": COUNT,
                "window": duration,
            }
        ),
        "rollback_config": _ROLLOUT,
        "update_config": _ROLLOUT,
    }
)

DEVELOP = record(
    {
        "watch": list_of(
            record(
                {
                    "action": one_of("rebuild", "restart", "sync", "sync+restart", "sync+exec"),
                    "exec": HOOK,
                    "ignore": SOME_TEXTS,
                    "include": SOME_TEXTS,
                    "initial_sync": strict_flag,
                    "path": text,
                    "target": text,
                }
            )
        )
    }
)

HEALTHCHECK = record(
    {
        "disable": flag,
        "interval": duration,
        "retries": COUNT,
        "start_interval": duration,
        "start_period": duration,
        "test": short.health_test,
        "timeout": duration,
    }
)

MOUNT = either(
    short.short_mount,
    record(
        {
            "bind": record(
                {
                    "create_host_path": flag,
                    "propagation": text,
                    "recursive": one_of("enabled", "disabled", "writable", "readonly"),
                    "selinux": one_of("z", "Z"),
                }
            ),
            "consistency": text,
            "image": record({"subpath": text}),
            "read_only": flag,
            "source": text,
            "target": short.clean_target,
            "tmpfs": record({"mode": integer, "size": size}),
            "type": one_of("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
            "volume": record({"labels": LABELS, "nocopy": flag, "subpath": text}),
        }
    ),
)

ATTACHMENT = record(
    {
        "aliases": DISTINCT,
        "driver_opts": OPTIONS,
        "gw_priority": short.priority,
        "interface_name": text,
        "ipv4_address": text,
        "ipv6_address": text,
        "link_local_ips": DISTINCT,
        "mac_address": text,
        "priority": short.priority,
    }
)

DEPENDENCY = record(
    {
        "condition": one_of("service_started", "service_healthy", "service_completed_successfully"),
        "required": strict_flag,
        "restart": flag,
    }
)


def _policy(value: Any, at: At) -> str:
    words = text(value, at)
    known = ("always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly")
    if words not in known and not words.startswith("every_"):
        raise at.error(f"{words!r} is no pull policy: {', '.join(known)}, or every_ and a duration")
    if words.startswith("every_"):
        duration(words.removeprefix("every_"), at)
    return "missing" if words == "if_not_present" else words


def _container_name(value: Any, at: At) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", text(value, at)):
        raise at.error(f"{value!r} is no name of a container: letters, digits, '_', '.' and '-', at least two of them")
    return str(value)


def _env_files(value: Any, at: At) -> List:
    entry = either(
        lambda value, at: made(at, path=text(value, at)),
        record({"format": text, "path": text, "required": flag}, extensible=False),
    )
    return one_or_list_of(entry, unique=False)(value, at)  # type: ignore[no-any-return]


def _option_list(value: Any, at: At) -> List:
    if isinstance(value, List):
        return list_of(_scalar)(value, at)  # type: ignore[no-any-return]
    found = List(at.place)
    found.add(_scalar(value, at))
    return found


def _scalar(value: Any, at: At) -> str:
    return flag_or_text(value, at) if isinstance(value, bool) else scalar_text(value, at)


SERVICE_KEYS: dict[str, Reader] = {
    "annotations": LABELS,
    "attach": flag,
    "blkio_config": BLKIO,
    "build": BUILD,
    "cap_add": TEXTS,
    "cap_drop": TEXTS,
    "cgroup": one_of("host", "private"),
    "cgroup_parent": text,
    "command": short.command,
    "configs": list_of(FILE_MOUNT),
    "container_name": _container_name,
    "cpu_count": COUNT,
    "cpu_percent": PERCENT,
    "cpu_period": integer,
    "cpu_quota": integer,
    "cpu_rt_period": integer,
    "cpu_rt_runtime": integer,
    "cpu_shares": integer,
    "cpus": number,
    "cpuset": text,
    "credential_spec": record({"config": text, "file": text, "registry": text}),
    "depends_on": named(map_of(DEPENDENCY, NAME), _started),
    "deploy": _developed(DEPLOY),
    "develop": _developed(DEVELOP),
    "device_cgroup_rules": DISTINCT,
    "devices": list_of(
        either(short.short_device, record({"permissions": text, "source": text, "target": text})),
    ),
    "dns": short.filled,
    "dns_opt": TEXTS,
    "dns_search": SOME_TEXTS,
    "domainname": text,
    "entrypoint": short.command,
    "env_file": _env_files,
    "environment": VARIABLES,
    "expose": list_of(word),
    "extends": either(
        lambda value, at: made(at, service=text(value, at)),
        record({"file": text, "service": text}, extensible=False),
    ),
    "external_links": DISTINCT,
    "extra_hosts": short.extra_hosts,
    "gpus": _gpus,
    "group_add": list_of(word, unique=True),
    "healthcheck": HEALTHCHECK,
    "hostname": text,
    "image": text,
    "init": flag,
    "ipc": text,
    "isolation": text,
    "label_file": SOME_TEXTS,
    "labels": LABELS,
    "links": list_of(short.link),
    "logging": record({"driver": text, "options": map_of(_option)}),
    "mac_address": text,
    "mem_limit": size,
    "mem_reservation": size,
    "mem_swappiness": size,
    "memswap_limit": size,
    "models": named(map_of(_developed(record({"endpoint_var": text, "model_var": text})), NAME), lambda _: None),
    "network_mode": text,
    "networks": named(map_of(_developed(ATTACHMENT), NAME), lambda _: None),
    "oom_kill_disable": flag,
    "oom_score_adj": integer_within(-1000, 1000),
    "pid": text_or_none,
    "pids_limit": integer,
    "platform": text,
    "ports": short.ports,
    "post_start": list_of(HOOK),
    "pre_stop": list_of(HOOK),
    "privileged": flag,
    "profiles": TEXTS,
    "provider": record({"options": map_of(_option_list), "type": text}),
    "pull_policy": _policy,
    "pull_refresh_after": text,
    "read_only": flag,
    "restart": text,
    "runtime": text,
    "scale": COUNT,
    "secrets": list_of(FILE_MOUNT),
    "security_opt": DISTINCT,
    "shm_size": size,
    "stdin_open": flag,
    "stop_grace_period": duration,
    "stop_signal": text,
    "storage_opt": map_of(_option),
    "sysctls": LABELS,
    "tmpfs": SOME_TEXTS,
    "tty": flag,
    "ulimits": map_of(short.limit),
    "use_api_socket": strict_flag,
    "user": text,
    "userns_mode": text,
    "uts": text,
    "volumes": list_of(MOUNT),
    "volumes_from": DISTINCT,
    "working_dir": text,
}

SERVICE = record(SERVICE_KEYS)

# -- what services share -----------------------------------------------------------------------------------------------

NETWORK = record(
    {
        "attachable": flag,
        "driver": text,
        "driver_opts": OPTIONS,
        "enable_ipv4": flag,
        "enable_ipv6": flag,
        "external": short.external,
        "internal": flag,
        "ipam": record(
            {
                "config": list_of(
                    record({"aux_addresses": map_of(text), "gateway": text, "ip_range": text, "subnet": text})
                ),
                "driver": text,
                "options": map_of(text),
            }
        ),
        "labels": LABELS,
        "name": text,
    }
)

VOLUME = record(
    {
        "driver": text,
        "driver_opts": OPTIONS,
        "external": short.external,
        "labels": LABELS,
        "name": text,
    }
)

# What secrets and configs have both.
_CONTENT: dict[str, Reader] = {
    "environment": text,
    "external": short.external,
    "file": text,
    "labels": LABELS,
    "name": text,
    "template_driver": text,
}
SECRET = record({**_CONTENT, "driver": text, "driver_opts": OPTIONS})
CONFIG = record({**_CONTENT, "content": text})

MODEL = record({"context_size": integer, "model": text, "name": text, "runtime_flags": TEXTS})

INCLUDE = either(
    lambda value, at: made(at, path=short.one_to_list(text(value, at), at)),
    record({"env_file": SOME_TEXTS, "path": SOME_TEXTS, "project_directory": text}, extensible=False),
)

FILE = record(
    {
        "configs": map_of(CONFIG, NAME),
        "include": list_of(INCLUDE),
        "models": map_of(MODEL, NAME),
        "name": text,
        "networks": map_of(_developed(NETWORK), NAME),
        "secrets": map_of(SECRET, NAME),
        "services": map_of(SERVICE, NAME),
        "version": text,
        "volumes": map_of(_developed(VOLUME), NAME),
    }
)

# Where two items of a sequence are the same thing, and the later one counts: path (* is any name), and what names it.
RESOURCES = ("networks", "volumes", "secrets", "configs", "models")

__all__ = ["FILE", "NAME", "RESOURCES", "SERVICE", "SERVICE_KEYS", "anything"]
