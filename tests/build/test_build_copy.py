"""COPY, ADD and WORKDIR on real images: what lands where, whose it is, and that nothing ever lands outside."""

from __future__ import annotations

import errno
import os
import stat
import tarfile

import pytest
from building import contents, members, names, tar_bytes

import pylxc


def run(image, command):
    return pylxc.run(image, command, engine=image._engine).text


def facts(layer):
    """Return (mode, uid, gid) of a layer's entries by name."""
    return {name: (entry.mode, entry.uid, entry.gid) for name, entry in members(layer).items()}


# -- owners and modes


def test_everything_belongs_to_root_and_keeps_its_mode(on_busybox):
    path = on_busybox.write({"d/f": "f", "d/x": "x"})
    (path / "d/x").chmod(0o4711)
    (path / "d").chmod(0o2750)
    if os.geteuid() == 0:  # else it is the user's own, who is not root either
        os.chown(path / "d/f", 12, 34)
    os.utime(path / "d/f", ns=(0, 1_234_567_890_123_456_789))
    image = on_busybox("FROM busybox\nCOPY . /c/")
    found = facts(image.layers[1])
    assert (found["c/d"], found["c/d/f"], found["c/d/x"]) == ((0o2750, 0, 0), (0o644, 0, 0), (0o4711, 0, 0))
    assert members(image.layers[1])["c/d/f"].mtime == 1_234_567_890
    assert found["c"] == (0o755, 0, 0)


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("nobody", (65534, 65534)),
        ("nobody:root", (65534, 0)),
        ("0:nogroup", (0, 65534)),
        ("17", (17, 17)),
        ("17:18", (17, 18)),
        (":99", (0, 99)),
        ("$WHO", (65534, 65534)),
    ],
)
def test_chown(on_busybox, chown, owner):
    on_busybox.write({"d/f": "f"})
    image = on_busybox(f"FROM busybox\nARG WHO=nobody\nCOPY --chown={chown} --chmod=0640 d /new/d/")
    found = facts(image.layers[1])
    assert found["new/d/f"] == (0o640, *owner)
    assert found["new"][1:] == found["new/d"][1:] == owner


def test_chown_to_a_user_that_a_step_added(on_busybox):
    on_busybox.write({"f": "f"})
    image = on_busybox("FROM busybox\nRUN echo app:x:500:600::/:/bin/sh >> /etc/passwd\nCOPY --chown=app f /f")
    assert facts(image.layers[2])["f"] == (0o644, 500, 600)


@pytest.mark.parametrize("chown", ["ghost", "nobody:ghost", "4294967295", "-1", "root:4294967296"])
def test_chown_to_nobody_known(on_busybox, chown):
    on_busybox.write({"f": "f"})
    with pytest.raises(pylxc.BuildError, match=chown.rpartition(":")[2]) as caught:
        on_busybox(f"FROM busybox\nCOPY --chown={chown} f /f")
    assert (caught.value.step, caught.value.line, caught.value.exit_code) == (2, 2, None)


TRAPS = (
    "ln -sf /../../../../etc/passwd /etc/passwd",
    "rm /etc/passwd; mkfifo /etc/passwd",
    "rm /etc/passwd; ln -s /dev/zero /etc/passwd",
)


def test_passwd_that_is_a_trap(on_busybox):
    """The image's user database leads to the host's, is a FIFO, or a device: none is ever opened."""
    on_busybox.write({"f": "f"})
    for make in TRAPS:
        with pytest.raises(pylxc.BuildError, match="no such user"):
            on_busybox(f"FROM busybox\nRUN {make}\nCOPY --chown=daemon f /f")


# -- destinations


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("COPY f /new", "new"),
        ("COPY f /new/", "new/f"),
        ("COPY f .", "work/f"),
        ("COPY f ./sub/", "work/sub/f"),
        ("COPY f ../up", "up"),
        ("COPY f ../../../../up", "up"),
        ("COPY f tmp", "work/tmp"),
        ("COPY f /tmp", "tmp/f"),
        ("COPY f $WHERE/x", "else/where/x"),
        ('COPY ["f", "/with blank/x"]', "with blank/x"),
        ("COPY d /new", "new/g"),
        ("COPY d/ /tmp", "tmp/g"),
        ("COPY d/g /tmp/", "tmp/g"),
        ("COPY ?  /q/", "q/f"),
        ("COPY --chown=0:0 --chmod=600 f /new", "new"),
        ("ADD f /new", "new"),
    ],
)
def test_where_a_file_lands(on_busybox, instruction, expected):
    on_busybox.write({"f": "f", "d/g": "g"})
    if "?" in instruction:
        on_busybox.write({".dockerignore": "d\n"})
    image = on_busybox(f"FROM busybox\nWORKDIR /work\nENV WHERE=/else/where\n{instruction}")
    assert list(contents(image.layers[2])) == [expected]


def test_a_directory_keeps_its_owner_and_mode_when_something_is_put_into_it(on_busybox):
    on_busybox.write({"d/f": "f"})
    make = "mkdir -m 1770 /d && chown 5:6 /d && touch -d '2001-01-01 00:00:00' /d"
    image = on_busybox(f"FROM busybox\nRUN {make}\nCOPY d /d/")
    entry = members(image.layers[2])["d"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o1770, 5, 6, 978307200)


def test_a_file_replaces_a_file_and_a_link(on_busybox):
    on_busybox.write({"f": "new"})
    make = "echo old > /a && ln -s /a /b && ln /a /c"
    image = on_busybox(f"FROM busybox\nRUN {make}\nCOPY f /a\nCOPY f /b\nRUN cat /a /b /c; test ! -L /b")
    assert on_busybox.output() == "newnewold\n"
    assert contents(image.layers[3]) == {"b": b"new"}


def test_a_file_on_a_directory_goes_into_it_and_a_directory_on_a_file_fails(on_busybox):
    on_busybox.write({"f": "f", "d/g": "g"})
    on_busybox("FROM busybox\nRUN touch /file && mkdir /dir\nCOPY f /dir\nRUN cat /dir/f")
    assert on_busybox.output() == "f"
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox("FROM busybox\nRUN touch /file && mkdir /dir\nCOPY d /file/")
    assert isinstance(caught.value.__cause__, pylxc.SpawnError)
    assert caught.value.__cause__.errno == errno.ENOTDIR
    with pytest.raises(pylxc.BuildError, match="f"):
        on_busybox("FROM busybox\nRUN mkdir -p /d/f\nCOPY f /d/")  # a file cannot replace a directory


def test_links_in_the_context_are_copied_as_links(on_busybox):
    on_busybox.write({"d/in": "-> f", "d/out": "-> /etc/passwd", "d/f": "f"})
    image = on_busybox("FROM busybox\nCOPY d /d/\nCOPY d/in /file")
    found = members(image.layers[1])
    assert (found["d/in"].linkname, found["d/out"].linkname) == ("f", "/etc/passwd")
    assert contents(image.layers[2]) == {"file": b"f"}  # a link that is named is followed


def test_a_big_file_and_a_sparse_one(on_busybox):
    path = on_busybox.write({"big": os.urandom(3_000_001)})
    with (path / "sparse").open("wb") as file:
        file.truncate(5_000_000)
    image = on_busybox("FROM busybox\nCOPY big sparse /\nRUN cat /big | sha256sum; stat -c %s /sparse")
    import hashlib

    digest = hashlib.sha256((path / "big").read_bytes()).hexdigest()
    assert on_busybox.output() == f"{digest}  -\n5000000\n"
    assert members(image.layers[1])["sparse"].size == 5_000_000


# -- nothing lands outside


@pytest.fixture
def outside(tmp_path):
    """A directory of the host that must stay empty."""
    directory = tmp_path / "outside"
    directory.mkdir()
    yield directory
    assert list(directory.iterdir()) == []


FORMS = ["{path}", "/../../../..{path}", "../../../../../../..{path}", "/proc/1/root{path}", "/proc/self/cwd"]
INSTRUCTIONS = [
    *("COPY f /evil/f", "COPY f /evil/deep/er/f", "COPY d /evil/", "ADD a.tar /evil/"),
    *("WORKDIR /evil/w", "WORKDIR /evil", "WORKDIR /evil/w/x/y"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_a_link_to_nowhere_in_the_image_never_leads_out_of_it(on_busybox, outside, instruction, form):
    """What the link names is there on the host only: the step cannot be carried out, and says so."""
    on_busybox.write({"f": "f", "d/f": "f", "a.tar": tar_bytes({"f": b"f"})})
    target = form.format(path=outside)
    before = {name: os.stat(name).st_mtime_ns for name in ("/", str(outside), str(outside.parent))}
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox(f"FROM busybox\nRUN ln -s {target} /evil\n{instruction}")
    assert (caught.value.step, caught.value.line) == (3, 3)
    assert caught.value.__cause__.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    assert {name: os.stat(name).st_mtime_ns for name in before} == before


@pytest.mark.parametrize("form", FORMS[:3])
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_a_link_in_the_image_means_a_place_in_the_image(on_busybox, outside, instruction, form):
    on_busybox.write({"f": "f", "d/f": "f", "a.tar": tar_bytes({"f": b"f"})})
    target = form.format(path=outside)
    image = on_busybox(f"FROM busybox\nRUN mkdir -p {outside} && ln -s {target} /evil\n{instruction}\nRUN touch $PWD/x")
    inside = str(outside)[1:]
    written = names(image.layers[2]) + names(image.layers[3])
    elsewhere = [name for name in written if not f"{inside}/".startswith(f"{name}/") and not name.startswith(inside)]
    assert elsewhere in ([], ["x"])
    assert any(name.startswith(f"{inside}/") for name in written)


def test_an_archive_with_links_to_the_outside(on_busybox, outside):
    archive = tar_bytes({"l": f"-> {outside}", "l/f": b"f", "m": "-> /../../../../../..", f"m{outside}/g": b"g"})
    on_busybox.write({"a.tar": archive})
    image = on_busybox(f"FROM busybox\nRUN mkdir -p {outside}\nADD a.tar /t/")
    inside = str(outside)[1:]
    assert {f"{inside}/f", f"{inside}/g"} <= set(names(image.layers[2]))


@pytest.mark.parametrize("name", ["../../out", "a/../../../out", ".."])
def test_an_archive_with_dots(on_busybox, outside, name):
    assert outside.exists()
    on_busybox.write({"a.tar": tar_bytes({"fine": b"x", name: b"evil"})})
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox("FROM busybox\nADD a.tar /t/")
    assert caught.value.__cause__.errno == errno.EXDEV


# -- archives


def compressed(form):
    entries = {"top/": "/", "top/file": b"content\n", "top/link": "-> file", "other": b"o"}
    mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}[form]
    return tar_bytes({name.rstrip("/"): value for name, value in entries.items()}, mode=mode)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("name", ["a.{form}", "no-suffix"])
def test_add_unpacks_an_archive_and_copy_does_not(on_busybox, form, name):
    name = name.format(form=form)
    on_busybox.write({name: compressed(form)})
    image = on_busybox(f"FROM busybox\nADD {name} /t\nCOPY {name} /c/")
    assert names(image.layers[1]) == ["t", "t/other", "t/top", "t/top/file", "t/top/link"]
    found = members(image.layers[1])
    assert (found["t/top"].mode, found["t/top/file"].mode, found["t/top/file"].mtime) == (0o750, 0o640, 1_000_000_000)
    assert contents(image.layers[1]) == {"t/other": b"o", "t/top/file": b"content\n"}
    assert contents(image.layers[2]) == {f"c/{name}": compressed(form)} or form == "tar.gz"
    assert names(image.layers[2]) == ["c", f"c/{name}"]


def test_an_archive_keeps_its_owners_bits_and_links(on_busybox, tmp_path):
    owner = 70_000 if os.geteuid() == 0 else 60_000  # useradd(8) gives a user 65536 ids
    with tarfile.open(tmp_path / "context/a.tar", "w") as archive:
        for name, kind, mode, link in (
            ("s", tarfile.REGTYPE, 0o4755, ""),
            ("h", tarfile.LNKTYPE, 0o4755, "s"),
            ("p", tarfile.FIFOTYPE, 0o600, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname, entry.uid, entry.gid = kind, mode, link, owner, 3
            archive.addfile(entry)
    found = members(on_busybox("FROM busybox\nADD a.tar /").layers[1])
    assert (found["h"].mode, found["h"].uid, found["h"].gid) == (0o4755, owner, 3)
    assert (found["s"].type, found["s"].linkname, found["p"].type) == (b"1", "h", b"6")


def test_archives_and_files_in_one_add(on_busybox):
    on_busybox.write({"a.tar": tar_bytes({"x": b"x"}), "b.tar.gz": tar_bytes({"y": b"y"}, mode="w:gz"), "f": "f"})
    image = on_busybox("FROM busybox\nADD a.tar b.tar.gz f /all/")
    assert contents(image.layers[1]) == {"all/f": b"f", "all/x": b"x", "all/y": b"y"}


def test_what_only_looks_like_an_archive_is_copied(on_busybox):
    on_busybox.write({"a.tar": "not one", "empty.tar": b"", "a.gz": b"\x1f\x8b garbage"})
    image = on_busybox("FROM busybox\nADD a.tar empty.tar a.gz /d/")
    assert contents(image.layers[1]) == {"d/a.tar": b"not one", "d/empty.tar": b"", "d/a.gz": b"\x1f\x8b garbage"}


# -- WORKDIR


def test_workdir_makes_what_is_missing(on_busybox):
    image = on_busybox("FROM busybox\nUSER nobody\nWORKDIR /a/b\nWORKDIR c/../d\nRUN pwd\nWORKDIR /tmp")
    assert on_busybox.output() == "/a/b/d\n"
    assert facts(image.layers[1]) == {"a": (0o755, 0, 0), "a/b": (0o755, 0, 0)}
    assert names(image.layers[2]) == ["a", "a/b", "a/b/d"]
    assert names(image.layers[4]) == []  # /tmp was there
    assert image.config.workdir == "/tmp"


def test_workdir_through_a_link_of_the_image(on_busybox):
    image = on_busybox("FROM busybox\nRUN mkdir /real && ln -s /real /link\nWORKDIR /link/made\nRUN pwd -P")
    assert on_busybox.output() == "/real/made\n"
    assert names(image.layers[2]) == ["real", "real/made"]


def test_workdir_on_a_file(on_busybox):
    with pytest.raises(pylxc.BuildError, match="/etc/passwd/x") as caught:
        on_busybox("FROM busybox\nWORKDIR /etc/passwd/x")
    assert (caught.value.step, caught.value.exit_code) == (2, None)
    with pytest.raises(pylxc.BuildError, match="/etc/passwd"):
        on_busybox("FROM busybox\nWORKDIR /etc/passwd")


@pytest.mark.root
def test_a_device_in_the_context_cannot_be_copied(on_busybox):
    path = on_busybox.write({"f": "f"})
    os.mknod(path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    words = r"null: a device or a socket cannot be copied: list it in \.dockerignore"
    with pytest.raises(pylxc.BuildError, match=words):
        on_busybox("FROM busybox\nCOPY . /c/")


# -- as docker 20.10 with BuildKit does


def test_a_directory_below_the_one_that_is_copied_takes_the_sources_owner_and_mode(on_busybox):
    path = on_busybox.write({"d/sub/f": "f"})
    (path / "d/sub").chmod(0o700)
    make = "mkdir -p /d/sub && chmod 1777 /d /d/sub && chown 5:6 /d /d/sub"
    image = on_busybox(f"FROM busybox\nRUN {make}\nCOPY d /d")
    assert facts(image.layers[2]) == {"d": (0o1777, 5, 6), "d/sub": (0o700, 0, 0), "d/sub/f": (0o644, 0, 0)}


def test_files_of_one_directory_that_are_one_stay_one(on_busybox):
    path = on_busybox.write({"d/f": "f", "g": "f"})
    (path / "d/sub").mkdir()
    for name in ("d/hard", "d/sub/hard", "other"):
        (path / name).hardlink_to(path / "d/f")
    image = on_busybox("FROM busybox\nCOPY d /d\nCOPY d/f d/hard other /e/\nCOPY --exclude=f d /h")
    assert contents(image.layers[1])["d/f"] == b"f"
    kinds = [{name: (one.type, one.linkname) for name, one in members(layer).items()} for layer in image.layers[1:]]
    assert {name: kinds[0][name] for name in ("d/hard", "d/sub/hard")} == {
        "d/hard": (b"1", "d/f"),
        "d/sub/hard": (b"1", "d/f"),
    }
    assert kinds[1] == {"e": (b"5", ""), "e/f": (b"0", ""), "e/hard": (b"0", ""), "e/other": (b"0", "")}
    assert kinds[2]["h/sub/hard"] == (b"1", "h/hard")


def test_the_directories_on_the_way_are_the_owners(on_busybox):
    on_busybox.write({"d/f": "f", "d/sub/g": "g"})
    (on_busybox.files.path / "d/hard").hardlink_to(on_busybox.files.path / "d/f")
    image = on_busybox(
        "FROM busybox\nRUN mkdir -m 700 -p /there && ln -s there /link\nCOPY --chown=5:6 d /link/a/b\n"
        "COPY --chown=5:6 d/f /there/a/c/f\nCOPY --chown=5:6 d/f /file/\nRUN touch /plain\n"
        "COPY --chown=5:6 d/f /there/"
    )
    assert facts(image.layers[2]) == {
        "there": (0o700, 0, 0),
        "there/a": (0o755, 5, 6),
        "there/a/b": (0o755, 5, 6),
        "there/a/b/f": (0o644, 5, 6),
        "there/a/b/hard": (0o644, 5, 6),
        "there/a/b/sub": (0o755, 5, 6),
        "there/a/b/sub/g": (0o644, 5, 6),
    }
    assert members(image.layers[2])["there/a/b/hard"].linkname == "there/a/b/f"
    assert facts(image.layers[3])["there/a/c"] == (0o755, 5, 6)
    assert facts(image.layers[4]) == {"file": (0o755, 5, 6), "file/f": (0o644, 5, 6)}
    assert facts(image.layers[6]) == {"there": (0o700, 0, 0), "there/f": (0o644, 5, 6)}
    with pytest.raises(pylxc.BuildError):
        on_busybox("FROM busybox\nRUN touch /plain\nCOPY --chown=5:6 d /plain/x/")
