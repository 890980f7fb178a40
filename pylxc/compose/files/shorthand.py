"""The short forms of the Compose specification, each turned into its long form.

Hides how ports, mounts, devices, hosts and commands are written in one word. Invariant: what comes out is what the long
form would have given; nothing is looked up, and no path is made absolute here.
Source: Compose specification, 05-services.md.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import TYPE_CHECKING, Any

from pylxc.compose.files import kinds
from pylxc.compose.files.kinds import expected, list_of, record, text
from pylxc.compose.syntax.tree import RESET, At, List, Map
from pylxc.compose.syntax.words import SplitError, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.compose.files.kinds import Reader

_PORT_LIMIT = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROPAGATIONS = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
_MOUNT_PARTS = 3
_DEVICE_PARTS = 3


def made(at: At, **values: Any) -> Map:
    """Return a mapping that stands where its short form does. Values that are None are left out."""
    found = Map(at.place)
    found.is_record = True
    for key, value in values.items():
        if value is not None:
            found.put(key, value, at.place)
    return found


def either(short: Reader, long: Reader) -> Reader:
    """Make a reader of what has a short form, and a long one that is a mapping."""

    def reader(value: Any, at: At) -> Any:
        return long(value, at) if isinstance(value, Map) else short(value, at)

    return reader


def named(reader: Reader, nothing: Any, *, unique: bool = True) -> Reader:
    """Make a reader of things by name: a mapping, or a sequence of names. ``nothing()``: what a name alone says."""

    def names(value: Any, at: At) -> Map:
        found = Map(at.place)
        items = list_of(text, unique=unique)(value, at)
        for name, place in items.items_with_places():
            found.put(name, nothing(At((*at.path, name), place)), place)
        return found

    return either(names, reader)


def command(value: Any, at: At) -> List | None:
    """Read a command: a sequence of words, or one text that is split."""
    if value is None:
        return None
    if isinstance(value, List):
        return list_of(text)(value, at)  # type: ignore[no-any-return]
    found = List(at.place)
    try:
        words, _ = split(text(value, at))
    except SplitError as error:
        raise at.error(str(error)) from None
    for word in words:
        found.add(word)
    return found


def health_test(value: Any, at: At) -> List:
    """Read the test of a health check: a text is for a shell."""
    if isinstance(value, List):
        words: List = list_of(text)(value, at)
        if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
            raise at.error(f'it begins with "NONE", "CMD" or "CMD-SHELL", not with {words[0]!r}')
        return words
    found = List(at.place)
    found.add("CMD-SHELL")
    found.add(text(value, at))
    return found


# -- ports -------------------------------------------------------------------------------------------------------------


def port_number(value: Any, at: At) -> int:
    """Read a port."""
    number = kinds.integer(value, at)
    if not 0 <= number <= _PORT_LIMIT:
        raise at.error(f"a port lies between 0 and {_PORT_LIMIT}, not {number}")
    return number


def ports(value: Any, at: At) -> List:
    """Read what is published: every item may be a number, a short form (of several ports), or a mapping."""
    items = kinds.items_of(value, at)
    found = List(value.place)
    for item, inside in items:
        several = [_PORT(item, inside)] if isinstance(item, Map) else _short_ports(item, inside)
        for port in several:
            found.add(port, inside.place)
    return found


def _published(value: Any, at: At) -> str:
    words = kinds.scalar_text(value, at)
    if words and not _RANGE.fullmatch(words):
        raise expected("a port or a range of ports", value, at)
    return words


_PORT = record(
    {
        "name": text,
        "mode": text,
        "host_ip": text,
        "target": port_number,
        "published": _published,
        "protocol": text,
        "app_protocol": text,
    }
)


def _short_ports(value: Any, at: At) -> Iterator[Map]:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise expected("a port, as a number, text or a mapping", value, at)
    rest, slash, protocol = str(value).partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise at.error(f"{protocol!r} is no protocol: tcp, udp or sctp")
    rest, _, target = rest.rpartition(":")
    address, _, published = rest.rpartition(":")
    address = _address(address, at)
    low, high = _range(target, "container port", at)
    first, last = _range(published, "host port", at) if published else (0, 0)
    if published and high > low and last - first != high - low:
        raise at.error(f"the ranges {published} and {target} are not of one length")
    for number in range(low, high + 1):
        on_host = published if low == high else str(first + number - low) if published else ""
        yield made(
            at, mode="ingress", host_ip=address or None, target=number, published=on_host or None, protocol=protocol
        )


def port_count(value: Any) -> int:
    """Return how many ports an item comes to, at the most; malformed ones are told of when they are read."""
    match = _RANGE.fullmatch(value.partition("/")[0].rpartition(":")[2]) if isinstance(value, str) else None
    return int(match[2] or match[1]) - int(match[1]) + 1 if match else 1


def _address(words: str, at: At) -> str:
    bare = words[1:-1] if words.startswith("[") and words.endswith("]") else words
    try:
        return str(bare and ipaddress.ip_address(bare) and bare)
    except ValueError:
        raise at.error(f"{words!r} is no IP address: write [ADDRESS:][HOST_PORT:]CONTAINER_PORT[/PROTOCOL]") from None


def _range(words: str, what: str, at: At) -> tuple[int, int]:
    match = _RANGE.fullmatch(words)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if low > high or high > _PORT_LIMIT:
        remedy = f"a number up to {_PORT_LIMIT}, or a range such as 3000-3005"
        raise at.error(f"{words!r} is no {what}: {remedy}")
    return low, high


# -- mounts ------------------------------------------------------------------------------------------------------------


def short_mount(value: Any, at: At) -> Map:
    """Read ``[SOURCE:]TARGET[:OPTIONS]``."""
    words = text(value, at)
    parts = words.split(":")
    if not all(parts):
        raise at.error(f"{words!r}: nothing may be empty in [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) > _MOUNT_PARTS:
        raise at.error(f"{words!r} has too many colons: write [SOURCE:]TARGET[:OPTIONS], or the long form")
    if len(parts) == 1:
        return made(at, type="volume", target=_clean(words), volume=Map(at.place))
    source, target, *rest = parts
    options = rest[0].split(",") if rest else []
    found = made(at, type="bind" if is_path(source) else "volume", source=source, target=_clean(target))
    if "ro" in options:
        found.put("read_only", value=True)
    details = _details(found["type"], options, at)
    found.put(found["type"], details)
    return found


def _details(kind: str, options: list[str], at: At) -> Map:
    if kind == "volume":
        return made(at, nocopy=True if "nocopy" in options else None)
    label = next((one for one in reversed(options) if one in ("z", "Z")), None)
    propagation = next((one for one in reversed(options) if one in _PROPAGATIONS), None)
    return made(at, selinux=label, propagation=propagation, create_host_path=True)


def is_path(source: str) -> bool:
    """Say whether a source is a path of the host, not a volume's name."""
    return source.startswith((".", "/", "~"))


def _clean(path: str) -> str:
    return posixpath.normpath(path)


def clean_target(value: Any, at: At) -> str:
    """Read a path in a container."""
    words = text(value, at)
    return _clean(words) if words else words


# -- what else is one word ---------------------------------------------------------------------------------------------


def short_device(value: Any, at: At) -> Map:
    """Read ``SOURCE[:TARGET[:PERMISSIONS]]``."""
    parts = text(value, at).split(":")
    if len(parts) > _DEVICE_PARTS or not parts[0]:
        raise at.error(f"{value!r}: write SOURCE[:TARGET[:PERMISSIONS]]")
    source, target, permissions = (*parts, "", "")[:3]
    return made(at, source=source, target=target or source, permissions=permissions or "rwm")


def extra_hosts(value: Any, at: At) -> List:
    """Read names with addresses; a name may have several. They become "NAME=ADDRESS", sorted."""
    entries: list[tuple[str, str]] = []
    if isinstance(value, Map):
        for name, addresses in value.items():
            inside = at.inside(value, name)
            several = addresses if isinstance(addresses, List) else [addresses]
            entries += [(name, _bare(text(one, inside))) for one in several if one is not RESET]
    else:
        for index, item in enumerate(list_of(text)(value, at)):
            name, separator, address = _host(item)
            if not separator or not address:
                raise At((*at.path, index), value.place_of(index)).error(f"{item!r}: write NAME=ADDRESS")
            entries.append((name, _bare(address)))
    found = List(at.place)
    for entry in sorted({f"{name}={address}" for name, address in entries}):
        found.add(entry)
    return found


def _host(item: str) -> tuple[str, str, str]:
    return item.partition("=") if "=" in item else item.partition(":")


def _bare(address: str) -> str:
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


def link(value: Any, at: At) -> str:
    """Read ``SERVICE[:ALIAS]``."""
    parts = text(value, at).split(":")
    if len(parts) > len(("service", "alias")) or not all(parts):
        raise at.error(f"{value!r}: write SERVICE, or SERVICE:ALIAS")
    return str(value)


def filled(value: Any, at: At) -> List:
    """Read one text or several, and leave out those that are empty: a variable that is not set."""
    found = List(at.place)
    several = kinds.one_or_list_of(text, unique=False)(value, at)
    for item, place in several.items_with_places():
        if item:
            found.add(item, place)
    return found


def priority(value: Any, at: At) -> int:
    """Read a priority: a number, and no text."""
    if isinstance(value, str):
        raise expected("a number", value, at)
    return kinds.integer(value, at)


def limit(value: Any, at: At) -> int | Map:
    """Read a resource limit: one number, or a soft and a hard one."""
    if isinstance(value, Map):
        return _LIMIT(value, at)  # type: ignore[no-any-return]
    return kinds.integer(value, at)


_LIMIT = record({"soft": kinds.integer, "hard": kinds.integer})


def ssh(value: Any, at: At) -> List:
    """Read agents and keys for a build: names, each with a path or none. They become "NAME" or "NAME=PATH"."""
    found = List(at.place)
    pairs = kinds.pairs(nothing=None)(value, at)
    for name, path in pairs.items():
        found.add(name if not path else f"{name}={path}")
    return found


def one_to_list(value: Any, at: At) -> Any:
    """Return a sequence of one where a text stands alone."""
    if not isinstance(value, str):
        return value
    found = List(at.place)
    found.add(value)
    return found


def external(value: Any, at: At) -> Any:
    """Read whether a resource is made elsewhere; formerly with a name."""
    if isinstance(value, Map):
        return record({"name": text})(value, at)
    return kinds.flag(value, at)


def count(value: Any, at: At) -> int:
    """Read how many devices: a number, or "all"."""
    return -1 if value == "all" else kinds.integer(value, at)


def file_mode(value: Any, at: At) -> str:
    """Read the permissions of a file: octal digits as text, or a number. They become octal digits."""
    if isinstance(value, str) and re.fullmatch(r"0?[oO]?[0-7]{1,5}", value):
        return f"0{int(value.lower().replace('o', ''), 8):o}"
    return f"0{kinds.integer(value, at):o}"
