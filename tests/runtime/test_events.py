"""What happens to containers is told once, in order, to whoever asks, whichever process made it happen."""

from __future__ import annotations

import fcntl
import inspect
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, is_alive

import pylxc
from pylxc.runtime import native, record

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60.0  # s; what takes longer hangs
LIMIT = 1 << 20  # bytes of one file (csrc/helper/event_log.c)
FOUR = ["created", "started", "died", "removed"]


def program(script: str) -> list[str]:
    """Return the command of a process that runs a script, with the engine of the store that it is given."""
    code = "import sys, time, pylxc\nengine = pylxc.Engine(sys.argv[1])\n" + textwrap.dedent(script)
    return [sys.executable, "-c", code]


def elsewhere(root: Path, script: str) -> str:
    """Run a script in another process, to its end."""
    done = subprocess.run([*program(script), root], check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout


def recorded(engine: pylxc.Engine, **options) -> list[pylxc.Event]:
    return list(pylxc.events(engine=engine, **options))


def kinds(found: list[pylxc.Event]) -> list[str]:
    return [event.kind for event in found]


@pytest.fixture
def stream(box):
    """What happens from now on."""
    with pylxc.events(follow=True, engine=box.engine) as following:
        yield following


def test_a_run_elsewhere_gives_the_four(box, stream):
    begin = time.time()
    elsewhere(box.engine.root, 'pylxc.run("busybox", ["sh", "-c", "exit 3"], engine=engine, name="job", check=False)')
    found = stream.take()
    assert kinds(found) == FOUR
    assert len({event.container for event in found}) == 1
    assert {(event.name, event.image) for event in found} == {("job", "busybox")}
    assert begin < found[0].time <= found[1].time <= found[2].time <= found[3].time < time.time()
    assert [event.exit_code for event in found] == [None, None, 3, None]
    assert [event.signal for event in found] == [None] * 4
    assert [bool(event.pid) for event in found] == [False, True, False, False]


def test_a_life_with_all_that_may_happen(box, stream):
    script = """
    limits = {"pids_limit": 10} if sys.argv[2] == "pause" else {}  # without limits there is no cgroup
    with pylxc.start("busybox", ["sleep", "100"], engine=engine, **limits) as container:
        pid = container.status().pid
        container.exec(["true"])
        if limits:
            container.pause(), container.pause(), container.unpause()
        container.kill("KILL")
        container.wait()
        container.start()
        container.exec(["true"])
    print(pid)
    """
    can_pause = os.geteuid() == 0
    command = [*program(script), box.engine.root, "pause" if can_pause else ""]
    pid = int(subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT).stdout)
    found = stream.take()
    paused = ["paused", "unpaused"] if can_pause else []
    assert kinds(found) == ["created", "started", *paused, "died", "started", "died", "removed"]
    assert found[1].pid == pid
    assert [(event.exit_code, event.signal) for event in found if event.kind == "died"] == [(137, 9)] * 2
    assert recorded(box.engine, since=found[0].time) == found


def test_a_life_that_begins_again(box, stream):
    with box.start("false", restart="on-failure:2") as container:
        container.wait()
    assert kinds(stream.take()) == ["created", *["started", "died", "restarting"] * 2, "started", "died", "removed"]


def test_a_stop_between_two_lives(box, stream):
    """The last end was told when it came, and is not told again."""
    found = []
    with box.start("false", restart="always") as container:
        while kinds(found).count("restarting") < 3:  # the pause is 0.4 s now
            found.append(next(stream))
        container.stop()
    assert kinds(found + stream.take()) == ["created", *["started", "died", "restarting"] * 3, "removed"]


def test_health(box, stream):
    check = {"test": "test -e /tmp/well", "interval": 0.03, "retries": 1}
    with box.start("sleep", "100", name="checked", healthcheck=check) as container:
        found = [next(stream) for _ in range(3)]
        container.exec(["touch", "/tmp/well"])
        found.append(next(stream))
    assert kinds(found) == ["created", "started", "health", "health"]
    assert [event.health for event in found[2:]] == ["unhealthy", "healthy"]
    assert found[3].name == "checked"


@pytest.mark.cgroups
def test_memory_that_runs_out(box, stream):
    box.sh("x=a; while :; do x=$x$x; done", memory="64m", check=False)
    found = stream.take()
    assert kinds(found) == ["created", "started", "oom", "died", "removed"]
    assert (found[3].exit_code, found[3].signal) == (137, 9)


def test_what_a_later_version_tells(box, stream):
    with box.start("sleep", "100", name="watched") as container:
        box.engine.store.events.add("of a later version", container.id)
        box.engine.store.events.add("paused", container.id, more="of a later version")
        found = stream.take()
    assert kinds(found) == ["created", "started", "paused"]
    assert found[2].name == "watched"


def test_starts_that_fail(box, stream):
    with pytest.raises(pylxc.SpawnError):
        box.run("/no/such/program")
    with pytest.raises(pylxc.SpawnError):
        box.start("/no/such/program")
    assert kinds(stream.take()) == ["created", "removed"] * 2
    with box.create("true", name="holder"):
        assert kinds(stream.take()) == ["created"]
        with pytest.raises(pylxc.Conflict):
            box.run("true", name="holder")
        assert stream.take() == []


def test_an_owner_that_was_killed(box, stream):
    """The next processes remove what it leaves: several at once, and one of them tells of it."""
    script = 'c = pylxc.start("busybox", ["sleep", "100"], engine=engine); print("up", flush=True); time.sleep(1000)'
    with subprocess.Popen([*program(script), box.engine.root], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    assert [next(stream).kind for _ in range(3)] == FOUR[:3]
    others = [subprocess.Popen([*program("engine.store"), box.engine.root]) for _ in range(3)]
    assert [other.wait(TIMEOUT) for other in others] == [0] * 3
    assert kinds(stream.take()) == ["removed"]


def test_owners_killed_at_any_moment(box, stream):
    """Whatever is told of a container is told once, and in order."""
    script = """
    while True:
        pylxc.run("busybox", ["true"], engine=engine)
    """
    found = []
    for number in range(3):
        with subprocess.Popen([*program(script), box.engine.root]) as process:
            found += [next(stream) for _ in range(4 + number)]
            time.sleep(number * 0.0007)  # not waiting for anything: it picks the moment
            process.kill()
        elsewhere(box.engine.root, "engine.store")
    lives: dict[str, list[str]] = {}
    for event in found + stream.take():
        lives.setdefault(event.container, []).append(event.kind)
    assert [told for told in lives.values() if told != [kind for kind in FOUR if kind in told]] == []


def test_the_removal_comes_last_however_slow_the_monitor_is(box, stream):
    mine = box.start("sleep", "100", detach=True)
    container = pylxc.Container.get(mine.id, engine=box.engine)  # as another process has it
    monitor = record.monitor_pid(container._directory())
    with (box.engine.root / "events").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        container.kill()
        await_true(lambda: container.status() == "exited", "the record of the end")
        os.kill(monitor, signal.SIGSTOP)  # it waits for the lock, to tell
    thread = threading.Thread(target=container.remove)
    thread.start()
    thread.join(0.2)
    told = kinds(stream.take())
    os.kill(monitor, signal.SIGCONT)
    thread.join(TIMEOUT)
    mine.remove(force=True)
    assert told == FOUR[:2]
    assert told + kinds(stream.take()) == FOUR


def test_who_hears_of_it_can_look(box, stream):
    """What an event says is so already when it is told."""
    seen = []

    def look() -> None:
        for event in stream:
            state = "gone"
            if event.kind != "removed":
                state = str(pylxc.Container.get(event.container, engine=box.engine).status())
            else:
                with pytest.raises(pylxc.ContainerNotFound):
                    pylxc.Container.get(event.container, engine=box.engine)
            seen.append((event.kind, state))

    thread = threading.Thread(target=look)
    thread.start()
    container = box.create("cat", stdin=False)
    steps = [lambda: None, container.start, container.wait, container.remove]
    for number, step in enumerate(steps, 1):
        step()
        await_true(lambda number=number: len(seen) >= number, "the event of each step")
    stream.close()
    thread.join()
    assert [kind for kind, _ in seen] == FOUR
    assert seen[0] == ("created", "created")
    assert seen[1][1] in ("running", "exited")
    assert seen[2:] == [("died", "exited"), ("removed", "gone")]


# -- which events -------------------------------------------------------------------------------------------------


def test_filters(box):
    begin = time.time()
    with box.create("true", name="one") as one, box.create("true", name="two"):
        pass

    def chosen(**filters) -> list[tuple[str, str]]:
        found = recorded(box.engine, since=begin, filters=filters)
        return [(event.name, event.kind) for event in found]

    assert chosen() == [("one", "created"), ("two", "created"), ("two", "removed"), ("one", "removed")]
    assert chosen(container="one") == [("one", "created"), ("one", "removed")]
    assert chosen(container=one.id[:12]) == chosen(container="one")
    assert chosen(container="") == []
    assert chosen(kind="removed", container=["one", "two"]) == [("two", "removed"), ("one", "removed")]
    assert chosen(event=["removed", "died"]) == chosen(kind="removed")
    assert chosen(image="busybox") == chosen()
    assert chosen(image="box") == []
    with pytest.raises(pylxc.SpecError, match="colour"):
        chosen(colour="red")
    with pytest.raises(pylxc.SpecError, match="born"):
        chosen(kind=["created", "born"])


def test_times(box):
    box.run("true", name="before")
    middle = time.time()
    box.run("true", name="after")
    assert {event.name for event in recorded(box.engine, since=middle)} == {"after"}
    assert {event.name for event in recorded(box.engine, until=middle)} >= {"before"}
    assert {event.name for event in recorded(box.engine, until=middle)}.isdisjoint({"after"})
    with pylxc.events(follow=True, since=middle, until=time.time(), engine=box.engine) as stream:
        assert kinds(list(stream)) == FOUR
    with pylxc.events(follow=True, until=time.time() + 0.05, engine=box.engine) as stream:
        assert list(stream) == []  # it ends by itself


def test_what_is_followed_begins_with_the_call(box):
    with pylxc.events(follow=True, engine=box.engine) as stream, box.create("true"):
        assert next(stream).kind == "created"


def test_names_come_from_the_store_when_the_log_has_forgotten_them(box):
    with box.create("true", name="old") as old:
        for name in ("events", "events.1"):
            (box.engine.root / name).unlink(missing_ok=True)
        box.engine.store.events.add("paused", old.id)
        assert [(event.name, event.image) for event in recorded(box.engine)] == [("old", "busybox")]
        box.engine.store.events.add("paused", "f" * 64)
        assert [event.name for event in recorded(box.engine)] == ["old", ""]


# -- waiting ------------------------------------------------------------------------------------------------------


def test_another_thread_may_close_it(box):
    stream = pylxc.events(follow=True, engine=box.engine)
    found: list[pylxc.Event] = []
    thread = threading.Thread(target=lambda: found.extend(stream))
    thread.start()
    with box.create("true"):
        await_true(lambda: found, "the first event")
    await_true(lambda: len(found) == 2, "the second event")
    stream.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    stream.close()
    assert (list(stream), stream.take(), stream.fileno()) == ([], [], -1)


def test_it_waits_without_asking(box, stream):
    """Following costs no processor time while nothing happens."""
    got = []
    thread = threading.Thread(target=lambda: got.append(next(stream)))
    before = time.process_time()
    thread.start()
    time.sleep(0.3)  # the time that is measured
    used = time.process_time() - before
    with box.create("true"):
        thread.join(TIMEOUT)
    assert kinds(got) == ["created"]
    assert used < 0.15


# -- the file -----------------------------------------------------------------------------------------------------


class Log:
    """A log of numbered events, which needs no containers."""

    def __init__(self, engine: pylxc.Engine) -> None:
        self.engine = engine
        engine.store  # noqa: B018  it is made with the first use
        self.file = engine.root / "events"
        self.count = 0

    def write(self, count: int) -> None:
        """Write so many events."""
        for number in range(self.count, self.count + count):
            native.append_event(str(self.engine.root), line_of("log", number))
        self.count += count

    def numbers(self, found: list[pylxc.Event]) -> list[int]:
        return [event.pid for event in found]


def line_of(writer: str, number: int) -> bytes:
    said = f'"kind":"paused","time_ns":1,"id":"{writer}","pid":{number}'
    return b"{" + said.encode().ljust(500) + b"}"


A_FILE = LIMIT // (len(line_of("log", 0)) + 1)  # lines


@pytest.fixture
def log(engine) -> Log:
    return Log(engine)


@pytest.mark.usefixtures("busybox")
def test_the_file_is_private_and_small(log):
    before = os.umask(0)
    pylxc.run("busybox", ["true"], engine=log.engine)
    os.umask(before)
    log.write(3 * A_FILE)
    files = [log.file, log.file.with_name("events.1")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert max(file.stat().st_size for file in files) < LIMIT + 600


def test_half_a_line_costs_no_whole_one(log):
    log.write(3)
    half = line_of("log", 99)[:70]
    with log.file.open("ab") as file:
        file.write(half)
    with pylxc.events(follow=True, since=0.0, engine=log.engine) as stream:
        assert log.numbers(stream.take()) == list(range(log.count))
        log.write(2)
        assert log.numbers(stream.take()) == [log.count - 2, log.count - 1]
    with log.file.open("ab") as file:
        file.write(b'\n\0\0\n[]\n{"kind":1}\n{"kind":"died"}\n"\xff"\n')
    log.write(2)
    assert log.numbers(recorded(log.engine)) == list(range(log.count))
    assert half + b"\n{" in log.file.read_bytes()


def test_a_reader_keeps_up_with_rotation(log):
    with pylxc.events(follow=True, engine=log.engine) as stream:
        found = []
        for _ in range(6):
            log.write(A_FILE * 2 // 3)
            found += stream.take()
    assert log.numbers(found) == list(range(log.count))


def test_two_rotations_while_a_reader_sleeps(log):
    with pylxc.events(follow=True, engine=log.engine) as stream:
        log.write(A_FILE * 5 // 2)
        assert log.numbers(stream.take()) == list(range(log.count))
        log.write(A_FILE * 4)
        rest = log.numbers(stream.take())  # it goes on with the oldest there is
        assert rest[-1] == log.count - 1
        gap = next(number for number in range(1, len(rest)) if rest[number] != rest[number - 1] + 1)
        assert rest == [*range(rest[0], rest[0] + gap), *range(rest[gap], log.count)]


def test_a_writer_that_waited_while_the_file_was_renamed(log):
    log.write(1)
    with log.file.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=log.write, args=[1])
        thread.start()
        time.sleep(0.02)  # in which it opens the file, and waits for the lock
        log.file.rename(log.file.with_name("events.1"))
    thread.join(TIMEOUT)
    assert log.file.read_bytes() == line_of("log", 1) + b"\n"


WRITER = f"""
import sys
from pylxc.runtime import native
{inspect.getsource(line_of)}
sys.stdin.read(1)
for number in range(int(sys.argv[3])):
    native.append_event(sys.argv[1], line_of(sys.argv[2], number))
"""


def test_several_writers_and_a_rotation(log):
    """Each event comes exactly once, and those of one writer in their order."""
    names, each = ("one", "two", "three", "four"), A_FILE * 3 // 8
    command = [sys.executable, "-c", WRITER, log.engine.root]
    writers = [subprocess.Popen([*command, name, str(each)], stdin=subprocess.PIPE) for name in names]
    with pylxc.events(follow=True, until=time.time() + TIMEOUT, engine=log.engine) as stream:
        for writer in writers:
            writer.stdin.close()  # now
        followed = [next(stream) for _ in range(each * len(names))]
    assert [writer.wait(TIMEOUT) for writer in writers] == [0] * len(names)
    assert log.file.with_name("events.1").exists()
    for found in (followed, recorded(log.engine)):
        assert len(found) == each * len(names)
        for name in names:
            assert log.numbers([event for event in found if event.container == name]) == list(range(each))


# -- what must not hinder a container -----------------------------------------------------------------------------


def test_a_writer_that_was_stopped_hinders_nobody(box, stream):
    """Whoever holds the lock for ever does not keep a container from starting and ending."""
    with (box.engine.root / "events").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert box.run("echo", "fine").text == "fine\n"
    assert kinds(stream.take()) == FOUR


@pytest.mark.parametrize("place", ["directory", "link"])
def test_a_log_that_cannot_be_written(engine, busybox, tmp_path, place):
    engine.store  # noqa: B018  it is made with the first use
    if place == "directory":
        (engine.root / "events").mkdir()
    else:
        (engine.root / "events").symlink_to(tmp_path / "elsewhere")
    assert pylxc.run("busybox", ["echo", "fine"], engine=engine).text == "fine\n"
    with pylxc.start("busybox", ["sleep", "100"], engine=engine) as container:
        pid = container.status().pid
    assert not is_alive(pid)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(pylxc.StoreError):
        pylxc.events(engine=engine)


FULL_DISK = """
def fill(disk):
    with open(disk + "/ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

import os
disk = os.path.dirname(sys.argv[1])
pylxc.Image.from_directory(sys.argv[2], "busybox", engine=engine)
running = pylxc.start("busybox", ["sleep", "100"], engine=engine)
size = os.stat(engine.root / "events").st_size
with open(engine.root / "events", "ab") as file:  # to the end of its last page: no event finds room
    file.write(b" " * (-size % 4096 - 1) + b"\\n")
    size = file.tell()
fill(disk)
running.kill()
running.wait()
assert os.stat(engine.root / "events").st_size == size
running.remove()
os.unlink(disk + "/ballast")
pylxc.run("busybox", ["true"], engine=engine)
print(*(event.kind for event in pylxc.events(engine=engine)))
"""


@pytest.mark.root
def test_a_full_disk_loses_events_and_nothing_else(tmp_path, busybox_root):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=8M,mode=700 tmpfs {disk}; exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", mount, "sh", *program(FULL_DISK)]
    done = subprocess.run(
        [*command, disk / "store", busybox_root], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.split()
    assert (told[:2], told[-4:], told.count("died")) == (FOUR[:2], FOUR, 1)


@pytest.mark.root
def test_a_log_without_room(engine, busybox):
    """On a disk that has room for all but the log."""
    engine.store  # noqa: B018  it is made with the first use
    os.mknod(engine.root / "events", stat.S_IFCHR | 0o600, os.makedev(1, 7))  # full(4)
    assert pylxc.run("busybox", ["echo", "fine"], engine=engine).text == "fine\n"
    with pylxc.start("busybox", ["sleep", "100"], engine=engine) as container:
        assert container.status() == "running"
    (engine.root / "events").unlink()
    pylxc.run("busybox", ["true"], engine=engine)
    assert kinds(recorded(engine)) == FOUR
