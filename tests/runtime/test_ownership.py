"""Who a container belongs to, and what goes on when whoever asked for it has gone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from boxes import await_true, is_alive

import pylxc
from pylxc.runtime import control, record


def another(engine, script, *words):
    """Start another process that says something when it is as far as that; returns it and what it said."""
    code = "import sys, time, pylxc\nengine = pylxc.Engine(sys.argv[1])\n" + textwrap.dedent(script)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(engine.root), *words], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_was_detached_outlives_its_owner(box):
    script = """
    c = pylxc.start("busybox", ["sleep", "1000"], engine=engine)
    c.detach()
    print(c.id, flush=True)
    time.sleep(1000)
    """
    owner, name = another(box.engine, script)
    end(owner)
    container = pylxc.Container.get(name, engine=box.engine)
    assert (container.status(), container.spec.detach) == ("running", True)
    assert container.exec(["echo", "here"]).text == "here\n"
    container.remove(force=True)


@pytest.mark.root
def test_who_looks_from_another_pid_namespace_leaves_it_alone(box):
    script = "import sys, pylxc; print(pylxc.Container.list(engine=pylxc.Engine(sys.argv[1]))[0].id)"
    look = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script, str(box.engine.root)]
    with box.start("sleep", "1000") as container:
        assert subprocess.run(look, capture_output=True, text=True, check=True).stdout.strip() == container.id
        assert container.status() == "running"


def test_another_process_may_detach_it(box):
    script = """
    c = pylxc.start("busybox", ["sleep", "1000"], engine=engine)
    print(c.id, flush=True)
    time.sleep(1000)
    """
    owner, name = another(box.engine, script)
    with pylxc.Container.get(name, engine=box.engine) as container:
        container.detach()
        end(owner)
        assert pylxc.Container.get(name, engine=box.engine).status() == "running"
    container.remove(force=True)  # leaving the block has not: it belongs to nobody


def test_one_that_does_not_run_can_be_detached(box):
    script = """
    c = pylxc.create("busybox", ["sleep", "1000"], engine=engine)
    c.detach()
    print(c.id, flush=True)
    time.sleep(1000)
    """
    owner, name = another(box.engine, script)
    end(owner)
    container = pylxc.Container.get(name, engine=box.engine)
    assert container.status() == "created"
    container.start()
    container.remove(force=True)


def test_one_that_rests_can_be_detached(box):
    script = """
    c = pylxc.start("busybox", ["sh", "-c", "exit 1"], restart="always", engine=engine)
    while not (c.status() == "restarting" and c.status().restart_count >= 4):
        time.sleep(0.005)
    c.detach()
    print(c.id, flush=True)
    time.sleep(1000)
    """
    owner, name = another(box.engine, script)
    end(owner)
    with pylxc.Container.get(name, engine=box.engine) as container:
        count = container.status().restart_count
        await_true(lambda: container.status().restart_count > count, "the next start", timeout=30)


def test_a_stop_goes_on_without_the_one_who_asked(box):
    """The kill after the patience is the monitor's."""
    with box.start("sh", "-c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done") as container:
        container.wait_ready(log="up", timeout=20)
        script = """
        print("begun", flush=True)
        pylxc.Container.get(sys.argv[2], engine=engine).stop(2)
        """
        stopper, _ = another(box.engine, script, container.id)
        container.wait_ready(log="asked", timeout=20)
        assert stopper.poll() is None
        end(stopper)
        assert container.wait(timeout=20) == 137


def test_a_later_stop_is_the_one_that_counts(box):
    with box.start("sh", "-c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done") as container:
        container.wait_ready(log="up", timeout=20)
        assert control.stop(container._directory(), 15, 1000.0)
        container.wait_ready(log="asked", timeout=20)
        container.stop(timeout=0.1)
        assert container.status() == "exited"


def test_a_stop_is_repeated_where_it_is_to_be(box):
    script = "n=0; trap 'n=$((n + 1)); test $n = 3 && exit 4' TERM; echo up; while :; do sleep 0.01; done"
    with box.start("sh", "-c", script) as container:
        container.wait_ready(log="up", timeout=20)
        assert control.stop(container._directory(), 15, None, repeat=0.05)
        assert container.wait(timeout=20) == 4


def test_a_request_that_is_none_is_answered_so(box):
    with box.start("sleep", "100") as container:
        with pytest.raises(OSError, match="Invalid argument"):
            control._ask(container._directory(), 99)
        with pytest.raises(OSError, match="Bad file descriptor"):
            control.standard_input(container._directory())  # it was started without one
        assert container.exec(["echo", "lives"]).text == "lives\n"


def test_nobody_to_ask(box):
    container = box.create("sleep", "100")
    assert not control.disown(container._directory())
    container.start()
    monitor = record.monitor_pid(container._directory())
    os.kill(monitor, 9)
    container.wait(timeout=10)
    assert not control.stop(container._directory(), 15, 1.0)  # its socket is still there, and nobody behind it
    container.remove()
    assert not control.stop(container._directory(), 15, 1.0)


def test_a_thousand_requests_and_lines_leave_the_monitor_as_it_was(box):
    """Descriptors of the machine's root only can be looked at; what it remembers of its clients is nothing."""
    with box.start("sh", "-c", "while read line; do echo $line; done", stdin=True) as container:
        directory, monitor = container._directory(), record.monitor_pid(container._directory())

        def held():
            return len(os.listdir(f"/proc/{monitor}/fd")) if os.geteuid() == 0 else 0

        before = held()
        for number in range(1000):
            fd = control.standard_input(directory)
            os.write(fd, b"%d\n" % number)
            os.close(fd)
        assert held() == before
        control.end_input(directory)
        assert container.wait(timeout=30) == 0
        assert [line.data for line in container.logs()] == [b"%d\n" % number for number in range(1000)]
        assert not is_alive(monitor)


def test_only_the_owner_of_the_store_can_ask(box):
    with box.start("sleep", "100") as container:
        socket = os.stat(f"{container._directory()}/control")
        assert (socket.st_uid, socket.st_mode & 0o777) == (os.geteuid(), 0o600)
        assert os.stat(container._directory()).st_mode & 0o777 == 0o700
