"""Named contexts: what ``contexts=`` and ``--build-context`` put in the place of a stage's or an image's name.

Invariant: a context is a directory or an image in the store's terms before anything is built.

Source: https://docs.docker.com/reference/cli/docker/buildx/build/#build-context
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.build.context import FileSource, ignore_of, why_no_directory
from pylxc.errors import SpecError, UnsupportedError
from pylxc.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE = "docker-image://"
_KNOWN = f"give a directory, or {IMAGE}reference"


@frozen
class Contexts:
    """The named contexts of a build: ``directories``, and the references of ``images``, each by name."""

    directories: Mapping[str, FileSource] = field(hash=False)
    images: Mapping[str, str] = field(hash=False)

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset((*self.directories, *self.images))


def opened_contexts(given: Mapping[str, str | os.PathLike[str]]) -> Contexts:
    """Open the named contexts. Raises SpecError for what is none, UnsupportedError for what would be fetched."""
    directories: dict[str, FileSource] = {}
    images: dict[str, str] = {}
    for name, value in given.items():
        text = os.fspath(value)
        key = name.removesuffix(":latest")
        if not key or key.lower() in ("scratch", "context"):
            raise SpecError("contexts", name, "give a stage's or an image's name")
        if text.startswith(IMAGE):
            images[key] = text.removeprefix(IMAGE)
            Reference.parse(images[key])
        elif "://" in text or text.startswith("git@"):
            raise UnsupportedError(f"the context {name}={text}", f"fetch it beforehand; {_KNOWN}")
        else:
            directories[key] = _directory(name, text)
    return Contexts(directories, images)


def _directory(name: str, text: str) -> FileSource:
    path = Path(text).absolute()
    if found := why_no_directory(path):
        raise SpecError("contexts", f"{name}={text}", f"{found}: {_KNOWN}")
    return FileSource(str(path), ignore_of(str(path)))
