"""Against Debian's docker-registry, with skopeo as the independent reader and writer: the digests are the same."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from attrs import evolve
from daemon import docker_registry
from fake import OCI_MANIFEST, digest_of

from pylxc.documents import Descriptor
from pylxc.errors import AuthError, RegistryError
from pylxc.reference import Reference
from pylxc.registry.client import Client
from pylxc.registry.settings import HostSettings

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYERS = [random.Random(number).randbytes(size) for number, size in enumerate((100, 3_000_000, 700_000))]
# The password "sesame" of "anna", as htpasswd -B writes it.
USERS = "anna:$2y$05$tdvX9Vsvla2GmOAkH7Ole.C1xZPXIvFNc.lzjGUwuGCK/LlqWB/y2\n"


def described(data: bytes, kind: str) -> Descriptor:
    return Descriptor(kind, digest_of(data), len(data))


def image() -> tuple[bytes, bytes]:
    """Return a manifest and a configuration over the layers."""
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer) for layer in LAYERS]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config, CONFIG).to_json(),
        "layers": [described(layer, LAYER).to_json() for layer in LAYERS],
    }
    return json.dumps(manifest).encode(), config


def push(client: Client, text: str) -> str:
    manifest, config = image()
    place = client.repository(Reference.parse(text))
    for data, kind in ((config, CONFIG), *((layer, LAYER) for layer in LAYERS)):
        place.push_blob(described(data, kind), data)
    return place.push_manifest(manifest, OCI_MANIFEST).digest


def pull(client: Client, text: str) -> list[bytes]:
    place = client.repository(Reference.parse(text))
    manifest = place.manifest()
    return place.download([manifest.config, *manifest.layers], lambda _, reader: reader.read())


@pytest.mark.parametrize("chunk", [64 << 20, 1 << 20], ids=["in one piece", "in chunks"])
def test_what_pylxc_pushes_skopeo_reads(plain, settings, skopeo, tmp_path, chunk):
    text = f"{plain}/pushed/{chunk}:1"
    with Client(evolve(settings, chunk=chunk)) as client:
        digest = push(client, text)
        assert client.repository(Reference.parse(text)).resolve().digest == digest
        assert push(client, text) == digest
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{text}", f"oci:{tmp_path}/out:1")
    blobs = tmp_path / "out/blobs/sha256"
    assert f"sha256:{hashlib.sha256((blobs / digest[7:]).read_bytes()).hexdigest()}" == digest
    assert {path.name for path in blobs.iterdir()} >= {digest_of(layer)[7:] for layer in LAYERS}


def test_what_skopeo_pushes_pylxc_reads(plain, settings, skopeo, tmp_path):
    with Client(settings) as client:
        push(client, f"{plain}/source:1")
        skopeo("copy", "--src-tls-verify=false", f"docker://{plain}/source:1", f"oci:{tmp_path}/out:1")
        skopeo(
            "copy",
            "--dest-tls-verify=false",
            "--dest-compress=false",
            f"oci:{tmp_path}/out:1",
            f"docker://{plain}/copied:2",
        )
        config, *layers = pull(client, f"{plain}/copied:2")
    assert (config, layers) == (image()[1], LAYERS)


def test_docker_s_format_is_read_too(plain, settings, skopeo):
    with Client(settings) as client:
        push(client, f"{plain}/source:1")
        skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2",
               f"docker://{plain}/source:1", f"docker://{plain}/docker:1")  # fmt: skip
        found = client.repository(Reference.parse(f"{plain}/docker:1")).manifest()
        assert found.descriptor.media_type == "application/vnd.docker.distribution.manifest.v2+json"
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain}/docker:1")
        assert raw.encode() == found.data


def test_large_blobs_in_pieces(plain, settings):
    with Client(settings) as client:
        push(client, f"{plain}/pieces:1")
    with Client(evolve(settings, parallel_from=1, piece=100_000, window=400_000)) as client:
        assert pull(client, f"{plain}/pieces:1")[1:] == LAYERS


def test_a_stream_is_pushed(plain, settings):
    with Client(evolve(settings, part=1_000_000)) as client:
        place = client.repository(Reference.parse(f"{plain}/streamed:1"))
        assert place.push_stream(iter(LAYERS), LAYER) == described(b"".join(LAYERS), LAYER)
        with place.blob(described(b"".join(LAYERS), LAYER)) as reader:
            assert reader.read() == b"".join(LAYERS)


def test_blobs_are_mounted(plain, settings):
    layer = described(LAYERS[0], LAYER)
    with Client(settings) as client:
        push(client, f"{plain}/base:1")
        place = client.repository(Reference.parse(f"{plain}/derived:1"))
        assert place.push_blob(layer, LAYERS[0], mount_from=["base"]) == "mounted"
        assert place.push_blob(layer, LAYERS[0]) == "present"


def test_tags_and_deletion(plain, settings):
    with Client(settings) as client:
        digest = push(client, f"{plain}/tagged:b")
        place = client.repository(Reference.parse(f"{plain}/tagged:b"))
        manifest, _ = image()
        for tag in ("a", "c"):
            place.push_manifest(manifest, OCI_MANIFEST, tag)
        assert sorted(place.tags()) == ["a", "b", "c"]
        assert place.referrers(digest) == []
        place.delete(digest)
        with pytest.raises(RegistryError, match="does not have it") as caught:
            place.manifest()
        assert (caught.value.status, caught.value.code) == (404, "MANIFEST_UNKNOWN")


def test_with_users_and_tls(tmp_path, settings, certificate, skopeo):
    (tmp_path / "users").write_text(USERS)
    key = certificate.parent / "key.pem"
    tls = {"certificate": str(certificate.parent / "cert.pem"), "key": str(key)}
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "users")}}
    with docker_registry(tmp_path, tls=tls, auth=auth) as host:
        trusting = evolve(settings, hosts={host: HostSettings(ca=certificate.parent / "cert.pem")})
        with Client(trusting) as client:
            with pytest.raises(AuthError, match=f"log in with: pylxc login {host}") as caught:
                push(client, f"{host}/app:1")
            assert caught.value.status == 401
            with pytest.raises(AuthError, match="refuses this name and password"):
                client.login(host, "anna", "guessed")
            client.login(host, "anna", "sesame")
        with Client(trusting) as client:
            digest = push(client, f"{host}/app:1")
            assert pull(client, f"{host}/app:1")[1:] == LAYERS
        # skopeo reads what login wrote.
        words = ("--tls-verify=false", "--authfile", settings.config.path, "--format", "{{.Digest}}")
        assert skopeo("inspect", *words, f"docker://{host}/app:1").strip() == digest
        with Client(settings) as client, pytest.raises(RegistryError, match="certificate is not trusted"):
            pull(client, f"{host}/app:1")
