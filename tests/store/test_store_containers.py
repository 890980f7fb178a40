"""Containers in the index: names, beginnings of ids, owners, and removals that were cut short."""

# ruff: noqa: A002  names are enough; id is docker's name

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import pylxc
from pylxc.errors import Conflict, ContainerNotFound
from pylxc.identity import ProcessIdentity, own_identity, process_start_time
from pylxc.store import ContainerRow


@pytest.fixture
def store(tmp_path):
    return pylxc.Engine(tmp_path / "store").store


@pytest.fixture
def add(store, tmp_path):
    image = pylxc.Image.scratch(engine=pylxc.Engine(tmp_path / "store"))

    def add(id: str, name: str, owner: ProcessIdentity | None = None) -> ContainerRow:
        row = ContainerRow(id.ljust(64, "0"), name, image.id, '{"image":"scratch"}', 0.0, owner)
        store.containers.add(row)
        return row

    return add


def test_a_container_is_found_by_name_id_and_beginning(store, add):
    row, _ = add("abc1", "one"), add("abd2", "two")
    for name in ("one", row.id, "abc", row.id[:12]):
        assert store.containers.get(name) == row
    with pytest.raises(Conflict, match="several containers"):
        store.containers.get("ab")
    for name in ("", "abe", "three", "ONE", "abc1%"):
        with pytest.raises(ContainerNotFound):
            store.containers.get(name)


def test_a_name_wins_over_the_beginning_of_an_id(store, add):
    add("abc1", "one")
    named = add("fff", "abc")
    assert store.containers.get("abc") == named


def test_a_name_is_taken_once_and_says_by_whom(store, add):
    row = add("abc1", "one")
    with pytest.raises(Conflict, match=f"taken by container {row.id[:12]}"):
        add("abc2", "one")
    assert store.containers.list() == [row]
    assert os.listdir(store.layout.root + "/containers") == [row.id]


def test_a_removal_that_was_cut_short_is_finished_by_the_next_process(store, add):
    kept, cut = add("abc1", "one"), add("abc2", "two")
    Path(store.layout.container(cut.id), "upper/some").mkdir(parents=True)
    store.containers.forget(cut.id)
    again = pylxc.Engine(store.layout.root).store
    assert os.listdir(store.layout.root + "/containers") == [kept.id]
    assert again.containers.list() == [kept]


def test_what_has_lost_its_row_is_kept_unless_it_went_with_a_process(store, add):
    lost, owned, freed = add("abc1", "one"), add("abc2", "two", own_identity()), add("abc3", "three", own_identity())
    store.containers.disown(freed.id, freed.spec)
    with closing(sqlite3.connect(f"{store.layout.root}/pylxc.db")) as index:
        index.executescript("DELETE FROM containers;")
    assert set(os.listdir(f"{store.layout.root}/containers")) == {lost.id, owned.id, freed.id}
    assert pylxc.Engine(store.layout.root).store.containers.list() == []
    assert set(os.listdir(f"{store.layout.root}/containers")) == {lost.id, freed.id}


def test_a_container_whose_maker_was_killed_before_its_directory_was_there_is_one(store, add):
    row = add("abc1", "one")
    os.rmdir(store.layout.container(row.id))
    engine = pylxc.Engine(store.layout.root)
    (container,) = pylxc.Container.list(all=True, engine=engine)
    assert container.status() == "created"
    container.remove()
    assert os.listdir(store.layout.root + "/containers") == []


def test_removing_twice_is_no_error(store, add):
    row = add("abc1", "one")
    store.containers.remove(row.id)
    store.containers.remove(row.id)
    assert store.containers.list() == []


def test_the_containers_of_a_process_that_is_gone_are_orphans(store, add):
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ready, 1)
        os._exit(0)
    theirs = ProcessIdentity(pid, process_start_time(pid), own_identity().boot_id)
    row = add("abc1", "theirs", theirs)
    add("abc2", "mine", own_identity())
    add("abc3", "detached", None)
    assert store.containers.orphans() == []
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert list(store.containers.orphans()) == [row], "a zombie owns nothing"
    os.waitpid(pid, 0)
    assert list(store.containers.orphans()) == [row]
    os.close(ready)
    os.close(tell)
