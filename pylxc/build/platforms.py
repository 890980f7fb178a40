"""Platforms in Dockerfiles: how they may be written, and the arguments that are predefined for them.

Invariant: the build platform is this machine's; the target platform is, too, unless the caller asks for another one.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope"; containerd, platforms.
"""

from __future__ import annotations

import re

from pylxc.platforms import normal, this_platform

_PLATFORM = re.compile(r"[a-z0-9_.-]+(?:/[a-z0-9_.-]+){0,2}")


def platform_args(target: str = "") -> dict[str, str]:
    """Give the predefined platform arguments of the global scope; a stage has to declare those it uses.

    ``target``: what the image is to be for, in normal form; "" for this machine.
    """
    made: dict[str, str] = {}
    for side, name in (("TARGET", target or this_platform()), ("BUILD", this_platform())):
        system, architecture, variant = (*name.split("/"), "")[:3]
        values = {"PLATFORM": name, "OS": system, "ARCH": architecture, "VARIANT": variant}
        made |= {side + key: value for key, value in values.items()}
    return made | {"TARGETSTAGE": "default"}


def normal_platform(text: str) -> str:
    """Give a platform as ``os/architecture[/variant]``; "" for what is none.

    >>> normal_platform("linux/x86_64")
    'linux/amd64'
    """
    return normal(text) if _PLATFORM.fullmatch(text.lower()) else ""
