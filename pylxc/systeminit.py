"""Knows the inits of operating systems: what they want to be told, and how each is asked to shut its system down.

Hides how one is told from another. Invariant: only the image's layers are looked at, never what a container made of
them: what is found out does not change while it runs.

Source: https://systemd.io/CONTAINER_INTERFACE/, systemd(1) "SIGNALS", telinit(8), busybox's init/init.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.imageconfig import DEFAULT_PATH
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.layerview import LayerView


@frozen
class Shutdown:
    """How a container is asked to end: by a ``signal`` to its main process, or by a ``command`` executed in it."""

    signal: str = "SIGTERM"
    command: tuple[str, ...] = ()


SYSTEMD = Shutdown("SIGRTMIN+3")  # halt.target
BUSYBOX = Shutdown("SIGUSR2")  # power off
SYSVINIT = Shutdown(command=("/sbin/telinit", "0"))  # it has no signal that means this
OTHER = Shutdown()


def shutdown_of(view: LayerView, argv: Sequence[str]) -> Shutdown:
    """Return how the init that ``argv`` starts shuts its system down; SIGTERM for one that is not known."""
    path = _find(view, argv[0])
    name = path.rpartition("/")[2]
    called = argv[0].rpartition("/")[2]
    if name == "systemd":
        return SYSTEMD
    if name.startswith("busybox"):
        applet = argv[1] if called == name and len(argv) > 1 else called
        return BUSYBOX if applet in {"init", "linuxrc"} else OTHER
    if called in {"init", "telinit"} and b"initctl" in (view.read(path) or b""):
        return SYSVINIT
    return OTHER


def _find(view: LayerView, program: str) -> str:
    """Return where a program lies in an image, links followed; "" when it is not there."""
    places = [program] if "/" in program else [f"{place}/{program}" for place in DEFAULT_PATH.split(":")]
    return next((found for place in places if (found := view.resolve(place)) is not None), "")


def environment(id: str) -> dict[str, str]:  # noqa: A002  docker's name
    """Return the variables by which an init learns that it runs in a container, and as which machine.

    ``container_uuid`` becomes systemd's machine id where the image has none: the same whenever this container starts.
    """
    digits = id[:32]
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return {"container": "pylxc", "container_uuid": uuid}
