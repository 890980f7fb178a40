"""Layers that are put on disk beside other work."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from boxes import await_true
from stores import digest_of, problems

from pylxc.errors import StoreError
from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.store import BlobRow, Staged, Store, layers

PATIENCE = 30  # s
NUMBER = 5
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"


def staged(lease, text: str) -> Staged:
    """Make a tree of one file and an archive in staging."""
    place, archive = Path(lease.stage()), f"archive of {text}"
    (place / "tree").mkdir()
    (place / "tree/file").write_text(text)
    (place / "blob").write_text(archive)
    row = BlobRow(digest_of(archive), digest_of(text), "application/x-tar", len(archive), made=False)
    return Staged(str(place / "tree"), digest_of(text), 10240, text, archive_file=str(place / "blob"), archive=row)


def document(*texts: str) -> ImageDocument:
    digests = tuple(map(digest_of, texts))
    return ImageDocument(config=ImageConfig(), platform="linux/amd64", created=0.0, diff_ids=digests, history=())


def unsettled(store) -> set[str]:
    with sqlite3.connect(store.layout.database) as connection:
        return {row[0] for row in connection.execute("SELECT layer FROM unsettled")}


class Syncs:
    """The syncs of a store's file system: each waits until it is let go, and does what it was given to do."""

    def __init__(self) -> None:
        self.real = layers.sync_filesystem
        self.begun = 0
        self.go = threading.Event()
        self.error: OSError | None = None

    def sync(self, path: str) -> None:
        self.begun += 1
        assert self.go.wait(PATIENCE)
        error, self.error = self.error, None  # the kernel tells of it once
        if error is not None:
            raise error
        self.real(path)


@pytest.fixture
def syncs(monkeypatch):
    found = Syncs()
    monkeypatch.setattr(layers, "sync_filesystem", found.sync)
    yield found
    found.go.set()


@pytest.mark.root
def test_a_layer_can_be_used_before_it_is_on_disk(store, syncs):
    with store.leases.take() as lease:
        for number in range(NUMBER):
            row = store.layers.take_in(lease, staged(lease, f"layer {number}"))
            assert (row.size, row.created_by) == (10240, f"layer {number}")
            assert Path(store.layers.path(row.digest), "file").read_text() == f"layer {number}"
            [archive] = store.blobs.of_layer(row.digest)
            assert Path(store.blobs.path(archive.digest)).read_text() == f"archive of layer {number}"
        await_true(lambda: syncs.begun == 1, "the first sync", timeout=PATIENCE)
        assert len(unsettled(store)) == NUMBER
        syncs.go.set()
        await_true(lambda: not unsettled(store), "the end of it", timeout=PATIENCE)
        assert syncs.begun <= 2  # those that came during the first are one group
        store.images.add(document("layer 0", "layer 1"), "x", lease)
        assert syncs.begun <= 2
    assert problems(Path(store.layout.root)) == []


@pytest.mark.root
def test_an_image_waits_for_its_layers(store, syncs):
    with store.leases.take() as lease:
        store.layers.take_in(lease, staged(lease, "below"))
        adding = threading.Thread(target=store.images.add, args=(document("below"), "x", lease))
        adding.start()
        await_true(lambda: syncs.begun == 1, "the sync", timeout=PATIENCE)
        assert store.images.list() == []
        syncs.go.set()
        adding.join(PATIENCE)
        assert store.images.find("x").refs == ("x:latest",)
        assert unsettled(store) == set()


def test_an_image_over_layers_of_somebody_else_puts_them_on_disk(store, syncs, monkeypatch):
    syncs.go.set()
    with store.leases.take() as lease, store.leases.take() as other:
        monkeypatch.setattr(other, "settle_beside", lambda: None)  # who is killed before it begins
        store.layers.take_in(other, staged(other, "theirs"))
        assert unsettled(store) == {digest_of("theirs")}
        store.images.add(document("theirs"), "x", lease)
        assert syncs.begun == 1
        assert unsettled(store) == set()


@pytest.mark.root
def test_a_failure_beside_is_told_to_who_wants_the_image(store, syncs):
    syncs.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with store.leases.take() as lease:
        store.layers.take_in(lease, staged(lease, "lost"))
        syncs.go.set()
        await_true(lambda: syncs.error is None, "the failure", timeout=PATIENCE)
        with pytest.raises(StoreError, match="disk is full"):
            store.images.add(document("lost"), "x", lease)
        assert store.images.list() == []
    assert problems(Path(store.layout.root)) == []
    assert os.listdir(f"{store.layout.root}/layers") == os.listdir(f"{store.layout.root}/oci/blobs/sha256") == []


def test_one_that_is_there_already_is_left_as_it_is(store):
    with store.leases.take() as lease:
        store.layers.take_in(lease, staged(lease, "old"))
        again = staged(lease, "old")
        store.layers.take_in(lease, again)
        assert Path(again.tree, "file").read_text() == "old"  # left for the lease to discard
    assert problems(Path(store.layout.root)) == []


def test_what_a_power_loss_came_upon_is_forgotten(store):
    with store.leases.take() as lease:
        store.layers.take_in(lease, staged(lease, "kept"))
        store.images.add(document("kept"), "x", lease)
        store.layers.take_in(lease, staged(lease, "lost"))
        lease.end()
        store.cache.put("a key", digest_of("lost"))
    store.close()
    with sqlite3.connect(store.layout.database) as connection:
        connection.execute("INSERT OR REPLACE INTO unsettled VALUES (?, ?)", (digest_of("lost"), OTHER_BOOT))
    store.layout.note_boot(OTHER_BOOT)
    again = Store(store.layout.root)
    assert again.layers.exists(digest_of("kept"))
    assert not again.layers.exists(digest_of("lost"))
    assert again.blobs.of_layer(digest_of("lost")) == []
    with again.leases.take() as lease:
        assert again.cache.get("a key", lease) is None
    assert os.listdir(f"{store.layout.root}/layers") == [os.path.basename(store.layers.path(digest_of("kept")))]
    assert problems(Path(store.layout.root)) == []


def test_what_this_boot_left_unsettled_is_kept(store, monkeypatch):
    monkeypatch.setattr("pylxc.store.leases.Lease.settle_beside", lambda _: None)
    with store.leases.take() as lease:
        store.layers.take_in(lease, staged(lease, "early"))
        store.cache.put("a key", digest_of("early"))
    again = Store(store.layout.root)
    assert again.layers.exists(digest_of("early"))
    assert unsettled(again) == {digest_of("early")}
