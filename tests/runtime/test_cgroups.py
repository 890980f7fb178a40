"""Where containers' cgroups lie: as they see them, as an ordinary user may make them, and that all of them go."""

from __future__ import annotations

import os
import signal
import subprocess
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from pylxc.errors import UnsupportedError
from pylxc.runtime import cgroup, native
from pylxc.spec import ContainerSpec

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

HERE = cgroup.hierarchies()
MOUNTED = cgroup.parse_mounts(Path("/proc/self/mountinfo").read_text())
UNIFIED = Path(MOUNTED.v2)  # the root, in which the tests make cgroups of their own
USER = 12345  # whoever that is
PLAIN, LIMITED = ContainerSpec(image="x"), ContainerSpec(image="x", memory="64m")


def places_of(text: str) -> dict[str, str]:
    """Return a /proc/PID/cgroup as controllers ("" for v2) and paths."""
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in text.splitlines()}


# -- the namespace -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"memory": "64m"}, {"userns": "host"}, {"privileged": True}])
def test_a_container_sees_its_own_cgroups_as_the_root(box, options):
    seen = places_of(box.run("cat", "/proc/self/cgroup", **options).text)
    assert set(seen.values()) == {"/"}


def test_they_are_no_roots_from_outside(box):
    """It bites: the very same process, seen by the host, is in cgroups of the container, on v1 and on v2."""
    with box.start("sleep", "100", memory="64m") as container:
        outside = places_of(Path(f"/proc/{container.status().pid}/cgroup").read_text())
        own = f"{cgroup.PREFIX}{container.id}"
        limited = "" if "memory" in HERE.v2_controllers else "memory"
        assert {os.path.basename(outside[name]) for name in {limited, *([""] if HERE.v2 else [])}} == {own}
        for text in (container.exec(["cat", "/proc/self/cgroup"]).text, container.exec(["cat", "/proc/1/cgroup"]).text):
            assert set(places_of(text).values()) == {"/"}


def test_the_namespace_is_the_containers(box):
    with box.start("sleep", "100") as container:
        inside = os.stat(f"/proc/{container.status().pid}/ns/cgroup").st_ino
        assert inside != Path("/proc/self/ns/cgroup").stat().st_ino
        assert container.exec(["readlink", "/proc/self/ns/cgroup"]).text == f"cgroup:[{inside}]\n"


@pytest.mark.parametrize("options", [{}, {"network": "host"}, {"userns": "host", "network": "host"}])
def test_the_hosts_cgroups_are_not_shown(box, options):
    """With the host's network the container has the host's /sys, where they are mounted."""
    assert box.run("ls", "/sys/fs/cgroup", **options).text == ""


# -- removal -----------------------------------------------------------------------------------------------------------


@contextmanager
def a_cgroup(place: Path):
    place.mkdir()
    try:
        yield place
    finally:
        native.remove_cgroup(str(place))


def make_below(place: Path, depth: int) -> None:
    """Make cgroups of any depth: paths are only so long, so each is entered."""
    at = os.open(place, os.O_DIRECTORY)
    for number in range(depth):
        os.mkdir(f"level{number}", dir_fd=at)
        below = os.open(f"level{number}", os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


@pytest.mark.parametrize("root", [place for place in dict.fromkeys((MOUNTED.v2, HERE.v1.get("memory", ""))) if place])
def test_a_tree_of_cgroups_goes_deepest_first(root):
    place = Path(root, f"pylxc-test-{os.getpid()}")
    with a_cgroup(place):
        make_below(place, 300 if root == MOUNTED.v2 else 30)
        for number in range(100):
            (place / f"wide{number}" / "child").mkdir(parents=True)
    assert not place.exists()
    native.remove_cgroup(str(place))  # one that is not there is no error


def test_what_still_has_a_process_is_waited_for_and_then_told():
    place = UNIFIED / f"pylxc-test-{os.getpid()}"
    with a_cgroup(place):
        (place / "below").mkdir()
        sleeper = subprocess.Popen(["sleep", "100"])
        (place / "below/cgroup.procs").write_text(str(sleeper.pid))
        with pytest.raises(OSError, match="Device or resource busy"):
            native.remove_cgroup(str(place))
        sleeper.kill()  # it leaves in a moment, and is waited for
        native.remove_cgroup(str(place))
        sleeper.wait()
        assert not place.exists()


# -- what was delegated ------------------------------------------------------------------------------------------------


def as_user(place: Path, act: Callable[[], str]) -> str:
    """Return what a function says in a process of an ordinary user that is in a cgroup.

    It is a fork: the interpreter may lie where that user cannot go.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            (place / "cgroup.procs").write_text("0")
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            said = act()
        except BaseException:  # noqa: BLE001  it is told to the other side
            said = traceback.format_exc()
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def refusal(act: Callable[[], object]) -> str:
    """Return which feature is not to be had, checked to come with the remedy."""
    with pytest.raises(UnsupportedError) as caught:
        act()
    assert "systemd-run --user --scope -p Delegate=yes" in caught.value.remedy
    assert "Delegate=cpu cpuset io memory pids" in caught.value.remedy
    return caught.value.feature


def delegate(place: Path) -> None:
    for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
        os.chown(place / name, USER, USER)


def live_below(base: Path) -> str:
    """Make a container's cgroup, put a process in, freeze it, remove all: as an ordinary user."""
    found = cgroup.hierarchies()
    assert (found.v2, dict(found.v1), found.restricted) == (str(base), {}, True)
    made = cgroup.create(PLAIN, "mine", accounted=True)
    assert made == (f"{base}/pylxc-mine",)
    sleeper = subprocess.Popen(["sleep", "100"], cwd="/")
    Path(made[0], "cgroup.procs").write_text(str(sleeper.pid))
    cgroup.freeze("mine", frozen=True)
    assert cgroup.is_frozen("mine")
    cgroup.freeze("mine", frozen=False)
    assert not cgroup.is_frozen("mine")
    Path(made[0], "below").mkdir()
    assert cgroup.directories("mine") == made
    cgroup.remove("mine")
    assert sleeper.wait() == -signal.SIGKILL
    assert not Path(made[0]).exists()
    return "done"


def test_an_ordinary_user_makes_them_in_what_was_delegated():
    """As systemd does it: user@UID.service belongs to the user, and the program is in a scope below."""
    with a_cgroup(UNIFIED / f"pylxc-test-{os.getpid()}") as place:
        delegated = place / "user@12345.service"
        scope = delegated / "app.slice/run.scope"
        scope.mkdir(parents=True)
        for each in (delegated, scope.parent, scope):
            delegate(each)
        assert as_user(scope, lambda: live_below(delegated)) == "done"
        offered = set((delegated / "cgroup.controllers").read_text().split())
        if "memory" not in offered:
            assert as_user(scope, lambda: refusal(lambda: cgroup.create(LIMITED, "mine", accounted=True))) == "memory"
            assert not (delegated / "pylxc-mine").exists()


def test_an_ordinary_user_to_whom_nothing_was_delegated():
    def say() -> str:
        assert cgroup.hierarchies().kind() == "none"
        assert cgroup.create(PLAIN, "mine", accounted=True) == ()
        cgroup.remove("mine")
        return ", ".join(
            (
                refusal(lambda: cgroup.create(LIMITED, "mine", accounted=True)),
                refusal(lambda: cgroup.freeze("mine", frozen=True)),
                refusal(lambda: cgroup.create(PLAIN, "mine", accounted=True, delegate=(0, 0))),
            )
        )

    with a_cgroup(UNIFIED / f"pylxc-test-{os.getpid()}") as place:
        assert as_user(place, say) == 'memory, pausing this container, init="system"'


def test_what_lies_above_ones_own_root_is_not_delegated():
    """In a cgroup namespace whose root is elsewhere the path begins with "/..": nothing is known of what is there."""
    assert (
        cgroup.within_reach(MOUNTED, "0::/../elsewhere\n") == MOUNTED
    )  # who may write to the root needs nothing delegated

    def say() -> str:
        mine = f"/{place.name}"
        return " ".join(
            cgroup._delegated(MOUNTED.v2, own) for own in (f"1:x:/\n0::{mine}\n", f"0::/..{mine}\n", "1:x:/")
        )

    with a_cgroup(UNIFIED / f"pylxc-test-{os.getpid()}") as place:
        delegate(place)
        assert as_user(place, say) == f"{place}  "


# -- limits as they are written ----------------------------------------------------------------------------------------

EVERYTHING = {
    "memory": "64m",
    "memory_swap": "80m",
    "cpus": 1.5,
    "cpu_shares": 1024,
    "cpuset": "0-1",
    "pids_limit": 100,
    "io_weight": 500,
}


def written(unified: set[str], **options) -> dict[str, str]:
    spec = ContainerSpec(image="x", **options)
    return {name: value for _, _, name, value in cgroup._settings(spec, unified=frozenset(unified))}


def test_limits_of_v2():
    assert written({"memory", "cpu", "cpuset", "pids", "io"}, **EVERYTHING) == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(16 << 20),
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "cpu.weight": "39",
        "cpuset.cpus": "0-1",
        "pids.max": "100",
        "io.weight": "4950",
        "io.bfq.weight": "500",
    }


def test_limits_of_v1():
    assert written(set(), **EVERYTHING) == {
        "memory.memsw.limit_in_bytes": str(80 << 20),
        "memory.limit_in_bytes": str(64 << 20),
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "cpu.shares": "1024",
        "cpuset.cpus": "0-1",
        "pids.max": "100",
        "blkio.weight": "500",
        "blkio.bfq.weight": "500",
    }


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"memory": "64m"}, "memory.swap.max", str(64 << 20)),
        ({"memory": "64m", "memory_swap": -1}, "memory.swap.max", "max"),
        ({"memory": "64m", "memory_swap": "64m"}, "memory.swap.max", "0"),
        ({"pids_limit": -1}, "pids.max", "max"),
        ({"cpu_shares": 2}, "cpu.weight", "1"),
        ({"cpu_shares": 262144}, "cpu.weight", "10000"),
        ({"io_weight": 10}, "io.weight", "1"),
        ({"io_weight": 1000}, "io.weight", "10000"),
    ],
)
def test_the_ends_of_scales(options, name, value):
    assert written({"memory", "cpu", "cpuset", "pids", "io"}, **options)[name] == value


def test_a_container_ends_as_a_whole_for_want_of_memory_but_not_an_operating_system():
    """tests/runtime/test_limits.py sees the kernel do it."""
    assert written({"memory"}, memory="64m")["memory.oom.group"] == "1"
    assert written({"memory"}, memory="64m", init="system")["memory.oom.group"] == "0"


def test_weights_where_the_kernel_has_them_and_where_not(box):
    controller = "io" if "io" in HERE.v2_controllers else "blkio"
    with box.start("sleep", "100") as container, a_cgroup(Path(HERE.directory("blkio", "probe") or UNIFIED / "probe")):
        place = HERE.directory(controller, container.id if controller == "io" else "probe")
        files = [name for name in os.listdir(place) if name.endswith((".weight", "bfq.weight"))]
    if not files:
        with pytest.raises(UnsupportedError, match="io_weight"):
            box.run("true", io_weight=300)
        return
    with box.start("sleep", "100", io_weight=300) as container:
        made = HERE.directory(controller, container.id)
        shown = "".join(Path(made, name).read_text() for name in files)
        assert "300" in shown or "2930" in shown


def test_a_controller_that_cannot_be_passed_on(tmp_path, monkeypatch):
    """A delegated cgroup that has processes of its own has none for its children, and it is said why."""
    (tmp_path / "cgroup.controllers").write_text("memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    error = cgroup._missing(
        attrs.evolve(HERE, v2=str(tmp_path), v2_controllers=frozenset(("memory", "pids"))), "memory", "memory", "x"
    )
    assert "has processes of its own" in str(error)
    assert "systemd-run" in error.remedy


def test_on_v2_a_parent_keeps_the_controllers_from_being_taken_away(box):
    """What systemd does when no unit of its own needs a controller: it takes it off the root's children."""
    if "memory" not in HERE.v2_controllers or HERE.restricted:
        assert os.path.basename(HERE.v2) != cgroup.PARENT
        return
    with box.start("sleep", "100", memory="64m", pids_limit=50) as container:
        place = Path(HERE.directory("memory", container.id))
        assert place.parent.parent == UNIFIED
        with pytest.raises(OSError, match="busy"):
            (UNIFIED / "cgroup.subtree_control").write_text("-memory")
        assert (place / "memory.max").read_text() == f"{64 << 20}\n"
    assert not place.parent.exists()
