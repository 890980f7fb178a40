"""Small facts beside the build cache: the newest stay, and what clears the cache clears them."""

from __future__ import annotations

import time

from pylxc.store import cache


def test_the_oldest_is_forgotten(engine, monkeypatch):
    monkeypatch.setattr(cache, "MOST_REMEMBERED", 2)
    remembered = engine.store.cache
    for name in ("a", "b", "c"):
        remembered.remember(name, f"facts of {name}")
    assert [remembered.recall(name) for name in ("a", "b", "c")] == [None, "facts of b", "facts of c"]
    remembered.remember("b", "anew")
    remembered.remember("d", "")
    assert [remembered.recall(name) for name in ("b", "c", "d")] == ["anew", None, ""]


def test_clearing_the_cache_clears_them(engine):
    remembered = engine.store.cache
    remembered.remember("a", "x")
    remembered.forget(time.time() - 100)
    assert remembered.recall("a") == "x"
    remembered.forget()
    assert remembered.recall("a") is None
