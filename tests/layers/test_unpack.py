"""csrc/helper/unpack.c and tar_read.c: every form of archive, and every way in which one tries to do harm."""

from __future__ import annotations

import errno
import io
import os
import random
import stat
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from archives import (
    ACL,
    ACL_OF_1000,
    END,
    UNPACK_KEEP_DIRECTORIES,
    UNPACK_LAYER,
    UNPACK_OWNER_ROOT,
    archive,
    block,
    directory,
    file,
    gnu,
    padded,
    pax,
)
from attrs import evolve
from trees import TarError, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import TarTool

OPAQUE = "user.overlay.opaque"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The root of the driver, beside a canary that nothing may reach."""
    canary, made = tmp_path / "canary", tmp_path / "root"
    canary.write_bytes(b"untouched")
    before = _identity(canary)
    made.mkdir()
    yield made
    # Trees may be deeper than Python's recursion goes.
    subprocess.run(["rm", "-rf", made], check=True, timeout=60)
    assert canary.read_bytes() == b"untouched"
    assert _identity(canary) == before
    assert list(tmp_path.iterdir()) == [canary]


def _identity(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return (found.st_ino, found.st_mode, found.st_uid, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns)


def refused(tool: TarTool, data: bytes, root: Path, flags: int = 0, limit: int = 0) -> tuple[str, str]:
    """(errno's name, subject) of an archive that must not be accepted."""
    with pytest.raises(TarError) as caught:
        tool.unpack(data, root, flags, limit=limit)
    return errno.errorcode[caught.value.errno], caught.value.subject


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


# Forms


def kinds(tar: tarfile.TarFile) -> None:
    def add(name: str, kind: bytes, data: bytes = b"", **fields: object) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(data), 1234567890
        for key, value in fields.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))

    add("d", tarfile.DIRTYPE, mode=0o2750, uid=7, gid=8)
    add("d/file", tarfile.REGTYPE, b"content" * 100, mode=0o4711, uid=1000, gid=1001)
    add("d/empty", tarfile.AREGTYPE)
    add("d/contiguous", tarfile.CONTTYPE, b"c")
    add("d/hard", tarfile.LNKTYPE, linkname="d/file")
    add("d/soft", tarfile.SYMTYPE, linkname="../x", uid=5)
    add("d/fifo", tarfile.FIFOTYPE, mode=0o600)
    add("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add("d/block", tarfile.BLKTYPE, devmajor=259, devminor=300000, mode=0o660)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_kinds_of_entry(tar_tool: TarTool, root: Path, form: int) -> None:
    tar_tool.unpack(archive(kinds, form), root)
    found = {name: (int(str(e[0]), 8), *e[1:]) for name, e in snapshot(root).items()}
    then = 1234567890 * 10**9
    content = b"content" * 100
    assert found["d"] == (stat.S_IFDIR | 0o2750, 7, 8, then, 0, "", b"", (), 1)
    assert found["d/file"] == (stat.S_IFREG | 0o4711, 1000, 1001, then, 0, "", content, (), 2)
    assert found["d/hard"] == found["d/file"]
    assert (root / "d/hard").samefile(root / "d/file")
    assert found["d/empty"] == (stat.S_IFREG | 0o644, 0, 0, then, 0, "", b"", (), 1)
    assert found["d/contiguous"][6] == b"c"
    assert found["d/soft"] == (stat.S_IFLNK | 0o777, 5, 0, then, 0, "../x", b"", (), 1)
    assert found["d/fifo"][0] == stat.S_IFIFO | 0o600
    assert found["d/null"][0] == stat.S_IFCHR | 0o666
    assert found["d/null"][4] == os.makedev(1, 3)
    assert found["d/block"][4] == os.makedev(259, 300000)


def test_long_names(tar_tool: TarTool, root: Path) -> None:
    name = "/".join(["n" * 200] * 6)

    def fill(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        tar.addfile(info)
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, name
        tar.addfile(info)

    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar_tool.unpack(archive(fill, form), root)
        assert (root / "link").is_file()
        assert os.readlink(root / "link") == name
        (root / "link").unlink()


def test_prefix_counts_only_with_the_posix_magic(tar_tool: TarTool, root: Path) -> None:
    def with_prefix(name: bytes, magic: bytes) -> bytes:
        made = bytearray(block(name, magic=magic))
        made[345:348] = b"pre"
        made[148:156] = b" " * 8
        made[148:156] = b"%06o\0 " % sum(made)
        return bytes(made)

    tar_tool.unpack(with_prefix(b"a", b"ustar\x0000") + with_prefix(b"b", b"ustar  \0") + END, root)
    assert (root / "pre/a").is_file()
    assert (root / "b").is_file()


def test_v7_and_signed_checksum(tar_tool: TarTool, root: Path) -> None:
    old = block(b"dir/", b"\0", magic=b"") + block(b"dir/file", b"\0", magic=b"", size=b"3") + padded(b"abc")
    name = b"\xff\xfe"
    signed = bytearray(block(name))
    signed[148:156] = b"%06o\0 " % (int(signed[148:154], 8) - 256 * sum(byte > 127 for byte in signed))
    tar_tool.unpack(old + bytes(signed) + END, root)
    assert (root / "dir").is_dir()
    assert (root / "dir/file").read_bytes() == b"abc"
    assert os.path.exists(os.fsencode(root) + b"/" + name)


def test_binary_numbers(tar_tool: TarTool, root: Path) -> None:
    big = (0x80 << 56 | 4_000_000_000).to_bytes(8, "big")
    early = ((1 << 96) - 86400).to_bytes(12, "big")
    size = (0x80 << 88 | 5).to_bytes(12, "big")
    tar_tool.unpack(block(b"f", uid=big, gid=big, mtime=early, size=size) + padded(b"12345") + END, root)
    found = (root / "f").lstat()
    assert (found.st_uid, found.st_gid, found.st_size, found.st_mtime) == (4_000_000_000, 4_000_000_000, 5, -86400)


def test_pax_records(tar_tool: TarTool, root: Path) -> None:
    records = [(b"path", b"real"), (b"uid", b"3000000000"), (b"gid", b"3000000001"), (b"size", b"4")]
    records += [(b"mtime", b"-1.25"), (b"comment", b"a=b\nc"), (b"SCHILY.xattr.user.a%3Db%25", b"v\0=\n")]
    data = pax((b"path", b"ignored"), (b"uid", b"77"), kind=b"g") + pax(*records)
    data += block(b"unreal", size=b"00000000001\0") + padded(b"four")
    data += pax((b"path", b"taken-back"), (b"path", b"")) + block(b"plain", mtime=b"00000000007\0")
    tar_tool.unpack(data + END, root)
    found = (root / "real").lstat()
    assert (found.st_uid, found.st_gid, found.st_size) == (3000000000, 3000000001, 4)
    assert found.st_mtime_ns == -1_250_000_000
    assert os.getxattr(root / "real", "user.a=b%") == b"v\0=\n"
    assert (root / "plain").lstat().st_mtime == 7
    assert {path.name for path in root.iterdir()} == {"real", "plain"}


def test_pax_name_wins_over_gnu_name(tar_tool: TarTool, root: Path) -> None:
    tar_tool.unpack(gnu(b"L", b"gnu") + pax((b"path", b"first")) + block(b"x") + END, root)
    tar_tool.unpack(pax((b"path", b"second")) + gnu(b"L", b"gnu") + block(b"x") + END, root)
    assert {path.name for path in root.iterdir()} == {"first", "second"}


def test_size_of_entries_without_content_is_not_skipped(tar_tool: TarTool, root: Path) -> None:
    data = file(b"f", b"data") + block(b"h", b"1", link=b"f", size=b"00000000004\0")
    tar_tool.unpack(data + block(b"d", b"5", size=b"00000010000\0") + file(b"after", b"1") + END, root)
    assert (root / "after").read_bytes() == b"1"


# Metadata


def test_parents_are_made_and_late_modes_hold(tar_tool: TarTool, root: Path) -> None:
    data = file(b"made/on/the/way") + directory(b"ro", mode=b"0000555\0", mtime=b"00000000011\0", uid=b"0000012\0")
    data += file(b"ro/inside", b"x") + directory(b"./", mode=b"0000711\0", mtime=b"00000000022\0")
    old = os.umask(0o077)
    try:
        tar_tool.unpack(data + END, root)
    finally:
        os.umask(old)
    assert {stat.S_IMODE((root / path).lstat().st_mode) for path in ("made", "made/on", "made/on/the")} == {0o755}
    read_only, top = (root / "ro").lstat(), root.lstat()
    assert (stat.S_IMODE(read_only.st_mode), read_only.st_mtime, read_only.st_uid) == (0o555, 9, 10)
    assert (stat.S_IMODE(top.st_mode), top.st_mtime) == (0o711, 18)


def test_the_later_entry_of_a_directory_counts(tar_tool: TarTool, root: Path) -> None:
    data = (
        directory(b"d", mode=b"0000700\0") + file(b"d/f") + directory(b"d/", mode=b"0000750\0", mtime=b"00000000005\0")
    )
    tar_tool.unpack(data + END, root)
    assert stat.S_IMODE((root / "d").lstat().st_mode) == 0o750
    assert (root / "d").lstat().st_mtime == 5


def test_what_no_entry_of_a_layer_names_has_the_time_0(tar_tool: TarTool, root: Path) -> None:
    data = file(b"a/b/f") + block(b"l", b"2", link=b"a") + file(b"l/c/f") + file(b"named/f") + file(b"e/.wh.gone")
    data += directory(b"named", mtime=b"00000000005\0")
    tar_tool.unpack(data + END, root, UNPACK_LAYER)
    times = {path: (root / path).lstat().st_mtime_ns for path in (".", "a", "a/b", "a/c", "e", "named")}
    assert times == {".": 0, "a": 0, "a/b": 0, "a/c": 0, "e": 0, "named": 5 * 10**9}
    tar_tool.unpack(directory(b"./", mtime=b"00000000007\0") + file(b"g") + END, root, UNPACK_LAYER)
    assert root.lstat().st_mtime == 7


def test_what_no_entry_names_elsewhere_is_made_now(tar_tool: TarTool, root: Path) -> None:
    before = root.lstat().st_mtime_ns
    tar_tool.unpack(file(b"a/f") + END, root)
    assert root.lstat().st_mtime_ns >= before > 0
    assert (root / "a").lstat().st_mtime_ns >= before


def test_a_late_mode_reaches_only_the_directory_it_is_for(tar_tool: TarTool, root: Path) -> None:
    (root / "b/sub").mkdir(mode=0o750, parents=True)
    data = directory(b"a") + block(b"l", b"2", link=b"a") + directory(b"l/sub", mode=b"0000777\0")
    tar_tool.unpack(data + block(b"l", b"2", link=b"b") + END, root)
    assert (root / "l/sub").samefile(root / "b/sub")
    assert stat.S_IMODE((root / "b/sub").lstat().st_mode) == 0o750


def test_keep_directories(tar_tool: TarTool, root: Path) -> None:
    (root / "old").mkdir(mode=0o710)
    os.chown(root / "old", 3, 4)
    before = root.lstat()
    data = directory(b".", mode=b"0000700\0") + directory(b"old", mode=b"0000777\0") + file(b"old/f")
    tar_tool.unpack(data + directory(b"new", mode=b"0000701\0") + END, root, UNPACK_KEEP_DIRECTORIES)
    found = (root / "old").lstat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o710, 3, 4)
    assert stat.S_IMODE((root / "new").lstat().st_mode) == 0o701
    assert root.lstat().st_mode == before.st_mode


def test_owner_root(tar_tool: TarTool, root: Path) -> None:
    high = (0x80 << 56 | 1 << 40).to_bytes(8, "big")
    tar_tool.unpack(file(b"f", uid=high, gid=b"0001750\0") + END, root, UNPACK_OWNER_ROOT)
    assert ((root / "f").lstat().st_uid, (root / "f").lstat().st_gid) == (0, 0)


@pytest.mark.parametrize("flags", [0, UNPACK_LAYER])
def test_what_a_directory_hands_down_is_not_for_its_own_entries(tar_tool: TarTool, root: Path, flags: int) -> None:
    """Nor for a directory that no entry names."""
    acl = pax((b"SCHILY.xattr." + ACL.encode(), ACL_OF_1000))
    data = acl + directory(b"d/") + file(b"d/f", b"x", mode=b"0000640\0") + file(b"d/unsaid/g") + block(b"d/s", b"6")
    tar_tool.unpack(data + directory(b"d/sub/") + END, root, flags)
    assert os.getxattr(root / "d", ACL) == ACL_OF_1000
    assert [os.listxattr(root / "d" / name) for name in ("f", "s", "sub", "unsaid", "unsaid/g")] == [[]] * 5
    assert stat.S_IMODE((root / "d/f").lstat().st_mode) == 0o640


def test_capability_and_setuid_survive_the_change_of_owner(tar_tool: TarTool, root: Path) -> None:
    ping = bytes.fromhex("0100000200200000000000000000000000000000")
    data = pax((b"SCHILY.xattr.security.capability", ping)) + file(b"ping", b"x", uid=b"0001750\0", mode=b"0006755\0")
    data += pax((b"SCHILY.xattr.trusted.note", b"t")) + block(b"s", b"2", link=b"ping")
    data += pax((b"SCHILY.xattr.security.selinux", b"label")) + file(b"labelled")
    tar_tool.unpack(data + END, root)
    assert os.getxattr(root / "ping", "security.capability") == ping
    assert stat.S_IMODE((root / "ping").lstat().st_mode) == 0o6755
    assert os.getxattr(root / "s", "trusted.note", follow_symlinks=False) == b"t"
    assert os.listxattr(root / "labelled") == []


# Attack class 12: names


@pytest.mark.parametrize("name", [b"../canary", b"a/../../canary", b"..", b"/../canary", b"a/..", b"./../canary"])
def test_dot_dot_is_refused(tar_tool: TarTool, root: Path, name: bytes) -> None:
    assert refused(tar_tool, file(name, b"bad") + END, root)[0] == "EXDEV"
    assert refused(tar_tool, pax((b"path", name)) + file(b"x", b"bad") + END, root)[0] == "EXDEV"
    assert refused(tar_tool, block(b"h", b"1", link=name) + END, root)[0] == "EXDEV"
    assert list(root.iterdir()) == []


def test_absolute_names_stay_inside(tar_tool: TarTool, root: Path) -> None:
    tar_tool.unpack(file(b"//etc///passwd", b"x") + block(b"h", b"1", link=b"/etc/passwd") + END, root)
    assert (root / "etc/passwd").samefile(root / "h")


def test_symlinked_parents_end_at_the_root(tar_tool: TarTool, root: Path) -> None:
    outside = os.fsencode(root.parent)
    data = block(b"usr", b"2", link=b"real/usr") + directory(b"real/usr") + file(b"usr/f", b"x")
    data += directory(b"in") + block(b"in/up", b"2", link=b"../../../../../in") + file(b"in/up/g", b"y")
    tar_tool.unpack(data + END, root)
    assert (root / "real/usr/f").read_bytes() == b"x"
    assert (root / "in/g").read_bytes() == b"y"
    for flags in (0, UNPACK_LAYER):
        data = block(b"out", b"2", link=outside) + file(b"out/canary", b"bad")
        assert refused(tar_tool, data + END, root, flags) == ("ENOTDIR", "out/canary")


def test_hard_links_do_not_leave_the_root(tar_tool: TarTool, root: Path) -> None:
    outside = os.fsencode(root.parent)
    data = block(b"out", b"2", link=outside) + block(b"h", b"1", link=b"out/canary")
    assert refused(tar_tool, data + file(b"h", b"bad") + END, root) == ("ENOENT", "h")
    data = block(b"s", b"2", link=outside + b"/canary") + block(b"h", b"1", link=b"s") + file(b"h", b"mine")
    tar_tool.unpack(data + END, root)
    assert (root / "h").read_bytes() == b"mine"
    assert (root / "s").is_symlink()


def test_nothing_is_written_through(tar_tool: TarTool, root: Path) -> None:
    (root / "precious").write_bytes(b"precious")
    (root / "soft").symlink_to("precious")
    os.link(root / "precious", root / "hard")
    os.mkfifo(root / "fifo")
    (root / "dir").symlink_to(".")
    data = (
        b"".join(file(name, b"new") for name in (b"soft", b"hard", b"fifo")) + directory(b"dir") + file(b"dir/precious")
    )
    tar_tool.unpack(data + END, root)
    assert (root / "precious").read_bytes() == b"precious"
    assert [(root / name).read_bytes() for name in ("soft", "hard", "fifo")] == [b"new"] * 3
    assert not (root / "dir").is_symlink()
    assert (root / "dir/precious").read_bytes() == b""


def test_a_link_to_itself_keeps_the_file(tar_tool: TarTool, root: Path) -> None:
    tar_tool.unpack(file(b"f", b"x") + block(b"f", b"1", link=b"f") + block(b"f", b"1", link=b"./f") + END, root)
    assert (root / "f").read_bytes() == b"x"


def test_a_parent_replaced_meanwhile_is_resolved_again(tar_tool: TarTool, root: Path) -> None:
    data = directory(b"one") + directory(b"two") + block(b"at", b"2", link=b"one") + file(b"at/x")
    data += block(b"at", b"2", link=b"two") + file(b"at/y")
    tar_tool.unpack(data + END, root)
    assert (root / "one/x").is_file()
    assert (root / "two/y").is_file()


def test_a_parent_that_replaces_its_own_way_is_resolved_again(tar_tool: TarTool, root: Path) -> None:
    data = directory(b"a") + block(b"a/up", b"2", link=b"..") + file(b"a/up/a", b"now a file") + file(b"a/up/x")
    assert refused(tar_tool, data + END, root, UNPACK_LAYER) == ("ENOTDIR", "a/up/x")
    assert not (root / "x").exists()


@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"6"])
def test_the_root_is_a_directory(tar_tool: TarTool, root: Path, kind: bytes) -> None:
    assert refused(tar_tool, block(b".", kind, link=b"/etc") + END, root) == ("ENOTDIR", "./")


def test_something_in_the_way(tar_tool: TarTool, root: Path) -> None:
    assert refused(tar_tool, file(b"d/f") + file(b"d") + END, root) == ("EISDIR", "d")
    assert refused(tar_tool, file(b"f") + file(b"f/g") + END, root) == ("ENOTDIR", "f/g")
    assert refused(tar_tool, file(b"f") + file(b"f/g") + END, root, UNPACK_LAYER) == ("ENOTDIR", "f/g")


def test_long_paths(tar_tool: TarTool, root: Path) -> None:
    deep = b"a/" * 2000 + b"f"
    tar_tool.unpack(pax((b"path", deep)) + block(b"x") + END, root)
    at = os.open(root, os.O_RDONLY)
    for _ in range(2000):
        below = os.open("a", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.stat("f", dir_fd=at)
    os.close(at)
    assert refused(tar_tool, pax((b"path", b"a/" * 2047 + b"ff")) + block(b"x") + END, root)[0] == "ENAMETOOLONG"
    assert refused(tar_tool, gnu(b"L", b"a/" * 5000) + block(b"x") + END, root)[0] == "ENAMETOOLONG"
    long_name = pax((b"path", b"c" * 256)) + block(b"x")
    assert refused(tar_tool, long_name + END, root)[0] == "ENAMETOOLONG"


def test_a_tree_deeper_than_any_path_is_replaced(tar_tool: TarTool, root: Path) -> None:
    def links(i: int) -> bytes:
        """Goes 1900 levels down from symlink i, and makes symlink i + 1 lead there."""
        end = b"l%d/" % i + b"d/" * 1900 + b"end"
        return pax((b"path", end)) + directory(b"x") + pax((b"linkpath", end)) + block(b"l%d" % (i + 1), b"2")

    data = directory(b"t") + block(b"l0", b"2", link=b"t") + b"".join(map(links, range(3)))
    tar_tool.unpack(data + file(b"t", b"gone") + file(b"after"), root, UNPACK_LAYER)
    assert (root / "t").read_bytes() == b"gone"
    assert (root / "after").is_file()


# Attack class 12: layers


@pytest.mark.parametrize("order", [1, -1])
def test_whiteouts_in_any_order(tar_tool: TarTool, root: Path, order: int) -> None:
    parts = [file(b"d/.wh.gone"), file(b".wh.file"), file(b"file", b"x"), file(b".wh.dir"), file(b"dir/f", b"y")]
    parts += [file(b"opq/.wh..wh..opq"), file(b"opq/own", b"z"), block(b".wh.link", b"2", link=b"x")]
    parts += [file(b".wh..wh.plnk/12.34"), file(b".wh..wh.aufs")]
    tar_tool.unpack(b"".join(parts[::order]) + END, root, UNPACK_LAYER)
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == {
        "d",
        "d/gone",
        "file",
        "dir",
        "dir/f",
        "opq",
        "opq/own",
        "link",
    }
    assert is_whiteout(root / "d/gone")
    assert is_whiteout(root / "link")
    assert (root / "file").read_bytes() == b"x"
    assert (root / "dir/f").read_bytes() == b"y"
    assert (root / "opq/own").read_bytes() == b"z"
    assert os.getxattr(root / "opq", OPAQUE) == b"y"
    assert os.getxattr(root / "dir", OPAQUE) == b"y"
    assert os.listxattr(root / "d") == []


@pytest.mark.parametrize("order", [1, -1])
def test_a_directory_beside_its_whiteout_is_opaque(tar_tool: TarTool, root: Path, order: int) -> None:
    parts = [file(b".wh.dir"), directory(b"dir")]
    tar_tool.unpack(b"".join(parts[::order]) + END, root, UNPACK_LAYER)
    assert os.getxattr(root / "dir", OPAQUE) == b"y"


def test_whiteouts_through_symlinks_stay_in_the_layer(tar_tool: TarTool, root: Path) -> None:
    outside = os.fsencode(root.parent)
    data = block(b"out", b"2", link=outside) + file(b"out/.wh.canary")
    assert refused(tar_tool, data + END, root, UNPACK_LAYER) == ("ENOTDIR", "out/.wh.canary")
    data = block(b"e", b"2", link=b"/real") + directory(b"real") + file(b"e/.wh.x") + file(b"e/.wh..wh..opq")
    tar_tool.unpack(data + END, root, UNPACK_LAYER)
    assert is_whiteout(root / "real/x")
    assert os.getxattr(root / "real", OPAQUE) == b"y"


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"a/.wh.", b".wh.a/b"])
def test_bad_whiteouts(tar_tool: TarTool, root: Path, name: bytes) -> None:
    assert refused(tar_tool, file(name) + END, root, UNPACK_LAYER) == ("EINVAL", name.decode())
    assert list(root.iterdir()) in ([], [root / "a"])


def test_whiteout_names_mean_nothing_outside_layers(tar_tool: TarTool, root: Path) -> None:
    tar_tool.unpack(file(b".wh.x", b"1") + file(b".wh..wh..opq", b"2") + END, root)
    assert (root / ".wh.x").read_bytes() == b"1"
    assert os.listxattr(root) == []


def test_a_file_replaces_a_directory_of_its_layer(tar_tool: TarTool, root: Path) -> None:
    data = b"".join(file(b"d/%d/%d" % (i, j)) for i in range(30) for j in range(30))
    tar_tool.unpack(
        data + block(b"d/s", b"2", link=b"/keep") + file(b"keep/k") + file(b"d", b"x") + END, root, UNPACK_LAYER
    )
    assert (root / "d").read_bytes() == b"x"
    assert (root / "keep/k").is_file()


@pytest.mark.parametrize("flags", [0, UNPACK_LAYER])
def test_overlay_marks_cannot_be_forged(tar_tool: TarTool, root: Path, flags: int) -> None:
    assert refused(tar_tool, block(b"c", b"3") + END, root, flags) == ("EPERM", "c")
    for name in (b"user.overlay.redirect", b"trusted.overlay.opaque", b"user.overlay.opaque"):
        forged = pax((b"SCHILY.xattr." + name, b"/etc"))
        assert refused(tar_tool, forged + directory(b"d") + END, root, flags) == ("EPERM", "d")
        assert refused(tar_tool, forged + file(b"f") + END, root, flags) == ("EPERM", "f")
    assert refused(tar_tool, file(b".wh.x") + block(b"h", b"1", link=b"x") + END, root, UNPACK_LAYER) == ("EPERM", "h")


@pytest.mark.parametrize(
    ("name", "answer"),
    [(b"user.\0x", "EBADMSG"), (b"user.", "EINVAL"), (b"user." + b"n" * 300, "ERANGE"), (b"n" * 1000, "ENAMETOOLONG")],
)
def test_bad_attribute_names(tar_tool: TarTool, root: Path, name: bytes, answer: str) -> None:
    data = pax((b"SCHILY.xattr." + name, b"v")) + file(b"f") + END
    assert refused(tar_tool, data, root)[0] == answer


def test_odd_attribute_names(tar_tool: TarTool, root: Path) -> None:
    # The keyword ends at the first "="; a name space that the kernel does not know belongs to another system.
    records = [(b"SCHILY.xattr.user.x=y", b"v"), (b"SCHILY.xattr.", b"v"), (b"SCHILY.xattr.com.apple", b"v")]
    tar_tool.unpack(pax(*records) + file(b"f") + END, root)
    assert {name: os.getxattr(root / "f", name) for name in os.listxattr(root / "f")} == {"user.x": b"y=v"}


# Damage and bounds


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("value", [2**32 - 1, 2**32, 2**40, -1])
def test_id_overflow(tar_tool: TarTool, root: Path, field: str, value: int) -> None:
    binary = (value % 2**63 | 1 << 63).to_bytes(8, "big")
    assert refused(tar_tool, file(b"f", **{field: binary}) + END, root) == ("EOVERFLOW", "f")
    if value > 0:
        assert refused(tar_tool, pax((field.encode(), b"%d" % value)) + file(b"f") + END, root) == ("EOVERFLOW", "f")
    assert list(root.iterdir()) == []


def test_a_device_number_out_of_range(tar_tool: TarTool, root: Path) -> None:
    high = (1 << 63 | 1 << 32).to_bytes(8, "big")
    assert refused(tar_tool, block(b"c", b"3", major=high) + END, root) == ("EOVERFLOW", "c")


def test_truncation_at_every_block(tar_tool: TarTool, root: Path) -> None:
    entries = [pax((b"mtime", b"1.5")) + file(b"a", b"x" * 700), gnu(b"L", b"b") + file(b"x", b"yy"), directory(b"c")]
    whole = b"".join(entries) + END
    boundaries = {sum(map(len, entries[:i])) for i in range(len(entries) + 1)}
    for cut in range(0, len(whole) - 1024 + 1, 256):
        if cut in boundaries:
            tar_tool.unpack(whole[:cut], root)
        else:
            assert refused(tar_tool, whole[:cut], root)[0] == "EBADMSG", cut
    tar_tool.unpack(whole[:-512], root)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"not an archive", "EBADMSG"),
        (b"not an archive" * 100, "EBADMSG"),
        (file(b"f")[:100] + b"7" + file(b"f")[101:] + END, "EBADMSG"),
        (bytes(512) + file(b"f"), "EBADMSG"),
        (block(b"") + END, "EBADMSG"),
        (block(b"f", size=b"0000000000x\0") + END, "EBADMSG"),
        (block(b"f", size=b"\xff" * 12) + END, "EBADMSG"),
        (block(b"f", size=b"\x80\xff" + b"\xff" * 10) + END, "EOVERFLOW"),
        (block(b"f", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7) + END, "EBADMSG"),
        (block(b"f", b"Z") + END, "ENOTSUP"),
        (pax((b"path", b"f")) + END, "EBADMSG"),
        (pax((b"path", b"a\0b")) + block(b"f") + END, "EBADMSG"),
        (pax((b"mtime", b"soon")) + block(b"f") + END, "EBADMSG"),
        (pax((b"mtime", b"9" * 30)) + block(b"f") + END, "EOVERFLOW"),
        (pax((b"size", b"-1")) + block(b"f") + END, "EBADMSG"),
        (pax((b"size", b"9" * 30)) + block(b"f") + END, "EOVERFLOW"),
        (pax((b"SCHILY.xattr.user.big", b"v" * (1 << 20))) + block(b"f") + END, "E2BIG"),
        (block(b"x", b"x", size=b"77777777777\0") + END, "E2BIG"),
    ]
    + [
        (block(b"x", b"x", size=b"%011o\0" % len(data)) + padded(data) + block(b"f") + END, "EBADMSG")
        for data in (
            b"6 a=b",
            b"4 a=\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"2 ",
            b"-6 a=b\n",
            b"6 aab\n",
            b"1" * 40,
            b"\n",
            b"6  ",
        )
    ],
)
def test_damaged(tar_tool: TarTool, root: Path, data: bytes, answer: str) -> None:
    assert refused(tar_tool, data, root)[0] == answer


def test_random_damage(tar_tool: TarTool, root: Path) -> None:
    """Whatever is wrong inside a header whose checksum is right: an answer, and nothing outside the root."""
    sound = gnu(b"L", b"long/" * 30) + file(b"x", b"data" * 200) + pax((b"mtime", b"1.5"), (b"linkpath", b"f"))
    sound += block(b"l", b"2", link=b"g") + directory(b"d/", uid=b"0000012\0") + block(b"h", b"1", link=b"l") + END
    chance = random.Random(12)
    # Bytes that say something: most of a header is zeros, and content is only content.
    places = [at for at, byte in enumerate(sound) if byte and sound[at : at + 8] != b"data" * 2]
    answers = set()
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            data[chance.choice(places)] = chance.choice(b"\0\x80\xff /.=0127xLKg\n")
        for at in range(0, len(data) - 1024, 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        try:
            tar_tool.unpack(bytes(data), root, chance.choice((0, UNPACK_LAYER)), limit=1 << 20)
        except TarError as error:
            answers.add(error.errno)
    assert len(answers) > 3


def test_limit(tar_tool: TarTool, root: Path) -> None:
    two = file(b"a", b"x" * 600) + file(b"b", b"y" * 400)
    tar_tool.unpack(two + END, root, limit=1000)
    assert refused(tar_tool, two + END, root, limit=999) == ("EFBIG", "b")
    bomb = block(b"bomb", size=b"\x80" + (10 << 30).to_bytes(11, "big"))
    before = time.monotonic()
    assert refused(tar_tool, bomb + bytes(4096), root, limit=1 << 20) == ("EFBIG", "bomb")
    assert time.monotonic() - before < 5
    assert not (root / "bomb").exists()
    assert refused(tar_tool, two + END + bytes(8 << 20), root, limit=2000)[0] == "EFBIG"


def test_what_follows_the_end_is_read(tar_tool: TarTool, root: Path) -> None:
    command = [str(tar_tool.program), "unpack", str(root), "0", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={"ASAN_OPTIONS": "detect_leaks=0"}) as process:
        assert process.stdin
        process.stdin.write(file(b"f", b"x") + END)
        for _ in range(64):
            process.stdin.write(bytes(1 << 16))
        process.stdin.close()
        assert process.wait(60) == 0
    assert (root / "f").read_bytes() == b"x"


def test_many_directories(tar_tool: TarTool, root: Path) -> None:
    data = b"".join(directory(b"d/%05d" % i) + file(b"d/%05d/f" % i, b"x") for i in range(5000))
    tar_tool.unpack(data + END, root, UNPACK_LAYER)
    assert sum(1 for _ in root.rglob("f")) == 5000


def test_a_large_file(tar_tool: TarTool, root: Path) -> None:
    data = os.urandom(5 << 20) + b"odd"
    tar_tool.unpack(file(b"f", data) + file(b"after", b"1") + END, root)
    assert (root / "f").read_bytes() == data
    assert (root / "after").read_bytes() == b"1"


def test_destination_below_the_root(tar_tool: TarTool, root: Path) -> None:
    (root / "opt").mkdir()
    (root / "etc").mkdir()
    data = block(b"l", b"2", link=b"/etc") + file(b"l/f", b"x") + file(b"/g", b"y")
    tar_tool.unpack(data + END, root, destination="/opt")
    assert (root / "etc/f").read_bytes() == b"x"
    assert (root / "opt/g").read_bytes() == b"y"


def test_in_a_user_namespace(tar_tool: TarTool, root: Path) -> None:
    """Rootless: whiteouts can be made, devices cannot and are passed over, foreign ids are an error."""
    tool = evolve(tar_tool, inside=("unshare", "--user", "--map-root-user"))
    data = file(b".wh.gone") + block(b"null", b"3", major=b"0000001\0", minor=b"0000003\0") + directory(b"opq")
    data += pax((b"SCHILY.xattr.trusted.note", b"t")) + file(b"opq/.wh..wh..opq") + file(b"f", b"x", uid=b"0001750\0")
    tool.unpack(data + END, root, UNPACK_LAYER | UNPACK_OWNER_ROOT)
    assert {path.name for path in root.iterdir()} == {"gone", "opq", "f"}
    assert is_whiteout(root / "gone")
    assert os.getxattr(root / "opq", OPAQUE) == b"y"
    with pytest.raises(TarError) as caught:
        tool.unpack(file(b"mine", uid=b"0001750\0") + END, root)
    assert (caught.value.errno, caught.value.subject) == (errno.EINVAL, "mine")


def test_errors_name_the_entry(tar_tool: TarTool, root: Path) -> None:
    good = file(b"good", b"x")
    assert refused(tar_tool, good + block(b"/odd/./name", b"V") + END, root) == ("ENOTSUP", "odd/name")
    assert refused(tar_tool, good + file(b"//a//../b") + END, root) == ("EXDEV", "//a//../b")
    assert refused(tar_tool, good + file(b"cut", b"x" * 600)[:-300], root) == ("EBADMSG", "cut")
    assert refused(tar_tool, good + b"noise" * 200, root) == ("EBADMSG", "")
    name, subject = refused(tar_tool, good + pax((b"path", b"long/" * 1000)) + block(b"x") + END, root)
    assert (name, subject[:10]) == ("ENAMETOOLONG", "long/long/")
    assert refused(tar_tool, good + pax((b"path", b"p"), (b"uid", b"me")) + block(b"x"), root) == ("EBADMSG", "p")


# Against GNU tar


@pytest.mark.parametrize("form", ["posix", "gnu", "ustar", "oldgnu"])
def test_same_as_gnu_tar(tar_tool: TarTool, tmp_path_factory: pytest.TempPathFactory, root: Path, form: str) -> None:
    work = tmp_path_factory.mktemp("gnu")
    source, theirs = work / "source", work / "theirs"
    tar_tool.unpack(archive(kinds), _made(source))
    (source / ("n" * 90) / ("m" * 90)).mkdir(parents=True)
    _made(theirs)
    xattrs = ["--xattrs", "--xattrs-include=*"] if form == "posix" else []
    if xattrs:
        os.setxattr(source / "d/file", "user.note", b"a\0b")
        os.utime(source / "d/file", ns=(0, 1234567890123456789))
    command = ["tar", f"--format={form}", *xattrs, "--numeric-owner"]
    data = subprocess.run([*command, "-C", source, "-cf-", "."], check=True, capture_output=True, timeout=60).stdout
    subprocess.run([*command, "-C", theirs, "-xpf-"], input=data, check=True, timeout=60)
    tar_tool.unpack(data, root)
    assert snapshot(root) == snapshot(theirs)


def _made(path: Path) -> Path:
    path.mkdir()
    return path
