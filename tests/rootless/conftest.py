"""The busybox container of ``boxes``, for the tests of this directory."""

from boxes import box, box_engine

__all__ = ["box", "box_engine"]
