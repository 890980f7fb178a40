"""Checks a Dockerfile without building it.

Invariant: nothing runs and no image is pulled, and only a context from elsewhere is fetched, for as long as
it takes: what is known of a base image is what the store has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build.dockerfile import parse
from pylxc.build.lint import LintWarning, Policy, Surroundings, lint
from pylxc.build.opening import opened
from pylxc.errors import DockerfileError, ImageNotFound, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.build.instructions import Dockerfile
    from pylxc.build.opening import Source
    from pylxc.engine import Engine
    from pylxc.imageconfig import ImageConfig


def check(
    context: Source,
    dockerfile: Source = "Dockerfile",
    *,
    args: Mapping[str, str] | None = None,
    engine: Engine | None = None,
) -> tuple[LintWarning, ...]:
    """Give what the build checks find in a Dockerfile, in the order of the file.

    What ``# check=skip=...`` names is left out.

    Args:
        context: what to build from, as :meth:`pylxc.Image.build` takes it.
        dockerfile: the Dockerfile, relative to the context or absolute, or a stream of its text.
        args: values of ARGs.
        engine: the store whose images are looked at; without one nothing is known of base images, and nothing fetched.

    Raises:
        DockerfileError: the Dockerfile is missing or malformed; line and column.
        SpecError: there is no such context.

    Example:
        >>> for warning in check("examples/redis"):                                 # doctest: +SKIP
        ...     print(warning)

    """
    with opened(engine, context, dockerfile) as found:
        parsed = parse(found.dockerfile_bytes, found.dockerfile_path)
        return lint(parsed, Surroundings(args=args or {}, ignore=found.ignore, base=_Images(engine)))


class _Images:
    """What a store knows of images by name."""

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine

    def __call__(self, name: str) -> tuple[ImageConfig, str] | None:
        if self._engine is None:
            return None
        try:
            image = self._engine.image(name)
        except (ImageNotFound, SpecError):
            return None
        return image.config, image.platform


def warnings_of(dockerfile: Dockerfile, surroundings: Surroundings) -> tuple[str, ...]:
    """Give the findings of a build as sentences. Raises DockerfileError where ``# check=error=true`` makes them errors.

    The error stands at the first of them.
    """
    policy = Policy.of(dockerfile)
    found = lint(dockerfile, surroundings, policy)
    if found and policy.error:
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        reason = f"{first.rule}: {first.message}{more}; the file says check=error=true"
        raise DockerfileError(reason, line=first.line, column=first.column, path=dockerfile.path)
    return tuple(map(str, found))
