"""Profiles of system call filters, as docker's and the OCI runtime's JSON describes them.

Invariant: a :class:`Profile` that exists can be compiled: every action, operator and architecture in it is known. Names
of system calls that no architecture has are passed over, as in the field: profiles are written for many kernels.

Source: OCI runtime-spec, config-linux.md, "Seccomp"; docker's profile format (``archMap``, ``includes``, ``excludes``).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError
from pylxc.seccomp.syscalls import ARCHITECTURES
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTION = "seccomp"
# SECCOMP_RET_* of linux/seccomp.h.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT")
MASKED = "SCMP_CMP_MASKED_EQ"
NATIVE = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "x86", "SCMP_ARCH_AARCH64": "aarch64"}
OTHERS = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("X32", "ARM", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE"),
        *("S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH"),
    )
)
ARGUMENTS, MOST = 6, 2**64 - 1
ERRNO_LIMIT = 4095  # MAX_ERRNO of the kernel


@frozen
class Condition:
    """One comparison of an argument: ``index`` 0 to 5, the operator, the value; ``mask`` for SCMP_CMP_MASKED_EQ."""

    index: int
    operator: str
    value: int
    mask: int = MOST


@frozen
class Rule:
    """What happens to these system calls when all conditions hold. ``action`` is what the filter returns."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


@frozen
class Profile:
    """What happens to every system call: the first rule that fits, else ``default``.

    ``architectures`` are keys of :data:`~pylxc.seccomp.syscalls.ARCHITECTURES`; of others' calls none is allowed.
    """

    default: int
    rules: tuple[Rule, ...]
    architectures: tuple[str, ...]


def error_action(number: int) -> int:
    """Return what a filter returns to make a call fail with an errno."""
    return ACTIONS["SCMP_ACT_ERRNO"] | number


@frozen
class Host:
    """What ``includes`` and ``excludes`` ask about: capabilities kept, the machine, the kernel's version."""

    capabilities: frozenset[str]
    machine: str
    kernel: tuple[int, int]


def parse(document: Any, host: Host) -> Profile:
    """Return the profile that a decoded JSON document describes, for this host.

    Raises SpecError naming the key and what would do.

    Example:
        >>> host = Host(frozenset(), "x86_64", (6, 1))
        >>> parse({"defaultAction": "SCMP_ACT_ERRNO"}, host).default & 0xFFFF
        1

    """
    top = _mapping(document, "the profile")
    _refuse_unknown(top, TOP_KEYS, "")
    default = _action(top, "defaultAction", "defaultErrnoRet", "")
    rules = []
    for number, item in enumerate(_list(top, "syscalls", "")):
        where = f"syscalls[{number}]"
        entry = _mapping(item, where)
        _refuse_unknown(entry, RULE_KEYS, f"{where}.")
        rules += _rules(entry, where) if _applies(entry, where, host) else []
    return Profile(default, tuple(rules), _architectures(top, host))


TOP_KEYS = frozenset(
    ("defaultAction", "defaultErrnoRet", "architectures", "archMap", "syscalls", "flags", "listenerPath")
) | {"listenerMetadata"}
RULE_KEYS = frozenset(("name", "names", "action", "errnoRet", "args", "includes", "excludes", "comment"))


def _bad(where: str, value: object, remedy: str) -> SpecError:
    return SpecError(OPTION, value, f"{where}: {remedy}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, value, "must be a JSON object")
    return value


def _list(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(f"{where}{key}", value, "must be a JSON array")
    return value


def _refuse_unknown(entry: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse a key that was misspelt: what was meant would silently not be filtered."""
    for key in entry:
        if key not in known:
            raise _bad(f"{where}{key}", entry[key], f"there is no such key; there are {', '.join(sorted(known))}")
    if entry.get("listenerPath"):
        raise _bad("listenerPath", entry["listenerPath"], "notifications to a listener are not supported")


def _action(entry: Mapping[str, Any], key: str, data_key: str, where: str) -> int:
    name = entry.get(key)
    if not isinstance(name, str) or name not in ACTIONS:
        raise _bad(f"{where}{key}", name, f"give one of {', '.join(ACTIONS)}")
    data = entry.get(data_key)
    if data is None:
        data = errno.EPERM if name == "SCMP_ACT_ERRNO" else 0
    elif name not in WITH_DATA:
        raise _bad(f"{where}{data_key}", data, f"goes with {' and '.join(WITH_DATA)} only")
    return ACTIONS[name] | _integer(data, ERRNO_LIMIT, f"{where}{data_key}")


def _integer(value: Any, most: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _bad(where, value, f"give a number from 0 to {most}")
    return value


def _rules(entry: Mapping[str, Any], where: str) -> list[Rule]:
    names = _list(entry, "names", f"{where}.") or [entry.get("name")]
    for name in names:
        if not isinstance(name, str) or not name:
            raise _bad(f"{where}.names", name, "give names of system calls")
    action = _action(entry, "action", "errnoRet", f"{where}.")
    conditions = [_condition(item, f"{where}.args[{n}]") for n, item in enumerate(_list(entry, "args", f"{where}."))]
    if len({condition.index for condition in conditions}) == len(conditions):
        return [Rule(tuple(names), action, tuple(conditions))]
    # Two conditions on one argument are alternatives (runc and crun, after libseccomp's one comparison per argument).
    return [Rule(tuple(names), action, (condition,)) for condition in conditions]


def _condition(item: Any, where: str) -> Condition:
    entry = _mapping(item, where)
    operator = entry.get("op")
    index = _integer(entry.get("index"), ARGUMENTS - 1, f"{where}.index")
    value = _integer(entry.get("value"), MOST, f"{where}.value")
    if operator == MASKED:
        # docker and OCI put the mask into "value" and what is compared with into "valueTwo".
        return Condition(index, operator, _integer(entry.get("valueTwo", 0), MOST, f"{where}.valueTwo"), value)
    if operator not in OPERATORS:
        raise _bad(f"{where}.op", operator, f"give one of {', '.join((*OPERATORS, MASKED))}")
    return Condition(index, operator, value)


def _applies(entry: Mapping[str, Any], where: str, host: Host) -> bool:
    """Say whether a rule is for this host: all that it includes, nothing that it excludes."""
    includes = _mapping(entry.get("includes") or {}, f"{where}.includes")
    excludes = _mapping(entry.get("excludes") or {}, f"{where}.excludes")
    known = ("caps", "arches", "minKernel")
    for name, chosen in (("includes", includes), ("excludes", excludes)):
        _refuse_unknown(chosen, frozenset(known), f"{where}.{name}.")
    caps = {name.removeprefix("CAP_") for name in _list(includes, "caps", where)}
    not_caps = {name.removeprefix("CAP_") for name in _list(excludes, "caps", where)}
    arches = _list(includes, "arches", where)
    if caps - host.capabilities or not_caps & host.capabilities:
        return False
    if (arches and not _names_of(host.machine) & set(arches)) or _names_of(host.machine) & set(
        _list(excludes, "arches", where)
    ):
        return False
    least, below = includes.get("minKernel"), excludes.get("minKernel")
    return (not least or host.kernel >= _version(least, where)) and not (
        below and host.kernel >= _version(below, where)
    )


def _names_of(machine: str) -> set[str]:
    """Return what docker's profiles call a machine."""
    return {"x86_64": {"amd64", "x86", "x32"}, "aarch64": {"arm64", "arm"}}.get(machine, {machine})


def _version(text: Any, where: str) -> tuple[int, int]:
    parts = str(text).split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):  # noqa: PLR2004  major.minor
        raise _bad(f"{where}.minKernel", text, 'give a version such as "4.8"')
    return int(parts[0]), int(parts[1])


def _architectures(top: Mapping[str, Any], host: Host) -> tuple[str, ...]:
    """Return the architectures whose calls the profile filters; the machine's own is always one."""
    names = list(_list(top, "architectures", ""))
    for number, item in enumerate(_list(top, "archMap", "")):
        entry = _mapping(item, f"archMap[{number}]")
        if NATIVE.get(entry.get("architecture", "")) == host.machine:
            names += [entry["architecture"], *_list(entry, "subArchitectures", f"archMap[{number}].")]
    for name in names:
        if name not in NATIVE and name not in OTHERS:
            raise _bad("architectures", name, f"give names such as {', '.join(NATIVE)}")
    family = ("x86_64", "x86") if host.machine == "x86_64" else (host.machine,)
    wanted = [host.machine, *(NATIVE[name] for name in names if name in NATIVE)]
    return tuple(name for name in ARCHITECTURES if name in wanted and name in family)
