"""Leaves one of pylxc's defences out, so that a test can show that its attack is a real one and would be noticed.

A defence in C is left out by building the helper, and the library that starts it, with ``-DPYLXC_WEAKEN_<NAME>`` (see
csrc/defence.h), and letting this process use the two until the block is left. Each build is made once.
A defence in Python is left out by changing the words of the function that it is in (:func:`unwritten`).
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import textwrap
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cffi import FFI
from once import alone

from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

TREE = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CC", "cc").split()


@cache
def helper_flags() -> tuple[str, ...]:
    """Return the flags that setup.py builds the helper with; it cannot be imported, for it builds."""
    for node in ast.parse((TREE / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "HELPER_FLAGS":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError("setup.py has no HELPER_FLAGS")


@cache
def build_ffi() -> ModuleType:
    """Return csrc/build_ffi.py, which knows what the extension is made of."""
    spec = importlib.util.spec_from_file_location("build_ffi", TREE / "csrc/build_ffi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LIBRARY_FLAGS = ("-std=gnu11", "-O1", "-fPIC", "-DPYLXC_HOSTED", "-w")


def sources_of(part: str) -> list[Path]:
    """Return the sources of "helper" or of "library", as setup.py and csrc/build_ffi.py have them."""
    if part == "helper":
        return sorted((TREE / "csrc/helper").glob("*.c"))
    return [TREE / source for source in build_ffi().SOURCES]


@cache
def switches_in(source: Path) -> frozenset[str]:
    """Return the defences that a source can be built without."""
    return frozenset(re.findall(r"\b(?:DEFENCE\(|PYLXC_WEAKEN_)(\w+)", source.read_text()))


class Builds:
    """The builds of one run, by what they leave out; a source that a switch does not touch is compiled once.

    ``place`` may be shared with other processes.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def _object(self, part: str, source: Path, names: tuple[str, ...]) -> Path:
        chosen = [name for name in names if name in switches_in(source)]
        out = self._place / f"{'-'.join((part, source.parent.name, source.stem, *chosen))}.o"
        if not out.exists():
            flags = helper_flags() if part == "helper" else LIBRARY_FLAGS
            switches = [f"-DPYLXC_WEAKEN_{name}" for name in chosen]
            subprocess.run([*COMPILER, *flags, *switches, "-w", "-c", "-o", out, source], check=True)
        return out

    def of(self, part: str, names: tuple[str, ...]) -> Path:
        """Return "helper" or "library" built without these defences."""
        with alone(self._place):
            objects = [self._object(part, source, names) for source in sources_of(part)]
            out = self._place / "-".join((part, *names))
            if not out.exists():
                flags = helper_flags() if part == "helper" else ("-shared",)
                subprocess.run([*COMPILER, *flags, "-o", out, *objects], check=True)
        return out

    @contextmanager
    def used(self, *names: str) -> Iterator[None]:
        """Let this process start everything without these defences."""
        helper, library = (self.of(part, tuple(sorted(names))) for part in ("helper", "library"))
        saved = (native.HELPER_PATH, native._helper_fd, native.ffi, native.lib)
        ffi = FFI()
        ffi.cdef(build_ffi().boundary())
        loaded = ffi.dlopen(str(library))
        native.HELPER_PATH, native._helper_fd = str(helper), -1
        native.ffi, native.lib = ffi, loaded
        try:
            yield
        finally:
            used = native._helper_fd
            native.HELPER_PATH, native._helper_fd, native.ffi, native.lib = saved
            if used >= 0:
                os.close(used)


@contextmanager
def unwritten(function: Callable[..., object], *changes: tuple[str, str]) -> Iterator[None]:
    """Let a function of pylxc's have other words in its source until the block is left: (there, instead).

    So nothing in pylxc can be switched off. What is not in the source, once, fails the test.
    """
    plain = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(plain))
    for there, instead in changes:
        assert source.count(there) == 1, f"{plain.__qualname__} does not say, once: {there}"
        source = source.replace(there, instead)
    names: dict[str, Callable[..., object]] = {}
    made = compile(source, plain.__code__.co_filename, "exec", annotations.compiler_flag, dont_inherit=True)
    exec(made, plain.__globals__, names)  # noqa: S102  pylxc's own words
    code = plain.__code__
    plain.__code__ = inspect.unwrap(names[plain.__name__]).__code__
    try:
        yield
    finally:
        plain.__code__ = code
