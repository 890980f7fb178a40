"""Makes a BPF program of a profile.

Hides classic BPF and how a decision is laid out in it. Invariant: the program gives for every (architecture, number,
arguments) what the profile's first fitting rule says, else its default; what it costs grows with the logarithm of the
number of rules, for system calls are found by halving, not one after the other.

Source: seccomp(2), Documentation/networking/filter.rst; bits of struct seccomp_data as linux/seccomp.h lays them out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pylxc.errors import SpecError
from pylxc.seccomp.profile import MASKED, OPTION
from pylxc.seccomp.syscalls import ARCHITECTURES, numbers
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.seccomp.profile import Condition, Profile, Rule

# linux/bpf_common.h
LOAD, JUMP, EQUAL, GREATER, GREATER_EQUAL, AND, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
SHORT = 255  # what a conditional jump can skip
LIMIT = 4096  # BPF_MAXINSNS
LOW = 0xFFFFFFFF
_INSTRUCTION = struct.Struct("=HBBI")
VERSION = 1  # raised when the same profile gives another program


@frozen
class Instruction:
    """One step: ``if_true`` and ``if_false`` are the numbers of instructions that a conditional jump skips."""

    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0


Block = list[Instruction]


def compile_profile(profile: Profile) -> bytes:
    """Return the program as an array of ``struct sock_filter`` (8 bytes each).

    Raises SpecError when it is too long for the kernel (4,096 instructions).
    """
    program: Block = [Instruction(LOAD, ARCHITECTURE)]
    for name in profile.architectures:
        body = [Instruction(LOAD, NUMBER), *_choose(_leaves(profile, name))]
        program += [Instruction(EQUAL, ARCHITECTURES[name], 1, 0), Instruction(JUMP, len(body)), *body]
    program.append(Instruction(RETURN, profile.default))
    if len(program) > LIMIT:
        raise SpecError(OPTION, len(program), f"the filter has more than {LIMIT} instructions; write fewer rules")
    return b"".join(_INSTRUCTION.pack(one.code, one.if_true, one.if_false, one.operand) for one in program)


def _leaves(profile: Profile, architecture: str) -> list[tuple[int, Block]]:
    """Return what is done from each number on, up to the next one; neighbours that do the same are one."""
    known = numbers(architecture)
    rules: dict[int, list[Rule]] = {}
    for rule in profile.rules:
        for name in rule.names:
            if name in known:
                rules.setdefault(known[name], []).append(rule)
    nothing = [Instruction(RETURN, profile.default)]
    points: dict[int, Block] = {0: nothing}
    for number in sorted(rules):
        points[number] = _decide(rules[number], profile.default)
        if number + 1 not in rules:
            points[number + 1] = nothing
    leaves: list[tuple[int, Block]] = []
    for number, block in sorted(points.items()):
        if not leaves or leaves[-1][1] != block:
            leaves.append((number, block))
    return leaves


def _choose(leaves: Sequence[tuple[int, Block]]) -> Block:
    """Return the code that finds the leaf of the number in the accumulator."""
    if len(leaves) == 1:
        return leaves[0][1]
    middle = len(leaves) // 2
    low, high = _choose(leaves[:middle]), _choose(leaves[middle:])
    pivot = leaves[middle][0]
    if len(low) <= SHORT:
        return [Instruction(GREATER_EQUAL, pivot, len(low), 0), *low, *high]
    return [Instruction(GREATER_EQUAL, pivot, 0, 1), Instruction(JUMP, len(low)), *low, *high]


def _decide(rules: Sequence[Rule], default: int) -> Block:
    """Return the code for one system call: the first rule whose conditions hold."""
    block: Block = []
    for rule in rules:
        block += _rule(rule)
        if not rule.conditions:
            return block
    return [*block, Instruction(RETURN, default)]


def _rule(rule: Rule) -> Block:
    """Return a rule's code: it returns, or goes on to what follows when a condition does not hold."""
    block = [Instruction(RETURN, rule.action)]
    for condition in reversed(rule.conditions):
        block = [*_condition(condition, len(block)), *block]
    return block


def _condition(condition: Condition, rest: int) -> Block:
    """Return code that falls through when the condition holds, and else skips ``rest`` instructions after itself.

    The halves of a 64-bit argument are compared one after the other, the upper one first (little-endian).
    """
    high, low = condition.value >> 32, condition.value & LOW
    upper, lower = ARGUMENT + 8 * condition.index + 4, ARGUMENT + 8 * condition.index
    if condition.operator in {MASKED, "SCMP_CMP_EQ"}:
        second = _half(lower, condition.mask & LOW, [Instruction(EQUAL, low, 0, rest)])
        return [*_half(upper, condition.mask >> 32, [Instruction(EQUAL, high, 0, len(second) + rest)]), *second]
    if condition.operator == "SCMP_CMP_NE":
        second = _half(lower, LOW, [Instruction(EQUAL, low, rest, 0)])
        return [*_half(upper, LOW, [Instruction(EQUAL, high, 0, len(second))]), *second]
    if condition.operator in {"SCMP_CMP_GT", "SCMP_CMP_GE"}:
        code = GREATER if condition.operator == "SCMP_CMP_GT" else GREATER_EQUAL
        second = [Instruction(LOAD, lower), Instruction(code, low, 0, rest)]
        more = [Instruction(GREATER, high, len(second) + 1, 0), Instruction(EQUAL, high, 0, len(second) + rest)]
        return [Instruction(LOAD, upper), *more, *second]
    code = GREATER_EQUAL if condition.operator == "SCMP_CMP_LT" else GREATER
    second = [Instruction(LOAD, lower), Instruction(code, low, rest, 0)]
    more = [Instruction(GREATER, high, len(second) + 1 + rest, 0), Instruction(EQUAL, high, 0, len(second))]
    return [Instruction(LOAD, upper), *more, *second]


def _half(offset: int, mask: int, then: Block) -> Block:
    masked = [] if mask == LOW else [Instruction(AND, mask)]
    return [Instruction(LOAD, offset), *masked, *then]
