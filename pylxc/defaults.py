"""Which engine is meant where the caller names none.

Hides that the engine imports those who ask this. Invariant: importing this costs nothing; the default engine is opened
when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc.engine import Engine


def engine_of(given: Engine | None) -> Engine:
    """Return the engine that was given, else :meth:`Engine.default`."""
    from pylxc.engine import Engine as EngineClass  # noqa: PLC0415  it imports this module's users

    return given if given is not None else EngineClass.default()
