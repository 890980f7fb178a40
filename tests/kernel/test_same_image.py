"""The same inputs give the same image on two machines: this one, and one with another kernel, processor and name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import guest
import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.network, pytest.mark.root]

PROGRAM = "tests/build/reproduced.py"
CHECKOUT = Path(__file__).parents[2]
THERE = f"python3 {PROGRAM} $(mktemp -d) there >&3; uname -r >&3"


def test_two_machines_build_the_same_image(tmp_path):
    words = [sys.executable, PROGRAM, str(tmp_path), "here"]
    here = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    answer = guest.run(THERE)
    there, _, kernel = answer.said.partition("\n")
    assert there.split() == here, answer.tail()
    assert len(here) == 2
    assert kernel.strip() != os.uname().release
