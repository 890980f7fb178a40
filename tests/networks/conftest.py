"""Every test here has a host's network of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ownnet import links, own_network, tables

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host with a loopback link only; what a test leaves on it fails the test."""
    with own_network():
        before = links()
        yield
        left = (links() - before, tables())
    assert left == (set(), set()), "the test left links or tables behind"
