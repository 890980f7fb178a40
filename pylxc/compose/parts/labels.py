"""What an environment's things are called, and the labels by which any process finds them again.

Invariant: that something belongs to an environment, and what it is there, is read from its labels, never from its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "org.pylxc.compose"
PROJECT = f"{_PREFIX}.project"
SERVICE = f"{_PREFIX}.service"
NUMBER = f"{_PREFIX}.container-number"
ONE_OFF = f"{_PREFIX}.oneoff"  # "True": made by `run`
HASH = f"{_PREFIX}.config-hash"
IMAGE = f"{_PREFIX}.image"  # the id of the image that it was made from
DEPENDS_ON = f"{_PREFIX}.depends_on"  # services, separated by commas
FILES = f"{_PREFIX}.project.config_files"
WORKING_DIR = f"{_PREFIX}.project.working_dir"
NETWORK = f"{_PREFIX}.network"  # its key in the file
VOLUME = f"{_PREFIX}.volume"
EXPOSED = f"{_PREFIX}.expose"  # what the service says that it listens on: for links
CONTENTS = f"{_PREFIX}.contents"  # of the volume that secrets and configs lie in


def container_name(project: str, service: Mapping[str, Any], name: str, number: int) -> str:
    """Return what the n-th container of a service is called."""
    return str(service.get("container_name") or f"{project}-{name}-{number}")


def contents_name(project: str) -> str:
    """Return the name of the volume that a project's secrets and configs lie in."""
    return f"{project}.contents"


def image_name(project: str, service: Mapping[str, Any], name: str) -> str:
    """Return what the image of a service is called; one that is built and has no name of its own gets one."""
    return str(service.get("image") or f"{project}-{name}")
