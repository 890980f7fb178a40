"""What a container is by default, seen from inside, in every way of starting a process in it."""

from __future__ import annotations

import os

import pytest
from modes import IS_ROOT

from pylxc.capabilities import DEFAULT_CAPABILITIES, capability_mask
from pylxc.runtime import isolation, rootless
from pylxc.runtime import plan as p

LOOK = "id -u; cat /proc/self/uid_map; ls /proc/self/fd; cat /proc/self/status"
FOURTEEN = capability_mask(DEFAULT_CAPABILITIES)


def status_of(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":\t") for line in text.splitlines()) if value}


EXTENTS = 1 if IS_ROOT else 2


def are_own(extents: list[tuple[int, ...]]) -> bool:
    """Say whether an id map is that of ids of the container's own: far from anybody's, or an ordinary user's all."""
    if IS_ROOT:
        ((inside, outside, count),) = extents
        return (inside, count) == (0, 65536) and outside >= 1 << 30
    # Seen from inside, they are the same as in the namespace of the user's that this one lies in.
    theirs = rootless.namespace().uids
    assert (theirs[0].inside, theirs[0].outside, theirs[0].count) == (0, os.geteuid(), 1)
    assert theirs[1].outside > os.geteuid()
    return extents == [(0, 0, 1), (1, 1, theirs[1].count)]


@pytest.mark.parametrize("way", ["run", "exec", "start", "popen"])
def test_a_default_container(box, way):
    if way == "run":
        text = box.sh(LOOK).text
    elif way == "exec":
        with box.start("sleep", "100") as container:
            text = container.exec(["sh", "-c", LOOK]).text
    elif way == "start":
        with box.start("sh", "-c", LOOK) as container:
            container.wait()
            text = "".join(line.data.decode() for line in container.logs())
    else:
        with box.popen("sh", "-c", LOOK) as process:
            text = process.communicate()[0].decode()
    lines = text.splitlines()
    assert lines[0] == "0"
    ids, rest = lines[1 : 1 + EXTENTS], lines[1 + EXTENTS :]
    assert are_own([tuple(map(int, line.split())) for line in ids])
    # ls has one more of its own, for the directory that it lists.
    assert rest[:4] == ["0", "1", "2", "3"]
    assert rest[4].startswith("Name:")
    status = status_of(text)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == FOURTEEN
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("1", "2", "1")
    assert status["Groups"] == "" if "Groups" in status else True


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        (p.NO_NEW_PRIVILEGES, "NoNewPrivs", "1"),
        (p.SECCOMP, "Seccomp", "2"),
        (p.CAPABILITIES, "CapBnd", f"{FOURTEEN:016x}"),
    ],
)
def test_it_bites(box, monkeypatch, code, name, value):
    """Each of these comes from one operation of the plan: without it the look from inside is another."""
    # A filter may only be installed under no_new_privs, so that one is looked at alone.
    options = {"seccomp": "unconfined"} if code == p.NO_NEW_PRIVILEGES else {}
    assert status_of(box.sh(LOOK, **options).text)[name] == value
    original = isolation.add_identity

    def without(plan, payload, spec) -> None:
        original(plan, payload, spec)
        kept = [n for n, one in enumerate(plan._operations) if int.from_bytes(one[4:6], "little") != code]
        plan._operations = [plan._operations[n] for n in kept]
        plan._subjects = [plan._subjects[n] for n in kept]

    monkeypatch.setattr(isolation, "add_identity", without)
    assert status_of(box.sh(LOOK, **options).text)[name] != value
