"""Archives that lie, lead out, loop, swell or end early: one clear error each, and nothing of them is kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time

import pytest
import zstandard
from pictures import (
    CONFIG,
    DOCKER_NAME,
    INDEX,
    LAYER,
    MANIFEST,
    Layout,
    config,
    digest_of,
    docker_files,
    dump,
    layer_tar,
    named,
    packed,
)

import pylxc
from pylxc.errors import IntegrityError, PylxcError, StoreError, UnsupportedError
from pylxc.exchange import incoming, sources

BASE = layer_tar({"a": b"content" * 1000})
ZEROS = digest_of(b"")


def good() -> Layout:
    made = Layout()
    return made.top(named(made.image(BASE), "app:1"))


def file_of(descriptor: dict) -> str:
    return f"blobs/sha256/{descriptor['digest'][7:]}"


def with_manifest(**changes) -> Layout:
    """A layout whose manifest says something else (callables get what it said)."""
    made = Layout()
    manifest = json.loads(made[file_of(made.image(BASE))])
    for name, value in changes.items():
        manifest[name] = value(manifest[name]) if callable(value) else value
    return made.top(made.blob(dump(manifest), MANIFEST))


def fails(load, archive, kind=StoreError, match=None) -> PylxcError:
    data = archive if isinstance(archive, bytes) else packed(archive)
    with pytest.raises(kind, match=match) as caught:
        load(data)
    return caught.value


pytestmark = pytest.mark.usefixtures("unchanged")


# -- names


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "one",
    [
        member("../out"),
        member("/etc/passwd"),
        member("blobs/../../out"),
        member("blobs/../index.json"),
        member("x/" * 60 + "../" * 70 + "out"),
        member("index.json", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("index.json", tarfile.SYMTYPE, linkname="../../etc/passwd"),
        member("d/index.json", tarfile.SYMTYPE, linkname="../../etc/passwd"),
        member("index.json", tarfile.LNKTYPE, linkname="../etc/passwd"),
        member("index.json", tarfile.LNKTYPE, linkname="/etc/passwd"),
    ],
    ids=lambda one: f"{one.name[:20]} {one.linkname}",
)
def test_names_that_lead_out(load, one):
    fails(load, tar_of(one), match="leads out of the archive")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"V", b"Z"])
def test_entries_of_other_kinds(load, kind):
    fails(load, tar_of(member("odd", kind)), match="'odd' is of a kind")


def test_names_that_are_no_text_or_come_twice(load):
    data = bytearray(tar_of(member("x" * 50), form=tarfile.USTAR_FORMAT))
    data[0] = 0xFF
    total = sum(data[:148]) + 8 * 32 + sum(data[156:512])
    data[148:156] = b"%06o\0 " % total
    fails(load, bytes(data), match="not UTF-8")
    fails(load, tar_of(member("index.json"), member("./index.json")), match=r"index\.json comes twice")
    fails(load, tar_of(member("a", tarfile.SYMTYPE, linkname="b"), member("a")), match="comes twice")


def test_links_that_lead_nowhere(load):
    ring = {"index.json": "other", "other": "index.json"}
    fails(load, ring, match="leads nowhere")
    fails(load, {"manifest.json": "absent"}, match="is no archive of images")
    files = docker_files((["app"], [BASE]))
    (name,) = [name for name in files if name.endswith("layer.tar")]
    files[name] = "../absent/layer.tar"
    fails(load, files, match="is not there")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "d/../../x"])
@pytest.mark.parametrize("field", ["Config", "Layers"])
def test_names_in_manifest_json_that_lead_out(load, field, name):
    files = docker_files((["app"], [BASE]))
    entries = json.loads(files["manifest.json"])
    entries[0][field] = name if field == "Config" else [name]
    files["manifest.json"] = dump(entries)
    fails(load, files, match="leads out of the archive")


def test_a_directory_whose_links_lead_out(engine, tmp_path):
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(dump({"schemaVersion": 2, "manifests": []}))
    (layout / "index.json").symlink_to("../secret")
    with pytest.raises(StoreError, match=r"index\.json leads out"):
        pylxc.Image.load(layout, engine=engine)
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    with pytest.raises(StoreError, match="cannot be read: not a regular file"):
        pylxc.Image.load(layout, engine=engine)


# -- bytes that are not what they should be


def test_a_blob_whose_digest_lies(load):
    made = good()
    name = file_of(json.loads(made["index.json"])["manifests"][0])
    made[name] += b" "
    error = fails(load, made, IntegrityError, match=name)
    assert (error.expected, error.actual) == (f"sha256:{name[13:]}", digest_of(made[name]))
    made = good()
    made["blobs/sha256/short"] = b""
    assert fails(load, made, IntegrityError).actual == ZEROS


@pytest.mark.parametrize("size", [0, 1, 10**6, 10**18])
@pytest.mark.parametrize("which", ["config", "layers"])
def test_a_size_that_lies(load, which, size):
    def lie(said):
        return {**said, "size": size} if which == "config" else [{**said[0], "size": size}]

    error = fails(load, with_manifest(**{which: lie}), (IntegrityError, StoreError))
    assert "bytes" in str(error)


def test_the_size_of_a_manifest_lies(load):
    made = good()
    entry = json.loads(made["index.json"])["manifests"][0]
    fails(load, made.top({**entry, "size": entry["size"] + 1}), IntegrityError, match="bytes")


def test_a_layer_that_is_not_what_the_configuration_says(load):
    made = Layout()
    manifest = json.loads(made[file_of(made.image(BASE))])
    manifest["config"] = made.blob(config([layer_tar({"other": b""})]), CONFIG)
    made.top(made.blob(dump(manifest), MANIFEST))
    error = fails(load, made, IntegrityError, match="unpacked")
    assert (error.expected, error.actual) == (digest_of(layer_tar({"other": b""})), digest_of(BASE))


def test_a_layer_that_pretends_to_be_one_that_is_here(engine, load):
    """It would become that layer's archive, and go out as it."""
    wanted = layer_tar({"other": b""})
    made = Layout()
    manifest = json.loads(made[file_of(made.image(BASE))])
    manifest["config"] = made.blob(config([wanted]), CONFIG)
    made.top(made.blob(dump(manifest), MANIFEST))
    other = Layout()
    image = load(packed(other.top(other.image(wanted))))[0]
    fails(load, made, IntegrityError, match="unpacked")
    assert [row.layer for row in engine.store.blobs.of_layer(digest_of(wanted))] == [digest_of(wanted)]
    image.remove()


@pytest.mark.parametrize("count", [0, 2])
def test_more_or_fewer_layers_than_the_configuration_says(load, count):
    fails(load, with_manifest(layers=lambda said: said * count), IntegrityError, match="layers")


@pytest.mark.parametrize(
    "layer",
    [
        b"",
        b"this is no archive" * 100,
        BASE[:1000],
        b"\x1f\x8b" + b"x" * 99,
        gzip.compress(b"neither is this" * 100, mtime=0),
        gzip.compress(BASE, mtime=0)[:-9],
        gzip.compress(BASE, mtime=0) + b"tail",
        b"\x28\xb5\x2f\xfd" + b"\xff" * 99,
        zstandard.compress(BASE)[:-9],
    ],
)
def test_a_layer_that_is_none(load, layer):
    made = Layout()
    manifest = {"schemaVersion": 2, "config": made.blob(config([BASE]), CONFIG)}
    manifest["layers"] = [made.blob(layer, f"{LAYER}+gzip")]
    fails(load, made.top(made.blob(dump(manifest), MANIFEST)), (StoreError, IntegrityError), match="layer sha256:")


@pytest.mark.parametrize("name", ["../out", "d/../../out", "/../out"])
def test_a_layer_whose_names_lead_out(load, name, tmp_path):
    made = Layout()
    fails(load, made.top(made.image(layer_tar({name: b"x"}))), match="leads out")
    assert not [*tmp_path.rglob("out")]


def test_a_bad_second_image_keeps_the_first_one_out(load):
    made = Layout()
    bad = made.image(layer_tar({"../x": b""}))
    fails(load, made.top(named(made.image(BASE), "good:1"), bad))


# -- documents


def test_json_that_is_none(load):
    made = good()
    for text in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"text"', b"[]", b"null", b"{}", b"9" * 10_000):
        made["index.json"] = text
        fails(load, made, IntegrityError)
        fails(load, {"manifest.json": text}, (IntegrityError, StoreError))
    nested = b'{"schemaVersion":2,"manifests":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    made["index.json"] = nested
    assert "nested too deeply" in str(fails(load, made, IntegrityError))


def test_documents_that_are_too_large(load):
    made = good()
    made["index.json"] = b" " * (5 << 20)
    fails(load, made, match=r"index\.json has more than")
    large = Layout()
    fails(load, large.top(large.blob(b" " * (5 << 20), MANIFEST)), match="has more than")
    large = Layout()
    fails(load, large.top(large.image(BASE, pad="x" * (17 << 20))), match="configuration has more than")


@pytest.mark.parametrize(
    "entry",
    [
        1,
        None,
        {},
        {"digest": "sha256:short", "size": 1},
        {"digest": ZEROS},
        {"digest": ZEROS, "size": -1},
        {"digest": ZEROS, "size": True},
        {"digest": ZEROS, "size": "1"},
        {"digest": 7, "size": 1},
        {"digest": "sha256:../../../etc/passwd", "size": 1},
        {"digest": ZEROS, "size": 1, "annotations": [1]},
        {"digest": ZEROS, "size": 1, "mediaType": {"a": 1}},
    ],
)
def test_descriptors_that_are_none(load, entry):
    fails(load, Layout().top(entry), IntegrityError)
    fails(load, with_manifest(layers=[entry]), IntegrityError)


def test_digests_of_another_algorithm(load):
    entry = {"digest": "sha512:" + "0" * 128, "size": 1, "mediaType": MANIFEST}
    fails(load, Layout().top(entry), UnsupportedError, match="SHA-256")


def test_a_document_that_is_two_things(load):
    """CVE-2021-41190: one reader takes it for an index, another one for a manifest."""
    fails(load, with_manifest(manifests=[]), IntegrityError, match="a manifest or an index")
    fails(load, with_manifest(mediaType=INDEX), IntegrityError)
    made = Layout()
    index = json.loads(made[file_of(made.index(made.image(BASE)))])
    fails(load, made.top(made.blob(dump({**index, "mediaType": MANIFEST}), INDEX)), IntegrityError)


@pytest.mark.parametrize("kind", ["application/vnd.docker.distribution.manifest.v1+prettyjws", ""])
def test_schema_1(load, kind):
    made = Layout()
    old = {"schemaVersion": 1, "name": "app", "fsLayers": [{"blobSum": ZEROS}], "history": []}
    fails(load, made.top(made.blob(dump(old), kind or MANIFEST)), UnsupportedError, match="schema 1")


def test_encrypted_layers(load):
    made = with_manifest(layers=lambda said: [{**said[0], "mediaType": f"{LAYER}+gzip+encrypted"}])
    fails(load, made, UnsupportedError, match="encrypted")


def test_indexes_that_nest_deep_or_spread_wide(load):
    made = Layout()
    entry = made.image(BASE)
    for _ in range(12):
        entry = made.index(entry)
    fails(load, made.top(entry), match="indexes in indexes")
    wide = Layout()
    entry = wide.image(BASE)
    for _ in range(7):
        entry = wide.index(*[entry] * 10)  # ten million ways to one image
    begin = time.monotonic()
    fails(load, wide.top(entry), match="manifests and indexes")
    assert time.monotonic() - begin < 30


def test_archives_without_an_image(load):
    made = Layout()
    attestation = {**made.image(BASE), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    fails(load, made.top(attestation), match=r"holds an artifact, not an image \(attestation-manifest\)")
    fails(load, made.top(made.index(attestation)), match="holds no image")
    fails(load, Layout().top(), match="holds no image")
    fails(load, {"bin/sh": b""}, match="from_tar takes root file systems")
    fails(load, {"repositories": b"{}", "abc/json": b"{}"}, match=r"docker before 1\.10")
    fails(load, b"", match="is no tar archive, or ends too early")
    fails(load, b"this is no archive" * 100, match="is no tar archive")
    chart = "application/vnd.cncf.helm.config.v1+json"
    artifact = {"schemaVersion": 2, "config": made.blob(b"{}", chart), "layers": []}
    fails(
        load, made.top(made.blob(dump(artifact), MANIFEST)), match=rf"an artifact, not an image \({re.escape(chart)}\)"
    )


def test_layouts_of_other_versions_and_forms(load, engine, tmp_path):
    made = good()
    for text, kind, match in (
        (b'{"imageLayoutVersion": "9.0"}', UnsupportedError, r"oci-layout: version '9\.0'"),
        (b"[]", IntegrityError, "the version of an image layout"),
        (b'{"imageLayoutVersion": 1}', IntegrityError, "the version of an image layout"),
    ):
        fails(load, {**made, "oci-layout": text}, kind, match)
    (entry,) = json.loads(made["index.json"])["manifests"]
    (tmp_path / "manifest.json").write_bytes(made[file_of(entry)])
    with pytest.raises(StoreError, match=r"skopeo's own form dir:; copy the image to oci:"):
        pylxc.Image.load(tmp_path, engine=engine)


def test_what_is_named_and_not_there(load):
    for name in [name for name in good() if name.startswith("blobs/")]:
        made = good()
        del made[name]
        fails(load, made, match=f"{name} is named in it, but is not there")


def test_names_of_images_that_are_none(load):
    made = Layout()
    fails(load, made.top(named(made.image(BASE), "UPPER case:1", DOCKER_NAME)), match="which is no name")
    fails(load, docker_files((["a/../b:1"], [BASE])), match="which is no name")


# -- size


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_an_archive_that_ends_anywhere(load, pack):
    noise = layer_tar({"noise": b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(2000))})
    made = Layout()
    whole = pack(packed(made.top(made.image(noise, form=""))))
    for end in range(0, len(whole) - 12_000, len(whole) // 12):
        fails(load, whole[:end], match="ends too early|damaged|is no tar archive")


def test_a_layer_that_swells_is_stopped_by_its_bytes(load, monkeypatch):
    monkeypatch.setattr(incoming, "LAYER_LIMIT", 1 << 20)
    for form in ("gzip", "zstd"):
        made = Layout()
        fails(load, made.top(made.image(layer_tar({"zeros": bytes(8 << 20)}), form=form)), match="more than")


def test_what_follows_the_end_of_a_layer_counts(load, monkeypatch):
    monkeypatch.setattr(incoming, "LAYER_LIMIT", 1 << 20)
    made = Layout()
    fails(load, made.top(made.image(BASE + bytes(8 << 20))), match="more than")


def test_an_archive_that_swells_is_stopped_by_its_bytes(load, monkeypatch):
    monkeypatch.setattr(sources, "SPOOL_LIMIT", 1 << 20)
    bomb = gzip.compress(packed({f"zeros{n}": bytes(300_000) for n in range(5)}))
    fails(load, bomb, match="more than 1048576 bytes")
    monkeypatch.setattr(sources, "MEMBERS_LIMIT", 100)
    fails(load, packed({str(n): b"" for n in range(101)}), match="more than 100 entries")


def test_a_header_of_many_gigabytes_is_not_read(load):
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        head = member("long", kind, size=1 << 33).tobuf(tarfile.GNU_FORMAT)
        fails(load, head + bytes(4096), match="header of more than 1 MiB")
