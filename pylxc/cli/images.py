"""The verbs about images, except ``build``: ``images tag rmi import bootstrap``.

Invariant: an image is shown once for each of its names, and by its id where it has none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.app import each
from pylxc.cli.tables import age, format_option, moment, parse_filters, passes, print_rows, short_id
from pylxc.errors import Conflict, ImageNotFound, SpecError
from pylxc.filters import has_label
from pylxc.reference import DEFAULT_HOST, Reference, is_full_id
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


def split_tag(ref: str) -> tuple[str, str]:
    """Return a reference's repository and tag. A colon before a slash is a registry's port."""
    repository, colon, tag = ref.partition("@")[0].rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (ref, _NONE)


def _full_id(image: pylxc.Image) -> str:
    return f"sha256:{image.id.removeprefix('sha256:')}"


def named(image: pylxc.Image, name: str) -> str | None:
    """Return the tag that a name of the image is, as it is shown; None for an id, a digest and an earlier move."""
    if is_full_id(name) or "@" in name or name.startswith("sha256:"):
        return None
    ref = Reference.parse(name).familiar
    return ref if ref in image.refs else None


# -- images ------------------------------------------------------------------------------------------------------------


def _is_called(ref: str, digest: str, pattern: str) -> bool:
    """Say whether a tag, as it is shown, is one that a pattern means: in full or not, with its tag or not."""
    from fnmatch import fnmatchcase  # noqa: PLC0415  rarely needed

    in_full = Reference.parse(ref).canonical
    spellings = (ref, in_full, in_full.removeprefix(f"{DEFAULT_HOST}/"))
    names = {name for text in spellings for name in (text, split_tag(text)[0], f"{split_tag(text)[0]}@{digest}")}
    return pattern in names or any(fnmatchcase(name, pattern) for name in names)


_FILTERS: dict[str, Callable[[pylxc.Image, str], bool]] = {
    "dangling": lambda image, value: (not image.refs) == (value == "true"),
    "label": lambda image, value: has_label(image.config.labels, value),
    "reference": lambda image, value: any(_is_called(ref, image.digest, value) for ref in image.refs),
}


def _rows(image: pylxc.Image, name: str | None, *, whole: bool) -> list[dict[str, str]]:
    refs = image.refs if name is None else [ref for ref in image.refs if _is_called(ref, image.digest, name)]
    pairs = [split_tag(ref) for ref in refs] or ([(_NONE, _NONE)] if name is None else [])
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
    """List the images, or those with one NAME, which may be a pattern."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()
    known = {
        **_FILTERS,
        "before": lambda image, value: image.created < pylxc.Image.get(value, engine=engine).created,
        "since": lambda image, value: image.created > pylxc.Image.get(value, engine=engine).created,
    }
    chosen = parse_filters(filters, known)
    found = [image for image in pylxc.Image.list(engine=engine) if passes(image, chosen, known)]
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
    if ref is None:
        return _remove_nameless(image, name, force=force)
    if len(image.refs) == 1:
        try:
            image.remove([ref])
        except Conflict:  # a container was made from it, or it has another name by now
            if not force:
                raise
        else:
            return f"Untagged: {ref}\nDeleted: {_full_id(image)}"
    image.untag(ref)
    return f"Untagged: {ref}"


def _remove_nameless(image: pylxc.Image, name: str, *, force: bool) -> str:
    """Remove an image called by its id, which with ``force`` stands for all its names, or by its digest: for none."""
    is_id = image.id.startswith((name, f"sha256:{name}"))
    if is_id and force:
        image.remove()
    elif len(image.refs) > 1:
        reason = f"the image has several names ({', '.join(image.refs)}); remove these, or its id with --force"
        raise Conflict(name, reason)
    else:
        image.remove(image.refs if is_id else ())
    return "\n".join([*(f"Untagged: {ref}" for ref in image.refs), f"Deleted: {_full_id(image)}"])


@click.command()
@click.option(
    "-f", "--force", is_flag=True, help="With an id, remove all names; an image that is not there is no error."
)
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def rmi(settings: Settings, /, *, names: tuple[str, ...], force: bool) -> int:
    """Remove images: their names, and with the last name what it stands for."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    engine = settings.engine()

    def action(name: str) -> str | None:
        if "@{" in name:
            raise SpecError("image", name, "this is an earlier move of a tag; give a tag or an id")
        try:
            return _remove(pylxc.Image.get(name, engine=engine), name, force=force)
        except ImageNotFound:  # also when another process removes it at the same time
            if not force:
                raise
            return None

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
