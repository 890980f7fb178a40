"""Plans that lie: what no writer of plans would write."""

from __future__ import annotations

from pylxc.runtime import plan as p


class Encoded(p.Plan):
    """A plan whose bytes are given."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self._subjects = ["it"] * 9

    def encode(self) -> bytes:
        return self.data
