"""What a Dockerfile may say and this version of pylxc does not carry out.

Invariant: whatever is read and has no effect yet is refused here, by instruction, line and remedy, before any step
runs; what ``plan`` and ``executor`` learn to do is taken off here, in the same change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build import instructions as ast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.build.instructions import Instruction
    from pylxc.errors import UnsupportedError


def refuse_each(found: Iterable[Instruction]) -> None:
    """Raise the error of the first instruction that is not carried out as it is written."""
    for instruction in found:
        error = _run(instruction) if isinstance(instruction, ast.Run) else None
        if error is not None:
            raise error


def _run(run: ast.Run) -> UnsupportedError | None:
    if run.devices:
        return run.unsupported("RUN --device", "leave it out", run.devices[0].offset)
    return None
