"""What is implied in a merged file, written out: defaults, names, dependencies, absolute paths.

Hides the defaults of the specification. Invariant: what a file says is never replaced, only what it leaves open is
filled in; a path is resolved once, against one directory.
Source: Compose specification, 05-services.md to 09-secrets.md.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pylxc.compose.files.schema import RESOURCES
from pylxc.compose.syntax.tree import RESET, List, Map, Override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@|github\.com/")
_SERVICE = "service:"


# -- paths -------------------------------------------------------------------------------------------------------------


def absolute(path: str, directory: str) -> str:
    """Return a path of the host as seen from a directory; a leading ``~`` is the user's home."""
    if path == "~" or path.startswith("~/"):
        path = os.path.expanduser("~") + path[1:]  # noqa: PTH111  text in, text out
    return os.path.normpath(os.path.join(directory, path))  # noqa: PTH118  text in, text out


def is_remote(context: str) -> bool:
    """Say whether a build's context is fetched from somewhere."""
    return bool(_REMOTE.match(context))


def resolve_paths(tree: Map, directory: str) -> None:
    """Make the paths of a file absolute, in place: the tree is the caller's own."""

    def resolved(path: str) -> str:
        return absolute(path, directory)

    for service in maps(tree.get("services")):
        _resolve_service(service, resolved)
    for kind in ("secrets", "configs"):
        for resource in maps(tree.get(kind)):
            _resolve_key(resource, "file", resolved)
    for volume in maps(tree.get("volumes")):
        options = bare(volume.get("driver_opts"))
        if volume.get("driver", "local") == "local" and isinstance(options, Map) and options.get("o") == "bind":
            _resolve_key(options, "device", resolved)


def _resolve_service(service: Map, resolved: Callable[[str], str]) -> None:
    for item in maps(service.get("env_file")):
        _resolve_key(item, "path", resolved)
    for mount in maps(service.get("volumes")):
        if bare(mount.get("type")) == "bind":
            _resolve_key(mount, "source", resolved)
    for develop in maps([service.get("develop")]):
        for watch in maps(develop.get("watch")):
            _resolve_key(watch, "path", resolved)
    files = bare(service.get("label_file"))
    if isinstance(files, List):
        files[:] = [resolved(path) if isinstance(path, str) else path for path in files]
    for build in maps([service.get("build")]):
        _resolve_build(build, resolved)


def _resolve_build(build: Map, resolved: Callable[[str], str]) -> None:
    def context(path: str) -> str:
        return path if is_remote(path) or path.startswith(_SERVICE) else resolved(path)

    _resolve_key(build, "context", context)
    for contexts in maps([build.get("additional_contexts")]):
        for name in contexts:
            _resolve_key(contexts, name, context)


def _resolve_key(values: Map, key: str, resolved: Callable[[str], str]) -> None:
    value = values.get(key)
    if isinstance(value, Override) and isinstance(value.value, str):
        values[key] = Override(resolved(value.value))
    elif isinstance(value, str) and value:
        values[key] = resolved(value)


def bare(value: Any) -> Any:
    """Return what stands behind a mark."""
    return None if value is RESET else value.value if isinstance(value, Override) else value


def maps(values: Any) -> Iterator[Map]:
    """Return the mappings among the values of a collection, if it is one, marked ones too."""
    values = bare(values)
    several = values.values() if isinstance(values, Map) else values if isinstance(values, list) else ()
    yield from (one for one in map(bare, several) if isinstance(one, Map))


# -- what is implied ---------------------------------------------------------------------------------------------------


def complete(tree: Map, project: str) -> None:
    """Fill in what a whole file leaves open, in place. ``project``: what names of resources begin with."""
    services = tree.get("services")
    if services is None:
        services = Map(tree.place)
        tree.put("services", services)
    for service in maps(services):
        _complete_service(service)
    networks = tree.get("networks")
    if networks is None:
        networks = Map(tree.place)
        tree.put("networks", networks)
    if "default" not in networks and any("default" in (one.get("networks") or ()) for one in maps(services)):
        networks.put("default", Map(tree.place))
    for kind in RESOURCES:
        for name, resource in list((tree.get(kind) or {}).items()):
            tree[kind][name] = _completed_resource(kind, name, resource, project, tree[kind].place_of(name))


def _completed_resource(kind: str, name: str, resource: Any, project: str, place: Any) -> Map:
    found = resource.copied() if isinstance(resource, Map) else Map(place)
    found.is_record = True
    external = found.get("external")
    if isinstance(external, Map):
        found["external"] = True
        if external.get("name"):
            found.put("name", external["name"])
    if kind != "models" and not found.get("name"):
        found.put("name", name if found.get("external") else f"{project}_{name}")
    if kind == "networks" and "ipam" not in found:
        found.put("ipam", Map(place))
    return found


def _complete_service(service: Map) -> None:
    build = service.get("build")
    if isinstance(build, Map):
        _complete_build(build)
    if not service.get("networks") and not {"network_mode", "provider"} & set(service):
        networks = Map(service.place)
        networks.put("default", None)
        service.put("networks", networks)
    for port in maps(service.get("ports")):
        port.setdefault("mode", "ingress")
        port.setdefault("protocol", "tcp")
    for secret in maps(service.get("secrets")):
        if not secret.get("target"):
            secret["target"] = f"/run/secrets/{secret.get('source')}"
    for request in _device_requests(service):
        if "count" not in request and "device_ids" not in request:
            request["count"] = -1
    _fill_options(service)
    if isinstance(service.get("deploy"), Map):
        service["deploy"].setdefault("resources", Map(service.place))
        service["deploy"].setdefault("placement", Map(service.place))
        if service.get("scale") is not None:
            service["deploy"].setdefault("replicas", service["scale"])
    _complete_dependencies(service)


def _fill_options(service: Map) -> None:
    for options in (service.get("storage_opt"), (service.get("logging") or {}).get("options")):
        if isinstance(options, Map):
            options.update({name: "" for name, value in options.items() if value is None})


def _complete_build(build: Map) -> None:
    if not build.get("dockerfile") and not build.get("dockerfile_inline"):
        build.put("dockerfile", "Dockerfile")
    args = build.get("args") or {}
    for name in [name for name, value in args.items() if value is None]:
        del args[name]


def look_up(tree: Map, lookup: Callable[[str], str | None]) -> None:
    """Give the variables that have no value the one of the environment, in place; where it has none, None stays."""
    for service in maps(tree.get("services")):
        for variables in (service.get("environment"), (service.get("build") or {}).get("args")):
            if isinstance(variables, Map):
                for name in [name for name, value in variables.items() if value is None]:
                    variables[name] = lookup(name)


def _device_requests(service: Map) -> Iterator[Map]:
    yield from maps(service.get("gpus"))
    resources = (service.get("deploy") or {}).get("resources") or {}
    yield from maps((resources.get("reservations") or {}).get("devices"))


def _complete_dependencies(service: Map) -> None:
    """Add the services that are named elsewhere: by links, shared namespaces, volumes of others, build contexts."""
    implied: dict[str, bool] = {}
    for link in service.get("links") or ():
        implied.setdefault(link.partition(":")[0], True)
    for key in NAMESPACES:
        mode = service.get(key) or ""
        if mode.startswith(_SERVICE):
            implied.setdefault(mode.removeprefix(_SERVICE), True)
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            implied.setdefault(source.partition(":")[0], False)
    depends = service.get("depends_on")
    depends = depends if isinstance(depends, Map) else Map(service.place)
    for name, restart in implied.items():
        if name not in depends:
            dependency = Map(service.place)
            dependency.update(condition="service_started", required=True, restart=restart)
            dependency.is_record = True
            depends.put(name, dependency, service.place_of("links"))
    for dependency in maps(depends):
        dependency.setdefault("required", True)
    if depends:
        service.put("depends_on", depends)


# -- the canonical form ------------------------------------------------------------------------------------------------

# Kept in a record although they are as good as nothing: they say something that their absence does not.
_KEPT = frozenset(
    {
        *("attach", "init", "required", "enable_ipv4", "enable_ipv6", "replicas", "scale", "retries", "max_attempts"),
        *(
            "parallelism",
            "blkio_config",
            "healthcheck",
            "ipam",
            "resources",
            "placement",
            "limits",
            "reservations",
            "restart_policy",
        ),
        *("update_config", "rollback_config", "bind", "volume", "image", "tmpfs", "logging", "develop", "deploy"),
    }
)
# Sizes of which nothing is none: no limit, or the default.
_SIZES = frozenset(
    {"mem_limit", "mem_reservation", "mem_swappiness", "memory", "memswap_limit", "rate", "shm_size", "size"}
)


def canonical(tree: Map) -> dict[str, Any]:
    """Return a completed file as plain dictionaries and lists, without what is as good as not said."""
    found: dict[str, Any] = _compact(tree)
    for service in found.setdefault("services", {}).values():
        service.setdefault("command", None)
        service.setdefault("entrypoint", None)
    return found


def _compact(value: Any) -> Any:
    if isinstance(value, Map):
        return {key: _compact(one) for key, one in value.items() if not value.is_record or _says(key, one)}
    return [_compact(one) for one in value] if isinstance(value, list) else value


def _says(key: str, value: Any) -> bool:
    if key in ("command", "entrypoint"):
        return value is not None
    if key.startswith("x-"):
        return True
    if value is None or value in ("", []):
        return False
    return key in _KEPT or (bool(value) and not (value == "0" and key in _SIZES))


def used_resources(services: Mapping[str, Map]) -> dict[str, set[str]]:
    """Return the names of networks, volumes, secrets and configs that these services refer to, by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in RESOURCES}
    for service in services.values():
        found["networks"].update(service.get("networks") or ())
        found["models"].update(service.get("models") or ())
        mounts = maps(service.get("volumes"))
        found["volumes"].update(
            mount["source"] for mount in mounts if mount["type"] == "volume" and mount.get("source")
        )
        for kind in ("secrets", "configs"):
            found[kind].update(one["source"] for one in maps(service.get(kind)) if one.get("source"))
        build = service.get("build") or {}
        found["secrets"].update(one["source"] for one in maps(build.get("secrets")) if one.get("source"))
    return found
