"""A container's life: states, stop and kill, restart, names, several processes on one container."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from boxes import await_true, is_alive

import pylxc

# Ends on SIGTERM with status 0, as a good server does, and says when it is ready to.
OBEDIENT = ("sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done")


def another_process(engine, script, **options):
    """Run a script in a Python of its own, with ``engine``; returns its output."""
    code = "import sys, pylxc\nengine = pylxc.Engine(sys.argv[1])\n" + textwrap.dedent(script)
    command = [sys.executable, "-c", code, str(engine.root)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **options).stdout


def test_the_states(box):
    container = box.create("sh", "-c", "exit 3", name="states")
    status = container.status()
    assert (status, status.pid, status.exit_code, status.started_at) == ("created", 0, None, None)
    with pytest.raises(pylxc.Conflict, match="never started"):
        container.wait()
    container.start()
    assert container.wait() == 3
    status = container.status()
    assert (status, status.exit_code, status.signal) == ("exited", 3, 0)
    assert time.time() - 60 < container.created < status.started_at <= status.finished_at < time.time() + 1
    container.remove()
    with pytest.raises(pylxc.ContainerNotFound):
        container.status()
    with pytest.raises(pylxc.ContainerNotFound):
        container.remove()
    container.remove(force=True)


def test_inspect(box):
    with box.start("sleep", "100", name="seen", labels={"a": "b"}, env={"X": "1"}, user="nobody") as container:
        seen = container.inspect()
        assert (seen["Id"], seen["Name"], seen["Path"], seen["Args"]) == (container.id, "seen", "sleep", ["100"])
        assert seen["State"]["Running"] is True
        assert is_alive(seen["State"]["Pid"])
        assert seen["Config"]["User"] == "nobody"
        assert seen["Config"]["Labels"] == {"a": "b"}
        assert "X=1" in seen["Config"]["Env"]
        assert pylxc.ContainerSpec(**seen["Spec"]) == container.spec


def test_list_and_get(box):
    image = box.engine.image("busybox")
    with box.start("sleep", "100", name="one", labels={"k": "v"}) as one, box.create("true", name="two") as two:

        def names(**options):
            return [c.name for c in pylxc.Container.list(engine=box.engine, **options)]

        assert names() == ["one"]
        assert names(all=True) == ["two", "one"]
        assert names(filters={"status": "created"}) == ["two"]
        assert names(all=True, filters={"name": "w"}) == ["two"]
        assert names(filters={"label": "k"}) == names(filters={"label": "k=v"}) == ["one"]
        assert names(filters={"label": "k=other"}) == []
        assert names(all=True, filters={"ancestor": image.id}) == ["two", "one"]
        assert names(all=True, filters={"ancestor": "other"}) == []
        with pytest.raises(pylxc.SpecError, match="filters"):
            names(filters={"colour": "red"})
        for key in ("one", one.id, one.id[:16]):
            assert pylxc.Container.get(key, engine=box.engine).id == one.id
        with pytest.raises(pylxc.ContainerNotFound):
            pylxc.Container.get("three", engine=box.engine)
        with pytest.raises(pylxc.Conflict) as caught:
            box.create("true", name="two")
        assert caught.value.name == "two"
        assert two.id[:12] in caught.value.reason


def test_stop_by_sigterm(box):
    with box.start(*OBEDIENT) as container:
        container.wait_ready(log="ready", timeout=10)
        begin = time.monotonic()
        container.stop(timeout=30)
        assert time.monotonic() - begin < 5
        status = container.status()
        assert (status, status.exit_code, status.signal) == ("exited", 0, 0)
        assert [line.data for line in container.logs()] == [b"ready\n", b"bye\n"]
        container.stop()  # once more is no error


def test_stop_by_sigkill_when_the_time_is_over(box):
    with box.start(*STUBBORN, stop_timeout=0.2) as container:
        container.wait_ready(log="ready", timeout=10)
        begin = time.monotonic()
        container.stop()
        assert 0.2 <= time.monotonic() - begin < 5
        status = container.status()
        assert (status.exit_code, status.signal) == (137, 9)


def test_a_stop_signal_of_ones_own(box):
    script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done"
    with box.start("sh", "-c", script, stop_signal="SIGUSR1") as container:
        container.wait_ready(log="ready", timeout=10)
        container.stop(timeout=10)
        assert container.wait() == 5


def test_kill(box):
    with box.start(*OBEDIENT) as container:
        container.wait_ready(log="ready", timeout=10)
        container.kill("TERM")
        assert container.wait(timeout=10) == 0
        with pytest.raises(pylxc.Conflict):
            container.kill()
    with box.start("sleep", "100") as container:
        container.kill()
        assert container.wait(timeout=10) == 137


def test_wait_with_a_limit(box):
    with box.start("sleep", "100") as container:
        with pytest.raises(pylxc.TimeoutExpired) as caught:
            container.wait(timeout=0.05)
        assert caught.value.timeout == 0.05
        assert container.status() == "running"


@pytest.mark.parametrize("image", ["busybox", "host"])
def test_one_that_is_removed_at_its_end_can_be_restarted(box, image):
    """Its root is not mounted as volatile, which the kernel does once only."""
    script = "cat /usr/lib/n; echo x >> /n; echo y >> /usr/lib/n; mkdir -p /usr/lib; sleep 100"
    with box.start("sh", "-c", script, image=image, remove=True) as container:
        upper = box.engine.root / "containers" / container.id / "upper"
        await_true(lambda: (upper / "n").exists() and (upper / "n").read_text() == "x\n", "the first run")
        container.restart(timeout=0)
        await_true(lambda: (upper / "n").read_text() == "x\nx\n", "the second run")


def test_a_restart_keeps_what_was_written(box):
    with box.start("sh", "-c", "echo run >>/kept; cat /kept; sleep 100") as container:
        container.wait_ready(log="run", timeout=10)
        first = container.status().pid
        container.restart(timeout=0)
        await_true(lambda: container.exec(["cat", "/kept"]).text == "run\nrun\n", "the second run")
        assert container.status().pid != first
        assert container.status() == "running"
        container.start()  # of what runs already does nothing
        assert container.exec(["cat", "/kept"]).text == "run\nrun\n"


def test_a_container_that_has_ended_starts_again(box):
    with box.start("sh", "-c", "test -e /x && exit 4; touch /x") as container:
        assert container.wait(timeout=10) == 0
        container.start()
        assert container.wait(timeout=10) == 4


def test_remove_wants_force_for_what_runs(box):
    container = box.start("sleep", "100")
    pid = container.status().pid
    with pytest.raises(pylxc.Conflict, match="running"):
        container.remove()
    assert is_alive(pid)
    container.remove(force=True)
    assert not is_alive(pid)


def test_exec_wants_a_container_that_runs(box):
    with box.create("true") as container:
        for verb in (container.exec, container.popen):
            with pytest.raises(pylxc.Conflict, match="not running"):
                verb(["true"])
        with pytest.raises(pylxc.Conflict, match="not running"):
            container.connect(80)


def test_a_detached_container_outlives_its_maker_and_obeys_anybody(box):
    script = f"""
    c = pylxc.start("busybox", {list(OBEDIENT)!r}, name="outlives", detach=True, engine=engine)
    print(c.status().pid)
    """
    pid = int(another_process(box.engine, script))
    assert is_alive(pid)
    container = pylxc.Container.get("outlives", engine=box.engine)
    container.wait_ready(log="ready", timeout=10)
    assert container.exec(["echo", "seen"]).text == "seen\n"
    look = 'print(pylxc.Container.get("outlives", engine=engine).status().pid)'
    assert another_process(box.engine, look) == f"{pid}\n"
    waiting = "c = pylxc.Container.get('outlives', engine=engine); print('up', flush=True); print(c.wait(timeout=30))"
    code = f"import sys, pylxc\nengine = pylxc.Engine(sys.argv[1])\n{waiting}"
    with subprocess.Popen([sys.executable, "-c", code, str(box.engine.root)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"up\n"
        container.stop(timeout=10)
        assert other.communicate(timeout=30)[0] == b"0\n"
    look = 'print(*pylxc.Container.get("outlives", engine=engine).logs())'
    assert another_process(box.engine, look).count("bye") == 1
    container.remove()


def test_an_owned_container_ends_with_its_maker(box):
    script = """
    c = pylxc.start("busybox", ["sleep", "1000"], name="owned", engine=engine)
    print(c.status().pid, engine.container_directory(c.id))
    """
    pid, directory = another_process(box.engine, script).split()
    await_true(lambda: not is_alive(int(pid)), "the end of the container", timeout=1)
    # The next process that opens the store clears away what is left.
    assert another_process(box.engine, "print(pylxc.Container.list(all=True, engine=engine))") == "[]\n"
    assert not Path(directory).exists()


def test_connect(box):
    words = ("nc", "-ll", "-p", "7000", "-e", "cat")
    with box.start(*words) as container:
        container.wait_ready(port=7000, timeout=10)
        with container.connect(7000) as connection:
            assert connection.family in (socket.AF_INET, socket.AF_INET6)
            assert not connection.get_inheritable()
            connection.sendall(b"hello")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b"hello"
        with pytest.raises(ConnectionRefusedError):
            container.connect(7001)
        with pytest.raises(pylxc.SpecError):
            container.connect(70000)
    with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
        outside.connect(("127.0.0.1", 7000))  # nothing is published


def test_wait_ready(box):
    with box.start("sh", "-c", "sleep 0.2; echo now; touch /ready; sleep 100") as container:
        container.wait_ready(log="now", command=["test", "-e", "/ready"], timeout=10)
        with pytest.raises(pylxc.TimeoutExpired) as caught:
            container.wait_ready(log="never", timeout=0.1)
        assert caught.value.stdout == b"now\n"
    with box.start("sh", "-c", "echo last words; exit 9") as container:
        with pytest.raises(pylxc.ExitError, match="last words") as caught:
            container.wait_ready(port=1, timeout=30)
        assert caught.value.result.exit_code == 9


SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Answer.asked += 1
        status = 200 if Answer.asked > 2 and self.path == "/health?deep=1" else 503
        self.send_response(status); self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8080), Answer).serve_forever()
"""


def test_wait_ready_asks_a_web_server_until_it_is_well(box):
    with pylxc.start("host", ["python3", "-c", SERVER], engine=box.engine) as container:
        container.wait_ready(http="http://localhost:8080/health?deep=1", timeout=30)
        with pytest.raises(pylxc.TimeoutExpired, match="http://localhost:8080/ill"):
            container.wait_ready(http="http://localhost:8080/ill", timeout=0.3)
        for url in ("https://localhost/", "localhost:8080", "http://localhost:port/", "http:///x", "http://a/b c"):
            with pytest.raises(pylxc.SpecError, match="http"):
                container.wait_ready(http=url)


def test_wait_ready_does_not_wait_longer_than_it_was_told(box):
    """A server that takes connections and never answers, a command that never ends."""
    silent = "import socket, time; server = socket.create_server(('127.0.0.1', 8080)); time.sleep(100)"
    with pylxc.start("host", ["python3", "-c", silent], engine=box.engine) as container:
        container.wait_ready(port=8080, timeout=10)
        begin = time.monotonic()
        with pytest.raises(pylxc.TimeoutExpired):
            container.wait_ready(http="http://localhost:8080/", timeout=0.3)
        with pytest.raises(pylxc.TimeoutExpired):
            container.wait_ready(command=["sleep", "100"], timeout=0.3)
        assert time.monotonic() - begin < 50


def test_a_maker_that_forks_keeps_its_containers(box):
    with box.start("sleep", "100") as container:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if pylxc.run("busybox", ["echo", "from a fork"], engine=box.engine).ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert container.status() == "running"
        assert container.exec(["true"]).ok


def test_signals_to_the_callers_group_do_not_reach_a_container(box):
    with box.start("sleep", "100") as container:
        pid = container.status().pid
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        assert int(fields[3]) == pid  # a session of its own, so no terminal's signals come
        assert signal.getsignal(signal.SIGINT) is not None


def test_an_exec_whose_container_ends_before_it_has_joined_its_cgroups(box, monkeypatch):
    with box.start("sleep", "100") as container:
        real = container._cgroups

        def ended(pid: int) -> tuple[str, ...]:
            found = real(pid)
            assert found
            container.kill("KILL")
            container.wait(timeout=20)
            await_true(lambda: not any(map(os.path.exists, found)), "the end of the cgroups")
            return found

        monkeypatch.setattr(container, "_cgroups", ended)
        with pytest.raises(pylxc.Conflict, match="ended while the command was being started"):
            container.exec(["true"])
