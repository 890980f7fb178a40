"""Other engines, set up to start the same /bin/true: each as a worker, or the reason why it is left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from workers import Command, Worker, make_rootfs

if TYPE_CHECKING:
    from pathlib import Path

V2_OF_A_HYBRID_HOST = "/sys/fs/cgroup/unified"
IMAGE = "pylxc-benchmark"


def all_peers(directory: Path) -> tuple[dict[str, Worker], dict[str, str]]:
    """Return the workers of those that are installed and work, and why the others are left out."""
    workers: dict[str, Worker] = {}
    absent: dict[str, str] = {}
    for name, program, make in (
        ("bubblewrap (no overlay)", "bwrap", _bubblewrap),
        ("crun", "crun", _crun),
        ("podman run", "podman", _podman),
        ("docker run", "docker", _docker),
    ):
        if shutil.which(program) is None:
            absent[name] = f"{program} is not installed"
            continue
        try:
            worker = make(directory)
            worker.start("r")
        except (subprocess.CalledProcessError, SystemExit) as error:
            absent[name] = f"does not work here: {error}"
        else:
            workers[name] = worker
    return workers, absent


def _bubblewrap(directory: Path) -> Worker:
    rootfs = str(make_rootfs(directory))
    places = ["--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev"]
    return Command(["bwrap", "--unshare-all", *places, "/bin/true"])


def _without_v2() -> list[str]:
    """Hide cgroup v2 from crun and podman, which refuse hosts that have both versions: the loop runs in this."""
    if not os.path.ismount(V2_OF_A_HYBRID_HOST):
        return []
    script = f'umount {V2_OF_A_HYBRID_HOST}; exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def _crun(directory: Path) -> Worker:
    bundle = directory / "crun"
    bundle.mkdir()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)  # noqa: S607
    config = json.loads((bundle / "config.json").read_text())
    config["root"] = {"path": str(make_rootfs(directory)), "readonly": True}
    config["process"] |= {"args": ["/bin/true"], "terminal": False}
    config["process"].pop("rlimits", None)  # raising them takes CAP_SYS_RESOURCE
    (bundle / "config.json").write_text(json.dumps(config))
    command = ["crun", "--root", str(directory / "crun-state"), "run", "--bundle", str(bundle), IMAGE]
    return Command(command, _without_v2())


def _podman(directory: Path) -> Worker:
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    root = ["--rootfs", f"{make_rootfs(directory)}:O"]
    return Command(["podman", "run", "--rm", "--network", "none", *limits, *root, "/bin/true"], _without_v2())


def _docker(directory: Path) -> Worker:
    archive = subprocess.Popen(["tar", "-C", make_rootfs(directory), "-c", "."], stdout=subprocess.PIPE)  # noqa: S607
    subprocess.run(["docker", "import", "-", IMAGE], stdin=archive.stdout, check=True, capture_output=True)  # noqa: S607
    return Command(["docker", "run", "--rm", "--network", "none", IMAGE, "/bin/true"])
