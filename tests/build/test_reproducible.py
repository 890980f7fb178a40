"""The same inputs give the same image, whenever, wherever and by whomever it is built."""

from __future__ import annotations

import json
import os

import pytest
from building import contents, members
from buildkit_results import write_context
from reproduced import built

import pylxc


def test_the_same_image_elsewhere_and_later(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
    one = built(tmp_path / "one", umask="022", zone="UTC", host="one.example.org")
    two = built(tmp_path / "two/deep", umask="077", zone="Asia/Kathmandu", host="two", backwards=True)
    engines = [pylxc.Engine(tmp_path / place) for place in ("one/store", "two/deep/store")]
    images = [pylxc.Image.get(id_, engine=engine) for id_, engine in zip((one, two), engines, strict=True)]
    listed = [[(layer.created_by, members_of(layer)) for layer in image.layers] for image in images]
    assert listed[0] == listed[1]
    assert one == two


def members_of(layer: pylxc.Layer) -> list[tuple[object, ...]]:
    found = members(layer).values()
    return [(e.name, e.type, e.mode, e.uid, e.gid, e.mtime, e.size, e.linkname, sorted(e.pax_headers)) for e in found]


def test_again_in_the_same_store(build, tmp_path):
    text = "FROM scratch\nCOPY root/ /\nRUN echo a > /home/a; mkdir /home/b\nCOPY dir /home/c\nWORKDIR /w/x"
    write_context(build.files.path, {})
    first = build(text)
    os.utime(build.files.path / "dir/one")
    assert build(text, no_cache=True).id == first.id
    assert build(text).id == first.id


def test_times_are_those_of_the_base(on_busybox):
    on_busybox.write({"root/f": "f", "g": "g"})
    os.utime(on_busybox.files.path / "g", (7, 7))
    base = on_busybox("FROM busybox\nRUN echo > /x", args={"SOURCE_DATE_EPOCH": "1000000000"}, tag="base")
    image = on_busybox("FROM base\nCOPY root/f g /d/\nRUN touch /t\nENV A=1")
    assert (base.created, image.created) == (10**9, 10**9)
    assert {entry.created for entry in image.history()[-4:]} == {10**9}
    assert {name: entry.mtime for name, entry in members(image.layers[-2]).items()} == {"d": 0, "d/f": 10**9, "d/g": 7}
    assert {name: entry.mtime for name, entry in members(image.layers[-1]).items()} == {"t": 10**9}


def test_scratch_is_of_the_epoch(build):
    build.write({"f": "f"})
    image = build("FROM scratch\nCOPY f /d/\nCMD x")
    assert image.created == 0
    assert [entry.created for entry in image.history()] == [0, 0]
    assert {entry.mtime for entry in members(image.layers[0]).values()} == {0}


def test_an_argument_goes_before_the_environment(on_busybox, monkeypatch):
    show = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /epoch"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    image = on_busybox(show)
    assert (image.created, contents(image.layers[-1])["epoch"]) == (5, b"5\n")
    image = on_busybox(show, args={"SOURCE_DATE_EPOCH": "6"})
    assert (image.created, contents(image.layers[-1])["epoch"]) == (6, b"6\n")
    assert not [event for event in on_busybox.events if event.kind == "warning"]
    plain = on_busybox("FROM busybox\nRUN echo [$SOURCE_DATE_EPOCH] > /epoch", args={"SOURCE_DATE_EPOCH": "7"})
    assert contents(plain.layers[-1])["epoch"] == b"[]\n"
    assert not [event for event in on_busybox.events if event.kind == "warning"]
    with pytest.raises(pylxc.SpecError, match="SOURCE_DATE_EPOCH"):
        on_busybox("FROM busybox\nRUN true", args={"SOURCE_DATE_EPOCH": "-1"})


def test_nothing_of_this_machine_is_in_the_image(build):
    write_context(build.files.path, {})
    secrets = [os.uname().nodename, str(build.engine.root), str(build.files.path)]
    image = build("FROM scratch\nCOPY root/bin /bin\nRUN echo made > /made\nRUN touch /also", no_cache=True)
    assert [sorted(members(layer)) for layer in image.layers[1:]] == [["made"], ["also"]]
    algorithm, digest = image.id.split(":")
    text = (build.engine.root / "oci/blobs" / algorithm / digest).read_text()
    assert json.loads(text)["rootfs"]["diff_ids"] == [layer.digest for layer in image.layers]
    assert not [secret for secret in secrets if secret in text]
