"""Platforms: which of several images runs on a machine.

Hides the names that one architecture has, and which one runs the programs of which other. Invariant: a platform is
written in one form, "system/architecture[/variant]", with the variant left out where it is the usual one.
Source: containerd's platforms package, normalisation and default matching.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

from pylxc.errors import SpecError, UnsupportedError

_MOST_PARTS = 3
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armhf": "arm/v7",
    "armel": "arm/v6",
}
# What uname(2) calls them.
_MACHINES = {"armv6l": "arm/v6", "armv7l": "arm/v7", "armv8l": "arm/v8", "loongarch64": "loong64"}
_USUAL = {"amd64": ("", "v1"), "arm64": ("", "v8", "8"), "386": ("",)}
_SYSTEMS = ("linux", "windows", "darwin", "freebsd")
_NOTHING = "unknown"


def normal(platform: str) -> str:
    """Return the one form of a platform.

    A system alone is that of this machine's architecture.

    >>> normal("linux/aarch64/v8"), normal("linux/arm"), normal("arm64")
    ('linux/arm64', 'linux/arm/v7', 'linux/arm64')
    """
    parts = platform.lower().split("/")
    if len(parts) == 1:
        parts = [parts[0], this_platform().partition("/")[2]] if parts[0] in _SYSTEMS else ["linux", *parts]
    system, architecture, variant = (*parts, "")[:3]
    architecture, _, implied = _ALIASES.get(architecture, architecture).partition("/")
    variant = variant or implied
    if architecture == "arm":
        variant = variant or "v7"
        variant = variant if variant.startswith("v") else f"v{variant}"
    elif variant in _USUAL.get(architecture, ()):
        variant = ""
    return "/".join(part for part in (system, architecture, variant) if part)


def this_platform() -> str:
    """Return the platform whose programs this machine runs, for example ``"linux/amd64"``."""
    machine = os.uname().machine
    return normal(f"linux/{_MACHINES.get(machine, machine)}")


def given(text: str) -> str:
    """Return the platform that a user asks for. Raises SpecError."""
    parts = text.split("/") if isinstance(text, str) else []
    if not 1 <= len(parts) <= _MOST_PARTS or not all(map(_WORD.fullmatch, parts)):
        raise SpecError("platform", text, 'give "system/architecture" or with a variant, such as "linux/arm/v7"')
    return normal(text)


def of_json(values: Any) -> str:
    """Return the platform that a descriptor names, "" where it names none."""
    if not isinstance(values, dict):
        return ""
    parts = [values.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts) or not parts[1]:
        return ""
    return normal("/".join(part for part in (parts[0] or "linux", *parts[1:]) if part))


def is_unknown(platform: str) -> bool:
    """Say whether it is the platform that attestations have."""
    return platform.partition("/")[0] == _NOTHING


def runnable(platform: str) -> tuple[str, ...]:
    """Return the platforms whose programs run on this one, the best first.

    >>> runnable("linux/arm64")
    ('linux/arm64', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5')
    """
    system, architecture, variant = (*normal(platform).split("/"), "")[:3]
    found = [architecture + rest for rest in _down(architecture, variant)]
    if architecture == "amd64":
        found.append("386")
    elif architecture == "arm64":
        found += [f"arm/v{number}" for number in range(8, 4, -1)]
    return tuple(f"{system}/{one}" for one in found)


def _down(architecture: str, variant: str) -> list[str]:
    """Return a variant and those that it includes, as they are written behind the architecture."""
    lowest = {"arm": 5, "arm64": 9, "amd64": 2}.get(architecture)
    number = variant.removeprefix("v")
    if lowest is None or not number.isdigit() or len(number) > 1:
        return [f"/{variant}" if variant else ""] + ([""] if variant and architecture in _USUAL else [])
    found = [f"/v{one}" for one in range(int(number), lowest - 1, -1)]
    return found + ([""] if architecture in _USUAL else [])


class Wanted:
    """The platforms that would do, the best first; ``is_asked``: the user named one ("" = this machine's)."""

    def __init__(self, platform: str = "") -> None:
        self.is_asked = bool(platform)
        self.ranks = runnable(given(platform) if platform else this_platform())

    def rank(self, platform: str) -> int | None:
        """Return how well a platform does, the lower the better; None for not at all."""
        return self.ranks.index(platform) if platform in self.ranks else None

    def refusal(self, name: str, offered: Sequence[str]) -> UnsupportedError:
        """Return the error for a name that has images for these platforms only."""
        there = ", ".join(sorted({one or "unknown" for one in offered})) or "none"
        return UnsupportedError(f"{name}: no image for {self.ranks[0]}", f"give a platform that is there: {there}")
