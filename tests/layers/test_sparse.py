"""csrc/helper/sparse.c: files with holes, in every form that GNU tar and bsdtar write, and maps that lie."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from archives import END, block, directory, file, padded, pax
from trees import TarError, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import TarTool

WRITERS = {
    "gnu": ["tar", "--format=gnu", "-S"],
    "oldgnu": ["tar", "--format=oldgnu", "-S"],
    "pax 0.0": ["tar", "--format=posix", "-S", "--sparse-version=0.0"],
    "pax 0.1": ["tar", "--format=posix", "-S", "--sparse-version=0.1"],
    "pax 1.0": ["tar", "--format=posix", "-S", "--sparse-version=1.0"],
    "bsdtar": ["bsdtar", "--format=pax"],
}


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """Files whose data begin or end at a hole, lie between two, are none, and one with many pieces."""
    made = tmp_path / "holes"
    made.mkdir()
    pieces = {
        "begins": ([(0, 5000)], 1 << 20),
        "ends": ([(1 << 20, 5000)], (1 << 20) + 5000),
        "between": ([(1 << 16, 4096), (1 << 18, 12345)], 1 << 20),
        "empty": ([], 1 << 20),
        "far": ([(5 << 30, 3)], (6 << 30) + 1),
        "many": ([(at << 16, 4096) for at in range(200)], 201 << 16),
        "long-" + "n" * 150: ([(1 << 16, 100)], 1 << 17),
        "none": ([(0, 100)], 100),
    }
    for name, (data, size) in pieces.items():
        with (made / name).open("wb") as out:
            for offset, n in data:
                out.seek(offset)
                out.write(os.urandom(n))
            out.truncate(size)
    return made


def written(command: list[str], directory: Path) -> bytes:
    done = subprocess.run([*command, "-C", directory, "-cf-", "."], check=True, capture_output=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("writer", WRITERS)
def test_every_form(tar_tool: TarTool, holes: Path, tmp_path: Path, writer: str) -> None:
    (holes / "far").rename(tmp_path / "far")  # more than one cares to compare
    root = tmp_path / "root"
    root.mkdir()
    data = written(WRITERS[writer], holes)
    assert len(data) < 2 << 20
    tar_tool.unpack(data, root)
    expected = {name: (entry[0], *entry[4:7]) for name, entry in snapshot(holes).items()}
    assert {name: (entry[0], *entry[4:7]) for name, entry in snapshot(root).items()} == expected
    assert (root / "many").stat().st_blocks * 512 <= (holes / "many").stat().st_blocks * 512 + 4096
    assert (root / "empty").stat().st_blocks == 0
    with tarfile.open(fileobj=io.BytesIO(tar_tool.pack(root))) as tar:
        found = tar.extractfile("./between".removeprefix("./"))
        assert found
        assert found.read() == (holes / "between").read_bytes()


@pytest.mark.parametrize("writer", WRITERS)
def test_places_beyond_four_gigabytes(tar_tool: TarTool, holes: Path, tmp_path: Path, writer: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for path in holes.iterdir():
        if path.name != "far":
            path.unlink()
    data = written(WRITERS[writer], holes)
    tar_tool.unpack(data, root, limit=(6 << 30) + 1)
    with (holes / "far").open("rb") as ours, (root / "far").open("rb") as theirs:
        assert os.fstat(theirs.fileno()).st_size == (6 << 30) + 1
        assert ours.seek(5 << 30) == theirs.seek(5 << 30)
        assert ours.read(4096) == theirs.read(4096)
    assert (root / "far").stat().st_blocks <= 16
    with pytest.raises(TarError) as caught:  # what a hole takes when it is packed again counts
        tar_tool.unpack(data, root, limit=6 << 30)
    assert (caught.value.errno, caught.value.subject) == (errno.EFBIG, "far")


def entry(*records: tuple[str, str], data: bytes = b"") -> bytes:
    head = pax(*((f"GNU.sparse.{key}".encode(), value.encode()) for key, value in records))
    return head + file(b"f", data) + END


def lines(*numbers: int | str) -> bytes:
    return padded("".join(f"{number}\n" for number in numbers).encode())


V1 = (("major", "1"), ("minor", "0"), ("name", "real"), ("realsize", "1000"))


def test_the_name_is_the_files_own(tar_tool: TarTool, tmp_path: Path) -> None:
    before = pax((b"path", b"GNUSparseFile.0/x"), *((f"GNU.sparse.{k}".encode(), v.encode()) for k, v in V1))
    after = pax(*((f"GNU.sparse.{k}".encode(), v.encode()) for k, v in V1), (b"path", b"GNUSparseFile.0/x"))
    for head in (before, after):
        tar_tool.unpack(head + file(b"x", lines(1, 10, 3) + b"abc") + END, tmp_path)
        assert (tmp_path / "real").read_bytes() == bytes(10) + b"abc" + bytes(987)
        (tmp_path / "real").unlink()
        assert list(tmp_path.iterdir()) == []


LIES = {
    "overlapping": entry(("size", "9"), ("map", "0,4,2,4"), data=b"12345678"),
    "backwards": entry(("size", "9"), ("map", "5,2,0,2"), data=b"1234"),
    "beyond the end": entry(("size", "9"), ("map", "8,2"), data=b"12"),
    "begins beyond the end": entry(("size", "9"), ("map", "10,0")),
    "more than is stored": entry(("size", "9"), ("map", "0,4"), data=b"123"),
    "less than is stored": entry(("size", "9"), ("map", "0,2"), data=b"123"),
    "wraps around": entry(("size", "9"), ("map", f"1,{2**63 - 1}"), data=b"1"),
    "half a pair": entry(("size", "9"), ("map", "0,1,2"), data=b"1"),
    "ends in a comma": entry(("size", "9"), ("map", "0,1,"), data=b"1"),
    "no numbers": entry(("size", "9"), ("map", "a,b")),
    "no size": entry(("map", "0,1"), data=b"1"),
    "another count": entry(("size", "9"), ("numblocks", "2"), ("map", "0,1"), data=b"1"),
    "two offsets": entry(("size", "9"), ("offset", "0"), ("offset", "1")),
    "no offset": entry(("size", "9"), ("numbytes", "1"), data=b"1"),
    "an offset alone": entry(("size", "9"), ("offset", "0")),
    "lines cut off": entry(*V1, data=lines(2, 0, 1)[:6]),
    "lines of words": entry(*V1, data=lines("one", 0, 1)),
    "an endless line": entry(*V1, data=lines("1" * 600)),
    "fewer lines than promised": entry(*V1, data=lines(3, 0, 1)),
    "a map without its last block": entry(*V1, data=lines(1, 0, 0)[:100]),
    "a directory": pax((b"GNU.sparse.size", b"1")) + directory(b"f") + END,
    "two forms at once": pax((b"GNU.sparse.size", b"1")) + block(b"f", b"S", magic=b"ustar  \0") + END,
}
OTHERS = {
    "version 2": (entry(("major", "2"), ("minor", "0"), ("realsize", "1")), "ENOTSUP"),
    "version 1.1": (entry(("major", "1"), ("minor", "1"), ("realsize", "1")), "ENOTSUP"),
    "an unknown record": (entry(("size", "1"), ("colour", "1")), "ENOTSUP"),
    "a number too large": (entry(("size", "9" * 30)), "EOVERFLOW"),
    "more pieces than any file has": (entry(*V1, data=lines((1 << 20) + 1, 0, 1)), "E2BIG"),
    "larger than a file can be": (entry(("size", str(2**63 - 1)), ("map", "")), "EFBIG"),
}


@pytest.mark.parametrize("lie", [*LIES, *OTHERS])
def test_maps_that_lie(tar_tool: TarTool, tmp_path: Path, lie: str) -> None:
    data, answer = (LIES[lie], "EBADMSG") if lie in LIES else OTHERS[lie]
    with pytest.raises(TarError) as caught:
        tar_tool.unpack(data, tmp_path)
    found = errno.errorcode[caught.value.errno]
    assert found == ("ENOTSUP" if answer == "ENOTSUP" else answer)
    # What comes in a record is refused before the header that names the entry.
    assert caught.value.subject in ("f", "real", "")


def old(pieces: list[tuple[int, int]], size: int, *, more: bytes = b"", data: bytes = b"") -> bytes:
    """An entry of type "S": a map of up to four pieces in the header, ``more`` blocks of it after that."""
    made = bytearray(block(b"f", b"S", magic=b"ustar  \0", size=b"%011o\0" % len(data)))
    for index, (offset, n) in enumerate(pieces):
        made[386 + 24 * index : 410 + 24 * index] = b"%011o\0%011o\0" % (offset, n)
    made[482] = bool(more)
    made[483:495] = b"%011o\0" % size
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made) + more + padded(data) + END


def test_old_maps(tar_tool: TarTool, tmp_path: Path) -> None:
    more = (b"%011o\0%011o\0" % (40, 2)).ljust(504, b"\0") + b"\0" * 8
    four = [(0, 1), (10, 1), (20, 1), (30, 1)]
    tar_tool.unpack(old(four, 50, more=more, data=b"123456"), tmp_path)
    expected = bytearray(50)
    for offset, byte in zip((0, 10, 20, 30, 40, 41), b"123456", strict=True):
        expected[offset] = byte
    assert (tmp_path / "f").read_bytes() == bytes(expected)
    endless = b"\0" * 504 + b"\1" + b"\0" * 7
    for data in (
        old(four, 50, more=endless * 3, data=b"1234"),
        old(four[:3], 50, more=more, data=b"12345"),
        old(four, 50, more=more, data=b"123456")[:700],
        old(four, 20, data=b"1234"),
    ):
        with pytest.raises(TarError) as caught:
            tar_tool.unpack(data, tmp_path)
        assert (caught.value.errno, caught.value.subject) == (errno.EBADMSG, "f")
