"""What callers give to a build as text: ``"type=tar,dest=fs.tar"``, one of it or several. Hides that notation."""

from __future__ import annotations

from typing import Any


def several(given: object) -> tuple[Any, ...]:
    """Return one thing, or a list of such things, as a tuple; None is none.

    >>> several("a"), several(["a", "b"]), several(None)
    (('a',), ('a', 'b'), ())
    """
    if given is None:
        return ()
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)


def fields_of(text: str) -> dict[str, str]:
    """Return the fields of a text; a name alone has the value "".

    >>> fields_of("type=tar,dest=a=b")
    {'type': 'tar', 'dest': 'a=b'}
    """
    return dict(field.partition("=")[::2] for field in text.split(","))
