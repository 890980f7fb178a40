"""One file laid over another.

Hides the rules by which each key is merged. Invariant: neither tree is changed; of what stands in both, the later one
counts, mappings are merged key by key, and items of sequences that are the same thing (a port, a mount's target) are
there once.
Source: Compose specification, 13-merge.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylxc.compose.syntax.tree import RESET, List, Map, Override

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Key = Callable[[Any], Hashable]

Path = tuple[str, ...]


def _itself(item: Any) -> Hashable:
    return str(item)


def _target(item: Any) -> Hashable:
    return str(item.get("target"))


def _port(item: Any) -> Hashable:
    host, protocol = item.get("host_ip", "0.0.0.0"), item.get("protocol", "tcp")  # noqa: S104  compared, not bound
    return (host, item.get("published", ""), item.get("target"), protocol)


def _mounted_at(directory: str) -> Key:
    def key(item: Any) -> Hashable:
        return item.get("target") or f"{directory}/{item.get('source')}"

    return key


def _host(item: Any) -> Hashable:
    return str(item)


# Sequences whose items are named by something, and by what.
_UNIQUE: dict[Path, Key] = {
    ("services", "*", "build", "platforms"): _itself,
    ("services", "*", "build", "tags"): _itself,
    ("services", "*", "cap_add"): _itself,
    ("services", "*", "cap_drop"): _itself,
    ("services", "*", "configs"): _mounted_at(""),
    ("services", "*", "devices"): _target,
    ("services", "*", "dns"): _itself,
    ("services", "*", "dns_opt"): _itself,
    ("services", "*", "dns_search"): _itself,
    ("services", "*", "env_file"): lambda item: str(item.get("path")),
    ("services", "*", "expose"): _itself,
    ("services", "*", "extra_hosts"): _host,
    ("services", "*", "links"): _itself,
    ("services", "*", "networks", "*", "aliases"): _itself,
    ("services", "*", "networks", "*", "link_local_ips"): _itself,
    ("services", "*", "ports"): _port,
    ("services", "*", "profiles"): _itself,
    ("services", "*", "secrets"): _mounted_at("/run/secrets"),
    ("services", "*", "tmpfs"): _itself,
    ("services", "*", "volumes"): _target,
}
# What a later file replaces as a whole.
_REPLACED: frozenset[Path] = frozenset(
    {
        ("services", "*", "command"),
        ("services", "*", "entrypoint"),
        ("services", "*", "healthcheck", "test"),
        ("services", "*", "ulimits", "*"),
        ("services", "*", "build", "ulimits", "*"),
    }
)
# What holds variables: one without a value takes it from the environment, and that is said.
_VARIABLES: frozenset[Path] = frozenset({("services", "*", "environment"), ("services", "*", "build", "args")})
_NAMED = frozenset({"services", "networks", "volumes", "secrets", "configs", "models", "ulimits"})


def merged(base: Any, over: Any, path: Path = ()) -> Any:
    """Return ``over`` laid over ``base``; ``path`` is where both stand ("*" for the name of a thing)."""
    if isinstance(over, Override):
        return over.value
    if over is RESET or path in _REPLACED or base is None:
        return over
    if over is None:  # a key without a value says nothing, but of a variable
        return None if path[:-1] in _VARIABLES else base
    return _merged_values(base.value if isinstance(base, Override) else base, over, path)


def _merged_values(base: Any, over: Any, path: Path) -> Any:
    if isinstance(base, Map) and isinstance(over, Map):
        is_logging = path == ("services", "*", "logging")
        return _merged_logging(base, over, path) if is_logging else _merged_maps(base, over, path)
    if isinstance(base, List) and isinstance(over, List):
        both = List(over.place)
        for item, place in (*base.items_with_places(), *over.items_with_places()):
            both.add(item, place)
        return distinct(both, path)
    return over


def _merged_maps(base: Map, over: Map, path: Path) -> Map:
    found = base.copied()
    for key, value in over.items():
        place = over.places.get(key)
        if key not in found or key.startswith("x-"):
            found.put(key, value, place)
        else:
            found.put(key, merged(found[key], value, (*path, _step(path, key))), place)
    return found


def _step(path: Path, key: str) -> str:
    """Return a key as paths here have it: "*" below what holds things by name."""
    is_named = bool(path) and path[-1] in _NAMED and (len(path) == 1 or path[-1] != "services")
    return "*" if is_named else key


def _merged_logging(base: Map, over: Map, path: Path) -> Map:
    """Merge the options of one driver; those of another driver mean nothing to it."""
    drivers = base.get("driver"), over.get("driver")
    return over if None not in drivers and drivers[0] != drivers[1] else _merged_maps(base, over, path)


def distinct(items: List, path: Path) -> List:
    """Return a sequence in which each thing is there once: where the first stood, as the last says."""
    key = _UNIQUE.get(path)
    if key is None:
        return items
    last: dict[Hashable, tuple[Any, Any]] = {}
    for item, place in items.items_with_places():
        value = item.value if isinstance(item, Override) else item
        last[key(value)] = (item, place)
    found = List(items.place)
    for item, place in last.values():
        found.add(item, place)
    return found


def distinct_everywhere(tree: Any, path: Path = ()) -> Any:
    """Return a tree in which each thing of each sequence is there once."""
    if isinstance(tree, Map):
        found = tree.emptied()
        for key, value in tree.items():
            found.put(key, distinct_everywhere(value, (*path, _step(path, key))), tree.places.get(key))
        return found
    if isinstance(tree, Override):
        return Override(distinct_everywhere(tree.value, path))
    return distinct(tree, path) if isinstance(tree, List) else tree
