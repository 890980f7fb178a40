"""What is used in a ``with`` block, and left at its end.

Invariant: the block gets the thing itself; it is left once, however the block ends, and an exception goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Scoped:
    """Something that a ``with`` block leaves in the way that its class says."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        raise NotImplementedError
