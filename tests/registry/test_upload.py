"""Blobs into a registry: only what is missing is sent; what breaks goes on where the registry is."""

from __future__ import annotations

import io
import random

import pytest
from fake import digest_of

from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError

DATA = random.Random(7).randbytes(300_000)
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(DATA), len(DATA))
CHUNKED = {"chunk": 100_000, "part": 100_000}


def break_off(handler) -> None:
    """Keep the beginning of what is sent, and hang up."""
    name = handler.path.split("/")[-1].split("?")[0]
    handler.server.uploads[name] += handler.body[:40_000]
    handler.hang_up()


def lose_the_answer(handler) -> None:
    """Have the blob, forget the upload, and hang up."""
    handler.server.add(DATA)
    handler.server.uploads.clear()
    handler.hang_up()


def pushed(fake) -> bool:
    return fake.blobs.get(LAYER.digest) == DATA


def test_a_blob_in_one_piece(fake, repository):
    events = []
    assert repository(on_progress=events.append).push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)
    methods = [seen.method for seen in fake.seen if "blobs" in seen.path]
    assert methods == ["HEAD", "POST", "PUT"]
    assert (events[-1].what, events[-1].done, events[-2].what) == ("uploaded", len(DATA), "uploading")


def test_what_is_there_is_not_sent(fake, repository):
    fake.add(DATA)
    assert repository().push_blob(LAYER, DATA) == "present"
    assert [seen.method for seen in fake.seen if "blobs" in seen.path] == ["HEAD"]
    assert repository().has_blob(LAYER)


def test_an_empty_blob(fake, repository):
    empty = Descriptor("text/plain", digest_of(b""), 0)
    assert repository().push_blob(empty, b"") == "uploaded"
    assert fake.blobs[empty.digest] == b""


def test_it_is_mounted_from_another_repository(fake, repository):
    fake.once("HEAD .*", lambda handler: handler.fail(404))
    fake.add(DATA)
    assert repository().push_blob(LAYER, DATA, mount_from=["team/base"]) == "mounted"
    (asked,) = fake.requests("POST .*")
    assert asked.path == f"/v2/app/blobs/uploads/?mount={LAYER.digest.replace(':', '%3A')}&from=team%2Fbase"


def test_where_it_cannot_be_mounted_it_is_sent(fake, repository):
    assert repository().push_blob(LAYER, DATA, mount_from=["team/base"]) == "uploaded"
    assert pushed(fake)
    assert len(fake.requests("POST .*")) == 1


def test_a_blob_in_chunks(fake, repository):
    source = io.BytesIO(DATA)
    source.seek(5)
    assert repository(**CHUNKED).push_blob(LAYER, source) == "uploaded"
    assert pushed(fake)
    ranges = [seen.headers["Content-Range"] for seen in fake.requests("PATCH .*")]
    assert ranges == ["0-99999", "100000-199999", "200000-299999"]
    (last,) = fake.requests("PUT .*")
    assert last.body == b""


def test_chunks_are_as_large_as_the_registry_wants(fake, repository):
    def begin(handler) -> None:
        fake.uploads["x"] = b""
        handler.answer(202, Location="/v2/app/blobs/uploads/x?state=a%20b", OCI_Chunk_Min_Length=200_000)

    fake.once("POST .*", begin)
    repository(**CHUNKED).push_blob(LAYER, DATA)
    assert [len(seen.body) for seen in fake.requests("PATCH .*")] == [200_000, 100_000]
    assert pushed(fake)


def test_a_chunk_that_breaks_goes_on_where_the_registry_is(fake, repository):
    fake.once("PATCH .*", break_off)
    repository(**CHUNKED).push_blob(LAYER, DATA)
    ranges = [seen.headers["Content-Range"] for seen in fake.requests("PATCH .*")]
    assert ranges == ["0-99999", "40000-139999", "140000-239999", "240000-299999"]
    assert pushed(fake)


@pytest.mark.parametrize("status", [408, 416, 429, 500, 503])
def test_a_chunk_that_is_refused_goes_on_too(fake, repository, status):
    fake.once("PATCH .*", lambda handler: handler.fail(status))
    repository(**CHUNKED).push_blob(LAYER, DATA)
    assert pushed(fake)
    fake.blobs.clear()
    fake.once("PATCH .*", lambda handler: handler.fail(status))
    assert repository(**CHUNKED).push_stream([DATA], LAYER.media_type) == LAYER
    assert pushed(fake)


def test_fewer_bytes_taken_than_sent(fake, repository):
    def act(handler) -> None:
        name = handler.path.split("/")[-1].split("?")[0]
        fake.uploads[name] = handler.body[:1234]
        handler.answer(202, Location=handler.path, Range="0-1233")

    fake.once("PATCH .*", act)
    repository(**CHUNKED).push_blob(LAYER, DATA)
    assert fake.requests("PATCH .*")[1].headers["Content-Range"].startswith("1234-")
    assert pushed(fake)


@pytest.mark.parametrize("status", [0, 202, 400, 405, 416, 501])
def test_a_registry_that_takes_no_chunks_gets_it_as_a_whole(fake, repository, status):
    """202: as some do, which say "accepted" of every chunk and have the first one only."""

    def act(handler) -> None:
        if status:
            handler.answer(status, Location=handler.path, Range="0-0")
        else:
            handler.hang_up()

    fake.always("PATCH .*", act)
    assert repository(**CHUNKED).push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)
    assert 1 <= len(fake.requests("PATCH .*")) <= 20


def test_an_upload_that_gets_nowhere_ends(fake, repository):
    fake.always("(PATCH|PUT) .*", lambda handler: handler.hang_up())
    with pytest.raises(RegistryError, match="the connection was closed"):
        repository(**CHUNKED).push_blob(LAYER, DATA)
    assert len(fake.requests("(PATCH|PUT) .*")) <= 40


@pytest.mark.parametrize("status", [202, 405])
def test_a_stream_that_gets_nowhere_ends(fake, repository, status):
    fake.always("PATCH .*", lambda handler: handler.answer(status, Location=handler.path, Range="0-0"))
    with pytest.raises(RegistryError, match="does not get on" if status == 202 else "does not allow this"):
        repository(**CHUNKED).push_stream([DATA], LAYER.media_type)
    assert len(fake.requests("PATCH .*")) <= 20


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr("pylxc.registry.upload._CHUNKS", (160_000, 40_000, 10_000))


def limit(most: int, beyond):
    """Return what answers requests of no more bytes than those honestly, others by ``beyond``."""
    return lambda handler: beyond(handler) if len(handler.body) > most else handler.honest()


def too_large(handler) -> None:
    handler.fail(413)


def drop(handler) -> None:
    handler.hang_up()


@pytest.mark.parametrize(("beyond", "tries"), [(too_large, 1), (drop, 2)])
def test_what_is_too_large_for_one_request_goes_in_smaller_ones(fake, repository, small_chunks, beyond, tries):
    fake.always("(PUT|PATCH) .*", limit(50_000, beyond))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)
    sizes = [len(seen.body) for seen in fake.requests("(PUT|PATCH) .*")]
    assert sizes == [300_000] * tries + [160_000] * tries + [40_000] * 7 + [20_000, 0]


def test_chunks_that_break_and_are_forgotten_with_it_get_smaller(fake, repository, small_chunks):
    def forget(handler) -> None:
        fake.uploads.clear()
        handler.hang_up()

    fake.always("(PUT|PATCH) .*", limit(50_000, forget))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    sizes = [len(seen.body) for seen in fake.requests("(PUT|PATCH) .*")]
    assert sizes == [300_000] * 2 + [160_000] * 2 + [40_000] * 7 + [20_000, 0]


def test_chunks_of_one_size_are_left_only_where_they_do_not_get_on(fake, repository, small_chunks):
    """Connections that break now and then do not make them smaller."""
    fake.once("PUT .*", too_large)
    for _ in range(3):
        fake.once("PATCH .*", break_off)
        fake.once("PATCH .*", lambda handler: handler.honest())
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert len(fake.requests("POST .*")) == 2


def test_chunks_are_no_smaller_than_the_registry_wants(fake, repository, small_chunks):
    fake.always("(PUT|PATCH) .*", too_large)
    begun = {"Location": "/v2/app/blobs/uploads/x?state=a%20b", "OCI_Chunk_Min_Length": 30_000}
    fake.always("POST .*", lambda handler: handler.answer(202, **begun))
    with pytest.raises(RegistryError, match="takes no request of 30000 bytes"):
        repository().push_blob(LAYER, DATA)
    sizes = [len(seen.body) for seen in fake.requests("(PUT|PATCH) .*")]
    assert sizes == [300_000, 160_000, 40_000, 30_000]


def test_what_breaks_goes_as_a_whole_again_where_chunks_are_refused(fake, repository, small_chunks):
    for _ in range(3):
        fake.once("PUT .*", drop)
    fake.always("PATCH .*", lambda handler: handler.fail(405))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert len(fake.requests("PUT .*")) == 4
    assert len(fake.requests("PATCH .*")) == 1


def test_a_registry_that_takes_nothing_is_not_tried_for_ever(fake, repository, small_chunks):
    fake.always("(PUT|PATCH) .*", drop)
    with pytest.raises(RegistryError, match="the connection was closed"):
        repository().push_blob(LAYER, DATA)
    assert len(fake.requests("(PUT|PATCH) .*")) == 2 + 3 * 2 + 4


def test_what_is_too_large_in_any_way_is_refused(fake, repository, small_chunks):
    fake.always("(PUT|PATCH) .*", too_large)
    with pytest.raises(RegistryError) as caught:
        repository(chunk=20_000).push_blob(LAYER, DATA)
    assert caught.value.status == 413
    assert str(caught.value) == (
        f"{fake.host}/app: {fake.host} takes no request of 10000 bytes; "
        "raise the limit of the proxy before it (client_max_body_size of nginx)"
    )
    assert fake.given_up == ["0", "1"]


def test_uploads_that_are_not_finished_are_given_up(fake, repository, small_chunks):
    fake.always("(PUT|PATCH) .*", limit(50_000, too_large))
    assert repository().push_blob(LAYER, DATA, mount_from=["team/base", "team/other"]) == "uploaded"
    assert fake.given_up == ["0", "1", "2"]  # the mount's, the whole, and chunks that are too large
    fake.given_up.clear()
    with pytest.raises(RegistryError):
        repository(part=100_000).push_stream([DATA], LAYER.media_type)
    assert fake.given_up == ["4"]


def test_a_registry_that_has_no_word_for_giving_up_is_asked_once(fake, repository, small_chunks):
    fake.always("DELETE .*", lambda handler: handler.fail(503))
    fake.always("(PUT|PATCH) .*", limit(50_000, too_large))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert len(fake.requests("DELETE .*")) == 1


def test_a_registry_that_says_it_has_what_it_was_not_sent(fake, repository):
    fake.always("PATCH .*", lambda handler: handler.answer(202, Location=handler.path, Range="0-299999"))
    with pytest.raises(RegistryError, match="has 300000 bytes of an upload of which it was sent 100000"):
        repository(**CHUNKED).push_blob(LAYER, DATA)


def test_a_forgotten_upload_is_started_again(fake, repository):
    def act(handler) -> None:
        fake.uploads.clear()
        handler.honest()

    fake.once("PATCH .*", act)
    repository(**CHUNKED).push_blob(LAYER, DATA)
    assert pushed(fake)
    assert len(fake.requests("POST .*")) == 2


def test_one_piece_that_breaks_off_goes_on_where_the_registry_is(fake, repository):
    fake.once("PUT .*", break_off)
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    (rest,) = fake.requests("PATCH .*")
    assert rest.headers["Content-Range"] == "40000-299999"
    assert pushed(fake)
    assert len(fake.requests("POST .*")) == 1


def test_the_rest_of_one_piece_may_be_refused(fake, repository):
    fake.once("PUT .*", break_off)
    fake.always("PATCH .*", lambda handler: handler.fail(405))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)
    assert len(fake.requests("POST .*")) == 2


@pytest.mark.parametrize("way", [{}, CHUNKED])
def test_only_the_last_answer_is_lost(fake, repository, way):
    fake.once("PUT .*", lose_the_answer)
    assert repository(**way).push_blob(LAYER, DATA) == "uploaded"
    assert len(fake.requests("POST .*")) == 1


def test_the_last_answer_for_a_stream_is_lost(fake, repository):
    fake.once("PUT .*", lose_the_answer)
    assert repository(**CHUNKED).push_stream([DATA], LAYER.media_type) == LAYER


@pytest.mark.parametrize(("way", "method"), [({}, "PUT"), (CHUNKED, "PATCH")])
def test_a_registry_is_left_alone_for_as_long_as_it_asks(fake, repository, pauses, way, method):
    fake.once(f"{method} .*", lambda handler: handler.fail(429, Retry_After=7))
    assert repository(**way, longest_wait=10).push_blob(LAYER, DATA) == "uploaded"
    assert pauses == [7]


def test_a_registry_that_asks_for_an_hour_is_not_waited_for(fake, repository):
    fake.always("PUT .*", lambda handler: handler.fail(429, Retry_After=3600))
    with pytest.raises(RegistryError, match="too many requests"):
        repository().push_blob(LAYER, DATA)
    assert len(fake.requests("PUT .*")) == 1


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_registry_that_does_not_say_what_it_has(fake, repository, status):
    fake.always("HEAD .*", lambda handler: handler.answer(status))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)


@pytest.mark.parametrize("status", [0, 503])
def test_one_piece_that_breaks_is_sent_again(fake, repository, status):
    fake.once("PUT .*", lambda handler: handler.fail(status) if status else handler.hang_up())
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)


def test_a_source_of_another_length(fake, repository):
    with pytest.raises(IntegrityError) as caught:
        repository().push_blob(LAYER, DATA[:-1])
    assert caught.value.expected == "300000 bytes"
    assert not pushed(fake)


def test_a_source_of_other_bytes(fake, repository):
    with pytest.raises(RegistryError) as caught:
        repository().push_blob(LAYER, DATA[:-1] + b"x")
    assert (caught.value.status, caught.value.code) == (400, "DIGEST_INVALID")
    assert len(fake.requests("PUT .*")) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://evil.example/", None])
def test_places_that_nothing_is_sent_to(fake, repository, location):
    fake.always("POST .*", lambda handler: handler.answer(202, Location=location))
    with pytest.raises(RegistryError) as caught:
        repository().push_blob(LAYER, DATA)
    assert caught.value.code == ("REDIRECT" if location else "")


@pytest.mark.parametrize("status", [307, 308])
def test_it_is_sent_where_the_registry_redirects_it_to(fake, repository, status):
    fake.once("POST .*", lambda handler: handler.answer(status, Location="/v2/team/app/blobs/uploads/"))
    fake.once("PUT .*", lambda handler: handler.answer(status, Location=handler.path + "&again=1"))
    assert repository().push_blob(LAYER, DATA) == "uploaded"
    assert pushed(fake)
    assert [seen.path.split("?")[0] for seen in fake.requests("POST .*")][1:] == ["/v2/team/app/blobs/uploads/"]
    assert len(fake.requests("PUT .*again=1")) == 1


@pytest.mark.parametrize(
    ("status", "location"), [(302, "/v2/x/blobs/uploads/"), (307, "http://127.0.0.1:1/"), (307, "")]
)
def test_nothing_is_sent_to_another_server_or_in_another_way(fake, repository, status, location):
    fake.always("PUT .*", lambda handler: handler.answer(status, Location=location or None))
    with pytest.raises(RegistryError, match=f"status {status}"):
        repository().push_blob(LAYER, DATA)
    assert len(fake.requests("PUT .*")) == 1


def test_a_stream_of_unknown_length(fake, repository):
    chunks = [DATA[begin : begin + 70_000] for begin in range(0, len(DATA), 70_000)]
    assert repository(**CHUNKED).push_stream(chunks, LAYER.media_type) == LAYER
    assert pushed(fake)
    assert [len(seen.body) for seen in fake.requests("PATCH .*")] == [100_000] * 3


def test_a_stream_that_breaks_goes_on(fake, repository):
    fake.once("PATCH .*", break_off)
    fake.once("PATCH .*", break_off)
    assert repository(**CHUNKED).push_stream(iter([DATA]), LAYER.media_type) == LAYER
    assert pushed(fake)


def test_an_empty_stream(fake, repository):
    assert repository().push_stream([], "text/plain").size == 0
    assert digest_of(b"") in fake.blobs
