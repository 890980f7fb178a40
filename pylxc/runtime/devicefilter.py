"""Says which devices a container may use, in the two forms that kernels take: lines for cgroup v1, eBPF for cgroup v2.

Hides both. Invariant: what is not named here is refused with EPERM, whatever node it is opened through; nodes of any
kind may be made (``mknod``), for they open nothing.

A container with ids of its own has other walls: its file systems are all ``nodev``, and a node of the host's belongs to
nobody there. So a plain ``run`` with such ids and without limits, which has no cgroups, gets none for the filter's sake
either: they would cost it 0.4 ms, and the filter 0.1 ms (v1) or 0.3 ms (v2) more, of a start of 3 to 5. All that have
cgroups anyway are filtered, and all with the ids of the host, for which ``nodev`` is the only other wall;
``privileged`` ones are not.

Source: Documentation/admin-guide/cgroup-v1/devices.rst, cgroup-v2.rst ("Device controller"), linux/bpf.h, bpf(2).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from pylxc.errors import SpecError
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.spec import ContainerSpec

# Devices that every container has: path, major, minor (Documentation/admin-guide/devices.txt).
DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
PTMX, PTS_MAJOR = (5, 2), 136  # of the container's own devpts
EVERYTHING = "rwm"


@frozen
class Rule:
    """What may be done with a device: ``kind`` "b" or "c"; None as a number means any; ``permissions`` of ``rwm``."""

    kind: str
    major: int | None
    minor: int | None
    permissions: str


def rules_for(spec: ContainerSpec) -> tuple[Rule, ...]:
    """Return what a container may use; () = it is not filtered. Raises SpecError for a device that is not there."""
    if spec.privileged:
        return ()
    rules = [Rule("c", None, None, "m"), Rule("b", None, None, "m")]
    rules += [Rule("c", major, minor, EVERYTHING) for _, major, minor in DEVICES]
    rules += [Rule("c", *PTMX, EVERYTHING), Rule("c", PTS_MAJOR, None, EVERYTHING)]
    rules += [Rule(*number_of(device.source), device.permissions) for device in spec.devices]
    return tuple(rules)


def is_demanded(spec: ContainerSpec) -> bool:
    """Say whether the container may not do without: it has the host's ids, or a device of which it may use a part."""
    partly = any(set(device.permissions) != set(EVERYTHING) for device in spec.devices)
    return not spec.privileged and (spec.userns == "host" or partly)


def number_of(path: str) -> tuple[str, int, int]:
    """Return the kind ("b", "c"), major and minor number of a device node of the host. Raises SpecError."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise SpecError("devices", path, f"{error.strerror}; name a device node of this host") from error
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
    return kind, os.major(status.st_rdev), os.minor(status.st_rdev)


def lines(rules: Iterable[Rule]) -> list[str]:
    """Return the rules as ``devices.allow`` of cgroup v1 takes them, one at a time."""
    return [f"{rule.kind} {_any(rule.major)}:{_any(rule.minor)} {rule.permissions}" for rule in rules]


def _any(number: int | None) -> str:
    return "*" if number is None else str(number)


# -- eBPF --------------------------------------------------------------------------------------------------------------

# linux/bpf.h: opcodes, as class | source | operation; registers by number.
LOAD_WORD = 0x61  # LDX | MEM | W
MOVE, MOVE_REGISTER = 0xB7, 0xBF  # ALU64 | MOV
AND, SHIFT_RIGHT = 0x57, 0x77  # ALU64 | AND, RSH, with a constant
UNEQUAL, EXIT = 0x55, 0x95  # JMP | JNE with a constant; JMP | EXIT
RESULT, CONTEXT, ACCESS, KIND, MAJOR, MINOR, REST = range(7)  # r0 is what the program returns, r1 what it is given
ACCESSES = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_INSTRUCTION = struct.Struct("=BBhi")


def _instruction(code: int, to: int, *, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    # The two registers share a byte, and which half is which follows the byte order; all that are supported are little.
    return _INSTRUCTION.pack(code, to | source << 4, offset, constant)


def compile_rules(rules: Iterable[Rule]) -> bytes:
    """Return the rules as an array of ``struct bpf_insn``: 1 for what a rule allows, else 0.

    The context is ``struct bpf_cgroup_dev_ctx``: access << 16 | kind, major, minor.
    """
    program = [
        _instruction(LOAD_WORD, ACCESS, source=CONTEXT, offset=0),
        _instruction(MOVE_REGISTER, KIND, source=ACCESS),
        _instruction(AND, KIND, constant=0xFFFF),
        _instruction(SHIFT_RIGHT, ACCESS, constant=16),
        _instruction(LOAD_WORD, MAJOR, source=CONTEXT, offset=4),
        _instruction(LOAD_WORD, MINOR, source=CONTEXT, offset=8),
    ]
    for rule in rules:
        program += _rule(rule)
    program += [_instruction(MOVE, RESULT, constant=0), _instruction(EXIT, 0)]
    return b"".join(program)


def _rule(rule: Rule) -> list[bytes]:
    """Return a rule's code: it returns 1, or goes on to what follows."""
    tests = [(KIND, KINDS[rule.kind]), (MAJOR, rule.major), (MINOR, rule.minor)]
    allowed = sum(ACCESSES[letter] for letter in set(rule.permissions))
    tail = [
        _instruction(MOVE_REGISTER, REST, source=ACCESS),
        _instruction(AND, REST, constant=~allowed & 0x7),
        _instruction(UNEQUAL, REST, offset=2, constant=0),
        _instruction(MOVE, RESULT, constant=1),
        _instruction(EXIT, 0),
    ]
    code = tail
    for register, number in reversed(tests):
        if number is not None:
            code = [_instruction(UNEQUAL, register, offset=len(code), constant=number), *code]
    return code
