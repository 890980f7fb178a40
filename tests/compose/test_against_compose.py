"""What pylxc reads is what docker compose reads: the same application, an error where it has one.

What docker compose says is recorded (``python tests/compose/record_compose.py``): this runs where there is none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from compose_cases import CASES, Case
from compose_results import HERE, HOME, RECORDED, environment, fingerprint, ours, theirs, write

from pylxc.compose.files.loading import load
from pylxc.errors import ComposeError


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}


def read(case: Case) -> dict[str, Any]:
    """Load a case as its words say."""
    given: dict[str, list[str]] = {}
    for option, value in zip(case.words[::2], case.words[1::2], strict=True):
        given.setdefault(option, []).append(value)
    (project,) = given.get("-p", [None])
    directory = given.get("--project-directory")
    model = load(
        [Path(file) for file in given.get("-f", ())],
        project=project,
        profiles=given.get("--profile", ()),
        env_files=[Path(file) for file in given["--env-file"]] if "--env-file" in given else None,
        environment=environment(case),
        working_dir=Path(directory[0]) if directory else None,
    )
    return model.document


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_as_compose(
    case: Case, recorded: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = recorded[case.name]
    assert known["of"] == fingerprint(case), "the case has changed: record it anew"
    place = tmp_path / "app"
    place.mkdir()
    write(case, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", HOME)
    if "error" in known:
        with pytest.raises(ComposeError) as caught:
            read(case)
        if case.wrong is not None:
            error = caught.value
            assert (os.path.relpath(error.file, place), error.line, error.key) == case.wrong, str(error)
        return
    assert case.wrong is None
    found = json.loads(json.dumps(read(case)).replace(str(place), HERE))
    assert ours(found) == theirs(known["document"])


def test_enough_cases() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 200


def test_all_cases_are_recorded(recorded: dict[str, dict[str, Any]]) -> None:
    assert {name: one["of"] for name, one in recorded.items()} == {case.name: fingerprint(case) for case in CASES}
