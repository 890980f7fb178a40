"""The compiled program, run by a small BPF machine, says what the profile says: thousands of calls, two readings."""

from __future__ import annotations

import random
import struct

import pytest

from pylxc.errors import SpecError
from pylxc.seccomp import compiler
from pylxc.seccomp.default import default_profile
from pylxc.seccomp.profile import ACTIONS, OPERATORS, Condition, Host, Profile, Rule, parse
from pylxc.seccomp.syscalls import ARCHITECTURES, numbers

HOST = Host(frozenset({"CHOWN", "SYS_CHROOT"}), "x86_64", (6, 1))
ALLOW, EPERM = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_ERRNO"] | 1
MOST = 2**64 - 1


def run(program: bytes, architecture: int, number: int, args: tuple[int, ...]) -> tuple[int, int]:
    """Return what the program returns, and how many instructions it took (Documentation/networking/filter.rst)."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *args)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at, steps = 0, 0, 0
    while True:
        op, if_true, if_false, operand = code[at]
        at, steps = at + 1, steps + 1
        if op == compiler.RETURN:
            return operand, steps
        if op == compiler.LOAD:
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif op == compiler.AND:
            accumulator &= operand
        elif op == compiler.JUMP:
            at += operand
        else:
            compare = {
                compiler.EQUAL: accumulator == operand,
                compiler.GREATER: accumulator > operand,
                compiler.GREATER_EQUAL: accumulator >= operand,
            }
            at += if_true if compare[op] else if_false


def holds(condition: Condition, args: tuple[int, ...]) -> bool:
    value, wanted = args[condition.index], condition.value
    return {
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_MASKED_EQ": value & condition.mask == wanted,
    }[condition.operator]


def read(profile: Profile, architecture: str, number: int, args: tuple[int, ...]) -> int:
    """Return what the profile says, rule by rule."""
    if architecture not in profile.architectures:
        return profile.default
    for rule in profile.rules:
        called = any(numbers(architecture).get(name) == number for name in rule.names)
        if called and all(holds(condition, args) for condition in rule.conditions):
            return rule.action
    return profile.default


def any_value(rng: random.Random) -> int:
    base = rng.choice([0, 1, 38, 40, 0xFFFFFFFF, 2**32, 2**63, MOST, rng.getrandbits(64), rng.getrandbits(32)])
    return (base + rng.choice([-1, 0, 0, 1])) % 2**64


def any_condition(rng: random.Random) -> Condition:
    index, value = rng.randrange(6), any_value(rng)
    if rng.random() < 0.3:
        mask = any_value(rng)
        return Condition(index, "SCMP_CMP_MASKED_EQ", value & mask, mask)
    return Condition(index, rng.choice(OPERATORS), value)


def any_profile(rng: random.Random) -> Profile:
    names = sorted(numbers("x86_64"))
    rules = []
    for _ in range(rng.randrange(1, 12)):
        chosen = tuple(rng.sample(names, rng.randrange(1, 30)))
        conditions = tuple(any_condition(rng) for _ in range(rng.randrange(3)))
        rules.append(Rule(chosen, rng.choice(sorted(set(ACTIONS.values()))), conditions))
    architectures = ("x86_64", "x86") if rng.random() < 0.5 else ("x86_64",)
    return Profile(EPERM, tuple(rules), architectures)


@pytest.mark.parametrize("seed", range(30))
def test_program_and_profile_agree(seed):
    rng = random.Random(seed)
    profile = any_profile(rng)
    program = compiler.compile_profile(profile)
    interesting = [c for rule in profile.rules for c in rule.conditions]
    for _ in range(300):
        architecture = rng.choice(["x86_64", "x86_64", "x86", "aarch64"])
        number = rng.choice([rng.randrange(500), rng.randrange(500), 2**30 + 1, 2**31 - 1])
        args = [any_value(rng) for _ in range(6)]
        for condition in rng.sample(interesting, min(2, len(interesting))):
            args[condition.index] = (condition.value + rng.choice([-1, 0, 1])) % 2**64
        found, _ = run(program, ARCHITECTURES[architecture], number, tuple(args))
        assert found == read(profile, architecture, number, tuple(args)), (architecture, number, args)


def test_the_default_profile_call_by_call():
    profile = parse(default_profile(), HOST)
    program = compiler.compile_profile(profile)
    for name, number in numbers("x86_64").items():
        for args in ((0,) * 6, (40, *[0] * 5), (0x10000000, *[0] * 5), (MOST,) * 6):
            found, steps = run(program, ARCHITECTURES["x86_64"], number, args)
            assert found == read(profile, "x86_64", number, args), name
            assert steps < 40, name  # halving: a list would take hundreds


def test_what_the_default_profile_allows():
    allowed = {name for rule in parse(default_profile(), HOST).rules if rule.action == ALLOW for name in rule.names}
    assert 350 <= len(allowed) <= 380
    dangerous = {"bpf", "keyctl", "kexec_load", "mount", "setns", "unshare", "open_by_handle_at", "userfaultfd"}
    dangerous |= {"perf_event_open", "init_module", "io_uring_setup", "pivot_root", "swapon", "clone3", "socketcall"}
    assert not dangerous & allowed
    assert "chroot" in allowed  # the capability is kept
    assert "reboot" not in allowed


def test_capabilities_open_what_they_guard():
    host = Host(frozenset({"SYS_ADMIN", "SYS_BOOT"}), "x86_64", (6, 1))
    program = compiler.compile_profile(parse(default_profile(), host))
    for name in ("mount", "setns", "reboot", "clone3", "clone"):
        args = (0x10000000, 0, 0, 0, 0, 0)
        assert run(program, ARCHITECTURES["x86_64"], numbers("x86_64")[name], args)[0] == ALLOW, name


def test_a_family_in_the_upper_half_is_not_overlooked():
    """The kernel reads 32 bits of the argument, a filter 64."""
    program = compiler.compile_profile(parse(default_profile(), HOST))
    for family in (38, 40, 2**32 + 38, 2**32 + 40, 2**63 + 38):
        assert run(program, ARCHITECTURES["x86_64"], numbers("x86_64")["socket"], (family, 0, 0, 0, 0, 0))[0] == EPERM
    for family in (1, 2, 10, 16, 17, 39, 44):
        assert run(program, ARCHITECTURES["x86_64"], numbers("x86_64")["socket"], (family, 0, 0, 0, 0, 0))[0] == ALLOW


def test_x32_calls_are_not_taken_for_others():
    program = compiler.compile_profile(parse(default_profile(), HOST))
    assert run(program, ARCHITECTURES["x86_64"], 0x40000000 | numbers("x86_64")["read"], (0,) * 6)[0] == EPERM


def test_too_long_a_program():
    conditions = [Rule(("read",), ALLOW, (Condition(0, "SCMP_CMP_EQ", n),)) for n in range(2000)]
    with pytest.raises(SpecError, match="more than 4096 instructions"):
        compiler.compile_profile(Profile(EPERM, tuple(conditions), ("x86_64",)))
