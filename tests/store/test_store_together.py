"""Several processes, and several threads, on one store at once."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stores import add_image, close, container, digest_of, index_of, names, problems, run_in_child

from pylxc.errors import Conflict, ImageNotFound
from pylxc.identity import own_identity
from pylxc.store import Store

PROCESSES = 6


def at_once(work, count=PROCESSES):
    """Run ``work(number)`` in processes that all begin at the same moment; return their statuses."""
    reading, writing = os.pipe()
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)  # ends when the parent closes its end
            os._exit(run_in_child(lambda number=number: work(number)))
        children.append(pid)
    os.close(reading)
    os.close(writing)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_adding_and_removing_one_image(store, tmp_path):
    def work(_number):
        for _ in range(15):
            image = add_image(store, None, "same")
            with contextlib.suppress(ImageNotFound):  # another process was faster
                store.images.remove(image.id)

    assert at_once(work) == [0] * PROCESSES
    assert problems(tmp_path / "store") == []
    assert add_image(store, "app", "same").refs == ("app:latest",)
    assert problems(tmp_path / "store") == []


def test_one_of_them_gets_the_name(store, tmp_path):
    image = add_image(store, "app", "one").id

    def work(number):
        row = container(image, "box", id=f"{number}".rjust(64, "0"), owner=own_identity())
        try:
            store.containers.add(row)
        except Conflict:
            os._exit(3)

    assert sorted(at_once(work)) == [0, *[3] * (PROCESSES - 1)]
    assert len(names(tmp_path / "store/containers")) == 1


def test_containers_come_and_go_while_stores_are_opened(store, tmp_path):
    image = add_image(store, "app", "one").id

    def work(number):
        mine = Store(tmp_path / "store")
        for turn in range(20):
            row = container(image, f"box-{number}-{turn}", owner=own_identity())
            mine.containers.add(row)
            assert Path(mine.layout.container(row.id)).is_dir()
            mine.containers.remove(row.id)
            if turn % 5 == 0:
                close(mine)
                mine = Store(tmp_path / "store")

    assert at_once(work) == [0] * PROCESSES
    assert names(tmp_path / "store/containers") == set()
    assert problems(tmp_path / "store") == []


def test_threads_share_a_store(store, tmp_path):
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for turn in range(5):
            image = add_image(store, f"app:{number}", "base", f"{number}-{turn}")
            row = container(image.id, f"box-{number}-{turn}")
            store.containers.add(row)
            store.containers.remove(row.id)
        return store.images.find(f"app:{number}").layers[1].digest

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert found == [digest_of(f"{number}-4") for number in range(8)]
    assert problems(tmp_path / "store") == []


def test_threads_of_a_fork_share_a_connection_of_their_own(store, tmp_path):
    image = add_image(store, "app", "one").id

    def threads():
        start = threading.Barrier(8)

        def work(number):
            start.wait()  # the first use in this process, from all threads at once
            store.containers.add(container(image, f"box-{number}"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    for _ in range(5):
        assert run_in_child(threads) == 0
        assert len(store.containers.list()) == 8
        for row in store.containers.list():
            store.containers.remove(row.id)
    assert problems(tmp_path / "store") == []


def test_a_fork_amid_a_transaction_sees_what_was_committed(store):
    """The child's first use opens a connection of its own; with the parent's it would see, and end, the transaction."""
    image = add_image(store, "app", "one")

    def look():
        assert store.images.find("app") == image

    with index_of(store).writing(durable=False) as connection:
        connection.execute("DELETE FROM tags")
        assert run_in_child(look) == 0
        assert connection.in_transaction
    assert store.images.get(image.id).refs == ()


def test_a_reader_does_not_wait_for_a_writer(store, tmp_path):
    image = add_image(store, "app", "one")
    other = Store(tmp_path / "store")
    with index_of(store).writing(durable=False) as connection:
        connection.execute("DELETE FROM tags")
        assert other.images.find("app") == image
    assert other.images.get(image.id).refs == ()
    close(other)


def test_a_transaction_that_fails_leaves_nothing(store):
    image = add_image(store, "app", "one")

    def fail():
        with index_of(store).writing(durable=True) as connection:
            connection.execute("DELETE FROM tags")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.images.find("app") == image
