"""A plugin of pytest's, ``-p tests.few_cases``: of a test of many cases it leaves the first and the last.

For tests that are run once more elsewhere, as an ordinary user (tests/rootless) or on another kernel (tests/kernel):
that they come to the same end there shows in those. All cases are gone through where they are at home.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)  # of those that are left when the others have been taken out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what lies between."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    between = {item for found in cases.values() for item in found[1:-1]}
    config.hook.pytest_deselected(items=list(between))
    items[:] = [item for item in items if item not in between]
