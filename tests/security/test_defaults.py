"""What a container is by default, seen from inside, in every way of starting a process in it."""

from __future__ import annotations

import pytest

from pylxc.capabilities import DEFAULT_CAPABILITIES, capability_mask
from pylxc.runtime import isolation
from pylxc.runtime import plan as p

LOOK = "id -u; cat /proc/self/uid_map; ls /proc/self/fd; cat /proc/self/status"
FOURTEEN = capability_mask(DEFAULT_CAPABILITIES)


def status_of(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":\t") for line in text.splitlines()) if value}


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
    inside, outside, count = map(int, lines[1].split())
    assert (inside, count) == (0, 65536)
    assert outside >= 1 << 30
    # ls has one more of its own, for the directory that it lists.
    assert lines[2:6] == ["0", "1", "2", "3"]
    assert lines[6].startswith("Name:")
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
