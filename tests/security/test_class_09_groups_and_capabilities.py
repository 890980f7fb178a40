"""Attack class 9: groups and capabilities are exactly those that they should be, in run and in exec."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager

import pytest
from modes import IS_ROOT

from pylxc.capabilities import DEFAULT_CAPABILITIES, capability_mask
from pylxc.runtime import isolation
from pylxc.runtime import plan as p

STATUS = ["cat", "/proc/self/status"]
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FOURTEEN = capability_mask(DEFAULT_CAPABILITIES)
CALLERS_GROUPS = [4, 27, 4444]
NOBODYS = 65534


def fields_of(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def groups_of(text: str) -> list[int]:
    return sorted(map(int, fields_of(text)["Groups"].split()))


def sets_of(text: str) -> dict[str, int]:
    return {name: int(fields_of(text)[name], 16) for name in SETS}


@contextmanager
def every_way(cage, **options):
    """Yield a function that gives a process's status as seen in a run, and as seen in an exec."""
    with cage.start("sleep", "100", **options) as container:

        def look(user: str | None = None) -> list[str]:
            more = {} if user is None else {"user": user}
            return [cage.run(*STATUS, **options, **more).text, container.exec(STATUS, user=user).text]

        yield look


def as_seen_inside(mode: str, group: int) -> int:
    """Return what a group of the host is called in a container: root's there is the ordinary user's own."""
    own = {"host": group, "rootless": 0 if group == os.getegid() else NOBODYS}
    return own.get(mode, NOBODYS)


@pytest.fixture
def callers_groups():
    """Groups of the caller's own, which must not come through. Only root may choose them."""
    saved = os.getgroups()
    if IS_ROOT:
        os.setgroups(CALLERS_GROUPS)
    assert os.getgroups()
    yield
    if IS_ROOT:
        os.setgroups(saved)


@pytest.fixture
def image(image_of):
    users = ("root:x:0:0::/:/bin/sh", "ann:x:1001:1001::/home/ann:/bin/sh", "an:x:1002:1002::/:/bin/sh", "")
    groups = ("root:x:0:root", "one:x:11:ann", "two:x:12:bob,ann", "three:x:13:joann,ann2,an", "four:x:14:an,ann,", "")

    def members(tree):
        (tree / "etc/passwd").write_text("\n".join(users))
        (tree / "etc/group").write_text("\n".join(groups))

    return image_of(members)


def test_supplementary_groups_are_exactly_the_databases(cage, image, callers_groups, weaken):
    expected = {"ann": [11, 12, 14], "an": [13, 14], "1001": [11, 12, 14], "ann:one": [], "5555": [], "0": [0]}
    with every_way(cage, image=image) as look:
        for user, groups in {**expected, None: [0]}.items():
            assert [groups_of(text) for text in look(user)] == [groups, groups], user
        with weaken("GROUPS"):  # it bites: the caller's come through (as nobody's, where ids are the container's own)
            theirs = sorted(as_seen_inside(cage.mode, group) for group in os.getgroups())
            assert [groups_of(text) for text in look("5555")] == [theirs, theirs]


def test_ids_are_exactly_the_databases(cage, image, callers_groups):
    for text in (cage.run(*STATUS, image=image, user="ann:two").text,):
        assert [fields_of(text)[name].split() for name in ("Uid", "Gid")] == [["1001"] * 4, ["12"] * 4]
    assert cage.sh("echo $HOME", image=image, user="ann").text == "/home/ann\n"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, FOURTEEN),
        ({"cap_drop": ["ALL"]}, 0),
        ({"cap_drop": ["ALL"], "cap_add": ["NET_BIND_SERVICE"]}, capability_mask({"NET_BIND_SERVICE"})),
        ({"cap_add": ["SYS_TIME"]}, FOURTEEN | capability_mask({"SYS_TIME"})),
    ],
)
def test_capabilities_are_exactly_those(cage, options, kept):
    with every_way(cage, **options) as look:
        for text in look("0"):
            assert sets_of(text) == {"CapInh": 0, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": 0}
        for text in look("nobody"):  # another user has none, and can only get what is in the bounding set
            assert sets_of(text) == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": kept, "CapAmb": 0}


@pytest.fixture
def callers_inheritable():
    """Inheritable capabilities of the caller's own, which must not come through: CAP_NET_RAW (capget(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    saved, changed = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, saved) == 0
    changed[:] = saved[:]
    changed[2] |= capability_mask({"NET_RAW"})
    assert libc.capset(header, changed) == 0
    yield
    assert libc.capset(header, saved) == 0


def without_operation(monkeypatch, second: int) -> None:
    """Leave one of the two operations out that take capabilities away: of the bounding set (0), of the others (1)."""
    original = isolation.add_identity

    def without(plan, payload, spec) -> None:
        original(plan, payload, spec)
        heads = [p._OP.unpack(one[: p._OP.size]) for one in plan._operations]
        kept = [n for n, head in enumerate(heads) if (head[1], head[4]) != (p.CAPABILITIES, second)]
        plan._operations = [plan._operations[n] for n in kept]
        plan._subjects = [plan._subjects[n] for n in kept]

    monkeypatch.setattr(isolation, "add_identity", without)


def test_it_bites_without_the_bounding_set(cage, monkeypatch):
    without_operation(monkeypatch, 0)
    with every_way(cage, no_new_privileges=False, seccomp="unconfined") as look:
        assert all(sets_of(text)["CapBnd"] & ~FOURTEEN for text in look("0"))


@pytest.mark.root
@pytest.mark.parametrize("mode", ["host"])  # the kernel clears them for a process that enters a user namespace
def test_inheritable_capabilities_of_the_caller_do_not_come_through(cage, callers_inheritable, monkeypatch):
    options = {"no_new_privileges": False, "seccomp": "unconfined"}
    assert sets_of(cage.run(*STATUS, **options).text)["CapInh"] == 0
    without_operation(monkeypatch, 1)  # it bites
    assert sets_of(cage.run(*STATUS, **options).text)["CapInh"] == capability_mask({"NET_RAW"})
