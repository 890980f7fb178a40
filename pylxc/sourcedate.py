"""The time that what is made now may not be later than, so that it is the same whenever it is made.

Invariant: it is read where something is made, from the environment, and never kept.
Source: https://reproducible-builds.org/specs/source-date-epoch
"""

from __future__ import annotations

import os

from pylxc.errors import SpecError

VARIABLE = "SOURCE_DATE_EPOCH"
_MOST = (1 << 63) - 1


def latest() -> int | None:
    """Return the latest time of modification (s since the epoch) of what a layer holds; None when there is no bound.

    Raises:
        SpecError: the variable is not a number of seconds.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _MOST:
        raise SpecError(VARIABLE, text, "give seconds since 1970, in decimal digits")
    return int(text)
