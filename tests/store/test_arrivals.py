"""Layers of several threads that become durable together."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boxes import await_true
from stores import digest_of, problems

from pylxc.errors import StoreError
from pylxc.store import BlobRow, Staged, layers

PATIENCE = 30  # s
NUMBER = 5


def staged(lease, text: str) -> Staged:
    """Make a tree of one file and an archive in staging."""
    place = Path(lease.stage())
    (place / "tree").mkdir()
    (place / "tree/file").write_text(text)
    (place / "blob").write_text(text)
    row = BlobRow(digest_of(f"archive of {text}"), digest_of(text), "application/x-tar", len(text), made=False)
    return Staged(str(place / "tree"), digest_of(text), 10240, text, archive_file=str(place / "blob"), archive=row)


@pytest.fixture
def syncs(monkeypatch):
    """The syncs of a store's file system: each waits until it is let go, and does what it was given to do."""

    class Syncs:
        begun = 0
        go = threading.Event()
        error: OSError | None = None

        def sync(self, path: str) -> None:
            self.begun += 1
            assert self.go.wait(PATIENCE)
            if self.error is not None:
                raise self.error
            real(path)

    real, found = layers.sync_filesystem, Syncs()
    found.go = threading.Event()
    monkeypatch.setattr(layers, "sync_filesystem", found.sync)
    return found


def settle_all(store, lease, syncs, texts) -> list[BaseException | None]:
    """Let the first one begin, then all others while it syncs; return how each ended."""
    arrivals = store.arrivals(lease)
    with ThreadPoolExecutor(len(texts)) as pool:
        futures = [pool.submit(arrivals.settle, staged(lease, texts[0]))]
        await_true(lambda: syncs.begun == 1, "the first sync", timeout=PATIENCE)
        futures += [pool.submit(arrivals.settle, staged(lease, text)) for text in texts[1:]]
        await_true(lambda: len(arrivals._waiting) == len(texts) - 1, "the others", timeout=PATIENCE)
        syncs.go.set()
        return [future.exception(PATIENCE) for future in futures]


def test_those_that_come_meanwhile_are_one_group(store, syncs):
    texts = [f"layer {number}" for number in range(NUMBER)]
    with store.leases.take() as lease:
        assert settle_all(store, lease, syncs, texts) == [None] * NUMBER
        assert syncs.begun == 2
        for text in texts:
            row = store.layers.get(digest_of(text))
            assert (row.size, row.created_by) == (10240, text)
            assert Path(store.layers.path(row.digest), "file").read_text() == text
            [archive] = store.blobs.of_layer(row.digest)
            assert Path(store.blobs.path(archive.digest)).read_text() == text
    assert problems(Path(store.layout.root)) == []


def test_a_group_fails_as_one_and_leaves_nothing(store, syncs):
    texts = [f"layer {number}" for number in range(NUMBER)]
    syncs.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with store.leases.take() as lease:
        ends = settle_all(store, lease, syncs, texts)
        assert all(isinstance(error, StoreError) and "disk is full" in str(error) for error in ends), ends
        assert syncs.begun == 2
        assert not any(store.layers.exists(digest_of(text)) for text in texts)
    assert problems(Path(store.layout.root)) == []
    assert os.listdir(f"{store.layout.root}/layers") == os.listdir(f"{store.layout.root}/oci/blobs/sha256") == []


def test_one_that_is_there_already_comes_with_new_ones(store, syncs):
    syncs.go.set()
    with store.leases.take() as lease:
        arrivals = store.arrivals(lease)
        arrivals.settle(staged(lease, "old"))
        again = staged(lease, "old")
        store.layers.commit_all(lease, [again, staged(lease, "new")])
        assert Path(again.tree, "file").read_text() == "old"  # left for the lease to discard
        assert all(store.layers.exists(digest_of(text)) for text in ("old", "new"))
    assert problems(Path(store.layout.root)) == []
