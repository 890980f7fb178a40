"""Attack class 3: mount targets that are links to the host, and ones that are exchanged while they are being used."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from modes import NEAREST

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

UP = "../" * 20
# Where a start may fail that finds a link where it wants to mount. All else is a defect.
STAGES = {"mount", "file", "device", "root", "mask", "user", "workdir", "exec"}
STARTS = 150  # for each of two races in each of two modes; a few of them are enough where the race can be won
ATTEMPTS = 60  # of 60 starts each: the race is one of chance
SLOW_STARTS = 2500

SCRIPT = """
echo written > {place}/secret; touch {place}/new
for d in /proc /sys /dev /dev/shm /dev/pts /etc; do touch $d/attack; done
echo attack >> /etc/hosts; echo attack >> /etc/resolv.conf; echo attack >> /etc/hostname
cat {place}/secret
echo over
"""


@pytest.fixture
def image_with(image_of):
    """Make an image in which some paths are links, and some are directories."""

    def make(*directories, **links: str) -> pylxc.Image:
        def change(tree: Path) -> None:
            for directory in directories:
                (tree / str(directory).lstrip("/")).mkdir(parents=True)
            for name, target in links.items():
                path = tree / name.replace("__", "/").replace("_DOT_", ".")
                if path.is_dir() and not path.is_symlink():
                    path.rename(tree / "moved")
                path.unlink(missing_ok=True)
                path.symlink_to(target)

        return image_of(change)

    return make


@pytest.mark.parametrize("target", ["/", "{up}", "{place}", "{up}{place}", "/proc/self/root", "/proc/1/root", "/tmp"])
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "etc__hosts", "etc__resolv_DOT_conf", "etc__hostname"])
def test_links_in_the_place_of_mount_points(cage, canary, image_with, name, target):
    image = image_with(**{name: target.format(up=UP, place=canary.place)})
    try:
        script = SCRIPT.format(place=canary.place)
        result = cage.sh(script, image=image, network="host", check=False, timeout=30)
    except pylxc.SpawnError as error:
        assert error.stage in STAGES  # noqa: PT017  one of two outcomes
        return
    assert "over" in result.text
    assert canary.text not in result.text


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_mount_over_the_root_itself_is_refused(cage, canary, image_with, name):
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", image=image_with(**{name: "/"}))
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("way", ["absolute", "up"])
def test_a_target_behind_a_link_is_made_inside(cage, canary, image_with, weaken, way):
    """It bites: without the resolution inside the root, directories are made on the host."""
    image = image_with(canary.place, link=str(canary.place) if way == "absolute" else f"{UP}{canary.place}")
    for options in ({"tmpfs": ["/link/made/here"]}, {"volumes": {canary.secret: "/link/made/file"}}):
        assert cage.run("ls", f"{canary.place}/made", image=image, **options).text in ("here\n", "file\n")
        assert not canary.is_hurt()
        if way == "absolute":  # ".." ends at the place where the root is put together, a file system of its own
            with weaken("RESOLVE"):
                cage.run("true", image=image, **options)
            assert canary.is_hurt()
            canary.heal()


def test_a_volume_cannot_change_what_the_next_volume_is(cage, canary, image_with, tmp_path, weaken):
    """CVE-2021-30465: a target that lies on the host puts an attacker's links where the runtime looks next."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap/inner").symlink_to(canary.place)
    victim = canary.place / "victim"
    (victim / "inner").mkdir(parents=True)
    image = image_with(victim, hole=str(victim))
    volumes = {tmp_path / "trap": "/hole", victim / "inner": "/in"}

    def attack() -> str:
        return cage.run("cat", "/in/secret", image=image, volumes=volumes, check=False).text

    assert attack() == ""
    with weaken("RESOLVE"):
        # Where the trees are mapped to the container's own ids, the monitor opens them, which sees no mount of it.
        assert attack() == ("" if cage.mode == "default" else canary.text)
    shutil.rmtree(victim)


def test_binds_and_directories_through_links(cage, canary, image_with, tmp_path):
    image = image_with(canary.place, link=str(canary.place), up=f"{UP}{canary.place}", self="/proc/self/root")
    source = tmp_path / "source"
    source.mkdir()
    for target in ("/link", "/link/sub", "/up/sub"):
        cage.sh(f"touch {target}/new", image=image, volumes={source: target})
    for target in ("/self/in", "/self"):
        with pytest.raises(pylxc.SpawnError):
            cage.run("true", image=image, volumes={source: target})
    for target in ("/link/tmpfs", "/up/tmpfs"):
        cage.sh(f"touch {target}/new", image=image, tmpfs=[target])
    assert os.listdir(source) == ["new"]


# -- races ------------------------------------------------------------------------------------------------------------


@contextmanager
def race(programs: Path, pairs: list[tuple[Path, Path]]):
    """Exchange the two of each pair, over and over, while the block runs; in the end it has really been done."""
    words = [str(path) for pair in pairs for path in pair]
    racer = subprocess.Popen([programs / "racer", *words], stdout=subprocess.PIPE)
    try:
        yield
    finally:
        racer.send_signal(signal.SIGTERM)
        count = int(racer.communicate(timeout=20)[0])
    assert count > 1000


def pair_with_link(path: Path, target: object) -> tuple[Path, Path]:
    """A file or directory that is there, and a link beside it."""
    beside = path.with_name(f"{path.name}.link")
    beside.symlink_to(str(target))
    return path, beside


def traps(upper: Path, canary) -> list[tuple[Path, Path]]:
    """In a root: all that a start mounts on, each with a link to a place of the host's, there or not."""
    names = ("proc", "sys", "dev", "dev/pts", "dev/shm", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname")
    for name in names:
        path = upper / name
        if name.startswith("etc/"):
            path.touch()
        else:
            path.mkdir(exist_ok=True)
    made = {name: pair_with_link(upper / name, canary.place / name.replace("/", "-")) for name in names if "/" in name}
    made |= {name: pair_with_link(upper / name, canary.place) for name in names if "/" not in name}
    return list(made.values())


def attempts(count: int, one) -> int:
    """Call a function so many times from two threads; returns how many starts succeeded."""

    def attempt(_: int) -> bool:
        try:
            one()
        except pylxc.SpawnError as error:
            assert error.stage in STAGES  # noqa: PT017  one of two outcomes
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(attempt, range(count)))


def own_root(cage, canary, programs, count: int, *, strict: bool = True) -> int:
    """Race for a container's own upper directory, while it is started again and again, and commands enter it."""
    script = f"cat {canary.secret} /proc/1/root{canary.secret} 2>/dev/null; head -c 1 /proc/kcore 2>/dev/null; true"
    containers = [cage.create("sh", "-c", script, network="host") for _ in range(2)]

    def prepare(container) -> list[tuple[Path, Path]]:
        container.start()
        container.wait()
        return traps(cage.engine.root / "containers" / container.id / "upper", canary)

    free = [(container, prepare(container)) for container in containers]
    every = [pair for _, pairs in free for pair in pairs]

    def restart() -> None:
        container, pairs = free.pop()
        try:
            container.start()
            assert container.wait() == 0 or not strict
            assert list(container.logs()) == [] or not strict
        finally:
            free.append((container, pairs))

    try:
        with race(programs, every):
            return attempts(count, restart)
    finally:
        for container in containers:
            container.remove(force=True)


def shared_volume(cage, canary, programs, count: int, tmp_path) -> int:
    """Race for a directory that is bound into the container, and within which other things are to be mounted."""
    shared, other = tmp_path / "shared", tmp_path / "other"
    (shared / "deep").mkdir(parents=True)
    (shared / "deep/in").mkdir()
    other.mkdir()
    (other / "mark").touch()
    (shared / "file").touch()
    pairs = [pair_with_link(shared / "deep", canary.place), pair_with_link(shared / "file", canary.place / "file")]
    volumes = {shared: "/shared", other: "/shared/deep/in/it", other / "mark": "/shared/file"}
    look = f"cat /shared/deep/../secret {canary.secret} 2>/dev/null; touch /shared/deep/touched; true"

    def run() -> None:
        assert cage.sh(look, volumes=volumes, tmpfs=["/shared/deep/t"], workdir="/shared/deep/w").stdout == b""

    with race(programs, pairs):
        return attempts(count, run)


def test_a_race_for_the_containers_own_root(cage, canary, programs):
    assert own_root(cage, canary, programs, STARTS) > 0


def test_a_race_within_a_shared_volume(cage, canary, programs, tmp_path):
    assert shared_volume(cage, canary, programs, STARTS, tmp_path) > 0


# They bite: with paths that are merely joined to the root's, things are made on the host.


@pytest.mark.root
@pytest.mark.parametrize("mode", ["host"])
def test_the_race_for_the_root_is_won_without_the_resolution(cage, canary, programs, weaken):
    with weaken("RESOLVE"):
        for _ in range(ATTEMPTS):
            own_root(cage, canary, programs, 60, strict=False)
            if canary.is_hurt():
                break
    assert canary.is_hurt()
    canary.heal()


@pytest.mark.parametrize("mode", [NEAREST])
def test_the_race_within_a_volume_is_won_without_the_resolution(cage, canary, programs, tmp_path, weaken):
    with weaken("RESOLVE"):
        for _ in range(ATTEMPTS):
            shared_volume(cage, canary, programs, 60, tmp_path)
            if canary.is_hurt():
                break
    assert canary.is_hurt()
    canary.heal()


@pytest.mark.slow
def test_longer_races(cage, canary, programs, tmp_path):
    assert own_root(cage, canary, programs, SLOW_STARTS) > 0
    assert shared_volume(cage, canary, programs, SLOW_STARTS, tmp_path) > 0
