"""What the tests of archives share: loading bytes, what a layer holds, and that a failure leaves nothing."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def load(engine: pylxc.Engine) -> Callable[..., list[pylxc.Image]]:
    """Load an archive given as bytes, from a stream that cannot seek."""

    def load(data: bytes, **options: object) -> list[pylxc.Image]:
        reading, writing = os.pipe()
        if pid := os.fork():
            os.close(writing)
            with open(reading, "rb", buffering=0) as stream:
                try:
                    return [*pylxc.Image.load_all(stream, engine=engine, **options)]
                finally:
                    stream.close()
                    os.waitpid(pid, 0)
        try:
            os.close(reading)
            with open(writing, "wb", buffering=0) as stream:
                stream.write(data)
        finally:
            os._exit(0)

    return load


@pytest.fixture
def contents() -> Callable[[pylxc.Layer], dict[str, bytes]]:
    """What the files of a layer's tree hold."""

    def contents(layer: pylxc.Layer) -> dict[str, bytes]:
        with layer.tar() as stream:
            data = b"".join(iter(lambda: stream.read(1 << 20), b""))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isreg()}

    return contents


def state(engine: pylxc.Engine) -> tuple[object, ...]:
    """All that an archive may have left in a store."""
    store = engine.store
    directories = ("staging", "trash", "layers", "oci/blobs/sha256")
    rows = [store.leases._database.rows(f"SELECT * FROM {table}") for table in ("leases", "layers", "blobs", "tag_log")]  # noqa: S608
    return [sorted(os.listdir(engine.root / name)) for name in directories], rows, pylxc.Image.list(engine=engine)


@pytest.fixture
def unchanged(engine: pylxc.Engine) -> Iterator[None]:
    """Fail the test when it changes the store."""
    assert engine.store
    before = state(engine)
    yield
    assert state(engine) == before
