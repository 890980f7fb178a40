"""Container.copy_in, copy_out and open: docker cp's rules, in containers that run and that do not."""

from __future__ import annotations

import io
import os
import random
import resource
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

import pylxc
from pylxc.errors import StoreError
from pylxc.runtime import native, transfer
from pylxc.runtime import plan as p
from tests.boxes import await_true

CAP_NET_RAW_V2 = bytes.fromhex("0000000200200000000000000000000000000000")
SUID, NODE = 0o4755, 0o020666


@pytest.fixture(params=["running", "created", "exited"])
def container(request, box):
    """A container in one of the states in which its files can be had."""
    made = box.create("sh", "-c", "exec sleep 1000" if request.param == "running" else "true")
    try:
        if request.param != "created":
            made.start()
        if request.param == "exited":
            made.wait()
        assert made.status() == request.param
        yield made
    finally:
        made.remove(force=True)


@pytest.fixture
def running(box):
    with box.start("sleep", "1000") as made:
        yield made


def listing(container, path: str) -> dict[str, tarfile.TarInfo]:
    """Return what is at a path of the container, seen through a stream."""
    stream = io.BytesIO()
    container.copy_out(path, stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        return {entry.name: entry for entry in tar}


def content(container, path: str) -> str:
    """Return what is in a file of the container."""
    with container.open(path) as file:
        return file.read()


def names_below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def make_tree(place: Path) -> Path:
    """A directory with one of everything that a copy may hold."""
    tree = place / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "file").write_bytes(b"content")
    (tree / "empty").touch()
    (tree / "sub/program").write_bytes(b"#!")
    (tree / "sub/program").chmod(SUID)
    (tree / "sub/deep").chmod(0o2750)
    os.link(tree / "file", tree / "sub/same")
    (tree / "absolute").symlink_to("/etc/passwd")
    (tree / "dangling").symlink_to("../../nowhere")
    os.mkfifo(tree / "fifo", 0o640)
    (tree / "name with\nnewline \udcff").touch()
    os.setxattr(tree / "file", "user.kept", b"yes")
    for path in (*tree.rglob("*"), tree):
        if os.geteuid() == 0:
            os.chown(path, 1234, 5678, follow_symlinks=False)
        os.utime(path, ns=(1_000_000_007, 1_000_000_007), follow_symlinks=False)
    (tree / "sub/program").chmod(SUID)  # a change of owner took it
    return tree


NAMES = [
    *("absolute", "dangling", "empty", "fifo", "file", "name with\nnewline \udcff"),
    *("sub", "sub/deep", "sub/program", "sub/same"),
]


def test_there_and_back(container, tmp_path):
    tree = make_tree(tmp_path)
    container.copy_in(tree, "/tmp")
    inside = listing(container, "/tmp/tree")
    assert sorted(name.removeprefix("tree/") for name in inside) == sorted([*NAMES, "tree"])
    assert {(entry.uid, entry.gid) for entry in inside.values()} == {(0, 0)}
    assert {int(entry.mtime) for entry in inside.values()} == {1}
    assert inside["tree/sub/program"].mode == 0o755
    assert (inside["tree/sub/deep"].mode, inside["tree/fifo"].mode) == (0o750, 0o640)
    assert inside["tree/sub/same"].linkname == "tree/file"
    assert (inside["tree/absolute"].linkname, inside["tree/dangling"].linkname) == ("/etc/passwd", "../../nowhere")

    container.copy_out("/tmp/tree", tmp_path / "back")
    back = tmp_path / "back"
    assert names_below(back) == NAMES
    assert (back / "file").read_bytes() == b"content"
    assert (back / "file").stat().st_ino == (back / "sub/same").stat().st_ino
    assert os.getxattr(back / "file", "user.kept") == b"yes"
    assert (back / "absolute").readlink() == Path("/etc/passwd")
    assert stat.S_ISFIFO((back / "fifo").stat().st_mode)
    assert {path.lstat().st_uid for path in back.rglob("*")} == {os.getuid()}
    assert {path.lstat().st_mtime_ns for path in (back, *back.rglob("*"))} == {1_000_000_007}


@pytest.mark.root
def test_archive_keeps_owners_and_rights_on_the_way_in(container, tmp_path):
    tree = make_tree(tmp_path)
    os.setxattr(tree / "empty", "security.capability", CAP_NET_RAW_V2)
    container.copy_in(tree, "/tmp/kept", archive=True)
    inside = listing(container, "/tmp/kept")
    assert {(entry.uid, entry.gid) for entry in inside.values()} == {(1234, 5678)}
    assert inside["kept/sub/program"].mode == SUID
    assert inside["kept/sub/deep"].mode == 0o2750
    assert "SCHILY.xattr.security.capability" in inside["kept/empty"].pax_headers


@pytest.mark.root
def test_no_right_comes_out(running, tmp_path):
    script = """
    mkdir /tmp/d; chmod 2777 /tmp/d; cp /bin/busybox /tmp/d/evil; chmod 6777 /tmp/d/evil
    """
    running.exec(["sh", "-c", script])
    running.copy_in(_capable(tmp_path), "/tmp/d/capable", archive=True)
    for archive in (False, True):
        out = tmp_path / f"out{archive}"
        running.copy_out("/tmp/d", out, archive=archive)
        assert names_below(out) == ["capable", "evil"]
        assert [oct(path.stat().st_mode & 0o7777) for path in (out, out / "evil")] == ["0o777", "0o777"]
        assert os.listxattr(out / "capable") == []


def _capable(place: Path) -> Path:
    made = place / "capable"
    made.touch()
    os.setxattr(made, "security.capability", CAP_NET_RAW_V2)
    return made


@pytest.mark.root
def test_devices_stay_where_they_are(box, tmp_path):
    with box.start("sleep", "100", userns="host") as container:
        container.exec(["sh", "-c", "mkdir /d; mknod /d/disk b 8 0; mknod /d/null c 1 3; echo x >/d/file"])
        for archive in (False, True):
            container.copy_out("/d", tmp_path / f"out{archive}", archive=archive)
            assert names_below(tmp_path / f"out{archive}") == ["file"]
        container.copy_out("/d/disk", tmp_path / "disk")
        assert not (tmp_path / "disk").exists()
        assert listing(container, "/d")["d/disk"].isblk()  # a stream tells all; who unpacks it decides


@pytest.mark.root
def test_archive_keeps_numbers_on_the_way_out(container, tmp_path):
    container.copy_in(make_tree(tmp_path), "/tmp/kept", archive=True)
    container.copy_out("/tmp/kept", tmp_path / "out", archive=True)
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path / "out").rglob("*")} == {(1234, 5678)}
    assert (tmp_path / "out/sub/program").stat().st_mode & 0o7777 == 0o755


# -- docker cp's rules ------------------------------------------------------------------------------------------------


def test_where_a_file_goes(container, tmp_path):
    (tmp_path / "f").write_text("one")
    container.copy_in(tmp_path / "f", "/tmp/new")  # a new name
    container.copy_in(tmp_path / "f", "/tmp")  # into a directory
    container.copy_in(tmp_path / "f", "/etc/passwd")  # over a file
    assert [content(container, f"/{name}") for name in ("tmp/new", "tmp/f", "etc/passwd")] == ["one"] * 3
    out = tmp_path / "out"
    out.mkdir()
    container.copy_out("/tmp/new", out)
    container.copy_out("/tmp/new", f"{out}/")
    container.copy_out("/tmp/new", out / "other")
    container.copy_in(io_tar(later=b"two"), "/tmp")
    container.copy_out("/tmp/later", out / "other")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"new": "one", "other": "two"}


def io_tar(**files: bytes) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o640, 11, 22
            tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_where_a_directory_goes(container, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("one")
    for source, target, lies in (
        ("d", "/tmp/made", "/tmp/made/f"),  # a new name
        ("d", "/tmp/slash/", "/tmp/slash/f"),
        ("d", "/tmp", "/tmp/d/f"),  # into a directory
        ("d/", "/etc", "/etc/d/f"),
        ("d/.", "/bin", "/bin/f"),  # what is in it
        ("d/.", "/tmp/contents", "/tmp/contents/f"),
    ):
        container.copy_in(f"{tmp_path}/{source}", target)
        assert content(container, lies) == "one", source
    for source, target, lies in (
        ("/tmp/d", "o1", "o1/f"),
        ("/tmp/d", "o1", "o1/d/f"),
        ("/tmp/d/.", "o2", "o2/f"),
        ("/tmp/d/", "o2/", "o2/d/f"),
    ):
        container.copy_out(source, f"{tmp_path}/{target}")
        assert (tmp_path / lies).read_text() == "one", (source, target)


def test_a_directory_that_exists_keeps_its_mode_and_what_is_in_it(running, tmp_path):
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d").chmod(0o700)
    (tmp_path / "d/f").touch()
    running.exec(["sh", "-c", "mkdir -m 711 /tmp/d /tmp/d/sub; echo old >/tmp/d/old; echo old >/tmp/d/f"])
    running.copy_in(tmp_path / "d", "/tmp")
    running.copy_in(f"{tmp_path}/d/.", "/tmp")
    found = running.exec(["sh", "-c", "stat -c '%a' /tmp /tmp/d /tmp/d/sub; cat /tmp/d/old /tmp/d/f"]).text
    assert found == "1777\n711\n711\nold\n"


def test_links_as_source_and_destination(container, tmp_path):
    here = tmp_path / "here"
    (here / "d").mkdir(parents=True)
    (here / "d/f").write_text("far")
    (here / "to_f").symlink_to("d/f")
    (here / "to_d").symlink_to("d")
    container.copy_in(here, "/tmp/here")
    container.copy_in(here / "to_f", "/tmp")
    container.copy_in(here / "to_f", "/tmp/followed", follow=True)
    container.copy_in(f"{here}/to_d/", "/tmp/through")
    inside = listing(container, "/tmp")
    assert inside["tmp/to_f"].linkname == "d/f"
    assert inside["tmp/followed"].isreg()
    assert inside["tmp/through/f"].isreg()
    out = tmp_path / "out"
    out.mkdir()
    container.copy_out("/tmp/here/to_f", out)
    container.copy_out("/tmp/here/to_d", out / "link")
    container.copy_out("/tmp/here/to_f", out / "file", follow=True)
    container.copy_out("/tmp/here/to_d", out / "directory", follow=True)
    assert (out / "to_f").readlink() == Path("d/f")
    assert (out / "link").readlink() == Path("d")
    assert ((out / "file").read_text(), (out / "directory/f").read_text()) == ("far", "far")
    # A link that leads to a directory is one, as a destination; here any other is replaced, in the container followed.
    (out / "to_directory").symlink_to(out / "directory")
    (out / "to_nothing").symlink_to("new")
    container.copy_out("/tmp/here/d/f", out / "to_directory")
    container.copy_out("/tmp/here/d/f", out / "to_nothing")
    assert (out / "directory/f").read_text() == (out / "to_nothing").read_text() == "far"
    assert not (out / "new").exists()
    container.copy_in(here / "d/f", "/tmp/here/to_d/g")
    container.copy_in(here / "d/f", "/tmp/here/to_f")
    assert listing(container, "/tmp/here/d/.").keys() == {".", "f", "g"}
    assert listing(container, "/tmp/here/to_f")["to_f"].linkname == "d/f"


def test_a_link_that_is_in_the_way_is_replaced_and_not_followed(container, tmp_path):
    container.copy_in(make_tree(tmp_path), "/tmp/tree")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("canary")
    out.mkdir()
    (out / "sub").symlink_to(elsewhere)
    (out / "file").symlink_to(elsewhere / "file")
    container.copy_out("/tmp/tree/.", out)
    assert names_below(out) == NAMES
    assert not (out / "sub").is_symlink()
    assert names_below(elsewhere) == ["file"]
    assert (elsewhere / "file").read_text() == "canary"


def test_streams(container, tmp_path):
    container.copy_in(io_tar(a=b"alpha", b=b"beta"), "/tmp")
    assert content(container, "/tmp/a") == "alpha"
    inside = listing(container, "/tmp/.")
    assert set(inside) == {".", "a", "b"}
    assert (inside["a"].uid, inside["a"].gid, inside["a"].mode) == (11, 22, 0o640)  # as the archive says
    assert set(listing(container, "/tmp")) == {"tmp", "tmp/a", "tmp/b"}
    assert set(listing(container, "/tmp/a")) == {"a"}
    with (tmp_path / "tar").open("wb") as file:
        container.copy_out("/tmp", file)
    assert subprocess.check_output(["tar", "tf", tmp_path / "tar"], text=True).split() == ["tmp/", "tmp/a", "tmp/b"]


def test_the_whole_container(container, tmp_path):
    container.copy_out("/", tmp_path / "all")
    assert (tmp_path / "all/bin/busybox").read_bytes() == Path("/bin/busybox").read_bytes()
    for name in ("proc", "sys"):
        assert not (tmp_path / "all" / name).exists() or names_below(tmp_path / "all" / name) == []


# -- contents ---------------------------------------------------------------------------------------------------------


def test_much_in_little_memory(running, tmp_path):
    """100 MB there and back, by processes whose memory is bounded; this one's does not grow."""
    piece = random.Random(1).randbytes(1 << 20)
    with (tmp_path / "big").open("wb") as file:
        for _ in range(100):
            file.write(piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    running.copy_in(tmp_path / "big", "/tmp/big")
    running.copy_out("/tmp/big", tmp_path / "back")
    with (tmp_path / "tar").open("wb") as file:
        running.copy_out("/tmp/big", file)
    with (tmp_path / "tar").open("rb") as file:
        running.copy_in(file, "/etc")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
    assert running.exec(["cmp", "/tmp/big", "/etc/big"]).ok
    assert subprocess.run(["cmp", tmp_path / "big", tmp_path / "back"], check=False).returncode == 0


def test_a_file_with_holes(container, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"island")
    container.copy_in(tmp_path / "sparse", "/tmp/sparse")
    container.copy_out("/tmp/sparse", tmp_path / "back")
    assert subprocess.run(["cmp", tmp_path / "sparse", tmp_path / "back"], check=False).returncode == 0


def test_a_log_that_grows_meanwhile(running, tmp_path):
    running.exec(["sh", "-c", "mkdir /tmp/log; echo begin >/tmp/log/grows"])
    script = "while :; do echo line >>/tmp/log/grows; touch /tmp/log/x$i; rm -f /tmp/log/x$i; i=$((i+1)); done"
    writer = running.popen(["sh", "-c", script])
    try:
        for number in range(100):
            running.copy_out("/tmp/log", tmp_path / str(number))
            assert (tmp_path / str(number) / "grows").read_bytes().startswith(b"begin\n")
    finally:
        writer.kill()
        writer.communicate()


# -- what lies where --------------------------------------------------------------------------------------------------


def test_mounts_are_seen_as_the_container_sees_them(box, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "given").write_text("host")
    (tmp_path / "f").write_text("new")
    with box.start("sleep", "100", volumes={source: "/v", tmp_path / "f": "/one"}, tmpfs=["/t"]) as container:
        container.copy_in(tmp_path / "f", "/v/new")
        container.copy_in(tmp_path / "f", "/t/new")
        assert (source / "new").read_text() == "new"
        assert (source / "new").stat().st_uid == os.getuid()
        container.copy_out("/v", tmp_path / "v")
        container.copy_out("/t/new", tmp_path / "t")
        container.copy_out("/one", tmp_path / "one")
        assert names_below(tmp_path / "v") == ["given", "new"]
        assert ((tmp_path / "t").read_text(), (tmp_path / "one").read_text()) == ("new", "new")
        assert content(container, "/v/given") == "host"


def test_binds_of_a_container_that_does_not_run(box, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "f").write_text("new")
    container = box.create("cat", "/v/new", volumes={source: "/v", "/etc": "/read:ro"})
    try:
        container.copy_in(tmp_path / "f", "/v/new")
        assert (source / "new").read_text() == "new"
        with pytest.raises(OSError, match="Read-only file system"):
            container.copy_in(tmp_path / "f", "/read/new")
        container.start()
        assert container.wait() == 0
    finally:
        container.remove(force=True)


def test_what_was_copied_is_there_when_it_starts(box, tmp_path):
    (tmp_path / "f").write_text("before\n")
    container = box.create("sh", "-c", "cat /tmp/f /opened; id -u >/tmp/ran")
    try:
        container.copy_in(tmp_path / "f", "/tmp")
        with container.open("/opened", "w") as file:
            file.write("opened\n")
        container.start()
        assert container.wait() == 0
        assert [line.data for line in container.logs()] == [b"before\n", b"opened\n"]
        container.copy_out("/tmp/ran", tmp_path / "ran")
        assert (tmp_path / "ran").read_text() == "0\n"
        assert [change.name for change in listing(container, "/tmp/.").values()] == [".", "f", "ran"]
        container.start()  # and once more: its upper side can still be mounted
        assert container.wait() == 0
    finally:
        container.remove(force=True)


def test_the_hosts_own_image(box, tmp_path):
    (tmp_path / "f").write_text("new")
    container = box.create("cat", "/opt/new", image="host")
    try:
        container.copy_in(tmp_path / "f", "/opt/new")
        with container.open("/usr/bin/env", "rb") as file:
            assert file.read(4) == b"\x7fELF"
        container.start()
        assert container.wait() == 0
        assert not Path("/opt/new").exists()
    finally:
        container.remove(force=True)


@pytest.mark.parametrize("runs", [True, False])
def test_a_read_only_container(box, tmp_path, runs):
    (tmp_path / "f").touch()
    container = box.create("sleep", "100", read_only=True)
    try:
        if runs:
            container.start()
        for attempt in (
            lambda: container.copy_in(tmp_path / "f", "/etc/f"),
            lambda: container.copy_in(tmp_path, "/etc"),
            lambda: container.open("/etc/passwd", "a"),
            lambda: container.open("/etc/f", "x"),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                attempt()
        assert content(container, "/etc/passwd").startswith("root:")
        container.copy_out("/etc", tmp_path / "etc")
    finally:
        container.remove(force=True)


@pytest.mark.root
def test_a_paused_container(running, tmp_path):
    running.pause()
    (tmp_path / "f").write_text("new")
    running.copy_in(tmp_path / "f", "/tmp")
    assert content(running, "/tmp/f") == "new"
    running.unpause()


@pytest.mark.parametrize("options", [{"userns": "host"}, {"privileged": True}, {"user": "nobody"}, {"init": True}])
def test_options_change_nothing(box, tmp_path, options):
    (tmp_path / "f").write_text("new")
    with box.start("sleep", "100", **options) as container:
        container.copy_in(tmp_path / "f", "/tmp/f")
        container.copy_out("/tmp/f", tmp_path / "back")
        assert (tmp_path / "back").read_text() == content(container, "/tmp/f") == "new"
        assert container.exec(["stat", "-c", "%u:%g %a", "/tmp/f"]).text == "0:0 644\n"


# -- open -------------------------------------------------------------------------------------------------------------


def test_open_as_the_builtin_does(container):
    with container.open("/tmp/f", "x") as file:
        assert isinstance(file, io.TextIOWrapper)
        file.write("grün\r\n")
    with container.open("/tmp/f", "a", encoding="latin-1", newline="\n") as file:
        file.write("grün\n")
    with container.open("/tmp/f", "rb") as file:
        assert file.read() == "grün\r\n".encode() + "grün\n".encode("latin-1")
        assert (file.name, file.writable()) == ("/tmp/f", False)
        with pytest.raises(OSError, match=r"not writable|write"):
            file.write(b"no")
    with container.open("/tmp/f", "r+b") as file:
        file.seek(1)
        file.write(b"R")
        file.seek(0)
        assert file.read(2) == b"gR"
    with container.open("/tmp/f", "w+", encoding="utf-8", errors="replace") as file:
        assert file.read() == ""
    entry = listing(container, "/tmp/f")["f"]
    assert (entry.uid, entry.gid, entry.mode, entry.size) == (0, 0, 0o644, 0)
    with container.open(
        "tmp/../tmp/f",
        "r+b",
    ) as file:  # relative to the root
        assert os.get_inheritable(file.fileno()) is False
        assert os.get_blocking(file.fileno()) is True


def test_open_through_links_of_the_container(container, tmp_path):
    (tmp_path / "to_new").symlink_to("/etc/../../../tmp/new")
    (tmp_path / "loop").symlink_to("loop")
    container.copy_in(f"{tmp_path}/.", "/tmp")
    container.open("/tmp/to_new", "w").close()
    assert "new" in listing(container, "/tmp/.")
    with pytest.raises(OSError, match="symbolic links"):
        container.open("/tmp/loop")


def test_open_appends_to_what_others_append(running):
    with running.open(
        "/tmp/log",
        "ab",
    ) as file:
        file.write(b"one\n")
        file.flush()
        running.exec(["sh", "-c", "echo two >>/tmp/log"])
        file.write(b"three\n")
    assert content(running, "/tmp/log") == "one\ntwo\nthree\n"


def test_an_open_file_outlives_the_container(box):
    with box.start("sleep", "100") as container:
        file = container.open("/etc/passwd")
    with file:
        assert file.read().startswith("root:")


def test_the_kernels_files_are_not_opened(box):
    """Who reads and writes one does it in his own namespaces: it would be the caller's host name that changes."""
    name = Path("/proc/sys/kernel/hostname").read_text()
    with box.start("sleep", "100", privileged=True) as container:
        container.exec(["ln", "-s", "/proc/sys/kernel/hostname", "/link"])
        for path in ("/proc/sys/kernel/hostname", "/link", "/proc/1/mem", "/sys/kernel/uevent_seqnum"):
            for mode in ("r", "r+", "w"):
                with pytest.raises(OSError, match="Not a regular file"):
                    container.open(path, mode)
        with pytest.raises(OSError, match="hostname"):
            container.copy_in(io_tar(hostname=b"evil"), "/proc/sys/kernel")
    assert Path("/proc/sys/kernel/hostname").read_text() == name


@pytest.mark.parametrize("path", ["/proc/self/exe", "/proc/1/exe", "/proc/1/root/etc/passwd", "/proc/1/cwd/etc/passwd"])
def test_magic_links_lead_nowhere(running, path):
    with pytest.raises(OSError, match=path):
        running.open(path, "rb")


# -- errors -----------------------------------------------------------------------------------------------------------


def make_specials(container):
    container.exec(["sh", "-c", "mkfifo /tmp/fifo; mkdir /tmp/d; echo f >/tmp/f; ln -s nowhere /tmp/dangling"])


@pytest.mark.parametrize(
    ("path", "mode", "kind"),
    [
        ("/no/such", "r", FileNotFoundError),
        ("/no/such", "w", FileNotFoundError),
        ("/etc", "r", IsADirectoryError),
        ("/etc", "w", IsADirectoryError),
        ("/", "r", IsADirectoryError),
        ("/etc/passwd/x", "w", NotADirectoryError),
        ("/etc/passwd", "x", FileExistsError),
        ("/tmp/dangling", "r", FileNotFoundError),
        ("/tmp/fifo", "rb", OSError),
        ("/tmp/fifo", "wb", OSError),
        ("/dev/zero", "rb", OSError),
        ("/dev/null", "wb", OSError),
        ("/proc/sysrq-trigger", "w", OSError),
        ("", "r", FileNotFoundError),
        ("/" + "x" * 5000, "r", OSError),
    ],
)
def test_what_cannot_be_opened(running, path, mode, kind):
    make_specials(running)
    with pytest.raises(kind) as caught:
        running.open(path, mode)
    assert caught.value.filename == path


@pytest.mark.parametrize("mode", ["", "rw", "q", "rbt", "xw"])
def test_modes_that_are_none(running, mode):
    with pytest.raises(ValueError, match="mode"):
        running.open("/etc/passwd", mode)


@pytest.mark.parametrize(
    ("source", "target", "kind", "named"),
    [
        ("no", "/tmp", FileNotFoundError, "no"),
        ("f", "/no/f", FileNotFoundError, "/no/f"),
        ("f", "/tmp/no/", FileNotFoundError, "/tmp/no/"),
        ("f", "/etc/passwd/", NotADirectoryError, "/etc/passwd/"),
        ("f", "/etc/passwd/x", NotADirectoryError, "/etc/passwd/x"),
        ("f/", "/tmp", NotADirectoryError, "f/"),
        ("f/.", "/tmp", NotADirectoryError, "f/."),
        ("d", "/etc/passwd", NotADirectoryError, "/etc/passwd"),
        ("d", "/no/d", FileNotFoundError, "/no/d"),
        ("passwd", "/tmp/in", IsADirectoryError, "/tmp/in: passwd"),
        ("socket", "/tmp", OSError, "socket"),
    ],
)
def test_what_cannot_be_copied_in(container, tmp_path, source, target, kind, named):  # noqa: PLR0913, PLR0917  fixtures
    (tmp_path / "f").touch()
    (tmp_path / "passwd").touch()
    (tmp_path / "d/passwd").mkdir(parents=True)
    container.copy_in(tmp_path / "d", "/tmp/in")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(kind) as caught:
            container.copy_in(f"{tmp_path}/{source}", target)
    assert caught.value.filename in (named, f"{tmp_path}/{named}")


@pytest.mark.parametrize(
    ("source", "target", "kind", "named"),
    [
        ("/no/such", "out", FileNotFoundError, "/no/such"),
        ("", "out", FileNotFoundError, ""),
        ("/etc/passwd/", "out", NotADirectoryError, "/etc/passwd/"),
        ("/etc/passwd", "no/out", FileNotFoundError, "no"),
        ("/etc/passwd", "no/", FileNotFoundError, "no/"),
        ("/etc/passwd", "f/x", NotADirectoryError, "f"),
        ("/etc", "f", NotADirectoryError, "f"),
        ("/etc/passwd", "in", IsADirectoryError, "in: passwd"),
    ],
)
def test_what_cannot_be_copied_out(container, tmp_path, source, target, kind, named):  # noqa: PLR0913, PLR0917  fixtures
    (tmp_path / "f").touch()
    (tmp_path / "in/passwd").mkdir(parents=True)
    with pytest.raises(kind) as caught:
        container.copy_out(source, f"{tmp_path}/{target}")
    assert caught.value.filename in (named, f"{tmp_path}/{named}")
    assert names_below(tmp_path) == ["f", "in", "in/passwd"]


def test_what_the_kernel_makes_up_is_not_copied(running, tmp_path):
    for path in ("/proc/cpuinfo", "/proc/1/status"):
        with pytest.raises(OSError, match="kernel") as caught:
            running.copy_out(path, tmp_path / "out")
        assert caught.value.filename == path
    with pytest.raises(OSError, match="kernel"):
        running.copy_in("/proc/cpuinfo", "/tmp")


@pytest.mark.parametrize("junk", [b"x" * 2000, io_tar(a=b"1" * 5000).getvalue()[:3000]])
def test_what_is_no_archive(container, junk):
    with pytest.raises(OSError, match="Not a tar archive") as caught:
        container.copy_in(io.BytesIO(junk), "/tmp")
    assert caught.value.filename.startswith("/tmp")


def test_an_archive_that_climbs(container):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../up"))
    stream.seek(0)
    with pytest.raises(OSError, match=r'"\.\."'):
        container.copy_in(stream, "/tmp")


def test_a_stream_that_fails(running):
    class Broken(io.RawIOBase):
        def read(self, _=-1):
            raise RuntimeError("broken")

        def write(self, _):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        running.copy_in(Broken(), "/tmp")
    with pytest.raises(RuntimeError, match="broken"):
        running.copy_out("/bin", Broken())


def test_a_full_destination(box, tmp_path):
    (tmp_path / "f").write_bytes(bytes(4 << 20))
    with box.start("sleep", "100", tmpfs={"/t": "size=1m"}) as container:
        with pytest.raises(OSError, match="No space left") as caught:
            container.copy_in(tmp_path / "f", "/t")
        assert caught.value.filename == "/t: f"


def test_a_container_that_is_gone(box, tmp_path):
    container = box.create("true")
    container.remove()
    for attempt in (
        lambda: container.copy_in(tmp_path, "/tmp"),
        lambda: container.copy_out("/tmp", tmp_path),
        lambda: container.open("/etc/passwd"),
    ):
        with pytest.raises(pylxc.ContainerNotFound):
            attempt()


def test_a_helper_that_is_killed_is_no_success(box, tmp_path, monkeypatch):
    """What was half copied by a process that somebody killed must not pass for a copy."""
    (tmp_path / "f").write_bytes(bytes(1 << 20))
    spawn = native.spawn

    def spawn_and_kill(plan, fds):
        child = spawn(plan, fds)
        native.send_signal(child.pid_fd, 9)
        return child

    with box.start("sleep", "100") as container:
        monkeypatch.setattr(native, "spawn", spawn_and_kill)
        with pytest.raises((StoreError, OSError), match=r"killed|damaged"):
            container.copy_in(tmp_path / "f", "/tmp")
        monkeypatch.setattr(native, "spawn", spawn)


def test_nobody_waits_for_a_fifo_or_a_device_that_takes_a_files_place(running, tmp_path):
    """The type is looked at on what was opened: a loop exchanges a file for a FIFO while it is copied and opened."""
    script = """
    cd /tmp; mkdir d; mkfifo fifo; echo content >file
    while :; do mv file d/x; mv d/x file; mv fifo d/x; mv d/x fifo; done
    """
    racer = running.popen(["sh", "-c", script])
    try:
        await_true(lambda: "/tmp/fifo" in running.exec(["sh", "-c", "echo /tmp/*"]).text, "the racer")
        for number in range(100):
            for attempt in (
                lambda number=number: running.copy_out("/tmp/d", tmp_path / str(number)),
                lambda: content(running, "/tmp/d/x"),
            ):
                try:
                    attempt()
                except OSError as error:
                    assert error.filename  # noqa: PT017  one of two outcomes
    finally:
        racer.kill()
        racer.communicate()


def test_an_ordinary_sigpipe_does_not_hide_the_reason(box, tmp_path):
    """In a program that does not ignore SIGPIPE, as Python does, the sender dies of the receiver's failure."""
    (tmp_path / "f").write_bytes(bytes(8 << 20))
    program = f"""
import signal, pylxc
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
engine = pylxc.Engine({str(box.engine.root)!r})
with pylxc.start("busybox", ["sleep", "100"], engine=engine, tmpfs={{"/t": "size=1m"}}) as container:
    try:
        container.copy_in({str(tmp_path / "f")!r}, "/t")
    except OSError as error:
        print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "No space left on device\n"


def test_many_threads_at_once(running, tmp_path):
    failures = []

    def work(number: int) -> None:
        try:
            (tmp_path / f"in{number}").write_text(str(number))
            for _ in range(10):
                running.copy_in(tmp_path / f"in{number}", "/tmp")
                running.copy_out(f"/tmp/in{number}", tmp_path / f"out{number}")
                assert (tmp_path / f"out{number}").read_text() == content(running, f"/tmp/in{number}") == str(number)
        except BaseException as error:  # noqa: BLE001  reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_helper_here_has_no_namespace_of_its_own(tmp_path):
    """The host's side needs no privilege: it works for any user, with that user's rights and no others."""
    (tmp_path / "f").write_text("new")
    source, target = p.Plan(), p.Plan()
    read_end, write_end = os.pipe()
    directory = os.open(tmp_path, os.O_PATH)
    a, b = source.descriptor(write_end), source.descriptor(directory)
    source.add(p.COPY_FROM, "f", a=a, b=b)
    a, b = target.descriptor(read_end), target.descriptor(directory)
    target.add(p.COPY_TO, "g", "f", flags=p.UNPACK_BENEATH | p.UNPACK_OWNER_SELF | p.UNPACK_PLAIN, a=a, b=b)
    assert source.clone_flags == target.clone_flags == 0
    transfer.carry(source, write_end, target, read_end)
    os.close(directory)
    assert (tmp_path / "g").read_text() == "new"
