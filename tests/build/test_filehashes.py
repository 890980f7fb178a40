"""What spares reading a file twice: it counts for the very same file only, and never for one that was just changed."""

from __future__ import annotations

import errno
import io
import os
import time

import pytest
from building import contents

from pylxc import BuildError
from pylxc.build import filehashes
from pylxc.build.context import Context
from pylxc.build.filehashes import FileHashes

OLD = 1_000_000_000


@pytest.fixture
def many(build, monkeypatch):
    """A context with enough files to be remembered, long unchanged."""
    monkeypatch.setattr(filehashes, "WORTH", 3)
    monkeypatch.setattr(filehashes, "SETTLED", -(10**12))  # as if what was just written were old
    build.write({f"d/f{number}": f"content {number}" for number in range(5)})
    return build


def reads(monkeypatch):
    """Note which files of contexts are read from now on."""
    from pylxc.build.confined import ConfinedTree

    found = []
    real = ConfinedTree.read_file

    def read_file(self, path, stamp, size):
        found.append(path)
        return real(self, path, stamp, size)

    monkeypatch.setattr(ConfinedTree, "read_file", read_file)
    return found


def test_a_file_is_read_once_in_a_build_and_not_again_in_the_next(many, monkeypatch):
    read = reads(monkeypatch)
    first = many("FROM scratch\nCOPY d /d/\n")
    assert sorted(read) == [f"d/f{number}" for number in range(5)]
    read.clear()
    assert many("FROM scratch\nCOPY d /d/\n").id == first.id
    assert read == []
    os.utime(many.files.path / "d/f3", (OLD, OLD))  # by its ctime it is another one
    many("FROM scratch\nCOPY d /d/\n")
    assert read == ["d/f3"]


@pytest.mark.parametrize("options", [{}, {"no_cache": True}])
def test_what_cannot_be_in_the_cache_is_opened_once(many, monkeypatch, options):
    many.write({"d/big": "b" * (filehashes.LARGEST_KEPT + 1)})
    opened, real = [], os.open

    def open_(path, flags, *mode, **where):
        opened.append(path)
        return real(path, flags, *mode, **where)

    monkeypatch.setattr(os, "open", open_)
    first = many("FROM scratch\nCOPY d /d/\n", **options)
    assert sorted(path for path in opened if path in ("big", "f1")) == ["big", "f1"]
    monkeypatch.undo()
    assert many("FROM scratch\nCOPY d /d/\n").id == first.id
    assert many.cached() == [2]


def test_a_file_of_another_size_is_hashed_alone(many, monkeypatch):
    many("FROM scratch\nCOPY d /d/\n")
    (many.files.path / "d/f1").write_text("more of it")
    hashed, real = [], FileHashes.put
    monkeypatch.setattr(FileHashes, "put", lambda self, *of: hashed.append(of[0].source) or real(self, *of))
    image = many("FROM scratch\nCOPY d /d/\n")
    assert contents(image.layers[0])["d/f1"] == b"more of it"
    assert hashed == ["d/f1"]


def test_what_is_not_in_the_cache_after_all_is_not_looked_at_again(many, monkeypatch):
    many("FROM scratch\nCOPY d /d/\n")
    (many.files.path / "d/f1").write_text("CONTENT 1")  # of the same size
    looked, real = [], Context.digest
    monkeypatch.setattr(Context, "digest", lambda self, entries: looked.append(1) or real(self, entries))
    many("FROM scratch\nCOPY d /d/\n")
    assert looked == [1]


def test_a_file_that_cannot_be_read_ends_the_build(build, monkeypatch):
    build.write({"d/a": "a", "d/b": "b"})

    def read_file(self, path, stamp, size):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr("pylxc.build.confined.ConfinedTree.read_file", read_file)
    with pytest.raises(BuildError, match="d/a: cannot be read: Input/output error") as caught:
        build("FROM scratch\nWORKDIR /w\nCOPY d /d/\n")
    assert caught.value.step == 3
    monkeypatch.undo()
    build("FROM scratch\nWORKDIR /w\nCOPY d /d/\n")
    assert build.cached() == [2]


def test_a_change_is_seen(many):
    many("FROM scratch\nCOPY d /d/\n")
    path = many.files.path / "d/f1"
    status = path.stat()
    path.write_text("CONTENT 1")  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert contents(many("FROM scratch\nCOPY d /d/\n").layers[0])["d/f1"] == b"CONTENT 1"
    other = many.files.path / "other"
    other.write_text("replaced!")
    other.rename(path)
    assert contents(many("FROM scratch\nCOPY d /d/\n").layers[0])["d/f1"] == b"replaced!"


def entries_of(path):
    context = Context.open(path)
    return context, context.select(["d"], "/d/").entries


def test_what_was_just_changed_is_not_remembered(build, monkeypatch):
    monkeypatch.setattr(filehashes, "WORTH", 1)
    context, entries = entries_of(build.write({"Dockerfile": "FROM scratch\n", "d/new": "n"}))
    context.digest(entries)
    assert context.hashes.dump() == "{}"
    assert context.hashes.dump() is None  # there is nothing new
    context.hashes.put(entries[0], "0" * 64)
    monkeypatch.setattr(filehashes.time, "time_ns", lambda clock=time.time_ns: clock() + 3_000_000_000)
    assert context.hashes.dump() == "{}"  # however long the build took since it was read
    hashes = FileHashes()
    hashes.put(entries[0], "0" * 64)
    assert '"d/new"' in hashes.dump()


def test_the_digest_is_the_same_with_and_without(build):
    path = build.write({"Dockerfile": "FROM scratch\n", "d/a": "a", "d/e": "", "d/l": "-> a", "d/big": "b" * (3 << 20)})
    context, entries = entries_of(path)
    digests = {context.digest(entries), context.digest(entries), Context.open(path).digest(entries)}
    assert len(digests) == 1
    written = []
    for one in (context, context, Context.open(path)):
        out = io.BytesIO()
        one.write_tar(entries, out)
        written.append(out.getvalue())
    assert written[0] == written[1] == written[2]


def test_contents_are_kept_within_bounds(build, monkeypatch):
    monkeypatch.setattr(filehashes, "KEPT", 10)
    context, entries = entries_of(
        build.write({"Dockerfile": "FROM scratch\n", "d/a": "123456", "d/b": "7" * 6, "d/c": "8"})
    )
    context.digest(entries)
    assert [context.hashes.take(entry) for entry in entries] == [b"123456", None, b"8"]
    assert [context.hashes.take(entry) for entry in entries] == [None] * 3


def test_names_that_are_not_utf8(many):
    name = os.fsdecode(b"d/caf\xe9")
    (many.files.path / name).write_text("x")
    first = many("FROM scratch\nCOPY d /d/\n")
    assert many("FROM scratch\nCOPY d /d/\n").id == first.id
