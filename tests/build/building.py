"""Contexts to build from, and layers taken apart: what the tests of builds have in common.

A layer is looked at through its tar, read by Python's tarfile: a reader that pylxc does not share.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
from typing import TYPE_CHECKING

import pylxc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Files:
    """A build context below ``path``. ``write`` adds files; content "-> x" makes a link to x."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def write(self, files: Mapping[str, str | bytes]) -> Files:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                path.chmod(0o644)
        return self


class Builder:
    """Builds Dockerfile texts on one context and one store, and keeps the events of the last build."""

    def __init__(self, files: Files, engine: pylxc.Engine) -> None:
        self.files = files
        self.engine = engine
        self.events: list[pylxc.BuildEvent] = []
        self.tell = lambda _event: None

    def __call__(self, dockerfile: str, **options: object) -> pylxc.Image:
        (self.files.path / "Dockerfile").write_text(dockerfile)
        self.events = []
        return pylxc.Image.build(self.files.path, on_event=self._note, engine=self.engine, **options)

    def _note(self, event: pylxc.BuildEvent) -> None:
        self.events.append(event)
        self.tell(event)

    def write(self, files: Mapping[str, str | bytes]) -> Path:
        return self.files.write(files).path

    def cached(self) -> list[int]:
        """Return the numbers of the steps that came from the cache."""
        return [event.step for event in self.events if event.kind == "cached"]

    def made(self) -> list[int]:
        """Return the numbers of the steps, FROM and those without a layer included, that did not."""
        return [event.step for event in self.events if event.kind == "step" and event.step not in self.cached()]

    def output(self) -> str:
        return b"".join(event.data for event in self.events if event.kind == "output").decode()


def members(layer: pylxc.Layer) -> dict[str, tarfile.TarInfo]:
    """Return a layer's entries by name, its own root left out."""
    with layer.tar() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        return {entry.name: entry for entry in archive if entry.name != "."}


def contents(layer: pylxc.Layer) -> dict[str, bytes]:
    """Return the content of a layer's files by name."""
    with layer.tar() as stream:
        data = stream.read()
        while more := stream.read():
            data += more
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isreg()}


def names(layer: pylxc.Layer) -> list[str]:
    """Return a layer's names as its tar has them, in its order."""
    return list(members(layer))


def tar_bytes(entries: Mapping[str, bytes | str], *, mode: str = "w", mtime: int = 1_000_000_000) -> bytes:
    """Return an archive: bytes make a file, "-> x" a symbolic link, "/" a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mtime = mtime
            if isinstance(content, bytes):
                entry.size, entry.mode = len(content), 0o640
                archive.addfile(entry, io.BytesIO(content))
            elif content.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[3:]
                archive.addfile(entry)
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o750
                archive.addfile(entry)
    return out.getvalue()


def snapshot(engine: pylxc.Engine, *, staging: bool = True) -> tuple[object, ...]:
    """Return what a failed build must not change: images with their tags, the log of tags, containers, ``staging``.

    What a failed RUN left is in there for as long as its error is (test_failed_step.py).
    """
    images = [(image.id, image.refs) for image in pylxc.Image.list(engine=engine)]
    containers = [container.id for container in pylxc.Container.list(all=True, engine=engine)]
    directories = ("trash", "containers", "oci/blobs/sha256", *(("staging",) if staging else ()))
    left = [sorted(os.listdir(engine.root / name)) for name in directories]
    return images, containers, left, (engine.root / "oci/index.json").read_bytes()


def noise(size: int) -> bytes:
    """Return bytes that no compression makes smaller, always the same."""
    return random.Random(size).randbytes(size)
