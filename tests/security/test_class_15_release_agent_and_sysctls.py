"""Attack class 15: release_agent cannot be written; a sysctl is one of the container's own, and one value."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import pylxc
from pylxc import spec
from pylxc.normalise import resources

FORWARD = "net.ipv4.ip_forward"
# Of the whole machine, harmless, and seldom set: what it is is put back.
GLOBAL = "kernel.core_pipe_limit"


@pytest.fixture
def agent(canary, tmp_path):
    """A hierarchy of cgroups of the test's own, and a program that is to be run on the host when one gets empty."""
    place, name = tmp_path / "cgroup", f"pylxc-{tmp_path.name}"
    program = canary.place / "agent"
    program.write_text(f"#!/bin/sh\necho escaped > {canary.place}/escaped\n")
    program.chmod(0o755)
    place.mkdir()
    subprocess.run(["mount", "-t", "cgroup", "-o", f"none,name={name}", "none", place], check=True)
    try:
        yield name, program, place
    finally:
        subprocess.run(["umount", place], check=True)
        program.unlink()


def escape(cage, agent, **options) -> None:
    """The classic: mount a hierarchy, name an agent, let a cgroup run empty."""
    name, program, _ = agent
    script = (
        f"mkdir /c; mount -t cgroup -o none,name={name} none /c; echo {program} > /c/release_agent; mkdir /c/x;"
        "echo 1 > /c/x/notify_on_release; sh -c 'echo 0 > /c/x/tasks; true'; sleep 0.2; rmdir /c/x; umount /c"
    )
    cage.sh(script, check=False, **options)


@pytest.mark.root
def test_release_agent_cannot_be_written(cage, agent, canary):
    """Also with what is nearly enough: one power, or one defence less than it takes."""
    _, program, place = agent
    for options in ({}, {"seccomp": "unconfined"}, {"cap_add": ["SYS_ADMIN"]} if cage.mode == "default" else {}):
        escape(cage, agent, **options)
        assert (place / "release_agent").read_text().strip() == ""
        assert not (canary.place / "escaped").exists()
    agents = [path.read_text() for path in Path("/sys/fs/cgroup").glob("*/release_agent")]
    assert not any(str(program) in text for text in agents)


@pytest.mark.root
def test_it_bites_without_isolation(box, agent, canary):
    """privileged=True is no isolation: the kernel runs the program on the host."""
    escape(box, agent, privileged=True)
    deadline = time.monotonic() + 5
    while not (canary.place / "escaped").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (canary.place / "escaped").unlink()


def test_there_is_no_release_agent_inside(cage):
    assert cage.sh("find / -xdev -name release_agent; ls -d /sys/fs/cgroup/*/release_agent", check=False).text == ""


@contextmanager
def anything_goes(monkeypatch):
    """Take every sysctl for one that has a namespace."""
    monkeypatch.setattr(resources, "_SYSCTLS", frozenset({resources.sysctl_path(GLOBAL)}))
    yield
    monkeypatch.undo()


def value_of(name: str) -> str:
    return Path("/proc/sys", name.replace(".", "/")).read_text()


@pytest.mark.parametrize("name", ["kernel.core_pattern", "kernel.panic", "vm.overcommit_memory", "fs.file-max", GLOBAL])
def test_sysctls_of_the_host_are_out_of_reach(cage, name):
    before = value_of(name)
    with pytest.raises(pylxc.SpecError, match="sysctls"):
        cage.run("true", sysctls={name: "1"})
    result = cage.sh(f"echo 1 > /proc/sys/{name.replace('.', '/')}", check=False)
    assert result.exit_code != 0
    assert value_of(name) == before


def test_it_bites_without_the_list(cage, monkeypatch):
    before = value_of(GLOBAL)
    other = str(int(before) + 1)
    try:
        with anything_goes(monkeypatch):
            if cage.mode == "host":
                cage.run("true", sysctls={GLOBAL: other})
                assert value_of(GLOBAL).strip() == other
            else:  # the host's settings belong to nobody there: a second wall
                with pytest.raises(pylxc.SpawnError) as caught:
                    cage.run("true", sysctls={GLOBAL: other})
                assert caught.value.stage == "sysctl"
                assert value_of(GLOBAL) == before
    finally:
        if value_of(GLOBAL) != before:
            Path("/proc/sys", GLOBAL.replace(".", "/")).write_text(before)


@pytest.mark.parametrize(
    "name", ["net.ipv4/../../kernel/core_pattern", "net/../kernel/core_pattern", "net.ipv4.ip_forward=1\nkernel.panic"]
)
def test_a_name_leads_nowhere_else(cage, name):
    before = value_of("kernel.core_pattern")
    with pytest.raises(pylxc.SpecError):
        cage.run("true", sysctls={name: "1"})
    assert value_of("kernel.core_pattern") == before


@pytest.mark.parametrize("value", ["1\nkernel.core_pattern=x", "1\0", "", " "])
def test_a_value_smuggles_no_second_one(cage, value):
    before = value_of("kernel.core_pattern")
    with pytest.raises(pylxc.SpecError, match="sysctls"):
        cage.run("true", sysctls={FORWARD: value})
    assert value_of("kernel.core_pattern") == before
    assert cage.run("cat", "/proc/sys/net/ipv4/ip_forward", sysctls={FORWARD: "1"}).text == "1\n"


def test_a_value_that_gets_past_the_check_is_still_one_value(cage, monkeypatch):
    """It bites: without the check the start goes on. The second wall: all of it goes to the file that the name says."""
    before = value_of("kernel.core_pattern"), value_of(FORWARD)
    monkeypatch.setitem(spec.NORMAL, "sysctls", lambda _option, value: dict(value))
    look = ("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/core_pattern")
    text = cage.run(*look, sysctls={FORWARD: "1\nkernel.core_pattern=x"}).text
    assert text == f"1\n{before[0]}"
    assert (value_of("kernel.core_pattern"), value_of(FORWARD)) == before
