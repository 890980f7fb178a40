"""What a step's result depends on, apart from what the step stands on: how much of it has to be known, and when.

Invariant: what is cached is found without a look at files that are known as a whole; what cannot be in the cache is
read once, when it is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from pylxc.build.copying import Copying
    from pylxc.build.gathering import Gathered
    from pylxc.build.steps import Step


@frozen
class Inputs:
    """A step, what it copies, and in ``content`` what else it depends on beside its definition."""

    step: Step
    copying: Copying | Gathered | None
    content: str

    @property
    def has_identity(self) -> bool:
        """Say whether what is copied has a name as a whole, that of its layers."""
        return self.copying is not None and self.copying.has_identity

    @property
    def is_to_be_read(self) -> bool:
        """Say whether files have to be read before its identity is known."""
        return self.copying is not None and not self.copying.has_identity

    def outline(self) -> str:
        """Return what is known before a file is read: steps that differ in it differ."""
        return self.content if self.copying is None else self.copying.outline()

    def identity(self) -> str:
        """Return what it is made of: the layers that it is copied from, else what is in it."""
        return self.content if self.copying is None else self.copying.identity()

    def contents(self) -> tuple[str, ...]:
        """Return all that tells what it is: what it is made of, and where that is not it, what is in it."""
        if self.copying is None or not self.copying.has_identity:
            return (self.identity(),)
        return self.identity(), self.copying.content()
