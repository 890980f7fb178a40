"""An index that cannot be read is made anew from what lies beside it; nothing that was kept there is lost with it."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from damages import kinds
from ownnet import own_network, tables

import pylxc
from pylxc import networking


def close(engine: pylxc.Engine) -> None:
    """Put all of the index into its one file, as it is when no process uses the store."""
    engine.store.close()
    assert not (engine.root / "pylxc.db-wal").exists()


def page_of(engine: pylxc.Engine, table: str) -> int:
    """The number of a table's first page, less one."""
    index = engine.store.leases._database
    (page,) = index.row("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    return int(page) - 1


def harm(path: Path, kind: str, page: int) -> None:
    data = bytearray(path.read_bytes())
    if kind == "header":
        data[:64] = b"not a database at all".ljust(64, b"!")
    elif kind == "pages":
        data[4096:] = b"\xff" * (len(data) - 4096)
    elif kind == "one page":
        data[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    elif kind == "empty":
        data.clear()
    path.write_bytes(data)
    if kind == "missing":
        path.unlink()


KINDS = ["header", "pages", "one page", "empty", "missing"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_index_is_made_anew(kind, engine, made, came):
    volume = pylxc.Volume.create("data", labels={"tier": "db"}, engine=engine)
    (volume.path / "file").write_text("precious")
    before = {(image.id, image.digest, image.refs) for image in pylxc.Image.list(engine=engine)}
    page = page_of(engine, "layers")
    close(engine)
    harm(engine.root / "pylxc.db", kind, page)

    fresh = pylxc.Engine(engine.root)
    if kind != "one page":  # which is noticed when somebody reads it
        with pytest.raises(pylxc.StoreError, match="pylxc store repair"):
            pylxc.Image.list(engine=fresh)
    assert set(kinds(fresh.check())) == {"index"}
    report = fresh.repair()
    assert report.left == ()
    assert ["pylxc.db" in os.listdir(path) for path in report.saved] == ([] if kind == "missing" else [True])
    assert fresh.check().ok
    assert {(image.id, image.digest, image.refs) for image in pylxc.Image.list(engine=fresh)} == before
    for image in pylxc.Image.list(engine=fresh):
        image.verify()
        image.save(io.BytesIO())
        assert image.size > 0
    (found,) = pylxc.Volume.list(engine=fresh)
    assert (found.path / "file").read_text() == "precious"
    if kind == "one page":  # the others were read from it
        assert found.labels == {"tier": "db"}
    found.remove()
    assert fresh.check().ok


def test_containers_that_only_the_index_knew_are_kept_where_it_can_be_read(engine, made):
    container = pylxc.create(made, ["x"], name="mine", detach=True, engine=engine)
    page = page_of(engine, "tag_log")
    close(engine)
    harm(engine.root / "pylxc.db", "one page", page)
    fresh = pylxc.Engine(engine.root)
    assert fresh.repair().ok
    (found,) = pylxc.Container.list(all=True, engine=fresh)
    assert (found.id, found.name, found.spec.name) == (container.id, "mine", "mine")
    found.remove()


def test_containers_that_nothing_is_known_of_are_set_aside(engine, made):
    container = pylxc.create(made, ["x"], detach=True, engine=engine)
    directory = Path(engine.container_directory(container.id))
    (directory / "file").write_text("kept")
    close(engine)
    harm(engine.root / "pylxc.db", "missing", 0)
    fresh = pylxc.Engine(engine.root)
    report = fresh.repair()
    assert report.ok
    (saved,) = report.saved
    assert Path(saved, "file").read_text() == "kept"
    assert pylxc.Container.list(all=True, engine=fresh) == []


def test_an_index_whose_own_indexes_are_damaged_is_mended_in_place(engine, made):
    page = page_of(engine, "tags_by_image")
    close(engine)
    harm(engine.root / "pylxc.db", "one page", page)
    fresh = pylxc.Engine(engine.root)
    assert set(kinds(fresh.check())) == {"index"}
    report = fresh.repair()
    assert report.ok
    assert pylxc.Image.get("made", engine=fresh) == made


@pytest.mark.parametrize("table", ["leases", "tags", "volumes", "damaged"])
def test_an_index_that_lacks_a_table_is_made_anew(table, engine, made):
    (pylxc.Volume.create("data", engine=engine).path / "file").write_text("precious")
    with closing(sqlite3.connect(engine.root / "pylxc.db")) as index:
        index.execute(f"DROP TABLE {table}")
    fresh = pylxc.Engine(engine.root)
    assert set(kinds(fresh.check())) == {"index"}
    assert fresh.repair().ok
    assert fresh.check().ok
    assert pylxc.Image.get("made", engine=fresh) == made
    assert (pylxc.Volume.get("data", engine=fresh).path / "file").read_text() == "precious"
    pylxc.Volume.get("data", engine=fresh).remove()


def test_a_store_of_another_program_is_left_alone(tmp_path):
    import sqlite3

    root = tmp_path / "store"
    root.mkdir()
    with sqlite3.connect(root / "pylxc.db") as other:
        other.execute("CREATE TABLE theirs (value)")
    other.close()
    before = (root / "pylxc.db").read_bytes()
    for call in (pylxc.Engine(root).check, pylxc.Engine(root).repair):
        with pytest.raises(pylxc.StoreError, match="is no index of pylxc"):
            call()
    assert (root / "pylxc.db").read_bytes() == before


@pytest.mark.root
@pytest.mark.parametrize("kind", ["one page", "pages"])
def test_networks_are_kept_where_they_can_be_read(engine, made, kind):
    with own_network():
        lab = pylxc.Network.create("lab", "10.77.0.0/24", labels={"tier": "db"}, detach=True, engine=engine)
        container = pylxc.create(made, ["x"], network="lab", detach=True, engine=engine)
        page = page_of(engine, "tag_log")
        close(engine)
        harm(engine.root / "pylxc.db", kind, page)
        fresh = pylxc.Engine(engine.root)
        assert fresh.repair().ok
        if kind == "one page":
            network = pylxc.Network.get("lab", engine=fresh)
            assert (network.subnets, network.labels) == (("10.77.0.0/24",), {"tier": "db"})
            assert [(one.container, one.addresses) for one in network.members()] == [(container.id, ("10.77.0.2",))]
            pylxc.Container.get(container.id, engine=fresh).remove()
            network.remove()
            assert tables() == set()
        else:
            networking._unmake(engine.store, lab._row)
        assert pylxc.Network.list(engine=fresh) == []


@pytest.mark.root
def test_places_on_a_network_that_is_lost_are_found(engine, made):
    with own_network():
        lab = pylxc.Network.create("lab", internal=True, detach=True, engine=engine)
        container = pylxc.create(made, ["x"], network="lab", detach=True, engine=engine)
        index = engine.store.leases._database
        index.write("PRAGMA foreign_keys=OFF", ())
        index.write("DELETE FROM networks", ())
        index.write("PRAGMA foreign_keys=ON", ())
        (problem,) = engine.check().problems
        assert (problem.kind, lab.id in problem.subject) == ("reference", True)
        assert engine.repair().ok
        container.remove()
        networking._unmake(engine.store, lab._row)
