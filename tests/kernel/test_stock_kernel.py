"""A stock distribution: Debian bookworm's kernel (6.1) with cgroup v2 alone and shared mounts, as systemd sets it up.

The suite's own tests run there, in a virtual machine, with few of their cases (tests/few_cases.py); all of them are
``slow``. What they meet that this machine may not have: limits, pressure and pausing by v2, CLONE_INTO_CGROUP, overlays
without ``lowerdir+``, a tmpfs without user attributes and id maps, processors that could be plugged in, mounts that
propagate.
"""

from __future__ import annotations

import guest
import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.network, pytest.mark.root]

GENERAL = ("tests/runtime/test_run.py", "tests/runtime/test_container_options.py")  # the same on every kernel
# Long ones there that no kernel makes another: what many processes do at once, and the second of two like cases.
LONG = (
    "tests/runtime/test_overlay.py::test_an_image_of_two_hundred_layers",
    "tests/runtime/test_overlay.py::test_a_store_that_lies_deep",
    "tests/runtime/test_limits.py::test_a_killed_owner_leaves_no_cgroup[owner]",
    "tests/runtime/test_ports.py::test_datagrams_of_every_size_come_back",
    "tests/runtime/test_user_namespace.py::test_file_capabilities_survive_into_the_layer[host]",
    "tests/runtime/test_user_namespace.py::test_ranges_do_not_collide_across_processes_and_stores",
    "tests/runtime/test_user_namespace.py::test_many_binds",
    "tests/runtime/test_user_namespace.py::test_every_container_has_ids_of_its_own",
    *(
        f"tests/security/test_shared_mounts.py::test_what_is_mounted_inside_is_not_mounted_outside[options{case}]"
        for case in ("0-host", "1-busybox", "2-busybox", "2-host")
    ),
)
TESTS = {
    "root": (
        "tests/runtime/test_limits.py",
        "tests/runtime/test_overlay.py",
        "tests/runtime/test_user_namespace.py",
        "tests/runtime/test_cgroups.py",
        "tests/runtime/test_ports.py::test_bytes_are_the_same_both_ways_at_once",
        "tests/runtime/test_ports.py::test_datagrams_of_every_size_come_back",
        "tests/security/test_defaults.py",
        "tests/security/test_devices.py",
        "tests/security/test_device_filter.py",
        "tests/security/test_shared_mounts.py",
    ),
    "tester": (
        "tests/rootless/test_ordinary_user.py",
        "tests/rootless/test_cgroups_of_users.py",
        "tests/runtime/test_limits.py",
    ),
}
ROOTS = "tests/runtime/test_overlay.py"  # which a user's own tests meet already
FEWEST = {"root": 70, "tester": 40}  # tests that passed: a selection that went empty is no success
FEW_CASES = ("-p", "tests.few_cases", *(f"--deselect={test}" for test in LONG))

USER = """
cat /proc/self/cgroup /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.controllers
mkdir /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/child && echo may make a cgroup
python3 - <<'EOF'
import os, subprocess

ready, go = os.pipe(), os.pipe()
if (pid := os.fork()) == 0:
    os.close(go[1])
    from pylxc.linux import CloneFlag, unshare
    unshare(CloneFlag.NEWUSER | CloneFlag.NEWNS)
    os.write(ready[1], b".")
    os.read(go[0], 1)
    print("in the namespace:", os.getuid(), *open("/proc/self/uid_map").read().split(), flush=True)
    os._exit(0)
os.read(ready[0], 1)
for tool in ("newuidmap", "newgidmap"):
    subprocess.run([tool, str(pid), "0", "1000", "1", "1", "100000", "65536"], check=True)
os.close(go[1])
os.waitpid(pid, 0)
EOF
"""


def assert_passing(user, selection, fewest):
    verdict = guest.run_tests([*selection, "--color=no"], user=user)
    assert verdict.wrong == (), "\n\n".join(verdict.wrong)
    assert verdict.status == 0
    assert verdict.passed >= fewest


@pytest.mark.parametrize("user", TESTS)
def test_the_suites_own_tests_pass_there(user):
    assert_passing(user, (*FEW_CASES, *TESTS[user]), FEWEST[user])


@pytest.mark.slow
@pytest.mark.parametrize("user", TESTS)
def test_all_cases_of_them_pass_there(user):
    assert_passing(user, sorted({*TESTS[user], ROOTS}), FEWEST[user])


@pytest.mark.slow
def test_containers_of_all_kinds_there():
    assert_passing("root", GENERAL, 40)


def test_a_user_has_what_rootless_containers_need():
    """A cgroup of his own with the controllers that systemd delegates, subordinate ids, user namespaces."""
    console = guest.run(f"({USER}) >&3 2>&1", user="tester")
    assert console.said.splitlines() == [
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/tests.scope",
        "cpuset cpu io memory pids",
        "may make a cgroup",
        "in the namespace: 0 0 1000 1 1 100000 65536",
    ], console.tail()


REPORT = """{status}
<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest">
<testcase classname="a" name="passes" time="0.1" />
<testcase classname="a" name="fails"><failure message="assert 1 == 2">its words</failure></testcase>
<testcase classname="a" name="is_left_out"><skipped type="pytest.skip" message="no reason">where</skipped></testcase>
</testsuite></testsuites>
"""


def test_what_does_not_pass_there_is_told_here():
    verdict = guest.judge(guest.Answer(REPORT.format(status=1), "console"))
    assert (verdict.status, verdict.passed) == (1, 1)
    assert verdict.wrong == (
        "a::fails: failure: assert 1 == 2\nits words",
        "a::is_left_out: skipped: no reason\nwhere",
    )
    for said in ("", "0\n", REPORT[:-40]):
        with pytest.raises(RuntimeError, match="panic"):
            guest.judge(guest.Answer(said, "a panic"))


def test_a_machine_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(guest, "PATIENCE", 2)
    with pytest.raises(TimeoutError, match="did not end within 2 s"):
        guest.run("sleep 1000")
