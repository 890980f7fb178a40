"""Every test here has a host's network of its own."""

from ownnet import host

__all__ = ["host"]
