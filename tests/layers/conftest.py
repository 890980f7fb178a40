"""Builds the driver of csrc/helper's tar code, with the address and undefined-behaviour sanitizers.

Invariant: every call of the driver either succeeds in silence or gives one (errno, subject); a sanitizer's report, a
crash or any other output fails the test. It always runs with few descriptors: no depth of a tree needs more.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from attrs import frozen
from trees import TarError

ROOT = Path(__file__).resolve().parents[2]
HELPER = ROOT / "csrc" / "helper"
TAR_SOURCES = [
    *(HELPER / name for name in ("sys.c", "remove_tree.c", "pax.c", "sparse.c")),
    *sorted(source for part in ("tar", "unpack", "pack") for source in HELPER.glob(f"{part}*.c")),
]
TIMEOUT = 120  # s
DESCRIPTORS = 16


@frozen
class TarTool:
    """The driver. All methods raise :class:`TarError`."""

    program: Path
    inside: tuple[str, ...] = ()  # what starts it, for example in a user namespace

    def unpack(self, data: bytes, root: Path, flags: int = 0, *, limit: int = 0, destination: str = "/") -> None:
        self._call("unpack", str(root), str(flags), str(limit), destination, stdin=data)

    def pack(self, root: Path, flags: int = 0, *, latest: int = 0) -> bytes:
        return self._call("pack", str(root), str(flags), str(latest))

    def mirror(self, root: Path, flags: int, destination: Path) -> bytes:
        return self._call("mirror", str(root), str(flags), str(destination))

    def _call(self, *arguments: str, stdin: bytes = b"") -> bytes:
        # A chroot has no /proc, which the leak detector needs; all memory is mapped by hand anyway.
        done = subprocess.run(
            ["prlimit", f"--nofile={DESCRIPTORS}", *self.inside, self.program, *arguments],
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"},
        )
        if done.returncode == 0:
            assert done.stderr == b""
            return done.stdout
        assert done.returncode == 1, done.stderr.decode(errors="replace")
        number, tab, subject = done.stderr.decode("utf-8", "surrogateescape").rstrip("\n").partition("\t")
        assert tab, f"not an answer: {number}"
        raise TarError(int(number), subject)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The driver needs chroot and chown: what uses it is for the machine's root."""
    for item in items:
        if "tar_tool" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def tar_tool(tmp_path_factory: pytest.TempPathFactory) -> TarTool:
    program = tmp_path_factory.mktemp("tar") / "tar_main"
    command = ["gcc", "-std=gnu11", "-g", "-O1", "-DPYLXC_HOSTED", "-fsanitize=address,undefined"]
    command += ["-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror", "-o", str(program)]
    sources = [*TAR_SOURCES, ROOT / "tests" / "c" / "tar_main.c"]
    subprocess.run([*command, *map(str, sources)], check=True, timeout=TIMEOUT)
    return TarTool(program)
