"""The networks and volumes of an environment: made when it comes up, found again by their labels.

Invariant: what was made otherwise (external, or without the project's label) is used, never changed or removed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pylxc.compose.parts import labels
from pylxc.compose.parts.refusals import unsupported
from pylxc.compose.parts.wiring import directory_of, links_to_networks
from pylxc.errors import Conflict, NetworkNotFound, SpecError, VolumeNotFound
from pylxc.network import Network
from pylxc.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.compose.model import Model
    from pylxc.compose.parts.found import Found


def digest(value: object) -> str:
    """Return the digest of what JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


# -- networks ----------------------------------------------------------------------------------------------------------


def wanted_networks(model: Model, services: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return name -> declaration (with its ``key``) of the networks that services are on."""
    declared = model.document.get("networks") or {}
    keys = {(given or {}).get("name") or f"{model.name}_{key}": key for key, given in declared.items()}
    names = {name for service in services.values() for name in links_to_networks(model, service)}
    return {
        name: {**(declared.get(keys.get(name, "default")) or {}), "key": keys.get(name, "default")}
        for name in sorted(names)
    }


def changed_networks(found: Found, wanted: Mapping[str, Mapping[str, Any]]) -> list[Network]:
    """Return the project's networks that are declared otherwise now than when they were made."""
    there = {network.name: network for network in found.networks()}
    return [
        there[name]
        for name, given in wanted.items()
        if name in there and not given.get("external") and there[name].labels.get(labels.HASH) != digest(given)
    ]


def make_network(found: Found, model: Model, name: str, given: Mapping[str, Any], *, detach: bool) -> Network | None:
    """Make a network where it is not there yet; return it then. Raises Conflict, NetworkNotFound, UnsupportedError."""
    engine = found.engine
    path = f"networks.{given['key']}"
    try:
        there = Network.get(name, engine=engine)
    except NetworkNotFound:
        if given.get("external"):
            raise NetworkNotFound(name, f"{path} is external: make it first, with `pylxc network create`") from None
    else:
        if not given.get("external") and there.labels.get(labels.PROJECT) != found.project:
            remedy = f"a network of this name is there, and is not of project {found.project}; give {path}.external"
            raise Conflict(name, remedy)
        return None
    if given.get("driver") not in (None, "", "default", "bridge"):
        raise unsupported(model, f"{path}.driver: {given['driver']}", "there are bridges of this machine only")
    marks = {**_texts(given.get("labels")), labels.PROJECT: found.project, labels.NETWORK: given["key"]}
    marks[labels.HASH] = digest(given)
    subnets = _subnets(model, path, given)
    return Network.create(
        name, subnets or None, bool(given.get("internal")), labels=marks, detach=detach, engine=engine
    )


def _texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (given or {}).items()}


def _subnets(model: Model, path: str, given: Mapping[str, Any]) -> list[str]:
    ipam = given.get("ipam") or {}
    if ipam.get("driver") not in (None, "", "default") or ipam.get("options"):
        raise unsupported(model, f"{path}.ipam", "addresses are given out by pylxc; config takes subnet")
    found = []
    for one in ipam.get("config") or ():
        for key in one:
            if key not in ("subnet", "gateway"):
                raise unsupported(model, f"{path}.ipam.config.{key}", "give subnet; addresses in it are pylxc's choice")
        if one.get("subnet"):
            found.append(str(one["subnet"]))
            _check_gateway(model, f"{path}.ipam.config.gateway", one)
    return found


def _check_gateway(model: Model, path: str, given: Mapping[str, str]) -> None:
    from pylxc import subnets  # noqa: PLC0415  few files say so

    gateway = given.get("gateway")
    if gateway and str(subnets.address(subnets.parse(given["subnet"])[0], subnets.GATEWAY).ip) != gateway:
        raise unsupported(model, f"{path}: {gateway}", "the gateway is the first address of the subnet")


# -- volumes -----------------------------------------------------------------------------------------------------------


def make_volumes(found: Found, model: Model, services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Make the volumes that services have and that are not there yet; return warnings. Raises VolumeNotFound."""
    used = {
        str(mount["source"])
        for service in services.values()
        for mount in service.get("volumes") or ()
        if mount.get("type") == "volume" and mount.get("source")
    }
    warnings = []
    declared = model.document.get("volumes") or {}
    for key in sorted(used):
        given = declared.get(key) or {}
        if given.get("driver") not in (None, "", "local"):
            raise unsupported(model, f"volumes.{key}.driver: {given['driver']}", "volumes are directories of the store")
        if directory_of(model, key, given):
            continue
        warnings += _make_volume(found, key, given.get("name") or f"{model.name}_{key}", given)
    return warnings


def _make_volume(found: Found, key: str, name: str, given: Mapping[str, Any]) -> list[str]:
    try:
        there = Volume.get(name, engine=found.engine)
    except VolumeNotFound:
        if given.get("external"):
            remedy = f"volumes.{key} is external: make it first, with `pylxc volume create`"
            raise VolumeNotFound(name, remedy) from None
        marks = {**_texts(given.get("labels")), labels.PROJECT: found.project, labels.VOLUME: key}
        with suppress(Conflict):  # somebody else was faster
            Volume.create(name, labels=marks, engine=found.engine)
        return []
    if given.get("external") or there.labels.get(labels.PROJECT) == found.project:
        return []
    return [f"volume {name} is there, and was not made for project {found.project}; say external: true if it is meant"]


def check_project(name: str) -> str:
    """Return the name of a project as it is. Raises SpecError for what cannot be one."""
    if (
        not name
        or not name[0].isascii()
        or not name[0].isalnum()
        or name.strip("abcdefghijklmnopqrstuvwxyz0123456789_-")
    ):
        raise SpecError("project", name, "a project's name has [a-z0-9_-], and starts with a letter or a digit")
    return name
