"""Volumes in the index and on disk: names, users, filling, removals that were cut short, stores of an older version."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from stores import add_image, close, container, killed_at, names, problems, rows

from pylxc.errors import Conflict, StoreError, VolumeNotFound
from pylxc.identity import own_identity
from pylxc.store import Store, VolumeUse
from pylxc.store.database import UPGRADES, VERSION
from pylxc.store.going import mark

LIMIT = 500  # calls; no operation makes so many


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def box(store):
    """Add a container with volumes."""
    image = add_image(store, "made", "one").id

    def add(name: str, *uses: VolumeUse, **fields) -> str:
        row = container(image, name, **fields)
        store.containers.add(row, uses)
        return row.id

    return add


def use(name: str, *, target: str = "/data", copy: bool = True, anonymous: bool = False) -> VolumeUse:
    return VolumeUse(target, name, copy, anonymous)


def nobody(_container: str) -> bool:
    return False


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_volume_has_a_row_and_a_directory(store, root):
    made = store.volumes.add("data", {"tier": "db"})
    assert store.volumes.get("data") == made
    assert (made.name, made.labels, made.anonymous) == ("data", {"tier": "db"}, False)
    assert names(root / "volumes/data") == {"data"}
    modes = [stat.S_IMODE((root / path).stat().st_mode) for path in ("volumes", "volumes/data", "volumes/data/data")]
    assert modes == [0o700, 0o700, 0o755]
    store.volumes.add("cache")
    assert [row.name for row in store.volumes.list()] == ["cache", "data"]


def test_a_volume_is_made_once(store):
    made = store.volumes.add("data", {"tier": "db"})
    assert store.volumes.add("data") == made
    assert store.volumes.add("data", {"tier": "db"}) == made
    with pytest.raises(Conflict, match="other labels"):
        store.volumes.add("data", {"tier": "web"})


def test_what_is_not_there(store):
    for action in (store.volumes.get, store.volumes.remove):
        with pytest.raises(VolumeNotFound, match="volume ls") as caught:
            action("none")
        assert caught.value.name == "none"


def test_removing_takes_all_that_is_in_it(store, root):
    place = Path(store.volumes.directory(store.volumes.add("data").name))
    (place / "deep").mkdir()
    (place / "deep/file").write_text("x")
    store.volumes.remove("data")
    assert names(root / "volumes") == names(root / "trash") == set()
    assert problems(root) == []


def test_a_volume_in_use_stays(store, box):
    store.volumes.add("data")
    first, second = box("first", use("data")), box("second", use("data", target="/other"), use("data", target="/more"))
    assert sorted(store.volumes.users("data")) == sorted([first, second])
    with pytest.raises(Conflict, match=f"in use by container .*{first[:12]}") as caught:
        store.volumes.remove("data")
    assert second[:12] in caught.value.reason
    store.containers.remove(first)
    with pytest.raises(Conflict):
        store.volumes.remove("data")
    store.containers.remove(second)
    assert store.volumes.users("data") == []
    store.volumes.remove("data")


def test_a_container_is_not_added_with_a_volume_that_is_gone(store, box, root):
    with pytest.raises(Conflict, match="removed meanwhile"):
        box("first", use("gone"))
    assert store.containers.list() == []
    store.volumes.add("data")
    box("taken")
    with pytest.raises(Conflict, match="name is taken"):
        box("taken", use("data"), use("f" * 64, target="/other", anonymous=True), id="1" * 64)
    assert [row.name for row in store.volumes.list()] == ["data"]
    assert problems(root) == []


def test_an_anonymous_volume_goes_with_the_last_that_has_it(store, box, root):
    first = box("first", use("a" * 64, anonymous=True), use("b" * 64, target="/b", anonymous=True))
    for name in ("a" * 64, "b" * 64):
        Path(store.volumes.directory(name), "file").write_text("x")
    second = box("second", use("a" * 64))
    store.containers.remove(first)
    assert [row.name for row in store.volumes.list()] == ["a" * 64]
    assert names(root / "volumes") == {"a" * 64}
    store.containers.remove(second)
    # It was not made with the second one, and is not kept by it either.
    assert store.volumes.list() == []
    assert names(root / "volumes") == set()


def test_a_container_copies_once(store, box):
    store.volumes.add("data")
    one = box("one", use("data"), use("data", target="/plain", copy=False))
    assert [(found.target, found.copy) for found in store.volumes.uses_of(one)] == [("/data", True), ("/plain", False)]
    store.volumes.note_copied(one)
    assert [found.copy for found in store.volumes.uses_of(one)] == [False, False]
    assert store.volumes.uses_of("nobody") == []


# -- filling ----------------------------------------------------------------------------------------------------------


def test_filling_an_empty_volume(store, root):
    store.volumes.add("data")
    with store.volumes.filling(use("data"), nobody, "me") as keeper:
        assert keeper >= 0
        assert names(root / "volumes/data") == {"data", "filling"}
        (root / "volumes/data/data/file").write_text("x")
    assert names(root / "volumes/data") == {"data"}
    with store.volumes.filling(use("data"), nobody, "me") as keeper:
        assert keeper == -1


def fail_to_fill(store, root, name="half"):
    with pytest.raises(ValueError, match="on the way"), store.volumes.filling(use("data"), nobody, "me"):
        (root / "volumes/data/data" / name).mkdir()
        raise ValueError("on the way")


def test_what_was_half_filled_is_emptied_first(store, root):
    store.volumes.add("data")
    fail_to_fill(store, root)
    with store.volumes.filling(use("data"), nobody, "me") as keeper:
        assert keeper >= 0
        assert names(root / "volumes/data/data") == set()
    assert names(root / "volumes/data") == {"data"}


def test_nothing_is_taken_from_a_container_that_runs_with_it(store, root, box):
    store.volumes.add("data")
    mine, other = box("mine", use("data")), box("other", use("data"))
    fail_to_fill(store, root)
    with store.volumes.filling(use("data"), lambda id: id == mine, mine):  # noqa: A006  docker's name
        assert names(root / "volumes/data/data") == set()
    fail_to_fill(store, root, "again")
    with store.volumes.filling(use("data"), lambda id: id == other, mine) as keeper:  # noqa: A006
        assert keeper >= 0
        assert names(root / "volumes/data/data") == {"again"}


def test_the_lock_is_held_by_whoever_keeps_the_descriptor(store, root):
    """A helper that outlives its caller by a moment, and is still writing."""
    store.volumes.add("data")
    kept = -1
    with pytest.raises(KeyboardInterrupt), store.volumes.filling(use("data"), nobody, "me") as keeper:
        kept = os.dup(keeper)
        raise KeyboardInterrupt
    found = []

    def fill() -> None:
        with store.volumes.filling(use("data"), nobody, "me") as got:
            found.append(got)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert found == []
    os.close(kept)
    thread.join(10)
    assert [got >= 0 for got in found] == [True]
    assert problems(root) == []


def test_one_fills_while_the_others_wait(store, root):
    store.volumes.add("data")
    entered, release, found = threading.Event(), threading.Event(), []

    def fill() -> None:
        with store.volumes.filling(use("data"), nobody, "me") as keeper:
            if keeper >= 0:
                (root / "volumes/data/data/first").write_text("x")
                entered.set()
                assert release.wait(10)
                (root / "volumes/data/data/last").write_text("x")
            found.append((keeper >= 0, names(root / "volumes/data/data")))

    threads = [threading.Thread(target=fill) for _ in range(4)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(10)
    assert sorted(filled for filled, _ in found) == [False, False, False, True]
    assert all(seen == {"first", "last"} for _, seen in found)


def test_a_volume_that_cannot_be_filled_says_where(store, root):
    store.volumes.add("data")
    (root / "volumes/data").rename(root / "elsewhere")
    (root / "volumes/data").write_text("no directory")
    with pytest.raises(StoreError) as caught:
        store.volumes.directory("data")
    assert caught.value.path == str(root / "volumes/data")
    (root / "volumes/data").unlink()
    (root / "elsewhere").rename(root / "volumes/data")


# -- kill -9, before every single thing that is done to the disk ------------------------------------------------------


def every_kill(work, check) -> int:
    for number in range(LIMIT):
        if not killed_at(number, work):
            return number
        check()
    raise AssertionError("it never came to its end")


def check_whole(root: Path) -> None:
    store = Store(root)
    try:
        assert problems(root) == []
    finally:
        close(store)


def test_killed_while_a_volume_is_made(root):
    close(Store(root))

    def check() -> None:
        check_whole(root)
        store = Store(root)
        if store.volumes.list():
            assert stat.S_IMODE(os.stat(store.volumes.directory("data")).st_mode) == 0o755
            assert names(root / "volumes/data") == {"data"}
            store.volumes.remove("data")
        close(store)
        assert names(root / "volumes") == set()

    assert every_kill(lambda: Store(root).volumes.add("data", {"a": "b"}), check) > 8


def test_killed_while_a_volume_is_removed(root):
    def make() -> None:
        store = Store(root)
        Path(store.volumes.directory(store.volumes.add("data").name), "file").write_text("x")
        close(store)

    make()

    def check() -> None:
        check_whole(root)
        if rows(root, "SELECT name FROM volumes"):
            assert (root / "volumes/data/data/file").read_text() == "x"  # all of it or nothing
        else:
            assert names(root / "volumes") == set()
            make()

    assert every_kill(lambda: Store(root).volumes.remove("data"), check) > 3
    assert names(root / "volumes") == set()


def test_killed_with_a_container_and_its_volume(root):
    image = add_image(Store(root), "made", "one").id

    def come_and_go() -> None:
        store = Store(root)
        row = container(image, "box", owner=own_identity())
        store.containers.add(row, [use("a" * 64, anonymous=True)])
        Path(store.volumes.directory("a" * 64), "file").write_text("x")
        store.containers.remove(row.id)

    def check() -> None:
        check_whole(root)
        store = Store(root)
        for row in store.containers.orphans():
            store.containers.remove(row.id)
        assert store.volumes.list() == []
        assert names(root / "volumes") == names(root / "containers") == set()
        close(store)

    assert every_kill(come_and_go, check) > 10


def test_killed_while_a_volume_is_filled(root):
    store = Store(root)
    store.volumes.add("data")
    close(store)
    place = root / "volumes/data"

    def fill(store: Store) -> None:
        with store.volumes.filling(use("data"), nobody, "me") as keeper:
            if keeper >= 0:
                for number in range(3):
                    os.close(os.open(place / f"data/{number}", os.O_CREAT | os.O_WRONLY | os.O_EXCL))

    def check() -> None:
        check_whole(root)
        store = Store(root)
        fill(store)
        assert names(place / "data") == {"0", "1", "2"}
        assert names(place) == {"data"}
        for number in range(3):
            (place / f"data/{number}").unlink()
        close(store)

    assert every_kill(lambda: fill(Store(root)), check) > 8


def fill(store: Store, name: str, text: str) -> None:
    store.volumes.add(name)
    Path(store.volumes.directory(name), "file").write_text(text)


def lose_volumes(root: Path) -> None:
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        index.executescript("DELETE FROM volumes;")


def test_a_directory_whose_row_was_lost_is_kept_and_a_volume_of_its_name_has_it(store, root):
    fill(store, "data", "precious")
    lose_volumes(root)
    close(Store(root))
    with pytest.raises(VolumeNotFound):
        store.volumes.remove("data")
    store.volumes.add("other")
    with pytest.raises(Conflict, match="store repair"), store.leases.take() as lease:
        store.volumes.snapshot(lease, "other", "data", None)
    close(Store(root))
    assert (root / "volumes/data/data/file").read_text() == "precious"
    store.volumes.add("data")
    assert (root / "volumes/data/data/file").read_text() == "precious"


def test_what_a_removal_that_was_cut_short_left_is_rubbish_and_no_volumes_content(store, root):
    for name in ("data", "other"):
        fill(store, name, "x")
        mark(str(root / "volumes" / name))
    lose_volumes(root)
    store.volumes.add("data")
    assert names(root / "volumes/data/data") == set()
    check_whole(root)
    assert names(root / "volumes") == {"data"}


def test_a_removal_that_came_to_nothing_leaves_no_mark(store, root):
    fill(store, "data", "precious")
    mark(str(root / "volumes/data"))
    close(Store(root))
    lose_volumes(root)
    close(Store(root))
    assert (root / "volumes/data/data/file").read_text() == "precious"


# -- older stores -----------------------------------------------------------------------------------------------------


def as_version_1(root: Path) -> None:
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        later = ("container_volumes", "volumes", "manifests", "blobs")
        index.executescript(f"{''.join(f'DROP TABLE {name};' for name in later)} PRAGMA user_version=1;")


def test_a_store_of_version_1_is_brought_up(root):
    id = add_image(Store(root), "made", "one").id  # noqa: A001
    as_version_1(root)
    stores = [Store(root) for _ in range(2)]
    assert rows(root, "PRAGMA user_version") == [(VERSION,)]
    stores[0].volumes.add("data")
    stores[1].containers.add(container(id, "box"), [use("data")])
    with pytest.raises(Conflict):
        stores[0].volumes.remove("data")
    row = stores[1].images.find("made")
    assert row.id == id
    assert stores[1].images.find(f"made@{row.manifest}") == row
    assert stores[1].images.content(id).media_type == "application/vnd.oci.image.manifest.v1+json"
    for store in stores:
        close(store)


def test_bringing_it_up_twice_changes_nothing(root):
    """Two processes that saw the old version: the second one waits, and does it again."""
    store = Store(root)
    store.volumes.add("data")
    schema = rows(root, "SELECT name, sql FROM sqlite_master ORDER BY name")
    with closing(sqlite3.connect(root / "pylxc.db")) as index:
        index.executescript("".join(UPGRADES.values()))
    assert rows(root, "SELECT name, sql FROM sqlite_master ORDER BY name") == schema
    assert [row.name for row in store.volumes.list()] == ["data"]


def test_killed_while_it_is_brought_up(root):
    id = add_image(Store(root), "made", "one").id  # noqa: A001

    def check() -> None:
        store = Store(root)
        assert rows(root, "PRAGMA user_version") == [(VERSION,)]
        assert store.images.find("made").id == id
        close(store)
        as_version_1(root)

    as_version_1(root)
    assert every_kill(lambda: close(Store(root)), check) > 2
    assert rows(root, "PRAGMA user_version") == [(VERSION,)]


def test_a_lock_is_given_back_though_a_fork_holds_a_copy(store, root):
    store.volumes.add("data")
    with store.volumes.filling(use("data"), nobody, "me") as keeper:
        copy = os.dup(keeper)
    try:
        fd = os.open(root / "volumes/data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
    finally:
        os.close(copy)
