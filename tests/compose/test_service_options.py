"""Each key of a service is an option of its containers, or refused by name: nothing is passed over in silence."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import pylxc
from pylxc.compose.files.loading import load
from pylxc.compose.files.schema import SERVICE_KEYS
from pylxc.compose.parts import services
from pylxc.compose.parts.refusals import CARRIED_OUT, REFUSED, WITHOUT_EFFECT, check

if TYPE_CHECKING:
    from pathlib import Path

    from pylxc.compose.model import Model


def model_of(directory: Path, service: str, rest: str = "") -> Model:
    """Return the model of a file with one service, given as what stands below its name."""
    lines = "\n".join(f"    {line}" for line in service.splitlines())
    path = directory / "compose.yaml"
    path.write_text(f"services:\n  web:\n    image: busybox\n{lines}\n{rest}")
    return load([path], project="shop")


def options(directory: Path, service: str) -> dict[str, Any]:
    model = model_of(directory, service)
    found = model.document["services"]["web"]
    check(model, {"web": found})
    made = services.options_of(model, "web", found)
    pylxc.ContainerSpec.from_options("busybox", None, {**made, "network": "none"})  # every value can be used
    return made


SAID = [
    ("cap_add: [NET_ADMIN]\ncap_drop: [ALL]", {"cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"]}),
    ("cgroup: host", {"cgroup": "host"}),
    ("entrypoint: /bin/sh -c", {"entrypoint": ["/bin/sh", "-c"]}),
    ("entrypoint: []", {"entrypoint": []}),
    ("working_dir: /srv\nuser: '1000:1000'", {"workdir": "/srv", "user": "1000:1000"}),
    ("init: true\ntty: true\nstdin_open: true", {"init": True, "tty": True, "stdin": True}),
    ("read_only: true\ntmpfs: [/run, '/tmp:size=1m']", {"read_only": True, "tmpfs": ["/run", "/tmp:size=1m"]}),
    ("stop_signal: SIGINT\nstop_grace_period: 1m30s", {"stop_signal": "SIGINT", "stop_timeout": 90.0}),
    ("mem_limit: 64m\nmemswap_limit: 128m", {"memory": 64 << 20, "memory_swap": 128 << 20}),
    ("shm_size: 1gb", {"shm_size": 1 << 30}),
    ("cpus: 1.5\ncpu_shares: 512\ncpuset: '0'", {"cpus": 1.5, "cpu_shares": 512, "cpuset": "0"}),
    ("cpu_quota: 50000", {"cpus": 0.5}),
    ("cpu_quota: 50000\ncpu_period: 25000", {"cpus": 2.0}),
    ("pids_limit: 100\noom_score_adj: 300", {"pids_limit": 100, "oom_score_adj": 300}),
    ("blkio_config: {weight: 300}", {"io_weight": 300}),
    (
        "deploy: {resources: {limits: {cpus: '0.25', memory: 32M, pids: 9}}}",
        {"cpus": 0.25, "memory": 32 << 20, "pids_limit": 9},
    ),
    ("deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}", {"restart": "on-failure:3"}),
    ("deploy: {restart_policy: {condition: none}}", {"restart": "no"}),
    ("deploy: {restart_policy: {condition: any}}", {"restart": "always"}),
    ("restart: unless-stopped", {"restart": "unless-stopped"}),
    ("ulimits: {nproc: 10, nofile: {soft: 5, hard: 6}}", {"ulimits": {"nproc": 10, "nofile": (5, 6)}}),
    ("sysctls: {net.core.somaxconn: 1024}", {"sysctls": {"net.core.somaxconn": "1024"}}),
    ("dns: 192.0.2.1", {"dns": ["192.0.2.1"]}),
    ("dns_search: example.org\ndns_opt: ['ndots:2']", {"dns_search": ["example.org"], "dns_opt": ["ndots:2"]}),
    (
        "extra_hosts: ['a:192.0.2.1', 'b=2001:db8::1']",
        {"extra_hosts": {"a": "192.0.2.1", "b": "2001:db8::1"}},
    ),
    ("devices: ['/dev/null:/dev/x:rw']", {"devices": ["/dev/null:/dev/x:rw"]}),
    ("group_add: [audio, 5]", {"groups": ["audio", "5"]}),
    ("hostname: box", {"hostname": "box"}),
    ("hostname: box\ndomainname: example.org", {"hostname": "box.example.org"}),
    ("labels: {tier: web}\nannotations: {a: b}", {"labels": {"a": "b", "tier": "web"}}),
    ("environment: {A: 1, B: 'x y', C: ''}", {"env": {"A": "1", "B": "x y", "C": ""}}),
    ("healthcheck: {disable: true}", {"healthcheck": "none"}),
    (
        "logging: {driver: json-file, options: {max-size: 10m, max-file: '3'}}",
        {"log": {"max_size": "10m", "max_files": 3}},
    ),
    (
        "security_opt: ['no-new-privileges:false', 'seccomp=unconfined']",
        {"no_new_privileges": False, "seccomp": "unconfined"},
    ),
    ("privileged: true\nuserns_mode: host\nuts: host", {"privileged": True, "userns": "host", "uts": "host"}),
    ("platform: linux/amd64", {"platform": "linux/amd64"}),
]


@pytest.mark.parametrize(("said", "meant"), SAID)
def test_what_is_said_is_an_option(tmp_path: Path, said: str, meant: dict[str, Any]) -> None:
    assert options(tmp_path, said) == meant


def test_ports_and_checks_are_options(tmp_path: Path) -> None:
    found = options(tmp_path, "ports: ['8000:80', '127.0.0.1::53/udp', '[::1]:9000:90', '7000']")
    spec = pylxc.ContainerSpec.from_options("x", None, {**found, "network": "none"})
    assert [(one.container, one.protocol, one.host, one.port) for one in spec.ports] == [
        (80, "tcp", "", 8000),
        (53, "udp", "127.0.0.1", 0),
        (90, "tcp", "::1", 9000),
        (7000, "tcp", "", 0),
    ]
    text = "healthcheck: {test: 'true', interval: 1m30s, timeout: 2s, retries: 4, start_period: 5s}"
    check_ = pylxc.ContainerSpec.from_options("x", None, options(tmp_path, text)).healthcheck
    assert check_ is not None
    assert (check_.test, check_.interval, check_.timeout, check_.retries) == (("CMD-SHELL", "true"), 90.0, 2.0, 4)


REFUSALS = [
    ("cgroup_parent: x", "cgroup_parent"),
    ("cpu_rt_runtime: 95000", "cpu_rt_runtime"),
    ("credential_spec: {file: x.json}", "credential_spec"),
    ("device_cgroup_rules: ['c 1:3 mr']", "device_cgroup_rules"),
    ("gpus: all", "gpus"),
    ("mac_address: 02:42:ac:11:00:03", "mac_address"),
    ("mem_swappiness: 10", "mem_swappiness"),
    ("oom_kill_disable: true", "oom_kill_disable"),
    ("runtime: runc", "runtime"),
    ("storage_opt: {size: 1G}", "storage_opt"),
    ("use_api_socket: true", "use_api_socket"),
    ("isolation: hyperv", "isolation"),
    ("logging: {driver: syslog}", "logging.driver"),
    ("logging: {driver: json-file, options: {tag: x}}", "logging.options.tag"),
    ("security_opt: ['apparmor:custom']", "security_opt"),
    ("blkio_config: {device_read_bps: [{path: /dev/sda, rate: 1m}]}", "blkio_config.device_read_bps"),
    ("deploy: {mode: replicated-job}", "deploy.mode"),
    ("networks: {default: {link_local_ips: [169.254.0.1]}}", "networks.default.link_local_ips"),
    ("extra_hosts: ['a:192.0.2.1', 'a:192.0.2.2']", "extra_hosts"),
]


@pytest.mark.parametrize(("said", "key"), REFUSALS)
def test_what_is_not_carried_out_is_refused_by_file_service_and_key(tmp_path: Path, said: str, key: str) -> None:
    with pytest.raises(pylxc.UnsupportedError, match=re.escape(f"services.web.{key}")) as caught:
        options(tmp_path, said)
    assert str(tmp_path / "compose.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("mem_reservation: 10m", "mem_reservation"),
        ("deploy: {placement: {constraints: [node.role == manager]}}", "deploy.placement"),
        ("deploy: {update_config: {parallelism: 2}}", "deploy.update_config"),
        ("deploy: {endpoint_mode: vip}", "deploy.endpoint_mode"),
        ("deploy: {restart_policy: {condition: any, delay: 5s}}", "deploy.restart_policy.delay"),
    ],
)
def test_what_means_nothing_on_one_machine_is_told(tmp_path: Path, said: str, key: str) -> None:
    model = model_of(tmp_path, said)
    (warning,) = check(model, model.document["services"])
    assert warning.startswith(f"services.web.{key} has no effect")


def test_every_key_of_the_specification_has_its_place() -> None:
    """What the reader lets through is carried out, refused or told of; nothing is in two of these."""
    known = [*CARRIED_OUT, *REFUSED, *(key for key in WITHOUT_EFFECT if "." not in key)]
    assert len(known) == len(set(known))
    assert set(SERVICE_KEYS) - set(known) == set()


def test_an_option_that_cannot_be_is_told_with_its_service(tmp_path: Path) -> None:
    model = model_of(tmp_path, "sysctls: {kernel.panic: '1'}")
    made = services.options_of(model, "web", model.document["services"]["web"])
    with pytest.raises(pylxc.SpecError) as caught:
        pylxc.ContainerSpec.from_options("busybox", None, made)
    error = services.explained(model, "web", caught.value)
    assert (error.key, os.path.basename(error.file)) == ("services.web", "compose.yaml")
    assert "kernel.panic" in str(error)
    assert error.line == 2
