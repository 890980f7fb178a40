"""An application as Kubernetes manifests: what is in them, and that others take them for such."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from applications import loaded, shop

from pylxc.compose.export.kubernetes import manifests
from pylxc.errors import ComposeError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLD = {"TOKEN": "t0ken"}
PATIENCE = 60  # seconds


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def made(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in manifests(shop(tmp_path), TOLD)}


def test_each_part_has_its_manifest(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert list(made) == [
        ("PersistentVolumeClaim", "t-data"),
        ("ConfigMap", "t-site"),
        ("Secret", "t-password"),
        ("Secret", "t-token"),
        ("Deployment", "web-app"),
        ("Service", "web-app"),
        ("Service", "www"),
        ("Service", "web-app-published"),
        ("Deployment", "db"),
        ("Service", "db"),
    ]
    assert made["PersistentVolumeClaim", "t-data"]["spec"]["resources"] == {"requests": {"storage": "5Gi"}}
    assert made["ConfigMap", "t-site"]["data"] == {"site": "x $y"}
    assert base64.b64decode(made["Secret", "t-password"]["data"]["password"]) == b"s3cret"
    assert base64.b64decode(made["Secret", "t-token"]["data"]["token"]) == b"t0ken"


def test_a_deployment_selects_its_own_pods(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    spec = made["Deployment", "web-app"]["spec"]
    labels = {"app.kubernetes.io/name": "web-app", "app.kubernetes.io/instance": "t"}
    assert spec["replicas"] == 2
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == labels
    assert spec["strategy"] == {"type": "Recreate"}
    left_out = "depends_on, links, networks, labels.bad key"
    assert spec["template"]["metadata"]["annotations"] == {"a.b/c": "d", "compose.pylxc/left-out": left_out}
    assert made["Service", "web-app"]["spec"]["selector"] == labels


def test_what_a_service_says_is_in_its_pod(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = made["Deployment", "web-app"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["h"]}]
    assert pod["dnsPolicy"] == "None"
    options = [{"name": "ndots", "value": "2"}, {"name": "rotate"}]
    assert pod["dnsConfig"] == {"nameservers": ["1.1.1.1"], "options": options}
    (container,) = pod["containers"]
    assert container["args"] == ["sh", "-c", "echo $$(HOME) $HOME"]  # "$(HOME)" would be a reference there
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "C", "value": "$$(X)"}]
    assert container["imagePullPolicy"] == "Never"
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": "67108864"},
        "requests": {"memory": "33554432"},
    }
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "runAsUser": 1000,
        "runAsGroup": 1001,
        "allowPrivilegeEscalation": False,
    }
    probe = {"exec": {"command": ["/bin/sh", "-c", "curl -f localhost"]}, "periodSeconds": 5, "timeoutSeconds": 30}
    assert container["readinessProbe"] == {**probe, "failureThreshold": 2}
    assert container["livenessProbe"] == {**probe, "failureThreshold": 2, "initialDelaySeconds": 60}


def test_what_is_mounted_is_in_its_place(made: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    pod = made["Deployment", "web-app"]["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    found = {}
    for mount in pod["containers"][0]["volumeMounts"]:
        source = {key: value for key, value in volumes[mount["name"]].items() if key != "name"}
        found[mount["mountPath"]] = (source, mount.get("subPath"), mount.get("readOnly", False))
    memory = {"emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}
    assert found["/data"] == ({"persistentVolumeClaim": {"claimName": "t-data"}}, None, False)
    assert found["/code"] == ({"hostPath": {"path": f"{tmp_path}/code", "type": "DirectoryOrCreate"}}, None, True)
    assert found["/scratch"] == ({"emptyDir": {}}, None, False)
    assert found["/run"] == (memory, None, False)
    items = [{"key": "password", "path": "password", "mode": 0o400}]
    secret = {"secret": {"secretName": "t-password", "items": items, "optional": False}}
    assert found["/run/secrets/password"] == (secret, "password", True)
    site = {"configMap": {"name": "t-site", "items": [{"key": "site", "path": "site.conf"}], "optional": False}}
    assert found["/etc/site.conf"] == (site, "site.conf", True)


def test_peers_find_the_ports_of_the_container_and_others_those_of_the_host(
    made: dict[tuple[str, str], dict[str, Any]],
) -> None:
    def ports(name: str) -> list[tuple[int, int, str]]:
        return [(one["port"], one["targetPort"], one["protocol"]) for one in made["Service", name]["spec"]["ports"]]

    inner = [(80, 80, "TCP"), (9000, 9000, "TCP"), (7000, 7000, "UDP"), (7001, 7001, "UDP")]
    assert ports("web-app") == ports("www") == inner
    assert ports("web-app-published") == [(8080, 80, "TCP")]
    assert made["Service", "web-app-published"]["spec"]["type"] == "LoadBalancer"
    assert made["Service", "db"]["spec"]["clusterIP"] == "None"


def test_names_that_come_to_be_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'a_b' and 'a\.b'"):
        manifests(loaded(tmp_path, "services: {a_b: {image: x}, a.b: {image: x}}\n"))
    with pytest.raises(UnsupportedError, match="is taken"):
        manifests(loaded(tmp_path, "services: {a: {image: x, ports: ['1:1']}, a-published: {image: x}}\n"))


def test_a_secret_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model = shop(tmp_path)
    with pytest.raises(UnsupportedError, match="TOKEN"):
        manifests(model, {})
    (tmp_path / "password.txt").unlink()
    with pytest.raises(ComposeError, match=r"secrets\.password\.file"):
        manifests(model, TOLD)
    (tmp_path / "password.txt").write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(UnsupportedError, match="1 MiB"):
        manifests(model, TOLD)


def test_what_is_made_elsewhere_is_only_named(tmp_path: Path) -> None:
    text = """\
        services: {a: {image: x, volumes: [data:/d], secrets: [key]}}
        volumes: {data: {external: true, name: Old_Data}}
        secrets: {key: {external: true}}
        """
    found = manifests(loaded(tmp_path, text))
    assert [one["kind"] for one in found] == ["Deployment", "Service"]
    volumes = found[0]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"] == {"claimName": "old-data"}
    assert volumes[1]["secret"]["secretName"] == "key"


HOST = """\
    services:
      agent:
        build: .
        network_mode: host
        pid: host
        ipc: shareable
        user: somebody
        group_add: [audio, "5"]
        privileged: true
        security_opt: [label=disable]
        sysctls: {net.core.somaxconn: 1024}
        extra_hosts: [h:host-gateway, i:1.1.1.1]
        dns_search: example.com
        pull_policy: daily
        post_start: [{command: [a, b]}]
        pre_stop: [{command: [c], user: root}]
        volumes:
          - {type: tmpfs, target: /t, tmpfs: {size: 1m}}
          - {type: image, source: x, target: /i}
          - {type: bind, source: ./compose.yaml, target: /c}
        secrets: [{source: s, uid: "5"}]
        healthcheck: {disable: true}
        deploy: {resources: {limits: {pids: 5}, reservations: {devices: [{capabilities: [gpu]}]}}}
        entrypoint: [/agent]
        tty: true
    secrets: {s: {environment: TOKEN}}
    """


def test_a_pod_that_shares_with_its_host(tmp_path: Path) -> None:
    deployment = manifests(loaded(tmp_path, HOST), TOLD)[1]
    template = deployment["spec"]["template"]
    assert set(template["metadata"]["annotations"]["compose.pylxc/left-out"].split(", ")) == {
        "volumes./i",
        "secrets.s.uid",
        "ipc",
        "extra_hosts.h",
        "group_add",
        "pull_policy",
        "deploy.resources.reservations.devices",
        "deploy.resources.limits.pids",
        "user",
        "security_opt.label",
        "pre_stop",
    }
    pod = template["spec"]
    (container,) = pod["containers"]
    assert (pod["hostNetwork"], pod["hostPID"]) == (True, True)
    assert pod["securityContext"] == {
        "supplementalGroups": [5],
        "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}],
    }
    assert pod["dnsConfig"] == {"searches": ["example.com"]}
    assert pod["hostAliases"] == [{"ip": "1.1.1.1", "hostnames": ["i"]}]
    assert container["image"] == "t-agent"
    assert (container["command"], container["tty"]) == (["/agent"], True)
    assert container["securityContext"] == {"privileged": True}
    assert container["lifecycle"] == {
        "postStart": {"exec": {"command": ["a", "b"]}},
        "preStop": {"exec": {"command": ["c"]}},
    }
    assert {"livenessProbe", "imagePullPolicy", "resources"} & set(container) == set()
    assert {one["name"]: one for one in pod["volumes"]}["agent-1"] == {
        "name": "agent-1",
        "hostPath": {"path": f"{tmp_path}/compose.yaml"},
    }


@pytest.mark.slow
def test_the_models_of_the_official_client_take_them(tmp_path: Path) -> None:
    """They read each manifest without losing a field. Needs the package kubernetes of PyPI."""
    from kubernetes import client

    api = client.ApiClient()
    for one in manifests(shop(tmp_path), TOLD):
        read = api._ApiClient__deserialize(one, f"V1{one['kind']}")
        assert api.sanitize_for_serialization(read) == one


@pytest.mark.slow
@pytest.mark.root
def test_podman_takes_them(tmp_path: Path, stack: ExitStack) -> None:
    """Needs Debian's podman: it makes the pods, without starting them."""
    assert shutil.which("podman"), "apt install podman"
    (tmp_path / "containers.conf").write_text('[engine]\ninfra_image = "localhost/app:latest"\n')
    own = stack.enter_context(tempfile.TemporaryDirectory(prefix="podman-"))  # it takes no path of 50 characters
    places = [f"--{name}={own}/{name}" for name in ("root", "runroot", "tmpdir")]
    general = [*places, "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]

    def podman(*words: str, data: bytes = b"") -> str:
        environment = {**os.environ, "CONTAINERS_CONF": str(tmp_path / "containers.conf")}
        done = subprocess.run(
            ["podman", *general, *words],
            env=environment,
            input=data,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    archive = subprocess.run(
        ["tar", "-cC", "/bin", "busybox"], capture_output=True, check=True, timeout=PATIENCE
    ).stdout
    podman("import", "--change", 'ENTRYPOINT ["/busybox", "sleep", "100"]', "-", "localhost/app:latest", data=archive)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(manifests(shop(tmp_path), TOLD)))
    try:
        podman("kube", "play", "--start=false", str(tmp_path / "all.yaml"))
        names = podman("ps", "-a", "--format", "{{.Names}}").split()
        expected = {"web-app-pod-0-web-app", "web-app-pod-1-web-app", "db-pod-0-db"}
        assert {name for name in names if not name.endswith("-infra")} == expected
        (found,) = json.loads(podman("inspect", "web-app-pod-0-web-app"))
        assert {"A=1", "C=$$(X)"} <= set(found["Config"]["Env"])
        places = {"/data", "/code", "/run", "/scratch", "/dev/shm", "/run/secrets/password", "/etc/site.conf"}
        assert places <= {mount["Destination"] for mount in found["Mounts"]}
        assert found["HostConfig"]["Memory"] == 64 << 20
        assert found["Config"]["User"] == "1000:1001"
    finally:
        podman("pod", "rm", "-fa", "-t", "0")
        podman("volume", "rm", "-fa")
