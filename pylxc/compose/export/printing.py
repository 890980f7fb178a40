"""A model as text: a file that means the same when it is read.

Invariant: a ``$`` of the model is written as ``$$``, so that reading does not take it for the beginning of a variable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document as ``docker compose config --format json`` prints it."""
    import json  # noqa: PLC0415  only here

    return json.dumps(_escaped(document), indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: Mapping[str, Any]) -> str:
    """Return a document as YAML, its keys in their order."""
    import yaml  # noqa: PLC0415  only here

    return str(yaml.safe_dump(_escaped(document), sort_keys=False, allow_unicode=True))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value
