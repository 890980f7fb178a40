"""What a container wrote, given to the store as a layer and brought back: it is never in neither place."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from stores import add_image, close, container, digest_of, every_kill, index_of, names, problems, rows

from pylxc.errors import StoreError
from pylxc.runtime.waiting import drive, steps_of
from pylxc.store import Staged, Store

pytestmark = pytest.mark.root  # an ordinary user's containers are copied

TEXT = "what it wrote"
DIGEST = digest_of(TEXT)
ID = container("", "box").id


def make(root: Path) -> None:
    """Make a store with a container that has ended."""
    store = Store(root)
    store.containers.add(container(add_image(store, "base", "base").id, "box"))
    write(root)
    (root / "containers" / ID / "work").mkdir()
    close(store)


def write(root: Path) -> None:
    (root / "containers" / ID / "upper").mkdir()
    (root / "containers" / ID / "upper/file").write_text(TEXT)


def upper_of(root: Path) -> Path:
    return root / "containers" / ID / "upper"


def give(store: Store) -> bool:
    """Commit: the image has what the container wrote on the layer of its own."""
    mark = store.uppers.mark(ID)
    assert mark is not None
    with store.leases.take() as lease:
        staged = Staged(f"{store.layout.container(ID)}/upper", DIGEST, 10240, "sleep")
        is_given = store.uppers.give(lease, ID, mark, staged)
        if is_given:
            add_image(store, "committed", "base", TEXT, there=(DIGEST,))
        return is_given


def hold(store: Store) -> None:
    os.close(store.uppers.hold(ID))


def committed(root: Path) -> None:
    make(root)
    store = Store(root)
    assert give(store)
    close(store)


def look(root: Path, *, is_at_home: bool | None = None) -> Store:
    """Open the store, as the next process does: all is well, and what the container wrote is there."""
    store = Store(root)
    assert problems(root) == []
    assert Path(store.uppers.place(ID), "file").read_text() == TEXT
    is_given = store.uppers.layer_of(ID) is not None
    assert bool(rows(root, "SELECT 1 FROM given_uppers")) == is_given != upper_of(root).exists()
    assert is_at_home in (None, not is_given)
    return store


def test_it_is_renamed_and_copied_back(tmp_path):
    root = tmp_path / "store"
    make(root)
    inode = (upper_of(root) / "file").stat().st_ino
    store = Store(root)
    assert give(store)
    close(store)
    store = look(root, is_at_home=False)
    assert (root / "layers" / DIGEST[7:] / "file").stat().st_ino == inode
    hold(store)
    close(store)
    close(look(root, is_at_home=True))
    assert (root / "layers" / DIGEST[7:] / "file").stat().st_ino == inode
    assert (upper_of(root) / "file").stat().st_ino != inode


def test_where_no_image_wants_the_layer_it_is_renamed_back(tmp_path):
    root = tmp_path / "store"
    committed(root)
    inode = (root / "layers" / DIGEST[7:] / "file").stat().st_ino
    store = Store(root)
    store.images.remove(store.images.find("committed").id)
    close(store)
    store = look(root, is_at_home=False)
    assert store.upkeep.orphans() == []
    hold(store)
    close(store)
    close(look(root, is_at_home=True))
    assert (upper_of(root) / "file").stat().st_ino == inode
    assert not (root / "layers" / DIGEST[7:]).exists()


@pytest.mark.parametrize("first", ["container", "image"])
def test_the_layer_goes_with_the_last_of_both(tmp_path, first):
    root = tmp_path / "store"
    committed(root)
    store = Store(root)
    works = [
        lambda: store.containers.remove(ID),
        lambda: store.images.remove(store.images.find("committed").id),
    ]
    for work in works if first == "container" else reversed(works):
        assert (root / "layers" / DIGEST[7:] / "file").read_text() == TEXT
        work()
        assert problems(root) == []
    assert not (root / "layers" / DIGEST[7:]).exists()


def test_whoever_has_used_it_since_the_mark_keeps_it(tmp_path):
    root = tmp_path / "store"
    make(root)
    store = Store(root)
    mark = store.uppers.mark(ID)
    held = store.uppers.hold(ID)
    assert store.uppers.mark(ID) is None, "it is in use"
    staged = Staged(str(upper_of(root)), DIGEST, 10240, "sleep")
    with store.leases.take() as lease:
        assert not store.uppers.give(lease, ID, mark, staged), "it is in use"
        os.close(held)
        assert not store.uppers.give(lease, ID, mark, staged), "it was used"
    close(store)
    close(look(root, is_at_home=True))


def test_an_index_of_overlayfs_keeps_it_in_its_place(tmp_path):
    root = tmp_path / "store"
    make(root)
    (root / "containers" / ID / "work/index").mkdir()
    assert Store(root).uppers.mark(ID) is None


def test_of_two_that_wrote_the_same_one_gives_it(tmp_path):
    root = tmp_path / "store"
    committed(root)
    store = Store(root)
    row = container(store.containers.get(ID).image, "other")
    store.containers.add(row)
    other = Path(store.layout.container(row.id))
    for name in ("upper", "work"):
        (other / name).mkdir()
    (other / "upper/file").write_text(TEXT)
    mark = store.uppers.mark(row.id)
    with store.leases.take() as lease:
        assert not store.uppers.give(lease, row.id, mark, Staged(f"{other}/upper", DIGEST, 10240, "sleep"))
    assert (other / "upper/file").read_text() == TEXT
    close(store)
    close(look(root, is_at_home=False))


def test_a_failed_commit_of_the_rows_puts_it_back(tmp_path, monkeypatch):
    root = tmp_path / "store"
    make(root)
    store = Store(root)

    def fail(*_: object) -> None:
        raise StoreError("the index", "the disk is full")

    with monkeypatch.context() as patched, suppress(StoreError):
        patched.setattr(store.layers._blobs, "add", fail)
        patched.setattr(
            store.layers, "_place", lambda *operands: (type(store.layers)._place(store.layers, *operands), fail())
        )
        give(store)
        raise AssertionError("it did not fail")
    close(store)
    close(look(root, is_at_home=True))


def test_a_power_loss_before_the_layer_was_on_disk(tmp_path):
    """The rows survived, and the tree: the layer is none any more, the container has what it wrote."""
    root = tmp_path / "store"
    make(root)
    store = Store(root)
    mark = store.uppers.mark(ID)
    with store.leases.take() as lease:
        lease.settle_beside = lambda: None  # the power goes first
        assert store.uppers.give(lease, ID, mark, Staged(str(upper_of(root)), DIGEST, 10240, "sleep"))
        with index_of(store).writing(durable=True) as connection:
            connection.execute("UPDATE unsettled SET boot_id = 'another'")
            connection.execute("UPDATE leases SET boot_id = 'another'")
    (root / "boot").unlink()
    close(store)
    store = look(root, is_at_home=True)
    assert not store.layers.exists(DIGEST)
    close(store)


def test_what_a_kill_left_is_told_and_mended(tmp_path):
    root = tmp_path / "store"
    committed(root)
    store = Store(root)
    assert store.uppers.amiss() == []
    forget_image(store)
    with index_of(store).writing(durable=True) as connection:
        connection.execute("DELETE FROM layers WHERE digest = ?", (DIGEST,))
    assert store.uppers.amiss() == [ID]
    store.layers.sweep()
    store.layers.clear((DIGEST,))
    assert Path(store.uppers.place(ID), "file").read_text() == TEXT, "it is no rubbish"
    store.uppers.recover()
    assert store.uppers.amiss() == []
    close(store)
    close(look(root, is_at_home=True))


# -- kill -9 at each step ----------------------------------------------------------------------------------------------


def forget_image(store: Store) -> None:
    with suppress(StoreError, LookupError):
        store.images.remove(store.images.find("committed").id)


def test_killed_while_it_is_given(tmp_path):
    root = tmp_path / "store"
    make(root)

    def check() -> None:
        store = look(root)
        forget_image(store)
        hold(store)
        close(store)
        close(look(root, is_at_home=True))

    assert every_kill(lambda: give(Store(root)), check) > 25
    close(look(root, is_at_home=False))


@pytest.mark.parametrize("has_image", [True, False], ids=["copied", "renamed"])
def test_killed_while_it_is_brought_back(tmp_path, has_image):
    root = tmp_path / "store"
    committed(root)
    seen = set()

    def begin() -> None:
        if not has_image:
            forget_image(Store(root))
        hold(Store(root))

    def check() -> None:
        store = look(root)
        seen.add(store.uppers.layer_of(ID) is None)
        if store.uppers.layer_of(ID) is None:
            forget_image(store)
            assert give(store)
        close(store)
        close(look(root, is_at_home=False))

    assert every_kill(begin, check) > 15
    assert seen == {True, False}
    close(look(root, is_at_home=True))


def test_killed_while_the_container_is_removed(tmp_path):
    root = tmp_path / "store"
    committed(root)
    forget_image(Store(root))

    def check() -> None:
        store = Store(root)
        assert problems(root) == []
        if not rows(root, "SELECT id FROM containers"):
            assert names(root / "layers") == {digest_of("base")[7:]}
            store.containers.add(container(store.images.find("base").id, "box"))
            write(root)
            (root / "containers" / ID / "work").mkdir()
            assert give(store)
            forget_image(store)
        close(store)
        close(look(root, is_at_home=False))

    assert every_kill(lambda: Store(root).containers.remove(ID), check) > 10
    assert names(root / "layers") == {digest_of("base")[7:]}


def test_steps_of_holding_wait_for_nobody_else(tmp_path):
    root = tmp_path / "store"
    committed(root)
    store = Store(root)
    steps = steps_of(store.uppers.hold, ID)
    next(steps)  # the copy is being made: others may have their turn
    hold(store)
    os.close(drive(steps))
    close(store)
    close(look(root, is_at_home=True))
