"""The command line: a thin skin over the public API.

Hides the translation of words into calls and of values into text. Invariant: nothing here knows more than the public
API offers; a verb's module is imported when the verb is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``pylxc`` and return its exit status. ``arguments`` are those of the process by default."""
    from pylxc.cli.app import invoke  # noqa: PLC0415  importing pylxc.cli must not import click

    return invoke(arguments)
