"""What the attacks share: the ways in which a container can be run, canaries on the host, defences left out.

``cage`` is the busybox container of ``boxes`` in one mode after the other. ``canary`` is a place on the host that an
attack must not change or read; it is looked at when the test ends, and put away then, however the test went.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import Box, box, box_engine
from modes import MODES
from once import shared
from registries import bare_environment, certificate, elsewhere, fake, no_thread_is_left, settings
from weakening import COMPILER, Builds

import pylxc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bare_environment", "box", "box_engine", "certificate", "elsewhere", "fake", "no_thread_is_left", "settings"]

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
MANY = 5  # cases of a test, from which on they take turns
WATCHED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


class Cage(Box):
    """The verbs on busybox, with the options of a mode."""

    def __init__(self, engine: pylxc.Engine, mode: str) -> None:
        super().__init__(engine)
        self.mode = mode
        self.options = MODES[mode]

    def run(self, *words: str, **options) -> pylxc.Result:
        return super().run(*words, **{**self.options, **options})

    def start(self, *words: str, **options) -> pylxc.Container:
        return super().start(*words, **{**self.options, **options})

    def create(self, *words: str, **options) -> pylxc.Container:
        return super().create(*words, **{**self.options, **options})

    def popen(self, *words: str, **options) -> pylxc.Process:
        return super().popen(*words, **{**self.options, **options})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test of many cases and several modes, leave each case one mode, in turn: the whole product is ``slow``.

    What a case finds out is the same in every mode, or the test is one of modes; each mode has its share of the cases.
    """
    products: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if "mode" in parameters and item.path.parent == HERE and not item.get_closest_marker("slow"):
            case = item.name.replace(parameters["mode"], "")
            products.setdefault(f"{item.path}::{item.originalname}", {}).setdefault(case, []).append(item)
    for cases in products.values():
        for number, modes in enumerate(cases.values() if len(cases) >= MANY else ()):
            for one in (item for place, item in enumerate(modes) if place != number % len(modes)):
                one.add_marker(pytest.mark.slow)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cage(box: Box, mode: str) -> Cage:
    """The verbs on busybox, in each mode. What a test leaves fails it, as with ``box``."""
    return Cage(box.engine, mode)


class Canary:
    """A directory of the host that everybody may write to, and a secret in it that everybody may read.

    So that nothing but the container's own walls keeps an attack away from it.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.secret = place / "secret"
        self.text = os.urandom(16).hex()
        self._make()
        self._before = self._state()

    def _make(self) -> None:
        self.place.chmod(0o777)
        self.secret.write_text(self.text)
        self.secret.chmod(0o666)

    def _state(self) -> object:
        entries = sorted(str(path) for path in self.place.rglob("*"))
        content = {
            path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for path in (str(self.secret), *WATCHED)
            if os.path.exists(path)
        }
        mounted = Path("/proc/self/mountinfo").read_text().count("\n")
        return entries, content, sorted(os.listdir("/")), mounted

    def is_hurt(self) -> bool:
        """Say whether anything of it has changed: the entries, the content, the host's own files, its mounts."""
        return self._state() != self._before

    def heal(self) -> None:
        """Put it back, after an attack that was let through on purpose."""
        for path in self.place.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._make()
        assert not self.is_hurt()


@pytest.fixture
def canary() -> Iterator[Canary]:
    place = Path(tempfile.mkdtemp(prefix="pylxc-canary-"))  # where everybody may go, unlike tmp_path
    made = Canary(place)
    try:
        yield made
        assert not made.is_hurt()
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds(shared(tmp_path_factory, "weakened"))


@pytest.fixture
def weaken(builds: Builds):
    """``with weaken("RESOLVE"):`` — as if that defence had never been written (csrc/defence.h)."""
    return builds.used


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static programs of ``programs/``, in a directory that can be mounted into a container."""
    place = tmp_path_factory.mktemp("programs")
    place.chmod(0o755)
    for source in PROGRAMS.glob("*.c"):
        subprocess.run([*COMPILER, "-static", "-O1", "-Wall", "-o", place / source.stem, source], check=True)
    return place


@pytest.fixture
def image_of(box: Box, busybox_root: Path, tmp_path: Path):
    """Make an image whose tree a function has changed."""

    def make(change) -> pylxc.Image:
        tree = tmp_path / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["cp", "-a", busybox_root, tree], check=True)
        change(tree)
        return pylxc.Image.from_directory(tree, engine=box.engine)

    return make
