"""Every test here has a host's network of its own; an ordinary user has that of tests/rootless for all of them."""

from ownnet import host

__all__ = ["host"]
