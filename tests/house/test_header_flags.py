"""Flags of one kind have a bit each: the compiler does not say so where two were added at once."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

HEADER = Path(__file__).parents[2] / "csrc/pylxc.h"


def flags() -> dict[str, dict[str, int]]:
    """Return the values that the header gives names to, by the first words of the names: PYLXC_PLAN and so on."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, value in re.findall(r"^\s*(PYLXC_\w+) = (\d+),?", HEADER.read_text(), re.MULTILINE):
        found["_".join(name.split("_")[:2])][name] = int(value)
    return found


KINDS = {kind: values for kind, values in flags().items() if len(values) > 1 and 0 not in values.values()}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_two_share_a_value(kind):
    values = list(KINDS[kind].values())
    assert len(set(values)) == len(values), KINDS[kind]


def test_the_flags_of_plans_are_among_them():
    assert len(KINDS["PYLXC_PLAN"]) > 10
    assert all(value.bit_count() == 1 for value in KINDS["PYLXC_PLAN"].values())
