"""A container engine in a library: build images, run and inspect containers. No daemon, no external runtime.

The verbs are :func:`run`, :func:`start`, :func:`create` and :func:`popen`; the objects :class:`Image`, :class:`Layer`,
:class:`Container`, :class:`Process`, :class:`Volume` and :class:`Network`; a store is an :class:`Engine`; every failure
is a :class:`PylxcError`. :mod:`pylxc.aio` has the same for event loops.

Invariant: importing this package loads nothing but itself; a name is loaded when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylxc import aio, linux
    from pylxc.attachment import Attachment, Output
    from pylxc.build.events import BuildEvent
    from pylxc.build.fluent import Build
    from pylxc.care.reports import CheckReport, DiskUsage, Problem, Pruned, RepairReport, Usage
    from pylxc.changes import Change
    from pylxc.compose.running.following import ServiceLine
    from pylxc.compose.running.syncing import Synced
    from pylxc.container import Container
    from pylxc.diagnosis import Diagnosis, Finding, doctor
    from pylxc.engine import Engine
    from pylxc.environment import Environment
    from pylxc.errors import (
        AuthError,
        BuildError,
        ComposeError,
        Conflict,
        ContainerNotFound,
        DockerfileError,
        ExitError,
        ImageNotFound,
        IntegrityError,
        NetworkNotFound,
        NotFound,
        PylxcError,
        RegistryError,
        SpawnError,
        SpecError,
        StoreError,
        TimeoutExpired,
        UnsupportedError,
        VolumeNotFound,
    )
    from pylxc.eventstream import Event, EventStream, events
    from pylxc.image import Image
    from pylxc.imageconfig import Healthcheck, History, ImageConfig
    from pylxc.layer import Layer, LayerEntry
    from pylxc.mounts import Mount
    from pylxc.network import Member, Network
    from pylxc.process import Process
    from pylxc.registry.access import login, logout
    from pylxc.registry.progress import Progress
    from pylxc.result import Result
    from pylxc.runtime.logs import LogLine
    from pylxc.runtime.processes import ProcessInfo
    from pylxc.spec import ContainerSpec, Device, Port
    from pylxc.stats import Pressure, Stats, Traffic
    from pylxc.status import Status
    from pylxc.streams import INHERIT
    from pylxc.verbs import create, popen, run, start
    from pylxc.volume import Volume

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022  in plain order, as sorted() has it
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

_HOMES = {
    "attachment": ("Attachment", "Output"),
    "build.events": ("BuildEvent",),
    "build.fluent": ("Build",),
    "changes": ("Change",),
    "care.reports": ("CheckReport", "DiskUsage", "Problem", "Pruned", "RepairReport", "Usage"),
    "compose.running.following": ("ServiceLine",),
    "compose.running.syncing": ("Synced",),
    "container": ("Container",),
    "diagnosis": ("Diagnosis", "Finding", "doctor"),
    "engine": ("Engine",),
    "environment": ("Environment",),
    "eventstream": ("Event", "EventStream", "events"),
    "image": ("Image",),
    "imageconfig": ("Healthcheck", "History", "ImageConfig"),
    "layer": ("Layer", "LayerEntry"),
    "mounts": ("Mount",),
    "network": ("Member", "Network"),
    "process": ("Process",),
    "registry.access": ("login", "logout"),
    "registry.progress": ("Progress",),
    "result": ("Result",),
    "runtime.logs": ("LogLine",),
    "runtime.processes": ("ProcessInfo",),
    "spec": ("ContainerSpec", "Device", "Port"),
    "stats": ("Pressure", "Stats", "Traffic"),
    "status": ("Status",),
    "streams": ("INHERIT",),
    "verbs": ("create", "popen", "run", "start"),
    "volume": ("Volume",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  `import pylxc` loads nothing

    if name in {"aio", "linux"}:
        return import_module(f"{__name__}.{name}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
