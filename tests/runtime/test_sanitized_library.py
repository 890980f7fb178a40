"""csrc/lib, the part of the C code that runs in the caller's process, under the sanitizers and without Python.

The driver is tests/c/lib_main.c, with leak detection; it starts the helper, which is built with the sanitizers too, on
plans that Python wrote. Mistakes are put into plans at random: every one must be refused, or fail, or run, and leave
nothing. Since such a plan may do anything, it runs as a user who may do nothing, in namespaces of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from once import shared

from pylxc.runtime import isolation, joining, native
from pylxc.runtime import plan as p
from pylxc.runtime.plan import MountAttribute as Attr
from pylxc.runtime.plan import Plan
from tests.sanitizers import FLAGS, build, build_helper, library_sources, reports

NOBODY = 65534
ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET, SECCOMP_RET_ALLOW
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
ALONE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--uts",
    "--ipc",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
)
# A shell is the namespace's PID 1: orphans become its children, and the driver can tell that it has none of its own.
SHELL = ("--mount-proc", "sh", "-c", '"$@"; exit $?', "sh")
OF_NOBODY = (*(AS_NOBODY if os.geteuid() == 0 else ()), *ALONE, *SHELL)
ROUNDS = 300
STAGES = {name: number for number, name in native.STAGES.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a directory that any user may go to, with the driver and the helper in it."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        made.chmod(0o777)  # the helper's findings are files of whoever it runs as
        kept = shared(tmp_path_factory, "sanitized")
        build_helper(made, kept)
        build(made / "driver", Path(__file__).parents[1] / "c/lib_main.c", *library_sources(), kept=kept)
        yield made
        assert reports(made) == {}


class Driver:
    """Runs the driver in one of its ways; a finding, a leak or an expectation that failed is an error."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, way: str, *operands: object, inside: tuple[str, ...] = (), stdin: bytes = b"") -> list[str]:
        command = [*inside, self.place / "driver", way, self.place / "helper", *map(str, operands)]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=300)
        assert (done.returncode, done.stderr.decode()) == (0, "")
        assert reports(self.place) == {}
        return done.stdout.decode().splitlines()

    def spawn(self, *plans: Plan | bytes, stdin: bytes = b"", inside: tuple[str, ...] = ()) -> list[str]:
        paths = [self.written(plan, f"plan{n}") for n, plan in enumerate(plans)]
        return self("spawn", *paths, stdin=stdin, inside=inside)

    def written(self, plan: Plan | bytes, name: str) -> Path:
        path = self.place / name
        path.write_bytes(plan.encode() if isinstance(plan, Plan) else plan)
        path.chmod(0o644)
        return path


@pytest.fixture
def driver(place):
    return Driver(place)


def plan_of(*operations: tuple[object, ...], clone_flags: int = 0, **fields: int) -> Plan:
    plan = Plan(clone_flags=clone_flags, flags=fields.pop("plan_flags", 0))
    for code, *strings in operations:
        plan.add(code, *strings, **fields)
    return plan


def shell(script: str) -> Plan:
    return plan_of((p.EXEC, "/bin/sh", "-c", script))


def ended(code: int = 0, signal: int = 0) -> str:
    return f"ended code={code} signal={signal} stage=0 errno=0 subject="


def failed(stage: str, number: int, index: int) -> str:
    return f"failed stage={STAGES[stage]} errno={number} index={index}"


def test_processes_and_how_they_end(driver):
    plans = [shell("echo out; cat; exit 3"), shell("kill -9 $$"), shell("kill -TERM $$"), plan_of((p.UMASK,))]
    assert driver.spawn(*plans, stdin=b"in\n") == ["out", "in", ended(3), ended(137, 9), ended(143, 15), ended()]


def test_operations_that_fail(driver):
    plans = [
        plan_of((p.EXEC, "no-such")),
        plan_of((p.EXEC, "/etc/passwd")),
        plan_of((p.UMASK,), (p.EXEC,)),
        plan_of((p.EXEC, "true"), clone_flags=isolation.NEWUSER),
        plan_of((p.EXEC, "true"), plan_flags=p.PLAN_JOIN, clone_flags=isolation.NEWNS),
        plan_of((p.WORKDIR, "/etc")),
    ]
    assert driver.spawn(*plans) == [
        failed("exec", errno.ENOENT, 0),
        failed("exec", errno.EACCES, 0),
        failed("exec", errno.EINVAL, 1),
        failed("namespaces", errno.EINVAL, 0),
        failed("namespaces", errno.EBADF, -1),
        failed("workdir", errno.EBADF, 0),
    ]


def test_a_transfer_that_fails_on_the_way(driver, store):
    plan = isolation.transfer_plan(None, str(store / "tree"), f"{store}/run")
    plan.add(p.UNPACK, "/", a=0)
    (line,) = driver.spawn(plan, stdin=b"x" * 1024, inside=OF_NOBODY)
    assert line == f"ended code=127 signal=0 stage={STAGES['unpack']} errno={errno.EBADMSG} subject="


def malformed() -> dict[str, bytes]:
    """Plans that are none, by what is wrong with them."""
    whole = plan_of((p.HOSTNAME, "name"), (p.ENV, "A=b", "C=d"), (p.EXEC, "true", "x")).encode()
    size = p._HEAD.size
    head, rest = whole[:size], whole[size:]
    found = {f"cut at {cut}": whole[:cut] for cut in range(1, len(whole), 7)}
    found |= {f"{extra} bytes more": whole + bytes(extra) for extra in (1, 8, 4096)}
    for field, values in {0: (0, 1), 4: (0, size - 1, len(whole) - 1, 2**32 - 1), 8: (2, 4, 2**32 - 1)}.items():
        for value in values:
            found[f"head {field}={value}"] = head[:field] + struct.pack("=I", value) + head[field + 4 :] + rest
    for flag in (0x100, 0x800, 0x10000, 0x8000000000):  # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD, none
        found[f"clone flag {flag:#x}"] = head[:16] + struct.pack("=Q", flag) + head[24:] + rest
    for form, field, values in (
        ("=I", 0, (0, 8, 31, 33, 2**31, 2**32 - 1)),
        ("=H", 6, (9, 50, 65535)),
        ("=H", 4, (0xFFFF,)),
    ):
        for value in values:
            packed = struct.pack(form, value)
            found[f"operation {field}={value}"] = head + rest[:field] + packed + rest[field + len(packed) :]
    found["no NUL"] = whole.replace(b"name\0\0\0\0", b"namename")
    for number in (-1, 0, 2, 65536, 2**61):
        program = struct.pack("=IHHQqq", 40, p.SECCOMP, 0, 0, number, 0) + ALLOW
        found[f"a filter of {number}"] = head[:4] + struct.pack("=II", size + 40, 1) + head[12:] + program
    return found


def test_plans_that_are_none_are_refused(driver):
    plans = malformed()
    refused = {failed("plan", errno.EINVAL, index) for index in (-1, 0)}
    lines = driver.spawn(*plans.values(), inside=OF_NOBODY)
    assert {name: line for name, line in zip(plans, lines, strict=True) if line not in refused} == {}


def test_what_is_refused_before_a_process_is_made(driver):
    assert driver("errors", driver.written(shell("echo at last"), "plan")) == ["at last"]


def test_sockets_pidfds_and_trees(driver, store):
    waits = plan_of((p.EXEC, "sleep", "1000"), clone_flags=joining.NEWNET)
    assert driver("calls", driver.written(waits, "plan"), store / "tree/tmp", inside=OF_NOBODY) == []
    assert os.listdir(store / "tree/tmp") == []


def rich_plan(store: Path) -> Plan:
    """Return a plan with most operations in it, which a root of a namespace can carry out."""
    tree = store / "tree"
    plan = Plan(clone_flags=isolation.NEWNS | joining.NEWUTS | joining.NEWIPC | joining.NEWPID | joining.NEWNET)
    isolation.add_place(plan, f"{store}/run")
    plan.add(p.BIND_ROOT, "root", str(tree))
    plan.add(p.MOUNT, "proc", "/proc", "", flags=Attr.NOSUID | Attr.NODEV | Attr.NOEXEC)
    plan.add(p.MOUNT, "tmpfs", "/dev", "mode=755,size=64k", flags=Attr.NOSUID | Attr.NOEXEC)
    plan.add(p.SYMLINK, "/dev/fd", "/proc/self/fd")
    plan.add(p.DIRECTORY, "/tmp/a/b", flags=0o700)
    plan.add(p.FILE, "/etc/hosts", "x\n", flags=0o644)
    plan.add(p.DEVICE, "/dev/null", "/dev/null", a=1, b=3)
    plan.add(p.BIND, str(tree), "/tmp/a/b", flags=Attr.RDONLY, a=p.MAKE_LIKE_SOURCE)
    plan.add(p.MASK, "/proc/keys", "/proc/acpi")
    plan.add(p.READ_ONLY, "/proc/sys", "/proc/irq")
    plan.add(p.ROOT_READ_ONLY)
    plan.add(p.PIVOT)
    plan.add(p.HOSTNAME, "fuzz")
    plan.add(p.LOOPBACK)
    plan.add(p.RLIMIT, flags=7, a=100, b=100)
    plan.add(p.CAPABILITIES, flags=0xFFFF)
    plan.add(p.WORKDIR, "/tmp")
    plan.add(p.CAPABILITIES, flags=0xFF, a=1)
    plan.add(p.NO_NEW_PRIVILEGES)
    plan.add(p.UMASK, flags=0o22)
    plan.add(p.ENV, "A=b", "PATH=/bin")
    plan.add_filter(ALLOW)
    plan.add(p.EXEC, "true")
    return plan


@pytest.fixture
def store(place, busybox_root):
    """Return a directory with a root file system that belongs to nobody."""
    made = place / "store"
    made.mkdir()
    subprocess.run(["cp", "-a", busybox_root, made / "tree"], check=True)
    for name in ("proc", "dev", "tmp"):
        (made / "tree" / name).mkdir(exist_ok=True)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", made], check=True)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("kind", ["rich", "unpacks", "identity"])
def test_plans_with_mistakes_in_them(driver, store, kind, seed):
    plans = {
        "rich": rich_plan(store),
        "unpacks": isolation.transfer_plan(None, str(store / "tree"), f"{store}/run"),
        "identity": plan_of((p.ENV, "A=b", "HOME=/"), (p.CAPABILITIES,), (p.EXEC, "/bin/sh", "-c", "exit 3")),
    }
    plans["unpacks"].add(p.UNPACK, "/tmp", a=0)
    plans["unpacks"].add(p.PACK, "/etc", a=1)
    plans["unpacks"].add(p.COPY_FROM, "/etc/passwd", "as", a=1, b=-1)
    plans["unpacks"].add(p.COPY_TO, "/tmp/x", "x", a=0, b=-1)
    path = driver.written(plans[kind], "plan")
    assert driver("spawn", path, inside=OF_NOBODY)[-1].endswith(ended(3 if kind == "identity" else 0))
    counts = dict(word.split("=") for word in driver("fuzz", path, seed, ROUNDS, inside=OF_NOBODY)[-1].split())
    assert sum(map(int, counts.values())) == ROUNDS
    assert int(counts["refused"]) > 0
    assert int(counts["failed"]) > 0


LEAK = """
#include <stdlib.h>
void *volatile kept;
int main(void) { kept = malloc(100); kept = 0; return 0; }
"""


def test_it_bites(place, driver, tmp_path):
    """A leak in such a program is found, and so is an expectation of the driver's that does not hold."""
    (tmp_path / "leak.c").write_text(LEAK)
    subprocess.run(["gcc", *FLAGS, "-o", tmp_path / "leak", tmp_path / "leak.c"], check=True)
    done = subprocess.run([tmp_path / "leak"], check=False, capture_output=True)
    assert done.returncode != 0
    assert b"LeakSanitizer" in done.stderr
    plan = driver.written(plan_of((p.UMASK,)), "plan")  # has ended when it counts as started
    done = subprocess.run(
        [place / "driver", "calls", place / "helper", plan, tmp_path], check=False, capture_output=True
    )
    assert done.returncode == 1
    assert b"not so" in done.stderr
