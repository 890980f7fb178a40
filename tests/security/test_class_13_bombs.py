"""Attack class 13: what is small outside and without end inside is refused after bounded bytes, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from archives import END, block, directory, file, padded, pax

import pylxc
from pylxc.runtime import transfer

MIBI = 1 << 20
LIMIT = 8 * MIBI
MEMORY = 160 * MIBI  # of a process that unpacks, whatever it is given


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is far too much need not be much."""
    monkeypatch.setattr(transfer, "UNPACKED_LIMIT", LIMIT)


class Source(io.RawIOBase):
    """Gives the same piece of an archive again and again, and counts what was taken."""

    def __init__(self, head: bytes, piece: bytes, times: int) -> None:
        super().__init__()
        self._rest = head
        self._piece, self._times = piece, times
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if not self._rest and self._times:
            self._rest, self._times = self._piece, self._times - 1
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        self.taken += n
        return n


def huge(name: bytes, size: int) -> bytes:
    return block(name, size=b"\x80" + size.to_bytes(11, "big"))


def sizes(store: Path) -> int:
    """Return the bytes that lie in the store's staging places and layers."""
    return sum(path.lstat().st_blocks * 512 for part in ("staging", "layers") for path in (store / part).rglob("*"))


def refused(engine: pylxc.Engine, source: io.RawIOBase) -> pylxc.StoreError:
    with pytest.raises(pylxc.StoreError) as caught:
        pylxc.Image.from_tar(source, engine=engine)
    assert sizes(engine.root) < MIBI
    assert pylxc.Image.list(engine=engine) == []
    return caught.value


GIBI_OF_ZEROS = 10
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("form", PACK)
def test_ten_gibibytes_of_zeros(engine, form):
    """Whether its header says so, or there are only more and more files, or it comes after the end."""
    zeros = PACK[form](bytes(16 * MIBI))
    declared = Source(PACK[form](huge(b"zeros", GIBI_OF_ZEROS << 30)), zeros, GIBI_OF_ZEROS * 64)
    assert refused(engine, declared).path == "a stream: zeros"
    piece = PACK[form](file(b"zeros", bytes(MIBI)) * 16)
    many = Source(b"", piece, GIBI_OF_ZEROS * 64)
    assert refused(engine, many).path == "a stream: zeros"
    after = Source(PACK[form](file(b"small", b"x") + END), zeros, GIBI_OF_ZEROS * 64)
    assert "more than is allowed" in str(refused(engine, after))
    for source, pieces in ((declared, 4), (many, 4), (after, 4)):
        assert source.taken < pieces * max(len(zeros), len(piece)) + MIBI


@pytest.mark.usefixtures("limited")
def test_a_hole_is_as_large_as_it_says(engine):
    """It takes no room where it is unpacked, but it would wherever it is sent."""
    records = ((b"GNU.sparse.size", b"%d" % (1 << 62)), (b"GNU.sparse.map", b"0,1"))
    assert refused(engine, Source(pax(*records) + file(b"hole", b"x"), END, 1)).path == "a stream: hole"


@pytest.mark.usefixtures("limited")
def test_headers_that_never_come_to_an_entry(engine):
    """Of each kind that says something about others; none is content, and all are counted."""
    for kind in (b"x", b"g", b"L", b"K"):
        data = padded(b"9 c=%b\n" % b"abcd") if kind in (b"x", b"g") else padded(b"name")
        piece = (block(b"h", kind, size=b"%011o\0" % (9 if kind in (b"x", b"g") else 5)) + data) * 1000
        endless = Source(piece, piece, 100_000)
        assert "more than is allowed" in str(refused(engine, endless))
        assert endless.taken < 4 * LIMIT


@pytest.mark.usefixtures("limited")
def test_limit_bites(engine, weaken):
    data = file(b"f", bytes(LIMIT + 1)) + END
    assert refused(engine, io.BytesIO(data)).path == "a stream: f"
    with weaken("ARCHIVE_LIMIT"):
        # What nobody refused has unpacked all of it.
        assert pylxc.Image.from_tar(io.BytesIO(data), engine=engine).size > LIMIT


def test_a_header_without_end(engine, weaken):
    """Its size alone is the answer: nothing of it is read."""
    said = Source(block(b"x", b"x", size=b"77777777777\0"), bytes(MIBI), 10_000)
    assert "headers" in str(refused(engine, said))
    assert said.taken < 8 * MIBI
    data = pax((b"comment", b"c" * 2 * MIBI)) + file(b"f") + END
    assert "headers" in str(refused(engine, io.BytesIO(data)))
    with weaken("EXTENSION_SIZE"):
        assert pylxc.Image.from_tar(io.BytesIO(data), engine=engine).layers


def test_attributes_without_number(engine, weaken):
    """More of them than the kernel lists of any file, most of them of a kind that it does not know."""
    records = [(b"SCHILY.xattr.com.example.%05d.%b" % (i, b"n" * 80), b"") for i in range(1000)]
    data = pax(*records) + file(b"f") + END
    assert refused(engine, io.BytesIO(data))
    with weaken("XATTR_SIZE"):
        assert pylxc.Image.from_tar(io.BytesIO(data), engine=engine).layers


def deep(i: int) -> bytes:
    """Make one of many directories with a path as long as may be."""
    return pax((b"path", (b"d" * 250 + b"/") * 15 + b"%08d" % (i % 4))) + directory(b"x")


def test_directories_without_number(engine, weaken):
    """What is kept of each until the end is bounded."""
    piece = b"".join(map(deep, range(1000)))
    entries = Source(b"", piece, 9)
    assert "more names" in str(refused(engine, entries))
    with weaken("LATE_SIZE"):
        image = pylxc.Image.from_tar(Source(b"", piece, 9), engine=engine)
        assert len(list(image.layers[0].entries())) == 19


BOMBS = {
    "directories": lambda: b"".join(deep(i) for i in range(8_000)) + END,
    "entries": lambda: file(b"f") * 10_000 + END,
    "holes": lambda: (
        pax(
            *(
                (b"GNU.sparse." + k, v)
                for k, v in ((b"major", b"1"), (b"minor", b"0"), (b"realsize", b"%d" % (1 << 30)))
            )
        )
        + file(b"f", padded(b"%d\n" % 300_000 + b"".join(b"%d\n0\n" % (i * 2) for i in range(300_000))))
        + END
    ),
    "attributes": lambda: (
        (pax(*[(b"SCHILY.xattr.com.example.%d" % i, b"v" * 60_000) for i in range(15)]) + file(b"f")) * 40 + END
    ),
}
MEASURE = """
import resource, sys
from pylxc.runtime import transfer
def feed(out):
    while chunk := sys.stdin.buffer.read(1 << 20):
        out.write(chunk)
transfer.unpack(feed, scaffold=sys.argv[1], directory=sys.argv[2], flags=1)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.root  # an ordinary user's tree belongs to other ids
@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded(engine, tmp_path, bomb):
    """That of the process that unpacks, which reads the stream and keeps what it must."""
    root = tmp_path / "root"
    root.mkdir()
    assert engine.store  # which makes the scaffold
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, engine.scaffold, root],
        input=BOMBS[bomb](),
        capture_output=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert int(done.stdout) * 1024 < MEMORY
    subprocess.run(["rm", "-rf", root], check=True, timeout=60)
