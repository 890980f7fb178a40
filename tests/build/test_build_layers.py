"""What a step leaves in its layer: removals, links, bits, attributes, no stubs, never a second copy of the files."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest
from building import contents, members, names, tar_bytes

import pylxc

CAPABILITY = "SCHILY.xattr.security.capability"


def run(image, command):
    return pylxc.run(image, command, engine=image._engine).text


def upper_of_staging(engine):
    """Return the directory that a step under way writes to."""
    (found,) = (engine.root / "staging").glob("**/tree")
    return found


# -- removals


def test_a_removed_file_stays_removed(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two\nRUN rm /d/one\n"
        "RUN test ! -e /d/one && ls /d > /seen"
    )
    assert names(image.layers[2]) == ["d", "d/.wh.one"]
    assert [(e.path, e.kind) for e in image.layers[2].entries()] == [("d", "directory"), ("d/one", "whiteout")]
    assert run(image, ["cat", "/seen"]) == "two\n"
    assert run(image, ["ls", "/d"]) == "two\n"


def test_a_removed_directory_that_is_made_anew_hides_the_old_one(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN mkdir -p /d/sub && echo old > /d/sub/old && echo old > /d/old\n"
        "RUN rm -rf /d && mkdir /d && echo new > /d/new\nRUN ls /d > /seen"
    )
    assert names(image.layers[2]) == ["d", "d/.wh..wh..opq", "d/new"]
    assert run(image, ["cat", "/seen"]) == "new\n"
    assert run(image, ["ls", "-A", "/d"]) == "new\n"
    again = on_busybox("FROM busybox\nRUN true")
    assert again.layers[0].digest == image.layers[0].digest


def test_a_file_becomes_a_directory_and_back(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN echo f > /x && mkdir /y && echo g > /y/g\n"
        "RUN rm /x && mkdir /x && echo in > /x/in && rm -r /y && echo file > /y\nRUN cat /x/in /y > /seen"
    )
    assert run(image, ["cat", "/seen"]) == "in\nfile\n"
    assert stat.S_ISREG(members(image.layers[2])["y"].mode | stat.S_IFREG)
    assert members(image.layers[2])["x"].isdir()


def test_a_renamed_directory_of_a_lower_layer(on_busybox):
    """Without redirect_dir the upper directory holds all of it, readable without the layers below."""
    image = on_busybox("FROM busybox\nRUN mkdir -p /d/e && echo f > /d/e/f\nRUN mv /d /moved\nRUN cat /moved/e/f; ls /")
    assert on_busybox.output().startswith("f\n")
    assert "\nd\n" not in on_busybox.output()
    assert {".wh.d", "moved", "moved/e", "moved/e/f"} == set(names(image.layers[2]))


def test_change_of_mode_of_a_lower_file_carries_its_content(on_busybox):
    image = on_busybox("FROM busybox\nRUN echo content > /f\nRUN chmod 600 /f")
    assert contents(image.layers[2]) == {"f": b"content\n"}
    assert members(image.layers[2])["f"].mode == 0o600


# -- what files are


def test_links_bits_and_times(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN mkdir /d && cd /d && echo data > a && ln a b && ln -s /nowhere c && cp /bin/busybox s &&"
        " chmod 4755 s && chmod 2750 . && mkfifo p && chown 1:2 a && touch -d '2001-02-03 04:05:06' a"
    )
    found = members(image.layers[1])
    assert (found["d"].mode, found["d"].type) == (0o2750, b"5")
    assert (found["d/a"].uid, found["d/a"].gid, found["d/a"].mtime) == (1, 2, 981173106)
    assert (found["d/b"].type, found["d/b"].linkname) == (b"1", "d/a")
    assert (found["d/c"].type, found["d/c"].linkname) == (b"2", "/nowhere")
    assert (found["d/p"].type, found["d/s"].mode) == (b"6", 0o4755)
    assert run(image, ["stat", "-c", "%a %u %g %h", "/d/a", "/d/s"]) == "644 1 2 2\n4755 0 0 1\n"


def test_hard_links_across_directories_and_layers(on_busybox):
    image = on_busybox("FROM busybox\nRUN mkdir /x /y && echo data > /x/a\nRUN ln /x/a /y/b\nRUN stat -c %h /x/a /y/b")
    assert on_busybox.output() == "2\n2\n"
    assert contents(image.layers[2]) == {"x/a": b"data\n"}
    assert members(image.layers[2])["y/b"].linkname == "x/a"


@pytest.mark.parametrize("place", ["made", pytest.param("usr/local/bin", marks=pytest.mark.root)])
def test_file_capabilities_survive(build, place):
    """setcap in a RUN, on the host's own tools; the capability is in the tar and holds in a container."""
    build(
        f"FROM host\nWORKDIR /{place}\nRUN cp /usr/bin/cat mycat && /usr/sbin/setcap cap_net_raw=ep mycat\n"
        f"RUN /usr/sbin/getcap mycat",
        tag="capable",
    )
    assert build.output().strip().endswith("cap_net_raw=ep")
    image = pylxc.Image.get("capable", engine=build.engine)
    entry = members(image.layers[-2])[f"{place}/mycat"]
    assert CAPABILITY in entry.pax_headers
    # Carried on when the file is copied up by a later step.
    moved = build("FROM capable\nRUN mv mycat other")
    assert CAPABILITY in members(moved.layers[-1])[f"{place}/other"].pax_headers


def test_user_attributes_survive(on_busybox, busybox_root, tmp_path):
    root = tmp_path / "attributed"
    subprocess.run(["cp", "-a", busybox_root, root], check=True)
    os.setxattr(root / "etc/passwd", "user.note", b"\0binary\xff")
    os.setxattr(root / "etc", "user.dir", b"d")
    base = pylxc.Image.from_directory(root, "attributed", engine=on_busybox.engine)
    image = on_busybox("FROM attributed\nRUN echo more >> /etc/passwd")
    for layer, place in ((base.layers[0], "import"), (image.layers[1], "copied up")):
        directory = on_busybox.engine.layer_directory(layer.digest)
        assert os.getxattr(f"{directory}/etc/passwd", "user.note") == b"\0binary\xff", place
        assert os.getxattr(f"{directory}/etc", "user.dir") == b"d", place
    # The marks of overlayfs itself are not part of an image.
    assert not [key for entry in members(image.layers[1]).values() for key in entry.pax_headers if "overlay" in key]


def test_names_of_all_kinds(on_busybox):
    long = "x" * 200
    image = on_busybox(f"FROM busybox\nRUN mkdir /n && cd /n && touch -- 'a b' $'new\\nline' -dash 'ünï' {long}")
    assert set(names(image.layers[1])) == {"n", "n/a b", "n/new\nline", "n/-dash", "n/ünï", f"n/{long}"}


# -- the upper directory is the layer


def test_the_upper_directory_becomes_the_layer_without_copying(on_busybox):
    """The very inode that the RUN wrote is the layer's, and no other."""
    seen = {}

    def look(event):
        if event.kind == "output":
            upper = upper_of_staging(on_busybox.engine)
            seen["file"], seen["top"] = (upper / "big").stat().st_ino, upper.stat().st_ino

    on_busybox.tell = look
    image = on_busybox("FROM busybox\nRUN head -c 1000000 /dev/zero > /big; echo")
    layer = image.layers[1]
    directory = on_busybox.engine.layer_directory(layer.digest)
    assert os.stat(f"{directory}/big").st_ino == seen["file"]
    assert os.stat(directory).st_ino == seen["top"]
    assert os.stat(f"{directory}/big").st_nlink == 1


# -- mount points


STUBS = {"proc", "dev", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname"}


@pytest.mark.parametrize(
    "text",
    [
        "FROM busybox\nRUN echo > /file",
        "FROM busybox\nRUN echo > /etc/other",
        "FROM busybox\nRUN ls /proc /dev /sys /etc && cat /etc/hosts /etc/resolv.conf /etc/hostname > /dev/null",
        "FROM busybox\nRUN mkdir -p /a && echo 1.2.3.4 x >> /etc/hosts",
        "FROM scratch\nCOPY f /etc/f",
        "FROM scratch\nCOPY f /",
        "FROM scratch\nWORKDIR /w",
        "FROM scratch\nADD f.tar /",
    ],
)
def test_mount_points_never_appear(on_busybox, text):
    on_busybox.write({"f": "f", "f.tar": tar_bytes({"x": b"x"})})
    image = on_busybox(text)
    assert image.layers
    assert STUBS & set(names(image.layers[-1])) == set()
    assert STUBS & {entry.path for entry in image.layers[-1].entries()} == set()


def test_files_that_the_image_has_at_mount_points_are_kept(on_busybox):
    on_busybox.write({"hosts": "10.0.0.1 own\n"})
    image = on_busybox("FROM busybox\nCOPY hosts /etc/hosts\nRUN grep -c own /etc/hosts || echo hidden")
    assert on_busybox.output() == "0\nhidden\n"
    assert contents(image.layers[1]) == {"etc/hosts": b"10.0.0.1 own\n"}


def test_steps_that_change_nothing(on_busybox):
    """Their layers are one and the same, several times: a stack that overlayfs refuses to mount as it stands."""
    image = on_busybox("FROM busybox\nRUN true\nRUN :\nRUN echo x > /x\nRUN cat /x")
    assert on_busybox.output() == "x\n"
    assert image.layers[1].digest == image.layers[2].digest == image.layers[4].digest
    assert names(image.layers[1]) == []
    assert run(image, ["cat", "/x"]) == "x\n"


def test_the_same_copy_twice_with_a_removal_between(on_busybox):
    """The layer of the first COPY stands in the stack again: its files are back."""
    on_busybox.write({"d/f": "f"})
    image = on_busybox("FROM busybox\nCOPY d /d/\nRUN rm -r /d\nCOPY d /d/\nRUN cat /d/f")
    assert on_busybox.output() == "f"
    assert run(image, ["cat", "/d/f"]) == "f"


def test_many_steps(on_busybox):
    """More layers than one page of mount options could name."""
    text = "FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(70))
    image = on_busybox(text)
    assert run(image, ["sh", "-c", "cat /f? /f?? | wc -l"]) == "70\n"


# -- a layer as a value


def test_layer_tar_is_what_the_digest_names(on_busybox):
    import hashlib

    on_busybox.write({"d/f": "x" * 70_000})
    image = on_busybox("FROM busybox\nCOPY . /all/\nRUN rm -r /etc/group /all/d && mkdir /all/d")
    for layer in image.layers:
        total, size = hashlib.sha256(), 0
        with layer.tar() as stream:
            while chunk := stream.read(1 << 16):
                total.update(chunk)
                size += len(chunk)
        assert f"sha256:{total.hexdigest()}" == layer.digest
        assert size == layer.size


def test_layer_tar_can_be_left_early(on_busybox):
    layer = on_busybox("FROM busybox\nRUN head -c 3000000 /dev/zero > /big").layers[1]
    with layer.tar() as stream:
        assert len(stream.read(512)) == 512
    with layer.tar() as stream:
        done = subprocess.run(["/usr/bin/sha256sum"], stdin=stream, capture_output=True, check=True, text=True)
    assert f"sha256:{done.stdout.split()[0]}" == layer.digest


def test_entries_of_a_layer(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN mkdir -p /b/c && echo abc > /b/c/f && chown 3:4 /b/c/f && chmod 4711 /b/c/f &&"
        " ln -s c /b/l && mkfifo /a && rm /etc/group && ln -s /bin /z"
    )
    assert [(e.path, e.kind, e.mode, e.size, e.uid, e.gid) for e in image.layers[1].entries()] == [
        ("a", "other", 0o644, 0, 0, 0),
        ("b", "directory", 0o755, 0, 0, 0),
        ("b/c", "directory", 0o755, 0, 0, 0),
        ("b/c/f", "file", 0o4711, 4, 3, 4),
        ("b/l", "symlink", 0o777, 1, 0, 0),
        ("etc", "directory", 0o755, 0, 0, 0),
        ("etc/group", "whiteout", 0, 0, 0, 0),
        ("z", "symlink", 0o777, 4, 0, 0),
    ]


def test_entries_come_in_the_order_of_the_tar(on_busybox):
    image = on_busybox("FROM busybox\nRUN mkdir -p /d/e /d-e && touch /d/e/f /d.f /d-e/x '/d!' /dz /d/E")
    assert [entry.path for entry in image.layers[1].entries()] == names(image.layers[1])


# -- times


def test_source_date_epoch(on_busybox, monkeypatch):
    """What is made now bears no later time, in the tar and on disk; what is older keeps its own. The cache knows."""
    on_busybox.write({"d/f": "f", "d/g": "g"})
    os.utime(on_busybox.files.path / "d/f", (10, 10))
    text = "FROM busybox\nRUN mkdir /r && echo r > /r/f\nCOPY d /d/"
    before = on_busybox(text)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    first = on_busybox(text)
    again = on_busybox(text, no_cache=True)
    assert [layer.digest for layer in again.layers] == [layer.digest for layer in first.layers]
    assert before.layers[1].digest != first.layers[1].digest
    found = {**members(first.layers[1]), **members(first.layers[2])}
    assert {name: found[name].mtime for name in ("r", "r/f", "d/f", "d/g")} == {
        "r": 10**9,
        "r/f": 10**9,
        "d/f": 10,
        "d/g": 10**9,
    }
    place = on_busybox.engine.layer_directory(first.layers[1].digest)
    assert os.stat(f"{place}/r/f").st_mtime == 10**9
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(pylxc.SpecError, match="SOURCE_DATE_EPOCH"):
        on_busybox("FROM busybox\nRUN true")


@pytest.mark.parametrize("name", [".wh.name", ".wh..wh..opq"])
def test_a_name_that_means_a_removal_is_told(on_busybox, name):
    with pytest.raises(pylxc.BuildError, match=r"begins with \".wh.\", which in a layer means .*: .*" + name) as caught:
        on_busybox(f"FROM busybox\nRUN mkdir /d && touch /d/{name}")
    assert "staging" not in str(caught.value)
    assert caught.value.line == 2
