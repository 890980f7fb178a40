"""Health checks: when they run and what they come to, judged by the monitor's own record of them."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import attrs
import pytest
from boxes import await_true, children_of, is_alive

import pylxc
from pylxc.imageconfig import ImageConfig
from pylxc.runtime import cgroup, isolation, record, usage

PATIENCE = 20.0
CLOCKS = 0.98  # what is waited for by one clock and recorded by another
NEVER = 1000  # s
WELL = "test -e /tmp/well"
PLAINLY = ("sleep", "1000")
NAMESPACES = "for one in /proc/self/ns/*; do readlink $one; done"


def health(container: pylxc.Container) -> dict:
    return container.inspect()["State"]["Health"]


def results(container: pylxc.Container, count: int = 1) -> list[dict]:
    """Return the last results when there are so many."""
    found: list[dict] = []

    def enough() -> bool:
        found[:] = health(container)["Log"]
        return len(found) >= count

    await_true(enough, f"{count} results", PATIENCE)
    return found


def await_health(container: pylxc.Container, wanted: str) -> None:
    await_true(lambda: container.status().health == wanted, wanted, PATIENCE)


def tell(container: pylxc.Container, *words: str) -> None:
    container.exec(list(words))


def test_it_becomes_healthy(box):
    with box.start(*PLAINLY, healthcheck={"test": "echo well", "interval": 0.1}) as container:
        assert container.status().health == "starting"
        assert container.status().describe().endswith(" (health: starting)")
        container.wait_ready(healthy=True, timeout=PATIENCE)
        assert container.status().health == "healthy"
        assert container.status().describe().endswith(" (healthy)")
        log = results(container, 3)
        assert [(one["ExitCode"], one["Output"]) for one in log] == [(0, "well\n")] * len(log)
        assert log[0]["Start"] - container.status().started_at > 0.1 * CLOCKS
        for before, after in itertools.pairwise(log):
            assert after["Start"] - before["End"] > 0.1 * CLOCKS
        assert (health(container)["Status"], health(container)["FailingStreak"]) == ("healthy", 0)
        found = pylxc.Container.list(filters={"health": "healthy"}, engine=box.engine)
        assert [one.id for one in found] == [container.id]
        assert pylxc.Container.list(filters={"health": "none"}, engine=box.engine) == []
        container.stop(timeout=0)
        assert container.status().health is None
        assert health(container)["Log"]
        container.start()
        assert container.status().health == "starting" or results(container)[-1]["Start"] > log[-1]["End"]


def test_as_many_failures_as_retries_make_it_unhealthy(box):
    with box.start(*PLAINLY, healthcheck={"test": "exit 7", "interval": 0.03, "retries": 3}) as container:
        seen = set()

        def unhealthy() -> bool:
            seen.add(record.read_health(container._directory()))
            return record.read_health(container._directory())[0] == "unhealthy"

        await_true(unhealthy, "unhealthy", PATIENCE)
        assert all((status == "unhealthy") == (streak >= 3) for status, streak in seen)
        assert container.status().describe().endswith(" (unhealthy)")
        assert {one["ExitCode"] for one in results(container, 3)} == {7}
        with pytest.raises(pylxc.ExitError) as caught:
            container.wait_ready(healthy=True, timeout=PATIENCE)
        assert caught.value.result.exit_code == 7


def test_it_recovers_and_falls_ill_again(box):
    with box.start(*PLAINLY, healthcheck={"test": WELL, "interval": 0.02, "retries": 2}) as container:
        await_health(container, "unhealthy")
        tell(container, "touch", "/tmp/well")
        await_health(container, "healthy")
        assert record.read_health(container._directory())[1] == 0
        tell(container, "rm", "/tmp/well")
        await_health(container, "unhealthy")


def test_a_restart_begins_anew(box):
    """Healthy the first time, it is starting the second time, when its checks fail."""
    script = "[ -e /tmp/first ] && exec sleep 1000; touch /tmp/first /tmp/well; "
    script += "until [ -e /tmp/end ]; do sleep 0.01; done; rm /tmp/well; exit 1"
    check = {"test": WELL, "interval": 0.02, "start_period": NEVER, "start_interval": 0.02}
    with box.start("sh", "-c", script, restart="on-failure", healthcheck=check) as container:
        await_health(container, "healthy")
        tell(container, "touch", "/tmp/end")
        await_true(lambda: container.status().restart_count == 1, "the restart", PATIENCE)
        began = container.status().started_at
        await_true(lambda: results(container)[-1]["Start"] > began, "a check", PATIENCE)
        assert results(container)[-1]["ExitCode"] == 1
        assert (container.status().health, health(container)["FailingStreak"]) == ("starting", 0)
        tell(container, "touch", "/tmp/well")
        await_health(container, "healthy")


def test_failures_in_the_start_period_do_not_count_until_it_was_healthy(box):
    times = {"interval": 0.02, "start_interval": 0.02, "start_period": NEVER, "retries": 2}
    with box.start(*PLAINLY, healthcheck={"test": WELL, **times}) as container:
        assert {one["ExitCode"] for one in results(container, 5)} == {1}
        assert record.read_health(container._directory()) == ("starting", 0)
        tell(container, "touch", "/tmp/well")
        await_health(container, "healthy")
        tell(container, "rm", "/tmp/well")
        await_health(container, "unhealthy")


def test_the_start_period_has_an_interval_of_its_own(box):
    """Which is over with the first success: the next check would come after the other."""
    times = {"interval": NEVER, "start_interval": 0.05, "start_period": NEVER}
    with box.start(*PLAINLY, healthcheck={"test": WELL, **times}) as container:
        for before, after in itertools.pairwise(results(container, 3)):
            assert after["Start"] - before["End"] > 0.05 * CLOCKS
        tell(container, "touch", "/tmp/well")
        await_health(container, "healthy")
        last = results(container)[-1]
        tell(container, "rm", "/tmp/well")
        time.sleep(0.2)  # in which there would be three
        assert results(container)[-1] == last


def test_failures_count_when_the_start_period_is_over(box):
    times = {"interval": 0.02, "start_interval": 0.02, "start_period": 0.3, "retries": 1}
    with box.start(*PLAINLY, healthcheck={"test": "false", **times}) as container:
        await_health(container, "unhealthy")
        assert results(container)[-1]["Start"] - container.status().started_at > 0.3 * CLOCKS


def test_one_that_takes_too_long_is_ended(box):
    script = "echo begun; sleep 1000"
    with box.start(*PLAINLY, healthcheck={"test": script, "interval": 0.01, "timeout": 0.1, "retries": 1}) as container:
        await_health(container, "unhealthy")
        first = results(container)[0]
        assert first["ExitCode"] == -1
        assert first["Output"] == "Health check exceeded timeout (0.1 s): begun\n"
        assert first["End"] - first["Start"] > 0.1 * CLOCKS
        monitor = record.monitor_pid(container._directory())
        # It ends by itself when it is told to: SIGKILL for its monitor would come two seconds later.
        assert min(one["End"] - one["Start"] for one in results(container, 3)) < 2
        # One after the other, and nothing of those before is left: the shell and its sleep are the last one's.
        assert len(container.top()) <= 3
        assert len(children_of(monitor)) <= 2


def test_any_bytes_come_out_and_only_the_first_are_kept(box):
    odd = b'\0\1\x1f\x7f\x80\xff"\\/ \xc3\xa9\xe2\x82\xac\n'
    script = "printf '" + "".join(f"\\{byte:03o}" for byte in odd) + "' >&2"
    with box.start(*PLAINLY, healthcheck={"test": script, "interval": 0.01}) as container:
        assert results(container)[0]["Output"] == odd.decode("utf-8", "replace")
    flood = "head -c 16777216 /dev/zero | tr '\\0' x"
    with box.start(*PLAINLY, healthcheck={"test": flood, "interval": 0.01}) as container:
        found = results(container)[0]
        assert (found["ExitCode"], found["Output"]) == (0, "x" * 4096)


def test_a_flood_does_not_hold_the_container_up(box):
    """What it writes itself reaches the log while a check floods without end."""
    script = "until [ -e /tmp/go ]; do sleep 0.01; done; seq 1 2000; sleep 1000"
    with box.start("sh", "-c", script, healthcheck={"test": "touch /tmp/go; yes", "interval": 0.01}) as container:
        container.wait_ready(log="2000", timeout=PATIENCE)
        assert [line.data for line in container.logs()] == [b"%d\n" % n for n in range(1, 2001)]


def test_a_program_that_is_not_there(box):
    check = {"test": ["CMD", "no-such-program"], "interval": 0.01, "retries": 1}
    with box.start(*PLAINLY, healthcheck=check) as container:
        await_health(container, "unhealthy")
        found = results(container)[0]
        assert found["ExitCode"] == -1
        assert found["Output"] == "exec: no-such-program: No such file or directory"


def test_a_process_left_behind_holds_nothing_up(box):
    check = {"test": "sleep 1000 & echo $!", "interval": 0.01, "timeout": NEVER}
    with box.start(*PLAINLY, healthcheck=check) as container:
        log = results(container, 2)
        assert [one["ExitCode"] for one in log] == [0] * len(log)
        assert log[0]["Output"] != log[1]["Output"]


def test_it_is_what_exec_is(box):
    """The same user, environment, directory, rights and filter."""
    script = (
        f"id; pwd; env | sort; grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status; ulimit -n; umask; {NAMESPACES}"
    )
    options = {
        "user": "nobody",
        "workdir": "/tmp",
        "env": {"COLOUR": "blue"},
        "cap_drop": ["ALL"],
        "ulimits": {"nofile": 77},
        "hostname": "sick",
    }
    with box.start(*PLAINLY, healthcheck={"test": script, "interval": 0.01}, **options) as container:
        expected = container.exec(["/bin/sh", "-c", script]).text
        assert "COLOUR=blue" in expected
        assert results(container)[0]["Output"] == expected


@pytest.mark.parametrize("options", [{"init": True}, {"userns": "host"}, {"privileged": True}, {"tty": True}])
def test_whatever_the_container_is(box, options):
    with box.start(*PLAINLY, healthcheck={"test": "id -u; tty", "interval": 0.01}, **options) as container:
        assert results(container)[0]["Output"] == "0\nnot a tty\n"


def test_with_namespaces_of_another_container(box):
    with box.start(*PLAINLY, name="first") as first:
        for options in ({"network": "container:first"}, {"pid": "container:first", "ipc": "container:first"}):
            check = {"test": NAMESPACES, "interval": 0.01}
            with box.start(*PLAINLY, healthcheck=check, **options) as container:
                expected = container.exec(["sh", "-c", NAMESPACES]).text
                assert results(container)[0]["Output"] == expected
        assert first.status() == "running"


@pytest.mark.root
def test_in_a_container_with_a_full_init(box):
    """It lands where the init is, not in the cgroup that this has made a parent of others."""
    script = "cd /sys/fs/cgroup; mkdir init.scope; echo $$ >init.scope/cgroup.procs; exec sleep 1000"
    check = {"test": "cat /proc/self/cgroup", "interval": 0.05}
    with box.start("sh", "-c", script, init="system", healthcheck=check) as container:
        container.exec(["sh", "-c", "until grep -q init.scope /proc/1/cgroup; do sleep 0.01; done"], timeout=PATIENCE)
        before = results(container)[-1]["End"]
        await_true(lambda: results(container)[-1]["Start"] > before, "another", PATIENCE)
        assert "0::/init.scope\n" in results(container)[-1]["Output"]


# The freezers that this host has: of its own choice, and of version 1 where that is another.
HERE = cgroup.hierarchies()
FREEZERS = {"first": HERE}
if HERE.v2 and "freezer" in HERE.v1:
    FREEZERS["v1"] = attrs.evolve(HERE, v2="", v2_controllers=frozenset())


@pytest.fixture(params=FREEZERS)
def freezer(request, monkeypatch):
    for module in (cgroup, isolation, usage):
        monkeypatch.setattr(module, "hierarchies", lambda: FREEZERS[request.param])


@pytest.mark.cgroups
@pytest.mark.usefixtures("freezer")
def test_what_is_paused_is_not_checked(box):
    with box.start(*PLAINLY, healthcheck={"test": "true", "interval": 0.02, "retries": 1}) as container:
        await_health(container, "healthy")
        container.pause()
        begin = time.time()
        assert container.status().describe().endswith("(Paused)")
        time.sleep(0.3)  # in which there would be a dozen
        end = time.time()
        container.unpause()
        await_true(lambda: results(container)[-1]["Start"] > end, "another check", PATIENCE)
        assert not any(begin < one["Start"] < end for one in results(container))
        assert container.status().health == "healthy"


@pytest.mark.cgroups
@pytest.mark.usefixtures("freezer")
def test_a_pause_is_not_the_checks_time(box):
    """One that succeeds after more than its time can only be one that was paused; on a slow machine not the first."""
    timeout = 0.4
    script = "until [ -e /tmp/well ]; do sleep 0.01; done"
    with box.start(*PLAINLY, healthcheck={"test": script, "interval": 0.01, "timeout": timeout}) as container:
        for _ in range(9):
            await_true(lambda: len(container.top()) > 1, "a check", PATIENCE)
            container.pause()
            time.sleep(1.5 * timeout)
            end = time.time()
            container.unpause()
            tell(container, "touch", "/tmp/well")
            await_true(lambda end=end: results(container)[-1]["End"] > end, "its end", PATIENCE)
            long = [one for one in results(container) if one["ExitCode"] == 0 and one["End"] - one["Start"] > timeout]
            if long:
                break
            tell(container, "rm", "/tmp/well")
        assert long


@pytest.mark.parametrize("how", ["stopped", "by itself", "monitor killed"])
def test_the_container_ends_during_a_check(box, how):
    script = "until [ -e /tmp/well ]; do sleep 0.01; done; exit 3"
    check = {"test": ["CMD", "sleep", "999"], "interval": 0.01, "timeout": NEVER}
    with box.start("sh", "-c", script, healthcheck=check) as container:
        await_true(lambda: any("999" in one.command for one in container.top()), "a check", PATIENCE)
        monitor = record.monitor_pid(container._directory())
        family = {monitor, *children_of(monitor)}
        family |= {grandchild for child in family for grandchild in children_of(child)}
        assert len(family) >= 4
        if how == "stopped":
            container.stop(timeout=0)
        elif how == "by itself":
            tell(container, "touch", "/tmp/well")
            assert container.wait(timeout=PATIENCE) == 3
        else:
            os.kill(monitor, signal.SIGKILL)
        await_true(lambda: not any(map(is_alive, family)), "the end of all", PATIENCE)
        assert container.status() == "exited"


def test_a_check_ends_with_the_monitor_in_a_pid_namespace_that_goes_on(box):
    check = {"test": ["CMD", "sleep", "999"], "interval": 0.01, "timeout": NEVER}
    with (
        box.start(*PLAINLY, name="first"),
        box.start(*PLAINLY, pid="container:first", healthcheck=check) as container,
    ):
        monitor = record.monitor_pid(container._directory())
        await_true(lambda: any("999" in one.command for one in container.top()), "a check", PATIENCE)
        family = {monitor, *children_of(monitor)}
        family |= {grandchild for child in family for grandchild in children_of(child)}
        os.kill(monitor, signal.SIGKILL)
        await_true(lambda: not any(map(is_alive, family)), "the end of all", PATIENCE)


def test_nothing_is_checked_without_a_check(box):
    with box.start(*PLAINLY) as container:
        assert container.status().health is None
        assert "Health" not in container.inspect()["State"]
        with pytest.raises(pylxc.SpecError) as caught:
            container.wait_ready(healthy=True)
        assert caught.value.option == "healthy"


def test_waiting_for_one_that_ends(box):
    check = {"test": "false", "interval": NEVER}
    with box.start("sh", "-c", "echo last words; exit 4", healthcheck=check) as container:
        with pytest.raises(pylxc.ExitError, match="last words") as caught:
            container.wait_ready(healthy=True, timeout=PATIENCE)
        assert caught.value.result.exit_code == 4
    with box.start(*PLAINLY, healthcheck=check) as container, pytest.raises(pylxc.TimeoutExpired):
        container.wait_ready(healthy=True, timeout=0.05)


@pytest.fixture
def checked(engine, busybox_root):
    """Make an image with a check of its own."""

    def make(check: pylxc.Healthcheck | None, **config) -> pylxc.Image:
        whole = ImageConfig(cmd=PLAINLY, healthcheck=check, **config)
        return pylxc.Image.from_directory(busybox_root, "checked", config=whole, engine=engine)

    return make


def test_the_images_own_check(engine, checked):
    shell = ("/bin/sh", "-e", "-c")
    checked(pylxc.Healthcheck(test=("CMD-SHELL", "echo $-"), interval=NEVER), shell=shell)
    with pylxc.start("checked", engine=engine, healthcheck={"interval": 0.01, "retries": 9}) as container:
        assert "e" in results(container)[0]["Output"]
        config = container.inspect()["Config"]["Healthcheck"]
        assert config == {"Test": ["CMD-SHELL", "echo $-"], "Interval": 10_000_000, "Retries": 9}
    with pylxc.start("checked", engine=engine) as container:
        assert container.status().health == "starting"
    with pylxc.start("checked", engine=engine, healthcheck="none") as container:
        assert container.status().health is None
    assert pylxc.run("checked", ["echo", "well"], engine=engine).text == "well\n"
    checked(None)
    with pytest.raises(pylxc.SpecError, match="no check of its own"):
        pylxc.start("checked", engine=engine, healthcheck={"interval": 1})


@pytest.mark.parametrize(
    "check",
    [
        {"test": ("CMD-SHELL", "true"), "interval": -5.0, "timeout": 1e200, "retries": -1, "start_period": 1e200},
        {"test": ("CMD-SHELL", "true"), "timeout": -1e-9, "start_interval": 1e-9, "retries": 10**30},
        {"test": ("CMD-SHELL", "a\0b")},
        {"test": ("SOMETHING", "else")},
        {"test": ("CMD",)},
        {"test": ("CMD", *["x"] * 70000)},
        {"test": ("CMD", "x" * 300_000)},
    ],
)
def test_whatever_an_image_says_it_starts(engine, checked, check):
    checked(pylxc.Healthcheck(**check))
    with pylxc.start("checked", engine=engine) as container:
        assert container.exec(["echo", "well"]).text == "well\n"
        container.inspect()


def written_memory(pid: int) -> int:
    """Return what memory a process has written to, in kB; its program, which others may run too, is none of it."""
    usage = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in usage.splitlines() if line.startswith("Anonymous:"))


def cost(container: pylxc.Container) -> tuple[int, int]:
    """Return how many descriptors its monitor has, and its memory (kB), while no check runs: paused between two."""
    monitor = record.monitor_pid(container._directory())
    for _ in range(1000):
        container.pause()
        looks = []
        while len(looks) < 30 and len(children_of(monitor)) == 1:
            looks.append((len(os.listdir(f"/proc/{monitor}/fd")), written_memory(monitor)))
            time.sleep(0.001)
        container.unpause()
        if len(looks) == 30:
            return min(looks)
    raise AssertionError("there is always one that runs")


@pytest.mark.root
def test_a_hundred_checks_cost_the_monitor_nothing(box):
    """Of whatever kind: those that succeed, that flood, that take too long, that are not there."""
    script = "n=$(cat /tmp/n 2>/dev/null); echo $((n + 1)) >/tmp/n; [ $((n % 20)) = 7 ] && sleep 1000; "
    script += "[ $((n % 5)) = 3 ] && head -c 100000 /dev/zero; exit $((n % 3))"
    with box.start(*PLAINLY, healthcheck={"test": script, "interval": 0.001, "timeout": 0.05}) as container:

        def count() -> int:
            return int(container.exec(["cat", "/tmp/n"], check=False).stdout or 0)

        await_true(lambda: count() > 20, "twenty checks", PATIENCE)
        before = cost(container)
        await_true(lambda: count() > 120, "a hundred more", 3 * PATIENCE)
        after = cost(container)
        assert after[0] == before[0]
        assert after[1] <= before[1] + 8
        assert after[1] < 300
