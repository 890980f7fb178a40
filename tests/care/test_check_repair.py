"""Every kind of damage to a store is found, and mended or explained; what is mended is whole to the last byte."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from damages import DAMAGES, INSTEAD, archive_digest, blob_path, damage, flip, kinds, layer_path

import pylxc
from pylxc.exchange.incoming import Incoming
from pylxc.runtime import rootless


def execute(engine: pylxc.Engine, *statements: str) -> None:
    """Change the index behind the engine's back."""
    with closing(sqlite3.connect(engine.root / "pylxc.db", isolation_level=None)) as index:
        for statement in statements:
            index.execute(statement)


def mend(engine: pylxc.Engine) -> pylxc.RepairReport:
    """Repair what has to be repairable, and check that it is."""
    report = engine.repair()
    assert report.left == ()
    assert report.repaired
    assert engine.check().ok
    return report


def test_a_store_without_damage(engine, made, came):
    assert engine.check().ok
    assert engine.check().layers == 2
    assert engine.check(deep=False).ok
    assert engine.repair() == pylxc.RepairReport((), ())
    made.verify()
    came.verify()


def test_an_empty_store(engine):
    assert engine.check() == pylxc.CheckReport(())


# -- trees


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_tree_is_unpacked_again_from_the_archive_that_came(kind, engine, came):
    damage(came, kind)
    with pytest.raises(pylxc.IntegrityError) as caught:
        came.verify()
    assert caught.value.expected == came.layers[0].digest
    assert "pylxc store repair" in caught.value.subject
    assert kinds(engine.check()) == ["layer"]
    report = mend(engine)
    assert [problem.subject for problem in report.repaired] == [came.layers[0].digest]
    came.verify()


@pytest.mark.parametrize("kind", ["a bit", "an attribute"])
def test_a_tree_of_a_layer_made_here_is_unpacked_from_the_archive_that_was_packed_of_it(kind, engine, made):
    made.save(io.BytesIO())
    damage(made, kind)
    assert kinds(engine.check()) == ["layer"]
    mend(engine)
    made.verify()


@pytest.mark.parametrize("kind", ["a bit", "an attribute", "all of it"])
def test_a_tree_without_an_archive_is_marked_and_the_same_import_heals_it(kind, engine, made, tree):
    damage(made, kind)
    report = engine.repair()
    (problem,) = report.left
    assert (problem.kind, problem.subject, problem.repairable) == ("layer", made.layers[0].digest, False)
    assert "made:latest" in problem.what
    assert "build" in problem.remedy
    with pytest.raises(pylxc.StoreError, match="the layer is damaged"):
        pylxc.run(made, ["true"], engine=engine)
    assert pylxc.Image.from_directory(tree, "again", engine=engine).layers == made.layers
    assert engine.check().ok
    made.verify()


def test_a_load_heals_a_tree_that_has_lost_its_archive_too(engine, came, archive):
    damage(came, "a bit")
    digest = archive_digest(came)
    flip(blob_path(came, digest))
    # Nothing is left to compare the tree with; what is known is that the archive is damaged.
    report = engine.repair()
    assert [problem.kind for problem in report.left] == ["archive"]
    assert "cannot be compared" in report.left[0].what or "nor can its tree be compared" in report.left[0].what
    with pytest.raises(pylxc.IntegrityError):
        came.verify()
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert kinds(engine.check()) == ["layer"]
    mend(engine)
    came.verify()


def test_a_marked_layer_is_replaced_by_a_load(engine, came, archive):
    damage(came, "a bit")
    engine.store.layers.mark(came.layers[0].digest, "for this test")
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    came.verify()
    assert engine.store.layers.damaged() == {}


@pytest.mark.parametrize("loss", ["its tree", "its tree and its archive"])
def test_a_load_brings_a_layer_that_is_lost(loss, engine, came, archive):
    damage(came, "all of it")
    if loss == "its tree and its archive":
        blob_path(came, archive_digest(came)).unlink()
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok
    came.verify()


@pytest.mark.parametrize("kind", ["a bit", "all of it"])
def test_a_layer_that_a_check_found_damaged_is_brought_by_a_load(kind, engine, came, archive):
    damage(came, kind)
    assert kinds(engine.check(deep=kind == "a bit")) == ["layer"]
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok
    came.verify()


def test_a_start_on_a_layer_that_is_lost_says_so_and_a_build_makes_it_again(engine, made, tree):
    damage(made, "all of it")
    with pytest.raises(pylxc.StoreError, match=r"its tree is not there.*a load, a pull or a build") as caught:
        pylxc.run(made, ["true"], engine=engine)
    assert caught.value.path == layer_path(made).rstrip("/")
    pylxc.Image.from_directory(tree, "again", engine=engine)
    assert engine.check().ok


def test_a_link_in_the_place_of_a_tree_is_none(engine, came, archive, tmp_path):
    damage(came, "all of it")
    os.symlink(tmp_path, layer_path(came).rstrip("/"))
    with pytest.raises(pylxc.StoreError, match="its tree is not there"):
        pylxc.run(came, ["true"], engine=engine)
    assert "its tree is not there" in engine.check().problems[0].what
    mend(engine)
    came.verify()


def test_a_tree_that_could_not_be_compared_is_not_called_whole(engine, came, monkeypatch):
    damage(came, "a bit")
    engine.store.layers.mark(came.layers[0].digest, "for this test")

    def fail(*_):
        raise pylxc.StoreError(str(engine.root), "the disk is full")

    monkeypatch.setattr(Incoming, "beside", fail)
    for report in (engine.check().problems, engine.repair().left):
        (problem,) = report
        assert (problem.kind, problem.repairable) == ("layer", False)
        assert "could not be compared" in problem.what
        assert "the disk is full" in problem.what
    assert list(engine.store.layers.damaged()) == [came.layers[0].digest]
    monkeypatch.undo()
    mend(engine)


def test_a_mark_that_is_wrong_goes(engine, came):
    engine.store.layers.mark(came.layers[0].digest, "for this test")
    assert kinds(engine.check()) == ["layer"]
    mend(engine)


def test_a_build_makes_a_damaged_step_again(engine, made, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    (context / "file").write_text("content")
    image = pylxc.Image.build(context, tag="built", engine=engine)
    rootless.as_owner(flip, layer_path(image, "file"))
    assert [problem.kind for problem in engine.repair().left] == ["layer"]
    assert pylxc.Image.build(context, tag="built", engine=engine).layers == image.layers
    assert engine.check().ok


def test_the_host_image_is_verified_as_far_as_it_is_the_stores(engine):
    host = pylxc.Image.host(engine=engine)
    host.verify()
    rootless.as_owner(flip, layer_path(host, "etc/passwd"))
    with pytest.raises(pylxc.IntegrityError):
        host.verify()
    mend(engine)
    host.verify()
    assert pylxc.run("host", ["true"], engine=engine).ok


# -- archives and documents


@pytest.mark.parametrize("harm", [flip, lambda path: os.truncate(path, 10), os.unlink, *INSTEAD.values()])
def test_a_damaged_archive_that_came_is_explained_and_comes_again(harm, engine, came, archive):
    digest = archive_digest(came)
    harm(blob_path(came, digest))
    with pytest.raises(pylxc.IntegrityError, match=digest):
        came.verify()
    (problem,) = engine.repair().left
    assert (problem.kind, problem.subject, problem.repairable) == ("archive", digest, False)
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok


@pytest.mark.parametrize("kind", INSTEAD)
def test_a_load_takes_the_place_of_what_is_no_file(kind, engine, came, archive):
    for digest in (archive_digest(came), came.digest):
        INSTEAD[kind](blob_path(came, digest))
    assert kinds(engine.check()) == ["manifest", "archive"]
    assert len(engine.repair().left) == 2
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok
    INSTEAD[kind](blob_path(came, archive_digest(came)))
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok


@pytest.mark.parametrize("harm", [flip, os.unlink, *INSTEAD.values()])
def test_a_damaged_archive_that_was_packed_here_is_packed_again(harm, engine, made):
    first = io.BytesIO()
    made.save(first)
    harm(blob_path(made, archive_digest(made)))
    mend(engine)
    second = io.BytesIO()
    made.save(second)
    assert second.getvalue() == first.getvalue()


@pytest.mark.parametrize(
    ("harm", "document"), [(flip, "id"), (os.unlink, "digest"), *((harm, "id") for harm in INSTEAD.values())]
)
def test_a_damaged_document_of_an_image_made_here_is_written_again(document, harm, engine, made):
    digest = getattr(made, document)
    harm(blob_path(made, digest))
    with pytest.raises(pylxc.IntegrityError, match=digest):
        made.verify()
    mend(engine)
    made.verify()


def test_a_damaged_manifest_that_came_is_explained_and_comes_again(engine, came, archive):
    flip(blob_path(came, came.digest))
    (problem,) = engine.repair().left
    assert (problem.kind, problem.subject) == ("manifest", came.digest)
    pylxc.Image.load(io.BytesIO(archive), engine=engine)
    assert engine.check().ok


def test_a_configuration_that_is_damaged_in_the_index_is_taken_from_its_blob(engine, came):
    execute(engine, "UPDATE images SET config = CAST(replace(config, 'linux', 'minix') AS BLOB)")
    assert kinds(engine.check()) == ["configuration"]
    mend(engine)
    assert pylxc.Image.get("came", engine=pylxc.Engine(engine.root)).platform == "linux/amd64"


def test_a_configuration_that_is_text_in_the_index_becomes_bytes(engine, came):
    execute(engine, "UPDATE images SET config = CAST(config AS TEXT)")
    assert kinds(engine.check()) == ["configuration"]
    mend(engine)
    came.verify()


# -- the layout, and what nothing names


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 0), os.unlink, INSTEAD["a FIFO"]])
def test_the_layout_is_written_again(name, harm, engine, made):
    path = engine.root / "oci" / name
    before = path.read_bytes()
    harm(path)
    assert kinds(engine.check()) == ["layout"]
    mend(engine)
    assert path.read_bytes() == before


def test_what_nothing_names_is_removed(engine, made):
    (engine.root / "layers" / ("0" * 64)).mkdir()
    (engine.root / "layers" / "odd name").mkdir()
    (engine.root / "oci/blobs/sha256" / ("0" * 64)).write_bytes(b"")
    assert kinds(engine.check()) == ["stray"] * 3
    mend(engine)


def test_a_volume_and_a_container_whose_rows_are_lost_keep_what_is_in_them(engine, made):
    container = pylxc.create(made, ["x"], detach=True, engine=engine)
    directory = Path(engine.container_directory(container.id))
    (directory / "upper").mkdir(exist_ok=True)
    (directory / "upper/file").write_text("kept")
    (pylxc.Volume.create("data", engine=engine).path / "file").write_text("precious")
    (engine.root / "volumes/no directory").write_text("x")
    execute(engine, "DELETE FROM volumes", "DELETE FROM containers")
    for _ in range(2):
        problems = pylxc.Engine(engine.root).check().problems
        assert {one.subject: one.repairable for one in problems if one.kind == "stray"} == {
            f"containers/{container.id}": True,
            "volumes/data": True,
            "volumes/no directory": False,
        }
    report = engine.repair()
    assert [problem.subject for problem in report.left] == ["volumes/no directory"]
    (saved,) = report.saved
    assert Path(saved, "upper/file").read_text() == "kept"
    assert (pylxc.Volume.get("data", engine=engine).path / "file").read_text() == "precious"
    (engine.root / "volumes/no directory").unlink()
    assert engine.check().ok


# -- rows

LOST_ROWS = {
    "an image": ("DELETE FROM images", "reference"),
    "an image's layers": ("DELETE FROM image_layers", "reference"),
    "a layer": ("DELETE FROM layers", "reference"),
    "a manifest": ("DELETE FROM manifests", "reference"),
    "the tags": ("DELETE FROM tags", "tag"),
    "the log of tags": ("DELETE FROM tag_log", "tag"),
    "one of an image's layers": ("UPDATE image_layers SET layer = replace(layer, 'a', 'b')", "reference"),
}


@pytest.mark.parametrize(("kind", "what"), [*(("came", what) for what in LOST_ROWS), ("made", "a layer")])
def test_a_row_that_is_lost_is_restored_from_what_lies_on_disk(kind, what, engine, request):
    image = request.getfixturevalue(kind)
    statement, expected = LOST_ROWS[what]
    execute(engine, statement)
    assert expected in kinds(engine.check())
    engine.repair()
    assert engine.check().ok
    fresh = pylxc.Image.get(kind, engine=pylxc.Engine(engine.root))
    assert (fresh.id, fresh.digest, fresh.layers) == (image.id, image.digest, image.layers)
    fresh.verify()
    assert pylxc.Image.log(kind, engine=engine)[0].new == image.id
    fresh.save(io.BytesIO())


def test_a_tag_whose_image_is_lost_with_it_ends_in_its_log(engine, made):
    execute(engine, "DELETE FROM tags", "UPDATE tag_log SET new = 'sha256:nothing'")
    assert kinds(engine.check()) == ["layout", "tag"]
    mend(engine)
    assert [move.new for move in pylxc.Image.log("made", engine=engine)] == ["", "sha256:nothing"]


def test_a_container_whose_image_is_lost_is_set_aside_with_what_it_wrote(engine, made):
    container = pylxc.create(made, ["x"], name="mine", detach=True, engine=engine)
    directory = Path(engine.container_directory(container.id))
    (directory / "upper").mkdir(exist_ok=True)
    (directory / "upper" / "kept").write_text("kept")
    blob_path(made, made.id).unlink()
    execute(engine, "DELETE FROM images")
    report = engine.repair()
    (saved,) = report.saved
    assert Path(saved, "upper/kept").read_text() == "kept"
    assert engine.check().ok
    assert pylxc.Container.list(all=True, engine=engine) == []
    assert pylxc.Image.list(engine=engine) == []


@pytest.mark.parametrize("spec", ["{", "[]"])
def test_a_container_whose_spec_is_lost_is_set_aside_with_what_it_wrote(spec, engine, made):
    container = pylxc.create(made, ["x"], name="mine", detach=True, engine=engine)
    Path(engine.container_directory(container.id), "file").write_text("kept")
    engine.store.containers.change(container.id, spec)
    assert kinds(engine.check()) == ["container"]
    (saved,) = mend(engine).saved
    assert Path(saved, "file").read_text() == "kept"
    assert pylxc.Container.list(all=True, engine=engine) == []


def test_a_row_without_a_directory(engine, made):
    container = pylxc.create(made, ["x"], detach=True, engine=engine)
    volume = pylxc.Volume.create("data", engine=engine)
    os.rmdir(engine.container_directory(container.id))
    os.rmdir(volume.path)
    os.rmdir(volume.path.parent)
    assert kinds(engine.check()) == ["container", "volume"]
    mend(engine)
    container.remove()
    volume.remove()


def test_a_lease_of_a_process_that_is_gone(engine, made):
    execute(engine, "INSERT INTO leases VALUES ('abandoned', 999999999, 1, 'another boot')")
    assert kinds(engine.check()) == ["lease"]
    mend(engine)
