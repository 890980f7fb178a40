"""A layer gets its name beside the step after it: that changes nothing of what comes of a build."""

from __future__ import annotations

import errno
import threading

import pytest
from building import contents

from pylxc import BuildError, SpawnError
from pylxc.runtime import transfer

PATIENCE = 60  # s
TWO = "FROM busybox\nRUN echo a >/a\nRUN cat /a >/b; echo second\n"


@pytest.fixture
def build(on_busybox):
    return on_busybox


@pytest.fixture
def held(build, monkeypatch):
    """Let the digest of a layer wait until the second command has said something."""
    real, said = transfer.digest_of, threading.Event()

    def digest_of(directory, **options):
        assert said.wait(PATIENCE)
        return real(directory, **options)

    monkeypatch.setattr(transfer, "digest_of", digest_of)
    build.tell = lambda event: said.set() if b"second" in event.data else None
    return said


@pytest.mark.root
def test_the_next_command_does_not_wait(build, held):
    image = build(TWO)
    assert held.is_set()
    assert [contents(layer) for layer in image.layers[-2:]] == [{"a": b"a\n"}, {"b": b"a\n"}]
    held.set()
    assert build(TWO).id == image.id
    assert build.cached() == [2, 3]


def test_it_is_the_same_image_as_one_by_one(build, monkeypatch):
    beside = build(TWO, network="none")
    monkeypatch.setattr("pylxc.runtime.rootless.is_privileged", lambda: False)
    monkeypatch.setattr("pylxc.runtime.rootless.apply", lambda _plan: None)
    assert build(TWO, network="none", no_cache=True).id == beside.id


def test_a_command_sees_the_times_that_the_layer_will_have(build):
    text = "FROM busybox\nRUN mkdir /d; touch /d/f; ln -s f /d/l\nRUN stat -c %Y /d /d/f /d/l >/times\n"
    image = build(text, args={"SOURCE_DATE_EPOCH": "1000000000"})
    assert contents(image.layers[-1])["times"].split() == [b"1000000000"] * 3


def test_a_step_that_comes_to_the_same_lets_the_next_one_be_cached(build):
    first = build("FROM busybox\nRUN echo a >/a\nRUN echo b >/b\n")
    again = build("FROM busybox\nRUN echo a > /a\nRUN echo b >/b\n")
    assert build.cached() == [3]
    assert again.layers == first.layers


@pytest.mark.parametrize("number", [1, 3])
def test_what_was_made_before_a_failure_is_kept(build, number):
    made = "".join(f"RUN echo {each} >/{each}\n" for each in range(number))
    with pytest.raises(BuildError) as caught:
        build(f"FROM busybox\n{made}RUN false\n")
    assert caught.value.step == number + 2
    build(f"FROM busybox\n{made}")
    assert build.cached() == list(range(2, number + 2))


def test_a_layer_that_cannot_be_read_is_told_of_its_own_step(build, monkeypatch):
    def digest_of(directory, **_options):
        raise SpawnError("pack", errno.EIO, directory)

    monkeypatch.setattr(transfer, "digest_of", digest_of)
    with pytest.raises(BuildError) as caught:
        build(TWO)
    assert caught.value.step == 2


def test_stages_with_the_same_steps_make_them_once(build):
    steps = "RUN echo a >/a; echo made\nRUN echo b >/b; echo made\n"
    text = f"FROM busybox AS one\n{steps}FROM busybox AS two\n{steps}FROM one\nCOPY --from=two /b /c\n"
    build(text)
    assert build.output().count("made") == 2
