"""The log of a started container: exact bytes, no line lost, followed to the end and no further."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

import pylxc
from pylxc.runtime import record
from pylxc.runtime.logs import parse_time


def logged(container, name="stdout", **options) -> bytes:
    return b"".join(line.data for line in container.logs(**options) if line.stream == name)


def test_both_streams_with_their_times(box):
    before = time.time()
    with box.start("sh", "-c", "echo out; echo err >&2") as container:
        container.wait()
        lines = sorted(container.logs(), key=lambda line: line.stream)
        assert [(line.stream, line.data) for line in lines] == [("stderr", b"err\n"), ("stdout", b"out\n")]
        assert all(before - 1 < line.time < time.time() + 1 for line in lines)


def test_no_line_is_lost_at_the_end(box):
    with box.start("seq", "1", "50000") as container:
        container.wait()
        assert logged(container) == b"".join(b"%d\n" % n for n in range(1, 50001))


def test_any_bytes_come_back(box, tmp_path):
    data = random.Random(2).randbytes(1 << 20)
    (tmp_path / "data").write_bytes(data)
    with box.start("cat", "/data", volumes={tmp_path / "data": "/data:ro"}) as container:
        container.wait()
        assert logged(container) == data


def test_lines_longer_than_any_buffer_and_without_an_end(box):
    with box.start("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; printf 'no newline'") as container:
        container.wait()
        lines = [line.data for line in container.logs()]
        assert lines == [b"x" * 300000 + b"\n", b"no newline"]


def test_tail_and_since(box):
    with box.start("sh", "-c", "seq 1 5; sleep 0.3; seq 6 10") as container:
        container.wait()
        lines = list(container.logs())
        assert [line.data for line in container.logs(tail=3)] == [b"8\n", b"9\n", b"10\n"]
        assert list(container.logs(tail=0)) == []
        middle = (lines[4].time + lines[5].time) / 2
        assert [line.data for line in container.logs(since=middle)] == [b"6\n", b"7\n", b"8\n", b"9\n", b"10\n"]
        assert list(container.logs(since=time.time() + 100)) == []
        assert [line.data for line in container.logs(since=middle, tail=1)] == [b"10\n"]


def test_follow_ends_with_the_container_and_has_it_all(box):
    with box.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done; printf end") as container:
        assert [line.data for line in container.logs(follow=True)] == [b"1\n", b"2\n", b"3\n", b"end"]
        assert container.status() == "exited"
        assert [line.data for line in container.logs(follow=True, tail=1)] == [b"end"]


def test_follow_gives_lines_as_they_come(box):
    with box.start("sh", "-c", "echo first; sleep 100") as container:
        following = container.logs(follow=True)
        assert next(following).data == b"first\n"
        assert container.status() == "running"
        following.close()


def test_follow_from_a_thread_while_it_is_stopped(box):
    seen = []
    with box.start("sh", "-c", "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done") as container:
        thread = threading.Thread(target=lambda: seen.extend(line.data for line in container.logs(follow=True)))
        thread.start()
        container.wait_ready(log="ready", timeout=10)
        container.stop(timeout=10)
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert seen == [b"ready\n", b"bye\n"]


def test_who_follows_is_woken_and_does_not_look_again_and_again(box, monkeypatch):
    monkeypatch.setattr("pylxc.container.LOG_POLL", 1000.0)
    with box.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done; sleep 0.05") as container:
        assert [line.data for line in container.logs(follow=True)] == [b"1\n", b"2\n", b"3\n"]
    with box.start("sh", "-c", "echo 1; sleep 1000") as container:
        following = container.logs(follow=True)
        assert next(following).data == b"1\n"
        threading.Timer(0.05, os.kill, (record.monitor_pid(container._directory()), 9)).start()
        assert list(following) == []
        removed = container.logs(follow=True)
        assert [line.data for line in removed] == [b"1\n"]


def test_who_follows_what_is_removed_comes_to_its_end(box):
    container = box.start("sh", "-c", "echo 1; sleep 1000")
    following = container.logs(follow=True)
    assert next(following).data == b"1\n"
    container.remove(force=True)
    assert list(following) == []


def test_it_can_be_followed_where_nothing_more_can_be_watched(box, monkeypatch):
    def refuse(*_):
        raise pylxc.UnsupportedError("following", "raise the limit")

    monkeypatch.setattr("pylxc.runtime.watching.Watch", refuse)
    with box.start("sh", "-c", "for i in 1 2; do echo $i; sleep 0.05; done; printf end") as container:
        assert [line.data for line in container.logs(follow=True)] == [b"1\n", b"2\n", b"end"]


def test_a_line_as_docker_shows_it():
    line = pylxc.LogLine("stdout", 1475712427.5, b"ready\xff\n")
    assert (line.text, line.format()) == ("ready\ufffd\n", b"ready\xff\n")
    assert line.format(timestamps=True) == b"2016-10-06T00:07:07.500000000Z ready\xff\n"


def test_times_before_the_lines(box):
    with box.start("sh", "-c", "echo one; echo two") as container:
        container.wait()
        plain, stamped = list(container.logs()), list(container.logs(timestamps=True))
        assert [line.data for line in plain] == [b"one\n", b"two\n"]
        assert [line.data for line in stamped] == [line.format(timestamps=True) for line in plain]
        assert parse_time(stamped[0].data.split()[0].decode()) == pytest.approx(plain[0].time, abs=1e-6)


def test_a_flood_with_nobody_reading_neither_blocks_nor_loses(box):
    with box.start("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' '\\n' | sed s/^/line/") as container:
        assert container.wait(timeout=120) == 0
        size = sum(len(line.data) for line in container.logs(tail=1000))
        assert size == 5000


def test_a_log_goes_on_over_a_restart(box):
    with box.start("echo", "once more") as container:
        container.wait()
        container.start()
        container.wait()
        assert logged(container) == b"once more\nonce more\n"


def test_what_was_never_started_and_what_is_gone(box):
    container = box.create("true")
    assert list(container.logs()) == []
    container.remove()
    with pytest.raises(pylxc.ContainerNotFound):
        list(container.logs())


def test_output_of_execs_is_not_in_the_log(box):
    with box.start("sh", "-c", "echo main; sleep 100") as container:
        container.wait_ready(log="main", timeout=10)
        container.exec(["echo", "further"])
        assert logged(container) == b"main\n"


def test_a_user_other_than_root_can_open_its_output(box):
    with box.start("sh", "-c", "echo through the name >/dev/stdout", user="nobody") as container:
        assert container.wait() == 0
        assert logged(container) == b"through the name\n"
