"""Archives of images come in: every layout, compression and choice, exactly."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
from typing import TYPE_CHECKING

import pytest
import zstandard
from pictures import (
    CONFIG,
    DOCKER,
    DOCKER_NAME,
    LAYER,
    MANIFEST,
    PACKERS,
    V2_LIST,
    V2S2,
    Layout,
    at,
    config,
    digest_of,
    docker_files,
    dump,
    layer_tar,
    named,
    packed,
)

import pylxc
from pylxc import platforms
from pylxc.documents import Descriptor
from pylxc.errors import SpecError
from pylxc.exchange.incoming import Incoming

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"z": b"last comes first", "a": b"base", "d/file": b"in a directory that is not named"}
BASE = layer_tar(FILES)
TOP = layer_tar({"a": b"top", ".wh.z": b""})
ARM_AND_S390 = ("linux/arm64", "linux/s390x")


def layout(*entries, **fields) -> Layout:
    made = Layout()
    return made.top(named(made.image(BASE, TOP, **fields), "app:1"), *entries)


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


@pytest.mark.parametrize("form", ["", "gzip", "zstd"])
def test_a_layout_comes_in_byte_for_byte(load, engine, contents, form):
    made = layout(form=form)
    (image,) = load(packed(made))
    entry = json.loads(made["index.json"])["manifests"][0]
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])
    assert (image.digest, image.id) == (entry["digest"], manifest["config"]["digest"])
    assert image.refs == ("app:1",)
    assert [layer.digest for layer in image.layers] == [digest_of(BASE), digest_of(TOP)]
    assert [layer.size for layer in image.layers] == [len(BASE), len(TOP)]
    assert image.config.cmd == ("/run",)
    assert contents(image.layers[0]) == FILES
    assert [(one.path, one.kind) for one in image.layers[1].entries()] == [("a", "file"), ("z", "whiteout")]
    with image.layers[0].tar() as stream:
        assert stream.read(1 << 20) == BASE  # not as it would be packed here
    kept = {path.name: path.read_bytes() for path in (engine.root / "oci/blobs/sha256").iterdir()}
    assert kept == {
        name.removeprefix("blobs/sha256/"): data for name, data in made.items() if name.startswith("blobs/")
    }
    image.remove()
    assert [*(engine.root / "oci/blobs/sha256").iterdir()] == []
    assert [*(engine.root / "layers").iterdir()] == []


def test_the_members_of_an_archive_come_in_any_order(load):
    made = layout()
    names = [*made]
    for seed in range(4):
        random.Random(seed).shuffle(names)
        (image,) = load(packed({f"./{name}": made[name] for name in names}))
        assert image.refs == ("app:1",)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_an_archive_may_be_compressed(load, pack):
    assert load(pack(packed(layout())))[0].refs == ("app:1",)


def test_files_directories_and_streams(engine, tmp_path):
    directory = write(tmp_path / "layout", layout())
    (tmp_path / "a.tar").write_bytes(packed(layout()))
    images = [pylxc.Image.load(place, engine=engine) for place in (directory, tmp_path / "a.tar", str(directory))]
    stream = io.BytesIO(packed(layout()))
    images.append(pylxc.Image.load(stream, engine=engine))
    assert not stream.closed
    assert len({image.digest for image in images}) == 1
    assert (directory / "index.json").exists()


@pytest.mark.parametrize("source", [b"bytes", None, io.StringIO("text")])
def test_what_is_no_source(engine, source):
    with pytest.raises(SpecError, match="a binary stream") as caught:
        pylxc.Image.load(source, engine=engine)
    assert caught.value.value is type(source)  # a stream cannot be pickled


def test_docker_before_25(load, contents):
    files = docker_files(
        (["app:1", "registry.example/app:2"], [BASE, TOP]), (None, [BASE]), (["other"], [BASE, TOP, BASE])
    )
    first, second, third = load(packed(files))
    assert (first.refs, second.refs, third.refs) == (("app:1", "registry.example/app:2"), (), ("other:latest",))
    assert [layer.digest for layer in third.layers] == [digest_of(BASE), digest_of(TOP), digest_of(BASE)]
    assert first.id == digest_of(config([BASE, TOP]))
    assert contents(first.layers[1])["a"] == b"top"
    again = load(packed(files))
    assert [image.digest for image in again] == [first.digest, second.digest, third.digest]


def test_docker_from_25_on(load):
    made = Layout()
    one, two = made.image(BASE), made.image(TOP)
    made.top(named(named(one, "1"), "docker.io/library/app:1", DOCKER_NAME), two)
    name = f"blobs/sha256/{digest_of(config([TOP]))[7:]}"
    made["manifest.json"] = dump([{"Config": name, "RepoTags": ["two:2"], "Layers": ["nothing that is looked at"]}])
    assert [(image.refs, image.digest) for image in load(packed(made))] == [
        (("app:1",), one["digest"]),
        (("two:2",), two["digest"]),
    ]


def test_several_images_and_names(load):
    made = Layout()
    one, two, three = made.image(BASE), made.image(TOP), made.image(BASE, TOP)
    made.top(named(one, "app:1"), named(one, "app:one"), named(two, "docker.io/library/two"), named(three, "latest"))
    assert [image.refs for image in load(packed(made))] == [("app:1", "app:one"), ("two:latest",), ()]


@pytest.mark.parametrize("names", [("v1", "v2"), ("v1", "v1"), ("", "latest"), ("", "")])
@pytest.mark.parametrize("platform", ["linux/amd64", ""])
def test_images_that_no_full_name_tells_apart_all_come_in(load, names, platform):
    """What is appended to a layout (ko, crane, buildx) has a platform and a bare tag, or none."""
    made = Layout()
    entries = [made.image(BASE), made.image(TOP)]
    entries = [named(entry, name) if name else entry for entry, name in zip(entries, names, strict=True)]
    made.top(*[at(entry, platform) if platform else entry for entry in entries])
    assert [image.layers[0].digest for image in load(packed(made))] == [digest_of(BASE), digest_of(TOP)]


def test_entries_without_a_name_for_several_platforms_are_one_image_each_time_they_begin_anew(load):
    made = Layout()
    of = [(text, at(made.image(layer_tar({text: b""}), platform=one), one)) for text in "ab" for one in ARM_AND_S390]
    made.top(*[entry for _, entry in of])
    images = load(packed(made), platform="linux/s390x")
    assert [[entry.path for entry in image.layers[0].entries()] for image in images] == [["a"], ["b"]]


def test_a_name_with_a_digest_moves_no_tag(load, engine):
    (latest,) = load(packed(docker_files((["app"], [TOP]))))
    made = Layout()
    entry = made.image(BASE)
    made.top(named(entry, f"docker.io/library/app@{entry['digest']}", DOCKER_NAME))
    assert [image.refs for image in load(packed(made))] == [()]
    digest = f"sha256:{'0' * 64}"
    (other,) = load(packed(docker_files(([f"app@{digest}", f"app:1@{digest}"], [BASE, BASE]))))
    assert other.refs == ("app:1",)
    assert pylxc.Image.get("app", engine=engine) == latest


@pytest.mark.parametrize("name", ["App/Stable:V1", "release 1: final", "a:b:c"])
def test_what_only_the_specification_calls_a_name_may_be_any_text(load, name):
    made = Layout()
    assert [image.refs for image in load(packed(made.top(named(made.image(BASE), name))))] == [()]


def artifact(made: Layout, kind: str) -> dict:
    """What speaks about an image, as different tools write it; returns its descriptor."""
    about = made.image(BASE)
    if kind == "artifact manifest":  # of the specification before 1.1
        media_type = "application/vnd.oci.artifact.manifest.v1+json"
        return made.blob(
            dump({"mediaType": media_type, "artifactType": "a/sbom", "blobs": [], "subject": about}), media_type
        )
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [made.blob(b"{}", "application/spdx+json")]}
    if kind == "signature":  # cosign's has the configuration of an image
        manifest["config"] = made.blob(config([b"{}"], "/"), CONFIG)
    elif kind == "chart":
        manifest["config"] = made.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")
    else:
        manifest |= {"artifactType": "application/spdx+json", "subject": about}
        manifest["config"] = made.blob(b"{}", "application/vnd.oci.empty.v1+json")
    return made.blob(dump(manifest), MANIFEST, **({"artifactType": "application/spdx+json"} if kind == "said" else {}))


@pytest.mark.parametrize("kind", ["artifact manifest", "signature", "chart", "said", "unsaid"])
def test_artifacts_beside_an_image_are_passed_over(load, kind):
    made = Layout()
    image = named(made.image(BASE, TOP), "app:1")
    entries = [artifact(made, kind), image, named(artifact(made, kind), "app:sha256-0.sig")]
    assert [image.refs for image in load(packed(made.top(*entries)))] == [("app:1",)]
    made.top(made.index(artifact(made, kind), image))
    assert len(load(packed(made))) == 1
    with pytest.raises(pylxc.StoreError, match="holds an artifact, not an image"):
        load(packed(made.top(artifact(made, kind))))


def test_docker_media_types_foreign_layers_and_unknown_fields(load, engine):
    made = Layout()
    foreign = f"{DOCKER}image.rootfs.foreign.diff.tar.gzip"
    archive = gzip.compress(BASE)  # with the time of day in it
    manifest = {
        "schemaVersion": 2,
        "mediaType": V2S2,
        "config": made.blob(config([BASE, TOP]), f"{DOCKER}container.image.v1+json"),
        "layers": [
            made.blob(archive, foreign, urls=["https://example.com/layer"]),
            made.blob(gzip.compress(TOP), f"{DOCKER}image.rootfs.diff.tar.gzip"),
        ],
        "unknown": [1, 2, {"three": None}],
    }
    made.top(named(made.blob(dump(manifest), V2S2), "app:1"))
    (image,) = load(packed(made))
    assert image.digest == digest_of(dump(manifest))
    (entry,) = json.loads((engine.root / "oci/index.json").read_bytes())["manifests"]
    assert (entry["mediaType"], entry["digest"]) == (V2S2, image.digest)
    del made[f"blobs/sha256/{digest_of(archive)[7:]}"]
    image.remove()
    with pytest.raises(pylxc.StoreError, match=r"may not be distributed.*https://example.com/layer"):
        load(packed(made))


def test_empty_layers_in_the_history(load):
    steps = [
        {"created_by": "ADD base"},
        {"created_by": "ENV A=1", "empty_layer": True},
        {"created_by": "RUN top"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    made = Layout()
    (image,) = load(packed(made.top(made.image(BASE, TOP, history=steps))))
    assert [entry.created_by for entry in image.history()] == ["ADD base", "ENV A=1", "RUN top", "CMD"]
    assert [layer.created_by for layer in image.layers] == ["ADD base", "RUN top"]


def test_gzip_with_several_members_and_zstd_with_several_frames(load):
    half = len(BASE) // 2
    for pack, form in ((gzip.compress, "gzip"), (zstandard.compress, "zstd")):
        made = Layout()
        data = pack(BASE[:half]) + pack(BASE[half:])
        manifest = {
            "schemaVersion": 2,
            "config": made.blob(config([BASE]), "application/vnd.oci.image.config.v1+json"),
            "layers": [made.blob(data, f"{LAYER}+{form}")],
        }
        (image,) = load(packed(made.top(made.blob(dump(manifest), MANIFEST))))
        assert image.layers[0].digest == digest_of(BASE)
        image.remove()


@pytest.mark.parametrize("form", ["", "gzip", "zstd"])
def test_a_layer_of_which_little_comes_at_first(engine, form):
    data = PACKERS[form](BASE)
    whole = io.BytesIO(data)

    class First:
        def readinto(self, buffer) -> int:
            return whole.readinto(buffer[:1] if not whole.tell() else buffer)

    with engine.store.leases.take() as lease:
        Incoming(engine, lease).layer(Descriptor("", digest_of(data), len(data)), digest_of(BASE), First())
        assert engine.store.blobs.get(digest_of(data)).media_type.endswith(form or "tar")


def test_an_image_that_comes_by_another_manifest_is_found_by_both(load, engine):
    (first,) = load(packed(layout(form="gzip")))
    (second,) = load(packed(layout(form="zstd")))
    assert first.id == second.id
    assert first.digest != second.digest == pylxc.Image.get("app:1", engine=engine).digest
    assert pylxc.Image.get(f"app@{first.digest}", engine=engine) == second
    (third,) = load(packed(docker_files((None, [BASE, TOP]))))  # it has no manifest, so none is made
    assert (third.id, third.digest) == (second.id, second.digest)


def test_a_damaged_archive_of_a_layer_is_healed_by_loading_again(load, engine):
    (image,) = load(packed(layout()))
    for path in (engine.root / "oci/blobs/sha256").iterdir():
        if path.name not in (image.id[7:], image.digest[7:]):
            path.write_bytes(b"damage")
    load(packed(layout()))
    for path in (engine.root / "oci/blobs/sha256").iterdir():
        assert digest_of(path.read_bytes()) == f"sha256:{path.name}"


def test_what_runs(engine, busybox_root, tmp_path):
    source = pylxc.Engine(tmp_path / "source")
    pylxc.Image.from_directory(busybox_root, "box", engine=source).save(tmp_path / "box.tar", "docker")
    image = pylxc.Image.load(tmp_path / "box.tar", engine=engine)
    assert pylxc.run(image, ["echo", "hello"], engine=engine).text == "hello\n"


# -- platforms


def multi(*given: str, nested: bool = False, media_type: str = V2_LIST) -> tuple[Layout, dict[str, str]]:
    """A layout of one name for several platforms, and the ids by platform."""
    made = Layout()
    entries = [at(made.image(layer_tar({"p": one.encode()}), platform=one), one) for one in given]
    attestation = at(made.image(layer_tar({"att": b""})), "unknown/unknown")
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    index = made.index(attestation, *entries, media_type=media_type)
    made.top(named(made.index(index) if nested else index, "app:1"))
    return made, {one: digest_of(config([layer_tar({"p": one.encode()})], one)) for one in given}


@pytest.mark.parametrize("nested", [False, True])
def test_the_machines_own_platform_is_chosen(load, nested, monkeypatch):
    made, ids = multi("linux/arm64", "linux/s390x", "windows/amd64", "linux/amd64", nested=nested)
    monkeypatch.setattr("pylxc.platforms.this_platform", lambda: "linux/amd64")
    (image,) = load(packed(made))
    assert (image.id, image.platform, image.refs) == (ids["linux/amd64"], "linux/amd64", ("app:1",))


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8", "linux/amd64"], "linux/arm64/v8"),
        ("arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/x86_64", ["linux/386", "linux/amd64/v2"], "linux/386"),
    ],
)
def test_variants_and_fallbacks(load, asked, there, chosen):
    made, ids = multi(*there)
    assert load(packed(made), platform=asked)[0].id == ids[chosen]


def test_a_platform_that_is_not_there_is_told_with_those_that_are(load, unchanged):
    made, _ = multi("linux/arm64", "linux/s390x")
    with pytest.raises(pylxc.UnsupportedError, match=r"linux/ppc64le.*linux/arm64, linux/s390x"):
        load(packed(made), platform="linux/ppc64le")
    with pytest.raises(pylxc.UnsupportedError, match=r"linux/s390x.*linux/amd64"):
        load(packed(layout()), platform="linux/s390x")
    with pytest.raises(pylxc.UnsupportedError, match="linux/s390x"):
        load(packed(docker_files((["app"], [BASE]))), platform="linux/s390x")
    for wrong in ("a/b/c/d", "linux/", "linux/amd 64"):
        with pytest.raises(pylxc.SpecError, match="platform"):
            load(packed(layout()), platform=wrong)


def test_a_single_image_for_another_platform_comes_in_unasked(load):
    assert load(packed(layout(platform="linux/s390x")))[0].platform == "linux/s390x"


def test_of_a_multi_platform_image_only_what_is_there_counts(load):
    """docker from 25 on saves the index of all, and the blobs of what it had."""
    made, ids = multi("linux/amd64", "linux/arm64")
    for name in [name for name, data in made.items() if b"amd64" in data and b"rootfs" in data]:
        (manifest,) = [
            one for one, data in made.items() if name[13:].encode() in data and b"layers" in data and one != name
        ]
        del made[name], made[manifest]
    assert load(packed(made))[0].id == ids["linux/arm64"]


def test_platforms_without_a_word_in_the_index_are_looked_up(load):
    made = Layout()
    entries = [made.image(layer_tar({"p": one.encode()}), platform=one) for one in ("linux/arm64", "linux/amd64")]
    made.top(named(made.index(*entries), "app:1"))
    assert load(packed(made), platform="linux/arm64")[0].platform == "linux/arm64"


def test_every_platform_runs_itself_first():
    for one in ("linux/amd64", "linux/arm64", "linux/arm/v6", "linux/riscv64", "windows/amd64"):
        assert platforms.runnable(one)[0] == one
