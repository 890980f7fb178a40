"""The time that what is made now may not be later than, so that it is the same whenever it is made.

Invariant: it is read where something is made, from the environment or a build's arguments, and never kept.
Source: https://reproducible-builds.org/specs/source-date-epoch
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SOURCE_DATE_EPOCH"
_MOST = (1 << 63) - 1


def latest(given: Mapping[str, str] | None = None) -> int | None:
    """Return the latest time of modification (s since the epoch) of what a layer holds; None when there is no bound.

    ``given``: the arguments of a build, which go before the environment.

    Raises:
        SpecError: the variable is not a number of seconds.
    """
    text = arguments(given or {}).get(VARIABLE, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _MOST:
        raise SpecError(VARIABLE, text, "give seconds since 1970, in decimal digits")
    return int(text)


def arguments(given: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments of a build with the variable among them, where the environment has it and they do not."""
    text = os.environ.get(VARIABLE, "")
    return {**({VARIABLE: text} if text else {}), **given}
