"""What a Dockerfile may say and this version of pylxc does not carry out.

Invariant: whatever is read and has no effect yet is refused here, by instruction, line and remedy, before any step
runs; what ``plan`` and ``executor`` learn to do is taken off here, in the same change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build import instructions as ast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.build.instructions import Dockerfile, Instruction
    from pylxc.errors import UnsupportedError


def refuse(dockerfile: Dockerfile) -> None:
    """Raise :class:`UnsupportedError` for the first thing in the file that is not carried out."""
    for stage in dockerfile.stages[1:]:
        raise stage.base.unsupported("multi-stage builds", "build each stage as an image of its own")
    refuse_each(dockerfile.stages[0].instructions)


def refuse_each(found: Iterable[Instruction]) -> None:
    """Raise the error of the first instruction that is not carried out as it is written."""
    for instruction in found:
        if isinstance(instruction, ast.Run):
            error = _run(instruction)
        elif isinstance(instruction, ast.Copy):
            error = _copy(instruction)
        else:
            error = None
        if error is not None:
            raise error


def _run(run: ast.Run) -> UnsupportedError | None:
    if run.mounts:
        return run.unsupported("RUN --mount", "COPY what the command needs", run.mounts[0].offset)
    if run.devices:
        return run.unsupported("RUN --device", "leave it out", run.devices[0].offset)
    if run.security != "sandbox":
        return run.unsupported("RUN --security", "leave it out", run.flags["security"][0].offset)
    heredocs = run.command.heredocs
    if len(heredocs) == 1 and heredocs[0].text.startswith("#!") and run.command.argv[0].startswith("<<"):
        remedy = "name the program before the mark, as in: RUN python3 <<EOF"
        return run.unsupported("RUN of a here-document with a '#!' line", remedy, heredocs[0].mark.offset)
    return None


def _copy(copy: ast.Copy) -> UnsupportedError | None:
    if copy.source_stage is not None:
        remedy = "build the other image first and copy its files into the context"
        return copy.unsupported("COPY --from", remedy, copy.source_stage.offset)
    return None
