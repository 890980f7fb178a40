"""What an application comes to, in a form that pylxc and docker compose can be compared by.

Where the two differ on purpose, or by what docker compose's JSON leaves out, is all here, in :func:`theirs`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compose_cases import Case

RECORDED = Path(__file__).parent / "recorded" / "compose.jsonl"
HOME = "/home/somebody"
HERE = "/here"  # the directory of a case, in what is recorded
PATIENCE = 30  # seconds
MEMORY = 4 << 20  # KiB of addresses; Go reserves many more than it uses


def environment(case: Case) -> dict[str, str]:
    """Return the environment that a case is read in."""
    return {"PATH": "/usr/bin:/bin", "HOME": HOME, **case.env}


def write(case: Case, place: Path) -> None:
    """Write the files of a case to an existing directory."""
    for name, text in case.files.items():
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, newline="")


def fingerprint(case: Case) -> str:
    """Return a digest of all that a case is made of, so that a stale recording shows."""
    parts = (case.files, case.words, case.env)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def reference(program: str, case: Case, place: Path) -> tuple[str, dict[str, Any] | None]:
    """Return what docker compose says: an error, or the application."""
    write(case, place)
    limited = ["bash", "-c", f'ulimit -v {MEMORY}; exec "$@"', "bash", program]
    done = subprocess.run(
        [*limited, *case.words, "config", "--format", "json"],
        cwd=place,
        env=environment(case),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1].replace(os.fspath(place), HERE), None
    return "", json.loads(done.stdout.replace(os.fspath(place), HERE))


def theirs(document: dict[str, Any]) -> dict[str, Any]:
    """Return an application as docker compose prints it, in the form of pylxc's model.

    - It writes "$" as "$$", to be read again.
    - It prints the fields of ``blkio_config`` with capitals, and ``exec`` for every watch.
    - Whether it prints an empty section for a volume depends on how many files there are.
    """
    found = _unescaped(document)
    for service in found["services"].values():
        for limits in (service.get("blkio_config") or {}).values():
            if isinstance(limits, list):
                limits[:] = [{key.lower(): value for key, value in one.items()} for one in limits]
        _without_empty_sections(service)
        for watch in (service.get("develop") or {}).get("watch", ()):
            if watch["exec"] == {"command": None}:
                del watch["exec"]
    return found


def ours(document: dict[str, Any]) -> dict[str, Any]:
    """Return a model without what docker compose's JSON leaves out, though its YAML has it.

    Those are ``models`` at the top, the ``options`` of ``ipam``, and the ``x-`` keys below the top.
    """
    top = {key: value for key, value in document.items() if key.startswith("x-")}
    found = _without_extensions({key: value for key, value in document.items() if key not in top and key != "models"})
    for network in found.get("networks", {}).values():
        network["ipam"].pop("options", None)
    for service in found["services"].values():
        _without_empty_sections(service)
    return {**found, **top}


def _without_empty_sections(service: dict[str, Any]) -> None:
    for mount in service.get("volumes", ()):
        if mount.get("volume") == {}:
            del mount["volume"]


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_unescaped(key): _unescaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unescaped(one) for one in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def _without_extensions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_extensions(one) for key, one in value.items() if not key.startswith("x-")}
    return [_without_extensions(one) for one in value] if isinstance(value, list) else value
