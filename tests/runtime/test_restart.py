"""Restart policies: docker's rules, carried out by the monitor. Times are those that it wrote down itself."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
from boxes import await_true, cgroups, is_alive

import pylxc
from pylxc.runtime import record
from tests.sanitizers import CSRC, FLAGS

COUNTING = "echo >>/runs; echo $(wc -l </runs); "  # the writable layer outlives a restart


def lines_of(container):
    return [line.data.decode().strip() for line in container.logs()]


@pytest.mark.parametrize(
    ("policy", "script", "runs", "code"),
    [
        (None, "exit 1", 1, 1),
        ("no", "exit 1", 1, 1),
        ("on-failure", "exit 0", 1, 0),
        ("on-failure", 'test "$(wc -l </runs)" = 3', 3, 0),  # goes on until it succeeds
        ("on-failure:2", "exit 7", 3, 7),
        ("on-failure:2", "kill -9 $$", 1, 0),  # PID 1 is not killed from inside: the script goes on, and succeeds
    ],
)
def test_what_is_started_again_and_how_often(box, policy, script, runs, code):
    container = box.start("sh", "-c", COUNTING + script, restart=policy)
    assert container.wait(timeout=30) == code
    status = container.status()
    assert (status, status.exit_code, status.restart_count) == ("exited", code, runs - 1)
    assert lines_of(container) == [str(number + 1) for number in range(runs)]
    container.remove()


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_it_goes_on_until_it_is_stopped(box, policy):
    with box.start("sh", "-c", COUNTING + "exit 0", restart=policy) as container:
        container.wait_ready(log="3", timeout=30)
        container.stop()
        count = container.status().restart_count
        assert (container.status(), count >= 2) == ("exited", True)
        await_true(lambda: not is_alive(record.monitor_pid(container._directory())), "the monitor's end")
        container.start()  # by hand: the count begins anew
        assert container.status().restart_count < count or container.status().restart_count == 0
        container.stop()


def test_the_pauses_grow(box):
    """0.1 s, 0.2 s, 0.4 s: by the times in the log, which the monitor gives, no start came too early."""
    container = box.start("sh", "-c", "echo; exit 1", restart="on-failure:3")
    container.wait(timeout=30)
    times = [line.time for line in container.logs()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [gap >= pause for gap, pause in zip(gaps, (0.1, 0.2, 0.4), strict=True)] == [True] * 3
    container.remove()


def test_the_rule_of_the_pauses(tmp_path):
    """Compiled by itself: they double up to a minute, and begin anew after a life of ten seconds."""
    program = """
    #include "restart.h"
    #include <stdio.h>
    #include <stdlib.h>
    const struct pylxc_op *plan_find(const struct plan *plan, enum pylxc_op_code code)
    {
        (void)plan, (void)code;
        return NULL;
    }
    int main(int argc, char **argv)
    {
        struct restart r = {0};
        for (int i = 1; i < argc; i++)
            printf("%lld ", (long long)restart_next(&r, atoll(argv[i]) * 1000000LL) / 1000000);
        printf("%lld", (long long)r.count);
        return 0;
    }
    """
    (tmp_path / "pauses.c").write_text(program)
    sources = [tmp_path / "pauses.c", CSRC / "helper/restart.c"]
    command = ["gcc", *FLAGS, "-DPYLXC_HOSTED", f"-I{CSRC / 'helper'}", "-w", "-o", tmp_path / "pauses", *sources]
    subprocess.run(command, check=True)

    def pauses(*lives_ms):
        words = [tmp_path / "pauses", *map(str, lives_ms)]
        return [int(word) for word in subprocess.run(words, check=True, capture_output=True).stdout.split()]

    doubling = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
    assert pauses(*[0] * 12) == [*doubling, 12]
    assert pauses(0, 0, 0, 9999, 10_000, 0) == [100, 200, 400, 800, 100, 200, 6]


def test_while_it_rests_it_is_told_so(box):
    container = box.start("sh", "-c", "exit 5", restart="always")
    await_true(lambda: container.status().restart_count >= 4, "the fourth restart", timeout=30)  # a pause of 1.6 s next
    await_true(lambda: container.status() == "restarting", "the rest")
    status = container.status()
    assert (status.pid, status.exit_code, status.describe()[:14]) == (0, 5, "Restarting (5)")
    assert container.inspect()["State"]["Restarting"] is True
    assert [one.id for one in pylxc.Container.list(engine=box.engine)] == [container.id]  # docker lists it, too
    with pytest.raises(pylxc.Conflict, match="restarting"):
        container.exec(["true"])
    with pytest.raises(pylxc.Conflict, match="running"):
        container.remove()
    container.start()  # it lives: nothing to do
    container.kill("KILL")  # ends the rest, not only the process
    assert (container.wait(timeout=10), container.status()) == (5, "exited")
    container.remove()


def test_a_kill_ends_it_for_good_and_other_signals_do_not(box):
    script = COUNTING + "trap 'exit 3' USR1; while :; do sleep 0.01; done"
    with box.start("sh", "-c", script, restart="on-failure", init=True) as container:
        container.wait_ready(log="1", timeout=20)
        container.kill("USR1")
        container.wait_ready(log="2", timeout=20)
        container.kill("KILL")
        assert container.wait(timeout=10) == 137
        assert (lines_of(container), container.status().restart_count) == (["1", "2"], 1)


def test_a_kill_of_the_monitor_while_it_rests(box):
    container = box.start("sh", "-c", "exit 5", restart="always")
    await_true(lambda: container.status().restart_count >= 4, "the fourth restart", timeout=30)
    await_true(lambda: container.status() == "restarting", "the rest")
    os.kill(record.monitor_pid(container._directory()), 9)
    assert (container.wait(timeout=10), container.status()) == (5, "exited")
    container.start()
    container.remove(force=True)


def test_a_process_killed_from_outside_is_started_again(box):
    with box.start("sh", "-c", COUNTING + "sleep 100", restart="always") as container:
        container.wait_ready(log="1", timeout=20)
        os.kill(container.status().pid, 9)
        container.wait_ready(log="2", timeout=20)
        assert container.exec(["cat", "/runs"]).text == "\n\n"
        assert container.status().restart_count == 1


def test_what_cannot_be_started_again_is_tried_again(box, tmp_path):
    """A bind whose source has gone fails at the next start, and works when it has come back."""
    source = tmp_path / "source"
    source.mkdir()
    script = COUNTING + "test -e /in/go || exit 1; sleep 100"
    with box.start("sh", "-c", script, restart="always", volumes={source: "/in"}) as container:
        container.wait_ready(log="1", timeout=20)
        source.rename(tmp_path / "away")
        await_true(lambda: container.status().exit_code == 128, "a start that fails", timeout=30)
        assert container.status().error == "mount: No such file or directory"
        (tmp_path / "away").rename(source)
        (source / "go").touch()
        await_true(lambda: container.status() == "running", "a start that works", timeout=30)
        container.exec(["ls", "/in/go"])
        assert container.status().error == ""


@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"tty": True}, {"init": True}, {"memory": "64m"}])
def test_ways_of_starting_again(box, options):
    if "memory" in options and not cgroups() and os.geteuid() != 0:
        options = {}
    with box.start("sh", "-c", COUNTING + "id -u; exit 1", restart="on-failure:2", **options) as container:
        assert container.wait(timeout=30) == 1
        assert lines_of(container) == ["1", "0", "2", "0", "3", "0"]


@pytest.mark.cgroups
def test_memory_that_ran_out_is_told_of_the_time_when_it_did(box):
    script = COUNTING + 'test "$(wc -l </runs)" = 1 && tail /dev/zero; exit 1'
    with box.start("sh", "-c", script, restart="on-failure:1", memory="16m", memory_swap="16m") as container:
        seen = []
        await_true(lambda: seen.append(container.status()) or seen[-1] == "exited", "the end", timeout=30)
        assert {status.oom_killed for status in seen if status == "restarting"} <= {True}
        assert (seen[-1].exit_code, seen[-1].oom_killed) == (1, False)


def test_nothing_grows_from_one_start_to_the_next(box):
    with box.start("sh", "-c", "exit 1", restart="always") as container:
        monitor = record.monitor_pid(container._directory())

        def resting_after(count):
            status = container.status()
            return status.restart_count if status == "restarting" and status.restart_count >= count else 0

        def descriptors_after(count, seen):
            rests = resting_after(count)
            seen[:] = sorted(os.listdir(f"/proc/{monitor}/fd")) if os.geteuid() == 0 else []
            return rests and resting_after(count) == rests  # else it has started again meanwhile

        before, after = [], []
        await_true(lambda: descriptors_after(1, before), "a rest", timeout=30)
        await_true(lambda: descriptors_after(5, after), "a later one", timeout=30)
        assert before == after
        assert monitor == record.monitor_pid(container._directory())


def test_the_end_of_the_owner_ends_a_rest(box):
    code = """if True:
        import sys, time, pylxc
        c = pylxc.start("busybox", ["sh", "-c", "exit 1"], restart="always", engine=pylxc.Engine(sys.argv[1]))
        while not (c.status() == "restarting" and c.status().restart_count >= 4):
            time.sleep(0.005)
        print(c._directory(), flush=True)
        time.sleep(1000)
    """
    command = [sys.executable, "-c", code, str(box.engine.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        monitor = record.monitor_pid(owner.stdout.readline().strip())
        assert is_alive(monitor)
        owner.kill()
        await_true(lambda: not is_alive(monitor), "the monitor's end", timeout=1.0)
    listing = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"
    out = subprocess.run([sys.executable, "-c", listing, str(box.engine.root)], check=True, capture_output=True)
    assert out.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("verb", "options", "match"),
    [
        ("run", {"restart": "always"}, "restart='always': what is removed"),
        ("start", {"restart": "always", "remove": True}, "restart='always': what is removed"),
        ("popen", {"restart": "on-failure:3", "remove": False}, "use start"),
        ("start", {"restart": "sometimes"}, "on-failure"),
        ("start", {"restart": "on-failure:-1"}, "on-failure"),
    ],
)
def test_what_is_refused(box, verb, options, match):
    with pytest.raises(pylxc.SpecError, match=match):
        getattr(box, verb)("true", **options)


@pytest.mark.root  # the host's processes can be shared by the machine's root only
def test_what_it_left_among_the_hosts_processes_is_ended_first(box):
    script = COUNTING + "sleep 4321 & echo $!; exit 1"
    with box.start("sh", "-c", script, restart="on-failure:1", pid="host", userns="host") as container:
        assert container.wait(timeout=30) == 1
        one, first, two, second = lines_of(container)
        assert (one, two) == ("1", "2")
        assert not is_alive(int(first))
        assert not is_alive(int(second))
