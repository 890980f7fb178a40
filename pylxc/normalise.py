"""The one normal form of each option, made from any form in which it can be given.

Hides the many spellings: sizes, durations, lists and mappings, docker's short forms. Invariant: a value in its normal
form, also one that has been through JSON, is left as it is.

Each function of :data:`NORMAL` takes the option's name and the value, and raises SpecError for one that cannot be used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, fields_dict, frozen

from pylxc.capabilities import capability_names
from pylxc.errors import SpecError, UnsupportedError
from pylxc.mounts import container_path, host_path, to_mounts, to_tmpfs, to_volumes
from pylxc.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    Normalise = Callable[[str, Any], Any]

# Numbers of include/uapi/asm-generic/resource.h, by their names in setrlimit(2).
RLIMITS = {
    name: number
    for number, name in enumerate(
        (
            "cpu",
            "fsize",
            "data",
            "stack",
            "core",
            "rss",
            "nproc",
            "nofile",
            "memlock",
            "as",
            "locks",
            "sigpending",
            "msgqueue",
            "nice",
            "rtprio",
            "rttime",
        )
    )
}
UNLIMITED = -1
# What execve(2) takes of arguments and environment however large the stack: bprm_stack_limits, fs/exec.c.
_ENVIRONMENT_LIMIT = 6 << 20

# Patterns are compiled where they are first used (re keeps them): importing stays cheap.
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_HOST_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_LOG_FILES_MAX = 1_000_000
_HOST_NAME_MAX = 64  # sethostname(2)
_NETWORK_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
HOST_NAME = "host.pylxc.internal"  # of this host, in containers that can reach it
_NOT_NAMES = ("none", "host", "default")  # of networks
HOST_GATEWAY = "host-gateway"  # in extra_hosts: this host, as it is reached from the container's network
_CONTAINER = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_KNOWN_AS = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,252}[a-zA-Z0-9_])?"
_DNS_OPTION = r"[a-z][a-z0-9-]*(:[0-9]{1,5})?"
_CPUSET = r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*"
_RESTART = r"no|always|unless-stopped|on-failure(?::[0-9]+)?"
_PLATFORM = r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?"
_SYSCTL = r"[a-zA-Z0-9_]+(?:[./][a-zA-Z0-9_@:-]+)+"
_REALTIME = r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?"
_ID_LIMIT = 2**31 - 1  # beyond it, uid_t reads as negative in many programs; runtimes agree on this bound
_PORT_LIMIT = 65535
_SIGNAL_LIMIT = 64

# What the ipc and network namespaces give a container of its own; anything else would change the host. namespaces(7)
_SYSCTLS = frozenset(
    "kernel/" + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


@frozen
class Device:
    """A device of the host that a container may use: its path there, its path inside, ``permissions`` of ``rwm``."""

    source: str
    target: str
    permissions: str = "rwm"


@frozen
class Port:
    """A published port: ``container`` over ``protocol``, reached at ``port`` (0: any free one) of address ``host``.

    ``host`` "": all addresses of the host. ``last``: any free one from ``port`` to that; 0: just that one.
    """

    container: int
    protocol: str = "tcp"
    host: str = ""
    port: int = 0
    last: int = 0


_PORT_FIELDS = frozenset(fields_dict(Port))


def _flag(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SpecError(option, value, "give True or False")
    return value


def _init(option: str, value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if value != "system":
        raise SpecError(option, value, 'give True for a small init, or "system" for the operating system\'s own')
    return "system"


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise SpecError(option, value, "give a string; it cannot be empty or hold a NUL byte")
    return value


def _matching(pattern: str, remedy: str) -> Normalise:
    def normalise(option: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise SpecError(option, value, remedy)
        return value

    return normalise


def _each_matching(pattern: str, remedy: str) -> Normalise:
    one = _matching(pattern, remedy)
    return lambda option, value: tuple(one(option, item) for item in _items(option, value))


def _shared(option: str, value: Any) -> str:
    """Return with whom a namespace is shared; docker's "shareable" is what every container's is here."""
    if value in ("private", "shareable", "host"):
        return "private" if value == "shareable" else str(value)
    if isinstance(value, str) and re.fullmatch(r"container:" + _CONTAINER, value):
        return value
    raise SpecError(option, value, 'give "private", "host" or "container:NAME"')


def _choice(*choices: str) -> Normalise:
    def normalise(option: str, value: Any) -> str:
        if value not in choices:
            raise SpecError(option, value, f"give one of {', '.join(map(repr, choices))}")
        return str(value)

    return normalise


def _integer(low: int, high: int) -> Normalise:
    def normalise(option: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SpecError(option, value, f"give an integer from {low} to {high}")
        return value

    return normalise


def _size(option: str, value: Any) -> int:
    return parse_size(value, option)


def _some_size(option: str, value: Any) -> int:
    size = parse_size(value, option)
    if not size:
        raise SpecError(option, value, "a tmpfs of size 0 has no limit (tmpfs(5)); give one, or leave it out")
    return size


def _swap(option: str, value: Any) -> int:
    return UNLIMITED if value in (UNLIMITED, str(UNLIMITED)) else parse_size(value, option)


def _duration(option: str, value: Any) -> float:
    return parse_duration(value, option)


def _cpus(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _PORT_LIMIT:
        raise SpecError(option, value, "give how many processors it may use, such as 1.5")
    return float(value)


def _words(option: str, value: Any) -> tuple[str, ...]:
    """Return a command. A string is cut into words as a shell would, but nothing in it is expanded."""
    if isinstance(value, str):
        import shlex  # noqa: PLC0415  rarely needed: most commands come as lists

        try:
            value = shlex.split(value)
        except ValueError as error:
            raise SpecError(option, value, f"{error}; give a list of words") from error
    elif isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError(option, value, 'give a list of words, such as ["echo", "hello"]')
    words = []
    for item in value:
        if not isinstance(item, (str, bytes, os.PathLike)):
            raise SpecError(option, item, "each word is a string")
        word = os.fsdecode(item)
        if "\0" in word:
            raise SpecError(option, word, "a NUL byte cannot be passed to a program")
        words.append(word)
    return tuple(words)


def _hostname(option: str, value: Any) -> str:
    labels = value.split(".") if isinstance(value, str) else [""]
    if not all(re.fullmatch(_HOST_LABEL, label) for label in labels) or len(value) > _HOST_NAME_MAX:
        raise SpecError(
            option, value, f"give letters, digits, '-' and '.' (RFC 1123), {_HOST_NAME_MAX} characters at most"
        )
    return str(value)


def _hostnames(option: str, value: Any) -> tuple[str, ...]:
    return tuple(_known_as(option, item) for item in _items(option, value))


def _known_as(option: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_KNOWN_AS, value):
        raise SpecError(option, value, "give a host name of letters, digits, '-', '_' and '.'")
    return value


def _items(option: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError(option, value, "give a list")
    return list(value)


def _pairs(option: str, value: Any, separators: str = "=") -> list[tuple[Any, Any]]:
    """Return a mapping, or a list of texts ``name=value``, as pairs; the value is None where there is none."""
    if isinstance(value, Mapping):
        return list(value.items())
    pairs: list[tuple[Any, Any]] = []
    for item in _items(option, value):
        if not isinstance(item, str):
            raise SpecError(option, item, f'give a mapping, or a list of "name{separators[0]}value"')
        cut = min((item.find(mark) for mark in separators if mark in item), default=-1)
        pairs.append((item, None) if cut < 0 else (item[:cut], item[cut + 1 :]))
    return pairs


def _environment(option: str, value: Any) -> dict[str, str]:
    env: dict[str, str] = {}
    for name, content in _pairs(option, value):
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise SpecError(option, name, "a variable's name cannot be empty or hold '=' or NUL")
        if content is None:  # as in docker: inherited, and left out where the caller has none
            if name in os.environ:
                env[name] = os.environ[name]
        elif isinstance(content, bool) or not isinstance(content, (str, int, float)):
            raise SpecError(option, {name: content}, "a variable's value is a string or a number")
        elif isinstance(content, str) and "\0" in content:
            raise SpecError(option, {name: content}, "a variable's value cannot hold a NUL byte")
        else:
            env[name] = str(content)
    size = sum(len(name) + len(content) for name, content in env.items())
    if size > _ENVIRONMENT_LIMIT:
        remedy = f"the kernel hands a program at most {_ENVIRONMENT_LIMIT} bytes; put long values into files"
        raise SpecError(option, f"{len(env)} variables, {size} characters", remedy)
    return env


def _paths(option: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, os.PathLike) else _items(option, value)
    if not all(isinstance(item, (str, os.PathLike)) for item in items):
        raise SpecError(option, value, "give a path, or a list of paths")
    return tuple(host_path(item, option) for item in items)


def read_env_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the variables of a file with lines ``NAME=value`` (taken as it stands), ``NAME`` (inherited) or ``# ...``.

    Raises SpecError: the file cannot be read, or a line names no variable.
    Source: https://docs.docker.com/reference/cli/docker/container/run/#env
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123  pathlib costs a millisecond to import
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecError("env_file", os.fspath(path), f"cannot be read: {reason}") from error
    env: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.lstrip().removesuffix("\r")
        if not text or text.startswith("#"):
            continue
        name = text.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            where = f"line {number} of {os.fspath(path)}"
            raise SpecError("env_file", text, f"{where}: give NAME=value; a name cannot be empty or hold spaces")
        env.update(_environment("env_file", [text]))
    return env


def _user(option: str, value: Any) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text == "":
        return None
    if not isinstance(text, str) or any(part == "" for part in text.split(":")) or text.count(":") > 1:
        raise SpecError(option, value, 'give a name, a uid, "user:group" or "uid:gid"')
    if any(not character.isprintable() or character in "/ " for character in text):
        raise SpecError(option, value, "a user's name cannot hold spaces, slashes or control characters")
    for part in text.split(":"):
        if part.lstrip("-").isdigit() and not (part.isascii() and _number(part, 0, _ID_LIMIT) >= 0):
            raise SpecError(option, value, f"an id lies between 0 and {_ID_LIMIT}")
    return text


def _groups(option: str, value: Any) -> tuple[str, ...]:
    """Return additional groups, by name or gid, each once."""
    items = [value] if isinstance(value, int) else _items(option, value)
    found = dict.fromkeys(_user(option, item) for item in items)
    if any(group is None or ":" in group for group in found):
        raise SpecError(option, value, "give names or numbers of groups")
    return tuple(group for group in found if group is not None)


def _labels(option: str, value: Any) -> dict[str, str]:
    labels = {name: "" if content is None else content for name, content in _pairs(option, value)}
    for name, content in labels.items():
        if not isinstance(name, str) or not name or not isinstance(content, str):
            raise SpecError(option, {name: content}, "a label's name and value are strings, the name not empty")
    return labels


def _ulimits(option: str, value: Any) -> dict[str, tuple[int, int]]:
    limits = {}
    for given, bounds in _pairs(option, value):
        name = str(given).lower().removeprefix("rlimit_")
        if name not in RLIMITS:
            raise SpecError(option, given, f"there is no such limit; there are {', '.join(sorted(RLIMITS))}")
        limits[name] = _limit_pair(option, name, bounds)
    return limits


def _limit_pair(option: str, name: str, bounds: Any) -> tuple[int, int]:
    remedy = f'give {name} as one number or as (soft, hard), hard not below soft; -1 or "unlimited" for none'
    if isinstance(bounds, Mapping):
        bounds = [bounds.get("soft"), bounds.get("hard", bounds.get("soft"))]
    if isinstance(bounds, str):
        bounds = bounds.split(":")
    parts = list(bounds) if isinstance(bounds, (list, tuple)) else [bounds]
    try:
        numbers = [
            UNLIMITED if part == "unlimited" else int(part) for part in parts if not isinstance(part, (bool, float))
        ]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts) or len(numbers) not in (1, 2):
        raise SpecError(option, {name: bounds}, remedy)
    soft, hard = numbers[0], numbers[-1]
    valid = all(UNLIMITED <= number < 2**63 for number in numbers)
    if not valid or (hard != UNLIMITED and (soft == UNLIMITED or soft > hard)):
        raise SpecError(option, {name: bounds}, remedy)
    return soft, hard


def _capabilities(option: str, value: Any) -> tuple[str, ...]:
    return capability_names(_items(option, value), option)


def _devices(option: str, value: Any) -> tuple[Device, ...]:
    return tuple(_device(option, item) for item in _items(option, value))


def _device(option: str, item: Any) -> Device:
    if isinstance(item, Device):
        return item
    remedy = 'give "/dev/fuse", "/dev/sda:/dev/xvda" or "/dev/sda:/dev/xvda:r"'
    if isinstance(item, Mapping) and set(item) <= {"source", "target", "permissions"} and "source" in item:
        parts = [item["source"], item.get("target", item["source"]), item.get("permissions", "rwm")]
    elif isinstance(item, (str, os.PathLike)):
        parts = os.fspath(item).split(":")
        if len(parts) == 2 and not parts[1].startswith("/"):  # noqa: PLR2004  source and permissions
            parts.insert(1, parts[0])
        parts += [parts[0], "rwm"][len(parts) - 1 :]
    else:
        raise SpecError(option, item, remedy)
    if len(parts) != 3 or not all(isinstance(part, str) for part in parts):  # noqa: PLR2004
        raise SpecError(option, item, remedy)
    if not parts[0].startswith("/") or not parts[2] or set(parts[2]) - set("rwm"):
        raise SpecError(option, item, remedy)
    return Device(host_path(parts[0], option), container_path(parts[1], option), parts[2])


def sysctl_path(name: str) -> str:
    """Return a sysctl's path below ``/proc/sys``, from its dotted or its slashed name.

    As in sysctl(8): where the first separator is a dot, dots separate and a slash stands for a dot in an interface's
    name.
    """
    first = re.search(r"[./]", name)
    return name.translate({ord("."): "/", ord("/"): "."}) if first and first[0] == "." else name


def _sysctls(option: str, value: Any) -> dict[str, str]:
    sysctls = {}
    for name, given in _pairs(option, value):
        if not isinstance(name, str) or not re.fullmatch(_SYSCTL, name):
            raise SpecError(option, name, 'give a name such as "net.ipv4.ip_forward"')
        path = sysctl_path(name)
        if not (path in _SYSCTLS or path.startswith(("net/", "fs/mqueue/"))):
            raise SpecError(option, name, "it has no namespace: setting it would change the host; set it there")
        content = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        if not isinstance(content, str) or not content.strip() or not content.replace("\t", " ").isprintable():
            raise SpecError(option, {name: given}, "a value is one line of text or a number")
        sysctls[name] = content
    return sysctls


def _address(option: str, value: Any) -> str:
    import ipaddress  # noqa: PLC0415  costs milliseconds, seldom needed

    try:
        return str(ipaddress.ip_address(str(value)))  # a number is none, though ipaddress takes it for one
    except ValueError as error:
        raise SpecError(option, value, 'give an IP address, such as "192.0.2.1" or "2001:db8::1"') from error


def _addresses(option: str, value: Any) -> tuple[str, ...]:
    return tuple(_address(option, item) for item in _items(option, value))


def _domains(option: str, value: Any) -> tuple[str, ...]:
    found = tuple(_items(option, value))
    return found if found == (".",) else _hostnames(option, found)


def _one_address(version: int) -> Normalise:
    example = "10.5.0.9" if version == 4 else "fd00:5::9"  # noqa: PLR2004  IP versions

    def normalise(option: str, value: Any) -> str:
        text = _address(option, value)
        if (":" in text) != (version != 4) or "%" in text:  # noqa: PLR2004
            raise SpecError(option, value, f'give an address of IPv{version}, such as "{example}"')
        return text

    return normalise


def _expose(option: str, value: Any) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in [value] if isinstance(value, int) else _items(option, value):
        first, last, protocol = _container_ports(option, item)
        found.update({f"{port}/{protocol}": None for port in range(first, last + 1)})
    return tuple(found)


def network_name(value: Any, option: str = "name") -> str:
    """Return the name of a network. Raises SpecError for what cannot be one."""
    if not isinstance(value, str) or not re.fullmatch(_NETWORK_NAME, value) or value in _NOT_NAMES:
        remedy = f"a name has [a-zA-Z0-9_.-], and starts with a letter or a digit; {_NOT_NAMES} mean something else"
        raise SpecError(option, value, remedy)
    return value


def _network(option: str, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        prefix, colon, name = value.partition(":")
        if colon and (prefix != "container" or not re.fullmatch(_CONTAINER, name)):
            raise SpecError(option, value, 'give "none", "host", "container:NAME" or the name of a network')
        return value if colon or value in _NOT_NAMES else network_name(value, option)
    if not isinstance(value, Sequence) or not value:
        raise SpecError(option, value, 'give "none", "host", the name of a network, or a list of names')
    names = tuple(network_name(item, option) for item in value)
    if len(set(names)) != len(names):
        raise SpecError(option, value, "a network is in it twice")
    return names if len(names) > 1 else names[0]


def _extra_hosts(option: str, value: Any) -> dict[str, str]:
    hosts = {}
    for name, address in _pairs(option, value, ":="):
        if address == HOST_GATEWAY:
            hosts[_known_as(option, name)] = HOST_GATEWAY
            continue
        text = address[1:-1] if isinstance(address, str) and address[:1] == "[" and address[-1:] == "]" else address
        hosts[_known_as(option, name)] = _address(option, text)
    return hosts


def _ports(option: str, value: Any) -> tuple[Port, ...]:
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, Mapping):
        return tuple(port for item in _items(option, value) for port in _port_items(option, item))
    ports: list[Port] = []
    for container, where in value.items():
        for place in where if isinstance(where, list) else [where]:
            ports += _published(option, container, place)
    return tuple(ports)


def _port_items(option: str, item: Any) -> Iterable[Port]:
    if isinstance(item, Port):
        item = asdict(item)
    if isinstance(item, Mapping) and {"container", "protocol", "host", "port"} <= set(item) <= _PORT_FIELDS:
        container: Any = f"{item['container']}/{item['protocol']}"
        last = item.get("last")
        where: Any = (item["host"], f"{item['port']}-{last}" if last else item["port"])
    else:  # docker's [[address:]port:]container[/protocol]
        place, _, container = str(item).rpartition(":")
        where = place or 0
    return _published(option, container, where)


def _published(option: str, container: Any, where: Any) -> Iterable[Port]:
    """Yield the ports of one item: as many as its range in the container has (docker's rules)."""
    first, last, protocol = _container_ports(option, container)
    host, low, high = _host_ports(option, where)
    if low and high > low and first == last:
        yield Port(first, protocol, host, low, high)
        return
    if low and high - low != last - first:
        raise SpecError(option, {container: where}, "the two ranges must be of one length")
    for number in range(first, last + 1):
        yield Port(number, protocol, host, low and low + number - first)


def _container_ports(option: str, value: Any) -> tuple[int, int, str]:
    text, _, protocol = str(value).partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol == "sctp":
        raise UnsupportedError(f"{option}={value!r}", 'ports of "tcp" and "udp" can be published')
    if protocol not in ("tcp", "udp"):
        raise SpecError(option, value, 'the protocol is "tcp" or "udp"')
    return *_port_range(option, text, 1), protocol


def _host_ports(option: str, value: Any) -> tuple[str, int, int]:
    if value is None:
        return "", 0, 0
    if isinstance(value, str) and ":" in value:
        value = value.rpartition(":")[::2]
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, 2):
            raise SpecError(option, value, 'give (address, port), such as ("127.0.0.1", 8080), or (address,)')
        address, port = (*value, 0)[:2]
        text = address.strip("[]") if isinstance(address, str) else address
        host = _address(option, text) if text else ""
        if "%" in host:
            raise SpecError(option, value, "an address of one link only cannot be given; give another, or none")
        return host, *_port_range(option, port if port != "" else 0, 0)
    return "", *_port_range(option, value, 0)


def _port_range(option: str, value: Any, low: int) -> tuple[int, int]:
    begin, dash, end = str(value).partition("-")
    if not dash or isinstance(value, int):
        number = _port_number(option, value, low)
        return number, number
    first, last = _port_number(option, begin, 1), _port_number(option, end, 1)
    if last < first:
        raise SpecError(option, value, "a range goes from the lower port to the higher one")
    return first, last


def _port_number(option: str, value: Any, low: int) -> int:
    number = -1 if isinstance(value, bool) else _number(str(value), low, _PORT_LIMIT)
    if number < 0:
        raise SpecError(option, value, f"a port is a number from {low} to {_PORT_LIMIT}")
    return number


def _number(text: str, low: int, high: int) -> int:
    """Return a number written in ASCII digits, or -1 where it is none or out of bounds."""
    # No more than ten digits: int() of thousands is slow, and refused by Python.
    if not re.fullmatch(r"[0-9]{1,10}", text):
        return -1
    number = int(text)
    return number if low <= number <= high else -1


def signal_number(value: int | str, option: str = "signal") -> int:
    """Return a signal's number, from its number or its name: 15, ``"15"``, ``"TERM"``, ``"SIGTERM"``, ``"RTMIN+3"``.

    Raises SpecError: there is no such signal. Source: signal(7).
    """
    import signal  # noqa: PLC0415  not on the path of a start

    name = str(value).upper().removeprefix("SIG")
    realtime = re.fullmatch(_REALTIME, name)
    if name.isdigit():
        number = _number(name, 1, _SIGNAL_LIMIT)
    elif realtime:
        base, sign, offset = realtime.groups()
        number = int(signal.SIGRTMIN if base == "MIN" else signal.SIGRTMAX) + int(f"{sign or '+'}{offset or 0}")
        number = number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
    else:
        number = int(getattr(signal.Signals, f"SIG{name}", 0)) if name.isalnum() else 0
    if not 1 <= number <= _SIGNAL_LIMIT:
        raise SpecError(option, value, 'give a signal by name or number, such as "TERM" or 15')
    return number


def signal_name(number: int) -> str:
    """Return a signal's name, for example ``"SIGTERM"`` or ``"SIGRTMIN+3"``."""
    import signal  # noqa: PLC0415  not on the path of a start

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _signal(option: str, value: Any) -> str:
    return signal_name(signal_number(value, option))


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
    "image": _text,
    "command": _words,
    "name": _matching(_NAME, "a name is two or more of [a-zA-Z0-9_.-], and starts with a letter or a digit"),
    "hostname": _hostname,
    "env": _environment,
    "env_file": _paths,
    "workdir": lambda option, value: container_path(value, option),
    "user": _user,
    "groups": _groups,
    "entrypoint": _words,
    "labels": _labels,
    "mounts": lambda _, value: to_mounts(value),
    "volumes": lambda _, value: to_volumes(value),
    "tmpfs": lambda _, value: to_tmpfs(value),
    "read_only": _flag,
    "ports": _ports,
    "expose": _expose,
    "network": _network,
    "ip": _one_address(4),
    "ip6": _one_address(6),
    "aliases": _hostnames,
    "dns": _addresses,
    "dns_search": _domains,
    "dns_opt": _each_matching(_DNS_OPTION, 'give options of resolv.conf(5), such as "ndots:2" or "edns0"'),
    "extra_hosts": _extra_hosts,
    "memory": _size,
    "memory_swap": _swap,
    "cpus": _cpus,
    "cpu_shares": _integer(2, 262144),
    "cpuset": _matching(_CPUSET, 'give processors as a list, such as "0-3,5"'),
    "pids_limit": _integer(-1, 2**31 - 1),
    "io_weight": _integer(10, 1000),
    "shm_size": _some_size,
    "ulimits": _ulimits,
    "oom_score_adj": _integer(-1000, 1000),
    "cap_add": _capabilities,
    "cap_drop": _capabilities,
    "privileged": _flag,
    "devices": _devices,
    "seccomp": _seccomp,
    "no_new_privileges": _flag,
    "userns": _choice("private", "host"),
    "pid": _shared,
    "ipc": _shared,
    "uts": _shared,
    "cgroup": _choice("private", "host"),
    "sysctls": _sysctls,
    "tty": _flag,
    "stdin": _flag,
    "init": _init,
    "stop_signal": _signal,
    "stop_timeout": _duration,
    "restart": _matching(_RESTART, 'give "no", "always", "unless-stopped" or "on-failure[:n]"'),
    "healthcheck": _healthcheck,
    "detach": _flag,
    "remove": _flag,
    "pull": _choice("missing", "always", "never"),
    "platform": _matching(_PLATFORM, 'give a platform such as "linux/amd64"'),
    "log": _log,
}
