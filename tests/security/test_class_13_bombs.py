"""Attack class 13: what is small outside and without end inside is refused after bounded bytes, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from archives import END, block, directory, file, padded, pax
from fake import digest_of
from pictures import CONFIG, MANIFEST, Layout, dump

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
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


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


# -- what is parsed, in a process of its own, so that its memory is known ----------------------------------------------

ENTRY = """
import json, sys
import pylxc
from pathlib import Path
def most(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024
root, verb, what, weakened = sys.argv[1:]
engine = pylxc.Engine(root)
assert engine.store
exec(weakened)
before, said = most("VmPeak"), ""
try:
    getattr(pylxc.Image, verb)(what, engine=engine)
except pylxc.PylxcError as error:
    said = str(error)
print(json.dumps([most("VmHWM"), most("VmPeak") - before, said]))
"""


@pytest.fixture
def enter(tmp_path):
    """Let an image in by a verb; return how much memory it took (resident at most, addressed beyond), and the error."""

    def enter(verb: str, what: object, weakened: str = "") -> tuple[int, int, str]:
        words = [sys.executable, "-c", ENTRY, tmp_path / "store", verb, what, weakened]
        path = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, timeout=60, env=path)
        return tuple(json.loads(done.stdout))

    return enter


def window(code: int) -> bytes:
    """A frame of one block of zeros that wants a window of 2 ** (10 + code // 8) bytes (RFC 8878, 3.1.1)."""
    return b"\x28\xb5\x2f\xfd" + bytes((0, code)) + (1 | 1 << 1 | 512 << 3).to_bytes(3, "little") + b"\0"


WINDOWS = {
    "2 GiB": window(21 << 3),
    "the largest": window(0xFF),
    "all of it at once": b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x03\x10\0\0",
}


@pytest.mark.parametrize("size", WINDOWS)
def test_a_window_is_no_larger_than_honest_ones(enter, tmp_path, size):
    (tmp_path / "bomb").write_bytes(WINDOWS[size])
    _, addressed, said = enter("from_tar", tmp_path / "bomb")
    assert "damaged zstd data" in said
    assert addressed < MEMORY


def test_the_limit_of_windows_bites(enter, tmp_path):
    (tmp_path / "bomb").write_bytes(WINDOWS["2 GiB"])
    weakened = "from pylxc.build import archives; archives.ZSTD_WINDOW = 1 << 31"
    assert enter("from_tar", tmp_path / "bomb", weakened)[1] > 2 << 30


def members(count: int) -> bytes:
    return gzip.compress(b"", mtime=0) * count + gzip.compress(file(b"f", b"x") + END)


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_gzip_members_without_number(enter, tmp_path, count):
    """Each takes as long as any other, and nothing is kept of it."""
    (tmp_path / "bomb").write_bytes(members(count))
    resident, _, said = enter("from_tar", tmp_path / "bomb")
    assert (said, resident < MEMORY) == ("", True)


def wide(size: int) -> bytes:
    """Lists in lists, none of them deep: two bytes of text each, and a hundred in memory."""
    piece = b"[" * 90 + b"]" * 90 + b","
    return b"[" + piece * ((size - 200) // len(piece)) + b"0]"


DOCUMENTS = {
    "a million descriptors": lambda size: b"[" + b"{}," * min(1_000_000, size // 3 - 9) + b"{}]",
    "nested deeply": lambda size: b"[" * (size // 2 - 99) + b"]" * (size // 2 - 99),
    "lists without number": wide,
}
PLACES = ("the manifest", "the configuration")
SIZES = {"the manifest": 4 * MIBI - 4096, "the configuration": 16 * MIBI - 4096}


def picture(document: str, place: str) -> tuple[Layout, dict[str, object]]:
    """An image with such a document in place of one of its own; and the descriptor of what names it."""
    text = DOCUMENTS[document](SIZES[place])
    made = Layout()
    if place == "the manifest":
        bomb = b'{"schemaVersion":2,"manifests":' + text + b"}"
        made["index.json"] = bomb
        return made, made.blob(bomb, "application/vnd.oci.image.index.v1+json")
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":' + text + b"}"
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": made.blob(config, CONFIG), "layers": []}
    entry = made.blob(dump(manifest), MANIFEST)
    made.top(entry)
    return made, entry


def written(made: Layout, place: Path) -> Path:
    """Write a layout as a directory."""
    for name, data in made.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def offered(made: Layout, entry: dict[str, object], fake) -> str:
    """Let the fake registry have a layout."""
    for data in made.values():
        fake.add(data)
    fake.add_manifest("1", fake.blobs[entry["digest"]], entry["mediaType"])
    return f"{fake.host}/app:1"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_that_swell(enter, fake, tmp_path, document, place):
    made, entry = picture(document, place)
    for verb, what in (("pull", offered(made, entry, fake)), ("load", written(made, tmp_path / "layout"))):
        resident, _, said = enter(verb, what)
        assert "expected" in said or "cannot be used" in said
        assert resident < MEMORY


def test_the_limit_of_values_bites(enter, tmp_path):
    made, _ = picture("lists without number", "the manifest")
    weakened = "from pylxc import untrusted; untrusted.MOST = untrusted.DEEPEST = 1 << 40"
    assert enter("load", written(made, tmp_path / "layout"), weakened)[0] > MEMORY


def test_documents_of_many_gigabytes_are_not_read(enter, fake, tmp_path):
    """Whether their size is said or not, and whatever is said; in a registry and in an archive."""
    made, entry = picture("a million descriptors", "the configuration")
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])
    place, sent = f"blobs/sha256/{manifest['config']['digest'][7:]}", []

    def endless(handler) -> None:
        handler.answer(200, Content_Length=None, Transfer_Encoding="chunked", Content_Type=MANIFEST)
        try:
            for _ in range(4 << 14):
                handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent.append(1 << 16)
        except OSError:
            handler.close_connection = True

    pulled, layout = offered(made, entry, fake), written(made, tmp_path / "layout")
    os.truncate(layout / place, 4 << 30)  # a hole
    fake.always(f"GET .*{manifest['config']['digest']}", endless)
    for said in (100, 4 << 30):
        manifest["config"]["size"] = said
        changed = made.blob(dump(manifest), MANIFEST)
        fake.add_manifest("1", dump(manifest))
        made.top(changed)
        for name in ("index.json", f"blobs/sha256/{digest_of(dump(manifest))[7:]}"):
            (layout / name).write_bytes(made[name])
        for verb, what in (("pull", pulled), ("load", layout)):
            assert enter(verb, what)[0] < MEMORY
    fake.always("GET .*/manifests/1", endless)
    resident, _, said = enter("pull", pulled)
    assert (resident < MEMORY, "at most" in said) == (True, True)
    assert sum(sent) < 256 * MIBI


def test_the_limit_of_configurations_bites(enter, tmp_path):
    made, entry = picture("a million descriptors", "the configuration")
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])
    layout = written(made, tmp_path / "layout")
    os.truncate(layout / f"blobs/sha256/{manifest['config']['digest'][7:]}", 1 << 30)
    assert enter("load", layout, "from pylxc import documents; documents.CONFIG_LIMIT = 2 << 30")[0] > 1 << 30


def test_lists_of_many_gigabytes_are_not_put_aside(engine):
    for name in (b"index.json", b"manifest.json"):
        said = Source(huge(name, 4 << 30), bytes(MIBI), 4096)
        with pytest.raises(pylxc.StoreError, match=r"json has more than"):
            pylxc.Image.load(said, engine=engine)
        assert said.taken < 4 * MIBI
