"""One service of a Compose file as a Kubernetes pod.

Hides how the keys of a service are spelled there. Invariant: what a pod cannot say is named in an annotation, never
left out without a word.
Source: Kubernetes API reference v1, PodSpec, Container, Volume, Probe.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pylxc.errors import UnsupportedError
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEFT_OUT = "compose.pylxc/left-out"  # the annotation
_LONGEST = 63  # characters of a name (RFC 1123)
# Keys that a pod has a place for, or that the manifests around it carry out.
_CARRIED = frozenset(
    {
        *("annotations", "build", "cap_add", "cap_drop", "command", "configs", "cpus", "deploy"),
        *("develop", "dns", "dns_opt", "dns_search", "domainname", "entrypoint", "environment", "expose"),
        *("extra_hosts", "group_add", "healthcheck", "hostname", "image", "ipc", "labels", "mem_limit"),
        *("mem_reservation", "network_mode", "networks", "pid", "ports", "post_start", "pre_stop", "privileged"),
        *("profiles", "pull_policy", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size"),
        *("stdin_open", "stop_grace_period", "sysctls", "tmpfs", "tty", "user", "volumes", "working_dir"),
    }
)
_PULLS = {"always": "Always", "never": "Never", "missing": "IfNotPresent", "build": "IfNotPresent"}
_SHARED = {"pid": "hostPID", "ipc": "hostIPC", "network_mode": "hostNetwork"}


def dns_name(*parts: str) -> str:
    """Return a name that Kubernetes takes, as near as can be.

    >>> dns_name("My_App", "db.main")
    'my-app-db-main'
    """
    name = re.sub(r"[^a-z0-9-]+", "-", "-".join(parts).lower())[:_LONGEST].strip("-")
    if not name:
        raise UnsupportedError(f"the name {'-'.join(parts)!r}", "Kubernetes takes letters, digits and - : rename it")
    return name


@define
class Pod:
    """A pod in the making. ``resources``: the names there of volumes, secrets and configs, by kind and name here."""

    service: Mapping[str, Any]
    name: str
    resources: Mapping[tuple[str, str], str]
    left_out: list[str] = field(factory=list)
    volumes: list[dict[str, Any]] = field(factory=list)
    mounts: list[dict[str, Any]] = field(factory=list)

    def template(self, labels: Mapping[str, str], image: str) -> dict[str, Any]:
        """Return the template of a Deployment. ``image``: what it runs."""
        self._mount_all()
        container = self._container(image)
        spec = {**self._spec(), "containers": [container]}
        if self.volumes:
            spec["volumes"] = self.volumes
        self._name_left_out()
        annotations = {**self._texts("labels"), **self._texts("annotations")}
        if self.left_out:
            annotations[LEFT_OUT] = ", ".join(dict.fromkeys(self.left_out))
        metadata = {"labels": dict(labels), "annotations": annotations}
        return {"metadata": {key: value for key, value in metadata.items() if value}, "spec": spec}

    def _texts(self, key: str) -> dict[str, str]:
        """Return labels or annotations whose names Kubernetes takes; the others are left out."""
        found: dict[str, str] = {}
        for name, value in (self.service.get(key) or {}).items():
            if re.fullmatch(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", name):
                found[name] = value
            else:
                self.left_out.append(f"{key}.{name}")
        return found

    def _name_left_out(self) -> None:
        self.left_out += [key for key in sorted(self.service) if key not in _CARRIED and not key.startswith("x-")]
        if any(name != "default" for name in self.service.get("networks") or ()):
            self.left_out.append("networks")  # there all pods are in one
        if self.service.get("restart") in ("no", "on-failure"):
            self.left_out.append("restart")

    # -- the pod -------------------------------------------------------------------------------------------------------

    def _spec(self) -> dict[str, Any]:
        service = self.service
        spec: dict[str, Any] = {"restartPolicy": "Always"}
        for key, name in (("hostname", "hostname"), ("domainname", "subdomain")):
            if service.get(key):
                spec[name] = dns_name(service[key])
        for key, name in _SHARED.items():
            mode = service.get(key)
            if mode == "host":
                spec[name] = True
            elif mode and not (key == "network_mode" and mode == "bridge"):
                self.left_out.append(key)
        if "stop_grace_period" in service:
            spec["terminationGracePeriodSeconds"] = _seconds(service["stop_grace_period"])
        if "extra_hosts" in service:
            spec["hostAliases"] = self._aliases()
        if {"dns", "dns_search", "dns_opt"} & set(service):
            spec |= self._dns()
        context = self._pod_security()
        return {**spec, "securityContext": context} if context else spec

    def _pod_security(self) -> dict[str, Any]:
        context: dict[str, Any] = {}
        groups = [int(group) for group in self.service.get("group_add", ()) if group.isdigit()]
        if len(groups) < len(self.service.get("group_add", ())):
            self.left_out.append("group_add")
        if groups:
            context["supplementalGroups"] = groups
        if self.service.get("sysctls"):
            context["sysctls"] = [{"name": name, "value": value} for name, value in self.service["sysctls"].items()]
        return context

    def _aliases(self) -> list[dict[str, Any]]:
        found: dict[str, list[str]] = {}
        for entry in self.service["extra_hosts"]:
            name, _, address = entry.partition("=")
            if address == "host-gateway":
                self.left_out.append(f"extra_hosts.{name}")
            else:
                found.setdefault(address, []).append(name)
        return [{"ip": address, "hostnames": names} for address, names in found.items()]

    def _dns(self) -> dict[str, Any]:
        service = self.service
        config: dict[str, Any] = {}
        if service.get("dns"):
            config["nameservers"] = list(service["dns"])
        if service.get("dns_search"):
            config["searches"] = list(service["dns_search"])
        options = [option.partition(":") for option in service.get("dns_opt", ())]
        if options:
            config["options"] = [
                {"name": name, "value": value} if colon else {"name": name} for name, colon, value in options
            ]
        return {"dnsPolicy": "None", "dnsConfig": config} if service.get("dns") else {"dnsConfig": config}

    # -- its container -------------------------------------------------------------------------------------------------

    def _container(self, image: str) -> dict[str, Any]:
        service = self.service
        container: dict[str, Any] = {"name": self.name, "image": image}
        names = {"entrypoint": "command", "command": "args", "working_dir": "workingDir"}
        names |= {"tty": "tty", "stdin_open": "stdin"}
        for key, name in names.items():
            if service.get(key):
                container[name] = [*map(_literal, service[key])] if key in ("entrypoint", "command") else service[key]
        policy = service.get("pull_policy", "")
        if policy in _PULLS:
            container["imagePullPolicy"] = _PULLS[policy]
        elif policy:
            self.left_out.append("pull_policy")
        variables = (service.get("environment") or {}).items()
        parts = {
            "env": [{"name": name, "value": _literal(value)} for name, value in variables if value is not None],
            "ports": [
                {"containerPort": port, "protocol": protocol} for port, protocol in dict.fromkeys(ports_of(service))
            ],
            "volumeMounts": self.mounts,
            "resources": self._resources(),
            "securityContext": self._security(),
            "lifecycle": self._lifecycle(),
            **self._probes(),
        }
        return {**container, **{key: value for key, value in parts.items() if value}}

    def _resources(self) -> dict[str, Any]:
        service = self.service
        said = (service.get("deploy") or {}).get("resources") or {}
        limits, reserved = said.get("limits") or {}, said.get("reservations") or {}
        if {"devices", "generic_resources"} & set(reserved):
            self.left_out.append("deploy.resources.reservations.devices")
        if "pids" in limits:
            self.left_out.append("deploy.resources.limits.pids")
        found = {
            "limits": _amounts(limits.get("cpus", service.get("cpus")), limits.get("memory", service.get("mem_limit"))),
            "requests": _amounts(reserved.get("cpus"), reserved.get("memory", service.get("mem_reservation"))),
        }
        return {key: value for key, value in found.items() if value}

    def _security(self) -> dict[str, Any]:
        service = self.service
        context: dict[str, Any] = {}
        if service.get("privileged"):
            context["privileged"] = True
        if service.get("read_only"):
            context["readOnlyRootFilesystem"] = True
        capabilities = {"add": service.get("cap_add"), "drop": service.get("cap_drop")}
        capabilities = {
            key: [one.removeprefix("CAP_") for one in value] for key, value in capabilities.items() if value
        }
        if capabilities:
            context["capabilities"] = capabilities
        user, _, group = service.get("user", "").partition(":")
        for number, name in ((user, "runAsUser"), (group, "runAsGroup")):
            if number.isdigit():
                context[name] = int(number)
            elif number:
                self.left_out.append("user")
        for option in service.get("security_opt", ()):
            if re.fullmatch("no-new-privileges(:true)?", option):
                context["allowPrivilegeEscalation"] = False
            else:
                self.left_out.append(f"security_opt.{option.partition(':')[0].partition('=')[0]}")
        return context

    def _probes(self) -> dict[str, Any]:
        """Return what restarts a container that is not healthy, and what keeps requests from one that is not yet."""
        health = self.service.get("healthcheck") or {}
        test = health.get("test") or ["NONE"]
        if health.get("disable") or test[0] == "NONE":
            return {}
        command = ["/bin/sh", "-c", *test[1:]] if test[0] == "CMD-SHELL" else test[1:]
        probe: dict[str, Any] = {"periodSeconds": _seconds(health.get("interval", "30s"))}
        probe["timeoutSeconds"] = _seconds(health.get("timeout", "30s"))
        probe["failureThreshold"] = health.get("retries") or 3
        delay = {"initialDelaySeconds": _seconds(health["start_period"])} if "start_period" in health else {}
        return {
            "livenessProbe": {"exec": {"command": command}, **probe, **delay},
            "readinessProbe": {"exec": {"command": list(command)}, **probe},
        }

    def _lifecycle(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, name in (("post_start", "postStart"), ("pre_stop", "preStop")):
            hooks = self.service.get(key) or []
            if hooks:
                found[name] = {"exec": {"command": hooks[0]["command"]}}
            if len(hooks) > 1 or any(set(hook) - {"command"} for hook in hooks):
                self.left_out.append(key)
        return found

    # -- what it mounts ------------------------------------------------------------------------------------------------

    def _mount_all(self) -> None:
        for mount in self.service.get("volumes") or ():
            self._mount(mount)
        for text in self.service.get("tmpfs") or ():
            target, _, options = text.partition(":")
            size = next((one[5:] for one in options.split(",") if one.startswith("size=")), "")
            self._add(target, _memory(size.upper() + "i" if size[-1:].lower() in ("k", "m", "g") else size))
        if self.service.get("shm_size"):
            self._add("/dev/shm", _memory(self.service["shm_size"]))  # noqa: S108  its place in every container
        for kind, directory in (("secrets", "/run/secrets"), ("configs", "/")):
            for item in self.service.get(kind) or ():
                self._file(kind, directory, item)

    def _mount(self, mount: Mapping[str, Any]) -> None:
        kind, source, target = mount["type"], mount.get("source", ""), mount["target"]
        extra: dict[str, Any] = {"readOnly": True} if mount.get("read_only") else {}
        path = (mount.get("volume") or {}).get("subpath")
        extra |= {"subPath": path} if path else {}
        if kind == "bind":
            is_made = (mount.get("bind") or {}).get("create_host_path") and not os.path.isfile(source)  # noqa: PTH113  text
            self._add(
                target, {"hostPath": {"path": source, **({"type": "DirectoryOrCreate"} if is_made else {})}}, extra
            )
        elif kind == "tmpfs":
            self._add(target, _memory((mount.get("tmpfs") or {}).get("size", "")), extra)
        elif kind == "volume" and source:
            claim = self.resources["volumes", source]
            self._add(target, {"persistentVolumeClaim": {"claimName": claim}}, extra, name=claim)
        elif kind == "volume":
            self._add(target, {"emptyDir": {}}, extra)
        else:
            self.left_out.append(f"volumes.{target}")

    def _file(self, kind: str, directory: str, item: Mapping[str, Any]) -> None:
        name = self.resources[kind, item["source"]]
        target = posixpath.join(directory, item.get("target") or item["source"])
        entry: dict[str, Any] = {"key": item["source"], "path": posixpath.basename(target)}
        if "mode" in item:
            entry["mode"] = int(item["mode"], 8)
        if {"uid", "gid"} & set(item):
            self.left_out.append(f"{kind}.{item['source']}.uid")
        which: dict[str, dict[str, Any]] = (
            {"secret": {"secretName": name}} if kind == "secrets" else {"configMap": {"name": name}}
        )
        for reference in which.values():
            reference |= {"items": [entry], "optional": False}
        self._add(target, which, {"subPath": entry["path"], "readOnly": True})

    def _add(self, target: str, source: dict[str, Any], extra: Mapping[str, Any] | None = None, name: str = "") -> None:
        name = name or dns_name(self.name[:50], str(len(self.volumes)))  # podman has one name space for all pods
        if all(volume["name"] != name for volume in self.volumes):
            self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": target, **(extra or {})})


def ports_of(service: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the ports of a service's container, each with its protocol: TCP, UDP or SCTP."""
    for port in service.get("ports") or ():
        yield port["target"], port["protocol"].upper()
    for text in service.get("expose") or ():
        numbers, _, protocol = text.partition("/")
        low, _, high = numbers.partition("-")
        for number in range(int(low), int(high or low) + 1) if low.isdigit() else ():
            yield number, protocol.upper() or "TCP"


def _seconds(duration: str) -> int:
    return max(1, round(parse_duration(duration.lstrip("-"))))


def _amounts(cpus: float | None, memory: str | None) -> dict[str, str]:
    found = {"cpu": f"{round(cpus * 1000)}m" if cpus else "", "memory": memory if memory and memory != "-1" else ""}
    return {key: value for key, value in found.items() if value}


def _memory(size: str) -> dict[str, Any]:
    return {"emptyDir": {"medium": "Memory", **({"sizeLimit": size} if size else {})}}


def _literal(value: str) -> str:
    """Return a value that Kubernetes does not take for a reference: "$(NAME)" is one, "$$" is a dollar."""
    return value.replace("$(", "$$(")
