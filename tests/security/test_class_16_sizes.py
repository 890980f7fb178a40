"""Attack class 16: what is far too large is refused, or served whole; it is never cut short, and takes no time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import cgroups

import pylxc
from pylxc.runtime import cgroup, idrange, isolation, mounting

SECONDS = 60.0  # on a machine that does other things meanwhile; refusals take a hundredth of it, and hangs for ever
KIBI = 1024


@contextmanager
def soon():
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < SECONDS


def test_a_hundred_thousand_mounts_are_refused(cage, canary, monkeypatch):
    monkeypatch.setattr(cgroup, "PREFIX", "pylxc-refused-")  # nobody else's
    with soon(), pytest.raises(pylxc.SpecError, match=r"fs\.mount-max") as caught:
        cage.run("true", tmpfs=[f"/t/{number}" for number in range(100_000)])
    assert len(str(caught.value)) < 500
    assert cgroups() == set(), "it left its cgroups"


@pytest.mark.root
def test_the_kernel_refuses_them_too(cage, canary, monkeypatch):
    """It bites: without the look beforehand they are mounted one by one, until the kernel has enough of it."""
    monkeypatch.setattr(mounting, "MANY_MOUNTS", 1 << 30)
    limit = Path("/proc/sys/fs/mount-max")
    before = limit.read_text()
    limit.write_text("1000")
    try:
        with pytest.raises(pylxc.SpawnError) as caught:
            cage.run("true", tmpfs=[f"/t/{number}" for number in range(1200)])
    finally:
        limit.write_text(before)
    assert caught.value.stage == "mount"
    assert caught.value.subject.startswith("mounts[9")


def test_a_thousand_mounts_are_all_there(cage, canary, tmp_path):
    (tmp_path / "in").mkdir()
    volumes = {f"{tmp_path}/in": "/v/0"} | {f"{tmp_path}/in/": "/v/1"}
    tmpfs = [f"/t/{number}" for number in range(1500)]
    text = cage.sh("grep -c ' /t/' /proc/mounts; ls /t | wc -l; ls /v | wc -l", tmpfs=tmpfs, volumes=volumes).text
    assert text.split() == ["1500", "1500", str(len({*map(str, volumes)}))]


def map_of(size: int) -> str:
    """An id map of about so many bytes, all of it in order."""
    lines = (f"{number} {idrange.FIRST + number} 1" for number in range(size // 18))
    return "\n".join(lines)


def with_map(monkeypatch, text: str) -> None:
    def ids_for(*_given):
        @contextmanager
        def ids():
            yield isolation.Ids(uid_map=text, gid_map=text)

        return ids()

    monkeypatch.setattr(isolation, "ids_for", ids_for)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["default"])
@pytest.mark.parametrize("size", [1 << 20, 5 << 10])
def test_an_id_map_of_a_mebibyte_is_refused(cage, canary, monkeypatch, size):
    """The kernel takes less than a page, in one write; the beginning of a longer one would be another map."""
    with_map(monkeypatch, map_of(size))
    with soon(), pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true")
    assert (caught.value.stage, caught.value.subject) == ("namespaces", "the user namespace")


@pytest.mark.root
@pytest.mark.parametrize("mode", ["default"])
def test_an_id_map_that_is_taken_is_taken_whole(cage, monkeypatch):
    text = map_of(4000)
    with_map(monkeypatch, text)
    served = cage.run("cat", "/proc/self/uid_map").text
    assert [line.split() for line in served.splitlines()] == [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("way", ["run", "exec"])
def test_4096_variables_of_128_kib_are_refused(cage, canary, way):
    large = "x" * (128 * KIBI)
    env = {f"N{number}": large for number in range(4096)}  # half a gibibyte
    with cage.start("sleep", "100") as container, soon(), pytest.raises(pylxc.SpecError, match="env") as caught:
        if way == "run":
            cage.run("true", env=env)
        else:
            container.exec(["true"], env=env)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "env", [{"BIG": "x" * 128 * KIBI}, {f"N{number}": "x" * 100 * KIBI for number in range(60)}], ids=["one", "sum"]
)
def test_what_only_the_kernel_knows_is_refused_by_it(cage, env):
    """One variable above 128 KiB, or too many below the most that there can ever be: the error names the step."""
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", env=env)
    assert caught.value.stage == "exec"


def test_variables_that_fit_are_all_there(cage):
    env = {f"N{number}": "x" * 100 for number in range(4096)} | {"LONG": "y" * (128 * KIBI - 6)}
    script = "env | grep -c ^N; env | grep ^LONG | wc -c"
    assert cage.run("sh", "-c", script, env=env).text.split() == ["4096", str(128 * KIBI)]
    with cage.start("sleep", "100", env=env) as container:
        assert container.exec(["sh", "-c", script]).text.split() == ["4096", str(128 * KIBI)]


def test_arguments(cage):
    many = ["x"] * 50_000
    assert cage.run("sh", "-c", "echo $#", "sh", *many).text == "50000\n"
    with soon(), pytest.raises(pylxc.SpecError, match="limit"):
        cage.run("true", *["x"] * 70_000)
    with soon(), pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", "x" * (1 << 20))
    assert caught.value.stage == "exec"
