"""Every test here has a host's network of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from boxes import await_true
from ownnet import links, own_network, tables

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host with a loopback link only; what a test leaves on it fails the test."""
    with own_network():
        before = links()
        yield
        # The kernel takes a namespace apart, with the links in it, a moment after its last process has ended.
        await_true(lambda: (links() - before, tables()) == (set(), set()), "the end of all links and tables")
