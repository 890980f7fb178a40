"""Images out of a registry: byte for byte or not at all, what is here is not fetched, and one fetches for all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from fake import Handler, digest_of
from pictures import INDEX, LAYER, MANIFEST, Layout, at, dump, layer_tar

import pylxc
from pylxc.platforms import this_platform
from pylxc.registry.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake import Fake

LOWER = layer_tar({"a": b"lower", "big": bytes(range(256)) * 2000})
UPPER = layer_tar({"b": b"upper"})
BLOBS = "GET /v2/.+/blobs/.*"
MANIFESTS = "(GET|HEAD) /v2/.+/manifests/.*"
OTHER = "linux/arm64" if this_platform() != "linux/arm64" else "linux/amd64"
PATIENCE = 60  # s


def serve_image(fake: Fake, *layers: bytes, tag: str = "1", **fields: object) -> str:
    made = Layout()
    return fake.add_layout(made, made.image(*(layers or (LOWER, UPPER)), platform=this_platform(), **fields), tag)


@pytest.fixture
def pull(engine, settings) -> Callable[..., pylxc.Image]:
    """Pull into the test's store, with the test's settings; a keyword that is one changes it."""

    def pull(ref: str, **options: object) -> pylxc.Image:
        names = {"platform", "on_progress", "engine"} & options.keys()
        given = {name: options.pop(name) for name in names}
        return pylxc.Image.pull(ref, settings=evolve(settings, **options), **{"engine": engine, **given})

    return pull


def state(engine: pylxc.Engine) -> tuple[object, ...]:
    """All that a pull may have left in a store."""
    rows = [engine.store.leases._database.rows(f"SELECT * FROM {table}") for table in ("leases", "layers", "blobs")]  # noqa: S608
    names = [sorted(os.listdir(engine.root / name)) for name in ("staging", "trash", "layers", "oci/blobs/sha256")]
    return rows, names, pylxc.Image.list(engine=engine)


@pytest.fixture
def fails(engine, pull) -> Callable[..., Exception]:
    """A pull that fails as it should, and leaves nothing."""

    def fails(ref: str, kinds, match: str | None = None, **options: object) -> Exception:
        before = state(engine)
        with pytest.raises(kinds, match=match) as caught:
            pull(ref, **options)
        assert state(engine) == before
        return caught.value

    return fails


# -- what comes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "gzip", "zstd"])
def test_an_image_comes_byte_for_byte(fake, pull, engine, form):
    digest = serve_image(fake, form=form)
    image = pull(f"{fake.host}/app:1")
    assert (image.digest, image.refs) == (digest, (f"{fake.host}/app:1",))
    manifest = json.loads(fake.blobs[digest])
    for named in (image.digest, image.id, *(layer["digest"] for layer in manifest["layers"])):
        assert (engine.root / "oci/blobs/sha256" / named[7:]).read_bytes() == fake.blobs[named]
    assert [layer.digest for layer in image.layers] == [digest_of(LOWER), digest_of(UPPER)]
    with image.layers[0].tar() as stream:
        assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == LOWER
    assert pylxc.Image.get(f"{fake.host}/app:1", engine=engine) == image


def test_what_is_told(fake, pull):
    digest = serve_image(fake, LOWER)
    layer = json.loads(fake.blobs[digest])["layers"][0]
    told: list[pylxc.Progress] = []
    pull(f"{fake.host}/app:1", on_progress=told.append)
    size = layer["size"]
    assert told[0] == pylxc.Progress("resolved", digest, len(fake.blobs[digest]), len(fake.blobs[digest]))
    assert {(each.digest, each.total) for each in told[1:]} == {(layer["digest"], size)}
    assert list(dict.fromkeys(each.what for each in told[1:])) == [
        *("waiting", "downloading", "downloaded", "unpacked")
    ]
    told.clear()
    pull(f"{fake.host}/app:1", on_progress=told.append)
    assert [each.what for each in told] == ["resolved", "waiting", "present"]


def test_what_is_here_is_not_fetched_again(fake, pull):
    serve_image(fake, LOWER, tag="1")
    image = pull(f"{fake.host}/app:1")
    fake.seen.clear()
    assert pull(f"{fake.host}/app:1") == image
    assert [(each.method, each.path) for each in fake.requests("(?!.* /v2/$).*")] == [("HEAD", "/v2/app/manifests/1")]
    fake.seen.clear()
    derived = serve_image(fake, LOWER, UPPER, tag="2")
    assert pull(f"{fake.host}/app:2").digest == derived
    fetched = [each.path.rpartition("/")[2] for each in fake.requests(BLOBS)]
    said = json.loads(fake.blobs[derived])
    assert sorted(fetched) == sorted([said["config"]["digest"], said["layers"][1]["digest"]])


def test_a_tag_that_moved_moves_here(fake, pull, engine):
    serve_image(fake, LOWER)
    first = pull(f"{fake.host}/app:1")
    serve_image(fake, UPPER)
    second = pull(f"{fake.host}/app:1")
    assert pylxc.Image.get(f"{fake.host}/app:1@{{1}}", engine=engine) == first != second
    assert pylxc.Image.get(first.id, engine=engine).refs == ()


def test_damage_in_the_store_is_made_good(fake, pull, engine):
    digest = serve_image(fake, LOWER)
    pull(f"{fake.host}/app:1")
    blobs = engine.root / "oci/blobs/sha256"
    layer = json.loads(fake.blobs[digest])["layers"][0]["digest"]
    (blobs / layer[7:]).unlink()
    (blobs / digest[7:]).write_bytes(b"{}")
    assert pull(f"{fake.host}/app:1").digest == digest
    for name in (layer, digest):
        assert (blobs / name[7:]).read_bytes() == fake.blobs[name]


def test_a_layer_over_several_connections(fake, pull):
    serve_image(fake, LOWER, form="")
    pull(f"{fake.host}/app:1", parallel_from=1, piece=50_000, streams=3)
    ranges = [each.headers["Range"] for each in fake.requests(BLOBS) if "Range" in each.headers]
    assert len(ranges) == -(-len(LOWER) // 50_000)


def test_many_layers_at_once(fake, pull):
    layers = [layer_tar({f"f{number}": bytes([number]) * 9000}) for number in range(25)]
    serve_image(fake, *layers, *layers[:5])
    assert [layer.digest for layer in pull(f"{fake.host}/app:1").layers] == [*map(digest_of, (*layers, *layers[:5]))]


# -- platforms and digests ---------------------------------------------------------------------------------------------


@pytest.fixture
def index(fake) -> dict[str, str]:
    """An index of two images and an attestation under the tag 1; return the digests by platform, "" for its own."""
    made = Layout()
    here, other = made.image(LOWER, platform=this_platform()), made.image(UPPER, platform=OTHER)
    speech = {**made.image(b"", platform="unknown/unknown"), "annotations": {"vnd.docker.reference.type": "x"}}
    entry = made.index(at(speech, "unknown/unknown"), at(other, OTHER), at(here, this_platform()))
    return {"": fake.add_layout(made, entry), this_platform(): here["digest"], OTHER: other["digest"]}


def test_an_index_has_one_for_this_machine(fake, pull, index):
    assert pull(f"{fake.host}/app:1").digest == index[this_platform()]
    assert pull(f"{fake.host}/app:1", platform=OTHER).digest == index[OTHER]


def test_an_index_is_told_of_and_names_the_image(fake, pull, engine, index):
    told: list[pylxc.Progress] = []
    for _ in range(2):  # the second time the index is here
        image = pull(f"{fake.host}/app:1", on_progress=told.append)
    size = len(fake.blobs[index[""]])
    assert told[0] == pylxc.Progress("found", index[""], size, size)
    assert [each.digest for each in told if each.what in ("found", "resolved")] == [index[""], image.digest] * 2
    assert engine.store.images.digests(image.id) == sorted((index[""], image.digest))


def test_none_for_the_platform(fake, fails, index):
    assert index
    error = fails(f"{fake.host}/app:1", pylxc.UnsupportedError, platform="linux/s390x")
    assert this_platform() in error.remedy
    assert OTHER in error.remedy
    serve_image(fake, LOWER, tag="alone")
    fails(f"{fake.host}/app:alone", pylxc.UnsupportedError, "no image for linux/s390x", platform="linux/s390x")


@pytest.mark.parametrize("which", ["", this_platform()])
def test_by_digest(fake, pull, engine, index, which):
    ref = f"{fake.host}/app@{index[which]}"
    image = pull(ref)
    assert (image.digest, image.refs) == (index[this_platform()], ())
    assert pylxc.Image.get(ref, engine=engine) == image
    fake.seen.clear()
    assert pull(ref) == image
    assert fake.seen == []
    image.remove()
    with pytest.raises(pylxc.ImageNotFound):
        pylxc.Image.get(ref, engine=engine)
    assert list((engine.root / "oci/blobs/sha256").iterdir()) == []


def test_all_tags(fake, pull, engine, settings):
    for tag in ("a", "b"):
        serve_image(fake, layer_tar({tag: tag.encode()}), tag=tag)
    fake.always("GET /v2/app/tags/list.*", lambda handler: handler.answer(200, b'{"tags": ["b", "a"]}'))
    assert pylxc.Image.search_tags(f"{fake.host}/app", settings=settings) == ["b", "a"]
    images = pylxc.Image.pull_all(f"{fake.host}/app", settings=settings, engine=engine)
    assert [image.refs for image in images] == [(f"{fake.host}/app:b",), (f"{fake.host}/app:a",)]
    assert pull(f"{fake.host}/app:a") == images[1]
    for wrong in ("app:1", f"app@{images[0].digest}"):
        with pytest.raises(pylxc.SpecError, match="without one"):
            pylxc.Image.pull_all(f"{fake.host}/{wrong}", settings=settings, engine=engine)
    with pytest.raises(pylxc.ImageNotFound, match="check the name"):
        pylxc.Image.search_tags(f"{fake.host}/other", settings=settings)


def test_all_tags_of_images(fake, engine, settings):
    made = Layout()
    chart = json.loads(made[f"blobs/sha256/{made.image(LOWER)['digest'][7:]}"])
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    referrers = digest_of(b"an image").replace(":", "-")
    tags = ["cache", "chart", referrers, f"{referrers}.sig"]
    fake.always("GET /v2/app/tags/list.*", lambda handler: handler.answer(200, json.dumps({"tags": tags}).encode()))
    fake.add_manifest("chart", dump(chart), MANIFEST)
    layer = {"mediaType": LAYER, "digest": digest_of(LOWER), "size": len(LOWER)}
    fake.add_manifest("cache", dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [layer]}), INDEX)

    def pull_all() -> list[tuple[str, ...]]:
        found = pylxc.Image.pull_all(f"{fake.host}/app", settings=settings, engine=engine)
        return [image.refs for image in found]

    with pytest.raises(pylxc.UnsupportedError, match=r"app:chart is no image .*helm"):
        pull_all()
    serve_image(fake, LOWER, tag="image")
    tags.insert(0, "image")
    assert pull_all() == [(f"{fake.host}/app:image",)]
    assert fake.requests(f".*{referrers}.*") == []
    fake.always("GET /v2/app/manifests/chart", lambda handler: handler.fail(403))
    with pytest.raises(pylxc.AuthError):
        pull_all()


# -- what does not come ------------------------------------------------------------------------------------------------


def test_what_a_registry_does_not_have(fake, fails, settings):
    assert f"{fake.host} does not have it" in str(fails(f"{fake.host}/app:9", pylxc.ImageNotFound))
    fake.always(MANIFESTS, lambda handler: handler.fail(401, "UNAUTHORIZED"))
    fails(f"{fake.host}/app:1", pylxc.AuthError, "pylxc login")
    begin = time.monotonic()
    fails("127.0.0.1:9/app:1", pylxc.RegistryError, "127.0.0.1:9/app:1: .*refused", retries=5, backoff=30.0)
    fails("registry.invalid/app:1", pylxc.RegistryError, "its name cannot be resolved", retries=5, backoff=30.0)
    assert time.monotonic() - begin < 20
    assert settings.retries


def blob_of(fake: Fake, digest: str, part: str = "layers") -> str:
    found = json.loads(fake.blobs[digest])[part]
    return found[0]["digest"] if part == "layers" else found["digest"]


def cut(handler: Handler) -> None:
    """Say the right length, and send half of it."""
    data = handler.server.blobs[handler.path.rpartition("/")[2]]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.hang_up()


def stall(handler: Handler) -> None:
    """Send half of it, and no more until the test is over."""
    data = handler.server.blobs[handler.path.rpartition("/")[2]]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.wfile.flush()
    handler.server.over.wait(PATIENCE)
    handler.close_connection = True


def lie(handler: Handler) -> None:
    data = bytearray(handler.server.blobs[handler.path.rpartition("/")[2]])
    data[-1] ^= 1
    handler.answer(200, bytes(data))


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        (cut, pylxc.RegistryError),
        (lie, pylxc.IntegrityError),
        (stall, pylxc.RegistryError),
        (lambda handler: handler.answer(200, b"short"), pylxc.IntegrityError),
        (lambda handler: handler.answer(200, b"x" * 9_999_999), pylxc.IntegrityError),
        (lambda handler: handler.fail(404), pylxc.RegistryError),
        (lambda handler: handler.fail(500), pylxc.RegistryError),
        (lambda handler: handler.hang_up(), pylxc.RegistryError),
    ],
    ids=["cut", "other bytes", "stalled", "shorter", "longer", "gone", "failing", "no answer"],
)
def test_what_goes_wrong_leaves_nothing_and_a_repeat_succeeds(fake, fails, pull, action, kinds):
    """Once in a layer, after another one came whole, once in the configuration."""
    digest = serve_image(fake)
    for part in ("layers", "config"):
        fake.always(f"GET .*/blobs/{blob_of(fake, digest, part)}", action)
        fails(f"{fake.host}/app:1", kinds, retries=1, timeout=0.3)
        fake.script.clear()
    assert pull(f"{fake.host}/app:1").digest == digest


def test_a_reset_in_the_middle_is_resumed(fake, pull):
    digest = serve_image(fake, LOWER, form="")
    fake.once(f"GET .*/blobs/{digest_of(LOWER)}", cut)
    told: list[pylxc.Progress] = []
    assert pull(f"{fake.host}/app:1", on_progress=told.append).digest == digest
    assert [each.what for each in told if each.what != "downloading"] == [
        "resolved", "waiting", "retrying", "downloaded", "unpacked",
    ]  # fmt: skip
    assert any(each.headers.get("Range", "").startswith("bytes=") for each in fake.requests(BLOBS))


def zeros(handler: Handler) -> None:
    handler.answer(200, bytes(len(handler.server.blobs[handler.path.rpartition("/")[2]])))


@pytest.mark.parametrize("action", [cut, lie, zeros])
@pytest.mark.parametrize("part", ["layers", "config"])
def test_a_mirror_s_damage_is_made_good_by_the_registry(fake, elsewhere, pull, action, part):
    digest = serve_image(fake)
    elsewhere.blobs.update(fake.blobs)
    elsewhere.manifests.update(fake.manifests)
    elsewhere.always(f"GET .*/blobs/{blob_of(fake, digest, part)}", action)
    hosts = {fake.host: HostSettings(mirrors=(elsewhere.url,))}
    assert pull(f"{fake.host}/app:1", hosts=hosts).digest == digest
    assert [each.path.rpartition("/")[2] for each in fake.requests(BLOBS)][:1] == [blob_of(fake, digest, part)]


def test_a_layer_that_is_not_what_the_configuration_says(fake, fails):
    made = Layout()
    rootfs = {"type": "layers", "diff_ids": [digest_of(b"another")]}
    fake.add_layout(made, made.image(LOWER, platform=this_platform(), rootfs=rootfs))
    fails(f"{fake.host}/app:1", pylxc.IntegrityError, "unpacked")
    fake.add_layout(made, made.image(LOWER, platform=this_platform(), rootfs={"type": "layers", "diff_ids": []}))
    fails(f"{fake.host}/app:1", pylxc.IntegrityError, "layers: expected 0, found 1")


def test_a_layer_that_leads_out(fake, fails):
    serve_image(fake, layer_tar({"../x": b""}))
    fails(f"{fake.host}/app:1", pylxc.StoreError, r"\.\./x")


def test_what_is_no_image(fake, fails):
    made = Layout()
    entry = made.image(LOWER)
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])

    def changed(**fields: object) -> str:
        data = dump({**manifest, **fields})
        fake.add_manifest("1", data, MANIFEST)
        return f"{fake.host}/app:1"

    fake.add_layout(made, entry)
    artifact = {**manifest["config"], "mediaType": "application/vnd.example.chart+json"}
    fails(changed(config=artifact), pylxc.UnsupportedError, "is no image .*chart")
    fails(changed(schemaVersion=1), pylxc.UnsupportedError, "schema 1")
    long = {**manifest["layers"][0], "digest": f"sha512:{hashlib.sha512(b'').hexdigest()}"}
    fails(changed(layers=[long]), pylxc.UnsupportedError, "only SHA-256")
    secret = {**manifest["layers"][0], "mediaType": f"{LAYER}+gzip+encrypted"}
    fails(changed(layers=[secret]), pylxc.UnsupportedError, "encrypted")
    large = {**manifest["config"], "size": 1 << 40}
    fails(changed(config=large), pylxc.IntegrityError, "bytes at most")
    huge = {**manifest["layers"][0], "size": 1 << 62}
    fails(changed(layers=[huge]), (pylxc.IntegrityError, pylxc.StoreError))
    fake.add_manifest("1", dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}), INDEX)
    fails(f"{fake.host}/app:1", pylxc.UnsupportedError, "is no image .an index without one")
    fails(f"{fake.host}/app:1@{{1}}", pylxc.SpecError, "a move of a tag")


def test_what_fails_in_the_caller(fake, fails):
    serve_image(fake)

    def interrupt(_: object) -> None:
        raise KeyError("enough")

    fails(f"{fake.host}/app:1", KeyError, on_progress=interrupt)


def foreign(fake: Fake, *urls: str) -> None:
    """Serve an image whose layer the registry does not have, but says where it is."""
    made = Layout()
    entry = made.image(LOWER, form="", platform=this_platform())
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'][7:]}"])
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    manifest["layers"] = [{**manifest["layers"][0], "mediaType": kind, "urls": list(urls)}]
    fake.add_layout(made, made.blob(dump(manifest), MANIFEST))
    del fake.blobs[digest_of(LOWER)]


def test_a_layer_that_may_not_be_distributed_comes_from_where_it_is(fake, elsewhere, pull):
    elsewhere.always("GET /far/.*", lambda handler: handler.answer(200, LOWER))
    foreign(fake, f"{elsewhere.url}/far/layer")
    image = pull(f"{fake.host}/app:1")
    assert [layer.digest for layer in image.layers] == [digest_of(LOWER)]
    assert "Authorization" not in elsewhere.seen[-1].headers


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://192.0.2.1/x", "http://169.254.169.254/x", "ftp://a/b"])
def test_but_not_from_anywhere(fake, fails, url):
    foreign(fake, url)
    fails(f"{fake.host}/app:1", pylxc.RegistryError, "refused")


def test_nor_without_an_address(fake, fails):
    foreign(fake)
    fails(f"{fake.host}/app:1", pylxc.RegistryError, "does not have it")


# -- several at once ---------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, pylxc
print(pylxc.Image.pull(sys.argv[1], engine=pylxc.Engine(sys.argv[2])).digest)
"""


def another(fake: Fake, engine: pylxc.Engine) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, f"{fake.host}/app:1", str(engine.root)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def gate(fake: Fake, pulls: int) -> Callable[[Handler], None]:
    """Let a layer come only when so many pulls have its manifest: then all of them want it."""

    def give(handler: Handler) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(fake.requests("GET .*/manifests/.*")) < pulls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        handler.honest()

    return give


def test_processes_that_want_the_same_layer_fetch_it_once(fake, engine):
    digest = serve_image(fake, LOWER)
    assert engine.store
    fake.always(f"GET .*/blobs/{blob_of(fake, digest)}", gate(fake, 3))
    others = [another(fake, engine) for _ in range(3)]
    assert [process.communicate(timeout=PATIENCE)[0].strip() for process in others] == [digest] * 3
    assert len(fake.requests(f"GET .*/blobs/{blob_of(fake, digest)}")) == 1
    assert list((engine.root / "staging").iterdir()) == []


def test_and_so_do_threads(fake, engine, pull):
    digest = serve_image(fake, LOWER)
    assert engine.store
    fake.always(f"GET .*/blobs/{blob_of(fake, digest)}", gate(fake, 3))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(pull(f"{fake.host}/app:1").digest)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [digest] * 3
    assert len(fake.requests(f"GET .*/blobs/{blob_of(fake, digest)}")) == 1


def test_one_that_is_killed_leaves_the_work_to_the_others(fake, engine, pull):
    digest = serve_image(fake, LOWER)
    assert engine.store
    fake.once(f"GET .*/blobs/{blob_of(fake, digest)}", stall)
    with another(fake, engine) as first:
        deadline = time.monotonic() + PATIENCE
        while not fake.requests(f"GET .*/blobs/{blob_of(fake, digest)}"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second: list[str] = []
        thread = threading.Thread(target=lambda: second.append(pull(f"{fake.host}/app:1").digest))
        thread.start()
        while len(fake.requests("GET .*/manifests/.*")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert second == []
        first.send_signal(signal.SIGKILL)
    thread.join(PATIENCE)
    assert second == [digest]
    pylxc.Engine(engine.root).store  # noqa: B018  the next process to open it tidies up after the one that was killed
    assert list((engine.root / "staging").iterdir()) == []


# -- the verbs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(fake, busybox, settings) -> str:
    """A busybox image that the registry has, and the store has not."""
    ref = f"{fake.host}/busybox:1"
    busybox.push(ref, settings=settings)
    busybox.remove()
    fake.seen.clear()
    return ref


def test_what_is_missing_is_pulled(fake, engine, remote):
    with pytest.raises(pylxc.ImageNotFound, match="it is not in this store"):
        pylxc.run(remote, ["true"], pull="never", engine=engine)
    assert fake.seen == []
    assert pylxc.run(remote, ["echo", "here"], engine=engine).text == "here\n"
    fake.seen.clear()
    assert pylxc.run(remote, ["echo", "here"], engine=engine).text == "here\n"
    assert fake.seen == []
    pylxc.run(remote, ["true"], pull="always", engine=engine)
    assert [each.method for each in fake.requests(MANIFESTS)] == ["HEAD"]
    container = pylxc.create(remote, ["true"], engine=engine)
    container.remove()
    fake.script.append((MANIFESTS, lambda handler: handler.fail(404), True))
    with pytest.raises(pylxc.ImageNotFound, match="does not have it"):
        pylxc.run(remote, ["true"], pull="always", engine=engine)


def test_an_option_that_is_wrong_is_told_before_the_pull(fake, engine, remote):
    with pytest.raises(pylxc.SpecError):
        pylxc.run(remote, ["true"], memory="much", engine=engine)
    assert fake.seen == []


def test_what_is_neither_here_nor_there(fake, engine, remote):
    pylxc.Image.pull(remote, engine=engine)
    begin = time.monotonic()
    with pytest.raises(pylxc.ImageNotFound) as caught:
        pylxc.run(f"{fake.host}/busybox:2", ["true"], engine=engine)
    assert f"did you mean {remote!r}?" in str(caught.value)
    assert "pulling it failed" in str(caught.value)
    with pytest.raises(pylxc.ImageNotFound, match=r"registry\.invalid.*its name cannot be resolved"):
        pylxc.run("registry.invalid/app:1", ["true"], engine=engine)
    for wrong in ("sha256:" + "0" * 64, f"{remote}@{{7}}"):
        with pytest.raises(pylxc.ImageNotFound):
            pylxc.run(wrong, ["true"], engine=engine)
    assert time.monotonic() - begin < 20


def test_another_platform_is_pulled(fake, engine, index):
    image = pylxc.Image.pull(f"{fake.host}/app:1", engine=engine)
    pylxc.create(f"{fake.host}/app:1", platform=this_platform(), engine=engine).remove()
    container = pylxc.create(f"{fake.host}/app:1", platform=OTHER, engine=engine)
    assert (container.image.digest, container.image.platform) == (index[OTHER], OTHER)
    container.remove()
    for wrong in (image, image.id):
        with pytest.raises(pylxc.ImageNotFound, match=f"for {this_platform()} only"):
            pylxc.create(wrong, platform=OTHER, engine=engine)
    with pytest.raises(pylxc.ImageNotFound, match=f"for {this_platform()} only"):
        pylxc.create(image.digest and f"{fake.host}/app@{image.digest}", platform=OTHER, pull="never", engine=engine)


def test_a_build_pulls_its_base(fake, engine, remote, tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(f"FROM {remote}\nRUN echo built > /file\n")
    first = pylxc.Image.build(tmp_path / "context", engine=engine)
    assert pylxc.run(first, ["cat", "/file"], engine=engine).text == "built\n"
    fake.seen.clear()
    pylxc.Image.build(tmp_path / "context", engine=engine)
    assert fake.seen == []
    pylxc.Image.build(tmp_path / "context", pull=True, engine=engine)
    assert [each.method for each in fake.requests(MANIFESTS)] == ["HEAD"]


def test_a_build_pulls_a_base_of_another_platform_and_leaves_its_tag(fake, engine, index, tmp_path):
    ref = f"{fake.host}/app:1"
    here = pylxc.Image.pull(ref, engine=engine)
    (tmp_path / "context").mkdir()
    text = f"FROM {ref} AS here\nFROM --platform={OTHER} {ref}\nCOPY --from=here / /here/\n"
    (tmp_path / "context/Dockerfile").write_text(text)
    made = pylxc.Image.build(tmp_path / "context", engine=engine)
    assert (made.platform, len(made.layers)) == (OTHER, 2)
    assert pylxc.Image.get(ref, engine=engine).id == here.id
    other = pylxc.Image.pull(ref, platform=OTHER, engine=engine)
    assert made.diff_ids[0] == other.diff_ids[0] != here.diff_ids[0]
    fake.seen.clear()  # where the tag names what is wanted, nobody is asked
    assert pylxc.Image.build(tmp_path / "context", pull=False, engine=engine).platform == OTHER
    assert not [each for each in fake.seen if "blobs" in each.path]
    (tmp_path / "context/Dockerfile").write_text(f"FROM --platform=linux/s390x {ref}\n")
    with pytest.raises(pylxc.UnsupportedError, match="no image for linux/s390x"):
        pylxc.Image.build(tmp_path / "context", engine=engine)


def test_a_loop_goes_on_while_an_image_comes(fake, engine, remote):
    """The registry gives the layer once the loop, which is not blocked, says so."""
    go_on = threading.Event()
    asked = asyncio.Event()

    def wait(handler: Handler) -> None:
        loop.call_soon_threadsafe(asked.set)
        assert go_on.wait(PATIENCE)
        handler.honest()

    fake.always(BLOBS, wait)

    loop = asyncio.new_event_loop()

    async def main() -> str:
        running = asyncio.create_task(pylxc.aio.run(remote, ["echo", "here"], engine=engine))
        await asked.wait()
        go_on.set()
        return (await running).text

    with contextlib.closing(loop):
        assert loop.run_until_complete(asyncio.wait_for(main(), PATIENCE)) == "here\n"
        loop.run_until_complete(loop.shutdown_default_executor())


def test_a_task_that_is_cancelled_ends_the_pull(fake, engine, remote):
    asked = asyncio.Event()
    loop = asyncio.new_event_loop()

    def never(handler: Handler) -> None:
        loop.call_soon_threadsafe(asked.set)
        stall(handler)

    fake.always(BLOBS, never)

    async def main() -> None:
        running = asyncio.create_task(pylxc.aio.run(remote, ["true"], engine=engine))
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    begin = time.monotonic()
    with contextlib.closing(loop):
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    assert time.monotonic() - begin < PATIENCE / 2
    assert pylxc.Image.list(engine=engine) == []
    assert list((engine.root / "staging").iterdir()) == []
