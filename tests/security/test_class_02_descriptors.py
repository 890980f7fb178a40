"""Attack class 2: a payload has descriptors 0 to 2 and no way to a directory of the host (CVE-2024-21626)."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import pylxc

LIST = ("sh", "-c", "exec ls /proc/self/fd")


@contextmanager
def inheritable_descriptors():
    """Keep descriptors of the host's directories open, inheritable, at many numbers."""
    fds = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(6)]
    fds += [os.dup2(fds[0], number) for number in (99, 250)]
    for fd in fds:
        os.set_inheritable(fd, True)  # noqa: FBT003  its only form
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def numbers(result: pylxc.Result) -> list[str]:
    return result.text.split()


def test_run_and_exec_have_the_standard_streams_only(cage):
    with inheritable_descriptors():
        # 3 is ls's own, of the directory that it lists.
        assert numbers(cage.run(*LIST)) == ["0", "1", "2", "3"]
        with cage.start("sleep", "100") as container:
            assert numbers(container.exec(LIST)) == ["0", "1", "2", "3"]
            pid = container.status().pid
            assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]


def test_from_threads_that_open_descriptors_all_the_time(cage):
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with inheritable_descriptors_of_a_thread():
                pass

    @contextmanager
    def inheritable_descriptors_of_a_thread():
        fds = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(6)]
        for fd in fds:
            os.set_inheritable(fd, True)  # noqa: FBT003  its only form
        yield
        for fd in fds:
            os.close(fd)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with cage.start("sleep", "100") as container:
            for _ in range(20):
                assert numbers(cage.run(*LIST)) == ["0", "1", "2", "3"]
                assert numbers(container.exec(LIST)) == ["0", "1", "2", "3"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 7, 8, 9, 10, 99, 250])
def test_a_working_directory_by_a_descriptor(cage, number):
    for prefix in ("/proc/self/fd", "/proc/1/fd", "/proc/self/task/1/fd"):
        with inheritable_descriptors(), pytest.raises(pylxc.SpawnError) as caught:
            cage.run("ls", workdir=f"{prefix}/{number}")
        assert caught.value.stage == "workdir"
        assert caught.value.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def test_a_working_directory_by_a_descriptor_in_exec(cage):
    with inheritable_descriptors(), cage.start("sleep", "100") as container:
        for number in (0, 3, 4, 5, 6, 7, 8, 99, 250):
            by_descriptor = f"/proc/self/fd/{number}"
            for path in (by_descriptor, f"{by_descriptor}/../../..", "/proc/self/cwd", "/proc/1/root"):
                with pytest.raises((pylxc.SpawnError, pylxc.SpecError)):
                    container.exec(["ls"], workdir=path)


def test_a_working_directory_that_is_a_link_to_a_descriptor(cage, busybox_root, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox_root, tree], check=True)
    (tree / "escape").symlink_to("/proc/self/fd/7")
    (tree / "up").symlink_to("../../../../../..")
    image = pylxc.Image.from_directory(tree, "links", engine=cage.engine)
    with inheritable_descriptors(), pytest.raises(pylxc.SpawnError) as caught:
        cage.run("ls", image=image, workdir="/escape")
    assert caught.value.stage == "workdir"
    assert cage.run("pwd", image=image, workdir="/up").text == "/\n"


# Three walls lie in the way of a directory of the host: nothing but the standard streams is passed on; a path is not
# resolved through links of /proc; a directory that is not below the root is noticed.
WALLS = ("CLOSE_RANGE", "RESOLVE", "WORKDIR")


def working_directory_on_the_host(cage, canary) -> str:
    """What a payload reads that was given descriptor 99, the host's "/", as its working directory."""
    with inheritable_descriptors():
        return cage.run("cat", f".{canary.secret}", workdir="/proc/self/fd/99", check=False).text


def test_without_its_walls_the_attack_reads_the_hosts_files(cage, canary, weaken):
    with weaken(*WALLS):
        assert working_directory_on_the_host(cage, canary) == canary.text


@pytest.mark.parametrize("left", [*WALLS, *itertools.combinations(WALLS, 2)], ids=str)
def test_each_wall_alone_stops_it(cage, canary, weaken, left):
    with weaken(*(wall for wall in WALLS if wall not in left)), pytest.raises(pylxc.SpawnError) as caught:
        working_directory_on_the_host(cage, canary)
    assert caught.value.stage in ("workdir", "exec")


def test_what_is_passed_on_when_nothing_is_closed(cage, weaken):
    """It bites: descriptors 99 and 250 of the caller arrive at the payload."""
    with weaken("CLOSE_RANGE"), inheritable_descriptors():
        assert {"99", "250"} <= set(numbers(cage.run(*LIST)))
        with cage.start("sleep", "100") as container:
            assert {"99", "250"} <= set(numbers(container.exec(LIST)))


def test_a_caller_without_standard_streams(box):
    """Numbers 0 to 2 that the caller has closed are /dev/null in the payload, not some other file."""
    code = """if True:
        import os, sys, pylxc
        for fd in (0, 1, 2):
            os.close(fd)
        out = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)   # takes number 0
        r = pylxc.run("busybox", ["sh", "-c", "exec ls -l /proc/self/fd"], engine=pylxc.Engine(sys.argv[1]))
        os.write(out, r.stdout)
    """
    path = box.engine.root.parent / "listing"
    subprocess.run([sys.executable, "-c", code, str(box.engine.root), str(path)], check=True, timeout=60)
    lines = [line.split(" ", 1)[-1] for line in path.read_text().splitlines() if "->" in line]
    path.unlink()
    assert len(lines) == 3
    assert sum("pipe:" in line for line in lines) == 2
    assert sum("/dev/null" in line for line in lines) == 1
