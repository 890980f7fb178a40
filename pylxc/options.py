"""The keywords that the verbs take, for type checkers and editors: ``def run(..., **options: Unpack[Options])``.

Invariant: its keys are the options of :class:`pylxc.spec.ContainerSpec`, no more and no fewer. Nothing imports this
module when the program runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from pylxc.imageconfig import Healthcheck
    from pylxc.mounts import Mount
    from pylxc.normalise import Device, Port

    Path = str | os.PathLike[str]
    Size = int | str
    Limit = int | str | tuple[int, int]
    Address = int | str | tuple[str, int] | None


class Options(TypedDict, total=False):
    """Every option, in all the forms in which it can be given. See ContainerSpec for what each means."""

    name: str | None
    hostname: str | None
    env: Mapping[str, str | int | float | None] | Sequence[str] | None
    env_file: Path | Sequence[Path] | None
    workdir: Path | None
    user: str | int | None
    groups: Sequence[str | int] | None
    entrypoint: str | Sequence[str] | None
    labels: Mapping[str, str] | Sequence[str] | None

    mounts: Sequence[Mount | Mapping[str, Any] | str] | None
    volumes: Mapping[Path, str] | Mapping[str, str] | Mapping[str, Mapping[str, str]] | Sequence[str] | None
    tmpfs: Mapping[str, str] | Sequence[str] | str | None
    read_only: bool

    ports: Mapping[int, Address] | Mapping[str, Address] | Mapping[int | str, Address] | Sequence[Port | str] | None
    expose: Sequence[int | str] | int | str | None
    network: str | Sequence[str] | None
    ip: str | None
    ip6: str | None
    aliases: Sequence[str] | None
    dns: Sequence[str] | None
    dns_search: Sequence[str] | None
    dns_opt: Sequence[str] | None
    extra_hosts: Mapping[str, str] | Sequence[str] | None

    memory: Size | None
    memory_swap: Size | None
    cpus: float | None
    cpu_shares: int | None
    cpuset: str | None
    pids_limit: int | None
    io_weight: int | None
    shm_size: Size | None
    ulimits: Mapping[str, Limit] | Sequence[str] | None
    oom_score_adj: int | None

    cap_add: Sequence[str] | None
    cap_drop: Sequence[str] | None
    privileged: bool
    devices: Sequence[Device | str] | None
    seccomp: str | None
    no_new_privileges: bool
    userns: str | None
    pid: str | None
    ipc: str | None
    uts: str | None
    cgroup: str | None
    sysctls: Mapping[str, str | int] | Mapping[str, str] | Mapping[str, int] | Sequence[str] | None

    tty: bool
    stdin: bool
    init: bool | Literal["system"]
    stop_signal: str | int | None
    stop_timeout: float | str | None
    restart: str | None
    healthcheck: Healthcheck | str | Mapping[str, Any] | None
    detach: bool
    remove: bool
    pull: Literal["missing", "always", "never"]
    platform: str | None
    log: Mapping[str, Size] | None


class Limits(TypedDict, total=False):
    """The options that :meth:`pylxc.Container.update` changes."""

    memory: Size | None
    memory_swap: Size | None
    cpus: float | None
    cpu_shares: int | None
    cpuset: str | None
    pids_limit: int | None
    io_weight: int | None
