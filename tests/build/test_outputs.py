"""What a build writes beside the store: tar archives, directories, image archives."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest

import pylxc

TEXT = (
    "FROM busybox\nRUN mkdir -p /t/sub && echo one > /t/f && chown 7:8 /t/f && chmod 4755 /t/f && ln -s f /t/l"
    " && ln /t/f /t/hard && rm /etc/passwd\nENV A=1\n"
)


@pytest.fixture
def build(on_busybox):
    return on_busybox


def test_a_tar_has_all_files_as_they_are(build, tmp_path):
    image = build(TEXT, output={"type": "tar", "dest": tmp_path / "fs.tar"})
    assert image.refs == ()
    with tarfile.open(tmp_path / "fs.tar") as archive:
        found = {entry.name: entry for entry in archive}
        assert archive.extractfile("t/f").read() == b"one\n"
    assert {"bin/busybox", "t", "t/f", "t/hard", "t/l", "t/sub"} <= found.keys()
    assert not {"etc/passwd", "proc", "etc/resolv.conf"} & found.keys(), "neither what was removed nor mount points"
    entry = found["t/f"]
    assert (entry.uid, entry.gid, entry.mode, entry.isreg()) == (7, 8, 0o4755, True)
    assert (found["t/hard"].type, found["t/hard"].linkname) == (b"1", "t/f")
    assert (tmp_path / "fs.tar").stat().st_mode & 0o077 == 0


def test_a_tar_into_a_stream_is_the_same(build, tmp_path):
    stream = io.BytesIO()
    build(TEXT, output=[{"type": "tar", "dest": stream}, f"type=tar,dest={tmp_path}/fs.tar"])
    assert stream.getvalue() == (tmp_path / "fs.tar").read_bytes()


def test_a_directory_gets_the_files_as_the_callers_own(build, tmp_path):
    build(TEXT, output=tmp_path / "out")
    found = (tmp_path / "out/t/f").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (os.getuid(), os.getgid(), 0o755)
    assert (tmp_path / "out/t/l").readlink().name == "f"
    assert (tmp_path / "out/t/f").read_text() == "one\n"
    assert not (tmp_path / "out/etc/passwd").exists()
    assert not (tmp_path / "out/proc").exists()


def test_a_directory_is_merged_with_what_is_there(build, tmp_path):
    (tmp_path / "out/t").mkdir(parents=True)
    (tmp_path / "out/t/f").write_text("old")
    (tmp_path / "out/t/mine").write_text("mine")
    build(TEXT, output=str(tmp_path / "out"))
    assert (tmp_path / "out/t/f").read_text() == "one\n"
    assert (tmp_path / "out/t/mine").read_text() == "mine"


def test_no_link_in_a_directory_is_followed(build, tmp_path):
    """An image made the link, or an earlier one did: the next one's files do not go where it leads."""
    victim = tmp_path / "victim"
    victim.mkdir()
    build(f"FROM busybox\nRUN ln -s {victim} /t", output=tmp_path / "out")
    assert (tmp_path / "out/t").is_symlink()
    build("FROM busybox\nRUN mkdir /t && touch /t/f", output=tmp_path / "out")
    assert list(victim.iterdir()) == []
    assert [path.name for path in (tmp_path / "out/t").iterdir()] == ["f"]
    assert not (tmp_path / "out/t").is_symlink()


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_image_archive(build, tmp_path, kind):
    image = build(TEXT, tag="app:1", output=f"type={kind},dest={tmp_path}/image.tar,name=other:2")
    loaded = pylxc.Image.load(tmp_path / "image.tar", engine=pylxc.Engine(tmp_path / "second"))
    assert (loaded.id, loaded.refs, loaded.config.env["A"]) == (image.id, ("other:2",), "1")


def test_a_further_tag(build):
    assert build(TEXT, tag="app:1", output="type=image,name=app:2").refs == ("app:1", "app:2")


def test_scratch(build, tmp_path):
    build("FROM scratch\nENV A=1", output=[{"type": "tar", "dest": tmp_path / "fs.tar"}, tmp_path / "out"])
    with tarfile.open(tmp_path / "fs.tar") as archive:
        assert archive.getnames() == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"type": "tar"}, "where to"),
        ("type=nonsense,dest=x", "TYPE"),
        ("type=tar,dest=/does/not/exist/x.tar", "directory for it"),
        ("type=tar,dest=/", "it is a directory"),
        ("/etc/passwd", "not a directory"),
        ("type=tar,dest=x,compression=gzip", "TYPE"),
        (7, "TYPE"),
        ({"type": "local", "dest": io.BytesIO()}, "archive"),
    ],
)
def test_an_output_is_judged_before_the_build_begins(build, output, words):
    with pytest.raises(pylxc.SpecError, match=words) as caught:
        build("FROM busybox\nRUN touch /x", output=output)
    assert caught.value.option == "output"
    assert build.events == []


def test_a_failed_build_writes_nothing(build, tmp_path):
    with pytest.raises(pylxc.BuildError):
        build("FROM busybox\nRUN false", output=[tmp_path / "out", f"type=tar,dest={tmp_path}/fs.tar"])
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "fs.tar").exists()
