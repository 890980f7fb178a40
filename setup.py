"""Builds what pyproject.toml cannot say: the cffi extension (abi3) and the static helper program."""

import os
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent.resolve()
HELPER_SOURCES = sorted((HERE / "csrc" / "helper").glob("*.c"))
# No libc and nothing that needs one: see csrc/helper/sys.h.
HELPER_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-tree-loop-distribute-patterns",
    "-fno-asynchronous-unwind-tables",
    "-fno-pie",
    "-static",
    "-nostdlib",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-s",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wmissing-prototypes",
    "-Wstrict-prototypes",
    "-Wformat=2",
    "-no-pie",
]


class BuildNative(build_ext):
    """build_ext that also builds ``pylxc/runtime/pylxc-helper``."""

    def run(self) -> None:
        """Build the extension, then the helper beside it."""
        super().run()
        root = HERE if self.inplace else Path(self.build_lib)
        target = root / "pylxc" / "runtime" / "pylxc-helper"
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run([*compiler, *HELPER_FLAGS, "-o", str(target), *map(str, HELPER_SOURCES)], check=True, cwd=HERE)

    def get_outputs(self) -> list[str]:
        """Return what was built: the helper is installed, and uninstalled, like the rest."""
        return [*super().get_outputs(), str(Path(self.build_lib) / "pylxc" / "runtime" / "pylxc-helper")]


setup(
    cffi_modules=["csrc/build_ffi.py:ffi"],
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
