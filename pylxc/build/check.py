"""Checks a Dockerfile without building it.

Invariant: nothing runs, nothing is fetched and nothing is written: what is known of a base image is what the store has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.build.context import Context
from pylxc.build.dockerfile import parse
from pylxc.build.lint import LintWarning, Policy, Surroundings, lint
from pylxc.errors import DockerfileError, ImageNotFound, SpecError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pylxc.build.instructions import Dockerfile
    from pylxc.engine import Engine
    from pylxc.imageconfig import ImageConfig


def check(
    context: str | os.PathLike[str],
    dockerfile: str | os.PathLike[str] = "Dockerfile",
    *,
    args: Mapping[str, str] | None = None,
    engine: Engine | None = None,
) -> tuple[LintWarning, ...]:
    """Give what the build checks find in a Dockerfile, in the order of the file.

    What ``# check=skip=...`` names is left out.

    Args:
        context: the directory to build from; its ``.dockerignore`` is heeded.
        dockerfile: the Dockerfile, relative to the context or absolute.
        args: values of ARGs.
        engine: the store whose images are looked at; without one nothing is known of base images.

    Raises:
        DockerfileError: the Dockerfile is missing or malformed; line and column.
        SpecError: there is no such context.

    Example:
        >>> for warning in check("examples/redis"):                                 # doctest: +SKIP
        ...     print(warning)

    """
    opened = Context.open(context, dockerfile)
    parsed = parse(opened.dockerfile_bytes, opened.dockerfile_path)
    return lint(parsed, Surroundings(args=args or {}, ignore=opened.ignore, base=_Images(engine)))


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
