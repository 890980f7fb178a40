"""What a container is by default, seen from inside, in every way of starting a process in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pylxc
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


@pytest.mark.parametrize("userns", ["private", "host"])
def test_release_agent_cannot_be_written(box, tmp_path, userns):
    """The way out of cgroup v1: a program that the kernel would run on the host (attack class 15)."""
    canary = tmp_path / "canary"
    script = (
        "for f in $(find / -xdev -name release_agent 2>/dev/null) /sys/fs/cgroup/*/release_agent; do echo $1 > $f; done"
        ";mkdir /c; mount -t cgroup -o memory none /c; echo $1 > /c/release_agent"
    )
    box.run("sh", "-c", script, "sh", str(canary), userns=userns, check=False)
    agents = [path.read_text() for path in Path("/sys/fs/cgroup").glob("*/release_agent") if os.access(path, os.R_OK)]
    assert not any(str(canary) in text for text in agents)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["kernel.core_pattern", "kernel.panic", "vm.overcommit_memory", "fs.file-max"])
@pytest.mark.parametrize("userns", ["private", "host"])
def test_sysctls_of_the_host_are_out_of_reach(box, name, userns):
    path = Path("/proc/sys", name.replace(".", "/"))
    before = path.read_text()
    with pytest.raises(pylxc.SpecError, match="sysctls"):
        box.run("true", sysctls={name: "1"}, userns=userns)
    result = box.sh(f"echo 1 > {path}", userns=userns, check=False)
    assert result.exit_code != 0
    assert path.read_text() == before


@pytest.mark.parametrize("value", ["1\nkernel.core_pattern=x", "1\0"])
def test_a_sysctl_value_smuggles_no_second_one(box, value):
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    with pytest.raises((pylxc.SpecError, pylxc.SpawnError)):
        box.run("true", sysctls={"net.ipv4.ip_forward": value})
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_a_large_environment_is_served_or_refused(box):
    """Never cut short (attack class 16): the kernel's limit is an error that names it."""
    many = {f"N{number}": "x" * 100 for number in range(4096)}
    assert box.run("sh", "-c", "env | grep -c ^N", env=many).text == "4096\n"
    for env in ({"BIG": "x" * (128 << 10)}, {f"N{number}": "x" * (100 << 10) for number in range(100)}):
        with pytest.raises(pylxc.SpawnError) as caught:
            box.run("true", env=env)
        assert caught.value.stage == "exec"
