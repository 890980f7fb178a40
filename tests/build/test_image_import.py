"""Images from archives and directories, from nothing, and what can be done with an image: tags, history, removal."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import socket
import stat
import subprocess
import tarfile

import pytest
import zstandard
from archives import END, block, directory, file, pax
from building import contents, members, names, noise, snapshot, tar_bytes

import pylxc
from pylxc.build.imports import unpacking_error
from pylxc.errors import SpawnError

PLAIN = {"bin": "/", "bin/tool": b"tool", "etc": "/", "etc/link": "-> ../bin/tool"}
PACK = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.fixture
def archive():
    return tar_bytes(PLAIN)


def check(image):
    assert names(image.layers[0]) == ["bin", "bin/tool", "etc", "etc/link"]
    found = members(image.layers[0])
    assert (found["bin/tool"].mode, found["bin/tool"].mtime, found["bin"].mode) == (0o640, 1_000_000_000, 0o750)
    assert found["etc/link"].linkname == "../bin/tool"
    assert contents(image.layers[0]) == {"bin/tool": b"tool"}


@pytest.mark.parametrize("form", PACK)
def test_from_tar_by_path(engine, tmp_path, archive, form):
    path = tmp_path / "root.bin"
    path.write_bytes(PACK[form](archive))
    image = pylxc.Image.from_tar(path, "imported:1", engine=engine)
    check(image)
    assert image.refs == ("imported:1",)
    assert [entry.created_by for entry in image.history()] == ["import of root.bin"]
    assert pylxc.Image.get("imported:1", engine=engine) == image
    assert pylxc.Image.from_tar(str(path), engine=engine).layers[0].digest == image.layers[0].digest


@pytest.mark.parametrize("form", PACK)
def test_from_tar_from_a_pipe(engine, archive, form):
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(PACK[form](archive))
        child.stdin.close()
        check(pylxc.Image.from_tar(child.stdout, engine=engine))


def test_from_tar_from_streams(engine, tmp_path, archive):
    """Of any make; they stay the caller's: none is closed, and what comes before the archive is left alone."""
    held = io.BytesIO(b"before" + archive)
    held.seek(6)
    check(pylxc.Image.from_tar(held, engine=engine))
    assert not held.closed
    (tmp_path / "a.tar").write_bytes(archive)
    for buffering in (0, -1):
        with (tmp_path / "a.tar").open("rb", buffering=buffering) as stream:
            check(pylxc.Image.from_tar(stream, engine=engine))
            assert not stream.closed
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(archive)
        theirs.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as stream:
            check(pylxc.Image.from_tar(stream, engine=engine))


def test_from_tar_with_a_config(engine, busybox_root, tmp_path):
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(busybox_root, "./")
    config = pylxc.ImageConfig(cmd=("echo", "hi"), env={"A": "1"}, labels={"l": "v"})
    image = pylxc.Image.from_tar(tmp_path / "b.tar", config=config, engine=engine)
    assert image.config == config
    assert pylxc.run(image, engine=engine).text == "hi\n"


def test_whiteouts_of_an_imported_layer(engine):
    data = tar_bytes({"d": "/", "d/.wh.gone": b"", "d/kept": b"k"})
    image = pylxc.Image.from_tar(io.BytesIO(data), engine=engine)
    assert [(e.path, e.kind) for e in image.layers[0].entries()] == [
        ("d", "directory"),
        ("d/gone", "whiteout"),
        ("d/kept", "file"),
    ]


BIG = tar_bytes({"a": b"a", "noise": noise(3_000_000), "z": b"z"})
BAD = {
    "garbage": noise(5000),
    "empty": b"",
    "text": b"this is no archive\n" * 100,
    "plain cut": BIG[: len(BIG) // 2],
    "plain cut in a header": BIG[:100],
    "gzip cut": gzip.compress(BIG)[: len(BIG) // 2],
    "xz cut": lzma.compress(BIG)[: len(BIG) // 2],
    "bzip2 cut": bz2.compress(BIG)[: len(BIG) // 2],
    "zstd cut": zstandard.compress(BIG)[: len(BIG) * 9 // 10],
    "gzip of garbage": gzip.compress(noise(5000)),
    "gzip checksum": gzip.compress(BIG)[:-6] + b"\0\0\0\0\0\0",
    "only the magic of gzip": b"\x1f\x8b",
}


@pytest.mark.parametrize("way", ["path", "stream"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_one_error_and_nothing_is_kept(busybox, engine, tmp_path, name, way):
    assert busybox.refs
    path = tmp_path / "bad.tar"
    path.write_bytes(BAD[name])
    before = (snapshot(engine), sorted(os.listdir(engine.root / "layers")))
    with path.open("rb") as stream, pytest.raises(pylxc.StoreError) as caught:
        pylxc.Image.from_tar(path if way == "path" else stream, "bad:1", engine=engine)
    assert "bad.tar" in str(caught.value)
    assert (snapshot(engine), sorted(os.listdir(engine.root / "layers"))) == before


def test_what_cannot_be_read(busybox, engine, tmp_path):
    before = snapshot(busybox._engine)
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(pylxc.StoreError, match=words):
            pylxc.Image.from_tar(path, engine=engine)
        with pytest.raises(pylxc.StoreError, match="is not a directory" if path != tmp_path else "x"):
            pylxc.Image.from_directory(path if path != tmp_path else tmp_path / "x", engine=engine)
    assert snapshot(engine) == before


def test_streams_without_a_name_are_told_of_as_such(engine):
    with pytest.raises(pylxc.StoreError, match="a stream: damaged gzip data"):
        pylxc.Image.from_tar(io.BytesIO(BAD["gzip cut"]), engine=engine)


ATTRIBUTE = b"SCHILY.xattr.user.x"
UNMADE = {
    "hard link to a directory": (directory(b"d") + block(b"h", b"1", link=b"d"), "h: .*a hard link to a directory"),
    "hard link to nothing": (block(b"h", b"1", link=b"none"), "h: is a hard link to what is not in the archive"),
    "attribute of a link": (pax((ATTRIBUTE, b"1")) + block(b"l", b"2", link=b"x"), "l: .*an attribute that a file of"),
    "whiteout of nothing": (file(b"d/.wh."), r"d/\.wh\.: has a name \(a whiteout's"),
    "below a whiteout": (file(b".wh.d/x"), r"\.wh\.d/x: has a name \(a whiteout's"),
}


@pytest.mark.parametrize("kind", UNMADE)
def test_what_cannot_be_made_of_an_archive_is_told(engine, kind):
    data, words = UNMADE[kind]
    with pytest.raises(pylxc.StoreError, match=f"a stream: {words}.*; nothing was kept"):
        pylxc.Image.from_tar(io.BytesIO(data + END), engine=engine)


def test_no_space_is_told_of_disks_and_attributes():
    """Of which ext4 holds a block's worth, and XFS more than an archive may have."""
    assert "the disk is full, or" in unpacking_error(SpawnError("unpack", errno.ENOSPC, "a.tar: f")).reason


@pytest.mark.parametrize("ref", ["Bad Ref", "UPPER:1", f"x@sha256:{'0' * 64}", "x@{1}"])
def test_a_bad_reference_is_told_of_before_the_work(busybox, engine, archive, busybox_root, ref):
    layers = sorted(os.listdir(engine.root / "layers"))
    with pytest.raises(pylxc.SpecError):
        pylxc.Image.from_tar(io.BytesIO(archive), ref, engine=engine)
    with pytest.raises(pylxc.SpecError):
        pylxc.Image.from_directory(busybox_root / "etc", ref, engine=engine)
    with pytest.raises(pylxc.SpecError):
        busybox.tag(ref)
    assert sorted(os.listdir(engine.root / "layers")) == layers


def test_from_directory_takes_everything_as_it_is(engine, tmp_path):
    """An ordinary user owns all that it can make, and makes no devices."""
    is_root = os.geteuid() == 0
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    root.chmod(0o751)
    (root / "d/f").write_bytes(b"content")
    if is_root:
        os.chown(root / "d/f", 70_000, 3)
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "d/f").chmod(0o4751)
    os.link(root / "d/f", root / "hard")
    (root / "soft").symlink_to("/nowhere")
    os.mkfifo(root / "fifo", 0o600)
    os.setxattr(root / "d", "user.note", b"n")
    os.utime(root / "d", ns=(0, 123_456_789_000_000_001))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    image = pylxc.Image.from_directory(root, "dir:1", engine=engine)
    found = members(image.layers[0])
    devices = {"null"} if is_root else set()
    assert set(found) == {"d", "d/f", "fifo", "hard", "soft"} | devices  # a socket is nothing without its process
    assert (found["d/f"].mode, found["d/f"].uid, found["d/f"].gid) == (0o4751, *((70_000, 3) if is_root else (0, 0)))
    assert (found["hard"].type, found["hard"].linkname) == (b"1", "d/f")
    assert found["fifo"].type == b"6"
    assert {name: (found[name].devmajor, found[name].devminor) for name in devices} == dict.fromkeys(devices, (1, 3))
    assert found["d"].pax_headers["SCHILY.xattr.user.note"] == "n"
    assert found["d"].pax_headers["mtime"] == "123456789.000000001"
    directory = engine.layer_directory(image.layers[0].digest)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o751
    # The same tree gives the same layer.
    assert pylxc.Image.from_directory(root, engine=engine).layers[0].digest == image.layers[0].digest


def test_scratch_is_one_image(engine):
    image = pylxc.Image.scratch(engine=engine)
    assert (image.layers, image.refs, image.size, image.created) == ((), (), 0, 0.0)
    assert pylxc.Image.scratch(engine=engine) == image
    assert len(pylxc.Image.list(engine=engine)) == 1


def test_tags(busybox, engine):
    busybox.tag("other:1")
    busybox.tag("registry.example:5000/team/app")
    refs = ("busybox:latest", "other:1", "registry.example:5000/team/app:latest")
    assert pylxc.Image.get("busybox", engine=engine).refs == refs
    second = pylxc.Image.scratch(engine=engine)
    second.tag("other:1")
    assert pylxc.Image.get("other:1", engine=engine) == second
    assert pylxc.Image.get("other:1@{1}", engine=engine) == busybox
    moves = pylxc.Image.log("other:1", engine=engine)
    assert [(move.old, move.new) for move in moves] == [(busybox.id, second.id), ("", busybox.id)]
    second.untag("other:1")
    with pytest.raises(pylxc.ImageNotFound, match="other:1"):
        pylxc.Image.get("other:1", engine=engine)
    with pytest.raises(pylxc.ImageNotFound):
        second.untag("other:1")
    assert pylxc.Image.get(second.id, engine=engine).refs == ()
    assert pylxc.Image.get(second.id[7:19], engine=engine) == second


def test_remove(on_busybox, busybox, engine):
    image = on_busybox("FROM busybox\nRUN touch /x", tag="derived:1")
    before = set(os.listdir(engine.root / "layers"))
    busybox.remove()
    assert set(os.listdir(engine.root / "layers")) == before  # the derived image needs its layer
    with pytest.raises(pylxc.ImageNotFound):
        pylxc.Image.get("busybox", engine=engine)
    assert pylxc.run(image, ["ls", "/x"], engine=engine).text == "/x\n"
    image.remove()
    assert os.listdir(engine.root / "layers") == []
    assert os.listdir(engine.root / "oci/blobs/sha256") == []
    assert pylxc.Image.list(engine=engine) == []
    for forget in (image.remove, lambda: image.tag("again:1")):
        with pytest.raises(pylxc.ImageNotFound):
            forget()


def test_remove_while_a_container_uses_it(busybox, engine):
    container = pylxc.create(busybox, ["true"], engine=engine)
    try:
        with pytest.raises(pylxc.Conflict, match=container.name):
            busybox.remove()
    finally:
        container.remove()
    busybox.remove()


def test_history_and_size(on_busybox, busybox):
    on_busybox.write({"f": "f"})
    image = on_busybox("FROM busybox\nENV A=1\nCOPY f /f\nRUN touch /g")
    steps = [(entry.created_by, entry.empty_layer) for entry in image.history()]
    assert steps[len(busybox.history()) :] == [
        ("ENV A=1", True),
        ("COPY f /f # buildkit", False),
        ("RUN /bin/sh -c touch /g # buildkit", False),
    ]
    assert image.history()[: len(busybox.history())] == busybox.history()
    assert [layer.created_by for layer in image.layers[1:]] == [
        "COPY f /f # buildkit",
        "RUN /bin/sh -c touch /g # buildkit",
    ]
    assert image.size == sum(layer.size for layer in image.layers)
    assert image.created >= busybox.created
