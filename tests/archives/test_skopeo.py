"""What skopeo and umoci write is read, and what is written here they read: digests equal, in both directions."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60  # s


@pytest.fixture
def skopeo(tmp_path):
    """Run skopeo with a policy of the test's own; return what it says."""
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def skopeo(*words: object) -> str:
        command = ["skopeo", "--policy", str(policy), "--tmpdir", str(tmp_path), *map(str, words)]
        environment = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return skopeo


@pytest.fixture
def image(engine, tmp_path):
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/file").write_bytes(os.urandom(300_000))
    return pylxc.Image.from_directory(tree, "app:1", engine=engine)


def digest(skopeo, place: str) -> str:
    return json.loads(skopeo("inspect", "--no-tags", place))["Digest"]


def test_skopeo_reads_what_is_saved(skopeo, image, tmp_path):
    image.save(tmp_path / "oci.tar")
    image.save(tmp_path / "docker.tar", "docker")
    assert digest(skopeo, f"oci-archive:{tmp_path}/oci.tar") == image.digest
    assert digest(skopeo, f"oci-archive:{tmp_path}/oci.tar:docker.io/library/app:1") == image.digest
    skopeo("copy", f"oci-archive:{tmp_path}/oci.tar", f"dir:{tmp_path}/out")
    assert digest_of_file(tmp_path / "out/manifest.json") == image.digest
    config = skopeo("inspect", "--config", "--raw", f"docker-archive:{tmp_path}/docker.tar:app:1")
    assert "sha256:" + sha256(config.encode()) == image.id
    skopeo("copy", f"docker-archive:{tmp_path}/docker.tar", f"oci:{tmp_path}/from-docker:x")


def digest_of_file(path: Path) -> str:
    return f"sha256:{sha256(path.read_bytes())}"


def sha256(data: bytes) -> str:
    done = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True, timeout=TIMEOUT)
    return done.stdout.decode().split()[0]


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_what_skopeo_compresses_comes_in_and_goes_out_again(skopeo, image, engine, tmp_path, form):
    image.save(tmp_path / "oci.tar")
    options = ("copy", "--dest-compress", "--dest-compress-format", form, f"oci-archive:{tmp_path}/oci.tar")
    skopeo(*options, f"oci:{tmp_path}/layout:app:2")
    wanted = digest(skopeo, f"oci:{tmp_path}/layout:app:2")
    other = pylxc.Engine(tmp_path / "other")
    loaded = pylxc.Image.load(tmp_path / "layout", engine=other)
    assert (loaded.digest, loaded.id, loaded.refs) == (wanted, image.id, ("app:2",))
    loaded.save(tmp_path / "again.tar")
    assert digest(skopeo, f"oci-archive:{tmp_path}/again.tar") == wanted
    # Straight from the store's own directory.
    straight = f"oci:{other.root}/oci:docker.io/library/app:2"
    assert digest(skopeo, straight) == wanted
    skopeo("copy", straight, f"oci-archive:{tmp_path}/copied.tar:app:3")
    assert pylxc.Image.load(tmp_path / "copied.tar", engine=engine).digest == wanted


def test_dockers_formats_by_skopeo(skopeo, image, engine, tmp_path):
    image.save(tmp_path / "oci.tar")
    straight = f"oci:{engine.root}/oci:docker.io/library/app:1"
    skopeo("copy", straight, f"docker-archive:{tmp_path}/docker.tar:app:3")
    assert pylxc.Image.load(tmp_path / "docker.tar", engine=engine) == image
    assert pylxc.Image.get("app:3", engine=engine).digest == image.digest
    skopeo("copy", "--format", "v2s2", straight, f"dir:{tmp_path}/v2s2")
    manifest = (tmp_path / "v2s2/manifest.json").read_bytes()
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    for path in (tmp_path / "v2s2").iterdir():
        path.rename(layout / "blobs/sha256" / sha256(path.read_bytes()))
    kind = json.loads(manifest)["mediaType"]
    entry = {"digest": f"sha256:{sha256(manifest)}", "size": len(manifest), "mediaType": kind}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    loaded = pylxc.Image.load(layout, engine=pylxc.Engine(tmp_path / "other"))
    assert (loaded.digest, loaded.layers) == (entry["digest"], image.layers)
    assert digest(skopeo, f"oci:{tmp_path}/layout") == loaded.digest


def test_umoci_unpacks_what_is_saved(image, tmp_path):
    image.save(tmp_path / "oci.tar")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "oci.tar", "-C", tmp_path / "layout"], check=True, timeout=TIMEOUT)
    command = [
        "umoci",
        "unpack",
        "--rootless",
        "--image",
        f"{tmp_path}/layout:docker.io/library/app:1",
        tmp_path / "bundle",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle/rootfs/d/file").read_bytes() == (tmp_path / "tree/d/file").read_bytes()
