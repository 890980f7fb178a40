"""Archives of images as other tools write them: layouts, docker's, and wrong ones. Nothing here uses pylxc.

Invariant: an archive is a dictionary of names and contents until it is packed, so that a test can change any of it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
MANIFEST, INDEX, CONFIG = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json", f"{OCI}config.v1+json"
V2S2 = f"{DOCKER}distribution.manifest.v2+json"
V2_LIST = f"{DOCKER}distribution.manifest.list.v2+json"
LAYER = f"{OCI}layer.v1.tar"
PACKERS = {"": bytes, "gzip": lambda data: gzip.compress(data, mtime=0), "zstd": zstandard.compress}
NAME = "org.opencontainers.image.ref.name"
DOCKER_NAME = "io.containerd.image.name"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def dump(value: Any) -> bytes:
    """JSON that pylxc would not write: its bytes have to be kept."""
    return json.dumps(value, indent=3).encode()


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """A layer with its files in the order given, in GNU's format: pylxc would pack the same tree otherwise."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o640, 1_000_000_000
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def config(layers: Iterable[bytes], platform: str = "linux/amd64", **fields: Any) -> bytes:
    """A configuration over the tars of layers, with a field that nobody knows."""
    system, architecture, *variant = platform.split("/")
    value = {"architecture": architecture, "os": system, "x-unknown": {"kept": 1}, "created": "2024-01-02T03:04:05Z"}
    if variant:
        value["variant"] = variant[0]
    value["config"] = {"Cmd": ["/run"], "x-other": True}
    value["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
    return dump({**value, **fields})


class Layout(dict[str, bytes]):
    """An OCI image layout: the files by their names."""

    def __init__(self) -> None:
        super().__init__({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'})

    def blob(self, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
        """Add a blob; return its descriptor."""
        self[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **fields}

    def image(self, *layers: bytes, form: str = "gzip", platform: str = "linux/amd64", **fields: Any) -> dict[str, Any]:
        """Add an image; return its manifest's descriptor. ``fields`` are the configuration's."""
        kind = LAYER + (f"+{form}" if form else "")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config(layers, platform, **fields), CONFIG),
            "layers": [self.blob(PACKERS[form](layer), kind) for layer in layers],
            "annotations": {"nobody.knows": "this"},
        }
        return self.blob(dump(manifest), MANIFEST)

    def index(self, *entries: dict[str, Any], media_type: str = INDEX) -> dict[str, Any]:
        return self.blob(dump({"schemaVersion": 2, "mediaType": media_type, "manifests": [*entries]}), media_type)

    def top(self, *entries: dict[str, Any]) -> Layout:
        """Write ``index.json``."""
        self["index.json"] = dump({"schemaVersion": 2, "manifests": [*entries]})
        return self


def named(entry: dict[str, Any], name: str, key: str = NAME) -> dict[str, Any]:
    return {**entry, "annotations": {**entry.get("annotations", {}), key: name}}


def at(entry: dict[str, Any], platform: str) -> dict[str, Any]:
    """A descriptor for a platform."""
    parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return {**entry, "platform": parts}


def packed(files: Mapping[str, bytes | str]) -> bytes:
    """An archive of files, in the order given; a text makes a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def docker_files(*images: tuple[list[str] | None, list[bytes]]) -> dict[str, bytes | str]:
    """What docker before 25 saves: of each image tags and the tars of layers; one that comes again is a link."""
    files: dict[str, bytes | str] = {}
    entries = []
    places: dict[bytes, str] = {}
    for number, (tags, layers) in enumerate(images):
        data = config(layers)
        name = f"{digest_of(data)[7:]}.json"
        files[name] = data
        names = []
        for position, layer in enumerate(layers):
            directory = hashlib.sha256(f"{number} {position}".encode()).hexdigest()
            place = f"{directory}/layer.tar"
            files[f"{directory}/VERSION"] = b"1.0"
            files[place] = f"../{places[layer]}" if layer in places else layer
            places.setdefault(layer, place)
            names.append(place)
        entries.append({"Config": name, "RepoTags": tags, "Layers": names})
    files["manifest.json"] = dump(entries)
    files["repositories"] = b"{}"
    return files
