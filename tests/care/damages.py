"""How to damage what an image consists of.

Invariant: files that belong to another id of an ordinary user are touched in a fork that has its rights.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc


def layer_path(image: pylxc.Image, name: str = "") -> str:
    return os.path.join(image._engine.layer_directory(image.layers[0].digest), name)


def blob_path(image: pylxc.Image, digest: str) -> Path:
    return Path(image._engine.store.blobs.path(digest))


def archive_digest(image: pylxc.Image) -> str:
    """The digest of the archive that is kept of an image's one layer."""
    (row,) = image._engine.store.blobs.of_layer(image.layers[0].digest)
    return row.digest


def flip(path: str | Path) -> None:
    """Change one bit in the middle of a file; its length and times stay."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# What may become of a tree. Each is done with the rights of the tree's owner.
DAMAGES: dict[str, Callable[[str], object]] = {
    "a bit": lambda top: flip(f"{top}/zebra"),
    "a mode": lambda top: os.chmod(f"{top}/apple", 0o600 ^ (os.stat(f"{top}/apple").st_mode & 0o777)),
    "an attribute": lambda top: os.setxattr(f"{top}/apple", "user.colour", b"green"),
    "a time": lambda top: os.utime(f"{top}/apple", ns=(0, 1)),
    "a time of a directory": lambda top: os.utime(top, ns=(0, 1)),
    "a file less": lambda top: os.unlink(f"{top}/apple"),
    "a file more": lambda top: Path(top, "more").write_bytes(b""),
    "a file of no length": lambda top: os.truncate(f"{top}/zebra", 0),
    "a link in place of a file": lambda top: (os.unlink(f"{top}/empty"), os.symlink("apple", f"{top}/empty")),
    "all of it": shutil.rmtree,
}


def damage(image: pylxc.Image, kind: str) -> None:
    rootless.as_owner(_call, kind, layer_path(image).rstrip("/"))


def _call(kind: str, top: str) -> None:
    DAMAGES[kind](top)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: (path.unlink(), make(path))


# What may lie in the place of a file: each keeps whoever just opens and reads it from its work.
INSTEAD: dict[str, Callable[[Path], object]] = {
    "a directory": _instead(lambda path: (path.mkdir(), (path / "file").write_text("x"))),
    "a FIFO": _instead(os.mkfifo),
    "an endless file": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": _instead(lambda path: path.symlink_to("nothing")),
}


def kinds(report: pylxc.CheckReport) -> list[str]:
    return [problem.kind for problem in report.problems]
