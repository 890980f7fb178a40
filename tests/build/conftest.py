"""A builder on a context and a store of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from building import Builder, Files
from upstream import Upstream
from webserver import Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pylxc


@pytest.fixture(scope="session")
def busybox_root(busybox_root: Path) -> Path:
    """The shared root, enterable for all users: temporary directories are their owner's only."""
    busybox_root.chmod(0o755)
    return busybox_root


@pytest.fixture
def build(tmp_path: Path, engine: pylxc.Engine) -> Builder:
    """Builds on an empty context; only "scratch" and "host" are there to build on."""
    return Builder(Files(tmp_path / "context"), engine)


@pytest.fixture
def on_busybox(build: Builder, busybox: pylxc.Image) -> Builder:
    """Builds with an image "busybox" in the store."""
    assert busybox.refs == ("busybox:latest",)
    return build


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server on loopback, asked without a proxy and with short pauses."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Web()
    yield server
    server.close()


@pytest.fixture
def upstream(tmp_path: Path, web: Web) -> Upstream:
    """A repository on that server."""
    made = Upstream(tmp_path / "served", web)
    made.commit({"a": "a", "sub/b": "b", "sub/tool": "#!", "link": "-> sub/b"})
    return made
