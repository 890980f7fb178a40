"""Environments of a test's own: files beside it, a busybox image in its store, all of it gone afterwards."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Load = Callable[..., pylxc.Environment]


@pytest.fixture
def load(engine: pylxc.Engine, busybox: pylxc.Image, tmp_path: Path) -> Iterator[Load]:
    """Give a function that makes an environment of a file's text; what it brings up is taken down afterwards."""
    directory = tmp_path / "shop"
    directory.mkdir(exist_ok=True)
    made: dict[str, pylxc.Environment] = {}

    def make(text: str, **options) -> pylxc.Environment:
        (directory / "compose.yaml").write_text(textwrap.dedent(text))
        found = pylxc.Environment.load(directory / "compose.yaml", engine=engine, **options)
        made[found.name] = found
        return found

    yield make
    for environment in made.values():
        environment.down(volumes=True, remove_orphans=True, timeout=0)
    assert pylxc.Volume.list(engine=engine) == []
    assert made_networks(engine) == []


def made_networks(engine: pylxc.Engine) -> list[str]:
    """Return the names of all networks but the default one, whose row stays when RUN steps were on it."""
    return [network.name for network in pylxc.Network.list(engine=engine) if network.name != "bridge"]


def names(containers) -> list[str]:
    return sorted(container.name for container in containers)


def ids(environment: pylxc.Environment) -> dict[str, str]:
    return {container.name: container.id for container in environment.ps(all=True)}


def starts(engine: pylxc.Engine) -> list[str]:
    """Return the names of what was started, in that order."""
    return [event.name for event in pylxc.events(engine=engine) if event.kind == "started"]
