"""``log={"max_size": …, "max_files": …}``: the log's files, and that readers see one log."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest
from boxes import await_true

from pylxc.runtime import control, record

SIZE = 20_000


def files_of(container) -> dict[str, int]:
    """Return name -> size of the log's files."""
    directory = Path(container._directory())
    return {path.name: path.stat().st_size for path in directory.glob("log*")}


def numbered(count: int) -> list[bytes]:
    return [b"%d\n" % n for n in range(1, count + 1)]


def test_the_last_files_are_kept_and_none_is_longer_than_was_said(box):
    with box.start("seq", "1", "20000", log={"max_size": SIZE, "max_files": 3}) as container:
        container.wait()
        files = files_of(container)
        assert len(files) == 3
        assert max(files.values()) <= SIZE
        assert sorted(files.values())[-2] > SIZE - 100, "a full file holds what fits"
        lines = [line.data for line in container.logs()]
        assert lines == numbered(20000)[-len(lines) :]
        assert len(lines) * 50 > SIZE
        assert [line.data for line in container.logs(tail=2)] == numbered(20000)[-2:]


def test_one_file_is_kept_unless_more_are_asked_for(box):
    with box.start("seq", "1", "5000", log={"max_size": "20k"}) as container:
        container.wait()
        assert len(files_of(container)) == 1
        assert [line.data for line in container.logs()][-1] == b"5000\n"


def test_a_record_larger_than_a_file_is_kept_whole(box):
    script = "head -c 50000 /dev/zero | tr '\\0' x; echo; echo end"
    with box.start("sh", "-c", script, log={"max_size": 10, "max_files": 1000}) as container:
        container.wait()
        assert [line.data for line in container.logs()] == [b"x" * 50000 + b"\n", b"end\n"]


def test_both_streams_and_binary_bytes_cross_files(box, tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "data").write_bytes(data)
    options = {"volumes": {tmp_path / "data": "/data:ro"}, "log": {"max_size": SIZE, "max_files": 10_000}}
    with box.start("sh", "-c", "cat /data & cat /data >&2; wait", **options) as container:
        container.wait()
        assert len(files_of(container)) > 20
        for stream in ("stdout", "stderr"):
            assert b"".join(line.data for line in container.logs() if line.stream == stream) == data


def test_a_reader_that_follows_crosses_files_without_a_gap(box):
    with box.start("seq", "1", "60000", log={"max_size": SIZE, "max_files": 10_000}) as container:
        assert [line.data for line in container.logs(follow=True)] == numbered(60000)
        assert len(files_of(container)) > 100


def test_a_reader_that_is_overtaken_goes_on_with_the_oldest_that_is_left(box):
    with box.start("sh", "-c", "seq 1 30000; sleep 100", log={"max_size": SIZE, "max_files": 2}) as container:
        seen: list[int] = []

        def follow() -> None:
            seen.extend(int(line.data) for line in container.logs(follow=True))

        thread = threading.Thread(target=follow)
        thread.start()
        container.wait_ready(log="30000", timeout=60)
        container.kill()
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert seen == sorted(set(seen)), "nothing twice, nothing out of order"
    assert seen[-1] == 30000


def test_a_new_start_goes_on_in_the_last_file(box):
    with box.start("seq", "1", "3000", log={"max_size": SIZE, "max_files": 100}) as container:
        container.wait()
        before = files_of(container)
        container.start()
        container.wait()
        after = files_of(container)
        assert set(before) < set(after)
        assert [line.data for line in container.logs()] == numbered(3000) * 2


@pytest.mark.root  # nobody else may look at the memory of a monitor
def test_a_flood_leaves_the_monitors_memory_as_it_was(box):
    script = "yes 0123456789abcdef | head -c 67108864; echo; echo done; sleep 100"
    with box.start("sh", "-c", script, log={"max_size": "1m", "max_files": 2}) as container:
        monitor = record.monitor_pid(container._directory())
        container.wait_ready(log="done", timeout=120)
        usage = Path(f"/proc/{monitor}/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in usage.splitlines() if line.startswith("Private_"))
        assert private < 1024, f"{private} KiB"
        assert sum(files_of(container).values()) <= 2 << 20


@pytest.mark.parametrize("kill", ["monitor", "process"])
def test_what_was_written_before_a_kill_can_be_read(box, kill):
    script = 'echo >>/runs; seq 1 20000; echo "end $(wc -l </runs)"; sleep 100'
    with box.start("sh", "-c", script, log={"max_size": SIZE, "max_files": 3}) as container:
        container.wait_ready(log="end 1", timeout=60)
        pid = record.monitor_pid(container._directory()) if kill == "monitor" else container.status().pid
        os.kill(pid, 9)
        container.wait(timeout=10)
        assert [line.data for line in container.logs()][-1] == b"end 1\n"
        container.start()
        container.wait_ready(log="end 2", timeout=60)
        # the oldest goes just after the newest was begun
        await_true(lambda: len(files_of(container)) <= 3, "the end of the oldest file", timeout=60)


def test_what_the_disk_does_not_take_spoils_nothing_else(box):
    """A limit on the size of the monitor's files stands for a full disk: it takes a part of a write, then none."""
    script = "while read word; do seq 100001 120000 | sed s/1/$word-/; echo >/done-$word; done"
    with box.start("sh", "-c", script, stdin=True) as container:
        monitor = record.monitor_pid(container._directory())
        hard = resource.prlimit(monitor, resource.RLIMIT_FSIZE)[1]
        keys = control.standard_input(container._directory())
        resource.prlimit(monitor, resource.RLIMIT_FSIZE, (50_000, hard))
        os.write(keys, b"full\n")
        await_true(lambda: container.exec(["test", "-e", "/done-full"], check=False).ok, "the end", timeout=20)
        resource.prlimit(monitor, resource.RLIMIT_FSIZE, (hard, hard))
        os.write(keys, b"free\n")
        os.close(keys)
        container.wait_ready(log="free-20000", timeout=20)
        lines = [line.data for line in container.logs()]
        assert not any(b"stdout" in line for line in lines)  # no record lies within another
        assert 0 < sum(line.startswith(b"full") for line in lines) < 20_000
        assert lines[-19_999:] == [b"free-%05d\n" % number for number in range(2, 20_001)]
