"""The verbs about images, except ``build``: ``images tag rmi import bootstrap``.

Invariant: an image is shown once for each of its names, and by its id where it has none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import each
from pylxc.cli.tables import age, format_option, moment, parse_filters, passes, print_rows, short_id
from pylxc.errors import Conflict, ImageNotFound
from pylxc.filters import has_label
from pylxc.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc
    from pylxc.cli.app import Settings

_HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
_NONE = "<none>"


def _split(ref: str) -> tuple[str, str]:
    """Return a reference's repository and tag. A colon before a slash is a registry's port."""
    repository, colon, tag = ref.partition("@")[0].rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (ref, _NONE)


def _full_id(image: pylxc.Image) -> str:
    return f"sha256:{image.id.removeprefix('sha256:')}"


def named(image: pylxc.Image, name: str) -> str | None:
    """Return the reference of the image that a name stands for; None when the name is an id."""
    return next((ref for ref in (name, f"{name}:latest") if ref in image.refs), None)


# -- images ------------------------------------------------------------------------------------------------------------


def _is_called(image: pylxc.Image, pattern: str) -> bool:
    from fnmatch import fnmatchcase  # noqa: PLC0415  rarely needed

    return any(fnmatchcase(ref, pattern) or fnmatchcase(_split(ref)[0], pattern) for ref in image.refs)


_FILTERS: dict[str, Callable[[pylxc.Image, str], bool]] = {
    "dangling": lambda image, value: (not image.refs) == (value == "true"),
    "label": lambda image, value: has_label(image.config.labels, value),
    "reference": _is_called,
}


def _rows(image: pylxc.Image, name: str | None, *, whole: bool) -> list[dict[str, str]]:
    pairs = [_split(ref) for ref in image.refs] or [(_NONE, _NONE)]
    return [
        {
            "Repository": repository,
            "Tag": tag,
            "Digest": image.digest or _NONE,
            "ID": short_id(_full_id(image), whole=whole),
            "CreatedAt": moment(image.created),
            "CreatedSince": age(image.created),
            "Size": format_size(image.size),
        }
        for repository, tag in pairs
        if name in (None, repository, f"{repository}:{tag}", f"{repository}@{image.digest}")
    ]


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Taken for docker's users: there are no hidden images.")
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--no-trunc", "whole", is_flag=True, help="Show ids in full.")
@click.option("--digests", is_flag=True, help="Show the digests that registries know them by.")
@click.option("-f", "--filter", "filters", multiple=True, help="Show those with name=value only.")
@format_option
@click.argument("name", required=False)
@click.pass_obj
def images(settings: Settings, /, *, filters: tuple[str, ...], output: str, name: str | None, **flags: Any) -> None:
    """List the images, or those with one NAME."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    chosen = parse_filters(filters, _FILTERS)
    found = [image for image in pylxc.Image.list(engine=settings.engine()) if passes(image, chosen, _FILTERS)]
    rows = [row for image in found for row in _rows(image, name, whole=flags["whole"])]
    if flags["quiet"]:
        for identity in dict.fromkeys(row["ID"] for row in rows):
            click.echo(identity)
    else:
        print_rows(rows, {key: _HEADERS[key] for key in _HEADERS if key != "Digest" or flags["digests"]}, output)


# -- names and removal -------------------------------------------------------------------------------------------------


@click.command()
@click.argument("source")
@click.argument("target")
@click.pass_obj
def tag(settings: Settings, /, *, source: str, target: str) -> None:
    """Give the image SOURCE the further name TARGET."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    pylxc.Image.get(source, engine=settings.engine()).tag(target)


def _remove(image: pylxc.Image, name: str, *, force: bool) -> str:
    """Remove a name, and with its last name the image. Return what was done, in docker's words."""
    ref = named(image, name)
    others = [other for other in image.refs if other != ref]
    if ref is not None and others:
        image.untag(ref)
        return f"Untagged: {ref}"
    if len(others) > 1 and not force:
        raise Conflict(name, f"the image has several names ({', '.join(image.refs)}); remove them, or use --force")
    lines = [f"Untagged: {other}" for other in image.refs]
    image.remove()
    return "\n".join([*lines, f"Deleted: {_full_id(image)}"])


@click.command()
@click.option("-f", "--force", is_flag=True, help="Remove all names; an image that is not there is no error.")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def rmi(settings: Settings, /, *, names: tuple[str, ...], force: bool) -> int:
    """Remove images: their names, and with the last name what it stands for."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()

    def action(name: str) -> str | None:
        try:
            image = pylxc.Image.get(name, engine=engine)
        except ImageNotFound:
            if not force:
                raise
            return None
        return _remove(image, name, force=force)

    return each(names, action)


# -- new images --------------------------------------------------------------------------------------------------------


@click.command("import")
@click.argument("file")
@click.argument("ref", required=False)
@click.pass_obj
def import_(settings: Settings, /, *, file: str, ref: str | None) -> None:
    """Make an image of one layer from a tar archive (FILE, or "-" for standard input)."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    source: Any = sys.stdin.buffer if file == "-" else file
    click.echo(_full_id(pylxc.Image.from_tar(source, ref, engine=settings.engine())))


@click.command()
@click.option("--package", "packages", multiple=True, help="Install a package as well.")
@click.option("--mirror", help="Where to fetch from (default: the distribution's own mirror).")
@click.option("-t", "--tag", "ref", help="The image's name (default: DISTRIBUTION:SUITE).")
@click.argument("distribution")
@click.argument("suite")
@click.pass_obj
def bootstrap(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    distribution: str,
    suite: str,
    packages: tuple[str, ...],
    mirror: str | None,
    ref: str | None,
) -> None:
    """Make a base image from a distribution's packages, for example "debian bookworm"."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    image = pylxc.Image.bootstrap(
        distribution, suite, packages=packages, mirror=mirror, ref=ref, engine=settings.engine()
    )
    click.echo(_full_id(image))


VERBS = {"images": images, "tag": tag, "rmi": rmi, "import": import_, "bootstrap": bootstrap}
