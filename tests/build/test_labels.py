"""Labels that are given to a build, over those of its Dockerfile."""

from __future__ import annotations

import pytest

import pylxc

TEXT = "FROM busybox\nLABEL tier=web kept=yes\nRUN echo made"


def test_they_win_over_the_dockerfiles_and_what_is_cached_stays_so(on_busybox) -> None:
    before = on_busybox(TEXT)
    assert on_busybox.output() == "made\n"
    image = on_busybox(TEXT, labels={"tier": "db", "commit": "4f2"})
    assert on_busybox.output() == ""
    assert image.config.labels == {"tier": "db", "kept": "yes", "commit": "4f2"}
    assert (image.diff_ids, image.history()) == (before.diff_ids, before.history())
    assert on_busybox(TEXT, labels=["tier=db", "commit=4f2"]).id == image.id
    assert on_busybox(TEXT).id == before.id


def test_what_is_no_label_is_refused_before_anything_is_built(on_busybox) -> None:
    with pytest.raises(pylxc.SpecError) as caught:
        on_busybox(TEXT, labels={"": "x"})
    assert caught.value.option == "labels"
    assert on_busybox.output() == ""
