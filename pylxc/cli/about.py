"""``version`` and ``info``: what this is, and what it runs on."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pylxc.cli.app import Settings

_output = click.option(
    "-f", "--format", "output", type=click.Choice(["text", "json"]), default="text", help="The form."
)


def _print(facts: dict[str, object], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name}: {value}")


def version_text() -> str:
    """Return the one line that names the version."""
    import pylxc  # noqa: PLC0415

    return f"pylxc version {pylxc.__version__}"


@click.command()
@_output
def version(output: str) -> None:
    """Show the version."""
    import pylxc  # noqa: PLC0415

    if output == "text":
        click.echo(version_text())
        _print({"Python": platform.python_version(), "Kernel": os.uname().release}, output)
    else:
        facts = {"Version": pylxc.__version__, "Python": platform.python_version(), "Kernel": os.uname().release}
        click.echo(json.dumps(facts))


def _contains(path: str, word: str) -> bool:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  files of the kernel
            return word in file.read().split()
    except OSError:
        return False


def _cgroups() -> str:
    """Return which cgroup hierarchies are mounted (cgroups(7))."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # noqa: PTH110
        return "v2"
    return "v1 and v2" if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers") else "v1"  # noqa: PTH110


@click.command()
@_output
@click.pass_obj
def info(settings: Settings, /, *, output: str) -> None:
    """Show the store and the system that containers run on."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()
    containers = pylxc.Container.list(all=True, engine=engine)
    running = len(pylxc.Container.list(engine=engine))
    system = os.uname()
    facts: dict[str, object] = {
        "Version": pylxc.__version__,
        "Root": str(engine.root),
        "Containers": len(containers),
        "Running": running,
        "Images": len(pylxc.Image.list(engine=engine)),
        "Storage": "overlay" if _contains("/proc/filesystems", "overlay") else "overlay (not loaded)",
        "Cgroups": _cgroups(),
        "UserNamespaces": os.path.exists("/proc/self/ns/user"),  # noqa: PTH110
        "Rootless": os.geteuid() != 0,
        "Kernel": system.release,
        "Architecture": system.machine,
        "CPUs": os.cpu_count(),
        "Memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    _print(facts, output)


@click.command()
@_output
@click.pass_obj
def doctor(settings: Settings, /, *, output: str) -> int:
    """Say what this host can and cannot do, and the remedy for each lack; status 1 when containers cannot run."""
    import attrs  # noqa: PLC0415  heavy modules are imported where they are used

    import pylxc  # noqa: PLC0415

    found = pylxc.doctor(engine=settings.engine())
    click.echo(json.dumps([attrs.asdict(finding) for finding in found.findings]) if output == "json" else str(found))
    return 0 if found.ok else 1


VERBS = {"version": version, "info": info, "doctor": doctor}
