"""A user namespace for each container: its root is nobody on the host, and its files are stored as if it were root."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import pylxc
from pylxc.errors import SpawnError, StoreError
from pylxc.runtime import idrange, isolation
from pylxc.runtime import plan as p
from tests.boxes import await_true, is_network_of_the_host

CAP_NET_RAW_V2 = bytes.fromhex("0000000200200000000000000000000000000000")


def host_ids(container: pylxc.Container) -> int:
    """Return the first host id of a running container."""
    return int(Path(f"/proc/{container.status().pid}/uid_map").read_text().split()[1])


@pytest.mark.root
def test_root_inside_is_nobody_outside(box):
    with box.start("sleep", "100") as container:
        pid = container.status().pid
        first = host_ids(container)
        assert first >= idrange.FIRST
        assert Path(f"/proc/{pid}").stat().st_uid in (0, first)  # a process that may not be dumped is shown as root's
        assert f"Uid:\t{first}\t{first}\t{first}\t{first}" in Path(f"/proc/{pid}/status").read_text()
        assert Path(f"/proc/{pid}/gid_map").read_text().split() == ["0", str(first), "65536"]
        assert container.exec(["id", "-u"]).text == "0\n"
        assert container.exec(["cat", "/proc/self/uid_map"]).text.split() == ["0", str(first), "65536"]
        inside = os.stat(f"/proc/{pid}/ns/user").st_ino
        executed = container.exec(["readlink", "/proc/self/ns/user"]).text
        assert executed == f"user:[{inside}]\n"


@pytest.mark.root
@pytest.mark.parametrize("options", [{"userns": "host"}, {"privileged": True}])
def test_opting_out(box, options):
    result = box.run("cat", "/proc/self/uid_map", **options)
    assert result.text.split() == ["0", "0", "4294967295"]


@pytest.mark.root
def test_every_container_has_ids_of_its_own(box):
    containers = [box.start("sleep", "100") for _ in range(20)]
    try:
        assert len({host_ids(container) for container in containers}) == len(containers)
    finally:
        for container in containers:
            container.remove(force=True)


@pytest.mark.root
def test_ranges_do_not_collide_across_processes_and_stores(tmp_path, busybox_root):
    program = f"""
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
pylxc.Image.from_directory({str(busybox_root)!r}, "busybox", engine=engine)
held = [pylxc.start("busybox", ["sleep", "100"], engine=engine) for _ in range(8)]
print(*(open(f"/proc/{{c.status().pid}}/uid_map").read().split()[1] for c in held), flush=True)
sys.stdin.read()
for container in held:
    container.remove(force=True)
"""
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(pylxc.__file__).parent.parent)},
        )
        for number in range(3)
    ]
    found = [word for start in starts for word in start.stdout.readline().split()]
    for start in starts:
        start.communicate()
    assert len(found) == len(set(found)) == 24


@pytest.mark.root
def test_a_range_is_free_again_when_its_container_is_gone(box):
    with box.start("sleep", "100") as container:
        number = (host_ids(container) - idrange.FIRST) // idrange.SIZE
        assert is_taken(number)
    await_true(lambda: not is_taken(number), "the end of the range's lock")


def is_taken(number: int) -> bool:
    fd = os.open(f"{idrange.DIRECTORY}/ids", os.O_RDWR | os.O_CLOEXEC)
    try:
        asked = idrange._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    return idrange._FLOCK.unpack(answer)[0] != fcntl.F_UNLCK


@pytest.mark.root
def test_no_range_is_left(monkeypatch, box):
    monkeypatch.setattr(idrange, "COUNT", 1)
    first, keeper = idrange.take()
    assert first == idrange.FIRST
    try:
        with pytest.raises(StoreError, match="ranges of user ids are taken"):
            box.run("true")
    finally:
        os.close(keeper)


@pytest.mark.root
def test_files_are_stored_as_a_root_would_have_made_them(box):
    script = "touch /file /users && chown 1000:1001 /users && mkdir -m 2755 /dir && chown 65535:65535 /dir"
    with box.start("sh", "-c", f"{script} && ln -s x /link && chown -h 7:8 /link && touch /done && sleep 100") as one:
        upper = box.engine.root / "containers" / one.id / "upper"
        await_true((upper / "done").exists, "the files")
        owners = {name: (os.lstat(upper / name).st_uid, os.lstat(upper / name).st_gid) for name in os.listdir(upper)}
    assert owners["file"] == (0, 0)
    assert owners["users"] == (1000, 1001)
    assert owners["dir"] == (65535, 65535)
    assert owners["link"] == (7, 8)


@pytest.mark.root
def test_what_the_image_has_is_seen_as_it_is(box, busybox_root, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox_root, tree], check=True)
    (tree / "mine").write_text("x")
    os.chown(tree / "mine", 1000, 2000)
    image = pylxc.Image.from_directory(tree, engine=box.engine)
    assert box.run("stat", "-c", "%u %g", "/mine", "/bin/busybox", image=image).text == "1000 2000\n0 0\n"


def test_an_id_that_is_not_mapped_cannot_be_had(box):
    extents = [line.split() for line in box.run("cat", "/proc/self/uid_map").text.splitlines()]
    beyond = max(int(inside) + int(count) for inside, _, count in extents)
    assert box.sh(f"touch /f; chown {beyond - 1} /f").ok
    result = box.sh(f"touch /f; chown {beyond} /f", check=False)
    assert result.exit_code == 1
    assert b"Invalid argument" in result.stderr


@pytest.mark.parametrize("mode", ["default", "host"])
def test_file_capabilities_survive_into_the_layer(build_with_setcap, mode):
    """As a root-built layer has them: VFS_CAP_REVISION_2, no root id in it (capabilities(7))."""
    assert build_with_setcap(mode) == CAP_NET_RAW_V2


@pytest.fixture
def build_with_setcap(engine, tmp_path, monkeypatch):
    """Builds an image in which a RUN step set a file capability; returns the attribute in the layer's tar."""

    def build(mode: str) -> bytes:
        if mode == "host":
            original = isolation.ids_for
            monkeypatch.setattr(
                isolation, "ids_for", lambda _spec: original(pylxc.ContainerSpec(image="x", userns="host"))
            )
        (tmp_path / "Dockerfile").write_text("FROM host\nRUN cp /bin/true /t && setcap cap_net_raw+p /t\n")
        image = pylxc.Image.build(tmp_path, engine=engine)
        with image.layers[-1].tar() as stream, tarfile.open(fileobj=stream, mode="r|", encoding="latin-1") as archive:
            [value] = [entry.pax_headers["SCHILY.xattr.security.capability"] for entry in archive if entry.name == "t"]
        return value.encode("latin-1")

    return build


def test_a_user_can_open_the_standard_streams_anew(box):
    result = box.sh("echo out >/dev/stdout; echo err >/dev/stderr", user="nobody")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    with box.start("sleep", "100") as container:
        executed = container.exec(["sh", "-c", "echo out >/dev/stdout"], user="nobody")
        assert executed.text == "out\n"


@pytest.mark.root
def test_a_bound_directory_keeps_its_owners(box, tmp_path):
    (tmp_path / "mine").write_text("x")
    os.chown(tmp_path / "mine", 1000, 1000)
    tmp_path.chmod(0o700)
    script = "stat -c %u /in/mine; touch /in/made; chown 1000 /in/mine"
    assert box.sh(script, volumes={tmp_path: "/in"}).text == "1000\n"
    made = (tmp_path / "made").stat()
    assert (made.st_uid, made.st_gid) == (0, 0)


def test_a_read_only_bind_is_read_only(box, tmp_path):
    result = box.sh("touch /in/made", volumes={tmp_path: "/in:ro"}, check=False)
    assert b"Read-only file system" in result.stderr
    assert os.listdir(tmp_path) == []


def test_a_bind_from_a_file_system_without_id_maps(box):
    """Its files belong to nobody then, and what others may read can be read."""
    result = box.sh("cat /in/version; stat -c %u /in/version", volumes={"/proc": "/in:ro"})
    assert result.text.splitlines() == [Path("/proc/version").read_text().strip(), "65534"]


def test_many_binds(box, tmp_path):
    """More than descriptors can be in flight at once, or open."""
    for number in range(600):
        (tmp_path / str(number)).mkdir()
    volumes = {tmp_path / str(number): f"/v/{number}" for number in range(600)}
    assert box.sh("ls /v | wc -l", volumes=volumes).text == "600\n"


def test_the_network_of_the_host(box):
    assert is_network_of_the_host(lambda script: box.sh(script, network="host").text)
    result = box.sh("touch /sys/x", network="host", check=False)
    assert b"Read-only file system" in result.stderr


@pytest.mark.root
def test_the_hosts_files_are_out_of_reach(box, tmp_path):
    """Even of a process that has left the root: it is nobody there."""
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    with box.start("sleep", "100") as container:
        first = host_ids(container)
    program = f"import os; os.setgid({first}); os.setuid({first}); open({str(secret)!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "PermissionError" in result.stderr


@pytest.mark.root
def test_a_map_that_the_kernel_refuses(box, monkeypatch):
    monkeypatch.setattr(idrange, "SIZE", 0)
    with pytest.raises(SpawnError) as caught:
        box.run("true")
    assert (caught.value.stage, caught.value.subject) == ("namespaces", "the user namespace")


@pytest.mark.root
def test_a_store_that_cannot_be_mapped(box, monkeypatch):
    """The way of a file system without id-mapped mounts: proc stands for one."""
    original = isolation.add_place

    def elsewhere(plan: p.Plan, scaffold: str) -> None:
        original(plan, "/proc/run")

    monkeypatch.setattr(isolation, "add_place", elsewhere)
    with pytest.raises(SpawnError, match='userns="host"') as caught:
        box.run("true")
    assert caught.value.stage == "root"
