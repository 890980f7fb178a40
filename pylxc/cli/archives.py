"""The verbs that carry images as archives: ``load save``.

Invariant: an archive never goes to a terminal, and is never expected from one; a signal that ends the process leaves no
part of one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from pylxc.cli.foreground import leaving

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings


@click.command()
@click.option("-i", "--input", "file", metavar="FILE", help="Read a file or a directory, not standard input.")
@click.option("-q", "--quiet", is_flag=True, help="Show ids only.")
@click.option("--platform", metavar="OS/ARCH", help="Choose this platform where there are several (default: this one).")
@click.pass_obj
def load(settings: Settings, /, *, file: str | None, quiet: bool, platform: str | None) -> None:
    """Load images from an archive that save, docker, podman or skopeo wrote."""
    from pylxc.exchange.load import load_named  # noqa: PLC0415  heavy modules are imported where they are used

    if file is None and sys.stdin.isatty():
        raise click.UsageError("an archive is not read from a terminal; give --input FILE, or redirect it")
    source: Any = sys.stdin.buffer if file in (None, "-") else file
    with leaving():
        loaded = load_named(settings.engine(), source, platform or "")
    for image, refs in loaded:
        lines = [f"Loaded image: {ref}" for ref in refs] or [f"Loaded image ID: {image.id}"]
        click.echo(image.id if quiet else "\n".join(lines))


def _names(image: pylxc.Image, given: str) -> tuple[str, ...]:
    """Return the tags that an image is saved under: the one it was called by; none where it was called by its id."""
    from pylxc.cli.images import named  # noqa: PLC0415  only here

    ref = named(image, given)
    return () if ref is None else (ref,)


@click.command()
@click.option("-o", "--output", "file", metavar="FILE", help="Write a file, not standard output.")
@click.option(
    "--format", "form", type=click.Choice(["docker", "oci"]), default="docker", show_default=True, help="For whom."
)
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def save(settings: Settings, /, *, file: str | None, form: Literal["docker", "oci"], names: tuple[str, ...]) -> None:
    """Save images into one archive."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    if file is None and sys.stdout.isatty():
        raise click.UsageError("an archive is not written to a terminal; give --output FILE, or redirect it")
    engine = settings.engine()
    found = [(pylxc.Image.get(name, engine=engine), name) for name in names]
    images = [(image, _names(image, name)) for image, name in found]
    target: Any = sys.stdout.buffer if file in (None, "-") else file
    with leaving():
        pylxc.Image.save_all(images, target, form)


VERBS = {"load": load, "save": save}
