"""Platforms by name: ``linux/amd64`` and its other spellings, and the arguments that are predefined for them.

Invariant: builds are for the machine that they run on, so target and build platform are the same.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope"; containerd, platforms.
"""

from __future__ import annotations

import functools
import re

_SYSTEMS = ("linux", "windows", "darwin", "freebsd")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_PLATFORM = re.compile(r"[a-z0-9_.-]+(?:/[a-z0-9_.-]+){0,2}")


@functools.cache
def _machine() -> tuple[str, str]:
    """Return this machine's architecture and variant."""
    import platform  # noqa: PLC0415  costly, and only for builds

    machine = platform.machine()
    if machine in ("armv7l", "armv6l"):
        return "arm", machine[3:5]
    return _ARCHITECTURES.get(machine, machine), ""


def platform_args() -> dict[str, str]:
    """Give the predefined platform arguments of the global scope; a stage has to declare those it uses."""
    architecture, variant = _machine()
    name = "/".join(filter(None, ("linux", architecture, variant)))
    values = {"PLATFORM": name, "OS": "linux", "ARCH": architecture, "VARIANT": variant}
    made = {side + key: value for side in ("TARGET", "BUILD") for key, value in values.items()}
    return made | {"TARGETSTAGE": "default"}


def normal_platform(text: str) -> str:
    """Give a platform as ``os/architecture[/variant]``; "" for what is none.

    >>> normal_platform("linux/x86_64")
    'linux/amd64'
    """
    if not _PLATFORM.fullmatch(text.lower()):
        return ""
    parts = text.lower().split("/")
    if len(parts) == 1:  # an operating system or an architecture alone
        parts = [parts[0], _machine()[0]] if parts[0] in _SYSTEMS else ["linux", parts[0]]
    parts[1] = _ARCHITECTURES.get(parts[1], parts[1])
    usual = {"arm64": "v8", "amd64": "v1", "arm": "v7"}.get(parts[1])
    if len(parts) == 3 and parts[2] == usual:  # noqa: PLR2004  with a variant
        del parts[2]
    return "/".join(parts)
