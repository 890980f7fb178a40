"""Every defence that can be left out is left out by some test: none is there that no attack would miss."""

from __future__ import annotations

import re
from pathlib import Path

from weakening import TREE, switches_in


def test_each_is_shown_to_bite():
    sources = [*(TREE / "csrc").glob("*/*.c"), *(TREE / "csrc").glob("*/*.h")]
    defences = set().union(*(switches_in(source) for source in sources))
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_class_*.py"))
    assert len(defences) > 15
    assert {name for name in defences if not re.search(rf'"{name}"', tests)} == set()
