"""Builds an image: reads the context, plans, executes, and adds the result to the store.

Invariant: everything that can be judged without work is judged before it; the image and its tags come at the very end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pylxc.build.check import warnings_of
from pylxc.build.dockerfile import parse
from pylxc.build.executor import Executor, Options
from pylxc.build.instructions import Run
from pylxc.build.lint import Surroundings
from pylxc.build.opening import opened
from pylxc.build.plan import plan
from pylxc.errors import ImageNotFound, SpecError
from pylxc.image import Image, check_tag
from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.obtaining import obtain
from pylxc.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.build.context import Context
    from pylxc.build.events import BuildEvent
    from pylxc.build.instructions import Dockerfile
    from pylxc.build.opening import Source
    from pylxc.engine import Engine
    from pylxc.registry.progress import Progress
    from pylxc.store import Lease

NETWORKS = ("host", "none")


def build(  # noqa: PLR0913  the operands of one operation
    engine: Engine,
    context: Source,
    dockerfile: Source,
    *,
    tags: tuple[str, ...],
    args: Mapping[str, str],
    target: str | None,
    no_cache: bool,
    network: str,
    on_event: Callable[[BuildEvent], object] | None,
    pull: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
) -> Image:
    """See :meth:`pylxc.Image.build`."""
    for tag in tags:
        check_tag(tag)
    if network not in NETWORKS:
        raise SpecError("network", network, f"give one of {', '.join(map(repr, NETWORKS))}")
    options = Options(no_cache=no_cache, network=network, on_event=on_event)
    with opened(engine, context, dockerfile) as found:
        return _build(engine, found, options, tags=tags, args=args, target=target, pull=pull, on_progress=on_progress)


def _build(  # noqa: PLR0913  the operands of one operation
    engine: Engine,
    opened: Context,
    options: Options,
    *,
    tags: tuple[str, ...],
    args: Mapping[str, str],
    target: str | None,
    pull: bool,
    on_progress: Callable[[Progress], object] | None,
) -> Image:
    """Build on a context that is here."""
    parsed = parse(opened.dockerfile_bytes, opened.dockerfile_path)
    planned = plan(parsed, args)
    _check_networks(parsed, options.network)
    if target is not None and target not in (planned.stage, "0"):
        raise SpecError("target", target, f"there is no such stage; the only one is {planned.stage or '0'!r}")
    with engine.store.leases.take() as lease:
        base = _base(engine, planned.base, lease, pull=pull, on_progress=on_progress)
        config = base.config if base else ImageConfig()
        platform = base.platform if base else this_platform()
        around = Surroundings(args=args, ignore=opened.ignore, base=lambda _name: (config, platform))
        warnings = (*planned.warnings, *warnings_of(parsed, around))
        planned = attrs.evolve(planned.on(config), warnings=warnings)
        executor = Executor(engine, lease, base, planned, opened, options)
        result = executor.run(config)
        document = ImageDocument(
            config=result.config,
            platform=platform,
            created=result.created,
            diff_ids=result.layers,
            history=(*(base.history() if base else ()), *result.history),
        )
        row = engine.store.images.add(document, tags, lease)
    return Image.of(engine, engine.store.images.get(row.id))


def _check_networks(dockerfile: Dockerfile, network: str) -> None:
    """Raise SpecError for a RUN that takes more of the network than the caller gives to the build."""
    for instruction in dockerfile.instructions:
        if isinstance(instruction, Run) and instruction.network == "host" and network != "host":
            remedy = f"line {instruction.line} asks for RUN --network=host; give the build the host's network"
            raise SpecError("network", network, remedy)


def _base(
    engine: Engine, name: str, lease: Lease, *, pull: bool, on_progress: Callable[[Progress], object] | None
) -> Image | None:
    """Return the image after FROM, whose layers the lease keeps from now on; None for "scratch"."""
    if name == "scratch":
        return None
    try:
        base = obtain(engine, name, "always" if pull else "missing", on_progress=on_progress)
        lease.protect(layer.digest for layer in base.layers)
        engine.store.images.get(base.id)  # whoever removed it before the lease held it removed its layers, too
    except ImageNotFound as error:
        raise ImageNotFound(name, f"FROM names it, and {error.remedy}") from error
    return base
