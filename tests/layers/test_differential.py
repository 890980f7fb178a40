"""One archive, several readers: what the C code makes of it is what GNU tar, bsdtar and Python make of it.

The archives are written by GNU tar and bsdtar in all their forms. Where a reader does less than ours (Python sets no
extended attributes), only what both do is compared.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from trees import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import TarTool
    from trees import Entry

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
GNU = ["tar", "--numeric-owner", "--sort=name"]
XATTRS = ["--xattrs", "--xattrs-include=*"]
BSD = ["bsdtar", "--no-acls", "--no-fflags"]
WRITERS = {
    **{f"gnu {form}": [*GNU, f"--format={form}"] for form in ("v7", "oldgnu", "gnu", "ustar")},
    "gnu posix": [*GNU, "--format=posix", *XATTRS],
    "gnu posix, plain numbers": [*GNU, "--format=posix", "--pax-option=delete=atime,delete=ctime"],
    "bsdtar pax": [*BSD, "--format=pax"],
    "bsdtar pax, its own attributes": [*BSD, "--format=pax", "--options=pax:xattrheader=LIBARCHIVE"],
    "bsdtar restricted pax": [*BSD, "--format=paxr"],
    "bsdtar ustar": [*BSD, "--format=ustar"],
    "bsdtar gnutar": [*BSD, "--format=gnutar"],
}
LIMITED = ("v7", "ustar")  # no names over 255 bytes, no ids over 2097151
READERS: dict[str, list[str]] = {
    "gnu": [*GNU, *XATTRS, "-xpf-"],
    "bsdtar": [*BSD, "--numeric-owner", "--xattrs", "-xpf-"],
}


def make(root: Path, *, limited: bool, special: bool) -> None:
    """Some of everything; ``limited``: what fits into a ustar header; ``special``: what is neither file nor link."""
    (root / "d/e").mkdir(parents=True)
    (root / "d/file").write_bytes(os.urandom(1500))
    os.chown(root / "d/file", 1000, 1001)
    (root / "d/file").chmod(0o4711)
    os.link(root / "d/file", root / "hard")
    (root / "soft").symlink_to("d/file")
    (root / ("n" * 90)).write_bytes(b"n")
    os.chown(root / "soft", 5, 6, follow_symlinks=False)
    if special:
        os.mkfifo(root / "fifo", 0o622)
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 1000))
    if not limited:
        os.mknod(root / "minor", 0o660 | stat.S_IFBLK, os.makedev(259, 300000))
        (root / ("m" * 200) / ("k" * 200)).mkdir(parents=True)
        (root / ("m" * 200) / ("k" * 200) / "long").write_bytes(b"long")
        (root / "far").symlink_to("x/" * 150)
        (root / "rich").write_bytes(b"")
        os.chown(root / "rich", 4_000_000_000, 3_000_000_000)
        os.setxattr(root / "rich", "user.note", b"a\0=\n\xff")
        os.setxattr(root / "rich", "user.empty", b"")
        for name in ("rich", "d/file"):  # one name, and two
            os.setxattr(root / name, "security.capability", CAPABILITY)
        os.setxattr(root / "d", "user.dir", b"on a directory")
        (root / "\u00fc\n").write_bytes(b"utf-8")
    for index, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(0, 10**18 + index * 123456789), follow_symlinks=False)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    def made(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    yield made
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True, timeout=60)


def without(found: dict[str, Entry], *parts: int) -> dict[str, Entry]:
    """Leave out parts of each entry: 3 is the time, 7 the attributes."""
    return {
        name: tuple(value for index, value in enumerate(entry) if index not in parts) for name, entry in found.items()
    }


def comparable(found: dict[str, Entry], writer: str, reader: str) -> dict[str, Entry]:
    """Leave out what the other reader does not do."""
    if reader == "bsdtar":  # leaves the directory alone that it works in
        return {name: entry for name, entry in found.items() if name != "."}
    if writer.startswith("bsdtar"):  # GNU tar forgets the times of some directories when files come in bsdtar's order
        found = {name: e if e[0][:4] != "0o40" else (*e[:3], 0, *e[4:]) for name, e in found.items()}
    return without(found, 7) if "own attributes" in writer else found


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_as_other_readers(tar_tool: TarTool, places: Callable[[str], Path], writer: str) -> None:
    source, ours = places("source"), places("ours")
    limited = writer.endswith(LIMITED)
    make(source, limited=limited, special=not writer.endswith("v7"))
    data = subprocess.run(
        [*WRITERS[writer], "-C", source, "-cf-", "."], check=True, capture_output=True, timeout=60
    ).stdout
    tar_tool.unpack(data, ours)
    found = snapshot(ours)
    for reader, command in READERS.items():
        theirs = places(reader)
        subprocess.run([*command, "-C", theirs], input=data, check=True, timeout=60)
        assert comparable(found, writer, reader) == comparable(snapshot(theirs), writer, reader), reader
    theirs = places("python")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(theirs, filter="fully_trusted")  # noqa: S202  written above
    # Python keeps times as floating point numbers, and sets no attributes.
    assert without(found, 3, 7) == without(snapshot(theirs), 3, 7)
    if "posix" in writer or writer.startswith("bsdtar pax"):
        left_out = (7,) if "plain" in writer else ()
        assert without(found, *left_out) == without(snapshot(source), *left_out)


@pytest.mark.parametrize("reader", READERS)
def test_others_read_what_was_packed(tar_tool: TarTool, places: Callable[[str], Path], reader: str) -> None:
    source, theirs = places("source"), places("theirs")
    make(source, limited=False, special=True)
    data = tar_tool.pack(source)
    subprocess.run([*READERS[reader], "-C", theirs], input=data, check=True, timeout=60)
    assert comparable(snapshot(theirs), "", reader) == comparable(snapshot(source), "", reader)


def test_numbers_beyond_octal(tar_tool: TarTool, places: Callable[[str], Path]) -> None:
    """GNU's base-256, as GNU tar writes it: large ids, times before 1970 and far away."""
    source, ours, theirs = places("source"), places("ours"), places("theirs")
    for index, seconds in enumerate((-1, -(2**31), 2**33 + 5, 0)):
        (source / str(index)).write_bytes(b"x")
        os.chown(source / str(index), 2**21 + index, 4_294_967_294)
        os.utime(source / str(index), ns=(0, seconds * 10**9))
    command = [*GNU, "--format=gnu", "-C", source, "-cf-", "."]
    data = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert b"\xff" * 11 in data
    tar_tool.unpack(data, ours)
    subprocess.run([*READERS["gnu"], "-C", theirs], input=data, check=True, timeout=60)
    found = without(snapshot(ours), 3)
    assert found == without(snapshot(theirs), 3)
    assert {n: e[3] for n, e in snapshot(ours).items() if n != "."} == {
        n: e[3] for n, e in snapshot(source).items() if n != "."
    }
