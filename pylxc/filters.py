"""What a list of containers may be narrowed down by, as in ``docker ps --filter``.

Invariant: a container that was removed while it was looked at passes no filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.errors import ContainerNotFound, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.container import Container


def check_filters(filters: Mapping[str, str]) -> None:
    """Raise SpecError for a filter that does not exist."""
    for key in filters:
        if key not in _FILTERS:
            raise SpecError("filters", key, f"there are {', '.join(sorted(_FILTERS))}")


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Say whether among the labels is the one that is wanted: "key", or "key=value"."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def labels_of(container: Container) -> dict[str, str]:
    """Return a container's labels, those of its image included."""
    return {**container.image.config.labels, **container.spec.labels}


def passes(container: Container, filters: Mapping[str, str]) -> bool:
    """Say whether a container is what all of the filters ask for."""
    try:
        return all(_FILTERS[key](container, value) for key, value in filters.items())
    except ContainerNotFound:
        return False  # removed meanwhile


_FILTERS: dict[str, Callable[[Container, str], bool]] = {
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
