"""SSH agents that a build may use, by the ids that steps have for them.

Hides the ways to name them. Invariant: each is a socket that is there when the build begins. What a step may ask of one
is for :mod:`pylxc.build.relay` to say.

Source: docker buildx build, "--ssh"; Dockerfile reference, "RUN --mount=type=ssh".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from pylxc.errors import SpecError

AgentSource: TypeAlias = "bool | str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]"
DEFAULT = "default"


class Agents:
    """The sockets of agents by their ids."""

    def __init__(self, given: AgentSource | None = None) -> None:
        """Look the sockets up. Raises SpecError.

        ``given``: True or "default" for the caller's own agent (SSH_AUTH_SOCK), "id=/socket", several of these, or a
        mapping from ids to sockets (None: the caller's own).
        """
        self._sockets = {name: _socket(name, path) for name, path in _pairs(given).items()}

    def get(self, name: str) -> str | None:
        """Return the path of an agent's socket; None where the caller gave none of this id."""
        return self._sockets.get(name)


def _pairs(given: AgentSource | None) -> dict[str, str | None]:
    if given is None or given is False:
        return {}
    if given is True:
        return {DEFAULT: None}
    if isinstance(given, Mapping):
        return {name: None if path is None else os.fspath(path) for name, path in given.items()}
    words = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(word, str) for word in words):
        raise SpecError("ssh", given, 'give "default", "id=/socket", a list of these, or {"id": "/socket"}')
    parts = (word.partition("=") for word in words)
    return {name: path or None for name, _, path in parts}


def _socket(name: str, path: str | None) -> str:
    given = name if path is None else f"{name}={path}"
    if path is None:
        path = os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise SpecError("ssh", given, "SSH_AUTH_SOCK names no agent: start one with ssh-agent, or give its socket")
    path = os.path.abspath(path)  # noqa: PTH100  pathlib does not normalise
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        raise SpecError("ssh", given, f"{path}: {error.strerror}; give the socket of an agent that runs") from error
    if not stat.S_ISSOCK(mode):
        raise SpecError("ssh", given, f"{path} is no socket: load the key into an agent with ssh-add, and give that")
    return path
