"""The build cache through a directory, and what a stranger may put there."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

import pylxc
from pylxc import Engine, Image, IntegrityError, SpecError, StoreError
from pylxc.build import cachetransfer
from pylxc.build.cachetransfer import LABEL

DOCKERFILE = """\
FROM busybox AS made
RUN --mount=type=secret,id=key cat /run/secrets/key >/dev/null; echo made >/made
FROM busybox
WORKDIR /work
COPY --from=made /made .
RUN echo $RANDOM >random
CMD ["cat", "made"]
"""
SECRET = b"the-secret-of-this-test"


@pytest.fixture
def build(busybox_root, tmp_path, monkeypatch):
    """Build in one of several stores, which have one base image; gives the image, and what was told."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")  # imported at one time, too
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    engines = {}

    def build(name: str, **options) -> tuple[Image, list[str]]:
        if name not in engines:
            engines[name] = Engine(tmp_path / name)
            Image.from_directory(busybox_root, "busybox", engine=engines[name])
        told = []
        options.setdefault("secrets", {"key": SECRET})
        image = Image.build(context, engine=engines[name], on_event=told.append, **options)
        return image, told

    build.engines, build.context = engines, context
    return build


def kinds(told) -> list[str]:
    return [event.kind for event in told]


def test_another_store_need_carry_out_nothing(build, tmp_path):
    cache = tmp_path / "cache"
    first, told = build("one", cache_to=cache)
    assert "cached" not in kinds(told)
    second, told = build("two", cache_from=cache)
    assert kinds(told).count("cached") == 4
    assert "output" not in kinds(told)
    assert [layer.digest for layer in second.layers] == [layer.digest for layer in first.layers]
    assert pylxc.run(second, engine=build.engines["two"]).text == "made\n"


def test_nothing_else_of_it_stays(build, tmp_path):
    build("one", cache_to=tmp_path / "cache")
    build("two", cache_from=f"type=local,src={tmp_path / 'cache'}")
    for engine in build.engines.values():
        assert all(LABEL not in image.config.labels for image in Image.list(engine=engine))
        assert list(Path(engine.root, "staging").iterdir()) == []
    for path in (tmp_path / "cache").rglob("*"):
        assert SECRET not in path.read_bytes()


def test_the_same_build_gives_the_same_cache(build, tmp_path):
    build("one", cache_to=[tmp_path / "a", f"type=local,dest={tmp_path / 'b'},mode=max"])
    build("one", cache_to=tmp_path / "c", no_cache=False)
    build("one", cache_to=tmp_path / "d")
    files = {name: (tmp_path / name / "cache.tar").read_bytes() for name in "abcd"}
    assert files["a"] == files["b"]
    assert files["c"] == files["d"]


def test_none_there_is_a_warning(build, tmp_path):
    _, told = build("one", cache_from=tmp_path / "nowhere")
    [warning] = [event.instruction for event in told if event.kind == "warning"]
    assert "nowhere" in warning
    assert "no build cache" in warning


def test_an_image_that_is_no_cache(build, tmp_path):
    (tmp_path / "cache").mkdir()
    image, _ = build("one")
    image.save(tmp_path / "cache/cache.tar")
    with pytest.raises(IntegrityError, match="build cache"):
        build("two", cache_from=tmp_path / "cache")
    assert Image.list(engine=build.engines["two"]) == [Image.get("busybox", engine=build.engines["two"])]


def test_a_damaged_one_is_told_of(build, tmp_path):
    build("one", cache_to=tmp_path / "cache")
    path = tmp_path / "cache/cache.tar"
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises((StoreError, IntegrityError)):
        build("two", cache_from=tmp_path / "cache")


def test_keys_that_name_layers_of_others(build, tmp_path, monkeypatch):
    """What a cache says of layers that it does not have is not believed, and what is no key is none."""
    image, _ = build("one", cache_to=tmp_path / "cache")
    base = image.layers[0].digest

    def lying(entries):
        keys = list(entries)
        return json.dumps({**dict.fromkeys(keys, base), "no key": entries[keys[0]]})

    monkeypatch.setattr(cachetransfer, "_label", lying)
    build("one", cache_to=tmp_path / "lies")
    monkeypatch.undo()
    with tarfile.open(tmp_path / "lies/cache.tar") as tar:
        said = [tar.extractfile(member).read() for member in tar if member.isfile()]
    assert any(base.encode() in data and b"no key" in data for data in said)
    _, told = build("two", cache_from=tmp_path / "lies")
    assert "cached" not in kinds(told)
    rows = build.engines["two"].store._database.rows("SELECT key FROM cache")
    assert all(len(key) == 64 for (key,) in rows)


@pytest.mark.parametrize("option", ["cache_from", "cache_to"])
@pytest.mark.parametrize(
    "place", ["type=s3,bucket=x", "type=local", "type=registry", "type=local,where=x", 5, "", "a@{1}"]
)
def test_places_that_are_none(build, option, place):
    with pytest.raises((SpecError, ValueError)):
        build("one", **{option: place})


def test_json_that_is_no_map(build, tmp_path, monkeypatch):
    monkeypatch.setattr(cachetransfer, "_label", lambda _: "[1]")
    build("one", cache_to=tmp_path / "cache")
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="build cache"):
        build("two", cache_from=tmp_path / "cache")
