"""What containers use and may use: ``stats top update pause unpause``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import each
from pylxc.cli.containers import find
from pylxc.cli.tables import SHORT_ID, format_option, print_rows
from pylxc.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pylxc
    from pylxc.cli.app import Settings

_names = click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
SAMPLE = 0.2  # s over which the share of a processor is measured


def _apply(settings: Settings, names: Sequence[str], change: Callable[[pylxc.Container], None]) -> int:
    engine = settings.engine()

    def action(name: str) -> str:
        change(find(name, engine))
        return name

    return each(names, action)


@click.command()
@_names
@click.pass_obj
def pause(settings: Settings, /, *, names: tuple[str, ...]) -> int:
    """Stop everything in containers where it is."""
    return _apply(settings, names, lambda container: container.pause())


@click.command()
@_names
@click.pass_obj
def unpause(settings: Settings, /, *, names: tuple[str, ...]) -> int:
    """Let paused containers go on."""
    return _apply(settings, names, lambda container: container.unpause())


# Flag, option of Container.update, type, help: also flags of run.
LIMITS: tuple[tuple[tuple[str, ...], str, dict[str, Any], str], ...] = (
    (("-m", "--memory"), "memory", {}, "Limit its memory: 512m."),
    (("--memory-swap",), "memory_swap", {}, "Limit the sum of memory and swap; -1 = no limit."),
    (("--cpus",), "cpus", {"type": float}, "Limit its processors: 1.5."),
    (("-c", "--cpu-shares"), "cpu_shares", {"type": int}, "Its share of contended processors (2 to 262144)."),
    (("--cpuset-cpus",), "cpuset", {}, "The processors that it may use: 0-3,5."),
    (("--pids-limit",), "pids_limit", {"type": int}, "Limit its processes."),
    (("--blkio-weight",), "io_weight", {"type": int}, "Its share of contended disks (10 to 1000)."),
)


def _limits(command: Any) -> Any:
    for flags, option, settings, text in reversed(LIMITS):
        command = click.option(*flags, option, help=text, **settings)(command)
    return command


@click.command()
@_limits
@_names
@click.pass_obj
def update(settings: Settings, /, *, names: tuple[str, ...], **limits: Any) -> int:
    """Change limits of containers."""
    chosen = {option: value for option, value in limits.items() if value is not None}
    if not chosen:
        raise click.UsageError("give at least one limit to change")
    return _apply(settings, names, lambda container: container.update(**chosen))


@click.command()
@click.option("--no-stream", is_flag=True, help="Only once.")
@format_option
@click.argument("names", metavar="[CONTAINER...]", nargs=-1)
@click.pass_obj
def stats(settings: Settings, /, *, no_stream: bool, output: str, names: tuple[str, ...]) -> int:
    """Show what containers use (without names: all that run), once a second."""
    import pylxc  # noqa: PLC0415

    engine = settings.engine()
    while True:
        found = [find(name, engine) for name in names] or pylxc.Container.list(engine=engine)
        print_rows(_rows(found), _HEADERS, output)
        if no_stream or not found:
            return 0
        time.sleep(1 - SAMPLE)


_HEADERS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


def _rows(containers: Sequence[pylxc.Container]) -> list[dict[str, str]]:
    from pylxc.errors import Conflict  # noqa: PLC0415

    before = {}
    for container in containers:
        try:
            before[container] = container.stats()
        except Conflict:  # noqa: PERF203  it has ended meanwhile: nothing is used
            continue
    time.sleep(SAMPLE if before else 0)
    rows = []
    for container, first in before.items():
        try:
            now = container.stats()
        except Conflict:
            continue
        rows.append(_row(container, first, now))
    return rows


def _row(container: pylxc.Container, first: pylxc.Stats, now: pylxc.Stats) -> dict[str, str]:
    percent = now.cpu_percent(first)
    received = sum(one.rx_bytes for one in now.network.values())
    sent = sum(one.tx_bytes for one in now.network.values())
    return {
        "ID": container.id[:SHORT_ID],
        "Name": container.name,
        "CPUPerc": "--" if percent is None else f"{percent:.2f}%",
        "MemUsage": f"{_size(now.memory)} / {_size(now.memory_limit)}",
        "NetIO": f"{_size(received)} / {_size(sent)}",
        "BlockIO": f"{_size(now.io_read)} / {_size(now.io_written)}",
        "PIDs": "--" if now.pids is None else str(now.pids),
    }


def _size(value: int | None) -> str:
    return "--" if value is None else format_size(value)


@click.command()
@format_option
@click.argument("name", metavar="CONTAINER")
@click.pass_obj
def top(settings: Settings, /, *, output: str, name: str) -> None:
    """Show the processes of a container."""
    rows = [
        {
            "PID": str(process.pid),
            "Inside": str(process.inside),
            "User": str(process.user) if process.user >= 0 else "?",
            "State": process.state,
            "Time": f"{process.cpu:.2f}",
            "Command": " ".join(process.command),
        }
        for process in find(name, settings.engine()).top()
    ]
    headers = {"PID": "PID", "Inside": "INSIDE", "User": "USER", "State": "STATE", "Time": "TIME", "Command": "COMMAND"}
    print_rows(rows, headers, output)


VERBS = {"top": top, "pause": pause, "unpause": unpause, "update": update, "stats": stats}
