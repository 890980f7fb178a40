"""``init="system"``: containers that boot an operating system's own init, under the defaults, as root inside.

Debian with systemd is bootstrapped, and one with sysvinit built, once per run of the suite.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from boxes import await_true

import pylxc
from pylxc import systeminit
from pylxc.errors import SpecError, UnsupportedError
from pylxc.layerview import LayerView
from pylxc.runtime import cgroup, record
from pylxc.spec import ContainerSpec

pytestmark = pytest.mark.root

HERE = cgroup.hierarchies()
BOOT = 60.0  # s that a boot may take on a machine that does much else; it takes one
# A service of one's own, as an image brings it: it says what it is allowed, and goes on.
UNIT = """
[Unit]
Description=a service of the test's own

[Service]
ExecStart=/bin/sh -c 'echo service speaks; exec sleep infinity'
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""
ONCE = """
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'grep -h CapEff /proc/self/status; cat /proc/self/cgroup'
"""


@pytest.fixture(scope="session")
def systemd(box_engine, debian_system, tmp_path_factory) -> pylxc.Image:
    """Debian with systemd and dbus, and a service that a build put in and enabled."""
    context = tmp_path_factory.mktemp("systemd")
    (context / "own.service").write_text(UNIT)
    (context / "once.service").write_text(ONCE)
    (context / "Dockerfile").write_text(
        f"FROM {debian_system.refs[0]}\n"
        "COPY own.service once.service /etc/systemd/system/\nRUN systemctl enable own.service\n"
    )
    return pylxc.Image.build(context, tag="booting", engine=box_engine)


@pytest.fixture(scope="session")
def sysvinit(box_engine, debian, tmp_path_factory) -> pylxc.Image:
    """The Debian that other tests have too, with an init of its own."""
    context = tmp_path_factory.mktemp("sysvinit")
    install = "apt-get update -q && apt-get install -yq --no-install-recommends sysvinit-core"
    (context / "Dockerfile").write_text(f"FROM {debian.refs[0]}\nRUN {install}\n")
    return pylxc.Image.build(context, tag="debian:sysvinit", engine=box_engine)


@pytest.fixture(scope="session")
def busybox_init(box_engine, busybox_root, tmp_path_factory) -> pylxc.Image:
    root = tmp_path_factory.mktemp("init") / "root"
    subprocess.run(["cp", "-a", busybox_root, root], check=True)
    (root / "sbin").mkdir()
    (root / "sbin/init").symlink_to("/bin/busybox")
    (root / "etc/inittab").write_text(
        "::sysinit:/bin/echo booted\n::respawn:/bin/sleep 1000\n::shutdown:/bin/echo going down\n"
    )
    return pylxc.Image.from_directory(root, engine=box_engine)


def boot(box, image, command=None, **options) -> pylxc.Container:
    return pylxc.start(image, command, init="system", engine=box.engine, **options)


def settle(container: pylxc.Container) -> str:
    """Wait until systemd has booted; returns what it says of itself."""
    deadline = time.monotonic() + BOOT
    while (said := container.exec(["systemctl", "is-system-running"], check=False).text.strip()) not in {
        "running",
        "degraded",
    }:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return said


def left_of(container: pylxc.Container) -> list[str]:
    return [
        path for root in {HERE.v2, *HERE.v1.values()} - {""} if (path := Path(root, f"pylxc-{container.id}")).exists()
    ]


# -- systemd -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def booted(box, systemd):
    """A container of systemd that has booted."""
    with boot(box, systemd) as container:
        settle(container)
        yield container
    assert left_of(container) == []


@pytest.mark.network
def test_debian_with_systemd_boots_whole(booted):
    """Nothing has failed: what cannot work in a container is passed over by its own conditions, not masked by pylxc."""
    failed = booted.exec(["systemctl", "list-units", "--failed", "--no-legend", "--plain"]).text
    assert failed == ""
    assert settle(booted) == "running"
    assert booted.exec(["cat", "/proc/1/comm"]).text == "systemd\n"
    assert booted.top()[0].inside == 1


@pytest.mark.network
def test_services_and_their_cgroups(booted):
    """A service of the image runs, was put into a cgroup of its own by systemd, and journald has what it said."""
    assert booted.exec(["systemctl", "is-active", "own.service", "dbus.service", "systemd-journald.service"]).ok
    pid = booted.exec(["systemctl", "show", "-P", "MainPID", "own.service"]).text.strip()
    own = booted.exec(["cat", f"/proc/{pid}/cgroup"]).text
    assert "/system.slice/own.service\n" in own
    await_true(lambda: "service speaks" in booted.exec(["journalctl", "-u", "own.service"]).text, "its words")
    booted.exec(["systemctl", "restart", "own.service"])
    assert booted.exec(["systemctl", "show", "-P", "MainPID", "own.service"]).text.strip() != pid
    booted.exec(["systemctl", "kill", "-s", "KILL", "own.service"])
    await_true(lambda: "failed" in booted.exec(["systemctl", "is-failed", "own.service"], check=False).text, "its end")
    assert booted.exec(["busctl", "call", *["org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId"]]).ok


@pytest.mark.network
def test_it_runs_under_the_defaults(booted):
    status = booted.exec(["cat", "/proc/1/status"]).text
    plain = ContainerSpec(image="x").capability_mask()
    reboot = 1 << 22  # CAP_SYS_BOOT (capabilities(7)), of its own pid namespace only
    assert int(re.search(r"CapBnd:\s+(\w+)", status)[1], 16) == plain | reboot
    assert re.search(r"NoNewPrivs:\s+1", status)
    assert re.search(r"Seccomp:\s+2", status)
    assert not booted.exec(["mount", "-t", "tmpfs", "x", "/mnt"], check=False).ok
    assert not booted.exec(["sh", "-c", "echo 1 > /proc/sys/kernel/panic"], check=False).ok
    first = Path(f"/proc/{booted.status().pid}/uid_map").read_text().split()[1]
    assert int(first) > 65536
    booted.exec(["systemctl", "start", "once.service"])
    await_true(lambda: "CapEff" in booted.exec(["journalctl", "-u", "once.service"]).text, "what a service sees")
    said = booted.exec(["journalctl", "-o", "cat", "-u", "once.service"]).text
    assert int(re.search(r"CapEff:\s+(\w+)", said)[1], 16) & ~(plain | reboot) == 0


@pytest.mark.network
def test_it_shows_its_own_cgroups_only(booted):
    if not HERE.v2:
        pytest.fail("this host has no cgroup v2; see test_a_host_with_cgroup_v1_only")
    inside = set(booted.exec(["ls", "/sys/fs/cgroup"]).text.split())
    assert {"init.scope", "system.slice"} <= inside
    assert inside == {entry.name for entry in Path(HERE.v2, f"pylxc-{booted.id}").iterdir()}
    assert booted.exec(["cat", "/proc/1/cgroup"]).text.splitlines()[-1] == "0::/init.scope"
    assert booted.exec(["cat", "/proc/self/cgroup"]).text.splitlines()[-1] == "0::/init.scope"
    # What limits it, or bounds what it may make, is not its own.
    for name in ("cgroup.max.descendants", "cgroup.max.depth", "cgroup.freeze"):
        refused = booted.exec(["sh", "-c", f"echo 1 > /sys/fs/cgroup/{name}"], check=False)
        assert b"Permission denied" in refused.stderr, name
    depth = "cd /sys/fs/cgroup; for i in $(seq 40); do mkdir deep && cd deep || exit 9; done"
    assert booted.exec(["sh", "-c", depth], check=False).exit_code == 9


@pytest.mark.network
def test_who_it_is(booted):
    """Its machine id is its own: neither the host's, nor the image's, which has none."""
    ours = booted.exec(["cat", "/etc/machine-id"]).text.strip()
    assert re.fullmatch("[0-9a-f]{32}", ours)
    assert ours == booted.id[:32]
    host = Path("/etc/machine-id")
    assert not host.exists() or ours != host.read_text().strip()
    assert booted.exec(["systemd-detect-virt", "-c"], check=False).text.strip() in {"pylxc", "container-other"}
    assert booted.exec(["hostname"], check=False).text.strip() == booted.id[:12]


@pytest.mark.network
def test_stopping_is_clean_and_it_starts_again(booted):
    booted.exec(["touch", "/root/kept"])
    begin = time.monotonic()
    booted.stop(timeout=BOOT)
    assert (booted.status(), booted.status().exit_code, booted.status().signal) == ("exited", 0, 0)
    assert time.monotonic() - begin < BOOT
    assert left_of(booted) == []
    booted.start()
    assert settle(booted) == "running"
    assert booted.exec(["ls", "/root/kept"]).ok
    booted.restart(timeout=BOOT)
    assert settle(booted) == "running"


@pytest.mark.network
def test_power_off_and_reboot_from_inside(booted):
    booted.exec(["systemctl", "poweroff"], check=False)
    assert booted.wait(BOOT) == 0
    assert left_of(booted) == []
    booted.start()
    settle(booted)
    booted.exec(["systemctl", "reboot"], check=False)
    assert booted.wait(BOOT) == 129  # 128 + SIGHUP: a reboot, which who watches may want to tell from a halt
    assert booted.status().signal == 1


@pytest.mark.network
def test_a_stop_in_the_middle_of_the_boot(box, systemd):
    """The init is deaf at first; it is asked again."""
    with boot(box, systemd) as container:
        container.stop(timeout=BOOT)
        assert container.status().exit_code == 0


@pytest.mark.network
def test_several_at_once_with_limits(box, systemd):
    options = {"memory": "512m", "pids_limit": 200, "cpus": 1.5}
    containers = [boot(box, systemd, **options) for _ in range(3)]
    try:
        assert [settle(one) for one in containers] == ["running"] * 3
        for one in containers:
            assert one.exec(["systemctl", "is-active", "own.service"]).ok
            assert one.stats().memory_limit == 512 << 20
            assert one.stats().pids > 3
        containers[0].pause()
        assert containers[0].status() == "paused"
        containers[0].stop(timeout=BOOT)
        assert containers[0].status().exit_code == 0
    finally:
        for one in containers:
            one.remove(force=True)
    assert [left_of(one) for one in containers] == [[], [], []]


@pytest.mark.network
def test_with_a_terminal_it_has_a_console(box, systemd):
    """systemd writes what it does to /dev/console, and has a login there."""
    with boot(box, systemd, tty=True) as container:
        settle(container)
        assert container.exec(["systemctl", "is-active", "console-getty.service"]).ok
        container.stop(timeout=BOOT)
        assert container.status().exit_code == 0
        shown = b"".join(line.data for line in container.logs())
        assert b"Multi-User System" in shown
        assert b"Halting system" in shown


if cgroup.SYSTEMD in HERE.v1:  # else there is nothing of the kind to be tried

    @pytest.mark.network
    def test_a_host_with_cgroup_v1_only(box, systemd, monkeypatch):
        """There systemd gets a part of the v1 hierarchy that is its own."""
        only = attrs.evolve(HERE, v2="", v2_controllers=frozenset())
        for module in (cgroup, pylxc.runtime.isolation, pylxc.runtime.kernelfiles, pylxc.runtime.usage):
            monkeypatch.setattr(module, "hierarchies", lambda: only)
        with boot(box, systemd) as container:
            assert settle(container) in {"running", "degraded"}
            pid = container.exec(["systemctl", "show", "-P", "MainPID", "own.service"]).text.strip()
            assert ":name=systemd:/system.slice/own.service\n" in container.exec(["cat", f"/proc/{pid}/cgroup"]).text
            container.stop(timeout=BOOT)
            assert container.status().exit_code == 0
        assert left_of(container) == []


# -- other inits -------------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_debian_with_sysvinit(box, sysvinit):
    with boot(box, sysvinit) as container:
        await_true(lambda: container.exec(["test", "-p", "/run/initctl"], check=False).ok, "its boot", BOOT)
        await_true(lambda: "2" in container.exec(["runlevel"], check=False).text, "its runlevel", BOOT)
        assert container.exec(["cat", "/proc/1/comm"]).text == "init\n"
        container.stop(timeout=BOOT)
        assert (container.status().exit_code, container.status().signal) == (0, 0)
    assert left_of(container) == []


def test_busybox_init(box, busybox_init):
    with boot(box, busybox_init) as container:
        container.wait_ready(log="booted", timeout=BOOT)
        assert container.exec(["cat", "/proc/1/comm"]).text == "init\n"
        container.stop(timeout=BOOT)
        assert container.status().exit_code == 0
        assert b"going down\n" in [line.data for line in container.logs()]
    assert left_of(container) == []


def test_a_command_of_ones_own_and_a_signal_of_ones_own(box):
    """A shell as the init: it is asked with SIGTERM unless told otherwise, and only reboot(2) itself is a halt."""
    script = "trap 'exit 7' TERM; trap 'exit 8' USR1; echo ready; while true; do sleep 0.01; done"
    for options, code in (({}, 7), ({"stop_signal": "SIGUSR1"}, 8)):
        with boot(box, "busybox", ["sh", "-c", script], **options) as container:
            container.wait_ready(log="ready")
            container.stop(timeout=BOOT)
            assert container.status().exit_code == code


@pytest.mark.parametrize(("words", "code"), [("poweroff -f", 0), ("halt -f", 0), ("reboot -f", 129), ("exit 3", 3)])
def test_what_ends_it(box, words, code):
    run = {"init": "system", "check": False}
    assert box.sh(f"{words}; sleep 100", **run).exit_code == code
    if code in {0, 129}:  # the right to reboot comes with init="system" alone
        assert box.sh(f"{words}; exit 5", check=False).exit_code == 5
        assert box.sh(f"{words}; exit 5", cap_drop=["SYS_BOOT"], **run).exit_code == 5


def test_what_is_mounted(box):
    script = "stat -f -c %T /run /run/lock /tmp /sys/fs/cgroup; stat -c %a /run /run/lock /tmp; echo $container"
    shown = box.sh(script, init="system").text.split()
    assert shown[:3] == ["tmpfs"] * 3
    assert shown[4:] == ["755", "1777", "1777", "pylxc"]
    assert "pylxc" not in box.sh("echo $container").text
    own = box.sh("ls /tmp /run", init="system", tmpfs=["/tmp:size=1m"], volumes={"/usr": "/run:ro"}).text
    assert "bin" in own


def test_it_cannot_leave_its_part_of_the_tree(box):
    script = """
    cd /sys/fs/cgroup
    mkdir below && echo $$ > below/cgroup.procs && cat /proc/self/cgroup | tail -1
    ls .. | head -1; echo 0 > ../cgroup.procs
    cat cgroup.procs | grep -c .
    """
    result = box.sh(script, init="system", check=False)
    assert "0::/below\n" in result.text
    assert b"cgroup.procs: " in result.stderr
    with boot(box, "busybox", ["sleep", "100"]) as container:
        deep = "cd /sys/fs/cgroup; for i in 1 2 3 4 5; do mkdir d w$i && cd d; done; sleep 100 & echo $! > cgroup.procs"
        container.exec(["sh", "-c", deep])
    assert left_of(container) == []


def test_what_a_killed_monitor_leaves_is_removed(box):
    with boot(box, "busybox", ["sleep", "100"]) as container:
        container.exec(["sh", "-c", "cd /sys/fs/cgroup; mkdir -p a/b c; sleep 100 & echo $! > a/b/cgroup.procs"])
        os.kill(record.monitor_pid(container._directory()), signal.SIGKILL)
        await_true(lambda: container.status() == "exited", "its end")
        assert left_of(container) != []
    assert left_of(container) == []


def test_a_host_without_a_tree_to_give(box, monkeypatch):
    nothing = cgroup.Hierarchies()
    monkeypatch.setattr(cgroup, "hierarchies", lambda: nothing)
    with pytest.raises(UnsupportedError, match='init="system"') as caught:
        boot(box, "busybox", ["true"])
    assert "cgroup2" in caught.value.remedy


@pytest.fixture
def inits(tmp_path) -> LayerView:
    """A root file system with every kind of init: links as distributions have them."""
    for place in ("sbin", "usr/bin", "usr/lib/systemd", "opt"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/systemd").write_text("of systemd")
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "sbin/init").symlink_to("/lib/systemd/systemd")
    (tmp_path / "usr/bin/busybox").write_text("of busybox")
    (tmp_path / "usr/bin/sh").symlink_to("busybox")
    (tmp_path / "usr/bin/linuxrc").symlink_to("../bin/busybox")
    (tmp_path / "opt/init").write_text("it listens on /run/initctl")
    (tmp_path / "usr/bin/other").write_text("it has never heard of initctl")
    return LayerView([str(tmp_path)])


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (("/sbin/init",), systeminit.SYSTEMD),
        (("init", "--unit=x"), systeminit.SYSTEMD),
        (("/usr/lib/systemd/systemd",), systeminit.SYSTEMD),
        (("/usr/bin/busybox", "init"), systeminit.BUSYBOX),
        (("linuxrc",), systeminit.BUSYBOX),
        (("/usr/bin/busybox", "sh"), systeminit.OTHER),
        (("sh",), systeminit.OTHER),
        (("/opt/init",), systeminit.SYSVINIT),
        (("/usr/bin/other",), systeminit.OTHER),
        (("/not/there",), systeminit.OTHER),
    ],
)
def test_which_init_it_is(inits, argv, kind):
    assert systeminit.shutdown_of(inits, argv) == kind


# -- the option --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "command", "argv"),
    [
        (None, None, ("/sbin/init",)),
        (("bash",), None, ("/sbin/init",)),
        (("/bin/sh",), None, ("/sbin/init",)),
        (("/lib/systemd/systemd", "--unit=x"), None, ("/lib/systemd/systemd", "--unit=x")),
        (("sh", "-c", "exec /init"), None, ("sh", "-c", "exec /init")),
        (("bash",), ["/bin/busybox", "init"], ("/bin/busybox", "init")),
    ],
)
def test_what_is_booted(cmd, command, argv):
    assert ContainerSpec(image="x", command=command, init="system").argv(None, cmd) == argv


def test_the_option():
    spec = ContainerSpec(image="x", init="system")
    assert ContainerSpec.from_json(spec.to_json()) == spec
    assert "SYS_BOOT" in spec.capabilities()
    assert "SYS_BOOT" not in ContainerSpec(image="x", init=True).capabilities()
    assert ContainerSpec(image="x", init="system", cap_drop=["ALL"]).capabilities() == frozenset()
    for wrong in ("systemd", 1, "yes"):
        with pytest.raises(SpecError, match="system"):
            ContainerSpec(image="x", init=wrong)
    with pytest.raises(SpecError, match="lift its own limits"):
        ContainerSpec(image="x", init="system", userns="host")


def test_the_command_line(box):
    command = [sys.executable, "-m", "pylxc", "--root", str(box.engine.root), "run", "--rm"]
    script = 'echo "$container"; poweroff -f; sleep 100'
    full = subprocess.run([*command, "--systemd", "busybox", "sh", "-c", script], capture_output=True, check=True)
    assert full.stdout == b"pylxc\n"
    small = subprocess.run([*command, "--init", "busybox", "sh", "-c", "echo $$"], capture_output=True, check=True)
    assert small.stdout == b"2\n"
