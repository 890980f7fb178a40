"""Images into a registry: Debian's docker-registry has what skopeo, and another store, read out of it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from daemon import docker_registry
from pictures import LAYER, MANIFEST, Layout, dump, layer_tar, named, packed

import pylxc
from pylxc.registry.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pylxc.registry.settings import Settings

# The password "sesame" of "anna", as htpasswd -B writes it.
USERS = "anna:$2y$05$tdvX9Vsvla2GmOAkH7Ole.C1xZPXIvFNc.lzjGUwuGCK/LlqWB/y2\n"
WORDS = ["packing", "uploading", "uploaded", "present", "mounted", "pushed"]


class Elsewhere:
    """Another store, which pulls; ``settings`` are the test's."""

    def __init__(self, engine: pylxc.Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings

    def pull(self, ref: str, **changes: object) -> pylxc.Image:
        return pylxc.Image.pull(ref, settings=evolve(self.settings, **changes), engine=self.engine)


@pytest.fixture
def other(tmp_path, settings) -> Elsewhere:
    return Elsewhere(pylxc.Engine(tmp_path / "other"), settings)


@pytest.fixture
def tree(tmp_path) -> Path:
    made = tmp_path / "tree"
    (made / "d").mkdir(parents=True)
    (made / "d/file").write_bytes(bytes(range(256)) * 4000)
    (made / "link").symlink_to("d/file")
    return made


@pytest.fixture
def image(engine, tree) -> pylxc.Image:
    """An image of two layers that were made here."""
    base = pylxc.Image.from_directory(tree, "base:1", engine=engine)
    (tree / "Dockerfile").write_text("FROM base:1\nCOPY d/file /copy\n")
    built = pylxc.Image.build(tree, engine=engine)
    assert built.layers[:1] == base.layers
    return built


@pytest.fixture
def push(settings) -> Callable[..., tuple[str, list[str]]]:
    """Push an image; return the digest, and what was told, each word once for each thing that it is of."""

    def push(image: pylxc.Image, ref: str | None = None, **changes: object) -> tuple[str, list[str]]:
        told: dict[tuple[str, str], None] = {}

        def tell(event: pylxc.Progress) -> None:
            assert 0 <= event.done <= event.total
            told[event.what, event.digest] = None

        digest = image.push(ref, on_progress=tell, settings=evolve(settings, **changes))
        return digest, sorted((what for what, _ in told if what != "waiting"), key=WORDS.index)

    return push


def fresh(image: pylxc.Image) -> pylxc.Image:
    """The image as its store has it now."""
    return pylxc.Image.get(image.id, engine=image._engine)


def blobs_of(image: pylxc.Image) -> dict[str, bytes]:
    """The bytes of an image: of its manifest, its configuration, and the archives of its layers."""
    blobs = image._engine.root / "oci/blobs/sha256"
    manifest = (blobs / image.digest[7:]).read_bytes()
    names = [image.digest, image.id, *(layer["digest"] for layer in json.loads(manifest)["layers"])]
    return {name: (blobs / name[7:]).read_bytes() for name in names}


def test_what_is_pushed_another_store_and_skopeo_read(plain, other, image, push, skopeo):
    ref = f"{plain}/made:1"
    digest, told = push(image, ref)
    assert told == ["packing", "packing", "uploading", "uploading", "uploaded", "uploaded", "pushed"]
    pushed = fresh(image)
    assert pushed.digest == digest != image.digest
    pulled = other.pull(ref)
    assert (pulled.id, pulled.digest) == (image.id, digest)
    assert blobs_of(pulled) == blobs_of(pushed)
    assert {layer["mediaType"] for layer in json.loads(blobs_of(pulled)[digest])["layers"]} == {f"{LAYER}+gzip"}
    inspected = skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{ref}")
    assert inspected.strip() == digest
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{ref}", f"oci:{other.engine.root}/out:1")
    blobs = other.engine.root / "out/blobs/sha256"
    files = {f"sha256:{path.name}": path.read_bytes() for path in blobs.iterdir()}
    assert files == blobs_of(pushed)


def test_what_is_there_is_not_sent_again(plain, image, push):
    digest, _ = push(image, f"{plain}/twice:1")
    assert push(image, f"{plain}/twice:2") == (digest, ["present", "present", "pushed"])


def test_layers_are_taken_from_other_repositories(plain, image, push):
    image.tag(f"{plain}/first:1")
    digest, _ = push(image)
    assert push(image, f"{plain}/second:1") == (digest, ["mounted", "mounted", "pushed"])


def test_an_image_that_was_pulled_goes_out_with_its_digest(plain, other, skopeo, image, push):
    """As skopeo makes it of one that pylxc pushed: in docker's format. It goes in chunks."""
    push(image, f"{plain}/ours:1")
    flags = ("--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2")
    skopeo("copy", *flags, f"docker://{plain}/ours:1", f"docker://{plain}/docker:1")
    pulled = other.pull(f"{plain}/docker:1")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain}/docker:1").encode()
    assert blobs_of(pulled)[pulled.digest] == raw
    with docker_registry(other.engine.root) as elsewhere:
        digest, told = push(pulled, f"{elsewhere}/again:1", chunk=300_000)
        assert (digest, told[0], told[-1]) == (pulled.digest, "uploading", "pushed")
        assert skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{elsewhere}/again:1").encode() == raw


@pytest.mark.parametrize("form", ["", "zstd"])
def test_an_image_that_was_loaded_goes_out_as_it_came(fake, engine, push, tmp_path, form):
    made = Layout()
    entry = made.image(layer_tar({"a": b"1"}), layer_tar({"b": b"2"}), form=form)
    (tmp_path / "archive").write_bytes(packed(made.top(named(entry, "loaded:1"))))
    image = pylxc.Image.load(tmp_path / "archive", engine=engine)
    assert push(image, f"{fake.host}/app:1")[0] == entry["digest"]
    assert fake.manifests["1"] == (MANIFEST, made[f"blobs/sha256/{entry['digest'][7:]}"])


def test_what_may_not_be_distributed_stays(fake, engine, push, tmp_path):
    made = Layout()
    entry = made.image(layer_tar({"a": b"1"}), form="")
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])
    secret = {**manifest["layers"][0], "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"}
    entry = made.blob(dump({**manifest, "layers": [secret]}), MANIFEST)
    (tmp_path / "archive").write_bytes(packed(made.top(named(entry, "secret:1"))))
    image = pylxc.Image.load(tmp_path / "archive", engine=engine)
    assert push(image, f"{fake.host}/app:1") == (entry["digest"], ["pushed"])
    assert secret["digest"] not in fake.blobs


def test_where_to_by_default(fake, image, push):
    with pytest.raises(pylxc.SpecError, match="it has no tag; say where to"):
        push(image)
    image.tag("mine:1")
    image.tag(f"{fake.host}/app:1")
    digest, _ = push(image)
    assert fake.manifests["1"][1] == fake.manifests[digest][1]
    image.tag(f"{fake.host}/app:2")
    with pytest.raises(pylxc.SpecError, match=r"it has 2 tags \(.*app:1, .*app:2\)"):
        push(image)
    for wrong in (f"{fake.host}/app@{digest}", f"{fake.host}/app:1@{{1}}", "UPPER"):
        with pytest.raises(pylxc.SpecError):
            push(image, wrong)


def test_the_machine_s_own_image_stays(fake, engine, push):
    with pytest.raises(pylxc.UnsupportedError, match=r"Image\.bootstrap"):
        push(pylxc.Image.host(engine=engine), f"{fake.host}/host:1")
    assert fake.seen == []


@pytest.mark.parametrize("where", ["POST .*/uploads/", "PUT .*/uploads/.*", "PUT .*/manifests/.*"])
def test_what_fails_names_nothing_and_a_repeat_succeeds(fake, image, push, where):
    fake.always(where, lambda handler: handler.fail(500))
    with pytest.raises(pylxc.RegistryError):
        push(image, f"{fake.host}/app:1", retries=1)
    assert fake.manifests == {}
    assert fresh(image).digest == image.digest
    fake.script.clear()
    digest, _ = push(image, f"{fake.host}/app:1")
    assert fresh(image).digest == digest
    assert set(fake.blobs) >= set(blobs_of(fresh(image))) - {digest}


def test_a_repository_that_may_not_be_read_is_no_obstacle(fake, image, push):
    image.tag(f"{fake.host}/closed:1")
    fake.always(r"POST .*from=closed.*", lambda handler: handler.fail(401, "UNAUTHORIZED"))
    assert push(image, f"{fake.host}/app:1")[1].count("uploaded") == 2


def test_an_archive_that_is_damaged_is_not_sent(fake, engine, image, push):
    digest, _ = push(image, f"{fake.host}/app:1")
    layer = json.loads(fake.manifests["1"][1])["layers"][0]["digest"]
    good = fake.blobs.pop(layer)
    (engine.root / "oci/blobs/sha256" / layer[7:]).write_bytes(b"x" * len(good))
    assert push(image, f"{fake.host}/app:1")[0] == digest
    assert fake.blobs[layer] == good


def test_with_a_login(tmp_path, certificate, image, other, push):
    (tmp_path / "users").write_text(USERS)
    tls = {"certificate": str(certificate.parent / "cert.pem"), "key": str(certificate.parent / "key.pem")}
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "users")}}
    with docker_registry(tmp_path, tls=tls, auth=auth) as host:
        hosts = {host: HostSettings(ca=certificate.parent / "cert.pem")}
        trusting = evolve(other.settings, hosts=hosts)
        with pytest.raises(pylxc.AuthError, match=f"pylxc login {host}"):
            push(image, f"{host}/app:1", hosts=hosts)
        with pytest.raises(pylxc.AuthError, match="refuses this name and password"):
            pylxc.login(host, "anna", "guessed", settings=trusting)
        pylxc.login(host, "anna", "sesame", settings=trusting)
        digest, _ = push(image, f"{host}/app:1", hosts=hosts)
        assert other.pull(f"{host}/app:1", hosts=hosts).digest == digest
        assert pylxc.Image.search_tags(f"{host}/app", settings=trusting) == ["1"]
        assert pylxc.logout(host, settings=trusting)
        assert not pylxc.logout(host, settings=trusting)
        with pytest.raises(pylxc.AuthError):
            other.pull(f"{host}/app:1", hosts=hosts)
