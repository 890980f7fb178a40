"""Images and tags: finding, moving, the log, advice on mistakes, removal; and the OCI layout other tools read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from stores import add_image

import pylxc
from pylxc.errors import Conflict, ImageNotFound, SpecError
from pylxc.imageconfig import ImageConfig


@pytest.fixture
def store_engine(tmp_path):
    return pylxc.Engine(tmp_path / "store")


@pytest.fixture
def make(store_engine, tree):
    """Make an image with a content of its own."""
    return lambda text, ref=None: pylxc.Image.from_directory(tree(file=text), ref, engine=store_engine)


def test_an_image_is_found_by_every_name_it_has(store_engine, make):
    image = make("one", "app:1")
    digits = image.id.removeprefix("sha256:")
    image.tag("registry.example:5000/team/app")
    names = ["app:1", "docker.io/library/app:1", image.id, digits, digits[:12], f"sha256:{digits[:12]}", digits[:2]]
    names += ["registry.example:5000/team/app:latest", f"app@{image.digest}"]
    for name in names:
        found = pylxc.Image.get(name, engine=store_engine)
        assert found == image, name
        assert found.refs == ("app:1", "registry.example:5000/team/app:latest")


def test_a_name_wins_over_the_beginning_of_an_id(store_engine, make):
    one, two = make("one"), make("two")
    two.tag(one.id[7:17])
    assert pylxc.Image.get(one.id[7:17], engine=store_engine) == two
    assert pylxc.Image.get(one.id[7:19], engine=store_engine) == one


def test_an_ambiguous_id_is_refused(store_engine, tree):
    source = tree()
    seen: dict[str, pylxc.Image] = {}
    for number in range(300):  # 256 beginnings: two must meet
        config = ImageConfig(labels={"number": str(number)})
        image = pylxc.Image.from_directory(source, config=config, engine=store_engine)
        other = seen.setdefault(image.id[7:9], image)
        if other != image:
            break
    with pytest.raises(Conflict, match="several images"):
        pylxc.Image.get(image.id[7:9], engine=store_engine)


@pytest.mark.parametrize(
    ("asked", "advice"),
    [
        ("debain:bookworm", "'debian:bookworm'"),
        ("debian", "'debian:bookworm'"),
        ("debian:bullseye", "'debian:bookworm'"),
        ("reddis:seed", "'redis:seed'"),
    ],
)
def test_a_near_miss_is_told(asked, advice, store_engine, make):
    make("one", "debian:bookworm").tag("redis:seed")
    with pytest.raises(ImageNotFound) as caught:
        pylxc.Image.get(asked, engine=store_engine)
    assert f"did you mean {advice}?" in str(caught.value)
    assert caught.value.name == asked


def test_what_is_like_nothing_gets_no_guess(store_engine, make):
    make("one", "debian:bookworm")
    with pytest.raises(ImageNotFound) as caught:
        pylxc.Image.get("xyzzy", engine=store_engine)
    assert "did you mean" not in str(caught.value)
    assert "Image.build" in str(caught.value)


# -- tags


def test_every_move_of_a_tag_is_logged_and_can_be_asked_for(store_engine, make):
    one, two, three = make("one", "app"), make("two", "app"), make("three", "app")
    three.untag("app")
    moves = pylxc.Image.log("app", engine=store_engine)
    expected = [(three.id, ""), (two.id, three.id), (one.id, two.id), ("", one.id)]
    assert [(move.old, move.new) for move in moves] == expected
    assert {move.ref for move in moves} == {"docker.io/library/app:latest"}
    assert [move.time for move in moves] == sorted((move.time for move in moves), reverse=True)
    for back, image in ((1, three), (2, two), (3, one)):
        assert pylxc.Image.get(f"app@{{{back}}}", engine=store_engine) == image
    with pytest.raises(ImageNotFound, match="has not moved so often"):
        pylxc.Image.get("app@{4}", engine=store_engine)
    with pytest.raises(ImageNotFound):
        pylxc.Image.get("app", engine=store_engine)


def test_a_tag_that_stays_where_it_is_does_not_move(store_engine, make):
    image = make("one", "app")
    image.tag("app")
    image.tag("docker.io/library/app:latest")
    assert len(pylxc.Image.log("app", engine=store_engine)) == 1
    assert pylxc.Image.get("app@{0}", engine=store_engine) == image


def test_the_log_outlives_an_image_and_says_so(store_engine, make):
    one = make("one", "app")
    make("two", "app")
    one.remove()
    with pytest.raises(ImageNotFound, match=f"named image {one.id[:19]}, which was removed"):
        pylxc.Image.get("app@{1}", engine=store_engine)


def test_only_a_plain_name_can_be_moved(store_engine, make):
    image = make("one", "app")
    for ref in (f"app@{image.digest}", "app:latest@{1}", "app:latest@{0}", f"app:1@{image.digest}"):
        for call in (image.tag, image.untag, lambda ref: pylxc.Image.log(ref, engine=store_engine)):
            with pytest.raises(SpecError) as caught:
                call(ref)
            assert caught.value.value == ref
    with pytest.raises(ImageNotFound):
        image.untag("other")
    assert pylxc.Image.get("app", engine=store_engine).refs == ("app:latest",)


@pytest.mark.parametrize("ref", ["host", "scratch", "sha256:abc", "docker.io/library/sha256:1", "0" * 64])
def test_what_means_something_else_is_no_tag(ref, store_engine, make):
    image = make("one", "app")
    with pytest.raises(SpecError, match="choose another name") as caught:
        image.tag(ref)
    assert caught.value.value == ref
    image.tag("team/host")
    image.tag("host:1")
    assert pylxc.Image.get("host:1", engine=store_engine) == image


def test_a_tag_of_another_image_is_not_taken_away(store_engine, make):
    one, two = make("one", "one"), make("two", "two")
    with pytest.raises(Conflict, match=f"it names image {two.id[:19]}, not {one.id[:19]}"):
        one.untag("two")
    assert pylxc.Image.get("two", engine=store_engine) == two


def test_a_tag_that_never_was_has_no_log(store_engine, make):
    make("one", "app").remove()
    assert len(pylxc.Image.log("app", engine=store_engine)) == 2
    with pytest.raises(ImageNotFound, match="not in this store"):
        pylxc.Image.log("app:1", engine=store_engine)


def test_arguments_that_are_no_names(store_engine, make):
    make("one", "app")
    with pytest.raises(SpecError, match="give a reference as a string"):
        pylxc.Image.get(None, engine=store_engine)
    with pytest.raises(SpecError, match="how many moves"):
        pylxc.Image.rollback("app", steps=True, engine=store_engine)
    for source in (b"bytes", None, io.StringIO("text")):
        with pytest.raises(SpecError, match="a binary stream"):
            pylxc.Image.from_tar(source, engine=store_engine)


# -- removal


def test_a_name_that_came_meanwhile_keeps_an_image(store_engine, make):
    image = make("one", "app")
    make("two").tag("other")
    image.tag("new")
    with pytest.raises(Conflict, match="also called new:latest"):
        image.remove(["app:latest"])
    assert pylxc.Image.get("app", engine=store_engine).refs == ("app:latest", "new:latest")
    image.remove(["app:latest", "new:latest"])
    assert len(pylxc.Image.list(engine=store_engine)) == 1


def test_another_process_sees_no_image_that_was_removed(store_engine, make):
    image = make("one", "app")
    elsewhere = pylxc.Engine(store_engine.root)
    assert pylxc.Image.get("app", engine=elsewhere) == image
    make("two", "app")
    image.remove()
    for call in (lambda: pylxc.Image.get(image.id, engine=elsewhere), lambda: elsewhere.store.images.get(image.id)):
        with pytest.raises(ImageNotFound):
            call()
    with pytest.raises(ImageNotFound, match="removed"):
        image.tag("again")
    with pytest.raises(ImageNotFound):
        image.remove()


def test_a_layer_stays_while_an_image_needs_it(store_engine, tree, check_whole):
    source = tree(file="shared")
    one = pylxc.Image.from_directory(source, "one", engine=store_engine)
    two = pylxc.Image.from_directory(source, "two", config=ImageConfig(user="1"), engine=store_engine)
    assert one.layers == two.layers
    assert one.id != two.id
    one.remove()
    check_whole(store_engine.root)
    assert pylxc.Image.list(engine=store_engine) == [two]
    two.remove()
    check_whole(store_engine.root)


def test_an_image_with_a_container_is_kept(store_engine, make):
    image = make("one", "app")
    container = pylxc.create("app", ["x"], name="user", engine=store_engine)
    with pytest.raises(Conflict, match="container user was made from it"):
        image.remove()
    assert pylxc.Image.get("app", engine=store_engine) == image
    container.remove()
    image.remove()
    assert pylxc.Image.list(engine=store_engine) == []


def test_a_container_of_an_image_that_was_removed_meanwhile_is_refused(store_engine, make):
    image = make("one", "app")
    pylxc.Image.get("app", engine=pylxc.Engine(store_engine.root)).remove()
    with pytest.raises((Conflict, ImageNotFound), match="removed"):
        pylxc.create(image, ["x"], engine=store_engine)
    assert pylxc.Container.list(all=True, engine=store_engine) == []


# -- for other tools


def test_the_store_is_an_oci_image_layout(store_engine, make, check_whole):
    image = make("one", "app:1")
    image.tag("registry.example/app")
    make("two", None)
    check_whole(store_engine.root)
    index = json.loads((store_engine.root / "oci/index.json").read_bytes())
    assert index["schemaVersion"] == 2
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]] == [
        "docker.io/library/app:1",
        "registry.example/app:latest",
    ]
    assert {entry["digest"] for entry in index["manifests"]} == {image.digest}
    blobs = store_engine.root / "oci/blobs/sha256"
    manifest = json.loads((blobs / image.digest.removeprefix("sha256:")).read_bytes())
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
    config = json.loads((blobs / image.id.removeprefix("sha256:")).read_bytes())
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in image.layers]
    assert config["os"] == "linux"
    image.untag("app:1")
    image.untag("registry.example/app")
    assert json.loads((store_engine.root / "oci/index.json").read_bytes())["manifests"] == []
    check_whole(store_engine.root)


def test_a_damaged_blob_is_healed_by_adding_the_image_again(store_engine, tree, check_whole):
    source = tree(file="one")
    image = pylxc.Image.from_directory(source, "app", engine=store_engine)
    (store_engine.root / "oci/blobs/sha256" / image.digest.removeprefix("sha256:")).write_bytes(b"")
    with pytest.raises(AssertionError):
        check_whole(store_engine.root)
    assert pylxc.Image.from_directory(source, "app", engine=store_engine) == image
    check_whole(store_engine.root)


# -- going back


def test_rollback_is_a_move_like_others(store_engine, make):
    one, two, three = make("one", "app"), make("two", "app"), make("three", "app")
    assert pylxc.Image.rollback("app", 2, engine=store_engine) == one
    assert pylxc.Image.get("app", engine=store_engine) == one
    assert pylxc.Image.rollback("app", engine=store_engine) == three
    assert [move.new for move in pylxc.Image.log("app", engine=store_engine)] == [
        image.id for image in (three, one, three, two, one)
    ]
    three.untag("app")
    assert pylxc.Image.rollback("app", engine=store_engine) == three
    assert pylxc.Image.get("app", engine=store_engine).refs == ("app:latest",)


def test_what_cannot_be_rolled_back(store_engine, make):
    one = make("one", "app")
    with pytest.raises(ImageNotFound, match="has not moved so often"):
        pylxc.Image.rollback("app", engine=store_engine)
    make("two", "app")
    one.remove()
    with pytest.raises(ImageNotFound, match="was removed"):
        pylxc.Image.rollback("app", engine=store_engine)
    for ref, steps in (("app@{1}", 1), ("app", 0), ("app", -1), ("app", "1")):
        with pytest.raises(SpecError):
            pylxc.Image.rollback(ref, steps, engine=store_engine)
    assert len(pylxc.Image.log("app", engine=store_engine)) == 2


def test_an_image_that_is_there_as_it_is_to_be_is_not_written_again(store):
    def state() -> tuple[object, ...]:
        paths = [Path(store.layout.root, "oci/index.json"), *Path(store.layout.root, "oci/blobs/sha256").iterdir()]
        return sorted((path.name, path.stat().st_ino, path.read_bytes()) for path in paths)

    first = add_image(store, "app:1", "one")
    before = state()
    assert add_image(store, "app:1", "one") == first
    assert state() == before
    assert add_image(store, "app:2", "one").refs == ("app:1", "app:2")  # a tag more is written
    for digest in (first.id, first.manifest):  # and so is what is damaged, or gone
        path = Path(store.blobs.path(digest))
        whole = path.read_bytes()
        path.write_bytes(b"damaged")
        add_image(store, "app:1", "one")
        assert path.read_bytes() == whole
        path.unlink()
        add_image(store, "app:1", "one")
        assert path.read_bytes() == whole
