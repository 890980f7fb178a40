"""kill -9 before every single thing that an operation does to the disk: the next process finds a whole store."""

import fcntl
import os
import signal
from pathlib import Path

import pytest
from stores import (
    LIMIT,
    add_image,
    add_layer,
    close,
    container,
    digest_of,
    every_kill,
    names,
    problems,
    rows,
    run_in_child,
)

from pylxc.errors import ImageNotFound
from pylxc.identity import own_identity
from pylxc.store import Store


def check_whole(root):
    """Open the store, as the next process does, and look at what that leaves."""
    store = Store(root)
    try:
        assert problems(root) == []
    finally:
        close(store)


def test_making_a_store(tmp_path):
    made = iter(range(LIMIT))
    current = tmp_path / "0"

    def check():
        nonlocal current
        check_whole(current)
        current = tmp_path / str(next(made) + 1)

    assert every_kill(lambda: Store(current), check) > 20
    check_whole(current)


def test_adding_an_image(tmp_path):
    root = tmp_path / "store"
    close(Store(root))

    def check():
        check_whole(root)
        tags = rows(root, "SELECT ref FROM tags")
        if tags:  # it was on its way out: all of the image is there
            assert [row[0] for row in rows(root, "SELECT digest FROM layers")] == [digest_of("one")]
            store = Store(root)
            store.images.remove(store.images.find("made").id)
            close(store)
        assert names(root / "layers") == set()
        assert rows(root, "SELECT id FROM images") == []

    assert every_kill(lambda: add_image(Store(root), "made", "one"), check) > 20
    assert Store(root).images.find("made").refs == ("made:latest",)


def test_removing_an_image(tmp_path):
    root = tmp_path / "store"
    id = add_image(Store(root), "made", "one", "two").id  # noqa: A001

    def check():
        check_whole(root)
        store = Store(root)
        if not store.images.exists(id):
            assert names(root / "layers") == set()
            assert add_image(store, "made", "one", "two").id == id
        assert store.images.find("made").id == id
        close(store)

    assert every_kill(lambda: Store(root).images.remove(id), check) > 20
    check_whole(root)
    with pytest.raises(ImageNotFound):
        Store(root).images.find("made")


def test_a_container_and_its_end(tmp_path):
    root = tmp_path / "store"
    id = add_image(Store(root), "made", "one").id  # noqa: A001

    def come_and_go():
        store = Store(root)
        row = container(id, "box", owner=own_identity())
        store.containers.add(row)
        store.containers.remove(row.id)

    def check():
        check_whole(root)
        store = Store(root)
        assert store.containers.orphans() == store.containers.list()
        for row in store.containers.orphans():
            store.containers.remove(row.id)
        assert names(root / "containers") == set()
        close(store)

    assert every_kill(come_and_go, check) > 10
    assert names(root / "containers") == set()


def test_a_lease_outlives_its_process_until_the_next_one(store, tmp_path):
    def work():
        with store.leases.take() as lease:
            add_layer(store, lease, "one")
            Path(lease.stage(), "half").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(work) == -signal.SIGKILL
    assert len(store.leases.abandoned()) == 1
    assert names(tmp_path / "store/layers") == {digest_of("one")[7:]}
    check_whole(tmp_path / "store")
    assert names(tmp_path / "store/layers") == set()
    assert store.leases.abandoned() == []


def test_a_lease_of_a_process_that_lives_is_left_alone(store, tmp_path):
    with store.leases.take() as lease:
        staged = Path(lease.stage())
        layer = add_layer(store, lease, "one")
        other = Store(tmp_path / "store")
        assert staged.is_dir()
        assert other.layers.get(layer.digest) == layer
        close(other)
    assert not staged.exists()
    assert problems(tmp_path / "store") == []


def test_a_fork_that_leaves_the_block_ends_nothing(store, tmp_path):
    pid = -1
    with store.leases.take() as lease:
        staged = Path(lease.stage())
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert staged.is_dir()
    if pid == 0:
        os._exit(0)
    assert not staged.exists()
    assert problems(tmp_path / "store") == []


@pytest.mark.usefixtures("store")
def test_unfinished_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    staging = tmp_path / "store/staging"
    (staging / ".index.json.dead").write_text("half")
    with (staging / ".index.json.alive").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        close(Store(tmp_path / "store"))
        assert names(staging) == {".index.json.alive"}
    close(Store(tmp_path / "store"))
    assert names(staging) == set()
