"""``pylxc.aio``: the verbs and objects on event loops, without a thread; nothing is left of cancelled tasks."""

from __future__ import annotations

import asyncio
import functools
import gc
import io
import os
import random
import resource
import subprocess
import sys
import tarfile
import threading
import time

import pytest
from boxes import await_true, cgroups, descriptors, entries

import pylxc
from pylxc import aio
from pylxc.runtime import cgroup

FOR_EVER = ["sleep", "1000"]
PATIENCE = 30.0  # s


class AsyncBox:
    """The verbs of :mod:`pylxc.aio` on the busybox image of a store."""

    def __init__(self, engine: pylxc.Engine) -> None:
        self.engine = engine

    def run(self, *words: str, **options):
        return aio.run("busybox", list(words), engine=self.engine, **options)

    def sh(self, script: str, **options):
        return self.run("sh", "-c", script, **options)

    def start(self, *words: str, **options):
        return aio.start("busybox", list(words), engine=self.engine, **options)

    def popen(self, *words: str, **options):
        return aio.popen("busybox", list(words), engine=self.engine, **options)


@pytest.fixture
def abox(box):
    """The verbs; that nothing is left is checked by ``box``."""
    return AsyncBox(box.engine)


def on_a_loop(test):
    """Run an async test; a loop that hangs ends it."""

    @functools.wraps(test)  # pytest gives the fixtures that it sees there
    def run(*args, **fixtures):
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **fixtures), 4 * PATIENCE)

        asyncio.run(bounded())

    return run


# -- the verbs -------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_run(abox):
    seen = []
    result = await abox.sh("cat; echo err >&2", input=b"hello", on_output=lambda *chunk: seen.append(chunk))
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"hello", b"err\n")
    assert sorted(seen) == [("stderr", b"err\n"), ("stdout", b"hello")]
    with pytest.raises(pylxc.ExitError):
        await abox.run("false")
    with pytest.raises(pylxc.SpawnError) as caught:
        await abox.run("/no/such")
    assert caught.value.stage == "exec"
    with pytest.raises(pylxc.TimeoutExpired) as expired:
        await abox.sh("echo x; sleep 1000", timeout=0.2)
    assert expired.value.stdout == b"x\n"


@on_a_loop
async def test_start_and_create_both_ways(abox):
    container = await abox.start(*FOR_EVER, name="aio-a")
    assert isinstance(container, aio.Container)
    same = aio.Container(pylxc.Container.get("aio-a", engine=abox.engine))
    assert (same.id, same.name, same.created) == (container.id, "aio-a", container.created)
    assert (same.image.id, same.spec) == (container.image.id, container.spec)
    async with container:
        assert await same.status() == "running"
    with pytest.raises(pylxc.ContainerNotFound):
        await same.status()
    async with aio.create("busybox", FOR_EVER, engine=abox.engine) as made:
        assert await made.status() == "created"
        await made.start()
        assert await made.status() == "running"
    with pytest.raises(pylxc.SpawnError):
        async with abox.start("/no/such"):
            pytest.fail("it cannot be started")


@on_a_loop
async def test_a_container_from_start_to_end(abox):
    async with abox.start("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done") as container:
        await container.wait_ready(log="up", command=["true"], timeout=PATIENCE)
        assert (await container.exec(["echo", "in"])).text == "in\n"
        assert ("sh",) in {process.command[:1] for process in await container.top()}
        assert (await container.inspect())["Name"] == container.name
        assert (await container.stats()).time > 0
        with pytest.raises(pylxc.TimeoutExpired):
            await container.wait(timeout=0.05)
        await container.stop(timeout=PATIENCE)
        assert await container.wait() == 7
        await container.restart()
        await container.kill("KILL")
        assert await container.wait() == 137
        with pytest.raises(pylxc.Conflict):
            await container.kill()
        await container.start()
        with pytest.raises(pylxc.Conflict):
            await container.remove()
        await container.remove(force=True)


@pytest.mark.cgroups
@on_a_loop
async def test_pausing_and_limits(abox):
    async with abox.start(*FOR_EVER, pids_limit=50) as container:
        await container.pause()
        assert await container.status() == "paused"
        await container.unpause()
        await container.update(pids_limit=60)
        assert (await container.stats()).pids_limit == 60
        numbers = []
        async for stats in container.stats(stream=True):
            numbers.append(stats.pids)
            await container.kill()
        assert numbers == [1]


@on_a_loop
async def test_popen(abox):
    async with abox.popen("sh", "-c", "echo ready; cat; echo end >&2; exit 3") as process:
        assert await process.stdout.readline() == b"ready\n"
        await process.stdin.write(b"one\ntwo\nthr")
        assert await process.stdout.readline() == b"one\n"
        await process.stdin.write(b"ee")
        process.stdin.close()
        assert [line async for line in process.stdout] == [b"two\n", b"three"]
        assert await process.stderr.read() == b"end\n"
        assert process.returncode is None
        assert await process.wait() == process.returncode == 3
        with pytest.raises(pylxc.ContainerNotFound):
            await process.container.status()
    async with abox.popen("sh", "-c", "echo first; cat") as process:
        assert await process.stdout.read(2) == b"fi"
        data = random.Random(1).randbytes(1 << 20)
        assert await process.communicate(data) == (b"rst\n" + data, b"")
    async with abox.popen(*FOR_EVER) as process:
        with pytest.raises(pylxc.TimeoutExpired):
            await process.wait(timeout=0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.stdout.read(1), 0.05)
    assert process.returncode == 137
    process = await abox.popen("true")
    assert await process.communicate() == (b"", b"")


@on_a_loop
async def test_popen_in_a_container_and_on_a_terminal(abox):
    async with abox.start(*FOR_EVER) as container:
        async with container.popen(["sh"], tty=True, terminal_size=(50, 132)) as shell:
            await shell.stdin.write(b"stty -echo; stty size; exit 4\n")
            output = await shell.stdout.read()
            assert b"50 132" in output
            assert await shell.wait() == 4
        process = await container.popen(["cat"])
        assert (await process.communicate(b"x"))[0] == b"x"


@on_a_loop
async def test_who_does_not_read_on_is_told(abox):
    async with abox.popen("sh", "-c", "exec <&-; echo closed; sleep 1000") as process:
        assert await process.stdout.readline() == b"closed\n"
        with pytest.raises(BrokenPipeError):
            await process.stdin.write(b"x")


@on_a_loop
async def test_copies(abox, tmp_path):
    data = random.Random(3).randbytes(1 << 20)
    (tmp_path / "data").write_bytes(data)
    async with abox.start(*FOR_EVER) as container:
        await container.copy_in(tmp_path / "data", "/tmp/there")
        await container.copy_out("/tmp/there", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
        with pytest.raises(FileNotFoundError):
            await container.copy_out("/no/such", tmp_path)
        archive = io.BytesIO()
        await container.copy_out("/tmp/there", archive)
        archive.seek(0)
        await container.copy_in(archive, "/")
        assert (await container.exec(["cmp", "/there", "/tmp/there"])).ok
        archive.seek(0)
        with tarfile.open(fileobj=archive) as names:
            assert names.getnames() == ["there"]


@on_a_loop
async def test_connect(abox):
    async with abox.start("nc", "-ll", "-p", "8080", "-e", "cat") as container:
        await container.wait_ready(port=8080, timeout=PATIENCE)
        connection = await container.connect(8080)
        reader, writer = await asyncio.open_connection(sock=connection)
        writer.write(b"echo")
        assert await reader.readexactly(4) == b"echo"
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await container.connect(8081)


@on_a_loop
async def test_attachments(abox):
    async with abox.start("sh", "-c", "read x; head -c 200000 /dev/zero; cat; exit 5", stdin=True) as container:
        async with container.attach() as attachment:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(attachment.read(), 0.02)
            with pytest.raises(pylxc.TimeoutExpired):
                await attachment.wait(timeout=0.01)
            data = random.Random(6).randbytes(300_000)
            writing = asyncio.create_task(attachment.stdin.write(b"go\n" + data))
            seen = b""
            while len(seen) < 500_000:
                seen += (await attachment.read()).data
            assert seen == bytes(200_000) + data
            assert await writing == 300_003
            await attachment.stdin.close()
            assert [output async for output in attachment] == []
            assert await attachment.wait() == 5
        with pytest.raises(pylxc.Conflict):
            await container.attach()
        again = await container.attach(start=True)
        assert await container.status() == "running"
        await again.close()


# -- logs ------------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_logs_end_with_the_container(abox):
    async with abox.start("sh", "-c", "echo 1; sleep 0.05; echo 2; printf end") as container:
        assert [line.data async for line in container.logs(follow=True)] == [b"1\n", b"2\n", b"end"]
        assert await container.status() == "exited"
        (line,) = [line async for line in container.logs(tail=1)]
        assert (line.text, line.format()) == ("end", b"end")
        assert line.format(timestamps=True).endswith(b"Z end")


@on_a_loop
async def test_a_cancelled_look_at_a_log_loses_nothing_and_leaving_it_leaves_nothing(abox, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o666)
    fifo.chmod(0o666)
    async with abox.start("cat", "/fifo", volumes={fifo: "/fifo"}) as container:
        with fifo.open("wb", buffering=0) as words:
            lines = container.logs(follow=True)
            for number in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(lines), 0.02)
                words.write(b"%d\n" % number)
                assert (await anext(lines)).data == b"%d\n" % number
            another = asyncio.create_task(lines.__anext__())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(lines)
            before = descriptors()
            async for _ in container.logs(follow=True):
                break
            assert descriptors() == before
        assert await container.wait() == 0
        with pytest.raises(StopAsyncIteration):
            await another
        await lines.aclose()


# -- events ----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_events(abox):
    async with aio.events(follow=True, engine=abox.engine) as happening:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(happening), 0.02)
        task = asyncio.create_task(abox.start("true", name="aio-events"))
        kinds = [(await anext(happening)).kind for _ in range(3)]
        assert kinds == ["created", "started", "died"]
        await (await task).remove()
        assert (await anext(happening)).kind == "removed"
    chosen = {"container": "aio-events"}
    assert [event.kind async for event in aio.events(filters=chosen, engine=abox.engine)] == [*kinds, "removed"]
    soon = time.time() + 0.05
    assert [event async for event in aio.events(follow=True, until=soon, engine=abox.engine)] == []


# -- together --------------------------------------------------------------------------------------------------------


MEET = 'echo here >"/meet/$1"; while [ ! -e "/meet/$2" ]; do sleep 0.01; done; echo met'


@on_a_loop
async def test_what_runs_at_once_meets_and_makes_no_thread(abox, tmp_path):
    """Each ends only when the other one runs too: whoever ran them one after the other would wait for ever."""
    tmp_path.chmod(0o777)
    threads = set()

    def threads_now() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/task"))

    before = threads_now()

    def count(*_) -> None:
        threads.add(threads_now())

    def one(own: str, other: str):
        words = ("sh", "-c", MEET, "sh", own, other)
        return abox.run(*words, volumes={tmp_path: "/meet"}, timeout=PATIENCE, on_output=count)

    results = await asyncio.gather(one("a", "b"), one("b", "a"))
    assert [result.text for result in results] == ["met\n"] * 2
    assert threads == {before}


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.slow)])
@on_a_loop
async def test_many_at_once(abox, count):
    """As many as the limits of this process allow: each has about five descriptors."""

    async def one(number: int) -> bytes:
        async with room:
            return (await abox.sh(f"read x; echo {number}", input=b"x" * 70000 + b"\n")).stdout

    room = asyncio.Semaphore((resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 8)
    outputs = await asyncio.gather(*(one(number) for number in range(count)))
    assert outputs == [b"%d\n" % number for number in range(count)]


@on_a_loop
async def test_several_tasks_wait_for_one_thing(abox):
    async with abox.start("sh", "-c", "read x; exit 5", stdin=True) as container:
        waiting = [asyncio.create_task(container.wait()) for _ in range(3)]
        following = [asyncio.create_task(anext(container.logs(follow=True), None)) for _ in range(3)]
        removing = [asyncio.create_task(container.remove(force=True)) for _ in range(2)]
        results = await asyncio.gather(*waiting, *following, *removing, return_exceptions=True)
    # A container that was removed before somebody could ask how it ended is not found any more.
    assert {type(result) for result in results[:3]} <= {int, pylxc.ContainerNotFound}
    assert results[3:] == [None] * 5
    process = await abox.popen("sh", "-c", "read x; echo $x; exit 6")
    ends = [asyncio.create_task(process.wait()) for _ in range(2)]
    flow = asyncio.create_task(process.communicate(b"word\n"))
    assert await asyncio.gather(*ends, flow) == [6, 6, (b"word\n", b"")]


def test_several_loops_in_threads(abox, box):
    """Each thread has a loop of its own; all of them wait for one container as well."""
    found = []
    with box.start("sh", "-c", "while [ ! -e /end ]; do sleep 0.01; done; exit 9") as container:

        async def work(number: int) -> None:
            view = aio.Container(container)
            end = asyncio.create_task(view.wait())
            results = await asyncio.gather(*(abox.run("echo", f"{number}.{n}") for n in range(5)))
            found.append([result.text for result in results])
            arrived.wait(PATIENCE)
            assert await end == 9

        arrived = threading.Barrier(4)
        threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(3)]
        for thread in threads:
            thread.start()
        arrived.wait(PATIENCE)
        container.exec(["touch", "/end"])
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert sorted(found) == [[f"{number}.{n}\n" for n in range(5)] for number in range(3)]


# -- given up --------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_timeout_ends_what_runs(abox):
    started = asyncio.Event()
    task = asyncio.create_task(abox.sh("echo x; exec sleep 1000", on_output=lambda *_: started.set()))
    await started.wait()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(task, 0.05)
    assert entries(abox.engine)["containers"] == []
    assert pylxc.Container.list(all=True, engine=abox.engine) == []


@on_a_loop
async def test_cancelled_at_any_moment_it_leaves_nothing(abox):
    """The delays cover a whole start; what is left of any of them is found by the fixture, descriptors too."""
    chance = random.Random(4)
    await abox.run("true")
    before = descriptors()
    ends = {"cancelled": 0, "ended": 0}
    for number in range(50):
        verb = number % 3
        task = asyncio.create_task([_run_one, _start_one, _popen_one][verb](abox))
        await asyncio.sleep(chance.uniform(0, 0.012))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            ends["cancelled"] += 1
        else:
            ends["ended"] += 1
        assert entries(abox.engine)["containers"] == []
    assert ends["cancelled"] > 10
    assert descriptors() == before
    ids = {event.container for event in pylxc.events(engine=abox.engine)}
    assert len(ids) > 10
    assert {place for place in cgroups() if os.path.basename(place).removeprefix(cgroup.PREFIX) in ids} == set()


async def _run_one(abox) -> None:
    await abox.run("true")


async def _start_one(abox) -> None:
    async with abox.start(*FOR_EVER) as container:
        await container.exec(["true"])


async def _popen_one(abox) -> None:
    async with abox.popen("cat") as process:
        await process.communicate(b"x")


@on_a_loop
async def test_cancelled_again_and_again_it_still_ends_what_it_began(abox):
    async def one() -> None:
        async with abox.start(*FOR_EVER):
            started.set()
            await asyncio.sleep(1000)

    async def other() -> None:
        await abox.sh("echo; exec sleep 1000", on_output=lambda *_: started.set())

    started = asyncio.Event()
    for verb in (one, other):
        started.clear()
        task = asyncio.create_task(verb())
        await started.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert entries(abox.engine)["containers"] == []


@on_a_loop
async def test_a_callback_that_raises_ends_the_run(abox):
    def explode(*_) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await abox.sh("echo x; sleep 1000", on_output=explode)


def test_a_loop_that_is_closed_in_the_middle(abox):
    """What was under way is ended when its task is thrown away; no reader and no descriptor is left."""
    before = descriptors()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # "Task was destroyed but it is pending!"
    tasks = [loop.create_task(abox.sh("echo x; exec sleep 1000", on_output=lambda *_: loop.stop()))]
    tasks.append(loop.create_task(_iterate(abox)))
    loop.run_forever()
    loop.close()
    tasks.clear()
    await_true(lambda: gc.collect() >= 0 and entries(abox.engine)["containers"] == [], "the end of the containers")
    assert descriptors() == before


async def _iterate(abox) -> None:
    async with abox.start(*FOR_EVER) as container:
        async for _ in container.logs(follow=True):
            pytest.fail("it writes nothing")


INTERRUPTED = """
import asyncio, os, signal, sys
import pylxc
from pylxc import aio

async def main():
    await aio.run("busybox", ["sh", "-c", "echo x; exec sleep 1000"],
                  engine=engine, on_output=lambda *_: os.kill(os.getpid(), signal.SIGINT))

engine = pylxc.Engine(sys.argv[1])
pylxc.run("busybox", ["true"], engine=engine)  # asyncio's debug mode tells of what takes 0.1 s, and it is opened here
try:
    asyncio.run(main())
except KeyboardInterrupt:
    left = os.listdir(sys.argv[1] + "/containers")
    sys.exit(f"left: {left}" if left else 42)
"""


def test_control_c(box):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, str(box.engine.root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (42, "")


def test_importing_pylxc_makes_it_known_without_loading_it():
    program = (
        "import sys, pylxc; assert 'asyncio' not in sys.modules; assert pylxc.aio.run; assert 'asyncio' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
