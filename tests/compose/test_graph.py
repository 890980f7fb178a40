"""The picture of an application, in each of its forms."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from applications import loaded, shop

from pylxc.compose.export.graph import graph
from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

TREE = """\
t
├── db (localhost/app:latest)
│   └── keeps data at /var/lib/db
└── web_app (localhost/app:latest) x2 :8080 -> 80/tcp
    ├── needs db (healthy)
    ├── on back
    └── keeps data at /data
"""


def test_a_tree(tmp_path: Path) -> None:
    assert graph(shop(tmp_path), "text") == TREE


def test_a_tree_where_there_is_nothing_to_draw_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    model = shop(tmp_path)
    assert graph(model) == TREE
    for form in ("dot", "svg"):
        with pytest.raises(UnsupportedError, match="pip install graphviz"):
            graph(model, form)


def test_a_tree_of_nothing(tmp_path: Path) -> None:
    assert graph(loaded(tmp_path, "services: {}\n"), "text") == "t\n"


@pytest.mark.slow
def test_what_graphviz_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs the package graphviz of PyPI and the program of Debian's package of that name."""
    model = shop(tmp_path)
    dot = graph(model, "dot")
    assert '"service web_app" -> "service db" [label=healthy]' in dot
    assert '"service web_app" -> "networks back"' in dot
    assert '"service db" -> "volumes data"' in dot
    svg = graph(model)
    assert svg == graph(model, "svg")
    assert svg.startswith("<?xml")
    for text in ("web_app (localhost/app:latest) x2", ":8080 -&#45;&gt; 80/tcp", ">healthy<", ">back<", ">data<"):
        assert text in svg or text.replace("-&#45;", "&#45;") in svg, text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert graph(model) == dot
    with pytest.raises(UnsupportedError, match="apt install graphviz"):
        graph(model, "svg")
