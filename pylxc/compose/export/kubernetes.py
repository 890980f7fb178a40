"""A Compose application as Kubernetes manifests, for those who outgrow one machine.

Hides what an application becomes there: a Deployment and a Service for each service, a PersistentVolumeClaim for each
volume, a ConfigMap and a Secret for each config and secret. Invariant: nothing is started, and what has no counterpart
is named in the annotation ``compose.pylxc/left-out`` of the pod it belongs to.
Source: Kubernetes API reference, apps/v1 and core/v1.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from pylxc.compose.export.pods import Pod, dns_name, ports_of
from pylxc.compose.syntax.reading import read_file
from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylxc.compose.model import Model

CLAIM = "1Gi"  # what a volume asks for, unless its "x-kubernetes-size" says more
LARGEST = 1 << 20  # bytes of a ConfigMap or a Secret
_NAME, _INSTANCE = "app.kubernetes.io/name", "app.kubernetes.io/instance"


def manifests(model: Model, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the manifests of an application, in the order in which they are to be applied.

    ``environment``: where configs and secrets that name a variable find it (default: this process's). Volumes ask for
    1 GiB, or what ``x-kubernetes-size`` of the volume says, such as "20Gi".

    Raises UnsupportedError where names come to be the same, or a config or secret is too large or not there;
    ComposeError where its file cannot be read.

    Example:
        >>> for manifest in manifests(model):       # doctest: +SKIP
        ...     print("---")
        ...     print(yaml.safe_dump(manifest))

    """
    variables = os.environ if environment is None else environment
    resources = _resource_names(model)
    found = [
        *_claims(model, resources),
        *_files(model, resources, variables, "configs"),
        *_files(model, resources, variables, "secrets"),
    ]
    names: dict[str, str] = {}
    for name, service in model.services.items():
        there = dns_name(name)
        _no_clash("services", name, there, names)
        labels = {_NAME: there, _INSTANCE: dns_name(model.name)}
        found.append(_deployment(model, name, service, labels, resources))
        found += _services(there, service, labels)
    seen: set[str] = set()
    for one in found:
        where = f"{one['kind']} {one['metadata']['name']}"
        if where in seen:
            raise UnsupportedError(
                f"two manifests {where}", "an alias, or a name with '-published', is taken: rename it"
            )
        seen.add(where)
    return found


def _no_clash(kind: str, name: str, there: str, names: dict[str, str]) -> None:
    if names.setdefault(there, name) != name:
        feature = f"the {kind} {names[there]!r} and {name!r} at once"
        raise UnsupportedError(feature, f"both are {there!r} in Kubernetes: rename one of them")


def _resource_names(model: Model) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for kind in ("volumes", "secrets", "configs"):
        names: dict[str, str] = {}
        for name, resource in (model.document.get(kind) or {}).items():
            found[kind, name] = dns_name(resource["name"])
            _no_clash(kind, name, found[kind, name], names)
    return found


def _object(kind: str, name: str, labels: Mapping[str, str], version: str = "v1", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}, **rest}


def _deployment(
    model: Model,
    name: str,
    service: Mapping[str, Any],
    labels: Mapping[str, str],
    resources: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    there = labels[_NAME]
    deploy = service.get("deploy") or {}
    image = service.get("image") or f"{model.name}-{name}"
    template = Pod(service, there, resources).template(labels, image)
    volumes = template["spec"].get("volumes", ())
    spec: dict[str, Any] = {
        "replicas": service.get("scale", deploy.get("replicas", 1)),
        "selector": {"matchLabels": dict(labels)},
        "template": template,
    }
    if any("persistentVolumeClaim" in volume for volume in volumes):
        spec["strategy"] = {"type": "Recreate"}  # a volume that one node has cannot be had by the next at the same time
    return _object("Deployment", there, labels, "apps/v1", spec=spec)


def _services(there: str, service: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what peers find a service by, on the ports of its container, and what publishes it, on those of a host."""
    inner = [_port(port, port, protocol) for port, protocol in dict.fromkeys(ports_of(service))]
    spec: dict[str, Any] = {"selector": dict(labels)}
    spec |= {"ports": inner} if inner else {"clusterIP": "None"}
    aliases = {alias for one in (service.get("networks") or {}).values() for alias in (one or {}).get("aliases", ())}
    for name in sorted({there, *map(dns_name, aliases)}):
        yield _object("Service", name, labels, spec=spec)
    outer = [
        _port(int(port["published"]), port["target"], port["protocol"].upper())
        for port in service.get("ports") or ()
        if port.get("published", "").isdigit() and port["published"] != "0"
    ]
    if outer:
        distinct = {entry["name"]: entry for entry in outer}
        spec = {"type": "LoadBalancer", "selector": dict(labels), "ports": list(distinct.values())}
        yield _object("Service", dns_name(there, "published"), labels, spec=spec)


def _port(port: int, target: int, protocol: str) -> dict[str, Any]:
    return {"name": f"{port}-{protocol.lower()}", "port": port, "targetPort": target, "protocol": protocol}


def _claims(model: Model, resources: Mapping[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    for name, volume in (model.document.get("volumes") or {}).items():
        if not volume.get("external"):
            size = str(volume.get("x-kubernetes-size", CLAIM))
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
            labels = {_INSTANCE: dns_name(model.name)}
            yield _object("PersistentVolumeClaim", resources["volumes", name], labels, spec=spec)


def _files(
    model: Model, resources: Mapping[tuple[str, str], str], variables: Mapping[str, str], kind: str
) -> Iterator[dict[str, Any]]:
    labels = {_INSTANCE: dns_name(model.name)}
    for name, resource in (model.document.get(kind) or {}).items():
        if resource.get("external"):
            continue
        data = _content(kind, name, resource, variables)
        if len(data) > LARGEST:
            raise UnsupportedError(f"{kind}.{name} of {len(data)} bytes", "Kubernetes takes 1 MiB: use a volume")
        encoded = base64.b64encode(data).decode()
        there = resources[kind, name]
        if kind == "secrets":
            yield _object("Secret", there, labels, type="Opaque", data={name: encoded})
            continue
        try:
            yield _object("ConfigMap", there, labels, data={name: data.decode()})
        except UnicodeDecodeError:
            yield _object("ConfigMap", there, labels, binaryData={name: encoded})


def _content(kind: str, name: str, resource: Mapping[str, Any], variables: Mapping[str, str]) -> bytes:
    if "content" in resource:
        return str(resource["content"]).encode()
    if "file" in resource:
        return read_file(resource["file"], resource["file"], f"{kind}.{name}.file")
    variable = resource.get("environment")
    if variable is None or variable not in variables:
        where = f"the variable {variable} that it names is not set" if variable else "a driver keeps it"
        raise UnsupportedError(f"{kind}.{name} in Kubernetes", f"{where}: set it, or make it external")
    return variables[variable].encode()
