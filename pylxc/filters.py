"""What a list may be narrowed down by, as in ``docker ps --filter``: one test for each filter, all of which count.

Invariant: a container that was removed while it was looked at passes no filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pylxc.errors import ContainerNotFound, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.container import Container

T = TypeVar("T")


def checked_filters(filters: Mapping[str, str] | None, known: Mapping[str, object]) -> dict[str, str]:
    """Return what a caller wants to filter by. Raises SpecError for a filter that does not exist."""
    wanted = dict(filters or {})
    for key in wanted:
        if key not in known:
            raise SpecError("filters", key, f"there are {', '.join(sorted(known))}")
    return wanted


def passes(item: T, wanted: Mapping[str, str], tests: Mapping[str, Callable[[T, str], bool]]) -> bool:
    """Say whether something is what all of the filters ask for."""
    try:
        return all(tests[key](item, value) for key, value in wanted.items())
    except ContainerNotFound:
        return False  # removed meanwhile


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Say whether among the labels is the one that is wanted: "key", or "key=value"."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def says(value: bool, wanted: str, key: str) -> bool:  # noqa: FBT001  what is compared
    """Say whether a flag is as the filter ``key`` asks: "true" or "false". Raises SpecError for other words."""
    if wanted.lower() not in ("true", "1", "false", "0"):
        raise SpecError("filters", {key: wanted}, 'give "true" or "false"')
    return value == (wanted.lower() in ("true", "1"))


def labels_of(container: Container) -> dict[str, str]:
    """Return a container's labels, those of its image included."""
    return {**container.image.config.labels, **container.spec.labels}


OF_CONTAINERS: dict[str, Callable[[Container, str], bool]] = {
    "name": lambda container, value: value in container.name,
    "id": lambda container, value: container.id.startswith(value),
    "status": lambda container, value: container.status() == value,
    "health": lambda container, value: (container.status().health or "none") == value,
    "ancestor": lambda container, value: (
        value in (container.spec.image, *container.image.refs)
        or container.image.id.removeprefix("sha256:").startswith(value.removeprefix("sha256:"))
    ),
    "label": lambda container, value: has_label(labels_of(container), value),
}
