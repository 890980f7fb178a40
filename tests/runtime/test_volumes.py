"""Volumes as containers have them: what outlives them, what fills them, and that no image leads that astray."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from boxes import await_true

import pylxc
from pylxc.errors import Conflict, SpawnError, SpecError, VolumeNotFound
from pylxc.runtime import transfer

CAPABILITY = bytes.fromhex("0000000200200000000000000000000000000000")  # cap_net_raw+p, VFS_CAP_REVISION_2


@pytest.fixture(autouse=True)
def no_volume_is_left(box):
    """Remove the volumes that a test made by name; one without a name must be gone by then."""
    yield
    left = pylxc.Volume.list(engine=box.engine)
    for volume in left:
        volume.remove()
    assert [volume for volume in left if volume.anonymous] == []
    assert os.listdir(box.engine.root / "volumes") == []


def volume(box, name: str) -> pylxc.Volume:
    return pylxc.Volume.get(name, engine=box.engine)


@pytest.fixture
def image_of(box, busybox_root, tmp_path):
    """Make an image of busybox and what a function puts into its root."""

    def make(prepare, **config) -> pylxc.Image:
        tree = tmp_path / f"tree{os.urandom(4).hex()}"
        subprocess.run(["cp", "-a", busybox_root, tree], check=True)
        tree.chmod(0o755)
        prepare(tree)
        return pylxc.Image.from_directory(tree, config=pylxc.ImageConfig(**config), engine=box.engine)

    return make


def stocked(tree: Path) -> None:
    """Fill /data with one of each kind; only the machine's root can give files to others."""
    chown = os.chown if os.geteuid() == 0 else lambda *_: None
    data = tree / "data"
    (data / "deep/er").mkdir(parents=True)
    (data / "file").write_text("in it\n")
    chown(data / "file", 70, 71)
    (data / "suid").write_bytes(b"x" * 100_000)
    chown(data / "suid", 1000, 1000)
    (data / "suid").chmod(0o6751)
    os.setxattr(data / "file", "user.colour", b"blue")
    os.setxattr(data / "deep", "user.colour", b"red")
    if os.geteuid() == 0:
        os.setxattr(data / "suid", "security.capability", CAPABILITY)
    (data / "deep/er/link").symlink_to("/etc/shadow")
    os.link(data / "file", data / "deep/same")
    os.mkfifo(data / "fifo", 0o640)
    (data / "deep").chmod(0o1777)
    chown(data / "deep", 5, 6)
    for path in (data / "file", data / "deep/er"):
        os.utime(path, ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    chown(data, 70, 70)
    data.chmod(0o2775)


def described(root: Path) -> dict[str, tuple]:
    """Return all that a tree holds: names, kinds, modes, owners, times of files, links, content, attributes."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = (path.read_bytes(), status.st_nlink, status.st_mtime_ns)
        names = os.listxattr(path, follow_symlinks=False)
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        where = str(path.relative_to(root))
        found[where] = (status.st_mode, status.st_uid, status.st_gid, content, attributes)
    return found


# -- what outlives a container ----------------------------------------------------------------------------------------


def test_a_volume_outlives_its_containers(box):
    box.sh("echo kept >/data/file", volumes={"shelf": "/data"})
    assert box.run("cat", "/elsewhere/file", volumes={"shelf": "/elsewhere:ro"}).text == "kept\n"
    shelf = volume(box, "shelf")
    assert (shelf.path / "file").read_text() == "kept\n"
    assert shelf.path == box.engine.root / "volumes/shelf/data"
    assert not shelf.anonymous
    shelf.remove()
    assert not shelf.path.parent.exists()
    with pytest.raises(VolumeNotFound):
        volume(box, "shelf")


@pytest.mark.parametrize(
    "option",
    [
        {"volumes": {"shelf": "/data:ro"}},
        {"volumes": ["shelf:/data:ro"]},
        {"mounts": ["type=volume,source=shelf,target=/data,readonly"]},
        {"mounts": [{"type": "volume", "source": "shelf", "target": "/data", "read_only": True}]},
        {"mounts": [{"source": "shelf", "target": "/data", "read_only": True}]},
    ],
)
def test_read_only(box, option):
    result = box.sh("touch /data/x", check=False, **option)
    assert b"Read-only file system" in result.stderr
    assert os.listdir(volume(box, "shelf").path) == []


@pytest.mark.root
@pytest.mark.parametrize("options", [{}, {"userns": "host"}])
def test_files_have_the_ids_that_containers_see(box, options):
    box.sh("echo x >/d/file; chown 1000:1001 /d/file; mkdir /d/roots", volumes={"shelf": "/d"}, **options)
    path = volume(box, "shelf").path
    assert [((path / name).stat().st_uid, (path / name).stat().st_gid) for name in ("file", "roots")] == [
        (1000, 1001),
        (0, 0),
    ]
    for other in ({}, {"userns": "host"}, {"privileged": True}):
        text = box.sh("stat -c %u:%g /d/file /d/roots", volumes={"shelf": "/d"}, **other).text
        assert text == "1000:1001\n0:0\n"


def test_nobody_else_on_the_host_can_go_there(box):
    pylxc.Volume.create("shelf", engine=box.engine)
    assert (box.engine.root / "volumes").stat().st_mode & 0o77 == 0
    before = os.umask(0o077)
    try:
        made = pylxc.Volume.create("other", engine=box.engine)
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o755  # inside, whoever the container runs as may look


def test_volumes_binds_and_memory_together_on_a_read_only_root(box, tmp_path):
    (tmp_path / "file").write_text("bound\n")
    options = {
        "volumes": {"shelf": "/new/m", tmp_path: "/new/m/bind", "other": "/new/m/bind/deep/er"},
        "tmpfs": ["/new/m/memory"],
        "read_only": True,
    }
    (tmp_path / "deep/er").mkdir(parents=True)
    script = "cat /new/m/bind/file; for d in / /new /new/m /new/m/bind /new/m/memory /new/m/bind/deep/er; do"
    script += " touch $d/x 2>/dev/null && echo $d; done"
    assert box.sh(script, **options).text.split() == [
        "bound",
        *("/new/m", "/new/m/bind", "/new/m/memory", "/new/m/bind/deep/er"),
    ]
    assert (volume(box, "other").path / "x").exists()
    assert (tmp_path / "x").exists()
    assert not (tmp_path / "deep/er/x").exists()


@pytest.mark.root
def test_a_device_node_in_a_volume_opens_nothing(box):
    script = "mknod /d/null c 1 3; echo x >/d/null"
    result = box.sh(script, volumes={"shelf": "/d"}, userns="host", check=False)
    assert b"Permission denied" in result.stderr
    assert box.sh("echo x >/d/null", volumes={"shelf": "/d"}, check=False).exit_code == 1


# -- what fills it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"read_only": True}, {"user": "nobody"}])
def test_an_empty_volume_gets_what_the_image_has(box, image_of, tmp_path, options):
    image = image_of(stocked)
    seen = box.sh("cat /data/file", image=image, volumes={"shelf": "/data"}, **options).text
    assert seen == "in it\n"
    [tree] = tmp_path.glob("tree*")
    wanted = described(tree / "data")
    assert set(wanted) == {".", "file", "suid", "deep", "deep/er", "deep/er/link", "deep/same", "fifo"}
    assert described(volume(box, "shelf").path) == wanted


def test_filled_also_when_it_is_read_only_or_was_made_before(box, image_of):
    image = image_of(stocked)
    pylxc.Volume.create("shelf", engine=box.engine)
    assert box.sh("cat /data/file", image=image, volumes={"shelf": "/data:ro"}).text == "in it\n"


def test_what_layers_make_together_fills_it(box, image_of, tmp_path):
    base = image_of(stocked)
    base.tag("stocked:1")
    (tmp_path / "Dockerfile").write_text(
        "FROM stocked:1\nRUN rm /data/suid && rm -r /data/deep && mkdir /data/deep && echo new >/data/deep/new\n"
    )
    image = pylxc.Image.build(tmp_path, engine=box.engine)
    text = box.sh("cd /data && find . | sort", image=image, volumes={"shelf": "/data"}).text
    assert text.split() == [".", "./deep", "./deep/new", "./fifo", "./file"]
    assert sorted(os.listdir(volume(box, "shelf").path)) == ["deep", "fifo", "file"]
    for path in volume(box, "shelf").path.rglob("*"):
        assert [name for name in os.listxattr(path, follow_symlinks=False) if "overlay" in name] == []
    image.remove()
    base.remove()


def test_a_volume_with_content_is_left_alone(box, image_of):
    box.sh("echo mine >/data/mine", volumes={"shelf": "/data"})
    assert box.run("ls", "/data", image=image_of(stocked), volumes={"shelf": "/data"}).text == "mine\n"


@pytest.mark.parametrize(
    "option",
    [
        {"volumes": {"shelf": "/data:nocopy"}},
        {"mounts": ["type=volume,source=shelf,target=/data,volume-nocopy"]},
        {"mounts": [{"type": "volume", "source": "shelf", "target": "/data", "nocopy": True}]},
    ],
)
def test_nocopy(box, image_of, option):
    assert box.run("ls", "/data", image=image_of(stocked), **option).text == ""


def test_a_container_fills_a_volume_at_its_first_start_only(box, image_of):
    script = "ls /data | wc -l; rm -rf /data/*"
    with box.create("sh", "-c", script, image=image_of(stocked), volumes={"shelf": "/data"}) as container:
        for _ in range(2):
            container.start()
            container.wait()
        assert [line.data for line in container.logs()] == [b"4\n", b"0\n"]
    assert os.listdir(volume(box, "shelf").path) == []


def test_where_the_image_has_no_directory(box, image_of):
    def prepare(tree: Path) -> None:
        (tree / "a-file").write_text("x")

    image = image_of(prepare)
    assert box.run("ls", "/none/such", image=image, volumes={"shelf": "/none/such"}).text == ""
    with pytest.raises(SpawnError) as caught:
        box.run("true", image=image, volumes={"shelf": "/a-file"})
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.ENOTDIR)


def test_from_the_machines_own_system(box):
    place = next(
        path
        for path in sorted(Path("/usr/share").iterdir())
        if path.is_dir() and not path.is_symlink() and 0 < len(os.listdir(path)) < 20
    )
    listing = box.sh(f"cd {place} && find . | sort", image="host", volumes={"shelf": str(place)}).text
    assert (
        listing
        == subprocess.run(["sh", "-c", "find . | sort"], cwd=place, check=True, capture_output=True, text=True).stdout
    )
    assert sorted(os.listdir(volume(box, "shelf").path)) == sorted(os.listdir(place))


def test_many_starts_at_once_fill_it_once(box, image_of, monkeypatch):
    image = image_of(stocked)
    fillings, seen = [], []
    unpack = transfer.unpack
    monkeypatch.setattr(transfer, "unpack", lambda *args, **kw: (fillings.append(kw["subject"]), unpack(*args, **kw)))

    def start() -> None:
        seen.append(box.sh("cat /data/deep/same", image=image, volumes={"shelf": "/data"}).text)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["in it\n"] * 6
    assert len(fillings) == 1
    assert "shelf" in fillings[0]


PROGRAM = """
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(pylxc.run(sys.argv[2], ["sh", "-c", "ls /data | wc -l"], volumes={"shelf": "/data"}, engine=engine).text)
"""


def open_anew(box) -> None:
    """Open the store in another process, which removes what is left of containers whose owner was killed."""
    words = "import sys, pylxc; pylxc.Engine(sys.argv[1]).store"
    subprocess.run([sys.executable, "-c", words, box.engine.root], check=True)


def program(box, image: pylxc.Image) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(box.engine.root), image.id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(pylxc.__file__).parent.parent)},
    )
    assert process.stdout.readline() == "ready\n"
    return process


def crowded(tree: Path) -> None:
    (tree / "data").mkdir()
    for number in range(600):
        (tree / f"data/{number}").write_text("x" * (number % 50))
    (tree / "data/zz-last").write_bytes(b"y" * (4 << 20))


def test_processes_that_start_at_once_find_it_whole(box, image_of):
    image = image_of(crowded)
    processes = [program(box, image) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in processes] == ["601"] * 3


@pytest.mark.parametrize("entries", [0, 1, 300, 601])
def test_killed_while_it_is_filled(box, image_of, tmp_path, entries):
    """With ``kill -9``, and the next start comes at once: what the dying helper still writes is not in its way."""
    image = image_of(crowded)
    place = box.engine.root / "volumes/shelf"
    process = program(box, image)
    process.stdin.write("go\n")
    process.stdin.flush()
    await_true((place / "filling").exists, "the mark", timeout=30)
    await_true(lambda: len(os.listdir(place / "data")) >= entries, "the copy", timeout=30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    half = len(os.listdir(place / "data"))
    assert box.sh("ls /data | wc -l", image=image, volumes={"shelf": "/data"}).text == "601\n"
    [tree] = tmp_path.glob("tree*")
    assert described(place / "data") == described(tree / "data"), half
    assert os.listdir(place) == ["data"]
    open_anew(box)


def test_a_copy_that_failed_begins_anew(box, image_of, monkeypatch, tmp_path):
    image = image_of(stocked)

    def fail(source, target) -> None:
        target.write(source.read(2048))
        raise OSError(errno.EIO, "as if")

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "copy", fail)
        with pytest.raises((pylxc.StoreError, SpawnError)):
            box.run("true", image=image, volumes={"shelf": "/data"})
    assert sorted(os.listdir(volume(box, "shelf").path.parent)) == ["data", "filling"]
    assert box.run("cat", "/data/file", image=image, volumes={"shelf": "/data"}).text == "in it\n"
    [tree] = tmp_path.glob("tree*")
    assert described(volume(box, "shelf").path) == described(tree / "data")


# -- without a name ---------------------------------------------------------------------------------------------------


def anonymous(box) -> list[pylxc.Volume]:
    return [one for one in pylxc.Volume.list(engine=box.engine) if one.anonymous]


@pytest.mark.parametrize("asked", ["image", "option", "mount"])
def test_a_volume_without_a_name_goes_with_its_container(box, image_of, asked):
    image = image_of(stocked, volumes=("/data", "data/") if asked == "image" else ())
    options = {"image": {}, "option": {"volumes": ["/data"]}, "mount": {"mounts": ["type=volume,target=/data"]}}[asked]
    with box.start(
        "sh", "-c", "[ -e /data/new ] || echo new >/data/new; sleep 100", image=image, **options
    ) as container:
        [one] = anonymous(box)
        container.wait_ready(command=["grep", "new", "/data/new"], timeout=10)
        assert (one.path / "file").read_text() == "in it\n"
        assert list(one.containers()) == [container.id]
        with pytest.raises(Conflict, match=container.id[:12]):
            one.remove()
        container.kill()
        container.wait()
        container.start()
        assert container.exec(["cat", "/data/new"]).text == "new\n"
        assert os.listdir(container._engine.root / "containers" / container.id / "upper") in ([], ["data"])
        assert not (container._engine.root / "containers" / container.id / "upper/data/new").exists()
    assert anonymous(box) == []
    assert not one.path.parent.exists()


def test_it_goes_however_the_container_goes(box, image_of):
    image = image_of(stocked, volumes=("/data",))
    box.run("true", image=image)
    assert anonymous(box) == []
    with pytest.raises(SpawnError):
        box.run("no-such-program", image=image)
    assert anonymous(box) == []
    detached = box.start("true", image=image, detach=True, remove=True)
    detached.wait()
    await_true(lambda: detached.id not in [c.id for c in pylxc.Container.list(all=True, engine=box.engine)], "its end")
    assert anonymous(box) == []
    script = f"""
        import os, sys, pylxc
        engine = pylxc.Engine(sys.argv[1])
        pylxc.start({image.id!r}, ["sleep", "1000"], engine=engine)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), box.engine.root], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(anonymous(box)) == 1
    open_anew(box)
    assert anonymous(box) == []
    box.run("true")  # which reaps the monitor of the detached one


def test_it_stays_while_another_container_has_it(box):
    first = box.create("true", volumes=["/data"])
    [one] = anonymous(box)
    second = box.create("true", volumes={one.name: "/data"})
    first.remove()
    assert list(one.containers()) == [second.id]
    second.remove()
    assert anonymous(box) == []


def test_a_mount_of_ones_own_takes_the_place_of_the_images(box, image_of, tmp_path):
    image = image_of(stocked, volumes=("/data", "/tmp/other"))
    for option in ({"volumes": {tmp_path: "/data"}}, {"tmpfs": ["/data"]}, {"volumes": {"shelf": "/data:nocopy"}}):
        with box.create("true", image=image, **option) as container:
            assert len(anonymous(box)) == 1
            mounts = {one["Destination"]: one for one in container.inspect()["Mounts"]}
            assert set(mounts) == {"/data", "/tmp/other"}
            assert mounts["/tmp/other"]["Name"] == anonymous(box)[0].name


def test_two_containers_have_volumes_of_their_own(box, image_of):
    image = image_of(stocked, volumes=("/data",))
    with box.start("sleep", "100", image=image) as one, box.start("sleep", "100", image=image) as other:
        one.exec(["touch", "/data/ones"])
        assert other.exec(["ls", "/data"]).text == "deep\nfifo\nfile\nsuid\n"


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/sys", "proc/x", "/a/..", "a/../proc", "//", "/a\0b", ""])
def test_what_an_image_cannot_ask_for(box, image_of, path):
    image = image_of(lambda _tree: None, volumes=(path,))
    with pytest.raises(SpecError, match="the image asks"):
        box.run("true", image=image)
    assert anonymous(box) == []


@pytest.mark.parametrize("path", ["data", "/data/", "//data", "/x/../data", "../../data", "data/."])
def test_what_an_image_says_is_seen_from_the_root(box, image_of, path):
    image = image_of(stocked, volumes=(path,))
    with box.create("true", image=image) as container:
        assert [one["Destination"] for one in container.inspect()["Mounts"]] == ["/data"]


# -- images that mean harm --------------------------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path):
    """A directory of the host that must be as it was."""
    place = tmp_path / "canary"
    place.mkdir()
    (place / "secret").write_text("host")
    before = described(place)
    yield place
    assert described(place) == before


LINKS = [
    "{}",
    "/../../../../../..{}",
    "../../../../../../../..{}",
    "/proc/self/root{}",
    "/proc/1/root{}",
    "/proc/self/cwd/../../..{}",
    "/proc/self/fd/3/../../..{}",
    "/dev/fd/3",
]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("how", ["image", "named"])
def test_a_target_that_is_a_link_to_the_host(box, image_of, canary, link, how):
    image = image_of(
        lambda tree: (tree / "data").symlink_to(link.format(canary)), volumes=("/data",) if how == "image" else ()
    )
    options = {"volumes": {"shelf": "/data"}} if how == "named" else {}
    script = "touch /data/attack; cat /data/secret; ls -A /data"
    try:
        result = box.sh(script, image=image, check=False, **options)
    except SpawnError as error:
        assert error.stage == "mount"  # noqa: PT017  a link into /proc, where nothing is mounted
    else:
        assert b"host" not in result.stdout
    if how == "named":
        assert not (volume(box, "shelf").path / "secret").exists()


@pytest.mark.parametrize("link", LINKS)
def test_a_link_on_the_way_to_a_target(box, image_of, canary, link):
    def prepare(tree: Path) -> None:
        (tree / "way").symlink_to(link.format(canary.parent))

    result = None
    try:
        result = box.sh("ls -A /way/canary", image=image_of(prepare), volumes={"shelf": "/way/canary"}, check=False)
    except SpawnError as error:
        assert error.stage in ("mount", "pack")  # noqa: PT017
    assert result is None or b"secret" not in result.stdout
    assert not (volume(box, "shelf").path / "secret").exists()


def test_links_in_what_is_copied_are_copied_as_links(box, image_of, canary):
    def prepare(tree: Path) -> None:
        (tree / "data").mkdir()
        (tree / "data/out").symlink_to(canary)
        (tree / "data/file").symlink_to(canary / "secret")
        (tree / "data/up").symlink_to("../../../../../../..")

    box.sh(
        "echo x >/data/file; touch /data/out/attack", image=image_of(prepare), volumes={"shelf": "/data"}, check=False
    )
    path = volume(box, "shelf").path
    assert os.readlink(path / "out") == str(canary)
    # What a container leaves in a volume does not lead a later copy, a removal or a mount astray either.
    box.sh("rm -f /data/out; ln -s /canary /data/deep; true", volumes={"shelf": "/data"})
    shutil.copy(canary / "secret", canary.parent / "kept")
    volume(box, "shelf").remove()
    assert not path.exists()
