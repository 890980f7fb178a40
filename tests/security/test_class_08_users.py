"""Attack class 8: the user database of an image is untrusted bytes; odd ones are an error, at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from modes import PLAIN

import pylxc
from pylxc.runtime import native

MOST_SECONDS = 10.0  # on a busy machine; the memory is what tells
MOST_MEMORY = 64 << 20


def fifo(tree):
    (tree / "etc/passwd").unlink()
    os.mkfifo(tree / "etc/passwd")


def zero(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("/dev/zero")


def tty(tree):
    (tree / "etc/group").unlink()
    (tree / "etc/group").symlink_to("/dev/tty")


def magic(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("/proc/self/fd/0")


def directory(tree):
    (tree / "etc/group").unlink()
    (tree / "etc/group").mkdir()


def loop(tree):
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to("passwd")


@pytest.mark.parametrize("change", [fifo, zero, tty, magic, directory, loop])
@pytest.mark.parametrize("user", ["root", "0:0", "nobody"])
def test_a_database_that_is_no_file_is_an_error_at_once(cage, image_of, change, user):
    image = image_of(change)
    begin = time.monotonic()
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", image=image, user=user, timeout=20)
    assert time.monotonic() - begin < MOST_SECONDS
    assert caught.value.stage == "user"
    assert caught.value.errno in (errno.EINVAL, errno.ELOOP, errno.ENXIO)


@pytest.mark.parametrize("mode", [PLAIN])
def test_a_pipe_in_its_place_would_hold_up_the_start(cage, tmp_path, weaken):
    """It bites: without the look at its kind the start waits until somebody writes to the pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    opened = threading.Event()

    def write_later() -> None:
        time.sleep(MOST_SECONDS)  # for this long nothing happens
        os.close(os.open(pipe, os.O_WRONLY))  # waits for the reader
        opened.set()

    writer = threading.Thread(target=write_later)
    begin = time.monotonic()
    with weaken("DATABASE_KIND"):
        writer.start()
        with pytest.raises(pylxc.SpawnError):
            cage.run("true", user="nobody", volumes={pipe: "/etc/passwd"})
    writer.join()
    assert time.monotonic() - begin >= MOST_SECONDS
    assert opened.is_set()


MEASURED = """
import json, resource, sys, time
import pylxc
from pylxc.runtime import native
root, group, options, native.HELPER_PATH = sys.argv[1:]
engine, options = pylxc.Engine(root), json.loads(options)
begin = time.monotonic()
try:
    pylxc.run("busybox", ["true"], user="root", volumes={group: "/etc/group:ro"}, engine=engine, **options)
    outcome = [None, 0]
except pylxc.SpawnError as error:
    outcome = [error.stage, error.errno]
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([outcome, time.monotonic() - begin, most]))
"""


def measured(cage, group, helper: str) -> tuple[list, float, int]:
    """How a start went with this file as its group file, how long it took, and how much memory: in a new process."""
    words = [sys.executable, "-c", MEASURED, cage.engine.root, group, json.dumps(cage.options), helper]
    return tuple(json.loads(subprocess.run(words, check=True, capture_output=True, timeout=60).stdout))


def test_a_huge_sparse_database_is_an_error_at_once_and_in_little_memory(cage, tmp_path, builds):
    with (tmp_path / "group").open("wb") as file:
        file.truncate(1 << 30)
    outcome, seconds, memory = measured(cage, tmp_path / "group", native.HELPER_PATH)
    assert outcome == ["user", errno.EFBIG]
    assert seconds < MOST_SECONDS
    assert memory < MOST_MEMORY
    weak = str(builds.of("helper", ("DATABASE_SIZE",)))  # it bites: without the limit all of it is read
    assert measured(cage, tmp_path / "group", weak)[2] > MOST_MEMORY


def test_a_database_of_junk_finds_nobody(cage, image_of):
    def junk(tree):
        lines = b"\nroot\nroot:x\nroot:x:-1:0\nroot:x:x:0\n::::\n"
        (tree / "etc/passwd").write_bytes(b"\0:\n" * 1000 + os.urandom(100_000) + lines)

    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", image=image_of(junk), user="root")
    assert (caught.value.stage, caught.value.errno) == ("user", errno.ENOENT)


def test_digits_are_an_id_never_a_name(cage, image_of, weaken):
    def named(tree):
        (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\n2000:x:0:\n")

    image = image_of(named)
    assert cage.sh("id -u", image=image, user="1000").text == "1000\n"
    assert cage.sh("echo $(id -u) $(id -g)", image=image, user="1000:2000").text == "1000 2000\n"
    with cage.start("sleep", "100", image=image) as container:
        assert container.exec(["id", "-u"], user="1000").text == "1000\n"
        with weaken("DIGITS"):  # it bites: the user of that name is root
            assert container.exec(["id", "-u"], user="1000").text == "0\n"


@pytest.mark.parametrize("user", ["-1", str(2**31), str(2**32), str(2**64), "0:-1", f"0:{2**32}", "-0", "4294967295"])
def test_ids_out_of_range(cage, user):
    with pytest.raises((pylxc.SpecError, pylxc.SpawnError)):
        cage.run("true", user=user)
    with cage.start("sleep", "100") as container, pytest.raises((pylxc.SpecError, pylxc.SpawnError)):
        container.exec(["true"], user=user)


def test_ids_out_of_range_in_the_database(cage, image_of, weaken):
    def wrapped(tree):
        lines = (f"big:x:{2**32}:0::/:/bin/sh", "minus:x:-1:0::/:/bin/sh", f"gid:x:5:{2**32}::/:/bin/sh", "")
        (tree / "etc/passwd").write_text("\n".join(lines))

    image = image_of(wrapped)
    for user in ("big", "minus", "gid"):
        with pytest.raises(pylxc.SpawnError) as caught:
            cage.run("true", image=image, user=user)
        assert (caught.value.stage, caught.value.errno) == ("user", errno.ENOENT)
    with weaken("ID_RANGE"):  # it bites: 2^32 is 0, which is root
        assert cage.sh("id -u", image=image, user="big").text == "0\n"
        assert cage.sh("id -g", image=image, user="gid").text == "0\n"
