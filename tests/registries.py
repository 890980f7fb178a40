"""What tests of registries share: scripted registries, and a client in a hurry; a conftest.py takes them over."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from fake import Fake, running

from pylxc.reference import Reference
from pylxc.registry.client import Client
from pylxc.registry.dockerconfig import DockerConfig
from pylxc.registry.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pylxc.registry.client import Repository

PATIENT = 60.0  # s; of connections that are to be in time, on whatever machine


@pytest.fixture
def settings(tmp_path: Path, bare_environment: None, no_thread_is_left: None) -> Settings:
    """Settings of nobody's, with retries that take no time."""
    return Settings(
        config=DockerConfig(tmp_path / "docker/config.json"),
        timeout=PATIENT,
        connect_timeout=PATIENT,
        retries=3,
        backoff=0.001,
        longest_wait=0.05,
    )


@pytest.fixture
def fake() -> Iterator[Fake]:
    """An honest registry, until the test says otherwise."""
    with running(Fake()) as made:
        yield made


@pytest.fixture
def elsewhere() -> Iterator[Fake]:
    """Another host: another port is another origin."""
    with running(Fake()) as made:
        yield made


@pytest.fixture
def repository(fake: Fake, settings: Settings) -> Iterator[Callable[..., Repository]]:
    """Return a function that gives the repository ``app:1`` of the fake registry, with settings changed at will."""
    clients: list[Client] = []

    def make(text: str = "app:1", on_progress=None, **changes: object) -> Repository:
        clients.append(Client(evolve(settings, **changes), on_progress=on_progress))
        return clients[-1].repository(Reference.parse(f"{fake.host}/{text}"))

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """No test leaves a thread of pylxc's."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pylxc")] == []


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine's, no configuration of the user's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("DOCKER_CONFIG", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine's loopback, with its key, in one file: it is its own authority."""
    place = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", names]
    command += ["-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    both = place / "both.pem"
    both.write_bytes((place / "cert.pem").read_bytes() + (place / "key.pem").read_bytes())
    return both
