"""Builds an image: reads the context, plans, executes, and adds the result to the store.

Invariant: the result is added, and tagged, in one step at the very end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build.context import Context
from pylxc.build.dockerfile import parse
from pylxc.build.executor import Executor, Options
from pylxc.build.plan import plan
from pylxc.errors import ImageNotFound, SpecError
from pylxc.image import Image
from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.reference import Reference
from pylxc.spec import this_platform

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from pylxc.build.events import BuildEvent
    from pylxc.engine import Engine

NETWORKS = ("host", "none")


def build(  # noqa: PLR0913  the operands of one operation
    engine: Engine,
    context: str | os.PathLike[str],
    dockerfile: str | os.PathLike[str],
    *,
    tags: tuple[str, ...],
    args: Mapping[str, str],
    target: str | None,
    no_cache: bool,
    network: str,
    on_event: Callable[[BuildEvent], object] | None,
) -> Image:
    """See :meth:`pylxc.Image.build`."""
    for tag in tags:
        Reference.parse(tag)  # told of before the work, not after it
    if network not in NETWORKS:
        raise SpecError("network", network, f"give one of {', '.join(map(repr, NETWORKS))}")
    opened = Context.open(context, dockerfile)
    planned = plan(parse(opened.dockerfile_bytes, opened.dockerfile_path), args)
    if target is not None and target not in (planned.stage, "0"):
        raise SpecError("target", target, f"there is no such stage; the only one is {planned.stage or '0'!r}")
    base = _base(engine, planned.base)
    options = Options(no_cache=no_cache, network=network, on_event=on_event)
    with engine.store.leases.take() as lease:
        executor = Executor(engine, lease, base, planned, opened, options)
        result = executor.run(base.config if base else ImageConfig())
        document = ImageDocument(
            config=result.config,
            platform=base.platform if base else this_platform(),
            created=result.created,
            diff_ids=result.layers,
            history=(*(base.history() if base else ()), *result.history),
        )
        row = engine.store.images.add(document, tags[0] if tags else None, lease)
        for tag in tags[1:]:
            engine.store.images.tag(row.id, tag)
    return Image.of(engine, engine.store.images.get(row.id))


def _base(engine: Engine, name: str) -> Image | None:
    """Return the image after FROM; None for "scratch"."""
    if name == "scratch":
        return None
    try:
        return engine.image(name)
    except ImageNotFound as error:
        raise ImageNotFound(name, f"FROM names it, and {error.remedy}") from error
