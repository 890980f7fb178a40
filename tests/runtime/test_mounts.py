"""Bind mounts: how far they reach, what propagates through them, whose the files are that a container makes there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pylxc._native import lib

import pylxc
from pylxc.errors import SpawnError, UnsupportedError

OWNER, GROUP, OTHER = 1000, 1001, 33  # of the host: whose directory it is, and somebody else
NOBODY = 65534


def test_flags_that_stand_in_one_number_are_different_bits():
    flags = [getattr(lib, name) for name in dir(lib) if name.startswith(("PYLXC_MAKE_", "PYLXC_BIND_"))]
    assert len(flags) > 8
    assert all(flag.bit_count() == 1 for flag in flags)
    assert len(set(flags)) == len(flags)


# -- mounts of the host: made in a mount namespace of its own, by a program that ends with it -------------------------

PRELUDE = """
import json, os, subprocess, sys
from pathlib import Path
import pylxc

place, busybox = map(Path, sys.argv[1:])
engine = pylxc.Engine(place / "store")
pylxc.Image.from_directory(busybox, "busybox", engine=engine)
source = place / "source"
source.mkdir()
ADMIN = {"cap_add": ["SYS_ADMIN"], "seccomp": "unconfined"}

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

def start(**options):
    return pylxc.start("busybox", ["sleep", "100"], engine=engine, **options)

def sh(container, script):
    return container.exec(["sh", "-c", script], check=False).text

def mounted(word):
    return word in Path("/proc/self/mountinfo").read_text()

def share():
    mount("-t", "tmpfs", "shared", source)
    mount("--make-rshared", source)
    (source / "below").mkdir()
"""


@pytest.fixture
def in_namespace(tmp_path, busybox_root):
    """Run a program that may mount what it likes; give what it says with ``tell(...)``."""

    def run(program: str, *, privileged: bool = True, **values: object):
        busybox_root.chmod(0o755)
        given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        program = PRELUDE + given + "tell = lambda *words: print(json.dumps(words))\n" + program
        unshare = ["unshare", "--mount", *([] if privileged else ["--user", "--map-root-user"])]
        done = subprocess.run(
            [*unshare, sys.executable, "-c", program, tmp_path, busybox_root],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(pylxc.__file__).parent.parent)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


BOTH_WAYS = """
share()
volumes = {source: f"/in:{word}"} if word else {source: "/in"}
with start(volumes=volumes, **ADMIN, **options) as container:
    mount("-t", "tmpfs", "hosts", source / "below")
    (source / "below/file").write_text("new")
    seen = sh(container, "cat /in/below/file")
    subprocess.run(["umount", source / "below"], check=True)
    gone = sh(container, "ls /in/below")
    made = sh(container, "mount -t tmpfs inside /in/below && touch /in/below/x && echo made")
    tell(seen, gone, made, mounted("inside"))
"""
USER_NAMESPACES = pytest.mark.parametrize("options", [{}, {"userns": "host"}], ids=["own", "host"])


@pytest.mark.root
@USER_NAMESPACES
@pytest.mark.parametrize("word", ["", "private", "rprivate"])
def test_by_default_no_mount_reaches_the_other_side(in_namespace, options, word):
    """On a host whose root is shared, as systemd has it: a container that may mount is not to mount on the host."""
    assert in_namespace(BOTH_WAYS, options=options, word=word) == ["", "", "made\n", False]


@pytest.mark.root
@USER_NAMESPACES
@pytest.mark.parametrize("word", ["slave", "rslave"])
def test_a_slave_sees_what_the_host_mounts_later(in_namespace, options, word):
    assert in_namespace(BOTH_WAYS, options=options, word=word) == ["new", "", "made\n", False]


@pytest.mark.root
@pytest.mark.parametrize("word", ["rprivate", "rslave"])
@USER_NAMESPACES
def test_containers_of_a_root_that_is_not_the_machines(in_namespace, options, word):
    """As those of an ordinary user: nothing can be mapped or handed in, the child opens the sources itself."""
    seen = in_namespace(BOTH_WAYS, privileged=False, options=options, word=word)
    assert seen == ["new" if word == "rslave" else "", "", "made\n", False]


@pytest.mark.root
@pytest.mark.parametrize("options", [{"userns": "host"}, {"privileged": True}], ids=["userns", "privileged"])
@pytest.mark.parametrize("word", ["shared", "rshared"])
def test_shared_goes_both_ways(in_namespace, options, word):
    assert in_namespace(BOTH_WAYS, options=options, word=word) == ["new", "", "made\n", True]


def test_shared_is_refused_where_it_would_give_the_host_away(box, tmp_path):
    for word in ("shared", "rshared"):
        with pytest.raises(UnsupportedError, match="rslave"):
            box.run("true", volumes={tmp_path: f"/in:{word}"})


@pytest.mark.root
def test_the_helper_refuses_it_too(box, tmp_path, monkeypatch):
    """The kernel would let it pass: what a monitor hands in keeps its peer group."""
    monkeypatch.setattr(pylxc.Mount, "is_shared", property(lambda self: self.propagation == "rslave"))
    monkeypatch.setattr(pylxc.ContainerSpec, "_check_together", lambda _self: None)
    monkeypatch.setattr("pylxc.runtime.propagation.check", lambda _mount: None)
    with pytest.raises(SpawnError) as caught:
        box.run("true", volumes={tmp_path: "/in:rslave"})
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.EPERM)


@pytest.mark.root
def test_what_could_never_propagate_is_refused(in_namespace):
    program = """
mount("-t", "tmpfs", "alone", source)
try:
    start(volumes={source: "/in:rslave"})
except pylxc.SpecError as error:
    tell(error.value, error.remedy)
"""
    value, remedy = in_namespace(program)
    assert value == "rslave"
    assert "mount --make-rshared" in remedy
    assert remedy.endswith("/source")


def test_a_source_that_is_missing_is_named_by_the_start(box, tmp_path):
    with pytest.raises(SpawnError) as caught:
        box.run("true", volumes={tmp_path / "none": "/in:rslave"})
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.ENOENT)


SPEC = "type=bind,source=%s,target=/in"
REACH = """
mount("-t", "tmpfs", "upper", source)
(source / "a").mkdir()
(source / "a").chmod(0o777)  # to a kernel whose tmpfs knows no id maps (< 6.3) its owner is nobody
mount("-t", "tmpfs", "middle", source / "a")
(source / "a/b").mkdir()
mount("-t", "tmpfs", "deep", source / "a/b")
(source / "a/b/file").write_text("deep")
script = "cat /in/a/b/file; for d in /in /in/a /in/a/b; do touch $d/x && echo $d; done"
with start(mounts=[spec % source], **options) as container:
    tell(sh(container, script), sorted(str(p) for p in source.rglob("x")))
"""


@pytest.mark.root
@USER_NAMESPACES
def test_read_only_holds_for_all_that_is_mounted_below(in_namespace, options):
    text, made = in_namespace(REACH, options=options, spec=SPEC + ",readonly")
    assert (text, made) == ("deep", [])


@pytest.mark.root
@USER_NAMESPACES
def test_with_what_is_mounted_below_and_without(in_namespace, tmp_path, options):
    text, _ = in_namespace(REACH, options=options, spec=SPEC)
    assert text == "deep/in\n/in/a\n/in/a/b\n"


@pytest.mark.root
@USER_NAMESPACES
@pytest.mark.parametrize("word", ["bind-nonrecursive", "bind-recursive=disabled", "recursive=false"])
def test_without_what_is_mounted_below(in_namespace, options, word):
    text, made = in_namespace(REACH, options=options, spec=f"{SPEC},{word}")
    assert text == "/in\n/in/a\n"
    assert [Path(path).parent.name for path in made] == ["source"]  # "a" is the directory below the mount


# -- owners -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A directory of OWNER's, with a file of theirs, of somebody else's and of the host's root."""
    tmp_path.chmod(0o755)
    directory = tmp_path / "project"
    directory.mkdir()
    os.chown(directory, OWNER, GROUP)
    for name, uid, gid in (("mine", OWNER, GROUP), ("others", OTHER, OTHER), ("roots", 0, 0)):
        (directory / name).write_text(name)
        os.chown(directory / name, uid, gid)
    return directory


def owners(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.mark.root
def test_the_owner_of_a_directory_is_root_inside(box, project):
    script = "cd /in; stat -c %u:%g . mine others; echo more >>mine; mkdir made; ln -s x made/link; echo >made/file"
    assert box.sh(script, volumes={project: "/in"}).text == "0:0\n0:0\n33:33\n"
    for name in ("made", "made/link", "made/file"):
        assert owners(project / name) == (OWNER, GROUP), name
    assert (project / "mine").read_text() == "minemore\n"
    assert owners(project / "others") == (OTHER, OTHER)


@pytest.mark.root
def test_a_file_bound_alone_likewise(box, project):
    assert box.sh("stat -c %u:%g /in; echo more >>/in", volumes={project / "mine": "/in"}).text == "0:0\n"
    assert (project / "mine").read_text() == "minemore\n"


@pytest.mark.root
def test_other_ids_are_the_same_on_both_sides(box, project):
    box.sh("touch /in/a /in/b; chown 33:34 /in/a; chown 65535:1 /in/b", volumes={project: "/in"})
    assert owners(project / "a") == (33, 34)
    assert owners(project / "b") == (65535, 1)
    made = box.sh("touch /tmp/in/by && echo made", user="33", volumes={project: "/tmp/in"}, check=False)
    assert made.exit_code == 1  # not theirs to write to, by the mode


@pytest.mark.root
def test_the_hosts_root_owns_nothing_that_a_container_makes_or_changes(box, project):
    """Neither by being root inside, nor by the number that owns the directory, nor by set-uid bits."""
    project.chmod(0o2777)
    (project / "roots").chmod(0o644)
    script = """cd /in; stat -c %u:%g roots; cat roots; echo
    cp /bin/busybox suid; chmod 6755 suid; chown 0:0 suid; chmod 6755 suid; cp roots copied; mkfifo fifo
    for do in "chown 1000 suid" "chgrp 1001 suid" "chown 0 roots" "chmod 4777 roots" "mv roots moved" "rm -f roots" \\
        "ln roots linked" "mknod node c 1 3"; do $do 2>/dev/null && echo $do; done
    echo x >roots || echo done"""
    text = box.sh(script, volumes={project: "/in"}).text
    assert text.splitlines() == ["65534:65534", "roots", "done"]
    made = [path for path in project.iterdir() if path.name not in ("roots", "others")]
    assert {path.name: owners(path) for path in made} == dict.fromkeys(
        ("mine", "suid", "copied", "fifo"), (OWNER, GROUP)
    )
    assert stat.S_IMODE((project / "suid").stat().st_mode) == 0o6755  # the owner's own affair
    hosts = (project / "roots").stat()
    assert ((project / "roots").read_text(), hosts.st_uid, stat.S_IMODE(hosts.st_mode)) == ("roots", 0, 0o644)
    assert hosts.st_nlink == 1


@pytest.mark.root
def test_the_user_of_the_owners_number_can_own_nothing_there(box, project):
    project.chmod(0o777)
    result = box.sh("touch /in/made", volumes={project: "/in:idmap"}, user=str(OWNER), check=False)
    assert b"Value too large" in result.stderr
    assert not (project / "made").exists()


@pytest.mark.root
def test_a_source_of_group_root(box, project):
    os.chown(project, OWNER, 0)
    assert box.sh("touch /in/made; stat -c %u:%g /in/made", volumes={project: "/in"}).text == "0:0\n"
    assert owners(project / "made") == (OWNER, 0)


@pytest.mark.root
@pytest.mark.parametrize("owner", [1, 65534, 65535, 65536, 1234567, 2**32 - 2])
def test_owners_of_any_number(box, tmp_path, owner):
    os.chown(tmp_path, owner, owner)
    text = box.sh("touch /in/made && chown 7:7 /in/made; touch /in/again; stat -c %u /in", volumes={tmp_path: "/in"})
    assert text.text == "0\n"
    assert owners(tmp_path / "made") == (7, 7)
    assert owners(tmp_path / "again") == (owner, owner)


@pytest.mark.root
def test_a_container_that_is_not_root_has_the_hosts_numbers(box, project):
    """What `-u $(id -u):$(id -g)` is given for."""
    user = f"{OWNER}:{GROUP}"
    assert box.sh("stat -c %u:%g /in; echo >/in/made", volumes={project: "/in"}, user=user).text == f"{user}\n"
    assert owners(project / "made") == (OWNER, GROUP)


@pytest.mark.root
@pytest.mark.parametrize("user", [None, "0", "root", "root:root", "0:0"])
def test_who_is_root(box, project, user):
    assert box.sh("stat -c %u /in", volumes={project: "/in"}, user=user).text == "0\n"


@pytest.mark.root
@pytest.mark.parametrize("volume", ["/in:noidmap", {"idmap": False}])
def test_opting_out(box, project, volume):
    if isinstance(volume, dict):
        options = {"mounts": [{"type": "bind", "source": project, "target": "/in", **volume}]}
    else:
        options = {"volumes": {project: volume}}
    assert box.sh("stat -c %u:%g /in/mine; chown 0:0 /in/mine", **options).text == f"{OWNER}:{GROUP}\n"
    assert owners(project / "mine") == (0, 0)


@pytest.mark.root
@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"privileged": True}, {"user": "77"}])
def test_asking_for_it(box, project, options):
    """Also where the container has the host's ids, and whoever it runs as."""
    assert box.sh("stat -c %u:%g /in/mine", volumes={project: "/in:idmap"}, **options).text == "0:0\n"
    box.sh("touch /in/made", volumes={project: "/in:idmap"}, **{**options, "user": None})
    assert owners(project / "made") == (OWNER, GROUP)


@pytest.mark.root
def test_the_hosts_ids_are_not_mapped_unasked(box, project):
    assert box.sh("stat -c %u /in", volumes={project: "/in"}, userns="host").text == f"{OWNER}\n"


@pytest.mark.root
def test_what_cannot_be_mapped_is_refused_when_it_was_asked_for(box):
    with pytest.raises(SpawnError, match="id-mapped") as caught:
        box.run("true", mounts=["type=bind,source=/proc,target=/in,idmap"])
    # The host's root owns /proc, and needs no map of its own: the container's has to do, and cannot.
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.EOPNOTSUPP)


@pytest.mark.root
def test_many_owners(box, tmp_path):
    tmp_path.chmod(0o755)
    volumes = {}
    for number in range(120):
        directory = tmp_path / str(number)
        directory.mkdir()
        os.chown(directory, 2000 + number % 3, 0)
        volumes[directory] = f"/v/{number}"
    assert box.sh("for d in /v/*; do touch $d/x; done; stat -c %u /v/* | sort -u", volumes=volumes).text == "0\n"
    assert {owners(directory / "x")[0] for directory in volumes} == {2000, 2001, 2002}


@pytest.mark.root
def test_the_process_that_a_map_is_taken_from_is_gone(box, project):
    with box.start("sleep", "100", volumes={project: "/in"}) as container:
        monitor = int(Path(f"/proc/{container.status().pid}/stat").read_text().rpartition(") ")[2].split()[1])
        children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
        assert children == [str(container.status().pid)]


@pytest.mark.root
def test_a_later_process_sees_the_same(box, project):
    with box.start("sleep", "100", volumes={project: "/in"}) as container:
        container.exec(["touch", "/in/made"])
    assert owners(project / "made") == (OWNER, GROUP)


@pytest.mark.root
def test_file_capabilities_are_the_owners_not_the_hosts(box, project):
    """They hold in user namespaces whose root is the owner: on the host itself, for nobody (capabilities(7))."""
    shutil.copy("/bin/true", project / "tool")
    os.chown(project / "tool", OWNER, GROUP)
    box.sh("setcap cap_setuid+ep /in/tool", image="host", volumes={project: "/in"})
    value = os.getxattr(project / "tool", "security.capability")
    revision, root = int.from_bytes(value[:4], "little") >> 24, int.from_bytes(value[20:24], "little")
    assert (revision, root) == (3, OWNER)


# -- memory, and read-only roots --------------------------------------------------------------------------------------


def attributes(box, path: str, **options) -> tuple[str, set[str]]:
    """Return the type and the options of the mount on a path, as the container sees them."""
    lines = [line.split() for line in box.run("cat", "/proc/mounts", **options).text.splitlines()]
    return next((line[2], set(line[3].split(","))) for line in reversed(lines) if line[1] == path)


def test_shared_memory(box):
    kind, flags = attributes(box, "/dev/shm")
    assert kind == "tmpfs"
    assert flags >= {"rw", "nosuid", "nodev", "noexec", "size=65536k"}
    script = (
        "stat -c %a /dev/shm; dd if=/dev/zero of=/dev/shm/f bs=1M count=3 2>/dev/null || echo full; wc -c </dev/shm/f"
    )
    text = box.sh(script, shm_size="2m", user="nobody", read_only=True).text
    assert text.split() == ["1777", "full", str(2 << 20)]


def test_every_container_has_memory_of_its_own(box):
    with box.start("sleep", "100", tmpfs=["/t"]) as one, box.start("sleep", "100", tmpfs=["/t"]) as other:
        one.exec(["touch", "/t/file", "/dev/shm/file"])
        assert other.exec(["sh", "-c", "ls -A /t /dev/shm"]).text == "/dev/shm:\n\n/t:\n"


def test_a_tmpfs_hides_what_the_image_has_and_is_full_at_its_size(box):
    script = "ls -A /etc; dd if=/dev/zero of=/etc/f bs=64k count=32 2>/dev/null; wc -c </etc/f; cat /etc/hostname"
    text = box.sh(script, tmpfs={"/etc": "size=1m"}, hostname="hal", network="none", check=False).text
    *names, size, hostname = text.split()
    assert (names, hostname) == (["hostname", "hosts"], "hal")
    assert 0 < int(size) <= 1 << 20


def test_options_of_a_tmpfs(box):
    owned = "stat -c %u:%g:%a /t; touch /t/x && echo written"
    options = {"/t": "uid=1000,gid=1001,mode=700,size=10%,nr_inodes=20"}
    assert box.sh(owned, tmpfs=options, user="1000:1001").text == "1000:1001:700\nwritten\n"
    script = "cp /bin/busybox /t/echo; /t/echo ran"
    refused = box.sh(script, tmpfs=["/t"], check=False)
    assert (refused.exit_code, refused.stdout) == (126, b"")
    assert box.sh(script, tmpfs=["/t:exec"]).text == "ran\n"
    assert b"Read-only" in box.sh("touch /t/x", tmpfs=["/t:ro"], check=False).stderr
    count = "i=0; while touch /t/$i 2>/dev/null; do i=$((i+1)); done; echo $i"
    assert 0 < int(box.sh(count, tmpfs=options, user="1000").text) < 20


def test_on_a_read_only_root_targets_are_made_and_nothing_else_is_written(box, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("bound\n")
    volumes = {tmp_path / "dir": "/new/a/dir", tmp_path / "file": "/new/b/file", tmp_path: "/etc/ro:ro"}
    script = "cat /new/b/file; echo more >>/new/b/file; touch /new/a/dir/made; echo x >/dev/null"
    script += "; for d in / /new /new/a /new/b /etc /etc/ro /dev/shm /tmp; do touch $d/x 2>/dev/null && echo $d; done"
    result = box.sh(script, volumes=volumes, tmpfs=["/tmp"], read_only=True)
    assert result.text.split() == ["bound", "/dev/shm", "/tmp"]
    assert (tmp_path / "file").read_text() == "bound\nmore\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dir", "file", "made"]
    with box.start("sleep", "100", volumes=volumes, read_only=True) as container:
        assert container.exec(["sh", "-c", "touch /new/a/dir/later; touch /new/x"], check=False).exit_code == 1
    assert (tmp_path / "dir/later").exists()


def test_a_read_only_root_stays_so(box):
    for script in ("mount -o remount,rw /", "mount -t tmpfs none /etc", "umount /dev/shm"):
        assert not box.sh(script, read_only=True, check=False).ok


@pytest.mark.root
def test_a_bind_whose_owner_is_root_goes_through_a_link_to_its_target(box, busybox_root, project, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox_root, tree], check=True)
    (tree / "real").mkdir()
    (tree / "link").symlink_to("real")
    image = pylxc.Image.from_directory(tree, engine=box.engine)
    script = "stat -c %u /real/in; touch /link/in/made"
    assert box.sh(script, image=image, volumes={project: "/link/in"}).text == "0\n"
    assert owners(project / "made") == (OWNER, GROUP)
