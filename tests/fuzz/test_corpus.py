"""What the fuzzer found worth keeping, carried out once more under the address and undefined-behaviour sanitizers.

The program, tests/fuzz/tar_fuzz.c, says how to look for more.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sanitizers import CSRC, FLAGS

HERE = Path(__file__).parent
SHARED = ("sys.c", "remove_tree.c", "pax.c", "sparse.c")


@pytest.mark.root  # it goes in and out of a root of its own
def test_corpus(tmp_path: Path) -> None:
    program = tmp_path / "replay"
    helper = CSRC / "helper"
    sources = [
        *(helper / name for name in SHARED),
        *(p for part in ("tar", "unpack", "pack") for p in helper.glob(f"{part}*.c")),
    ]
    subprocess.run(["gcc", *FLAGS, "-DREPLAY", "-o", program, HERE / "tar_fuzz.c", *sources], check=True, timeout=300)
    inputs = sorted((HERE / "corpus").iterdir())
    done = subprocess.run(
        [program, *inputs],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(map(str, inputs))
    assert len(inputs) > 20
