"""Records what BuildKit makes of the cases, for the tests that run where there is none.

``python tests/build/record_buildkit.py`` writes tests/build/recorded/buildkit.jsonl anew. It needs a dockerd that
DOCKER_HOST names, and Debian's own client; a base image that is there already under a name of ours is replaced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from buildkit_cases import BASES, CASES, STAGES, Case
from buildkit_results import RECORDED, changes, document, fingerprint, merged, without_stubs, write_context

CLIENT = "/usr/bin/docker"
PATIENCE = 120


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
    return subprocess.run(
        [CLIENT, *words], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


class Recorder:
    """Builds cases with BuildKit. ``trees`` are those of the bases, by name."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.trees: dict[str, dict[str, list[Any]]] = {"scratch": {}}

    def bases(self) -> None:
        for name, text in BASES.items():
            failure, found = self.build(Case(name, text), name)
            if found is None:
                raise SystemExit(f"the base {name} does not build: {failure}")
            self.trees[name] = found["tree"]

    def build(self, case: Case, tag: str) -> tuple[str, dict[str, Any] | None]:
        with tempfile.TemporaryDirectory(dir=self._scratch) as place:
            context = Path(place) / "context"
            context.mkdir()
            write_context(context, case.files)
            text = case.text if isinstance(case.text, bytes) else case.text.encode()
            (context / "Dockerfile").write_bytes(text)
            args = [f"--build-arg={name}={value}" for name, value in case.args.items()]
            done = docker("build", "--network=none", *args, "-t", tag, str(context))
            if done.returncode:
                return done.stderr.strip().splitlines()[-1], None
            return "", self._saved(tag, Path(place))

    @staticmethod
    def _saved(tag: str, place: Path) -> dict[str, Any]:
        done = docker("save", tag, "-o", str(place / "image.tar"))
        done.check_returncode()
        with tarfile.open(place / "image.tar") as archive:
            (manifest,) = json.load(archive.extractfile("manifest.json"))
            config = archive.extractfile(manifest["Config"]).read()
            tree = merged(archive.extractfile(name) for name in manifest["Layers"])
        return {"tree": without_stubs(tree), **document(config)}

    def record(self, case: Case) -> dict[str, Any]:
        failure, found = self.build(case, "pylxc-recorded")
        head = {"name": case.name, "of": fingerprint(case)}
        if found is None:
            return {**head, "error": failure}
        return {**head, **found, "tree": changes(found["tree"], self.trees["base"])}


def record(wanted: set[str]) -> None:
    kept = {}
    if wanted:
        kept = {one["name"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}
    with tempfile.TemporaryDirectory() as scratch:
        recorder = Recorder(Path(scratch))
        recorder.bases()
        for case in (*CASES, *STAGES):
            if not wanted or case.name in wanted or case.name not in kept:
                kept[case.name] = recorder.record(case)
                sys.stderr.write(f"{case.name}: {kept[case.name].get('error', 'built')}\n")
    lines = [json.dumps(kept[case.name], ensure_ascii=False, sort_keys=True) for case in (*CASES, *STAGES)]
    RECORDED.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    record(set(sys.argv[1:]))
