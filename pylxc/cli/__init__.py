"""The command line: a thin skin over the public API.

Hides the translation of words into calls and of values into text. Invariant: nothing here knows more than the public
API offers; a verb's module is imported when the verb is used.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_OBJECTS = 50_000  # more than a command makes before it works: what is imported stays


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``pylxc`` and return its exit status. ``arguments`` are those of the process by default."""
    from pylxc.cli.app import invoke  # noqa: PLC0415  importing pylxc.cli must not import click

    return invoke(arguments)


def command() -> int:
    """Be the process ``pylxc``: run the command, and do not search what it has imported for garbage on the way.

    The collector finds none there, and takes a fifth of the time of a short command: most of it at the very end, when
    the interpreter goes through all objects twice more. Those that are frozen it passes over (gc.freeze).
    """
    gc.set_threshold(_OBJECTS)
    try:
        return main()
    finally:
        gc.freeze()
