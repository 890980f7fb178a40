"""An archive of an image as another tool writes it. Nothing here uses pylxc.

Invariant: the layer's tar is in an order, and in a format, that pylxc does not pack in.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI = "application/vnd.oci.image"


def layer_tar(files: Mapping[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), mode, 1_000_000_000
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def image_archive(contents: Mapping[str, bytes], ref: str, mode: int = 0o640, **more: Any) -> bytes:
    """An OCI archive of an image of one layer, which is compressed; the names must not come in their order.

    ``more``: fields of the configuration.
    """
    assert list(contents) != sorted(contents)
    layer = layer_tar(contents, mode)
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digits = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digits}"] = data
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digits}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    about = {"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z", "config": {}, "rootfs": rootfs}
    about |= more
    parts = {
        "config": blob(json.dumps(about, indent=1).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip")],
    }
    manifest = blob(json.dumps({"schemaVersion": 2, **parts}, indent=1).encode(), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": ref}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
