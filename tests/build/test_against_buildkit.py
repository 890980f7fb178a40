"""What pylxc builds is what BuildKit builds: the same tree, the same configuration, the same history.

What BuildKit made is recorded (``python tests/build/record_buildkit.py``), so that this runs where there is none.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from buildkit_cases import BASES, CASES, STAGES, Case
from buildkit_results import RECORDED, changes, document, fingerprint, merged, told, without_stubs, write_context

import pylxc

if TYPE_CHECKING:
    from pathlib import Path


class Bench:
    """Builds cases with pylxc, in one store that has the bases."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._engine = pylxc.Engine(place / "store")
        self._contexts = 0
        for name, text in BASES.items():
            self.build(Case(name, text), name)
        self.base = self._tree(pylxc.Image.get("base", engine=self._engine))

    def build(self, case: Case, *tags: str) -> pylxc.Image:
        self._contexts += 1
        context = self._place / f"context{self._contexts}"
        context.mkdir()
        write_context(context, case.files)
        (context / "Dockerfile").write_bytes(case.text if isinstance(case.text, bytes) else case.text.encode())
        return pylxc.Image.build(context, args=case.args, tag=tags, engine=self._engine)

    def made(self, case: Case) -> dict[str, Any]:
        image = self.build(case)
        algorithm, digest = image.id.split(":")
        data = (self._engine.root / "oci/blobs" / algorithm / digest).read_bytes()
        return {"tree": changes(self._tree(image), self.base), **document(data)}

    @staticmethod
    def _tree(image: pylxc.Image) -> dict[str, list[Any]]:
        with ExitStack() as stack:
            return without_stubs(merged(stack.enter_context(layer.tar()) for layer in image.layers))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}


@pytest.mark.parametrize("case", [*CASES, *STAGES], ids=lambda case: case.name)
def test_the_same_as_buildkit(bench: Bench, recorded: dict[str, dict[str, Any]], case: Case) -> None:
    theirs = dict(recorded[case.name])
    assert theirs.pop("of") == fingerprint(case), "the case has changed: record it anew"
    del theirs["name"]
    if "error" in theirs:
        with pytest.raises(pylxc.PylxcError) as caught:
            bench.build(case)
        assert isinstance(caught.value, (pylxc.BuildError, pylxc.DockerfileError)), theirs["error"]
        return
    ours = bench.made(case)
    for one in (ours, theirs):
        one["history"] = [[told(words), *rest] for words, *rest in one["history"]]
    for part in ("tree", "config", "author", "platform", "history", "layers"):
        assert ours[part] == theirs[part], part


def test_enough_cases() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 80


def test_all_cases_are_recorded(recorded: dict[str, dict[str, Any]]) -> None:
    assert {name: one["of"] for name, one in recorded.items()} == {
        case.name: fingerprint(case) for case in (*CASES, *STAGES)
    }
