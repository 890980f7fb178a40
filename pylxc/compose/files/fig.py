"""Fig files of 2013, and Compose files of the first version: services at the top, without ``services:``.

Hides how they differ. Invariant: what comes out is a tree of today's form, every value in the place where it stood.
Source: the reference of Fig 1.0, "fig.yml reference"; of Docker Compose, "Compose file version 1".
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pylxc.compose.files.kinds import expected, text
from pylxc.compose.files.shorthand import is_path
from pylxc.compose.syntax.tree import At, List, Map, Place

if TYPE_CHECKING:
    from collections.abc import Callable

# What means today what it meant then.
_SAME = frozenset(
    {
        *("build", "cap_add", "cap_drop", "cgroup_parent", "command", "container_name", "cpu_shares", "cpuset"),
        *("devices", "dns", "dns_search", "domainname", "entrypoint", "env_file", "environment", "expose", "extends"),
        *("external_links", "extra_hosts", "hostname", "image", "ipc", "labels", "links", "mac_address", "mem_limit"),
        *("memswap_limit", "pid", "ports", "privileged", "read_only", "restart", "security_opt", "stdin_open"),
        *("stop_signal", "tty", "ulimits", "user", "working_dir"),
    }
)
_CHANGED = frozenset({"dockerfile", "log_driver", "log_opt", "net", "volumes", "volumes_from"})
_NOT_SERVICES = frozenset({"include", "services"})


def is_fig(tree: Any) -> bool:
    """Say whether a file is of the old form: no ``services:``, but a mapping at the top has an image or a build."""
    if not isinstance(tree, Map) or _NOT_SERVICES & set(tree):
        return False
    tops = [value for key, value in tree.items() if isinstance(value, Map) and not key.startswith("x-")]
    return any(isinstance(value.get(key), str) for value in tops for key in ("image", "build"))


def modernised(tree: Map) -> Map:
    """Return a file of the old form in today's. Raises ComposeError."""
    services = Map(tree.place)
    for name, service in tree.items():
        at = At((), tree.place).inside(tree, name)
        if not isinstance(service, Map):
            raise expected("a service, which is a mapping,", service, at)
        services.put(name, _service(service, at, tree), at.place)
    found = Map(tree.place)
    found.put("services", services, tree.place)
    return found


def _service(old: Map, at: At, tree: Map) -> Map:
    if "image" in old and "build" in old:
        raise at.error("it has an image and a build: one of them, not both")
    if not {"image", "build", "extends"} & set(old):
        raise at.error("it has neither an image nor a build: give one")
    found = Map(old.place)
    for key, value in old.items():
        inside = at.inside(old, key)
        if key in _SAME:
            found.put(key, value, inside.place)
        elif key in _CHANGED:
            _CHANGES[key](found, value, inside, tree)
        else:
            near = difflib.get_close_matches(key, _SAME | _CHANGED, 1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise inside.error(f"{key!r} is not known in a file without services:{hint}")
    return found


def _net(found: Map, value: Any, at: At, tree: Map) -> None:
    kind, colon, name = text(value, at).partition(":")
    is_service = kind == "container" and bool(colon) and name in tree
    found.put("network_mode", f"service:{name}" if is_service else value, at.place)


def _volumes(found: Map, value: Any, at: At, tree: Map) -> None:  # noqa: ARG001  as the others
    """Volumes had no names then: what stands before the colon is a directory."""
    if not isinstance(value, List):
        raise expected("a sequence", value, at)
    mounts = List(value.place)
    for index, (item, place) in enumerate(value.items_with_places()):
        words = text(item, At((*at.path, index), place))
        mounts.add(f"./{words}" if ":" in words and not is_path(words) else words, place)
    found.put("volumes", mounts, at.place)


def _volumes_from(found: Map, value: Any, at: At, tree: Map) -> None:
    """Name what is not a service as a container, as is done today."""
    if not isinstance(value, List):
        raise expected("a sequence", value, at)
    sources = List(value.place)
    for index, (item, place) in enumerate(value.items_with_places()):
        words = text(item, At((*at.path, index), place))
        sources.add(words if words.partition(":")[0] in tree else f"container:{words}", place)
    found.put("volumes_from", sources, at.place)


def _dockerfile(found: Map, value: Any, at: At, tree: Map) -> None:  # noqa: ARG001
    build = _section(found, "build", at.place)
    build.put("dockerfile", value, at.place)


def _section(found: Map, key: str, place: Place) -> Map:
    """Return a section of the new form; a build that is only a directory becomes one."""
    section = found.get(key)
    if isinstance(section, Map):
        return section
    made = Map(place)
    if isinstance(section, str):
        made.put("context", section, found.place_of(key))
    found.put(key, made, place)
    return made


def _log_driver(found: Map, value: Any, at: At, tree: Map) -> None:  # noqa: ARG001
    _section(found, "logging", at.place).put("driver", value, at.place)


def _log_opt(found: Map, value: Any, at: At, tree: Map) -> None:  # noqa: ARG001
    _section(found, "logging", at.place).put("options", value, at.place)


_CHANGES: dict[str, Callable[[Map, Any, At, Map], None]] = {
    "dockerfile": _dockerfile,
    "log_driver": _log_driver,
    "log_opt": _log_opt,
    "net": _net,
    "volumes": _volumes,
    "volumes_from": _volumes_from,
}
