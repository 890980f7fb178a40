"""Images go out into archives: the same bytes each time, the digests that they came with, and what is kept for it."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tarfile
import threading

import pytest
from pictures import Layout, digest_of, layer_tar, named, packed

import pylxc
from pylxc.errors import IntegrityError, SpecError, StoreError, UnsupportedError
from pylxc.exchange.outgoing import Outgoing
from pylxc.exchange.save import save

BASE, TOP = layer_tar({"z": b"z", "a": b"a"}), layer_tar({"a": b"top"})


@pytest.fixture
def made(engine, tmp_path):
    """An image of two layers that was made here."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(200_000))
    base = pylxc.Image.from_directory(tmp_path / "tree", "base:1", engine=engine)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM base:1\nCOPY Dockerfile /\nENV A=1\n")
    image = pylxc.Image.build(tmp_path / "context", tag="made:1", engine=engine)
    base.untag("base:1")
    return image


@pytest.fixture
def came(load):
    """An image that came, with a layer compressed as given."""

    def came(form: str = "gzip") -> pylxc.Image:
        layout = Layout()
        return load(packed(layout.top(named(layout.image(BASE, TOP, form=form), "came:1"))))[0]

    return came


def saved(image: pylxc.Image, form: str = "oci") -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def files(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}


def blobs(engine) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(engine.root / "oci/blobs/sha256")}


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_the_same_image_gives_the_same_bytes(made, form, tmp_path):
    first = saved(made, form)
    assert saved(made, form) == first
    made.save(tmp_path / "a.tar", form)
    assert (tmp_path / "a.tar").read_bytes() == first
    assert stat.S_IMODE((tmp_path / "a.tar").stat().st_mode) == 0o600
    other = pylxc.Engine(tmp_path / "other")
    image = pylxc.Image.load(tmp_path / "a.tar", engine=other)
    assert (image, image.digest, image.refs, image.layers) == (made, made.digest, ("made:1",), made.layers)
    assert saved(image, form) == first


@pytest.mark.parametrize("form", ["", "gzip", "zstd"])
def test_what_came_goes_out_as_it_was(came, form):
    image = came(form)
    found = files(saved(image))
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["digest"] == image.digest
    assert digest_of(found[f"blobs/sha256/{image.digest[7:]}"]) == image.digest
    for name, data in found.items():
        if name.startswith("blobs/"):
            assert digest_of(data) == f"sha256:{name[13:]}"
    assert len(found) == 2 + 4


def test_for_docker_the_layers_are_in_a_form_that_it_reads(came, engine):
    image = came("zstd")
    found = files(saved(image, "docker"))
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == ["came:1"]
    assert digest_of(found[entry["Config"]]) == image.id
    assert [found[layer] for layer in entry["Layers"]] == [BASE, TOP]
    assert pylxc.Image.get("came:1", engine=engine).digest == image.digest
    image.remove()
    assert blobs(engine) == set()


def test_several_images_in_one_archive(made, came, engine, tmp_path):
    other = came()
    save(engine, [(made, ("one:1", "two:1")), (other, ()), (made, ("three:1",))], tmp_path / "all.tar", "docker")
    loaded = pylxc.Image.load_all(tmp_path / "all.tar", engine=pylxc.Engine(tmp_path / "other"))
    assert {image.id: image.refs for image in loaded} == {made.id: ("one:1", "three:1", "two:1"), other.id: ()}


def test_an_archive_of_a_layer_is_kept_once_it_was_wanted_and_made_again(made, engine):
    before = blobs(engine)
    whole = saved(made)
    kept = blobs(engine) - before
    assert kept == {layer.digest for layer in made.layers}
    for digest in kept:
        (engine.root / "oci/blobs/sha256" / digest[7:]).write_bytes(b"damage")
    assert saved(made) == whole
    for digest in kept:
        (engine.root / "oci/blobs/sha256" / digest[7:]).unlink()
    assert saved(made) == whole
    for digest in kept:
        assert digest_of((engine.root / "oci/blobs/sha256" / digest[7:]).read_bytes()) == digest


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damage")])
def test_an_archive_that_came_and_is_damaged_is_told_with_the_remedy(came, engine, damage, tmp_path):
    image = came()
    manifest = json.loads((engine.root / "oci/blobs/sha256" / image.digest[7:]).read_bytes())
    digest = manifest["layers"][1]["digest"]
    damage(engine.root / "oci/blobs/sha256" / digest[7:])
    with pytest.raises(IntegrityError, match="load or pull its image again") as caught:
        image.save(tmp_path / "a.tar")
    assert caught.value.expected == digest
    assert os.listdir(tmp_path) == ["store"]
    came()
    assert saved(image)


def test_a_damaged_manifest_is_told(made, engine):
    (engine.root / "oci/blobs/sha256" / made.digest[7:]).write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="the manifest of image") as caught:
        saved(made)
    assert (caught.value.expected, caught.value.actual) == (made.digest, digest_of(b"{}"))


def test_compressed_for_who_wants_it(made, engine):
    """What a registry is given: the same digests each time, under a manifest of its own."""
    digests = []
    for _ in range(2):
        with engine.store.leases.take() as lease:
            outgoing = Outgoing(engine, lease)
            checked = outgoing.documents(made, {"gzip"})
            assert [layer.form for layer in checked.manifest.layers] == ["gzip", "gzip"]
            for layer, diff_id, _ in checked.layers:
                path = outgoing.path(layer, diff_id)
                os.unlink(path)
                assert outgoing.path(layer, diff_id) == path
                assert os.stat(path).st_size == layer.size
            digests.append(checked.manifest.digest)
    assert len(set(digests)) == 1
    made.remove()
    assert blobs(engine) & set(digests) == set()


# -- places


def test_a_target_that_cannot_be_written(made, tmp_path):
    for target in (tmp_path / "absent/a.tar", tmp_path):
        with pytest.raises(StoreError, match="cannot be written"):
            made.save(target)
    with pytest.raises(SpecError, match="format"):
        made.save(tmp_path / "a.tar", "rar")
    assert not (tmp_path / "a.tar").exists()


def test_a_stream_that_takes_little_at_once_or_fails(made):
    class Reluctant(io.RawIOBase):
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:10_007])
            return min(len(data), 10_007)

    slow = Reluctant()
    made.save(slow)
    assert slow.taken == saved(made)

    class Full(io.RawIOBase):
        def write(self, _data):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        made.save(Full())


def test_a_fifo_is_written_to(made, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    made.save(tmp_path / "pipe")
    reader.join()
    assert got == [saved(made)]


@pytest.mark.parametrize("target", [None, b"a.tar"])
def test_what_is_no_target(made, target):
    with pytest.raises(SpecError, match="give a path or a binary stream"):
        made.save(target)


def test_a_file_that_was_there_stays_when_saving_fails(came, engine, tmp_path):
    image = came()
    (tmp_path / "a.tar").write_bytes(b"before")
    for path in (engine.root / "oci/blobs/sha256").iterdir():
        if path.name not in (image.id[7:], image.digest[7:]):
            path.unlink()
    with pytest.raises(IntegrityError):
        image.save(tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "store"]


def test_the_machines_own_files_stay_where_they_are(engine, tmp_path):
    with pytest.raises(UnsupportedError, match="passes the files of this machine through"):
        pylxc.Image.host(engine=engine).save(tmp_path / "a.tar")
    assert os.listdir(tmp_path) == ["store"]
