"""Changes an image's configuration by single instructions: what ``commit`` takes beside a container's files.

Hides which instructions change the configuration alone. Invariant: nothing is carried out, and all of it is judged
before anything is done.

Source: https://docs.docker.com/reference/cli/docker/container/commit/#change
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from attrs import evolve

from pylxc.build.dockerfile import parse
from pylxc.build.plan import plan
from pylxc.errors import DockerfileError, SpecError
from pylxc.imageconfig import DEFAULT_PATH, Healthcheck
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.imageconfig import ImageConfig

PLAIN = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
KNOWN = ", ".join(sorted((*PLAIN, "HEALTHCHECK", "ONBUILD")))
OPTION = "changes"
_WORD = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*\S))?\s*")
_FLAG = re.compile(r"--(interval|timeout|start-period|start-interval|retries)=(\S+)\s+")


def reconfigured(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """Return the configuration after these instructions, one in each string.

    Raises SpecError and DockerfileError (its line n is the n-th of them).
    """
    if isinstance(changes, str):
        raise SpecError(OPTION, changes, "give a list of instructions")
    onbuild, health = config.onbuild, config.healthcheck
    lines = ["FROM scratch"]
    for change in changes:
        name, operands = _split(change)
        if name == "ONBUILD":
            onbuild = (*onbuild, operands)
        elif name == "HEALTHCHECK":
            health = _healthcheck(change, operands)
        lines.append(change if name in PLAIN else "# it is judged here")
    changed = _planned(evolve(config, onbuild=()), "\n".join(lines))
    return evolve(changed, onbuild=onbuild, healthcheck=health)


def _split(change: str) -> tuple[str, str]:
    match = _WORD.fullmatch(change)
    if match is None or "\n" in change or change.rstrip().endswith("\\"):
        raise SpecError(OPTION, change, "give one instruction on one line")
    name, operands = match[1].upper(), match[2] or ""
    if name not in KNOWN.split(", "):
        raise SpecError(OPTION, change, f"{name} cannot change a configuration; {KNOWN} can")
    if not operands:
        raise SpecError(OPTION, change, f"{name} needs an operand")
    return name, operands


def _planned(config: ImageConfig, text: str) -> ImageConfig:
    try:
        planned = plan(parse(text, OPTION))
        state = planned.unfold(lambda _stage: config)[-1].state
    except DockerfileError as error:
        line = error.line - 1  # FROM is not the caller's
        raise DockerfileError(
            error.reason, line=line, column=error.column, source=error.source, path=error.path
        ) from error
    env = state.config.env
    if "PATH" not in config.env and env["PATH"] == DEFAULT_PATH:  # which builds set, and commits need not
        env = {name: value for name, value in env.items() if name != "PATH"}
    return evolve(state.config, env=env)


def _healthcheck(change: str, operands: str) -> Healthcheck:
    options: dict[str, float] = {}
    while match := _FLAG.match(operands):
        name, value = match[1].replace("-", "_"), match[2]
        if name == "retries" and not (value.isascii() and value.isdigit()):
            raise SpecError(OPTION, change, "retries is a number")
        options[name] = int(value) if name == "retries" else parse_duration(value, OPTION)
        operands = operands[match.end() :]
    kind, _, command = operands.partition(" ")
    if kind.upper() == "NONE" and not command and not options:
        return Healthcheck(test=("NONE",))
    if kind.upper() != "CMD" or not command.strip():
        raise SpecError(OPTION, change, "give HEALTHCHECK NONE, or HEALTHCHECK [--interval=30s …] CMD command")
    return Healthcheck(test=_test(change, command.strip()), **options)  # type: ignore[arg-type]  # retries is an int


def _test(change: str, command: str) -> tuple[str, ...]:
    if not command.startswith("["):
        return ("CMD-SHELL", command)
    try:
        words = json.loads(command)
    except ValueError:
        return ("CMD-SHELL", command)
    if not words or not all(isinstance(word, str) for word in words):
        raise SpecError(OPTION, change, "every element of the array must be a string")
    return ("CMD", *words)
