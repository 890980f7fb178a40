"""What a command came to.

Invariant: a :class:`Result` is complete and final; nothing in it is asked of the kernel later.
"""

from __future__ import annotations

from attrs import field, frozen

_SHOWN = 80


def _shorten(data: bytes) -> str:
    return repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... ({len(data)} bytes)"


@frozen
class Result:
    r"""How a command ended, and what it wrote.

    - ``exit_code``: its status, 0 to 255; 128 + n where signal n ended it, as a shell counts.
    - ``signal``: the number of the signal that ended it, else None.
    - ``stdout``, ``stderr``: bytes as written; empty where they were not captured.
    - ``duration``: seconds from start to end.
    - ``oom_killed``: whether the kernel ended it for want of memory.

    Example::

        result = pylxc.run("host", ["uname", "-s"])
        assert result.ok and result.text == "Linux\n"
    """

    exit_code: int
    signal: int | None = None
    stdout: bytes = field(default=b"", repr=_shorten)
    stderr: bytes = field(default=b"", repr=_shorten)
    duration: float = 0.0
    oom_killed: bool = False

    @property
    def text(self) -> str:
        """``stdout`` as UTF-8: bytes that are none become U+FFFD, and line ends stay as they are."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the command ended with status 0."""
        return self.exit_code == 0
