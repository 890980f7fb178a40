"""The secrets that a caller gives to a build.

Hides where they come from. Invariant: a value is in memory only, and leaves this module by :meth:`Secrets.get` alone:
no error, no text form and no key has it, and not what the caller gave in place of it either, which may be the secret
itself, by mistake.

Source: Dockerfile reference, "RUN --mount=type=secret".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from typing import Any

SecretSource: TypeAlias = "bytes | str | os.PathLike[str]"
LARGEST = 500 << 10  # bytes, as in BuildKit
_VARIABLE = "env:"
_FORMS = 'give its content as bytes, the path of a file, or "env:NAME"'


class Secrets:
    """Secrets by their ids, read once, when the build begins: what is given may be a pipe."""

    def __init__(self, given: Mapping[str, SecretSource] | None = None) -> None:
        """Read the secrets. Raises SpecError, which names the id."""
        if given is not None and not isinstance(given, Mapping):
            raise SpecError("secrets", type(given).__name__, 'give {"id": content}')
        self._values = {_checked(name): _read(name, source) for name, source in (given or {}).items()}

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self._values))})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("secrets are not to be copied")

    def get(self, name: str) -> bytes | None:
        """Return the content of a secret; None where the caller gave none of this id."""
        return self._values.get(name)


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise SpecError("secrets", name, "the id of a secret is a string, such as --mount=type=secret,id=... names")
    return name


def _read(name: str, source: object) -> bytes:
    if isinstance(source, (bytes, bytearray)):
        value = bytes(source)
    elif isinstance(source, str) and source.startswith(_VARIABLE):
        value = _variable(name, source[len(_VARIABLE) :])
    elif isinstance(source, (str, os.PathLike)):
        value = _file(name, source)
    else:
        raise SpecError("secrets", name, f"it is neither content nor a path ({type(source).__name__}); {_FORMS}")
    if len(value) > LARGEST:
        raise SpecError("secrets", name, f"it is larger than {LARGEST} bytes; give large files with a bind mount")
    return value


def _variable(name: str, variable: str) -> bytes:
    value = os.environb.get(os.fsencode(variable))
    if value is None:
        raise SpecError("secrets", name, f"the environment has no variable of the name given; {_FORMS}")
    return value


def _file(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  it may be a descriptor's path
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else "it holds a NUL byte"
        # The path is not shown, nor chained: it may be the secret, given as a string.
        raise SpecError("secrets", name, f"its file cannot be read ({reason}); {_FORMS}") from None
