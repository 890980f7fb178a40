"""The files of a build: which are chosen, that none outside is, the digest, the tar stream, archives."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import socket
import stat
import tarfile
import zlib
from pathlib import Path

import attrs
import pytest
import zstandard

from pylxc.build.archives import is_archive, open_archive, pieces
from pylxc.build.confined import ContextError
from pylxc.build.context import Context
from pylxc.build.modes import Mode
from pylxc.build.selection import Entry
from pylxc.errors import DockerfileError, SpecError, StoreError

SECRET = b"canary of the host"


@pytest.fixture
def root(tmp_path):
    """A context directory with a secret beside it."""
    (tmp_path / "secret").write_bytes(SECRET)
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\n")
    return directory


def fill(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)


def select(root, sources, destination="/d/", **options):
    return Context.open(root).select(sources.split(), destination, **options)


def names(selection):
    return [entry.name for entry in selection.entries]


def tar_of(root, entries):
    out = io.BytesIO()
    Context.open(root).write_tar(entries, out)
    return out.getvalue()


# -- opening


def test_open(root):
    context = Context.open(root)
    assert context.dockerfile_bytes == b"FROM scratch\n"
    assert context.dockerfile_path == "Dockerfile"
    fill(root, {"sub/Other": "FROM x"})
    assert Context.open(str(root), "sub/Other").dockerfile_bytes == b"FROM x"
    assert Context.open(root, root / "sub" / "Other").dockerfile_bytes == b"FROM x"
    (root.parent / "Outside").write_text("FROM y")
    assert Context.open(root, "../Outside").dockerfile_bytes == b"FROM y"


@pytest.mark.parametrize("name", ["None", "sub/None", "Dockerfile/x", "/nonexistent/Dockerfile", "../None", "dangling"])
def test_missing_dockerfile(root, name):
    (root / "dangling").symlink_to("nowhere")
    with pytest.raises(DockerfileError, match="no such file") as caught:
        Context.open(root, name)
    assert (caught.value.path, caught.value.line, caught.value.column) == (name, 1, 1)


def test_a_dockerfile_that_is_no_file(root):
    (root / "directory").mkdir()
    os.mkfifo(root / "fifo")
    for name in ("directory", "fifo", str(root / "fifo")):
        with pytest.raises(DockerfileError, match="not a regular file"):
            Context.open(root, name)
    with (root / "huge").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(DockerfileError, match="larger than"):
        Context.open(root, "huge")


def test_a_dockerfile_link_does_not_lead_out(root):
    (root / "Link").symlink_to(root.parent / "secret")
    with pytest.raises(DockerfileError, match="no such file"):
        Context.open(root, "Link")
    (root / "Inside").symlink_to("/Dockerfile")  # the root is the context's
    assert Context.open(root, "Inside").dockerfile_bytes == b"FROM scratch\n"


def test_missing_context(tmp_path):
    with pytest.raises(SpecError, match="no such directory"):
        Context.open(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="not a directory"):
        Context.open(tmp_path / "file")


def test_ignore_file_beside_the_dockerfile_is_preferred(root):
    fill(root, {"a": "", "b": "", "c": "", ".dockerignore": "a\n", "sub/D": "FROM x", "sub/D.dockerignore": "b\nsub\n"})
    assert "a" not in names(select(root, ".")) and "b" in names(select(root, "."))  # noqa: PT018
    other = Context.open(root, "sub/D").select(["."], "/d/")
    assert names(other) == [".dockerignore", "Dockerfile", "a", "c"]


def test_the_dockerfile_itself_may_be_ignored(root):
    fill(root, {"a": "", ".dockerignore": "Dockerfile\n.dockerignore\n"})
    assert names(select(root, ".")) == ["a"]
    assert Context.open(root).dockerfile_bytes == b"FROM scratch\n"


def test_bad_ignore_file(root):
    fill(root, {".dockerignore": "a\n[\n"})
    with pytest.raises(DockerfileError) as caught:
        Context.open(root)
    assert (caught.value.path, caught.value.line) == (".dockerignore", 2)


# -- choosing


@pytest.mark.parametrize(
    ("sources", "destination", "directory", "expected"),
    [
        ("a", "/x", "/", ["x"]),
        ("a", "/x/", "/x", ["a"]),
        ("a", "x/y", "/w/x", ["y"]),
        ("a", "./", "/w", ["a"]),
        ("a", ".", "/w", ["a"]),
        ("a", "..", "/", ["a"]),
        ("a", "/x/.", "/x", ["a"]),
        ("a", "/", "/", ["a"]),
        ("a", "../../../x", "/", ["x"]),
        ("a", "/isdir", "/isdir", ["a"]),
        ("/a", "/x", "/", ["x"]),
        ("../../a", "/x", "/", ["x"]),
        ("./s/../a", "/x", "/", ["x"]),
        ("s/b.c", "/x/", "/x", ["b.c"]),
        ("a s/b.c", "/x/", "/x", ["a", "b.c"]),
        ("s", "/x", "/x", ["b.c", "b.h", "t", "t/u"]),
        ("s/", "/x/", "/x", ["b.c", "b.h", "t", "t/u"]),
        ("a s", "/x/", "/x", ["a", "b.c", "b.h", "t", "t/u"]),
        ("s/*", "/x/", "/x", ["b.c", "b.h", "u"]),
        ("s/b.?", "/x/", "/x", ["b.c", "b.h"]),
        ("s/b.[!-c]", "/x", "/", ["x"]),
        ("s/b.[^c]", "/x", "/", ["x"]),
        ("*/b.h", "/x", "/", ["x"]),
        ("*/*/u", "/x", "/", ["x"]),
        ("[a]", "/x/", "/x", ["a"]),
        (r"\a", "/x/", "/x", ["a"]),
        ("empty", "/x", "/x", []),
        ("link-to-a", "/x/", "/x", ["link-to-a"]),
        ("link-to-s", "/x", "/x", ["b.c", "b.h", "t", "t/u"]),
        ("link-to-s/t", "/x", "/x", ["u"]),
        ("link-to-s/*.c", "/x/", "/x", ["b.c"]),
        ("*/b.c", "/x", "/", ["x"]),  # through the directory, not through the link to it
        ("link-*-a", "/x/", "/x", ["link-to-a"]),
    ],
)
def test_select(root, sources, destination, directory, expected):
    fill(root, {"a": "A", "s/b.c": "", "s/b.h": "", "s/t/u": "", "empty": None})
    fill(root, {"link-to-a": "-> a", "link-to-s": "-> s"})
    made = select(root, sources, destination, workdir="/w", is_directory=lambda path: path == "/isdir")
    assert (made.directory, names(made)) == (directory, expected)


@pytest.mark.parametrize(
    ("sources", "destination", "reason"),
    [
        ("none", "/x", "no such file"),
        ("a/b", "/x", "no such file"),
        ("a none", "/x/", "no such file"),
        ("a s", "/x", "must end in '/'"),
        ("s/b.*", "/x", "2 files match"),
        ("[", "/x/", "bad pattern"),
        ("loop", "/x", "Too many levels"),
        ("dangling", "/x", "no such file"),
        ("ignored", "/x", "excluded"),
        ("ignored-directory", "/x", "excluded"),
        ("link-to-ignored", "/x", "excluded"),
    ],
)
def test_select_refuses(root, sources, destination, reason):
    fill(root, {"a": "", "s/b.c": "", "s/b.h": "", "loop": "-> loop", "dangling": "-> nowhere", "ignored": ""})
    fill(root, {"ignored-directory/x": "", "link-to-ignored": "-> ignored", ".dockerignore": "ignored*\n"})
    with pytest.raises(ContextError) as caught:
        select(root, sources, destination)
    assert reason in caught.value.reason
    assert caught.value.path in str(caught.value)


def test_ignored_files_are_left_out_and_re_included_ones_brought_with_their_directories(root):
    fill(root, {"a.log": "", "d/e/keep": "", "d/e/x": "", "d/y": "", "f/z": "", ".dockerignore": "*\n!d/e/keep\n"})
    made = select(root, ".")
    assert [(entry.name, entry.kind) for entry in made.entries] == [
        ("d", "directory"),
        ("d/e", "directory"),
        ("d/e/keep", "file"),
    ]
    assert names(select(root, "d")) == ["e", "e/keep"]
    with pytest.raises(ContextError, match="excluded"):
        select(root, "f")


def test_links_inside_a_directory_stay_links(root):
    outside = root.parent / "secret"
    fill(root, {"s/in": "-> ../a", "s/out": f"-> {outside}", "s/up": "-> ../../secret", "s/dangling": "-> none"})
    made = select(root, "s")
    assert {(entry.name, entry.kind, entry.target) for entry in made.entries} == {
        ("in", "symlink", "../a"),
        ("out", "symlink", str(outside)),
        ("up", "symlink", "../../secret"),
        ("dangling", "symlink", "none"),
    }
    assert SECRET not in tar_of(root, made.entries)


@pytest.mark.parametrize("target", ["{outside}/secret", "../secret", "../../../../../../..{outside}/secret"])
@pytest.mark.parametrize("source", ["link", "l*", "directory/link"])
def test_a_link_named_as_a_source_does_not_lead_out(root, source, target):
    (root / "directory").mkdir()
    for link in (root / "link", root / "directory" / "link"):
        link.symlink_to(target.format(outside=root.parent))
    with pytest.raises(ContextError, match="no such file"):
        select(root, source)
    (root / "secret").write_text("the context's own")
    if target == "../secret":
        assert b"the context's own" in tar_of(root, select(root, source).entries)


def test_a_directory_link_does_not_lead_out(root):
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "file").write_bytes(SECRET)
    (root / "link").symlink_to(outside)
    for source in ("link", "link/file", "link/*", "link/../elsewhere/file"):
        with pytest.raises(ContextError):
            select(root, source)
    assert select(root, "*/file").entries == ()


def test_wildcards_may_match_nothing(root):
    fill(root, {"a": "", "ignored": "", ".dockerignore": "ignored\n"})
    for source in ("*.none", "ignore*"):
        made = select(root, source, "/x/")
        assert (made.entries, made.archives, made.directory) == ((), (), "")
    assert names(select(root, "[a]", "/x/")) == ["a"]


def test_a_directory_swapped_for_a_link_is_noticed(root):
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "file").write_bytes(SECRET)
    fill(root, {"d/file": "inside, and as long"})
    made = select(root, ".")
    (root / "d").rename(root / "moved")
    (root / "d").symlink_to(outside)
    context = Context.open(root)
    out = io.BytesIO()
    for use in (lambda: context.digest(made.entries), lambda: context.write_tar(made.entries, out)):
        with pytest.raises(ContextError, match="cannot be read"):
            use()
    assert SECRET not in out.getvalue()


def test_entries_have_the_facts_of_their_files(root):
    fill(root, {"d/file": "12345", "d/link": "-> file"})
    (root / "d" / "file").chmod(0o4751)
    (root / "d").chmod(0o2750)
    os.utime(root / "d" / "file", ns=(0, 1_234_567_890_987_654_321))
    facts = {entry.name: entry for entry in select(root, ".", owner=(7, 8)).entries}
    file = facts["d/file"]
    assert (file.kind, file.mode, file.size, file.mtime) == ("file", 0o4751, 5, 1_234_567_890)
    assert (file.uid, file.gid, file.source) == (7, 8, "d/file")
    assert (facts["d"].kind, facts["d"].mode, facts["d"].size) == ("directory", 0o2750, 0)
    assert (facts["d/link"].kind, facts["d/link"].mode, facts["d/link"].target) == ("symlink", 0o777, "file")
    plain = select(root, "d/file").entries[0]
    assert (plain.uid, plain.gid) == (0, 0)


def test_chmod_changes_all_but_links(root):
    fill(root, {"d/file": "", "d/link": "-> file"})
    modes = {entry.name: entry.mode for entry in select(root, ".", mode=Mode.of("640")).entries}
    assert (modes["d"], modes["d/file"], modes["d/link"]) == (0o640, 0o640, 0o777)


def test_other_kinds(root):
    (root / "d").mkdir()
    os.mkfifo(root / "d" / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        fd = os.open(root / "d", os.O_RDONLY)  # a short path: a socket's address holds 108 bytes
        try:
            server.bind(f"/proc/self/fd/{fd}/socket")
        finally:
            os.close(fd)
    made = select(root, "d")
    assert [(entry.name, entry.kind) for entry in made.entries] == [("fifo", "fifo")]
    with pytest.raises(ContextError, match="socket"):
        select(root, "d/socket")
    with tarfile.open(fileobj=io.BytesIO(tar_of(root, made.entries))) as archive:
        assert archive.getmember("fifo").isfifo()


def test_hard_links_are_kept_within_a_directory(root):
    fill(root, {"d/a": "same"})
    os.link(root / "d" / "a", root / "d" / "b")
    assert [(entry.name, entry.kind, entry.size, entry.target) for entry in select(root, "d").entries] == [
        ("a", "file", 4, ""),
        ("b", "hardlink", 0, "a"),
    ]
    assert [(entry.name, entry.kind) for entry in select(root, "d/a d/b").entries] == [("a", "file"), ("b", "file")]


def test_two_sources_with_one_name(root):
    fill(root, {"1/x": "one", "2/x": "two", "3/x/y": "", "1/d/a": "", "2/d/b": ""})
    made = select(root, "1 2")
    assert names(made) == ["d", "d/a", "d/b", "x"]
    assert made.entries[-1].source == "2/x"
    for sources in ("1 3", "3 1"):
        with pytest.raises(ContextError, match="file and another a directory"):
            select(root, sources)


def test_unreadable_files_are_named(root):
    fill(root, {"d/gone": "x"})
    made = select(root, "d")
    (root / "d" / "gone").unlink()
    with pytest.raises(ContextError, match="d/gone: cannot be read") as caught:
        Context.open(root).digest(made.entries)
    assert caught.value.path == "d/gone"


@pytest.mark.parametrize("change", [b"short", b"longer than it was", b"same size!"])
def test_a_file_that_changes_is_noticed(root, change):
    fill(root, {"file": "ten bytes."})
    made = select(root, "file")
    (root / "file").write_bytes(change)
    os.utime(root / "file", ns=(1, 1))
    with pytest.raises(ContextError, match="changed"):
        tar_of(root, made.entries)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(root):
    fill(root, {"a/b/c": "x", "d/e": "y", "s/f": "z", "t.gz": ""})
    (root / "t.gz").write_bytes(gzip.compress(b"no archive"))
    context = Context.open(root)
    before = open_descriptors()
    for _ in range(3):
        made = context.select([".", "*/f"], "/d/", unpack=True)
        context.digest(made.entries)
        context.write_tar(made.entries, io.BytesIO())
        with pytest.raises(ContextError):
            context.select(["s/none/x"], "/d")
    assert open_descriptors() == before


# -- digest and tar


def test_digest_ignores_times_and_order(root):
    fill(root, {"d/a": "1", "d/b": "2", "d/l": "-> a"})
    made = select(root, "d")
    first = Context.open(root).digest(made.entries)
    os.utime(root / "d" / "a", (1, 1))
    assert Context.open(root).digest(reversed(select(root, "d").entries)) == first
    assert first.startswith("sha256:")
    assert len(first) == 7 + 64


def rewrite(path):
    path.write_text("9")


def relink(path):
    link = path.with_name("l")
    link.unlink()
    link.symlink_to("b")


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        relink,
        lambda path: path.chmod(0o700),
        lambda path: path.rename(path.with_name("c")),
        lambda path: path.with_name("new").mkdir(),
        lambda path: path.unlink(),
    ],
)
def test_digest_sees(root, change):
    fill(root, {"d/a": "1", "d/b": "2", "d/l": "-> a"})
    context = Context.open(root)
    before = context.digest(context.select(["d"], "/d").entries)
    change(root / "d" / "a")
    assert context.digest(context.select(["d"], "/d").entries) != before


def test_digest_sees_owner_and_mode_options(root):
    fill(root, {"a": "1"})
    context = Context.open(root)
    options = [{}, {"owner": (1, 0)}, {"owner": (0, 1)}, {"mode": Mode.of("600")}]
    assert len({context.digest(context.select(["a"], "/x", **each).entries) for each in options}) == 4


LONG = "x" * 60


def test_tar_is_read_back_by_another_reader(root):
    fill(
        root,
        {
            "d/file": "content",
            "d/empty": "",
            "d/block": "b" * 512,
            f"d/{LONG}/{LONG}/{LONG}/deep": "far down",
            "d/long-link": f"-> {LONG}/{LONG}/target",
            "d/été": "name",
        },
    )
    raw = b"d/caf\xe9"
    (root / os.fsdecode(raw)).write_text("latin")
    os.utime(root / "d" / "empty", (0, -5))
    made = select(root, "d", owner=(3_000_000, 5))
    data = tar_of(root, made.entries)
    assert len(data) % 512 == 0
    assert data == tar_of(root, made.entries)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [entry.name for entry in made.entries]
        for member, entry in zip(members, made.entries, strict=True):
            assert (member.mode, member.uid, member.gid) == (entry.mode, 3_000_000, 5)
            assert (member.size, member.mtime, member.linkname) == (entry.size, entry.mtime, entry.target)
            if entry.kind == "file":
                assert archive.extractfile(member).read() == (root / entry.source).read_bytes()
        assert archive.getmember("empty").mtime == -5


@pytest.mark.parametrize("length", [*range(85, 105), 255, 256, 990, 1000, 1010])
def test_pax_records_count_their_own_length(root, length):
    fill(root, {"a": ""})
    (entry,) = select(root, "a", "/x").entries
    name = "/".join(["n" * 9] * 110)[:length].rstrip("/")
    data = tar_of(root, [attrs.evolve(entry, name=name, target="", mtime=1)])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == [name]


def test_a_file_larger_than_ustar_can_say():
    from pylxc.build.tarwriter import header

    block = header(Entry("big", "big", "file", 0o644, 1 << 40, 0, 0, 0))
    with tarfile.open(fileobj=io.BytesIO(block + bytes(1024))) as archive:
        assert archive.next().size == 1 << 40


def test_empty_selection_is_an_empty_archive(root):
    assert tar_of(root, []) == bytes(1024)


# -- archives


@pytest.fixture(scope="module")
def tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("inside")
        info.size = 300_000
        archive.addfile(info, io.BytesIO(os.urandom(300_000)))
    return out.getvalue()


FORMS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("form", FORMS)
def test_archives_are_known_by_content_and_opened(tmp_path, tar, form):
    path = tmp_path / "no-suffix"
    path.write_bytes(FORMS[form](tar))
    assert is_archive(path)
    with open_archive(path) as stream:
        assert stream.read() == tar
    with path.open("rb") as source, open_archive(source) as stream:
        assert b"".join(iter(lambda: stream.read(1000), b"")) == tar


@pytest.mark.parametrize("form", FORMS)
def test_archives_are_opened_from_a_pipe(tar, form):
    reading, writing = os.pipe()
    small = FORMS[form](tar[:20_000])  # what a pipe holds
    with os.fdopen(writing, "wb") as out:
        out.write(small)
    with os.fdopen(reading, "rb", buffering=0) as source, open_archive(source) as stream:
        assert stream.read() == tar[:20_000]


class Slow(io.RawIOBase):
    """Gives so many bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__()
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._data.readinto(memoryview(buffer)[: self._size])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11])
@pytest.mark.parametrize("form", FORMS)
def test_archives_are_known_however_little_of_them_comes_at_once(tar, form, size):
    with open_archive(Slow(FORMS[form](tar[:20_000]), size)) as stream:
        assert stream.read() == tar[:20_000]


@pytest.mark.parametrize("size", [1, 6, 7, 11, 1 << 20])
def test_gzip_headers_with_a_checksum(size):
    """RFC 1952, 2.3.1: the flag FHCRC."""
    content = b"content" * 5000
    head = b"\x1f\x8b\x08\x0a\0\0\0\0\0\xffname\0"
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    plain = gzip.compress(content, mtime=0)
    member = head + plain[10:]
    for data in (member, plain + bytes(700) + member, member + plain):
        with open_archive(Slow(data, size)) as stream:
            assert stream.read() == content * (1 if data is member else 2)


def test_streams_that_cannot_be_read_are_told(tar):
    with pytest.raises(SpecError, match=r"source.*binary"):
        open_archive(io.StringIO("text"))
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "wb", buffering=0) as out, os.fdopen(reading, "rb", buffering=0) as source:
        with pytest.raises(SpecError, match=r"source.*waits"):
            open_archive(source)
        out.write(gzip.compress(tar)[:20_000])
        with open_archive(source) as stream, pytest.raises(SpecError, match=r"source.*waits"):
            stream.read()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"", b"text\n", bytes(2048), b"x" * 2048])
def test_other_files_are_no_archives(tmp_path, form, content):
    path = tmp_path / "file.tar"
    path.write_bytes(FORMS[form](content))
    assert not is_archive(path)


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz"])
def test_damaged_archives_make_one_clear_error(tmp_path, tar, form):
    whole = FORMS[form](tar)
    path = tmp_path / "damaged"
    middle = len(whole) // 2
    for data in (whole[:middle], whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]):
        path.write_bytes(data)
        with open_archive(path) as stream, pytest.raises(StoreError, match=f"damaged {form} data"):
            stream.read()
    path.write_bytes(whole[:7])
    assert not is_archive(path)


def test_zstd_that_is_damaged_or_claims_too_much_memory(tmp_path):
    path = tmp_path / "a.tar.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\xff" * 100)
    assert not is_archive(path)
    # A frame without content size, whose window is 2 GiB (RFC 8878, 3.1.1.1.2).
    huge = b"\x28\xb5\x2f\xfd" + bytes((0x00, 21 << 3)) + b"\x01\x00\x00"
    for data in (path.read_bytes(), huge):
        path.write_bytes(data)
        with open_archive(path) as stream, pytest.raises(StoreError, match="damaged zstd data"):
            stream.read()


SKIPPABLE = b"\x5a\x2a\x4d\x18\x05\0\0\0abcde"  # RFC 8878, 3.1.2


def zstd_frames(tar: bytes) -> dict[str, list[bytes]]:
    """Frames that hold the same archive, with every field that a frame's header has or lacks."""
    half = len(tar) // 2
    unsized = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return {
        "one": [zstandard.compress(tar)],
        "checksum": [zstandard.ZstdCompressor(write_checksum=True).compress(tar)],
        "no size": [unsized.compress(tar) + unsized.flush()],
        "two": [zstandard.compress(tar[:half]), zstandard.ZstdCompressor(write_checksum=True).compress(tar[half:])],
        "small": [zstandard.compress(tar[i : i + 200]) for i in range(0, len(tar), 200)],
        "empty": [zstandard.compress(b""), zstandard.compress(tar), zstandard.compress(b"")],
        "skippable": [SKIPPABLE, zstandard.compress(tar[:half]), SKIPPABLE, zstandard.compress(tar[half:]), SKIPPABLE],
    }


@pytest.mark.parametrize("kind", zstd_frames(b""))
def test_zstd_ends_where_a_frame_does_or_is_damaged(tmp_path, tar, kind):
    content = tar + bytes(400_000)  # of which blocks of one repeated byte are made
    frames = zstd_frames(content)[kind]
    whole = b"".join(frames)
    path = tmp_path / "a.tar.zst"
    path.write_bytes(whole)
    assert is_archive(path)
    with open_archive(path) as stream:
        assert stream.read() == content
    ends = {len(b"".join(frames[:count])) for count in range(len(frames) + 1)}
    for cut in {*range(8, len(whole), len(whole) // 50), *range(len(whole) - 20, len(whole))} - ends:
        with (
            open_archive(io.BytesIO(whole[:cut])) as stream,
            pytest.raises(StoreError, match="zstd data: it ends early"),
        ):
            stream.read()
    with open_archive(io.BytesIO(whole + b"more")) as stream, pytest.raises(StoreError, match="damaged zstd data"):
        stream.read()


def test_what_zstd_gives_at_once_is_bounded():
    """Four bytes are enough for a block of 128 KiB (RFC 8878, 3.1.1.2.3)."""
    zeros = (1 << 1 | 128 << 10 << 3).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\0\x38" + zeros * 1000
    with open_archive(io.BytesIO(frame)) as stream:
        assert {len(piece) for piece in itertools.islice(pieces(stream), 999)} == {128 << 10}


def test_add_unpacks_archives_named_directly(root, tar):
    fill(root, {"plain": "text", "d/x": ""})
    (root / "a.tgz").write_bytes(gzip.compress(tar))
    (root / "d" / "b.tar").write_bytes(tar)
    made = select(root, "a.tgz", "/x", unpack=True)
    assert (made.directory, names(made), [entry.name for entry in made.archives]) == ("/x", [], ["a.tgz"])
    with Context.open(root).open_archive(made.archives[0]) as stream:
        assert stream.read() == tar
    both = select(root, "a.tgz plain d", "/x/", unpack=True)
    assert names(both) == ["b.tar", "plain", "x"]  # an archive inside a directory is a file like others
    assert [entry.name for entry in both.archives] == ["a.tgz"]
    assert names(select(root, "a.tgz", "/x/")) == ["a.tgz"]  # COPY does not unpack
    context = Context.open(root)
    before = context.digest(made.archives)
    (root / "a.tgz").write_bytes(gzip.compress(tar, mtime=1))
    assert context.digest(context.select(["a.tgz"], "/x", unpack=True).archives) != before


def test_the_modes_of_the_context_are_kept_in_the_tar(root):
    fill(root, {"d/tool": ""})
    (root / "d" / "tool").chmod(0o6755)
    (entry,) = select(root, "d").entries
    with tarfile.open(fileobj=io.BytesIO(tar_of(root, [entry]))) as archive:
        assert stat.S_IMODE(archive.getmember("tool").mode) == 0o6755
