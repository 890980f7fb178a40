"""A health check is a plan inside a plan: the helper refuses one that is not sound before anything else is done."""

from __future__ import annotations

import random
import struct

import pytest
from encoded import Encoded

import pylxc
from pylxc.runtime import native
from pylxc.runtime import plan as p
from pylxc.runtime.isolation import NEWNS

HEAD, OPERATION, HEALTH = p._HEAD, p._OP, p._HEALTH
TIMES = (10**9, 10**9, 0, 10**9, 3)
LONGEST = 1 << 60
# Fields of the heads, by their offsets (csrc/pylxc.h).
MAGIC, SIZE, COUNT, FLAGS, CLONE_FLAGS, OWNER, TARGET, DIRECTORY, USERNS = 0, 4, 8, 12, 16, 24, 28, 32, 36
WORDS = struct.Struct("=I")
LONG = struct.Struct("=q")


def check() -> p.Plan:
    plan = p.Plan(flags=p.PLAN_JOIN, clone_flags=NEWNS)
    plan.add(p.ENV, "A=b")
    plan.add(p.EXEC, "true", "operand")
    return plan


def whole(inner: p.Plan, numbers=TIMES) -> bytearray:
    plan = p.Plan()
    plan.add_health(numbers, inner)
    plan.add(p.EXEC, "/bin/true")
    return bytearray(plan.encode())


def stage(data: bytes) -> str:
    """Return the stage at which a plan fails; "" when its program ran."""
    try:
        child = native.spawn(Encoded(bytes(data)), (-1, -1, -1))
    except pylxc.SpawnError as error:
        return error.stage
    native.await_end(child.monitor_fd)
    child.close()
    return ""


BEGIN = HEAD.size + OPERATION.size + HEALTH.size  # of the plan inside
FIRST = BEGIN + HEAD.size  # its first operation


def changed(offset: int, packed: bytes) -> bytearray:
    data = whole(check())
    data[offset : offset + len(packed)] = packed
    return data


def test_a_sound_one_is_taken():
    assert stage(whole(check())) == ""
    assert stage(whole(check(), (LONGEST, LONGEST, LONGEST, LONGEST, LONGEST))) == ""
    assert stage(whole(check(), (1, 1, 0, 1, 1))) == ""


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("value", [-1, 0, LONGEST + 1, 2**63 - 1, -(2**63)])
def test_times_without_bounds(field, value):
    numbers = list(TIMES)
    numbers[field] = value
    expected = "" if (field, value) == (2, 0) else "plan"  # without a start period
    assert stage(whole(check(), numbers)) == expected


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (MAGIC, 0),
        *((SIZE, size) for size in (0, 55, 8, 2**32 - 1, len(check().encode()) - 8, len(check().encode()) + 8)),
        *((COUNT, count) for count in (0, 1, 3, 2**32 - 1)),
        *((FLAGS, flags) for flags in (0, p.PLAN_JOIN | p.PLAN_LOG, p.PLAN_JOIN | p.PLAN_INIT, 2**32 - 1)),
        (FLAGS, p.PLAN_JOIN | p.PLAN_HOLD),
        (CLONE_FLAGS, 0x100),  # CLONE_VM
        *((fd, 0) for fd in (OWNER, TARGET, DIRECTORY, USERNS)),
        *((HEAD.size, size) for size in (0, 8, 31, 33, 48, 72, 2**32 - 1)),
    ],
)
def test_heads_that_lie(offset, value):
    assert stage(changed(BEGIN + offset, WORDS.pack(value))) == "plan"


@pytest.mark.parametrize("size", [0, 8, 24, 31, 36, 2**32 - 8, 2**31])
def test_operations_that_reach_beyond_it(size):
    assert stage(changed(FIRST, WORDS.pack(size))) == "plan"


@pytest.mark.parametrize("strings", [6, 9, 65535])
def test_strings_that_do_not_end_in_it(strings):
    assert stage(changed(FIRST + 6, struct.pack("=H", strings))) == "plan"


@pytest.mark.parametrize("count", [0, -1, 1, 2**16, 2**61])
def test_filters_that_reach_beyond_it(count):
    inner = check()
    inner.add_filter(bytes(8 * 4))
    inner._operations[-1] = inner._operations[-1][:16] + LONG.pack(count) + inner._operations[-1][24:]
    assert stage(whole(inner)) == "plan"


def test_a_plan_that_is_too_short_for_a_head():
    for left in range(0, HEAD.size, 8):
        body = HEALTH.pack(*TIMES) + bytes(check().encode()[:left])
        plan = p.Plan()
        plan._operations.append(OPERATION.pack(OPERATION.size + len(body), p.HEALTH, 0, 0, 0, 0) + body)
        assert stage(plan.encode()) == "plan"
    plan = p.Plan()
    plan._operations.append(OPERATION.pack(OPERATION.size, p.HEALTH, 0, 0, 0, 0))
    assert stage(plan.encode()) == "plan"


def nested() -> p.Plan:
    plan = check()
    plan.add_health(TIMES, check())
    return plan


def with_operation(code: int, *strings: str, **numbers: int) -> p.Plan:
    plan = check()
    plan.add(code, *strings, **numbers)
    return plan


@pytest.mark.parametrize(
    "inner",
    [
        nested(),
        with_operation(p.LIFE, "boot", "", ""),
        with_operation(p.JOIN, flags=NEWNS),
        with_operation(p.CGROUP, "/sys/fs/cgroup/x"),  # which would be removed at the check's end
    ],
    ids=["check", "life", "join", "cgroup"],
)
def test_what_a_check_may_not_hold(inner):
    assert stage(whole(inner)) == "plan"


def test_whatever_bytes_are_changed_it_is_refused_or_harmless():
    """No plan makes the helper read beyond it: that would end it by a signal, which is the stage "helper"."""
    chance = random.Random(18)
    sound = whole(check())
    end = len(sound) - OPERATION.size - 16
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(HEAD.size, end)
            data[at] = chance.choice((0, 1, 8, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        assert stage(data) in ("", "plan")
