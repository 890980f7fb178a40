"""Blobs out of a registry: what is right arrives whole, what is wrong never does; broken connections are resumed."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import signal
import sys
import threading
import time

import pytest
from boxes import await_true
from fake import digest_of

from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError, SpecError
from pylxc.registry.settings import HostSettings

DATA = random.Random(5).randbytes(300_000)
BIG = random.Random(6).randbytes(1 << 20)
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BLOBS = r"GET /v2/app/blobs/.*"
PARALLEL = {"parallel_from": 1, "piece": 64 * 1024, "window": 256 * 1024}


def descriptor(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(LAYER, digest_of(data), len(data) if size is None else size)


def fetch(repository, wanted: Descriptor) -> bytes:
    with repository.blob(wanted) as reader:
        return reader.read()


def part(count: int, **headers: object):
    """Announce all of a blob, send some bytes of it, hang up."""

    def act(handler) -> None:
        handler.send_response(200)
        for key, value in ({"Content-Length": len(DATA)} | headers).items():
            handler.send_header(key.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(DATA[:count])
        handler.hang_up()

    return act


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "one byte", "some"])
def test_a_blob_arrives(fake, repository, data):
    fake.add(data)
    assert fetch(repository(), descriptor(data)) == data


def test_it_is_a_file(fake, repository):
    fake.add(DATA)
    with repository().blob(descriptor(DATA)) as reader:
        assert reader.read(10) == DATA[:10]
        rest = b"".join(reader.chunks())
    assert DATA[:10] + rest == DATA
    assert reader.closed


def test_progress_is_told(fake, repository):
    events = []
    fake.add(DATA)
    fetch(repository(on_progress=events.append), descriptor(DATA))
    assert [event.what for event in events[-2:]] == ["downloading", "downloaded"]
    assert {(event.digest, event.total) for event in events} == {(digest_of(DATA), len(DATA))}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == len(DATA)


@pytest.mark.parametrize(
    ("size", "expected", "actual"),
    [(len(DATA) + 1, f"{len(DATA) + 1} bytes", f"{len(DATA)} bytes"), (10, "10 bytes", f"{len(DATA)} bytes")],
)
def test_another_length_is_refused_before_it_is_read(fake, repository, size, expected, actual):
    fake.add(DATA)
    with pytest.raises(IntegrityError) as caught:
        fetch(repository(), descriptor(DATA, size))
    assert (caught.value.expected, caught.value.actual) == (expected, actual)
    assert caught.value.subject == f"{fake.host}/app@{digest_of(DATA)}"


def test_a_wrong_digest_is_never_given_out_whole(fake, repository):
    fake.blobs[digest_of(DATA)] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    got = bytearray()
    with pytest.raises(IntegrityError) as caught, repository().blob(descriptor(DATA)) as reader:
        for chunk in reader.chunks():
            got += chunk
    assert caught.value.expected == digest_of(DATA)
    assert caught.value.actual == digest_of(fake.blobs[digest_of(DATA)])
    assert len(got) < len(DATA)


@pytest.mark.parametrize("wrong", ["sha256:12", "sha256:" + "A" * 64, "md5:" + "0" * 32, "../../etc/passwd", 5, None])
def test_what_is_no_digest_gets_no_descriptor(wrong):
    with pytest.raises(SpecError, match="digest"):
        Descriptor(LAYER, wrong, 1)


def test_sha512_is_checked_too(fake, repository):
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    fake.always(r"GET /v2/app/blobs/sha512.*", lambda handler: handler.answer(200, DATA))
    assert fetch(repository(), Descriptor(LAYER, digest, len(DATA))) == DATA
    with pytest.raises(IntegrityError, match="sha512"):
        fetch(repository(), Descriptor(LAYER, "sha512:" + "0" * 128, len(DATA)))


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n"):
    def act(handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(end)

    return act


def test_a_body_of_unsaid_length(fake, repository):
    fake.once(BLOBS, chunked(DATA[:7], DATA[7:]))
    assert fetch(repository(), descriptor(DATA)) == DATA


def test_more_than_the_descriptor_says_is_refused(fake, repository):
    fake.once(BLOBS, chunked(DATA[:-1], DATA[-1:] + b"more"))
    with pytest.raises(IntegrityError) as caught:
        fetch(repository(), descriptor(DATA))
    assert caught.value.actual == "more"


def endless(write):
    """Send something again and again, until the client hangs up: what it must do by itself."""

    def act(handler) -> None:
        try:
            while not handler.server.over.is_set():
                handler.wfile.write(write)
        except OSError:
            handler.server.hung_up = True
            handler.close_connection = True

    return act


def test_an_endless_body_is_left_at_once(fake, repository):
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"

    def act(handler) -> None:
        chunked(end=b"")(handler)
        endless(piece)(handler)

    fake.once(BLOBS, act)
    with pytest.raises(IntegrityError):
        fetch(repository(), Descriptor(LAYER, digest_of(b""), 100_000))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
    ],
    ids=["interim answers", "headers", "one header"],
)
def test_endless_heads_are_left_at_once(fake, repository, raw):
    fake.always(BLOBS, endless(raw))
    with pytest.raises(RegistryError, match="in the middle of an answer"):
        fetch(repository(), descriptor(DATA))
    assert len(fake.requests(BLOBS)) == 4


def test_endless_trailers_keep_nobody(fake, repository):
    body = b'{"schemaVersion": 2}'

    def act(handler) -> None:
        chunked(body, end=b"0\r\n")(handler)
        endless(b"A: b\r\n")(handler)

    fake.always("GET /v2/app/manifests/1", act)
    with pytest.raises(RegistryError, match="in the middle of an answer"):
        repository().manifest()


@pytest.mark.parametrize("encoding", ["aws-chunked", "none", "gzip"])
def test_what_is_said_of_a_body_s_encoding_counts_less_than_its_digest(fake, repository, encoding):
    fake.always(BLOBS, lambda handler: handler.answer(200, DATA, Content_Encoding=encoding))
    assert fetch(repository(), descriptor(DATA)) == DATA
    assert [seen.headers["Accept-Encoding"] for seen in fake.requests(BLOBS)] == ["identity"]


def test_encoded_bodies_are_not_decoded(fake, repository):
    fake.always(BLOBS, chunked(gzip.compress(DATA)))
    with pytest.raises(IntegrityError):
        fetch(repository(), descriptor(DATA))


def test_a_length_of_thousands_of_digits_is_another_length(fake, repository):
    fake.always(BLOBS, lambda handler: handler.answer(200, DATA, Content_Length="9" * 5000))
    with pytest.raises(IntegrityError, match=f"expected {len(DATA)} bytes, found 9{{18}} bytes"):
        fetch(repository(), descriptor(DATA))


def test_a_blob_that_is_missing_is_not_a_wrong_name(fake, repository):
    words = f"{fake.host} does not have it, though it has what names it; push the image there again"
    with pytest.raises(RegistryError, match=words) as caught:
        fetch(repository(), descriptor(DATA))
    assert (caught.value.status, caught.value.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("count", [0, 1, 200_000])
def test_a_broken_connection_is_resumed(fake, repository, count):
    events = []
    fake.add(DATA)
    fake.once(BLOBS, part(count))
    assert fetch(repository(on_progress=events.append), descriptor(DATA)) == DATA
    first, second = fake.requests(BLOBS)
    assert "Range" not in first.headers
    assert second.headers.get("Range") == (f"bytes={count}-{len(DATA) - 1}" if count else None)
    assert [event.done for event in events if event.what == "retrying"] == [count]


def test_a_registry_without_ranges_is_read_from_the_start(fake, repository):
    fake.once(BLOBS, part(1000))
    fake.once(BLOBS, lambda handler: handler.answer(200, DATA))
    assert fetch(repository(), descriptor(DATA)) == DATA


def test_a_reset_connection_is_resumed(fake, repository):
    import socket
    import struct

    def act(handler) -> None:
        part(100_000)(handler)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    fake.add(DATA)
    fake.once(BLOBS, act)
    assert fetch(repository(), descriptor(DATA)) == DATA
    assert len(fake.requests(BLOBS)) == 2


def test_a_stalled_connection_is_resumed(fake, repository):
    def act(handler) -> None:
        part(100_000)(handler)
        handler.server.over.wait()

    fake.add(DATA)
    fake.once(BLOBS, act)
    assert fetch(repository(timeout=2.0), descriptor(DATA)) == DATA
    assert fake.requests(BLOBS)[1].headers["Range"].startswith("bytes=100000-")


def test_a_trickle_counts_as_stalled(fake, repository):
    def act(handler) -> None:
        part(10)(handler)
        while not handler.server.over.wait(0.05):
            handler.wfile.write(b"x")

    fake.always(BLOBS, act)
    with pytest.raises(RegistryError, match=r"bytes in .* s"):
        fetch(repository(timeout=1.5, slowest=10_000, retries=0), descriptor(DATA))


def test_it_is_given_up_after_some_tries(fake, repository):
    fake.add(DATA)
    fake.always(BLOBS, part(0))
    with pytest.raises(RegistryError, match="broke after 0 of 300000 bytes; try again") as caught:
        fetch(repository(), descriptor(DATA))
    assert len(fake.requests(BLOBS)) == 4
    assert caught.value.status == 0


def test_a_few_bytes_at_each_try_do_not_go_on_for_ever(fake, repository):
    def act(handler) -> None:
        first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        size = len(DATA) - first
        handler.send_response(206 if first else 200)
        handler.send_header("Content-Length", str(size))
        handler.send_header("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(DATA[first : first + 1])
        handler.hang_up()

    fake.always(BLOBS, act)
    with pytest.raises(RegistryError, match="broke after 4 of"):
        fetch(repository(), descriptor(DATA))


def ranged(content_range: str, body: bytes):
    return lambda handler: handler.answer(206, body, Content_Range=content_range)


SIZE = len(DATA)
INSTEAD = {
    "nothing, for it has no such range": lambda handler: handler.fail(416),
    "nothing, for it has no ranges": lambda handler: handler.fail(501),
    "another range": ranged(f"bytes 2000-{SIZE - 1}/{SIZE}", DATA[2000:]),
    "an earlier end of it": ranged(f"bytes 1000-1999/{SIZE}", DATA[1000:2000]),
    "all of it as a range": ranged(f"bytes 0-{SIZE - 1}/{SIZE}", DATA),
    "a range that it does not name": ranged("nonsense", DATA[1000:]),
    "a range of another length": ranged(f"bytes 1000-{SIZE - 1}/{SIZE}", DATA[1000:-1]),
    "a range beyond the end": ranged(f"bytes 1000-{SIZE}/*", DATA[1000:] + b"x"),
    "a range without bytes": ranged(f"bytes 1000-999/{SIZE}", b""),
}


@pytest.mark.parametrize("instead", INSTEAD)
def test_a_registry_that_resumes_otherwise_than_asked(fake, repository, instead):
    fake.add(DATA)
    fake.once(BLOBS, part(1000))
    fake.once(BLOBS, INSTEAD[instead])
    assert fetch(repository(), descriptor(DATA)) == DATA
    assert len(fake.requests(BLOBS)) <= 3


def test_a_range_of_another_blob_is_refused(fake, repository):
    fake.add(DATA)
    fake.once(BLOBS, part(1000))
    fake.once(BLOBS, ranged(f"bytes 1000-{SIZE - 1}/7", DATA[1000:]))
    with pytest.raises(IntegrityError, match="found 7 bytes"):
        fetch(repository(), descriptor(DATA))


def test_a_range_that_nobody_asked_for(fake, repository):
    fake.once(BLOBS, ranged(f"bytes 0-{SIZE - 1}/{SIZE}", DATA))
    assert fetch(repository(), descriptor(DATA)) == DATA
    fake.always(BLOBS, ranged(f"bytes 1-{SIZE - 1}/{SIZE}", DATA[1:]))
    with pytest.raises(RegistryError, match="another range"):
        fetch(repository(), descriptor(DATA))


def test_large_blobs_come_in_pieces(fake, repository):
    fake.add(BIG)
    assert fetch(repository(**PARALLEL), descriptor(BIG)) == BIG
    ranges = sorted(int(seen.headers["Range"][6:].split("-")[0]) for seen in fake.requests(BLOBS))
    assert ranges == list(range(0, len(BIG), 64 * 1024))


def test_pieces_wait_in_a_file(fake, repository, tmp_path):
    fake.add(BIG)
    with (
        open(tmp_path / "spool", "w+b") as spool,
        repository(**PARALLEL).blob(descriptor(BIG), spool=spool.fileno()) as reader,
    ):
        assert b"".join(reader.chunks()) == BIG
    assert (tmp_path / "spool").read_bytes() == BIG


def test_small_blobs_are_in_the_file_too(fake, repository, tmp_path):
    fake.add(DATA)
    with open(tmp_path / "spool", "w+b") as spool, repository().blob(descriptor(DATA), spool=spool.fileno()) as reader:
        assert reader.read() == DATA
    assert (tmp_path / "spool").read_bytes() == DATA


def test_a_full_disk_is_noticed_before_the_download(fake, repository, tmp_path):
    with (
        open(tmp_path / "spool", "w+b") as spool,
        repository().blob(descriptor(DATA, 1 << 62), spool=spool.fileno()) as reader,
        pytest.raises(OSError, match=r"space|large"),
    ):
        reader.read()
    assert fake.requests(BLOBS) == []


def test_pieces_that_break_are_resumed(fake, repository):
    def act(handler) -> None:
        first, last = map(int, handler.headers["Range"][6:].split("-"))
        handler.send_response(206)
        handler.send_header("Content-Length", str(last + 1 - first))
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(BIG)}")
        handler.end_headers()
        handler.wfile.write(BIG[first : first + 100])
        handler.hang_up()

    fake.add(BIG)
    for _ in range(3):
        fake.once(BLOBS, act)
    assert fetch(repository(**PARALLEL), descriptor(BIG)) == BIG
    assert len(fake.requests(BLOBS)) == len(BIG) // (64 * 1024) + 3


def test_a_registry_without_ranges_gives_large_blobs_at_once(fake, repository):
    fake.always(BLOBS, lambda handler: handler.answer(200, BIG))
    assert fetch(repository(**PARALLEL), descriptor(BIG)) == BIG
    assert len(fake.requests(BLOBS)) == 1


def narrow(handler) -> None:
    """Give 20 000 bytes of each range, which a server may (RFC 9110, 15.3.7)."""
    first, last = map(int, handler.headers["Range"][6:].split("-"))
    last = min(last, first + 19_999)
    ranged(f"bytes {first}-{last}/{len(BIG)}", BIG[first : last + 1])(handler)


def wide(handler) -> None:
    """Give twice what was asked for."""
    if "Range" not in handler.headers:
        handler.honest()
        return
    first = int(handler.headers["Range"][6:].split("-")[0])
    last = min(first + 2 * PARALLEL["piece"], len(BIG)) - 1
    ranged(f"bytes {first}-{last}/{len(BIG)}", BIG[first : last + 1])(handler)


def whole(handler) -> None:
    handler.answer(200, BIG)


def whole_of_ranges(handler) -> None:
    handler.fail(416) if "Range" in handler.headers else handler.honest()


def broken_head(handler) -> None:
    """Break the first piece off, and have no ranges from then on."""
    handler.server.always(BLOBS, whole)
    handler.server.script.reverse()
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-{PARALLEL['piece'] - 1}/{len(BIG)}")
    handler.send_header("Content-Length", str(PARALLEL["piece"]))
    handler.end_headers()
    handler.wfile.write(BIG[:100])
    handler.hang_up()


@pytest.mark.parametrize(("honest", "action"), [
    (0, narrow), (0, wide), (0, whole_of_ranges), (0, broken_head), (2, whole), (2, whole_of_ranges), (2, wide),
])  # fmt: skip
def test_a_registry_that_gives_pieces_otherwise_than_asked(fake, repository, tmp_path, honest, action):
    fake.add(BIG)
    for _ in range(honest):
        fake.once(BLOBS, lambda handler: handler.honest())
    fake.always(BLOBS, action)
    with open(tmp_path / "spool", "w+b") as spool:
        with repository(**PARALLEL).blob(descriptor(BIG), spool=spool.fileno()) as reader:
            assert b"".join(reader.chunks()) == BIG
        assert spool.read() == BIG
    assert len([seen for seen in fake.requests(BLOBS) if "Range" not in seen.headers]) <= 1


def test_a_piece_that_fails_fails_the_blob(fake, repository):
    fake.add(BIG)
    fake.blobs[digest_of(BIG)] = BIG
    fake.always(
        BLOBS, lambda handler: handler.fail(404) if "Range: bytes=655360" in str(handler.headers) else handler.honest()
    )
    with pytest.raises(RegistryError) as caught:
        fetch(repository(**PARALLEL), descriptor(BIG))
    assert caught.value.status == 404


def test_pieces_do_not_run_ahead_of_the_reader(fake, repository):
    """The window bounds what is in memory: nobody asks for more than the pieces in it, however slow the reader is."""
    consumed, ahead = 0, []

    def act(handler) -> None:
        ahead.append(int(handler.headers["Range"][6:].split("-")[0]) - consumed)
        handler.honest()

    fake.add(BIG)
    fake.always(BLOBS, act)
    with repository(**PARALLEL).blob(descriptor(BIG)) as reader:
        while consumed < len(BIG):
            consumed += len(reader.read(1000))
            due = min(len(BIG), consumed + PARALLEL["window"]) // PARALLEL["piece"]
            await_true(lambda due=due: len(ahead) >= due, "the next piece")
    assert len(ahead) == len(BIG) // PARALLEL["piece"]
    assert max(ahead) <= PARALLEL["window"] + PARALLEL["piece"]


def test_who_stops_reading_leaves_nothing_running(fake, repository):
    fake.add(BIG)
    reader = repository(**PARALLEL).blob(descriptor(BIG))
    assert reader.read(1) == BIG[:1]
    assert [thread for thread in threading.enumerate() if thread.name.startswith("pylxc")] != []
    reader.close()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("pylxc")] == []


def stall(handler) -> None:
    handler.server.over.wait()


@pytest.mark.parametrize("silent", [True, False], ids=["no answer", "half an answer"])
def test_an_interrupt_wakes_threads_that_wait(fake, repository, silent):
    """Their time limit is a minute: only a woken thread can be gone at once."""

    def half(handler) -> None:
        part(10)(handler)
        stall(handler)

    fake.always(BLOBS, stall if silent else half)
    begin = time.monotonic()

    def interrupt() -> None:
        main = threading.main_thread().ident
        while len(fake.requests(BLOBS)) < 2 or sys._current_frames()[main].f_code.co_filename != threading.__file__:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=interrupt, name="killer")
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        repository().download([descriptor(DATA), descriptor(DATA)], lambda _, reader: reader.read())
    killer.join()
    assert time.monotonic() - begin < 30


def test_several_blobs_at_once(fake, repository):
    blobs = [bytes([number]) * (1000 + number) for number in range(12)]
    for each in blobs:
        fake.add(each)
    assert repository().download([descriptor(each) for each in blobs], lambda _, reader: reader.read()) == blobs
    assert repository().download([], lambda _, reader: reader.read()) == []


def test_the_first_failure_is_raised(fake, repository):
    fake.add(DATA)
    fake.once(rf".*{digest_of(b'other')}", lambda handler: handler.answer(200, b"wrong"))
    fake.always(rf".*{digest_of(BIG)}", stall)
    with pytest.raises(IntegrityError) as caught:
        repository().download(
            [descriptor(BIG), descriptor(DATA), descriptor(b"other")], lambda _, reader: reader.read()
        )
    assert caught.value.expected == digest_of(b"other")


def test_a_receiver_that_fails_ends_the_others(fake, repository):
    fake.add(DATA)
    fake.always(rf".*{digest_of(BIG)}", stall)

    def receive(_, reader) -> None:
        reader.read()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repository().download([descriptor(BIG), descriptor(DATA)], receive)


# Mirrors.


@pytest.fixture
def mirrored(fake, elsewhere, repository):
    """A repository of a registry that has a mirror, which both have some blobs."""
    for each in (DATA, BIG):
        fake.add(each)
        elsewhere.add(each)
    return lambda **changes: repository(hosts={fake.host: HostSettings(mirrors=(elsewhere.url,))}, **changes)


@pytest.mark.parametrize("action", [part(50), lambda handler: handler.answer(200, b"other")], ids=["cut", "short"])
@pytest.mark.parametrize("changes", [{}, PARALLEL], ids=["at once", "in pieces"])
def test_a_mirror_that_breaks_in_the_middle_is_left_for_the_registry(fake, elsewhere, mirrored, changes, action):
    elsewhere.once(BLOBS, lambda handler: handler.honest())
    elsewhere.always(BLOBS, action)
    place = mirrored(**changes)
    assert fetch(place, descriptor(BIG)) == BIG
    assert fake.requests(BLOBS) == [] or changes
    for _ in range(2):
        assert fetch(place, descriptor(DATA)) == DATA
    assert len(elsewhere.requests(BLOBS)) <= 5  # each connection found out by itself


def test_what_a_mirror_gave_is_not_fetched_again(fake, elsewhere, mirrored):
    elsewhere.always(BLOBS, part(1000))
    assert fetch(mirrored(), descriptor(DATA)) == DATA
    (seen,) = fake.requests(BLOBS)
    assert seen.headers["Range"] == f"bytes=1000-{len(DATA) - 1}"


def test_wrong_bytes_of_a_mirror_are_fetched_again_from_the_registry(fake, elsewhere, mirrored):
    elsewhere.always(BLOBS, lambda handler: handler.answer(200, bytes(len(DATA))))
    with pytest.raises(IntegrityError):
        fetch(mirrored(), descriptor(DATA))
    assert fake.requests(BLOBS) == []
    assert mirrored().despite_mirrors(lambda place: fetch(place, descriptor(DATA))) == DATA
    assert mirrored().small_blob(descriptor(DATA), len(DATA)) == DATA
    assert len(elsewhere.requests(BLOBS)) == 3
    fake.always(BLOBS, lambda handler: handler.answer(200, bytes(len(DATA))))
    with pytest.raises(IntegrityError):
        mirrored().small_blob(descriptor(DATA), len(DATA))
    assert len(fake.requests(BLOBS)) == 3


def test_wrong_bytes_of_the_registry_are_fetched_once(fake, repository):
    fake.blobs[digest_of(DATA)] = bytes(len(DATA))
    with pytest.raises(IntegrityError):
        repository().small_blob(descriptor(DATA), len(DATA))
    assert len(fake.requests(BLOBS)) == 1
