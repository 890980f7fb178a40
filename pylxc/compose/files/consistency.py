"""What no single value shows: names that nothing bears, and keys that contradict each other.

Invariant: only what is active is looked at; the error names the line that refers.
Source: Compose specification, 05-services.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylxc.compose.syntax.tree import List, Map, locate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pylxc.errors import ComposeError

_SOURCES = {"secrets": ("file", "environment"), "configs": ("file", "environment", "content")}
# A key of a service, and the key of its deploy section that says the same.
_TWINS = (
    ("scale", ("replicas",)),
    ("cpus", ("resources", "limits", "cpus")),
    ("mem_limit", ("resources", "limits", "memory")),
    ("pids_limit", ("resources", "limits", "pids")),
    ("mem_reservation", ("resources", "reservations", "memory")),
)
_REQUESTS = ("services", "*", "deploy", "resources", "reservations", "devices", "*")
# What mappings must have, by their path.
_NEEDED = (
    (("services", "*", "depends_on", "*"), ("condition",)),
    (("services", "*", "ports", "*"), ("target",)),
    (("services", "*", "devices", "*"), ("source", "target")),
    (("services", "*", "env_file", "*"), ("path",)),
    (("services", "*", "volumes", "*"), ("type", "target")),
    (("services", "*", "ulimits", "*"), ("soft", "hard")),
    (("services", "*", "build", "ulimits", "*"), ("soft", "hard")),
    (("services", "*", "post_start", "*"), ("command",)),
    (("services", "*", "pre_stop", "*"), ("command",)),
    (("services", "*", "develop", "watch", "*"), ("path", "action")),
    (("services", "*", "provider"), ("type",)),
    (_REQUESTS, ("capabilities",)),
    (("models", "*"), ("model",)),
)


def check(tree: Map, disabled: Collection[str]) -> None:
    """Raise ComposeError for the first contradiction. ``disabled``: services that are known, but not active."""
    for name, service in tree["services"].items():
        _check_service(tree, name, service)
        _check_dependencies(tree, name, service, disabled)
    _check_resources(tree)
    _check_cycles(tree)
    _check_container_names(tree)


def _error(tree: Map, reason: str, *path: str | int) -> ComposeError:
    return locate(tree, path).error(reason)


def _check_service(tree: Map, name: str, service: Map) -> None:
    at = ("services", name)
    if not service.get("image") and "build" not in service and "provider" not in service:
        raise _error(tree, "it has neither an image nor a build: give one", *at)
    if service.get("network_mode") and service.get("networks"):
        raise _error(tree, "network_mode and networks exclude each other", *at, "network_mode")
    _check_twins(tree, name, service)
    for kind, one, path in _references(service):
        if one not in (tree.get(kind) or ()):
            raise _error(tree, f"{one!r} is not defined: add it to the {kind} of the file", *at, *path)
    build = service.get("build") or {}
    if build.get("dockerfile") and build.get("dockerfile_inline"):
        raise _error(tree, "dockerfile and dockerfile_inline exclude each other", *at, "build", "dockerfile_inline")
    for label, context in (build.get("additional_contexts") or {}).items():
        kind, _, other = context.partition(":")
        if kind == "service" and "build" not in (tree["services"].get(other) or ()):
            raise _error(
                tree, f"there is no service {other!r} that is built", *at, "build", "additional_contexts", label
            )


def _references(service: Map) -> Iterator[tuple[str, Any, tuple[str | int, ...]]]:
    """Yield what a service refers to: the kind, the name, and the path in the service that says it."""
    for kind in ("networks", "models"):
        for one in service.get(kind) or ():
            yield kind, one, (kind, one)
    for kind in ("secrets", "configs"):
        for index, one in enumerate(service.get(kind) or ()):
            yield kind, one.get("source"), (kind, index)
    for index, one in enumerate((service.get("build") or {}).get("secrets") or ()):
        yield "secrets", one.get("source"), ("build", "secrets", index)
    for index, mount in enumerate(service.get("volumes") or ()):
        if mount["type"] == "volume" and mount.get("source"):
            yield "volumes", mount["source"], ("volumes", index)


def _check_twins(tree: Map, name: str, service: Map) -> None:
    for key, path in _TWINS:
        twin: Any = service.get("deploy")
        for part in path:
            twin = twin.get(part) if isinstance(twin, Map) else None
        if twin is not None and service.get(key) not in (None, twin):
            raise _error(tree, f"it and deploy.{'.'.join(path)} are not the same: leave one out", "services", name, key)


def _check_dependencies(tree: Map, name: str, service: Map, disabled: Collection[str]) -> None:
    for other, dependency in (service.get("depends_on") or {}).items():
        if other in tree["services"] or (other in disabled and not dependency.get("required")):
            continue
        reason = (
            f"{other!r} is not active: activate one of its profiles" if other in disabled else f"no service {other!r}"
        )
        raise _error(tree, reason, "services", name, "depends_on", other)


def _check_resources(tree: Map) -> None:
    for kind, sources in _SOURCES.items():
        for name, resource in (tree.get(kind) or {}).items():
            given = [source for source in sources if source in resource]
            if len(given) > 1:
                raise _error(tree, f"{' and '.join(given)} exclude each other", kind, name)
            if not given and not resource.get("external") and "driver" not in resource:
                raise _error(tree, f"one of {', '.join(sources)} must be given", kind, name)
    for name, volume in (tree.get("volumes") or {}).items():
        if volume.get("external"):
            for key in ("driver", "driver_opts", "labels"):
                if volume.get(key):
                    raise _error(tree, f"a volume that is made elsewhere has no {key} here", "volumes", name, key)


def _check_cycles(tree: Map) -> None:
    """Raise ComposeError where a service comes, at the end of a chain, to depend on itself."""
    depends = {name: list(service.get("depends_on") or ()) for name, service in tree["services"].items()}
    done: set[str] = set()
    for start in sorted(depends):
        chain, pending = {start: None}, [iter(depends[start])]  # a chain in its order, found in at once
        while pending:
            following = next(pending[-1], None)
            if following is None:
                pending.pop()
                done.add(chain.popitem()[0])
            elif following in chain:
                names = list(chain)
                ring = " -> ".join([*names[names.index(following) :], following])
                raise _error(tree, f"a ring of dependencies: {ring}", "services", names[-1], "depends_on", following)
            elif following not in done and following in depends:
                chain[following] = None
                pending.append(iter(depends[following]))


def _check_container_names(tree: Map) -> None:
    users: dict[str, str] = {}
    for name, service in tree["services"].items():
        container = service.get("container_name")
        if not container:
            continue
        if container in users:
            raise _error(tree, f"{users[container]!r} has that name already", "services", name, "container_name")
        users[container] = name
        replicas = service.get("scale", (service.get("deploy") or {}).get("replicas", 1))
        if replicas is not None and replicas > 1:
            raise _error(tree, f"{replicas} containers cannot have one name", "services", name, "container_name")


def check_shapes(tree: Map) -> None:
    """Raise ComposeError where something is missing that a mapping must have, in whichever file it was to be."""
    for pattern, keys in _NEEDED:
        for path, value in _matching(tree, pattern):
            for key in keys if isinstance(value, Map) else ():
                if value.get(key) in (None, ""):
                    raise _error(tree, f"{key} must be given", *path)
    for path, mount in _matching(tree, ("services", "*", "volumes", "*")):
        if mount["type"] == "bind" and not mount.get("source"):
            raise _error(tree, "source must be given", *path)
    for path, request in _matching(tree, _REQUESTS):
        if "count" in request and "device_ids" in request:
            raise _error(tree, "count and device_ids exclude each other", *path)


def _matching(
    tree: Any, pattern: tuple[str, ...], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield what stands in the places that a path names, "*" being every key or item."""
    if not pattern:
        yield path, tree
        return
    head, rest = pattern[0], pattern[1:]
    if isinstance(tree, Map):
        keys: Iterable[str | int] = tree if head == "*" else [head] if head in tree else []
    else:
        keys = range(len(tree)) if head == "*" and isinstance(tree, List) else []
    for key in keys:
        yield from _matching(tree[key], rest, (*path, key))
