"""Packing and unpacking undo each other, for trees that nobody thought of: made by chance, from a seed.

A tree holds every kind of entry, with any mode, owner, time and attributes; as a layer also whiteouts and opaque marks.
"""

from __future__ import annotations

import os
import random
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from archives import PACK_LAYER, PACK_SETTLE
from trees import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import TarTool

ENTRIES = 120
OPAQUE = "user.overlay.opaque"
IDS = (0, 1, 1000, 65534, 2**21 - 1, 2**21, 2**31, 2**32 - 2)
# What ext4 can keep, and forms of: the epoch, before it, eleven octal digits and beyond, without and with a fraction.
TIMES = (
    0,
    10**9,
    10**18 + 1,
    -1,
    -(2**31) * 10**9,
    -1_500_000_001,
    (2**33 - 1) * 10**9,
    2**33 * 10**9 + 5,
    999_999_999,
)
ALPHABET = "ab-_. \n\u00fc\udcff=%~Z0"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


class Maker:
    """Makes one tree below ``root``, the same one for the same seed."""

    def __init__(self, root: Path, seed: int, *, layer: bool) -> None:
        self.chance = random.Random(seed)
        self.root = os.fspath(root)
        self.layer = layer
        self.directories = [""]
        self.files: list[str] = []
        self.kinds = [self.directory, self.file, self.file, self.link, self.hard_link, self.node, self.sparse]
        if layer:
            self.kinds += [self.whiteout, self.opaque]

    def make(self) -> None:
        made = [path for _ in range(ENTRIES) if (path := self.chance.choice(self.kinds)(self._new_path()))]
        for path in made:
            self._adorn(path)
        for path in ["", *reversed(made)]:  # a directory after what is in it
            os.utime(self.root + path, ns=(0, self.chance.choice(TIMES)), follow_symlinks=False)

    def _new_path(self) -> str:
        while True:
            n = self.chance.choice((1, 2, 3, 8, 60, 101))
            name = "".join(self.chance.choices(ALPHABET, k=n))
            path = f"{self.chance.choice(self.directories)}/{name}"
            if name not in (".", "..") and not os.path.lexists(self.root + path):
                return path

    def directory(self, path: str) -> str:
        os.mkdir(self.root + path)
        self.directories.append(path)
        return path

    def file(self, path: str) -> str:
        with open(self.root + path, "wb") as out:
            out.write(self.chance.randbytes(self.chance.choice((0, 1, 511, 512, 513, 5000))))
        self.files.append(path)
        return path

    def sparse(self, path: str) -> str:
        with open(self.root + path, "wb") as out:
            out.seek(self.chance.randrange(1 << 16))
            out.write(b"data")
            out.truncate(1 << 16)
        return path

    def link(self, path: str) -> str:
        os.symlink(
            "".join(self.chance.choices(ALPHABET + "/", k=self.chance.choice((1, 20, 100, 101, 300)))), self.root + path
        )
        return path

    def hard_link(self, path: str) -> str:
        if self.files:
            os.link(self.root + self.chance.choice(self.files), self.root + path)
        return ""

    def node(self, path: str) -> str:
        kind = self.chance.choice((stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK))
        number = (
            0 if kind == stat.S_IFIFO else os.makedev(self.chance.randrange(1, 4096), self.chance.randrange(1 << 20))
        )
        os.mknod(self.root + path, kind | 0o600, number)
        return path

    def whiteout(self, path: str) -> str:
        os.mknod(self.root + path, stat.S_IFCHR)
        return ""

    def opaque(self, _path: str) -> str:
        os.setxattr(self.root + self.chance.choice(self.directories), OPAQUE, b"y")
        return ""

    def _adorn(self, path: str) -> None:
        full = self.root + path
        os.chown(full, self.chance.choice(IDS), self.chance.choice(IDS), follow_symlinks=False)
        if os.path.islink(full):
            return
        mode = os.lstat(full).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            for _ in range(self.chance.choice((0, 0, 1, 3))):
                name = "user." + "".join(self.chance.choices("ab=%. \n\u00fc", k=self.chance.choice((1, 9, 40))))
                os.setxattr(full, name, self.chance.randbytes(self.chance.choice((0, 1, 100))))
        if stat.S_ISREG(mode) and self.chance.random() < 0.2:
            os.setxattr(full, "security.capability", CAPABILITY)
        os.chmod(full, self.chance.choice((0o644, 0o4755, 0o2750, 0o1777, 0o000, 0o7777)))


def marks_as_they_come_back(tree: Path) -> None:
    """A whiteout has neither owner nor time of its own in a stream."""
    for directory, _, names in os.walk(os.fspath(tree)):
        for name in names:
            path = f"{directory}/{name}"
            found = os.lstat(path)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                os.utime(path, ns=(0, 0))


@pytest.fixture(params=range(4))
def seed(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=[0, PACK_LAYER], ids=["plain", "layer"])
def flags(request: pytest.FixtureRequest) -> int:
    """Those of packing and of unpacking: UNPACK_LAYER is the same number."""
    return request.param


@pytest.fixture
def tree(tar_tool: TarTool, tmp_path: Path, seed: int, flags: int) -> Iterator[Path]:
    root = tmp_path / "tree"
    root.mkdir()
    Maker(root, seed, layer=flags == PACK_LAYER).make()
    yield root
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True, timeout=60)


def test_unpacking_undoes_packing(tar_tool: TarTool, tree: Path, tmp_path: Path, flags: int) -> None:
    data = tar_tool.pack(tree, flags)
    again = tmp_path / "again"
    again.mkdir()
    tar_tool.unpack(data, again, flags)
    assert tar_tool.pack(again, flags) == data
    for each in (tree, again):
        marks_as_they_come_back(each)
    found, expected = snapshot(again), snapshot(tree)
    assert {name: entry for name, entry in found.items() if entry != expected.get(name)} == {}
    assert found.keys() == expected.keys()


def test_a_mirror_is_what_unpacking_makes(tar_tool: TarTool, tree: Path, tmp_path: Path, flags: int) -> None:
    mirror, again = tmp_path / "mirror", tmp_path / "again"
    mirror.mkdir()
    again.mkdir()
    data = tar_tool.mirror(tree, flags, mirror)
    assert data == tar_tool.pack(tree, flags)
    tar_tool.unpack(data, again, flags)
    for each in (mirror, again):
        marks_as_they_come_back(each)
    assert snapshot(mirror) == snapshot(again)


def test_times_are_settled_in_the_tree_too(tar_tool: TarTool, tree: Path, flags: int) -> None:
    before = snapshot(tree)
    latest = 10**9
    data = tar_tool.pack(tree, PACK_SETTLE | flags, latest=latest)
    assert tar_tool.pack(tree, flags) == data
    after = snapshot(tree)
    whiteouts = {name for name, entry in before.items() if entry[0] == "0o20000" and entry[4] == 0}
    assert before.keys() == after.keys()
    for name in before.keys() - whiteouts:
        assert after[name][3] == min(before[name][3], latest * 10**9)
        assert (*after[name][:3], *after[name][4:]) == (*before[name][:3], *before[name][4:])
    assert {name: after[name] for name in whiteouts} == {name: before[name] for name in whiteouts}
