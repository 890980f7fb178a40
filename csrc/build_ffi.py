"""Builds ``pylxc._native``: the part of csrc/pylxc.h between the cffi marks, over the sources of csrc/lib.

Invariant: the boundary is declared once, in pylxc.h; constants and structures reach Python from there.
"""
# ruff: noqa: INP001  a script of setup.py, no part of a package

import re
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent.resolve()
# Parts of the helper that the extension shares; with PYLXC_HOSTED they are built on libc.
SHARED = ("endpoint.c", "event_log.c", "netfilter.c", "netlink.c", "remove_cgroup.c", "remove_tree.c", "sys.c")
SOURCES = sorted(
    str(path.relative_to(CSRC.parent))
    for path in [*(CSRC / "lib").glob("*.c"), *(CSRC / "helper" / name for name in SHARED)]
)
WARNINGS = [
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wformat=2",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
]


def boundary() -> str:
    """Return the declarations that cffi reads."""
    header = (CSRC / "pylxc.h").read_text()
    match = re.search(r"/\* cffi: begin.*?\*/(.*)/\* cffi: end \*/", header, re.DOTALL)
    if match is None:
        raise SystemExit("csrc/pylxc.h: the cffi marks are missing")
    return match.group(1)


ffi = FFI()
ffi.cdef(boundary())
ffi.set_source(
    "pylxc._native",
    '#include "pylxc.h"',
    sources=SOURCES,
    include_dirs=["csrc"],
    depends=[
        "csrc/pylxc.h",
        "csrc/defence.h",
        "csrc/lib/lib.h",
        "csrc/helper/endpoint.h",
        "csrc/helper/netfilter.h",
        "csrc/helper/netlink.h",
        "csrc/helper/sys.h",
        "csrc/helper/pile.h",
        "csrc/helper/event_log.h",
    ],
    define_macros=[("PYLXC_HOSTED", "1")],
    extra_compile_args=["-O2", "-fvisibility=hidden", *WARNINGS],
    py_limited_api=True,
)
