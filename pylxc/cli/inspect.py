"""``inspect``: all that is known of containers and images, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import click

from pylxc.cli.images import split_tag
from pylxc.cli.tables import moment
from pylxc.errors import ContainerNotFound, ImageNotFound, PylxcError

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings


def _image(image: pylxc.Image) -> dict[str, Any]:
    os_name, _, architecture = image.platform.partition("/")
    history = image.history()
    digests = image._engine.store.images.digests(image.id)  # noqa: SLF001  what only docker's form has
    config = attrs.asdict(image.config, filter=lambda attribute, _: not attribute.name.startswith("_"))
    return {
        "Id": f"sha256:{image.id.removeprefix('sha256:')}",
        "RepoTags": list(image.refs),
        "RepoDigests": sorted({f"{split_tag(ref)[0]}@{digest}" for ref in image.refs for digest in digests}),
        "Comment": str(history[-1].extra.get("comment", "")) if history else "",
        "Author": image.author,
        "Created": moment(image.created),
        "Os": os_name,
        "Architecture": architecture,
        "Size": image.size,
        "Config": {
            "User": config["user"],
            "WorkingDir": config["workdir"],
            "Env": [f"{name}={value}" for name, value in config["env"].items()],
            "Cmd": config["cmd"],
            "Entrypoint": config["entrypoint"],
            "Shell": config["shell"],
            "Labels": config["labels"],
            "ExposedPorts": {port: {} for port in config["exposed_ports"]},
            "Volumes": {path: {} for path in config["volumes"]},
            "StopSignal": config["stop_signal"],
            "OnBuild": config["onbuild"],
            **({"Healthcheck": image.config.healthcheck.to_oci()} if image.config.healthcheck else {}),
        },
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }


def _find(name: str, kind: str | None, engine: pylxc.Engine) -> dict[str, Any]:
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    if kind != "image":
        try:
            return pylxc.Container.get(name, engine=engine).inspect()
        except ContainerNotFound:
            if kind == "container":
                raise
    try:
        return _image(pylxc.Image.get(name, engine=engine))
    except ImageNotFound as error:
        if kind == "image":
            raise
        raise click.ClickException(f"no container and no image named {name!r}") from error


@click.command()
@click.option("--type", "kind", type=click.Choice(["container", "image"]), help="Look for one of these only.")
@click.option("-f", "--format", "output", type=click.Choice(["json"]), default="json", help="JSON.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def inspect(settings: Settings, /, *, names: tuple[str, ...], kind: str | None, output: str) -> int:  # noqa: ARG001  one format so far
    """Show all that is known of containers or images, as one JSON array."""
    engine = settings.engine()
    found = []
    status = 0
    for name in names:
        try:
            found.append(_find(name, kind, engine))
        except (PylxcError, click.ClickException) as error:  # noqa: PERF203  the others are shown all the same
            click.echo(
                f"pylxc: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True
            )
            status = 1
    click.echo(json.dumps(found, indent=4, default=str))
    return status


VERBS = {"inspect": inspect}
