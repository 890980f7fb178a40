"""Builds the C code against libc with the address and undefined-behaviour sanitizers: what their tests share.

A finding ends the process that had it. The helper's findings go to files, since nobody reads its standard error.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from once import alone

CSRC = Path(__file__).parents[1] / "csrc"
FLAGS = ("-std=gnu11", "-g", "-O1", "-DPYLXC_HOSTED", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
OPTIONS = """
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:abort_on_error=0:exitcode=99:log_path=%s/report"; }
const char *__ubsan_default_options(void) { return "halt_on_error=1:log_path=%s/report"; }
"""


def library_sources() -> list[Path]:
    """Return what the extension is built of: csrc/lib, and what it shares with the helper (csrc/build_ffi.py)."""
    found = re.search(r"^SHARED = (\(.*?\))$", (CSRC / "build_ffi.py").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return [*sorted((CSRC / "lib").glob("*.c")), *(CSRC / "helper" / name for name in ast.literal_eval(found[1]))]


def build(program: Path, *sources: Path, kept: Path) -> None:
    """Build a program; warnings are errors. What is in csrc is compiled once, into the shared directory ``kept``."""
    command = ["gcc", *FLAGS, "-Wall", "-Wextra", "-Werror"]
    parts = []
    with alone(kept):
        for source in sources:
            part = source
            if source.is_relative_to(CSRC):
                part = kept / f"{source.parent.name}-{source.stem}.o"
                if not part.exists():
                    subprocess.run([*command, "-c", "-o", part, source], check=True, timeout=300)
            parts.append(part)
    subprocess.run([*command, "-o", program, *parts], check=True, timeout=300)


def build_helper(place: Path, kept: Path) -> None:
    """Build the helper as ``place/helper``; its findings go to ``place/report.PID``."""
    (place / "options.c").write_text(OPTIONS.replace("%s", str(place)))
    build(place / "helper", *sorted((CSRC / "helper").glob("*.c")), place / "options.c", kept=kept)


def reports(place: Path) -> dict[str, str]:
    """Return the helper's findings; there must be none."""
    return {path.name: path.read_text() for path in place.glob("report*")}
