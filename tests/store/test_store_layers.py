"""Several processes and threads in one store: opening, committing, leasing, forking."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

import pylxc
from pylxc.errors import StoreError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
TIMEOUT = 120  # s
PROCESSES = 8


def at_once(program: str, *arguments: object, count: int = PROCESSES) -> list[str]:
    """Run a program in several processes that all wait for one line before they begin; returns what each printed."""
    command = [sys.executable, "-c", "import sys, pylxc\ninput()\n" + program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) for _ in range(count)]
    try:
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=TIMEOUT) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0] * count, "\n".join(err for _, err in said)
    return [out.strip() for out, _ in said]


@pytest.mark.parametrize("attempt", range(4))
def test_many_processes_may_open_one_new_store_at_once(attempt, tmp_path, check_whole):
    root = tmp_path / f"store{attempt}"
    said = at_once("print(len(pylxc.Image.list(engine=pylxc.Engine(sys.argv[1]))))", root)
    assert said == ["0"] * PROCESSES
    check_whole(root)
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "pylxc.db").stat().st_mode & 0o777 == 0o600


def test_a_layer_that_many_commit_at_once_is_kept_once(tmp_path, tree, check_whole):
    root = tmp_path / "store"
    program = """
engine = pylxc.Engine(sys.argv[1])
for number in range(5):
    image = pylxc.Image.from_directory(sys.argv[2], f"app:{number}", engine=engine)
print(image.layers[0].digest)
"""
    said = at_once(program, root, tree(a="content", b="more"))
    assert len(set(said)) == 1
    assert os.listdir(root / "layers") == [said[0].removeprefix("sha256:")]
    images = pylxc.Image.list(engine=pylxc.Engine(root))
    assert sorted(ref for image in images for ref in image.refs) == [f"app:{number}" for number in range(5)]
    check_whole(root)


def test_adding_and_removing_one_image_at_once_leaves_it_whole_or_gone(tmp_path, tree, check_whole):
    root = tmp_path / "store"
    program = """
import os
engine = pylxc.Engine(sys.argv[1])
from pylxc.image import ImageConfig
for number in range(15):
    image = pylxc.Image.scratch(engine=engine)
    made = pylxc.Image.from_directory(sys.argv[2], "app", engine=engine)
    for each in (image, made):
        try:
            each.remove()
        except pylxc.ImageNotFound:
            pass
"""
    at_once(program, root, tree(a="content"), count=4)
    check_whole(root)


def test_threads_share_one_engine(tmp_path, tree, check_whole):
    engine = pylxc.Engine(tmp_path / "store")
    trees = [tree(number=str(number)) for number in range(6)]
    failures = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                image = pylxc.Image.from_directory(trees[number], f"app:{number}", engine=engine)
                assert pylxc.Image.get(f"app:{number}", engine=engine) == image
                if number % 2:
                    image.remove()
        except Exception as error:  # noqa: BLE001  every one fails the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(trees))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert failures == []
    assert sorted(ref for i in pylxc.Image.list(engine=engine) for ref in i.refs) == ["app:0", "app:2", "app:4"]
    check_whole(engine.root)


# -- forks


def in_fork(work) -> None:
    """Run a function in a fork of this process, which then ends as a program does; it must succeed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_fork_has_a_connection_of_its_own(tmp_path, tree, check_whole):
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(tree(a="a"), "app", engine=engine)
    in_fork(lambda: image.tag("app:child"))
    image.tag("app:parent")
    assert set(pylxc.Image.get("app", engine=engine).refs) == {"app:latest", "app:child", "app:parent"}
    check_whole(engine.root)


def test_a_fork_in_the_middle_of_another_threads_transaction_does_not_wait_for_it(tmp_path, tree):
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(tree(a="a"), "app", engine=engine)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.store.images._database._locked():
            inside.set()
            leave.wait(TIMEOUT)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(TIMEOUT)
    in_fork(lambda: image.tag("app:child"))
    leave.set()
    thread.join()
    assert "app:child" in pylxc.Image.get("app", engine=engine).refs


def test_the_end_of_a_fork_takes_no_journal_away(tmp_path, tree):
    """The child ends as an interpreter does, while what others have written is in the journal only."""
    program = """
import os, pylxc, sys
engine = pylxc.Engine(sys.argv[1])
image = pylxc.Image.get("app", engine=engine)
first, go = os.pipe()
if (pid := os.fork()) == 0:
    os.close(go)
    os.read(first, 1)  # until the parent has gone
    sys.exit(0)
print(pid, flush=True)
os._exit(0)
"""
    root = tmp_path / "store"
    engine = pylxc.Engine(root)
    pylxc.Image.from_directory(tree(a="a"), "app", engine=engine)
    made = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program, root],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert b"ResourceWarning" not in made.stderr
    assert (root / "pylxc.db-wal").exists(), "the child closed a connection that is not its own"


def test_a_fork_that_leaves_the_block_of_a_lease_takes_nothing_from_its_parent(tmp_path):
    engine = pylxc.Engine(tmp_path / "store")
    with engine.store.leases.take() as lease:
        staged = Path(lease.stage())
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            assert staged.is_dir()
            engine.store.leases.sweep()
            assert staged.is_dir()
    if not pid:
        os._exit(0)
    assert os.listdir(engine.root / "staging") == []


# -- leases


def test_another_process_cannot_remove_a_leased_layer(tmp_path, tree):
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(tree(a="a"), "app", engine=engine)
    digest = image.layers[0].digest
    remove = "pylxc.Image.get('app', engine=pylxc.Engine(sys.argv[1])).remove()"
    with engine.store.leases.take() as lease:
        lease.protect([digest])
        at_once(remove, engine.root, count=1)
        assert Path(engine.layer_directory(digest), "a").read_text() == "a"
        assert engine.store.layers.get(digest).digest == digest
    assert os.listdir(engine.root / "layers") == [], "it goes with the lease"


def test_a_layer_that_is_gone_cannot_be_leased(tmp_path):
    engine = pylxc.Engine(tmp_path / "store")
    with engine.store.leases.take() as lease, pytest.raises(StoreError, match="removed meanwhile"):
        lease.protect(["sha256:" + "0" * 64])


def test_a_failed_import_keeps_no_layer(tmp_path, tree, check_whole):
    engine = pylxc.Engine(tmp_path / "store")
    with pytest.raises(pylxc.SpecError):
        pylxc.Image.from_directory(tree(a="a"), "app@sha256:" + "0" * 64, engine=engine)
    check_whole(engine.root)
    assert os.listdir(engine.root / "layers") == []


def test_what_is_cached_outlives_the_lease_and_goes_with_the_layer(tmp_path):
    engine = pylxc.Engine(tmp_path / "store")
    store = engine.store
    with store.leases.take() as lease:
        staged = Path(lease.stage())
        (staged / "file").write_text("content")
        layer = engine.commit_layer(lease, str(staged), "a step")
        store.cache.put("key", layer.digest)
    with store.leases.take() as lease:
        assert store.cache.get("key", lease) == layer.digest
        store.layers.remove_unused([layer.digest])
        assert store.cache.get("key", lease) == layer.digest
    store.layers.remove_unused([layer.digest])
    with store.leases.take() as lease:
        assert store.cache.get("key", lease) is None
    assert os.listdir(engine.root / "layers") == []


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "../../etc", "sha256:" + "0" * 63, "sha256:" + "0" * 63 + "/", "0" * 65]
)
def test_what_is_no_digest_is_never_a_path(digest, tmp_path):
    layout = pylxc.Engine(tmp_path / "store").store.layout
    for path_of in (layout.layer, layout.blob):
        with pytest.raises(StoreError, match="no digest"):
            path_of(digest)


# -- opening


def test_opening_looks_at_no_image_and_no_layer(tmp_path, tree):
    """However many there are: neither their directories nor their rows are read."""
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.from_directory(tree(a="a"), "app", engine=engine)
    trace = tmp_path / "trace"
    program = f"import pylxc; pylxc.Engine({str(engine.root)!r}).store"
    command = ["strace", "-f", "-qq", "-o", trace, "-e", "trace=%file,getdents64", sys.executable, "-c", program]
    subprocess.run(command, env=ENVIRONMENT, timeout=TIMEOUT, check=True)
    calls = trace.read_text()
    assert f"{engine.root}/pylxc.db" in calls
    opened = [line for line in calls.splitlines() if "openat(" in line]
    for name in ("layers", "oci"):
        assert not [line for line in opened if f'"{engine.root}/{name}' in line]
    assert image.layers[0].digest.removeprefix("sha256:") not in calls
    with closing(sqlite3.connect(engine.root / "pylxc.db")) as index:
        plans = index.execute("EXPLAIN QUERY PLAN SELECT 1 FROM leased WHERE layer = ?", ("x",)).fetchall()
    assert "USING" in plans[0][3]
