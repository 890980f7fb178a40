"""The directory of a container that has ended serves the next one of the same process, and tells it nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import await_true

from pylxc.store.layout import PRIVATE
from pylxc.store.spares import LIMIT, Spares

if TYPE_CHECKING:
    import pylxc

pytestmark = pytest.mark.root  # without privilege there are none: what was written belongs to other ids

RUN_ONE = """
import sys, pylxc
engine = pylxc.Engine(sys.argv[1])
pylxc.run("busybox", ["true"], engine=engine)
print("ran", flush=True)
sys.stdin.read()
"""


def spares(engine: pylxc.Engine) -> list[str]:
    return os.listdir(engine.root / "spares")


def open_the_store(engine: pylxc.Engine) -> None:
    """Let another process do what each does first: remove what those that were killed left."""
    program = "import sys, pylxc; pylxc.Engine(sys.argv[1]).store"
    subprocess.run([sys.executable, "-c", program, str(engine.root)], check=True, timeout=60)


def inode_seen(box, *words: str) -> int:
    """Return which directory a container has while it runs."""
    seen: list[int] = []

    def look(_stream: str, _data: bytes) -> None:
        (directory,) = (box.engine.root / "containers").iterdir()
        seen.append(directory.stat().st_ino)

    box.run(*words, on_output=look)
    return seen[0]


def test_the_next_container_has_the_same_directory(box):
    box.engine.store.containers.spares.drop()
    first = inode_seen(box, "echo", "one")
    assert len(spares(box.engine)) == 1
    assert inode_seen(box, "echo", "two") == first
    assert list((box.engine.root / "containers").iterdir()) == []


def test_nothing_of_the_first_is_seen_by_the_second(box):
    write = "echo secret >/new; echo secret >>/etc/passwd; chmod 700 /; mkdir -p /a/b/c; rm -rf /bin/true"
    look = "stat -c '%a %u %g' /; ls -a /; cat /etc/passwd; ls /bin"
    before = box.sh(look).text
    box.sh(write)
    assert box.sh(look).text == before
    (name,) = spares(box.engine)
    left = sorted(str(path.relative_to(box.engine.root / "spares")) for path in (box.engine.root / "spares").rglob("*"))
    assert left == [name, f"{name}/work"]
    assert os.listxattr(box.engine.root / "spares" / name) == []


def test_a_container_that_is_made_in_one_has_not_run(box):
    box.run("true")
    assert spares(box.engine)
    container = box.create("true")
    try:
        assert spares(box.engine) == []
        assert container.status() == "created"
        container.start()
        assert container.wait() == 0
        container.start()  # what it wrote is kept from start to start
        assert container.wait() == 0
    finally:
        container.remove(force=True)


def test_what_is_not_empty_is_never_kept(box, tmp_path):
    kept = box.engine.store.containers.spares
    kept.drop()
    for stray in ("upper", "work/work"):
        directory = box.engine.root / "containers" / ("0" * 64)
        (directory / "work").mkdir(parents=True)
        (directory / stray).mkdir()
        assert not kept.keep("0" * 64)
        assert (directory / stray).is_dir()
        box.engine.store.containers.remove_directory("0" * 64, spare=True)
        assert not directory.exists()
    assert spares(box.engine) == []


def test_there_are_no_more_than_may_be_used_at_once(box):
    kept = box.engine.store.containers.spares
    kept.drop()
    names = [f"{number:064x}" for number in range(LIMIT + 1)]
    for name in names:
        (box.engine.root / "containers" / name / "work").mkdir(parents=True)
    assert [kept.keep(name) for name in names] == [True] * LIMIT + [False]
    box.engine.store.containers.remove_directory(names[-1])
    kept.drop()
    assert spares(box.engine) == []


def test_one_that_was_removed_by_hand_is_no_error(box):
    box.run("true")
    for name in spares(box.engine):
        (box.engine.root / "spares" / name / "work").rmdir()
        (box.engine.root / "spares" / name).rmdir()
    assert box.run("echo", "on").stdout == b"on\n"


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_they_go_with_their_process(box, end):
    box.engine.store.containers.spares.drop()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_ONE, str(box.engine.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ran\n"
        assert len(spares(box.engine)) == 1
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            process.communicate("")
    if end == "kill":
        assert len(spares(box.engine)) == 1
        open_the_store(box.engine)
    await_true(lambda: spares(box.engine) == [], "the removal of the spare directory")


def test_those_of_a_living_process_stay(box):
    box.engine.store.containers.spares.drop()
    box.run("true")
    before = spares(box.engine)
    open_the_store(box.engine)
    assert spares(box.engine) == before != []


def test_a_child_of_a_fork_leaves_its_parents_alone(box):
    kept = box.engine.store.containers.spares
    kept.drop()
    box.run("true")
    before = spares(box.engine)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            taken = kept.take("f" * 64, PRIVATE)
            kept.drop()
            code = 2 if taken else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert spares(box.engine) == before != []


def test_a_directory_that_a_sweep_made_meanwhile_is_taken(box):
    kept: Spares = box.engine.store.containers.spares
    kept.drop()
    box.run("true")
    made = Path(box.engine.root, "containers", "e" * 64)
    (made / "upper").mkdir(parents=True)
    assert kept.take("e" * 64, PRIVATE)
    assert (made / "upper").is_dir()
    assert len(spares(box.engine)) == 1
    box.engine.store.containers.remove_directory("e" * 64)
