"""The same inputs give the same image, whenever, wherever and by whomever it is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from building import contents, members, tar_bytes
from buildkit_results import write_context

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
FROM scratch
COPY root/ /
COPY --chown=user dir /srv/new/
COPY a b.txt /srv/
ADD one.tar /opt/one/
WORKDIR /work/deep
RUN mkdir -p /made/z /made/a/b && for f in q c z a; do echo $f > /made/z/$f; done && ln /made/z/q /made/hard && \
    ln -s nowhere /made/soft && mkfifo /made/fifo && chown -R 5:6 /made/a && chmod 2751 /made/a/b && \
    rm -r /data/sub /data/loose /data/here && mv /srv/new/one /srv/moved && chmod 700 /home
RUN cat /proc/sys/kernel/hostname > host; umask > umask; env | sort > env; id > id; pwd > pwd
RUN touch -d @99999999999 /made/late
RUN rm -r /made/z && mkdir /made/z && echo new > /made/z/new
USER user
WORKDIR /work/mine
RUN echo mine > file && mkdir /tmp/mine
RUN true
COPY dir /
LABEL one=1
MAINTAINER somebody
CMD ["x"]
"""
BUILD = """
import os, sys
os.umask(int(sys.argv[1], 8))
import pylxc
engine = pylxc.Engine(sys.argv[2])
print(pylxc.Image.build(sys.argv[3], no_cache=True, engine=engine).id)
"""


def context(path: Path, *, backwards: bool) -> Path:
    """Write the context of the build; ``backwards``: the directories list their files in another order."""
    path.mkdir(parents=True)
    write_context(path, {"one.tar": tar_bytes({"d": "/", "d/f": b"f", "l": "-> d/f"}), "Dockerfile": TEXT})
    if backwards:
        for name in ("root/bin", "dir"):
            found = sorted((path / name).iterdir(), reverse=True)
            away = path.parent / f"away-{name.replace('/', '-')}"
            away.mkdir()
            for one in found:
                one.rename(away / one.name)
            for one in sorted(away.iterdir()):
                one.rename(path / name / one.name)
    return path


def built(place: Path, *, umask: str, zone: str, host: str, backwards: bool = False) -> str:
    """Build in a process, a store and, where that may be had, on a host of its own; returns the image's id."""
    files = context(place / "context", backwards=backwards)
    words = [sys.executable, "-c", BUILD, umask, str(place / "store"), str(files)]
    if os.geteuid() == 0:
        words = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host, *words]
    environment = {**os.environ, "TZ": zone, "HOSTNAME": host, "LC_ALL": "C"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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
