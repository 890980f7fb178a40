"""One service of a Compose file, in its canonical form, as the options of a container.

Hides the names that Compose has for what pylxc calls otherwise, and the two places where it keeps limits (``mem_limit``
and ``deploy.resources``). Invariant: what is here depends on the file alone; what depends on other containers (links,
shared namespaces, ``volumes_from``) is put to it in ``wiring.py``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pylxc.compose.parts.refusals import unsupported
from pylxc.errors import ComposeError, SpecError
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pylxc.compose.model import Model

_CPU_PERIOD = 100_000  # µs; the kernel's own

# Key of a service -> the option that it is, where the value is the same.
_SAME = {
    "cap_add": "cap_add",
    "cap_drop": "cap_drop",
    "cgroup": "cgroup",
    "cpu_shares": "cpu_shares",
    "cpuset": "cpuset",
    "dns": "dns",
    "dns_opt": "dns_opt",
    "dns_search": "dns_search",
    "entrypoint": "entrypoint",
    "group_add": "groups",
    "init": "init",
    "oom_score_adj": "oom_score_adj",
    "pids_limit": "pids_limit",
    "platform": "platform",
    "privileged": "privileged",
    "read_only": "read_only",
    "restart": "restart",
    "stdin_open": "stdin",
    "stop_signal": "stop_signal",
    "sysctls": "sysctls",
    "tmpfs": "tmpfs",
    "tty": "tty",
    "user": "user",
    "userns_mode": "userns",
    "uts": "uts",
    "working_dir": "workdir",
}
_SIZES = {"mem_limit": "memory", "memswap_limit": "memory_swap", "shm_size": "shm_size"}


def options_of(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a service's containers, as far as the file says. Raises ComposeError, UnsupportedError."""
    options = {option: service[key] for key, option in _SAME.items() if service.get(key) not in (None, [], {}, "")}
    for key, option in _SIZES.items():
        if service.get(key):
            options[option] = _size(service[key])
    for part in _PARTS:
        options.update(part(model, name, service))
    if service.get("entrypoint") == []:
        options["entrypoint"] = []  # takes the image's away
    return options


def command_of(service: Mapping[str, Any]) -> list[str] | None:
    """Return the command of a service; None: the image's own."""
    command = service.get("command")
    return None if command is None else [str(word) for word in command]


def replicas_of(service: Mapping[str, Any]) -> int:
    """Return how many containers a service is to have."""
    for given in (service.get("scale"), (service.get("deploy") or {}).get("replicas")):
        if given is not None:
            return int(given)
    return 1


def explained(model: Model, name: str, error: SpecError) -> ComposeError:
    """Return the error of an option as one of the service that it came from."""
    file, line = _place_of(model, name)
    return ComposeError(str(error), file=file, line=line, key=f"services.{name}")


def _place_of(model: Model, name: str) -> tuple[str, int]:
    """Return the file and the line at which a service begins: the first line of the first file if it is not found."""
    for file in model.files:
        with suppress(OSError, UnicodeDecodeError):
            for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                if line.partition(":")[0].strip().strip("\"'") == name and ":" in line:
                    return str(file), number
    return (str(model.files[0]) if model.files else model.name), 1


def _size(value: Any) -> int | str:
    text = str(value)
    return int(text) if text.lstrip("-").isdecimal() else text


def _environment(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    given = service.get("environment") or {}
    return {"env": {key: str(value) for key, value in given.items() if value is not None}} if given else {}


def _labels(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels; annotations are told by nothing here but ``inspect``, as labels are."""
    given = {**(service.get("annotations") or {}), **(service.get("labels") or {})}
    return {"labels": {key: str(value) for key, value in given.items()}} if given else {}


def _hostname(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    host, domain = service.get("hostname"), service.get("domainname")
    if not host:
        return {"hostname": f"{_name}.{domain}"} if domain else {}
    return {"hostname": f"{host}.{domain}" if domain and "." not in host else host}


def _limits(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    deploy = service.get("deploy") or {}
    limits = (deploy.get("resources") or {}).get("limits") or {}
    found: dict[str, Any] = {}
    if limits.get("memory"):
        found["memory"] = _size(limits["memory"])
    if limits.get("pids"):
        found["pids_limit"] = int(limits["pids"])
    cpus = limits.get("cpus") or service.get("cpus")
    if not cpus and service.get("cpu_quota"):
        cpus = int(service["cpu_quota"]) / int(service.get("cpu_period") or _CPU_PERIOD)
    elif service.get("cpu_period") and not cpus:
        raise unsupported(model, f"services.{name}.cpu_period", "give cpu_quota as well, or cpus")
    if cpus:
        found["cpus"] = float(cpus)
    weight = (service.get("blkio_config") or {}).get("weight")
    return {**found, "io_weight": int(weight)} if weight else found


def _restart(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    """Translate ``deploy.restart_policy``, which ``restart`` overrides."""
    deploy = service.get("deploy") or {}
    mode = deploy.get("mode") or "replicated"
    if mode not in ("replicated", "global"):
        raise unsupported(model, f"services.{name}.deploy.mode", "jobs are a swarm's; leave it out, with restart: no")
    policy = deploy.get("restart_policy") or {}
    if service.get("restart") or not policy:
        return {}
    condition = policy.get("condition") or "any"
    if condition == "none":
        return {"restart": "no"}
    most = policy.get("max_attempts")
    if condition == "on-failure":
        return {"restart": f"on-failure:{int(most)}" if most else "on-failure"}
    if condition == "any":
        if most:
            path = f"services.{name}.deploy.restart_policy.max_attempts"
            raise unsupported(model, path, "give condition: on-failure with it")
        return {"restart": "always"}
    raise unsupported(model, f"services.{name}.deploy.restart_policy.condition", "give none, on-failure or any")


def _health(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    check = service.get("healthcheck")
    if not check:
        return {}
    if check.get("disable") or check.get("test") == ["NONE"]:
        return {"healthcheck": "none"}
    known = ("test", "interval", "timeout", "retries", "start_period", "start_interval")
    return {"healthcheck": {key: check[key] for key in known if check.get(key) is not None}}


def _stopping(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    grace = service.get("stop_grace_period")
    return {} if grace is None else {"stop_timeout": parse_duration(grace, "stop_grace_period")}


def _logging(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    given = service.get("logging") or {}
    if given.get("driver") not in (None, "", "json-file", "local"):
        remedy = 'a container\'s log is kept with it: give "json-file" or "local", or leave it out'
        raise unsupported(model, f"services.{name}.logging.driver", remedy)
    options = given.get("options") or {}
    if not options.get("max-size"):
        return {}  # a log without a limit is one file
    return {"log": {"max_size": str(options["max-size"]).lower(), "max_files": int(options.get("max-file") or 1)}}


def _security(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in service.get("security_opt") or ():
        key, _, value = str(text).replace(":", "=", 1).partition("=")
        if key == "no-new-privileges" and value in ("", "true", "false"):
            found["no_new_privileges"] = value != "false"
        elif key == "seccomp":
            found["seccomp"] = value if value == "unconfined" else str(model.working_dir / value)
        elif (key, value) not in (("label", "disable"), ("apparmor", "unconfined")):
            remedy = "give no-new-privileges or seccomp; there are no profiles of AppArmor or labels of SELinux here"
            raise unsupported(model, f"services.{name}.security_opt: {text}", remedy)
    if service.get("isolation") not in (None, "", "default"):
        raise unsupported(model, f"services.{name}.isolation", "it is for Windows; leave it out")
    return found


def _ulimits(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    given = service.get("ulimits") or {}
    if not given:
        return {}
    pairs = {
        key: (value["soft"], value["hard"]) if isinstance(value, dict) else int(value) for key, value in given.items()
    }
    return {"ulimits": pairs}


def _devices(_model: Model, _name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    given = service.get("devices") or ()
    return {"devices": [_device(device) for device in given]} if given else {}


def _device(device: str | Mapping[str, str]) -> str:
    if isinstance(device, str):
        return device
    target = device.get("target") or device["source"]
    return f"{device['source']}:{target}:{device.get('permissions') or 'rwm'}"


def _extra_hosts(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, str] = {}
    for each in host_pairs(service.get("extra_hosts") or ()):
        if found.setdefault(*each) != each[1]:
            remedy = "one name has one address here; give another name to the second"
            raise unsupported(model, f"services.{name}.extra_hosts: {each[0]}", remedy)
    return {"extra_hosts": found} if found else {}


def host_pairs(given: Mapping[str, Any] | Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield the names and addresses of ``extra_hosts``, a list or a mapping."""
    if isinstance(given, list):
        for text in given:
            host, _, address = text.partition("=") if "=" in text else text.partition(":")
            yield host, address
    elif isinstance(given, dict):
        for host, addresses in given.items():
            for address in addresses if isinstance(addresses, list) else [addresses]:
                yield host, str(address)


def _ports(model: Model, name: str, service: Mapping[str, Any]) -> dict[str, Any]:
    """Translate published ports; ``name``, ``app_protocol`` and ``mode`` are a swarm's words about them."""
    found: list[str] = []
    for port in service.get("ports") or ():
        for key in port:
            if key not in ("mode", "target", "published", "protocol", "host_ip", "name", "app_protocol"):
                raise unsupported(model, f"services.{name}.ports.{key}", "leave it out")
        host = port.get("host_ip") or ""
        host = f"[{host}]" if ":" in host else host
        place = f"{host}:{port.get('published') or 0}:" if host else f"{port.get('published') or 0}:"
        found.append(f"{place}{port['target']}/{port.get('protocol') or 'tcp'}")
    return {"ports": found} if found else {}


_PARTS: tuple[Callable[[Any, str, Any], dict[str, Any]], ...] = (
    _environment,
    _labels,
    _hostname,
    _limits,
    _restart,
    _health,
    _stopping,
    _logging,
    _security,
    _ulimits,
    _devices,
    _extra_hosts,
    _ports,
)
