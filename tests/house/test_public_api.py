"""What callers rely on: the public names, their docstrings, their types, and errors that travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path

import pytest

import pylxc
from pylxc import aio, errors
from pylxc.result import Result

RESULT = Result(3, None, b"out", b"err\n", 0.5)
SAMPLES: list[errors.PylxcError] = [
    errors.PylxcError("in general"),
    errors.SpecError("memory", "12x", 'give "512m"'),
    errors.NotFound("thing", "look elsewhere"),
    errors.ImageNotFound("debian:bookworm", "pull it"),
    errors.ContainerNotFound("web"),
    errors.NetworkNotFound("front"),
    errors.VolumeNotFound("data"),
    errors.Conflict("web", "is running"),
    errors.ExitError(("sh", "-c", "exit 3"), RESULT),
    errors.TimeoutExpired("sleep 60", 0.5, b"out", b"err"),
    errors.SpawnError("mount", 2, "mounts[0]: /here on /there"),
    errors.BuildError("it failed", step=3, line=7, instruction="RUN false", exit_code=1, output=b"no\n"),
    errors.DockerfileError("unknown", line=3, column=1, source="RUNN true", path="Dockerfile"),
    errors.RegistryError("it failed", status=500, code="UNKNOWN"),
    errors.AuthError("denied", status=401, code="UNAUTHORIZED"),
    errors.IntegrityError("layer", "sha256:00", "sha256:11"),
    errors.StoreError(Path("/store"), "is read-only"),
    errors.UnsupportedError("checkpoint", "leave it out"),
    errors.ComposeError("unknown key", file="compose.yaml", line=4, key="servces"),
]
KINDS = {value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.PylxcError)}
PUBLIC = [(name, getattr(pylxc, name)) for name in pylxc.__all__]


NAMES = [
    "Attachment",
    "AuthError",
    "Build",
    "BuildError",
    "BuildEvent",
    "Change",
    "CheckReport",
    "ComposeError",
    "Conflict",
    "Container",
    "ContainerNotFound",
    "ContainerSpec",
    "Device",
    "Diagnosis",
    "DiskUsage",
    "DockerfileError",
    "Engine",
    "Environment",
    "Event",
    "EventStream",
    "ExitError",
    "Finding",
    "Healthcheck",
    "History",
    "INHERIT",
    "Image",
    "ImageConfig",
    "ImageNotFound",
    "IntegrityError",
    "Layer",
    "LayerEntry",
    "LogLine",
    "Member",
    "Mount",
    "Network",
    "NetworkNotFound",
    "NotFound",
    "Output",
    "Port",
    "Pressure",
    "Problem",
    "Process",
    "ProcessInfo",
    "Progress",
    "Pruned",
    "PylxcError",
    "RegistryError",
    "RepairReport",
    "Result",
    "ServiceLine",
    "SpawnError",
    "SpecError",
    "Stats",
    "Status",
    "StoreError",
    "Synced",
    "TimeoutExpired",
    "Traffic",
    "UnsupportedError",
    "Usage",
    "Volume",
    "VolumeNotFound",
    "aio",
    "create",
    "doctor",
    "events",
    "linux",
    "login",
    "logout",
    "popen",
    "run",
    "start",
]


def test_the_public_names_are_these() -> None:
    assert pylxc.__all__ == NAMES
    assert pylxc.__all__ == sorted(pylxc.__all__)


def test_every_public_name_is_found_where_it_says() -> None:
    assert {name for name, _ in PUBLIC} <= set(dir(pylxc))
    assert [name for name, value in PUBLIC if callable(value) and value.__name__ != name] == []
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        pylxc.rnu  # noqa: B018


def test_every_public_name_has_a_docstring() -> None:
    constants = {name for name, value in PUBLIC if not callable(value)}
    assert constants == {"INHERIT", "aio", "linux"}
    assert pylxc.linux.__doc__
    assert pylxc.aio.__doc__
    assert [name for name, value in PUBLIC if name not in constants and not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", [name for name, value in PUBLIC if inspect.isclass(value)])
def test_every_public_method_has_a_docstring(name: str) -> None:
    members = vars(getattr(pylxc, name)).items()
    described = [(key, value) for key, value in members if isinstance(value, (property, classmethod, staticmethod))]
    described += [(key, value) for key, value in members if inspect.isfunction(value)]
    assert [key for key, value in described if not key.startswith("_") and not value.__doc__] == []


@pytest.mark.parametrize("name", ["run", "start", "create", "popen"])
def test_verbs_take_the_same_options(name: str) -> None:
    parameters = inspect.signature(getattr(pylxc, name)).parameters
    assert parameters["options"].kind is inspect.Parameter.VAR_KEYWORD
    assert parameters["options"].annotation == "Unpack[Options]"
    assert list(parameters)[:2] == ["image", "command"]
    assert "engine" in parameters


def test_callers_get_types() -> None:
    assert (Path(pylxc.__file__).parent / "py.typed").is_file()


def test_every_error_is_public_and_tried_here() -> None:
    assert {kind.__name__ for kind in KINDS} <= set(pylxc.__all__)
    assert {type(sample) for sample in SAMPLES} == KINDS


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("travel", [*(lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in (2, 5)), copy.deepcopy])  # noqa: S301
def test_errors_keep_their_fields(error: errors.PylxcError, travel) -> None:
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error) != ""
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)


def test_a_failed_build_travels_without_its_container() -> None:
    error = errors.BuildError("it failed", step=1, line=1, instruction="RUN false", container=object())  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(error)).container is None  # noqa: S301
    assert error.container is not None


def test_errors_are_what_python_expects() -> None:
    assert issubclass(pylxc.SpecError, ValueError)
    assert issubclass(pylxc.NotFound, LookupError)
    assert issubclass(pylxc.TimeoutExpired, TimeoutError)
    assert {pylxc.ImageNotFound, pylxc.ContainerNotFound} <= set(pylxc.NotFound.__subclasses__())


# What has no form on an event loop: it asks nobody but this process, gives what blocks (a file), or changes the thread.
ONLY_HERE = {
    "Container": {"network_namespace", "open"},
    "Environment": set(),
    "Process": {"fileno", "poll"},
    "Attachment": {"fileno"},
}


@pytest.mark.parametrize("name", ONLY_HERE)
def test_every_method_has_its_form_on_an_event_loop(name: str) -> None:
    kinds = getattr(pylxc, name), getattr(aio, name)
    here, there = ({key for key, value in inspect.getmembers(kind, inspect.isfunction)} for kind in kinds)
    methods = {key for key in here if not key.startswith("_")} - ONLY_HERE[name]
    assert methods - there == set()
    for key in methods:
        method, form = (getattr(kind, key) for kind in kinds)
        assert inspect.signature(form).parameters == inspect.signature(method).parameters, key
        assert inspect.getdoc(form), key


def test_verbs_have_their_form_on_an_event_loop() -> None:
    assert aio.__all__ == sorted(aio.__all__)
    assert [name for name in aio.__all__ if not inspect.getdoc(getattr(aio, name))] == []
    for name in ("events", "run", "start", "create", "popen"):
        assert inspect.signature(getattr(aio, name)) == inspect.signature(getattr(pylxc, name))


def test_help_shows_what_callers_get() -> None:
    returned = {name: inspect.signature(getattr(pylxc, name)).return_annotation for name in ("run", "start", "popen")}
    assert returned == {"run": "Result", "start": "Container", "popen": "Process"}
    assert inspect.signature(pylxc.Container.logs).return_annotation == "Iterator[LogLine]"
