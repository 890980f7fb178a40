"""Attack classes 7, 8 and 9: the image's user database is untrusted bytes; groups are exactly those that it gives."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import time

import pytest

import pylxc

MOST_SECONDS = 1.0
MOST_MEMORY = 64 << 20


@pytest.fixture
def image_of(box, busybox_root, tmp_path):
    """Make an image whose tree a function has changed."""

    def make(change) -> pylxc.Image:
        tree = tmp_path / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["cp", "-a", busybox_root, tree], check=True)
        change(tree)
        return pylxc.Image.from_directory(tree, engine=box.engine)

    return make


def fifo(tree):
    (tree / "etc/passwd").unlink()
    os.mkfifo(tree / "etc/passwd")


def zero(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("/dev/zero")


def tty(tree):
    (tree / "etc/group").unlink()
    (tree / "etc/group").symlink_to("/dev/tty")


def magic(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("/proc/self/fd/0")


def directory(tree):
    (tree / "etc/group").unlink()
    (tree / "etc/group").mkdir()


def loop(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("passwd")


@pytest.mark.parametrize("change", [fifo, zero, tty, magic, directory, loop])
@pytest.mark.parametrize("user", ["root", "0:0", "nobody"])
def test_a_database_that_is_no_file_is_an_error_at_once(box, image_of, change, user):
    image = image_of(change)
    begin = time.monotonic()
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", image=image, user=user, timeout=20)
    assert time.monotonic() - begin < MOST_SECONDS
    assert caught.value.stage == "user"
    assert caught.value.errno in (errno.EINVAL, errno.ELOOP, errno.ENXIO)


def test_a_huge_sparse_database_is_an_error_at_once_and_in_little_memory(box, tmp_path):
    with (tmp_path / "group").open("wb") as file:
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    begin = time.monotonic()
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", user="root", volumes={tmp_path / "group": "/etc/group:ro"})
    assert time.monotonic() - begin < MOST_SECONDS
    assert (caught.value.stage, caught.value.errno) == ("user", errno.EFBIG)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert most == before or most * 1024 < MOST_MEMORY


def test_a_database_of_junk_finds_nobody(box, image_of):
    def junk(tree):
        lines = b"\nroot\nroot:x\nroot:x:-1:0\nroot:x:x:0\n::::\n"
        (tree / "etc/passwd").write_bytes(b"\0:\n" * 1000 + os.urandom(100_000) + lines)

    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", image=image_of(junk), user="root")
    assert (caught.value.stage, caught.value.errno) == ("user", errno.ENOENT)


def test_digits_are_an_id_never_a_name(box, image_of):
    def named(tree):
        (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\n2000:x:0:\n")

    image = image_of(named)
    assert box.sh("id -u", image=image, user="1000").text == "1000\n"
    assert box.sh("echo $(id -u) $(id -g)", image=image, user="1000:2000").text == "1000 2000\n"
    with box.start("sleep", "100", image=image) as container:
        assert container.exec(["id", "-u"], user="1000").text == "1000\n"


@pytest.mark.parametrize("user", ["-1", str(2**31), str(2**32), str(2**64), "0:-1", f"0:{2**32}", "-0", "4294967295"])
def test_ids_out_of_range(box, user):
    with pytest.raises((pylxc.SpecError, pylxc.SpawnError)):
        box.run("true", user=user)
    with box.start("sleep", "100") as container, pytest.raises((pylxc.SpecError, pylxc.SpawnError)):
        container.exec(["true"], user=user)


def test_ids_out_of_range_in_the_database(box, image_of):
    def wrapped(tree):
        lines = (f"big:x:{2**32}:0::/:/bin/sh", "minus:x:-1:0::/:/bin/sh", f"gid:x:5:{2**32}::/:/bin/sh", "")
        (tree / "etc/passwd").write_text("\n".join(lines))

    image = image_of(wrapped)
    for user in ("big", "minus", "gid"):
        with pytest.raises(pylxc.SpawnError) as caught:
            box.run("true", image=image, user=user)
        assert (caught.value.stage, caught.value.errno) == ("user", errno.ENOENT)


def groups_of(text: str) -> list[int]:
    return sorted(int(word) for line in text.splitlines() if line.startswith("Groups:") for word in line.split()[1:])


def test_supplementary_groups_are_exactly_the_databases(box, image_of):
    def members(tree):
        users = ("root:x:0:0::/:/bin/sh", "ann:x:1001:1001::/home/ann:/bin/sh", "an:x:1002:1002::/:/bin/sh", "")
        groups = (
            "root:x:0:root",
            "one:x:11:ann",
            "two:x:12:bob,ann",
            "three:x:13:joann,ann2,an",
            "four:x:14:an,ann,",
            "",
        )
        (tree / "etc/passwd").write_text("\n".join(users))
        (tree / "etc/group").write_text("\n".join(groups))

    image = image_of(members)
    command = ["cat", "/proc/self/status"]
    expected = {"ann": [11, 12, 14], "an": [13, 14], "1001": [11, 12, 14], "ann:one": [], "5555": [], "0": [0]}
    expected[None] = [0]
    saved = os.getgroups()
    os.setgroups([4, 27, 4444])  # the caller's own must not come through
    try:
        with box.start("sleep", "100", image=image) as container:
            for user, groups in expected.items():
                assert groups_of(box.run(*command, image=image, user=user).text) == groups, user
                assert groups_of(container.exec(command, user=user).text) == groups, user
        text = box.run(*command, image=image, user="ann:two").text
        ids = [line.split()[1:] for line in text.splitlines() if line.startswith(("Uid", "Gid"))]
        assert ids == [["1001"] * 4, ["12"] * 4]
        assert box.sh("echo $HOME", image=image, user="ann").text == "/home/ann\n"
    finally:
        os.setgroups(saved)


def test_no_code_of_the_image_is_loaded_to_find_a_user(box, tmp_path, image_of):
    """A trojan libnss: were it loaded, it would leave its mark in a directory that is mounted from the host."""
    mark = tmp_path / "mark"
    mark.mkdir()
    source = tmp_path / "trojan.c"
    mark_it = 'open("/mark/loaded", O_CREAT | O_RDWR, 0600);'
    source.write_text(f"#include <fcntl.h>\n__attribute__((constructor)) static void run(void) {{ {mark_it} }}\n")
    library = tmp_path / "libnss_files.so.2"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)

    def plant(tree):
        for place in ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
            (tree / place).mkdir(parents=True, exist_ok=True)
            for name in ("libnss_files.so.2", "libc.so.6", "ld-linux-x86-64.so.2"):
                shutil.copy(library, tree / place / name)
        (tree / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\n")
        (tree / "etc/ld.so.preload").write_text("/lib/libnss_files.so.2\n")

    image = image_of(plant)
    assert box.sh("id -u", image=image, user="nobody", volumes={mark: "/mark"}).text == "65534\n"
    with box.start("sleep", "100", image=image, volumes={mark: "/mark"}) as container:
        assert container.exec(["id", "-u"], user="nobody").text == "65534\n"
    assert list(mark.iterdir()) == []
    # It bites: a program that does load it leaves the mark.
    subprocess.run(["cc", "-o", tmp_path / "loads", "-x", "c", "-"], input=b"int main(void) { return 0; }", check=True)
    options = {"volumes": {mark: "/mark", library: "/usr/lib/trojan.so", tmp_path / "loads": "/loads"}}
    box.run("/loads", image="host", env={"LD_PRELOAD": "/usr/lib/trojan.so"}, **options)
    assert [path.name for path in mark.iterdir()] == ["loaded"]
