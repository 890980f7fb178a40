"""The tests of containers, run once more as an ordinary user whom nobody prepared anything for but useradd(8).

The user has a Python and a copy of pylxc of its own (the machine's root's may be closed to it). What needs the
machine's root is marked ``root`` and left out there; nothing may be skipped. Parts of the tests are run with few of
their cases (tests/few_cases.py); all of both is ``slow``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from boxes import await_true

pytestmark = pytest.mark.root

TREE = Path(__file__).parents[2]
USER = "pylxc-tests"
COPIED = ("csrc", "pylxc", "tests", "examples", "README.md", "pyproject.toml", "setup.py", "LICENSE")
PACKAGES = (
    *("setuptools>=68", "wheel", "cffi", "pytest", "pytest-cov"),
    *("attrs", "click", "isal", "rich", "urllib3", "zstandard"),
)
PATIENCE = 1800  # seconds; on a slow machine, with another worker beside it
OWN_BUILD_PARTS = ("cache_mounts", "failed_step", "image_import", "run_mounts")  # files of several owners, mounts
BUILD_PARTS = (*OWN_BUILD_PARTS, "cache_transfer", "outputs", "secrets", "ssh_mounts", "stages")
EVERYTHING = (
    *("tests/rootless", "tests/runtime", "tests/security", "tests/archives", "tests/registry/test_pull.py"),
    *(f"tests/cli/test_cli_{name}.py" for name in ("run", "containers", "volumes", "attach", "terminal")),
    *(f"tests/build/test_build{name}.py" for name in ("", "_copy", "_language", "_layers")),
    *(f"tests/build/test_{name}.py" for name in BUILD_PARTS),
    # It is in a user namespace for whoever runs it, and takes its time.
    "--ignore=tests/runtime/test_sanitized_library.py",
)
# What is another way for an ordinary user: ids, namespaces, mounts, cgroups, ownership, how a start goes and fails.
# Monitors and the command line do the same for everyone, the limits on what is read are one code, and systems that boot
# need a Debian of the user's own; those are left to EVERYTHING.
RUNTIME = (
    *("cgroups", "container_options", "doctor", "files", "inside", "kill", "leaks", "limits", "mounts", "overlay"),
    *("image_mount", "ownership", "ports", "run", "shared_namespaces", "spawn_errors", "user_namespace", "volumes"),
)
LEFT_OUT = ("12_archives", "13_bombs", "14_registry", "16_sizes", "17_resources")
PARTS = {
    "runtime": (
        "tests/rootless",
        *(f"tests/runtime/test_{name}.py" for name in RUNTIME),
        *(f"tests/build/test_build{name}.py" for name in ("", "_copy", "_layers")),
        *(f"tests/build/test_{name}.py" for name in OWN_BUILD_PARTS),
    ),
    "networks": ("tests/networks",),
    "security": ("tests/security", *(f"--ignore=tests/security/test_class_{name}.py" for name in LEFT_OUT)),
}
WHOLE = {"everything": EVERYTHING, "networks": PARTS["networks"]}


# As on stock hosts, users may make links of their own; here the device may be root's.
WITH_TUN = "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200"
# A host whose default routes lead nowhere, with a name server on its loopback, which the user may be.
OWN_HOST = f"""
{WITH_TUN}
echo nameserver 127.0.0.53 > /dev/net/resolv.conf && mount --bind /dev/net/resolv.conf /etc/resolv.conf
ip link set lo up
ip link add uplink type veth peer name far
for link in uplink far; do ip link set $link up; done
ip addr add 192.0.2.2/24 dev uplink
ip addr add 2001:db8::2/64 dev uplink nodad
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8::1
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
"""


def on(script: str, *namespaces: str) -> tuple[str, ...]:
    """Return the words that prepare a host for a command, in namespaces of its own."""
    return ("unshare", *namespaces, "sh", "-ec", f'{script}\nexec "$@"', "sh")


class User:
    """An ordinary user of this machine, with a home, a Python and a copy of this checkout."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "venv/bin/python"

    def run(
        self, *words: object, timeout: float = PATIENCE, host: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in the copy, with an environment of the user's own; ``host``: by these words."""
        become = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--inh-caps=-all"]
        clean = ["env", "-i", f"HOME={self.home}", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
        command = [*host, *become, *clean, *map(str, words)]
        return subprocess.run(
            command,
            cwd=self.home / "src",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )


def processes(uid: int) -> list[str]:
    """Return the pids of a user's processes."""
    found = []
    for entry in os.scandir("/proc"):
        with suppress(FileNotFoundError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(entry.name)
    return found


def make_home(home: Path) -> None:
    source = home / "src"
    source.mkdir()
    for name in COPIED:
        path = TREE / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "pylxc-helper"))
        else:
            shutil.copy(path, source / name)
    subprocess.run(["/usr/bin/python3", "-m", "venv", home / "venv"], check=True)
    pip = [home / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES], check=True, stdin=subprocess.DEVNULL)
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "."], check=True, cwd=source, stdin=subprocess.DEVNULL)
    shutil.rmtree(source / "pylxc")  # what is tested is what was installed


@pytest.fixture(scope="module")
def user():
    home = Path("/home", USER)
    subprocess.run(["userdel", "--remove", USER], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)  # of a run that was killed between the two
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=True)
    try:
        make_home(home)
        subprocess.run(["chown", "-R", f"{USER}:", home], check=True)
        yield User(home)
    finally:
        await_true(lambda: not processes(os.stat(home).st_uid), "the end of the user's last network stack")
        subprocess.run(["userdel", USER], check=True, capture_output=True)
        shutil.rmtree(home)


FEW_CASES = ("-p", "tests.few_cases")
LEAST = {"runtime": 100, "security": 100, "networks": 40, "everything": 1000}


def assert_passing(user: User, part: str, selection: tuple[str, ...]) -> None:
    report = user.home / f"{part}.xml"
    pytest_options = ["-p", "no:cacheprovider", "-q", "--junit-xml", report, "--basetemp", user.home / part]
    host = on(OWN_HOST, "-m", "-n") if part == "networks" else ()
    done = user.run(user.python, "-m", "pytest", *pytest_options, *selection, host=host)
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314  our own
    bad = {f"{case.get('classname')}::{case.get('name')}": one.tag for case in cases for one in case}
    assert not bad, f"{bad}\n{done.stdout[-6000:]}"
    assert done.returncode == 0
    assert len(cases) > LEAST[part]


@pytest.mark.parametrize("part", PARTS)
def test_containers(user, part):
    assert_passing(user, part, (*FEW_CASES, *PARTS[part]))


@pytest.mark.slow
@pytest.mark.parametrize("part", WHOLE)
def test_everything(user, part):
    assert_passing(user, part, WHOLE[part])


BUILD = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/build", "tests"]
import pylxc, reproduced
place = Path(sys.argv[1])
files = reproduced.context(place / "context", backwards=False)
print(pylxc.Image.build(files, no_cache=True, engine=pylxc.Engine(place / "store")).id)
"""


def test_a_build_gives_the_image_that_root_gets(user, tmp_path):
    words = [sys.executable, "-c", BUILD, tmp_path]
    roots = subprocess.run(words, cwd=TREE, capture_output=True, text=True, check=True, timeout=PATIENCE)
    done = user.run(user.python, "-c", BUILD, user.home / "build")
    assert (done.returncode, done.stdout) == (0, roots.stdout)


def test_the_quickstart(user):
    done = user.run(user.python, "examples/quickstart.py", timeout=120)
    assert done.returncode == 0, done.stdout
    assert "Hello world" in done.stdout
    assert not list((user.home / ".local").rglob("containers/*")), "the default store was left alone"


REDIS = """
import pylxc
pylxc.Image.bootstrap("debian", "bookworm")
image = pylxc.Image.build("examples/redis", tag="redis:seed")
with pylxc.start("redis:seed") as redis:
    redis.wait_ready(port=6379, timeout=30)
    with redis.connect(6379) as connection:
        connection.sendall(b"PING\\r\\n")
        print(connection.recv(16))
    redis.exec(["redis-cli", "set", "colour", "blue"])
    print(redis.exec(["redis-cli", "get", "colour"]).text)
    redis.stop(timeout=20)
    print(redis.wait())
print(pylxc.run("redis:seed", ["stat", "-c", "%U:%G %a", "/var/lib/redis"], entrypoint="").text)
print(pylxc.Container.list(all=True))
update = pylxc.run("debian:bookworm", ["apt-get", "update"], network="bridge")
print("Reading package lists..." in update.text and b"Err:" not in update.stdout)
pylxc.Network.get("bridge").remove()
"""


@pytest.mark.network
def test_redis(user):
    """The base image comes from the distribution's mirror through mmdebstrap, which is rootless as well.

    On the default network packages are fetched through pasta.
    """
    done = user.run(user.python, "-c", REDIS, host=on(WITH_TUN, "-m"))
    assert done.stdout.split() == ["b'+PONG\\r\\n'", "blue", "0", "redis:redis", "750", "[]", "True"], done.stdout


def test_it_is_not_the_machines_root(user):
    """The tests above mean nothing when they are run with rights."""
    done = user.run("cat", "/proc/self/status")
    assert f"Uid:\t{os.stat(user.home).st_uid}" in done.stdout
    assert "CapEff:\t0000000000000000" in done.stdout
