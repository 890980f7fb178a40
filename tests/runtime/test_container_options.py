"""What the options make of a container's inside, seen from there."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import pylxc
from pylxc.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES, capability_mask


def status_of(box, **options) -> dict[str, str]:
    """Return /proc/self/status of a process in a container."""
    text = box.run("cat", "/proc/self/status", **options).text
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def capabilities(box, **options) -> dict[str, int]:
    fields = status_of(box, **options)
    return {name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def known(mask: int) -> int:
    """Return those of a set of capabilities that this kernel knows and this process may give.

    An ordinary user gives what it has in its user namespace: all of them (user_namespaces(7)).
    """
    if os.geteuid() != 0:
        return mask & (2 << int(Path("/proc/sys/kernel/cap_last_cap").read_text())) - 1
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    return mask & int(line.split()[1], 16)


def test_the_environment(box):
    lines = set(box.run("env", hostname="hal").text.splitlines())
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert lines == {f"PATH={path}", "HOSTNAME=hal", "HOME=/root"}
    given = {"A": "b c=d", "PATH": "/bin", "HOME": "/there", "EMPTY": "", "U": "\u00e4\u20ac"}
    text = box.run("/bin/env", env=given, hostname="hal").text
    assert set(text.splitlines()) == {"HOSTNAME=hal", *(f"{k}={v}" for k, v in given.items())}
    assert "HOME=/\n" in box.run("env", user="nobody").text
    assert "HOME=/\n" in box.run("env", user="4242").text


def test_the_images_environment_user_and_directory_are_the_default(box, busybox_root):
    config = pylxc.ImageConfig(env={"FROM": "image", "BOTH": "image"}, user="nobody", workdir="/tmp", cmd=("env",))
    image = pylxc.Image.from_directory(busybox_root, "configured", config=config, engine=box.engine)
    lines = pylxc.run(image, env={"BOTH": "option"}, engine=box.engine).text.splitlines()
    assert {"FROM=image", "BOTH=option", "HOME=/"} <= set(lines)
    assert box.sh("id -u; pwd", image=image).text == "65534\n/tmp\n"
    assert box.sh("id -u; pwd", image=image, user="0", workdir="/etc").text == "0\n/etc\n"
    with box.start("sleep", "100", image=image) as container:
        assert container.exec(["sh", "-c", "id -u; pwd; echo $FROM"]).text == "65534\n/tmp\nimage\n"
        assert container.exec(["sh", "-c", "id -u; pwd"], user=0, workdir="/").text == "0\n/\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, "0 0 0"),
        ("nobody", "65534 65534 65534"),
        ("65534", "65534 65534 65534"),
        (1234, "1234 0 0"),
        ("1234:5678", "1234 5678 5678"),
        ("nobody:0", "65534 0 0"),
        ("0:nogroup", "0 65534 65534"),
    ],
)
def test_forms_of_user(box, user, expected):
    script = "echo $(id -u) $(id -g) $(id -G)"
    assert box.sh(script, user=user).text == f"{expected}\n"
    with box.start("sleep", "100") as container:
        assert container.exec(["sh", "-c", script], user=user).text == f"{expected}\n"


def test_the_working_directory_is_made(box):
    assert box.run("pwd", workdir="/a/new/place").text == "/a/new/place\n"
    assert box.sh("stat -c %a:%u . ..", workdir="/a/new").text == "755:0\n755:0\n"
    assert box.run("pwd", workdir="/a/new", read_only=True).text == "/a/new\n"


def test_the_name_of_the_host(box):
    script = "hostname; cat /etc/hostname; grep -c 127.0.1.1.hal /etc/hosts"
    assert box.sh(script, hostname="hal", network="none").text == "hal\nhal\n1\n"
    assert os.uname().nodename != "hal"
    with box.create("hostname") as container:
        container.start()
        container.wait()
        assert [line.data for line in container.logs()] == [container.id[:12].encode() + b"\n"]


def test_extra_hosts(box):
    lines = box.run("cat", "/etc/hosts", extra_hosts={"db": "10.1.2.3"}).text.splitlines()
    assert ["10.1.2.3", "db"] in [line.split() for line in lines]


def test_a_read_only_root(box):
    script = "for d in / /etc /bin /tmp; do touch $d/x 2>/dev/null && echo $d; done; touch /dev/shm/x /t/x && echo fine"
    assert box.sh(script, read_only=True, tmpfs=["/t"]).text == "fine\n"
    assert box.sh(script, tmpfs=["/t"]).text == "/\n/etc\n/bin\n/tmp\nfine\n"
    host = "touch /usr/x 2>/dev/null || touch /x 2>/dev/null || echo refused"
    assert box.sh(host, read_only=True, image="host").text == "refused\n"


@pytest.mark.root
def test_what_is_written_to_the_host_image_never_reaches_the_host(box):
    name = f"pylxc-test-{os.getpid()}"
    assert box.sh(f"touch /usr/bin/{name} && rm /usr/bin/env && echo done", image="host").text == "done\n"
    assert not Path(f"/usr/bin/{name}").exists()
    assert Path("/usr/bin/env").exists()


def test_tmpfs(box):
    script = "stat -f -c '%T %S %b' /t; stat -c %a /t; grep ' /t ' /proc/mounts"
    kind, mode, line = box.sh(script, tmpfs={"/t": "size=1m,mode=700"}).text.splitlines()
    name, size, blocks = kind.split()
    assert (name, int(size) * int(blocks), mode) == ("tmpfs", 1 << 20, "700")
    assert {"nosuid", "nodev", "noexec", "rw"} <= set(line.split()[3].split(","))
    assert box.sh("stat -c %a /t/deep", tmpfs=["/t/deep"]).text == "1777\n"


def test_shm_size(box):
    out = box.sh("stat -f -c '%S %b' /dev/shm", shm_size="8m").text.split()
    assert int(out[0]) * int(out[1]) == 8 << 20


def test_bind_mounts(box, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("in it\n")
    volumes = {tmp_path / "dir": "/made/for/it", tmp_path / "dir/file": "/file", tmp_path: "/ro:ro"}
    script = "cat /made/for/it/file /file; echo new >/made/for/it/new; echo more >>/file; touch /ro/x 2>&1; "
    script += "cat /ro/dir/new"
    out = box.sh(script, volumes=volumes).text
    assert out == "in it\nin it\ntouch: /ro/x: Read-only file system\nnew\n"
    assert (tmp_path / "dir/file").read_text() == "in it\nmore\n"
    assert (tmp_path / "dir/new").read_text() == "new\n"


@pytest.mark.root
def test_a_bind_shows_what_is_mounted_below_it_and_is_read_only_there_too(box, tmp_path):
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "below"], check=True)
    try:
        (tmp_path / "below/file").write_text("there\n")
        script = "cat /in/below/file; touch /in/below/x 2>/dev/null || echo ro; touch /in/x 2>/dev/null || echo ro"
        assert box.sh(script, volumes={tmp_path: "/in:ro"}).text == "there\nro\nro\n"
        assert box.sh("touch /in/below/x && echo rw", volumes={tmp_path: "/in"}).text == "rw\n"
    finally:
        subprocess.run(["umount", tmp_path / "below"], check=True)


def test_a_mount_made_inside_does_not_appear_outside(box, tmp_path):
    script = "mount -t tmpfs none /in && touch /in/inside && echo done"
    assert box.sh(script, volumes={tmp_path: "/in"}, cap_add=["SYS_ADMIN"]).text == "done\n"
    assert list(tmp_path.iterdir()) == []


def test_a_mount_below_another_comes_after_it_whatever_the_order(box, tmp_path):
    (tmp_path / "file").write_text("seen\n")
    mounts = [
        {"type": "bind", "source": str(tmp_path / "file"), "target": "/m/sub/file"},
        {"type": "tmpfs", "target": "/m"},
    ]
    assert box.run("cat", "/m/sub/file", mounts=mounts).text == "seen\n"


def test_limits(box):
    text = box.sh("ulimit -n; ulimit -Hn; ulimit -c", ulimits={"nofile": (100, 200), "core": 0}).text
    assert text == "100\n200\n0\n"
    hard = int(Path("/proc/sys/fs/nr_open").read_text())
    # Above what may be had, it is clamped and the container starts.
    options = {"ulimits": {"nofile": (-1, -1)}}
    try:
        assert 0 < int(box.sh("ulimit -n", **options).text) <= hard
    except pylxc.SpecError as error:
        assert error.option == "ulimits"  # noqa: PT017  it may as well be refused beforehand


def test_sysctls(box):
    names = {"net.ipv4.ip_forward": "1", "net/ipv4/ip_unprivileged_port_start": 80, "kernel.shm_rmid_forced": "1"}
    before = Path("/proc/sys/kernel/shm_rmid_forced").read_text()
    script = "cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced"
    assert box.sh(script, sysctls=names).text == "1\n80\n1\n"
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == before


def test_capabilities(box):
    default = known(capability_mask(DEFAULT_CAPABILITIES))
    nothing = {"CapInh": 0, "CapAmb": 0}
    assert capabilities(box) == {"CapPrm": default, "CapEff": default, "CapBnd": default, **nothing}
    assert capabilities(box, user="nobody") == {"CapPrm": 0, "CapEff": 0, "CapBnd": default, **nothing}
    assert capabilities(box, cap_drop=["ALL"])["CapBnd"] == 0
    one = known(1 << CAPABILITIES.index("NET_ADMIN"))
    assert capabilities(box, cap_drop=["ALL"], cap_add=["NET_ADMIN"])["CapEff"] == one
    assert capabilities(box, cap_add=["NET_ADMIN"], cap_drop=["CAP_CHOWN"])["CapEff"] == (
        default | one
    ) & ~capability_mask(["CHOWN"])
    assert capabilities(box, privileged=True)["CapEff"] == known(capability_mask(CAPABILITIES))


def test_capabilities_of_an_exec_are_the_containers(box):
    with box.start("sleep", "100", cap_drop=["ALL"], cap_add=["KILL"]) as container:
        for user, effective in (("0", capability_mask(["KILL"])), ("nobody", 0)):
            text = container.exec(["cat", "/proc/self/status"], user=user).text
            lines = [line.split() for line in text.splitlines() if line.startswith("Cap")]
            found = {name.rstrip(":"): int(value, 16) for name, value in lines}
            assert (found["CapEff"], found["CapBnd"]) == (effective, capability_mask(["KILL"]))
            assert (found["CapInh"], found["CapAmb"]) == (0, 0)
            assert "NoNewPrivs:\t1" in text


def test_no_new_privileges(box):
    assert status_of(box)["NoNewPrivs"] == "1"
    assert status_of(box, no_new_privileges=False)["NoNewPrivs"] == "0"
    assert status_of(box, privileged=True)["NoNewPrivs"] == "0"


def test_signals_and_the_mask_are_a_fresh_programs(box):
    fields = status_of(box)
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigIgn"], 16) == 0  # Python ignores SIGPIPE, and a payload is not to inherit that


def test_the_mask_of_new_files(box):
    before = os.umask(0o077)
    try:
        assert box.sh("umask; mkdir /tmp/d; stat -c %a /tmp/d /").text == "0022\n755\n755\n"
    finally:
        os.umask(before)


def test_devices(box):
    names = set(box.sh("ls /dev").text.split())
    links = {"fd", "stdin", "stdout", "stderr", "ptmx"}
    assert names == {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "mqueue", *links}
    script = "head -c 4 /dev/zero | od -An -tx1; echo x >/dev/full; head -c 9 /dev/urandom | wc -c; "
    script += "echo out >/dev/stdout"
    result = box.sh(script, check=False)
    assert result.text == " 00 00 00 00\n9\nout\n"
    assert b"No space left" in result.stderr


def test_a_device_of_ones_own(box):
    script = "stat -c '%t:%T' /dev/here; cat /dev/here | head -c 2 | od -An -tx1"
    result = box.sh(script, devices=["/dev/zero:/dev/here"])
    assert result.text == "1:5\n 00 00\n"


def test_privileged_has_the_hosts_devices_and_no_masks(box):
    modes = [path.lstat().st_mode for path in Path("/dev").iterdir()]
    count = sum(stat.S_ISCHR(mode) or stat.S_ISBLK(mode) for mode in modes)
    assert int(box.sh("ls -l /dev | grep -c '^[cb]'", privileged=True).text) >= count - 2  # console, ptmx
    assert int(box.sh("cat /proc/interrupts | wc -l", privileged=True).text) > 1
    # The settings of the network are its namespace's root's, the others the machine's root's.
    setting = "/proc/sys/kernel/hostname" if os.geteuid() == 0 else "/proc/sys/net/ipv4/ip_forward"
    assert box.sh(f"touch {setting} && [ -w {setting} ]", privileged=True).ok
    assert not box.sh(f"touch {setting} && [ -w {setting} ]", check=False).ok


def test_no_network_is_a_loopback_that_works(box):
    assert box.run("ls", "/sys/class/net", network="none").text.split() == ["lo"]
    assert "inet addr:127.0.0.1" in box.run("ifconfig", "lo", network="none").text
    assert box.run("ping", "-c1", "-W2", "127.0.0.1", network="none").ok
    assert not box.run("ping", "-c1", "-W1", "192.0.2.1", check=False, network="none").ok


def test_the_hosts_network(box):
    inside = box.run("readlink", "/proc/self/ns/net", network="host").text.strip()
    assert inside == os.readlink("/proc/self/ns/net")
    assert box.run("readlink", "/proc/self/ns/net").text.strip() != inside
    assert box.run("cat", "/etc/resolv.conf", network="host").stdout == Path("/etc/resolv.conf").read_bytes()


def test_every_namespace_is_the_containers_own_and_an_execs_too(box):
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    script = "".join(f"readlink /proc/self/ns/{kind};" for kind in kinds)
    hosts = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    with box.start("sleep", "100") as container:
        inside = container.exec(["sh", "-c", script]).text.split()
        main = [os.readlink(f"/proc/{container.status().pid}/ns/{kind}") for kind in kinds]
    assert inside == main
    assert set(inside).isdisjoint(hosts)


def test_a_resolver_file_that_is_a_link_into_an_empty_run_directory(box, busybox_root, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox_root, tree], check=True)
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    image = pylxc.Image.from_directory(tree, "stub", engine=box.engine)
    seen = box.run("cat", "/run/systemd/resolve/stub-resolv.conf", image=image, network="host").stdout
    assert seen == Path("/etc/resolv.conf").read_bytes()


def test_additional_groups(box):
    look = "id -G"
    assert box.sh(look, groups=["nogroup", 4321]).text == "0 4321 65534\n"
    with box.start("sleep", "100", groups=[4321], user="nobody") as container:
        assert container.exec(["sh", "-c", look]).text == "65534 4321\n"
        assert container.exec(["sh", "-c", look], user="0").text == "0 4321\n"
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", groups=["nosuch"])
    assert caught.value.stage == "user"
    for wrong in (["a:b"], [-1], ["a b"], [2**31]):
        with pytest.raises(pylxc.SpecError, match="groups"):
            box.run("true", groups=wrong)
