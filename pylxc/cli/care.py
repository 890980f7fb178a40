"""``prune`` and ``store``: the verbs about what a store takes up, and whether it is whole.

Invariant: nothing is removed before the user was asked, unless with ``--force`` or where nobody can be asked; ``store
check`` and ``store repair`` end with 1 where something is wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import click

from pylxc.cli.app import ask, printable
from pylxc.cli.pruning import parse_prune_filters
from pylxc.cli.tables import format_for_people, format_option, print_rows
from pylxc.errors import PylxcError
from pylxc.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pylxc
    from pylxc.cli.app import Settings


# -- prune -------------------------------------------------------------------------------------------------------------


def _warning(*, everything: bool, volumes: bool, filters: Sequence[str]) -> str:
    """Return what will be removed, in docker's words."""
    lines = ["WARNING! This will remove:", "  - all stopped containers"]
    lines.append("  - all networks not used by at least one container")
    if volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    lines.append(f"  - all {'images without at least one container' if everything else 'dangling images'}")
    lines.append(f"  - {'all' if everything else 'unused'} build cache")
    if filters:
        lines += ["", "  Items to be pruned will be filtered with:", *(f"  - {printable(text)}" for text in filters)]
    return "\n".join([*lines, "", "Are you sure you want to continue?"])


def _lines(gone: pylxc.Pruned) -> Iterable[str]:
    kinds = (("Containers", gone.containers), ("Networks", gone.networks), ("Volumes", gone.volumes))
    for title, names in kinds:
        if names:
            yield "\n".join([f"Deleted {title}:", *names, ""])
    if gone.images:
        words = [f"untagged: {ref}" for ref in gone.untagged] + [f"deleted: {id}" for id in gone.images]  # noqa: A001
        yield "\n".join(["Deleted Images:", *words, ""])
    if gone.cached:
        yield f"Deleted build cache objects: {gone.cached}\n"
    yield f"Total reclaimed space: {format_size(gone.reclaimed)}"


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Remove all images that no container was made from.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--volumes", is_flag=True, help="Remove anonymous volumes that no container has, too.")
@click.option("--filter", "filters", multiple=True, help="Only what until=24h, label=name or label!=name lets through.")
@format_for_people("text", "Text")
@click.pass_obj
def prune(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    everything: bool,
    force: bool,
    volumes: bool,
    filters: tuple[str, ...],
    output: str,
) -> None:
    """Remove what is not in use: stopped containers, networks, images without a name, the build cache."""
    options = parse_prune_filters(filters)
    ask(_warning(everything=everything, volumes=volumes, filters=filters), force=force)
    gone = settings.engine().prune(all=everything, volumes=volumes, **options)
    if output == "json":
        click.echo(json.dumps(attrs.asdict(gone)))
    else:
        click.echo("\n".join(_lines(gone)))


# -- store -------------------------------------------------------------------------------------------------------------


@click.group()
def store() -> None:
    """Check and repair the store, and say what it takes up."""


def _tell(title: str, problems: Sequence[pylxc.Problem]) -> None:
    if problems:
        click.echo("\n".join([title, *(f"  {printable(str(problem))}" for problem in problems)]))


@store.command()
@click.option("--quick", is_flag=True, help="Do not read the content of layers and blobs.")
@format_for_people("text", "Text")
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@click.pass_obj
def check(settings: Settings, /, *, quick: bool, output: str, images: tuple[str, ...]) -> int:
    """Look at the whole store, or at IMAGEs only, for what is wrong; exit with 1 where something is."""
    if images:
        return _verify(settings, images, output)
    report = settings.engine().check(deep=not quick)
    if output == "json":
        click.echo(json.dumps({"ok": report.ok, **attrs.asdict(report)}))
    else:
        _tell("Problems:", report.problems)
        words = "nothing is wrong" if report.ok else f"{len(report.problems)} wrong"
        click.echo(f"{report.layers} layers, {report.blobs} blobs: {words}")
    return int(not report.ok)


def _verify(settings: Settings, names: Sequence[str], output: str) -> int:
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine, status = settings.engine(), 0
    for name in names:
        problem = ""
        try:
            pylxc.Image.get(name, engine=engine).verify()
        except PylxcError as error:
            problem, status = printable(str(error)), 1
        if output == "json":
            click.echo(json.dumps({"image": name, "ok": not problem, "problem": problem}))
        elif problem:
            click.echo(f"pylxc: {printable(name)}: {problem}", err=True)
        else:
            click.echo(f"{printable(name)}: whole")
    return status


@store.command()
@format_for_people("text", "Text")
@click.pass_obj
def repair(settings: Settings, /, *, output: str) -> int:
    """Mend what a check finds, as far as it can be; exit with 1 where something is left."""
    report = settings.engine().repair()
    if output == "json":
        click.echo(json.dumps({"ok": report.ok, **attrs.asdict(report)}))
    else:
        _tell("Repaired:", report.repaired)
        _tell("Left:", report.left)
        for path in report.saved:
            click.echo(f"moved aside: {path}")
        click.echo(f"{len(report.repaired)} repaired, {len(report.left)} left")
    return int(not report.ok)


_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def _row(name: str, usage: pylxc.Usage) -> dict[str, str]:
    share = f" ({usage.reclaimable * 100 // usage.size}%)" if usage.size else ""
    return {
        "Type": name,
        "TotalCount": str(usage.count),
        "Active": str(usage.active),
        "Size": format_size(usage.size),
        "Reclaimable": format_size(usage.reclaimable) + share,
    }


@store.command()
@format_option
@click.pass_obj
def df(settings: Settings, /, *, output: str) -> None:
    """Show what images, containers, volumes and the build cache take up on disk."""
    usage = settings.engine().disk_usage()
    kinds = {
        "Images": usage.images,
        "Containers": usage.containers,
        "Local Volumes": usage.volumes,
        "Build Cache": usage.build_cache,
    }
    print_rows([_row(name, one) for name, one in kinds.items()], _HEADERS, output)


VERBS = {"prune": prune, "store": store}
