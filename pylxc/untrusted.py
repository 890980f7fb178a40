"""JSON from strangers.

Hides that Python's parser recurses: at the end of the stack it fails, and so does whatever Python cleans up just then;
and that a value of two bytes, such as ``[]``, takes a hundred in memory. Invariant: what is nested deeper than any
honest document, or has more values, is refused before it is parsed.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 100
MOST = 500_000  # values; those in one document that other limits allow are a tenth of it
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)


def parse_json(data: bytes, errors: str = "") -> Any:
    """Return what these bytes mean. Raises ValueError where they are not JSON, are nested too deep or too many.

    ``errors``: what to do with bytes that are no UTF-8, as :meth:`bytes.decode` has it (default: refuse them).

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    opened = data.count(b"[") + data.count(b"{")
    if opened + data.count(b",") > MOST:
        raise ValueError(f"more than {MOST} values")
    if opened > DEEPEST:
        depth = 0
        for token in _TOKEN.finditer(data):
            first = data[token.start()]
            depth += first in b"[{"
            depth -= first in b"]}"
            if depth > DEEPEST:
                raise ValueError(f"nested too deeply: more than {DEEPEST}")
    return json.loads(data.decode("utf-8", errors) if errors else data)
