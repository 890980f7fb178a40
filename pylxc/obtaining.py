"""How a verb, or a build, gets the image that a reference means: out of the store, else out of its registry.

Hides when a registry is asked. Invariant: an image that is here, and is what was asked for,
costs one look at the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc import platforms
from pylxc.engine import HOST
from pylxc.errors import AuthError, ImageNotFound, RegistryError
from pylxc.image import Image
from pylxc.reference import Reference, is_full_id
from pylxc.runtime.waiting import Work, waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.engine import Engine
    from pylxc.registry.progress import Progress
    from pylxc.runtime.waiting import Waiting


@waits
def obtain(  # noqa: PLR0913  the operands of one operation
    engine: Engine,
    ref: str | Image,
    pull: str = "missing",
    platform: str | None = None,
    *,
    tagged: bool = True,
    on_progress: Callable[[Progress], object] | None = None,
) -> Waiting[Image]:
    """Return the image that a reference, an id or "host" means; it is pulled where ``pull`` and ``platform`` say so.

    ``tagged``: the tag names what was pulled, else what it named before. ``on_progress`` is that of
    :meth:`~pylxc.Image.pull`. Raises ImageNotFound, saying what is near and why it could not
    be pulled; AuthError, and with ``pull="always"`` RegistryError.
    """
    wanted = platforms.given(platform) if platform else ""
    refusal: ImageNotFound | None = None
    if pull != "always" or not has_registry(ref):
        try:
            return _local(engine, ref, wanted)
        except ImageNotFound as error:
            if pull == "never" or not has_registry(ref):
                raise
            refusal = error
    try:
        return (yield from _pulled(engine, str(ref), wanted, on_progress, tagged=tagged))
    except (ImageNotFound, RegistryError) as error:
        if refusal is None:
            raise
        raise _explained(str(ref), refusal, error) from error


def _local(engine: Engine, ref: str | Image, wanted: str) -> Image:
    found = engine.image(ref)
    if wanted in ("", platforms.normal(found.platform)):
        return found
    name = ref if isinstance(ref, str) else found.id[:19]
    raise ImageNotFound(name, f"it is here for {found.platform} only, not for {wanted}")


def has_registry(ref: str | Image) -> bool:
    """Say whether a registry could be asked for what this names: not for an id, a past move of a tag, the host."""
    if isinstance(ref, Image) or ref == HOST or is_full_id(ref) or ref.startswith("sha256:"):
        return False
    return not Reference.parse(ref).before


def _pulled(
    engine: Engine, ref: str, platform: str, on_progress: Callable[[Progress], object] | None, *, tagged: bool
) -> Waiting[Image]:
    from pylxc.exchange.pull import pull  # noqa: PLC0415  only where something is absent
    from pylxc.registry.stopping import Stop  # noqa: PLC0415

    found: list[Image] = []
    stop = Stop()

    def work() -> None:
        found.append(pull(engine, ref, platform=platform, on_progress=on_progress, stop=stop, tagged=tagged))

    yield Work(work, stop.set)
    return found[0]


def fetch(engine: Engine, ref: str, on_progress: Callable[[Progress], object] | None = None) -> Image:
    """Pull what a reference names, and move no tag: the caller gives it a use, or removes it. Errors as of a pull."""
    from pylxc.exchange.pull import pull  # noqa: PLC0415  as above

    return pull(engine, ref, on_progress=on_progress, tagged=False)


def _explained(ref: str, refusal: ImageNotFound, error: ImageNotFound | RegistryError) -> ImageNotFound | AuthError:
    """Return one error for an image that is neither here nor to be had."""
    if isinstance(error, AuthError):
        return AuthError(f"{error} ({refusal.remedy})", status=error.status, code=error.code)
    reason = error.remedy if isinstance(error, ImageNotFound) else str(error)
    return ImageNotFound(ref, f"{refusal.remedy}; pulling it failed: {reason}")
