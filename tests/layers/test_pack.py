"""csrc/helper/pack.c: one tree, one stream, which every other tar reads; and the freestanding build of the tar code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from archives import PACK_LAYER, UNPACK_LAYER
from trees import TarError, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import TarTool

OPAQUE = "user.overlay.opaque"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "root"
    made.mkdir()
    yield made
    # Trees may be deeper than Python's recursion goes.
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True, timeout=60)


@pytest.fixture
def tree(root: Path) -> Path:
    """One of everything that a stream can hold."""
    (root / "bin").mkdir(mode=0o755)
    (root / "bin/tool").write_bytes(os.urandom(1500))
    os.chown(root / "bin/tool", 12, 13)
    (root / "bin/tool").chmod(0o4750)
    os.setxattr(root / "bin/tool", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/tool", "user.b", b"v\0=\n")
    os.setxattr(root / "bin/tool", "user.a=%", b"")
    os.link(root / "bin/tool", root / "bin/alias")
    os.link(root / "bin/tool", root / "another")
    (root / "bin/link").symlink_to("/" + "x" * 150)
    os.setxattr(root / "bin/link", "trusted.note", b"on a symlink", follow_symlinks=False)
    (root / "short").symlink_to("bin/tool")
    os.mkfifo(root / "fifo", 0o622)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 300000))
    (root / "big-id").write_bytes(b"")
    os.chown(root / "big-id", 4_000_000_000, 3_000_000_000)
    (root / "read-only").mkdir()
    (root / "read-only/f").write_bytes(b"f")
    (root / ("p" * 90) / ("q" * 90)).mkdir(parents=True)
    (root / ("p" * 90) / ("q" * 90) / "prefixed").write_bytes(b"1")
    (root / "d" / ("n" * 120) / ("m" * 200)).mkdir(parents=True)
    (root / "d" / ("n" * 120) / ("m" * 200) / "long").write_bytes(b"2")
    (root / "\u00fc").write_bytes(b"utf-8")
    for index, path in enumerate(sorted(root.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, ns=(0, 10**9 * index + (index % 2) * 123))
    os.utime(root / "big-id", ns=(0, -1_500_000_001))
    (root / "read-only").chmod(0o555)
    os.utime(root, ns=(0, 7 * 10**9))
    return root


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [entry.name + "/" * entry.isdir() for entry in tar.getmembers()]


def unpacked(tool: TarTool, data: bytes, path: Path, flags: int = 0) -> Path:
    path.mkdir()
    tool.unpack(data, path, flags)
    return path


def test_round_trip(tar_tool: TarTool, tree: Path, tmp_path: Path) -> None:
    data = tar_tool.pack(tree)
    again = unpacked(tar_tool, data, tmp_path / "again")
    assert snapshot(again) == snapshot(tree)
    assert tar_tool.pack(again) == data


def test_gnu_tar_reads_it(tar_tool: TarTool, tree: Path, tmp_path: Path) -> None:
    data = tar_tool.pack(tree)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf-"]
    subprocess.run(["tar", "-C", theirs, *options], input=data, check=True, timeout=60)
    expected, found = snapshot(tree), snapshot(theirs)
    # GNU tar 1.34 does not set attributes on symlinks.
    assert found.pop("bin/link")[:7] == expected.pop("bin/link")[:7]
    assert found == expected
    listing = subprocess.run(["tar", "-tvf-"], input=data, check=True, capture_output=True, timeout=60)
    assert listing.stderr == b""
    assert len(listing.stdout.splitlines()) == len(expected) + 1


def test_python_reads_it(tar_tool: TarTool, tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_tool.pack(tree))) as tar:
        found = {entry.name: entry for entry in tar.getmembers()}
    assert found["another"].isreg()
    assert (found["bin/alias"].type, found["bin/alias"].linkname) == (tarfile.LNKTYPE, "another")
    assert (found["big-id"].uid, found["big-id"].gid) == (4_000_000_000, 3_000_000_000)
    assert found["big-id"].pax_headers["mtime"] == "-1.500000001"
    assert (found["null"].devmajor, found["null"].devminor) == (1, 3)
    assert {entry.uname + entry.gname for entry in found.values()} == {""}
    # What fits into a header is not said twice.
    assert found["short"].pax_headers == {} or set(found["short"].pax_headers) == {"mtime"}
    assert set(found["p" * 90 + "/" + "q" * 90 + "/prefixed"].pax_headers) <= {"mtime"}


def test_every_name_of_a_file_has_its_capabilities(tar_tool: TarTool, root: Path, tmp_path: Path) -> None:
    """Docker gives each entry its owner, those of further names too, and that takes the capabilities off the file."""
    for name in ("able", "plain"):
        (root / name).write_bytes(b"program")
        os.setxattr(root / name, "user.note", b"on the first name only")
        os.link(root / name, root / f"{name}-too")
    os.setxattr(root / "able", "security.capability", CAPABILITY)
    data = tar_tool.pack(root)
    able, note = "SCHILY.xattr.security.capability", "SCHILY.xattr.user.note"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        kinds = {entry.name: entry.type for entry in tar.getmembers()}
        found = {entry.name: {able, note} & entry.pax_headers.keys() for entry in tar.getmembers()}
        value = tar.getmember("able-too").pax_headers[able].encode("utf-8", "surrogateescape")
    assert found == {".": set(), "able": {able, note}, "able-too": {able}, "plain": {note}, "plain-too": set()}
    assert kinds["able-too"] == kinds["plain-too"] == tarfile.LNKTYPE
    assert value == CAPABILITY
    again = unpacked(tar_tool, data, tmp_path / "again")
    assert snapshot(again) == snapshot(root)
    assert tar_tool.pack(again) == data
    (tmp_path / "mirror").mkdir()
    assert tar_tool.mirror(root, 0, tmp_path / "mirror") == data
    assert snapshot(tmp_path / "mirror") == snapshot(root)


def test_the_order_of_making_does_not_matter(tar_tool: TarTool, tmp_path: Path) -> None:
    paths = [f"{a}{b}/{c}" for a in "ab-,Z~" for b in ("", "0", "-") for c in ("f", "F", "f.x", "f-")]
    streams = []
    for seed in (1, 2):
        made = tmp_path / str(seed)
        made.mkdir()
        for path in random.Random(seed).sample(paths, len(paths)):
            (made / path).parent.mkdir(exist_ok=True)
            (made / path).write_text(path)
        for each in [made, *made.rglob("*")]:
            os.utime(each, ns=(seed, 10**18))
        streams.append(tar_tool.pack(made))
    assert streams[0] == streams[1]
    listed = names(streams[0])
    assert listed[0] == "./"
    # Depth first, siblings in byte order: the order of the paths split into components.
    assert listed[1:] == sorted(listed[1:], key=lambda name: name.rstrip("/").split("/"))
    assert len(listed) == 1 + len(paths) + len({path.partition("/")[0] for path in paths})
    assert len(streams[0]) == 512 * (len(listed) + len(paths) + 2)


def test_ends_in_two_blocks_and_skips_sockets(tar_tool: TarTool, root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        os.utime(root, ns=(0, 0))
        data = tar_tool.pack(root)
    assert names(data) == ["./"]
    assert len(data) == 512 + 1024
    assert data[512:] == bytes(1024)


@pytest.mark.parametrize("size", [1, 511, 512, 513, (1 << 20) - 1536, (1 << 20) - 1024, 1 << 20, (3 << 20) + 1])
def test_content_across_chunks(tar_tool: TarTool, root: Path, tmp_path: Path, size: int) -> None:
    (root / "a").write_bytes(os.urandom(size))
    (root / "b").write_bytes(b"after")
    with tarfile.open(fileobj=io.BytesIO(tar_tool.pack(root))) as tar:
        found = {name: tar.extractfile(name) for name in ("a", "b")}
        assert [file.read() for file in found.values() if file] == [(root / "a").read_bytes(), b"after"]
    assert snapshot(unpacked(tar_tool, tar_tool.pack(root), tmp_path / "again")) == snapshot(root)


def test_sparse_and_huge_sizes(tar_tool: TarTool, root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate((8 << 30) + 1)
    command = [str(tar_tool.program), "pack", str(root), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"ASAN_OPTIONS": "detect_leaks=0"}) as process:
        assert process.stdout
        head = process.stdout.read(4096)
        process.kill()
    with tarfile.open(fileobj=io.BytesIO(head + bytes(4096)), ignore_zeros=False) as tar:
        tar.next()
        entry = tar.next()
    assert entry is not None
    assert (entry.name, entry.size, entry.pax_headers["size"]) == ("huge", (8 << 30) + 1, str((8 << 30) + 1))


def test_layer(tar_tool: TarTool, root: Path, tmp_path: Path) -> None:
    (root / "opaque/sub").mkdir(parents=True)
    (root / "opaque/-first").write_bytes(b"")
    os.setxattr(root / "opaque", OPAQUE, b"y")
    os.setxattr(root / "opaque/sub", "user.overlay.origin", b"never written")
    os.setxattr(root / "opaque/sub", "trusted.overlay.opaque", b"y")
    os.mknod(root / "gone", stat.S_IFCHR)
    os.link(root / "gone", root / "gone-too")  # overlayfs shares one inode among its whiteouts
    os.chown(root / "gone", 5, 5)
    data = tar_tool.pack(root, PACK_LAYER)
    assert names(data) == [
        "./",
        ".wh.gone",
        ".wh.gone-too",
        "opaque/",
        "opaque/.wh..wh..opq",
        "opaque/-first",
        "opaque/sub/",
    ]
    assert b"overlay" not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        marks = [entry for entry in tar.getmembers() if ".wh." in entry.name]
    assert {(m.type, m.mode, m.uid, m.gid, m.mtime, m.size) for m in marks} == {(tarfile.REGTYPE, 0, 0, 0, 0, 0)}
    again = unpacked(tar_tool, data, tmp_path / "again", UNPACK_LAYER)
    assert os.getxattr(again / "opaque", OPAQUE) == b"y"
    assert os.listxattr(again / "opaque/sub") == []
    assert stat.S_ISCHR((again / "gone-too").lstat().st_mode)
    assert tar_tool.pack(again, PACK_LAYER) == data


def test_an_overlay_upper_directory(tar_tool: TarTool, root: Path, tmp_path: Path) -> None:
    for part in ("lower/d/e", "lower/replaced", "upper", "work", "merged"):
        (root / part).mkdir(parents=True)
    for part in ("lower/d/f", "lower/removed", "lower/replaced/old"):
        (root / part).write_bytes(b"")
    options = f"userxattr,lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
    merged = root / "merged"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True, timeout=60)
    try:
        (merged / "removed").unlink()
        (merged / "d/f").unlink()
        shutil.rmtree(merged / "replaced")
        (merged / "replaced").mkdir()
        (merged / "replaced/new").write_bytes(b"n")
    finally:
        subprocess.run(["umount", merged], check=True, timeout=60)
    data = tar_tool.pack(root / "upper", PACK_LAYER)
    assert names(data) == [
        "./",
        "d/",
        "d/.wh.f",
        ".wh.removed",
        "replaced/",
        "replaced/.wh..wh..opq",
        "replaced/new",
    ]
    again = unpacked(tar_tool, data, tmp_path / "again", UNPACK_LAYER)
    assert tar_tool.pack(again, PACK_LAYER) == data


def answer(tool: TarTool, root: Path, flags: int = 0) -> tuple[str, str]:
    with pytest.raises(TarError) as caught:
        tool.pack(root, flags)
    return errno.errorcode[caught.value.errno], caught.value.subject


def test_a_name_that_a_layer_cannot_hold(tar_tool: TarTool, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/.wh.x").write_bytes(b"")
    assert answer(tar_tool, root, PACK_LAYER) == ("EINVAL", "d/.wh.x")
    assert names(tar_tool.pack(root)) == ["./", "d/", "d/.wh.x"]


def test_deep_trees(tar_tool: TarTool, root: Path, tmp_path: Path) -> None:
    def chain(depth: int) -> None:
        at = os.open(root, os.O_RDONLY)
        for _ in range(depth):
            with contextlib.suppress(FileExistsError):
                os.mkdir("d", dir_fd=at)
            below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        os.close(at)

    chain(2000)
    data = tar_tool.pack(root)
    assert len(names(data)) == 2001
    assert tar_tool.pack(unpacked(tar_tool, data, tmp_path / "again")) == data
    chain(5000)
    found = answer(tar_tool, root)
    assert found[0] == "ENAMETOOLONG"
    assert found[1].startswith("d/d/d/")


def test_a_file_that_is_not_as_long_as_it_said(tar_tool: TarTool) -> None:
    # Files of sysfs say 4096 bytes and have fewer: the same as a file that shrinks while it is read.
    assert Path("/sys/kernel/cgroup/delegate").stat().st_size == 4096
    assert answer(tar_tool, Path("/sys/kernel/cgroup")) == ("EBUSY", "delegate")


def test_nowhere_to_write(tar_tool: TarTool, root: Path) -> None:
    (root / "f").write_bytes(bytes(2 << 20))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [tar_tool.program, "pack", str(root), "0"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
            env={"ASAN_OPTIONS": "detect_leaks=0"},
        )
    assert (done.returncode, done.stderr) == (1, b"%d\tf\n" % errno.ENOSPC)


def test_many_hard_links_and_names(tar_tool: TarTool, root: Path) -> None:
    for i in range(3000):
        (root / f"{i:04}").write_bytes(b"%d" % i)
        os.link(root / f"{i:04}", root / f"z{i:04}")
    with tarfile.open(fileobj=io.BytesIO(tar_tool.pack(root))) as tar:
        links = {entry.name: entry.linkname for entry in tar.getmembers() if entry.islnk()}
    assert links == {f"z{i:04}": f"{i:04}" for i in range(3000)}


def test_freestanding_build(tmp_path: Path) -> None:
    """As the helper is built: without libc, and with every warning an error."""
    helper = Path(__file__).resolve().parents[2] / "csrc" / "helper"
    flags = ["-std=gnu11", "-O2", "-ffreestanding", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns"]
    flags += ["-Wall", "-Wextra", "-Wshadow", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Wswitch-enum"]
    flags += ["-Wformat=2", "-Werror", "-static", "-nostdlib", "-r"]
    sources = sorted(map(str, helper.glob("*.c")))
    made = tmp_path / "tar.o"
    subprocess.run(["gcc", *flags, "-o", str(made), *sources], check=True, timeout=120)
    missing = subprocess.run(["nm", "-u", str(made)], check=True, capture_output=True, timeout=60).stdout
    assert missing == b""
