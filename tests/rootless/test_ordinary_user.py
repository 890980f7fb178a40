"""Containers of an ordinary user. Run as one by test_as_ordinary_user.py, or by hand: ``pytest tests/rootless``."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import NOTHING, entries, monitors

import pylxc
from pylxc.runtime import cgroup, rootless, subordinate

pytestmark = pytest.mark.ordinary_user

SUBORDINATE = subordinate.granted("/etc/subuid", subordinate.names_of(os.geteuid()))


def outside(inside: int) -> int:
    """Return the host's id of a container's id, by the first range of /etc/subuid."""
    return SUBORDINATE[0][0] + inside - 1 if inside else os.geteuid()


def test_root_inside_is_the_caller(box):
    lines = box.sh("id -u; cat /proc/self/uid_map; cat /proc/self/setgroups").text.split()
    assert lines == ["0", "0", "0", "1", "1", "1", str(SUBORDINATE[0][1]), "allow"]
    with box.start("sleep", "100") as container:
        assert os.stat(f"/proc/{container.status().pid}").st_uid == os.geteuid()
    with box.start("sleep", "100", user="nobody") as container:
        assert os.stat(f"/proc/{container.status().pid}").st_uid == outside(65534)


def test_the_container_is_in_a_user_namespace_of_its_own(box):
    own = os.stat("/proc/self/ns/user").st_ino
    with box.start("sleep", "100") as one, box.start("sleep", "100") as other:
        places = {os.stat(f"/proc/{c.status().pid}/ns/user").st_ino for c in (one, other)}
        assert len(places) == 2
        assert not places & {own, os.fstat(rootless.namespace().fd).st_ino}


def test_other_groups_of_the_callers_are_not_the_containers(box):
    assert box.run("id", "-G").text == "0\n"
    with box.start("sleep", "100") as container:
        assert container.exec(["id", "-G"], user="nobody").text == "65534\n"


def test_another_process_of_the_same_user_works_on_it(box):
    """Its user namespace is another one: it enters the container's from outside."""
    program = """
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
container = pylxc.Container.get(sys.argv[2], engine=engine)
print(container.exec(["sh", "-c", "id -u; touch /made; chown 5:6 /made; stat -c %u:%g /made"]).text.split())
with container.connect(9000) as connection:
    print(connection.recv(5))
container.stop(timeout=5)
container.remove()
"""
    script = "mkdir -m 700 /closed; chown 7:7 /closed; touch /closed/file; exec nc -ll -p 9000 -e echo hello"
    before = monitors()
    container = box.start("sh", "-c", script, init=True)
    container.wait_ready(port=9000, timeout=10)
    command = [sys.executable, "-c", program, box.engine.root, container.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("['0', '5:6']\nb'hello'\n", "")
    with pytest.raises(pylxc.ContainerNotFound):
        container.status()
    container.remove(force=True)  # what is left is this process's child
    assert monitors() <= before


def test_files_of_other_ids_are_removed(box):
    script = "mkdir -p /d/e; touch /d/e/f; chown -R 33:33 /d; chmod 0 /d/e; chmod 700 /d; chown 8:8 /; chmod 555 /"
    box.sh(script)
    container = box.create("sh", "-c", script)
    container.start()
    assert container.wait() == 0
    upper = box.engine.root / "containers" / container.id / "upper"
    assert upper.stat().st_uid == outside(8)
    container.remove()
    assert entries(box.engine) == NOTHING


def test_owners_modes_and_closed_directories_survive_a_build(box, tmp_path):
    (tmp_path / "file").write_text("content")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN echo app:x:33:34::/home/app:/bin/sh >> /etc/passwd && mkdir -p /home/app && chown 33:34 /home/app "
        "&& chmod 700 /home/app && chmod u+s /home && mknod /home/fifo p && chmod 555 / && chown 9:9 /\n"
        "COPY --chown=app file /home/app/\n"
        "COPY --chown=app:34 file /home/app/other\n"
        "WORKDIR /home/app/deep/er\n"
    )
    image = pylxc.Image.build(tmp_path, engine=box.engine)
    try:
        look = "stat -c '%n %u %g %a' / /home /home/app /home/app/file /home/app/other /home/app/deep/er"
        seen = dict(line.split(" ", 1) for line in box.sh(look, image=image).text.splitlines())
        assert seen["/"] == "9 9 555"
        assert seen["/home"] == "0 0 4755"
        assert seen["/home/app"] == "33 34 700"
        assert seen["/home/app/file"] == "33 34 644"
        assert seen["/home/app/deep/er"] == "0 0 755"
        found = {entry.path: entry for layer in image.layers for entry in layer.entries()}
        assert (found["home/app/other"].uid, found["home/app/other"].gid) == (33, 34)
        assert pylxc.Image.build(tmp_path, engine=box.engine).layers == image.layers
    finally:
        image.remove()


def test_a_layer_is_the_same_as_the_machines_roots(box, tmp_path):
    """The digest says nothing of who unpacked it: ids on disk differ, those in the layer do not."""
    archive = tmp_path / "tree.tar"
    script = (
        "import tarfile,io\n"
        f"with tarfile.open({str(archive)!r}, 'w') as tar:\n"
        "    for name, uid, mode in (('a', 0, 0o4755), ('b', 1000, 0o640), ('c', 65535, 0o600)):\n"
        "        info = tarfile.TarInfo(name); info.uid = info.gid = uid; info.mode = mode; info.size = 1\n"
        "        tar.addfile(info, io.BytesIO(b'x'))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    image = pylxc.Image.from_tar(archive, engine=box.engine)
    try:
        assert image.layers[0].digest == "sha256:1d0ef69e539985136a5f7b3539b075f51ff596b4fb62642032049861b8a175a9"
        tree = Path(box.engine.layer_directory(image.layers[0].digest))
        assert [tree.joinpath(name).stat().st_uid for name in "abc"] == [outside(0), outside(1000), outside(65535)]
        assert stat.S_IMODE((tree / "a").stat().st_mode) == 0o4755
    finally:
        image.remove()


def test_device_nodes_of_an_archive_are_left_out(box, tmp_path):
    script = (
        "import tarfile\n"
        f"with tarfile.open({str(tmp_path / 'tree.tar')!r}, 'w') as tar:\n"
        "    for name, kind in (('null', tarfile.CHRTYPE), ('disk', tarfile.BLKTYPE), ('dir', tarfile.DIRTYPE)):\n"
        "        info = tarfile.TarInfo(name); info.type = kind; info.devmajor, info.devminor = 1, 3\n"
        "        tar.addfile(info)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    image = pylxc.Image.from_tar(tmp_path / "tree.tar", engine=box.engine)
    assert [entry.path for entry in image.layers[0].entries()] == ["dir"]
    image.remove()


def test_an_owner_beyond_the_range_is_named(box, tmp_path):
    script = (
        "import tarfile\n"
        f"with tarfile.open({str(tmp_path / 'tree.tar')!r}, 'w') as tar:\n"
        "    info = tarfile.TarInfo('far'); info.uid = 200000; tar.addfile(info)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(pylxc.StoreError, match=r"far.*/etc/subuid"):
        pylxc.Image.from_tar(tmp_path / "tree.tar", engine=box.engine)


def test_a_bound_directory_is_the_callers(box, tmp_path):
    place = tmp_path / "project"
    place.mkdir(mode=0o700)
    (place / "mine").write_text("mine")
    assert box.sh("stat -c %u /in/mine; echo new > /in/new; cat /in/mine", volumes={place: "/in"}).text == "0\nmine"
    assert (place / "new").stat().st_uid == os.geteuid()
    assert not box.sh("touch /in/no", volumes={place: "/in:ro"}, check=False).ok


def test_the_hosts_files_keep_their_rights(box):
    """Container root is the caller and no more: what is the machine's root's stays so."""
    script = "cat /in/shadow || echo refused; touch /in/new || echo refused"
    result = box.sh(script, volumes={"/etc": "/in"}, check=False)
    assert result.text == "refused\nrefused\n"


def test_devices_are_the_callers_to_give(box):
    assert box.sh("head -c 2 /dev/again | wc -c", devices=["/dev/zero:/dev/again"]).text == "2\n"


def test_the_init_holds_nothing_and_its_program_cannot_be_overwritten(box):
    look = "ls -l /proc/1/fd | grep -c . ; echo x 2>/dev/null >/proc/1/exe && echo overwritten; true"
    assert box.sh(look, init=True).text == "1\n"


def test_limits_are_kept_or_say_what_they_need(box):
    if "memory" in cgroup.hierarchies().v2_controllers:  # systemd gave the user a part of the tree
        assert box.sh("x=a; while true; do x=$x$x; done", memory="64m", check=False).oom_killed
        return
    with pytest.raises(pylxc.UnsupportedError, match="Delegate"):
        box.run("true", memory="64m")


SINGLE = """
import logging, sys
logging.basicConfig(format="%(message)s")
import pylxc
from pathlib import Path
engine = pylxc.Engine(sys.argv[1])
pylxc.Image.from_directory(sys.argv[2], "busybox", engine=engine)
run = lambda *words, **more: pylxc.run("busybox", list(words), engine=engine, **more)
print(run("sh", "-c", "id -u; cat /proc/self/uid_map").text.split())
context = Path(sys.argv[1] + "-context"); context.mkdir(); (context / "file").write_text("x")
(context / "Dockerfile").write_text("FROM busybox\\nCOPY file /a/b\\nRUN echo made > /made\\n")
image = pylxc.Image.build(context, engine=engine)
print(pylxc.run(image, ["cat", "/a/b", "/made"], engine=engine).text.split())
with pylxc.start("busybox", ["sleep", "100"], engine=engine) as container:
    print(container.exec(["echo", "exec"]).text)
try:
    run("true", user="5")
except pylxc.SpawnError as error:
    print(error.stage, error.errno, "one id" in str(error))
image.remove()
"""


def test_without_subordinate_ids_there_is_root_and_a_note(tmp_path, busybox_root):
    """The fallback of a machine without newuidmap: PATH leads to nothing."""
    environment = {"PATH": str(tmp_path / "nothing"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SINGLE, tmp_path / "store", busybox_root]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == ["['0', '0', '0', '1']", "['xmade']", "exec", "", "user 22 True"], done.stderr
    note = "containers have root's id only"
    assert note in done.stderr
    assert "newuidmap and newgidmap not found" in done.stderr
    assert done.stderr.count(note) == 1


def test_a_bound_directory_of_ones_own(box, tmp_path):
    """Container root is its owner already; asking for that is no error, and another user's cannot be had."""
    for word in ("", ":idmap", ":noidmap"):
        assert box.sh("stat -c %u /in; touch /in/made", volumes={tmp_path: f"/in{word}"}).text == "0\n"
        assert (tmp_path / "made").stat().st_uid == os.geteuid()
        (tmp_path / "made").unlink()
    with pytest.raises(pylxc.UnsupportedError, match="another user's"):
        box.run("true", volumes={"/etc": "/in:idmap"})


def test_mounts_are_never_shared_with_the_host(box, tmp_path):
    for options in ({}, {"userns": "host"}):
        with pytest.raises(pylxc.UnsupportedError, match="rslave"):
            box.run("true", volumes={tmp_path: "/in:rshared"}, **options)


def test_a_volume_that_was_given_to_somebody_inside(box):
    """Its directory is closed to the caller then, who still fills, lists and removes it."""
    close = "echo x >/data/file; chown -R 70:70 /data; chmod 700 /data"
    box.sh(close, volumes={"shelf": "/data"})
    shelf = pylxc.Volume.get("shelf", engine=box.engine)
    assert shelf.path.stat().st_uid == outside(70)
    assert box.run("cat", "/data/file", user="70", volumes={"shelf": "/data"}).text == "x\n"
    shelf.remove()
    assert os.listdir(box.engine.root / "volumes") == []


def test_a_closed_volume_that_was_half_filled(box):
    """The mark is there and nobody fills: the next start empties it first, though its owner is another."""
    box.sh("echo x >/data/half; chown 70:70 /data; chmod 700 /data", volumes={"shelf": "/data"})
    shelf = pylxc.Volume.get("shelf", engine=box.engine)
    (shelf.path.parent / "filling").touch()
    assert box.run("ls", "-A", "/data", volumes={"shelf": "/data"}).text == ""
    shelf.remove()


def test_ids_in_a_volume_are_the_callers_subordinate_ones(box):
    box.sh("touch /data/file /data/mine; chown 5:6 /data/file", volumes={"shelf": "/data"})
    shelf = pylxc.Volume.get("shelf", engine=box.engine)
    assert (shelf.path / "file").stat().st_uid == outside(5)
    assert (shelf.path / "mine").stat().st_uid == os.geteuid()
    assert box.sh("stat -c %u:%g /data/file", volumes={"shelf": "/data"}).text == "5:6\n"
    shelf.remove()


def test_name_servers_are_given_without_a_network(box):
    assert box.run("cat", "/etc/resolv.conf", dns=["192.0.2.1"]).text.endswith("nameserver 192.0.2.1\n")
