"""What a container's processes may ask of the kernel; each probe gives another answer when the filter is off."""

from __future__ import annotations

import errno
import json
import subprocess

import pytest

PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    long a[7] = {0};
    for (int i = 1; i < argc && i <= 7; i++)
        a[i - 1] = strtoul(argv[i], 0, 0);
    long r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    printf("%d\n", r < 0 ? errno : 0);
    return 0;
}
"""
INT80 = r"""
#include <stdio.h>
int main(void)
{
    long r; /* i386: 288 is keyctl, 20 getpid */
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(288), "b"(0), "c"(-3), "d"(0) : "memory", "r8", "r9", "r10", "r11");
    long p;
    __asm__ volatile("int $0x80" : "=a"(p) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    printf("%d %d\n", (int)-r, p > 0);
    return 0;
}
"""
# Call, arguments, the answer with the filter, the answer without. All from the system call table of x86_64.
CALLS = {
    "keyctl": ((250, 0, -3, 0), errno.EPERM, 0),
    "add_key": ((248, 0, 0, 0, 0, 0), errno.EPERM, errno.EFAULT),
    "bpf": ((321, 99, 0, 0), errno.EPERM, errno.EINVAL),
    "unshare": ((272, 0x10000000), errno.EPERM, 0),
    "setns": ((308, -1, 0), errno.EPERM, errno.EBADF),
    "mount": ((165, 0, 0, 0, 0, 0), errno.EPERM, errno.EFAULT),
    "userfaultfd": ((323, 1), errno.EPERM, 0),
    "io_uring_setup": ((425, 0, 0), errno.EPERM, errno.EFAULT),
    "clone3": ((435, 0, 0), errno.ENOSYS, errno.EINVAL),
    "AF_ALG": ((41, 38, 5, 0), errno.EPERM, 0),
    "AF_VSOCK": ((41, 40, 1, 0), errno.EPERM, 0),
    "AF_ALG in the lower half": ((41, 2**32 + 38, 5, 0), errno.EPERM, 0),
    "personality": ((135, 0x0400000), errno.EPERM, 0),
}


@pytest.fixture(scope="session")
def probes(tmp_path_factory):
    """Two programs: one makes any system call, one makes i386's."""
    directory = tmp_path_factory.mktemp("probes")
    for name, source in (("probe", PROBE), ("int80", INT80)):
        path = directory / f"{name}.c"
        path.write_text(source)
        subprocess.run(["cc", "-static", "-O1", "-o", directory / name, path], check=True)
    directory.chmod(0o755)
    return directory


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_refused(box, probes, name):
    numbers, refused, otherwise = CALLS[name]
    volumes = {str(probes): "/probes:ro"}
    words = ("/probes/probe", *map(str, numbers))
    assert box.run(*words, volumes=volumes).text == f"{refused}\n"
    bites = box.run(*words, volumes=volumes, seccomp="unconfined").text
    # AF_VSOCK and AF_ALG need modules that a kernel may lack; the filter answers before anybody looks for them.
    allowed = {f"{otherwise}\n"} | ({f"{errno.EAFNOSUPPORT}\n"} if name.startswith("AF_") else set())
    assert bites in allowed


def test_calls_of_i386_are_filtered(box, probes):
    volumes = {str(probes): "/probes:ro"}
    assert box.run("/probes/int80", volumes=volumes).text == f"{errno.EPERM} 1\n"
    assert box.run("/probes/int80", volumes=volumes, seccomp="unconfined").text.split()[0] != str(errno.EPERM)


def test_an_exec_is_filtered(box):
    with box.start("sleep", "100") as container:
        status = container.exec(["cat", "/proc/self/status"]).text
    assert "Seccomp:\t2\nSeccomp_filters:\t1\n" in status


@pytest.mark.parametrize("options", [{}, {"no_new_privileges": False}, {"userns": "host"}, {"user": "nobody"}])
def test_one_filter_in_every_way_of_starting(box, options):
    assert "Seccomp:\t2\nSeccomp_filters:\t1\n" in box.run("cat", "/proc/self/status", **options).text


@pytest.mark.parametrize("options", [{"seccomp": "unconfined"}, {"privileged": True}])
def test_none(box, options):
    assert "Seccomp:\t0\n" in box.run("cat", "/proc/self/status", **options).text


def test_a_profile_of_ones_own(box, tmp_path):
    deny = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EROFS}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]}))
    result = box.sh("mkdir /x", seccomp=path, check=False)
    assert b"Read-only file system" in result.stderr
    path.unlink()  # what was read stays
    kill = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [kill]}
    assert box.run("mkdir", "/x", seccomp=document, check=False).signal == 31  # SIGSYS


def test_builds_are_filtered(engine, busybox, tmp_path):
    import pylxc

    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN grep Seccomp: /proc/self/status > /found\n")
    image = pylxc.Image.build(tmp_path, engine=engine)
    assert pylxc.run(image, ["cat", "/found"], engine=engine).text == "Seccomp:\t2\n"
