"""Named contexts: what ``contexts=`` and ``--build-context`` put in the place of a stage's or an image's name.

Invariant: a context is a directory or an image in the store's terms before anything is built; all are judged before
one is fetched.

Source: https://docs.docker.com/reference/cli/docker/buildx/build/#build-context
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.build.context import FileSource, ignore_of, why_no_directory
from pylxc.build.opening import fetched, is_remote
from pylxc.build.urls import shown
from pylxc.errors import SpecError, UnsupportedError
from pylxc.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.engine import Engine

IMAGE = "docker-image://"
_KNOWN = f"give a directory, a URL of an archive or of a repository, or {IMAGE}reference"


@frozen
class Contexts:
    """The named contexts of a build: ``directories``, and the references of ``images``, each by name."""

    directories: Mapping[str, FileSource] = field(hash=False)
    images: Mapping[str, str] = field(hash=False)

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset((*self.directories, *self.images))


@contextmanager
def opened_contexts(engine: Engine, given: Mapping[str, str | os.PathLike[str]]) -> Iterator[Contexts]:
    """Give the named contexts for the length of a block. Raises SpecError, UnsupportedError for what is none."""
    directories: dict[str, FileSource] = {}
    images: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for name, value in given.items():
        text = os.fspath(value)
        key = name.removesuffix(":latest")
        if not key or key.lower() in ("scratch", "context"):
            raise SpecError("contexts", name, "give a stage's or an image's name")
        if text.startswith(IMAGE):
            images[key] = text.removeprefix(IMAGE)
            Reference.parse(images[key])
        elif is_remote(text):
            elsewhere[key] = text
        elif "://" in text:
            raise UnsupportedError(f"the context {name}={text}", f"fetch it beforehand; {_KNOWN}")
        else:
            directories[key] = _directory(f"{name}={text}", text)
    with ExitStack() as stack:
        for key, text in elsewhere.items():
            directories[key] = _directory(f"{key}={shown(text)}", stack.enter_context(fetched(engine, text)))
        yield Contexts(directories, images)


def _directory(called: str, text: str) -> FileSource:
    path = Path(text).absolute()
    if found := why_no_directory(path):
        raise SpecError("contexts", called, f"{found}: {_KNOWN}")
    return FileSource(str(path), ignore_of(str(path)))
