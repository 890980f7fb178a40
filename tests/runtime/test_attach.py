"""``attach``: what a container writes as it writes it, its standard input, and that nobody is kept waiting."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import select
import threading

import pytest

import pylxc
from pylxc.runtime import record

LIMIT = 30.0  # s
SIZE = 20_000  # bytes of a log's file


def read_until(attachment: pylxc.Attachment, wanted: bytes) -> bytes:
    """Read what comes until it ends with ``wanted``."""
    seen = b""
    while not seen.endswith(wanted):
        output = attachment.read(timeout=LIMIT)
        assert output is not None, f"the end came before {wanted!r}; {seen!r} did"
        seen += output.data
    return seen


def rest(attachment: pylxc.Attachment) -> dict[str, bytes]:
    """Return what comes on each stream, to the end."""
    seen: dict[str, bytes] = {}
    while (output := attachment.read(timeout=LIMIT)) is not None:
        seen[output.stream] = seen.get(output.stream, b"") + output.data
    return seen


# -- output ------------------------------------------------------------------------------------------------------------

DIALOGUE = "printf 'before '; read x; printf \"after $x\"; read y; printf never"


def test_what_comes_from_now_on_is_seen_at_once(box):
    with box.start("sh", "-c", DIALOGUE, stdin=True) as container:
        container.wait_ready(log="before", timeout=LIMIT)
        with container.attach() as attachment:
            attachment.stdin.write(b"1\n")
            assert attachment.read(timeout=LIMIT) == pylxc.Output("stdout", b"after 1")
        with container.attach(logs=True) as attachment:
            assert attachment.read(timeout=LIMIT) == pylxc.Output("stdout", b"before after 1")
            with pytest.raises(pylxc.TimeoutExpired):
                attachment.read(timeout=0)


def test_the_bytes_are_those_that_were_written(box, tmp_path):
    data = random.Random(1).randbytes(400_000)
    (tmp_path / "data").write_bytes(data)
    options = {"volumes": {tmp_path / "data": "/data:ro"}, "log": {"max_size": SIZE, "max_files": 10_000}}
    container = box.create("sh", "-c", "cat /data & cat /data >&2; wait; printf end; exit 4", **options)
    with container, container.attach(start=True) as attachment:
        assert rest(attachment) == {"stdout": data + b"end", "stderr": data}
        assert attachment.read() is None
        assert not attachment.lost
        assert attachment.wait() == 4


def test_a_container_that_is_started_is_seen_from_its_first_byte(box):
    with box.create("sh", "-c", "echo x >>/n; wc -l </n; exit 3") as container:
        for number in (b"1\n", b"2\n"):
            with container.attach(start=True) as attachment:
                assert rest(attachment) == {"stdout": number}
                assert attachment.wait(LIMIT) == 3


def test_one_that_never_reads_costs_the_container_nothing(box, tmp_path):
    """64 MiB, to the byte, for the one who reads."""
    piece = random.Random(2).randbytes(1 << 20)
    (tmp_path / "piece").write_bytes(piece)
    script = "read go; n=0; while [ $n -lt 64 ]; do cat /piece; n=$((n+1)); done"
    options = {"volumes": {tmp_path / "piece": "/piece:ro"}, "stdin": True}
    expected, seen, size = hashlib.sha256(piece * 64), hashlib.sha256(), 0
    container = box.start("sh", "-c", script, **options)
    with container, container.attach() as stuck, container.attach() as attachment:
        stuck.stdin.write(b"\n")
        while (output := attachment.read(timeout=LIMIT)) is not None:
            seen.update(output.data)
            size += len(output.data)
        assert (size, seen.hexdigest()) == (64 << 20, expected.hexdigest())
        assert attachment.wait(LIMIT) == 0
        assert piece.startswith(stuck.read(timeout=LIMIT).data)


@pytest.mark.parametrize("overtaken", [True, False])
def test_one_that_is_overtaken_says_so(box, overtaken):
    options = {"stdin": True, "log": {"max_size": SIZE, "max_files": 2 if overtaken else 1000}}
    with box.start("sh", "-c", "read go; seq 1 20000; read stop", **options) as container, container.attach() as late:
        late.stdin.write(b"\n")
        container.wait_ready(log="20000", timeout=LIMIT)
        seen = [int(line) for line in read_until(late, b"20000\n").split()]
        assert late.lost == overtaken
        assert seen == sorted(set(seen)), "nothing twice, nothing out of order"
        assert (len(seen) == 20000) != overtaken


def test_it_ends_with_the_container_however_that_ends(box):
    for end in ("kill", "monitor", "remove"):
        container = box.start("sh", "-c", "echo ready; sleep 100")
        with container.attach(logs=True) as attachment:
            read_until(attachment, b"ready\n")
            with pytest.raises(pylxc.TimeoutExpired):
                attachment.wait(timeout=0)
            if end == "kill":
                container.kill()
            elif end == "monitor":
                os.kill(record.monitor_pid(container._directory()), 9)
            else:
                container.remove(force=True)
            assert attachment.read(timeout=LIMIT) is None
            assert attachment.wait(LIMIT) == 137
        container.remove(force=True)


def test_it_goes_on_when_the_policy_starts_it_again(box):
    script = "echo x >>/n; wc -l </n; exit 3"
    container = box.create("sh", "-c", script, restart="on-failure:2")
    with container, container.attach(start=True) as attachment:
        assert rest(attachment) == {"stdout": b"1\n2\n3\n"}
        assert attachment.wait(LIMIT) == 3


# -- waiting with others -----------------------------------------------------------------------------------------------


def is_readable(attachment: pylxc.Attachment, timeout: float) -> bool:
    return bool(select.select([attachment], [], [], timeout)[0])


def test_it_can_be_waited_for_with_others(box):
    script = "printf a; read x; head -c 300000 /dev/zero; printf z; read y"
    with box.start("sh", "-c", script, stdin=True) as container, container.attach(logs=True) as attachment:
        assert is_readable(attachment, LIMIT), "there may be something from the beginning"
        read_until(attachment, b"a")
        with pytest.raises(pylxc.TimeoutExpired):
            attachment.read(timeout=0)
        assert not is_readable(attachment, 0)
        attachment.stdin.write(b"\n")
        seen = b""
        while not seen.endswith(b"z"):  # as long as there is more it says so, however much was read at once
            assert is_readable(attachment, LIMIT)
            try:
                seen += attachment.read(timeout=0).data
            except pylxc.TimeoutExpired:
                continue
        assert seen == bytes(300_000) + b"z"
        container.kill()
        assert is_readable(attachment, LIMIT)
        while is_readable(attachment, LIMIT):
            try:
                assert attachment.read(timeout=0) is None
                break
            except pylxc.TimeoutExpired:
                continue


def test_in_an_event_loop(box):
    with box.start("cat", stdin=True) as container, container.attach() as attachment:

        async def talk() -> bytes:
            loop, came = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(attachment, came.set)
            seen = b""
            attachment.stdin.write(b"hello")
            while not seen.endswith(b"hello"):
                await asyncio.wait_for(came.wait(), LIMIT)
                came.clear()
                try:
                    seen += attachment.read(timeout=0).data
                except pylxc.TimeoutExpired:
                    continue
            loop.remove_reader(attachment)
            return seen

        assert asyncio.run(talk()) == b"hello"


# -- input -------------------------------------------------------------------------------------------------------------


def test_the_end_of_input_is_told_by_closing_it(box):
    container = box.start("sh", "-c", "cat; echo over; exit 5", stdin=True)
    with container, container.attach() as first, container.attach() as other:
        first.stdin.write(b"one ")
        other.stdin.write(b"two ")
        other.close()
        first.stdin.close()
        assert rest(first) == {"stdout": b"one two over\n"}
        assert first.wait(LIMIT) == 5
        with pytest.raises(ValueError, match="closed"):
            first.stdin.write(b"more")


def test_leaving_says_nothing_to_the_container(box):
    with box.start("cat", stdin=True) as container:
        for word in (b"one", b"two"):
            with container.attach() as attachment:
                attachment.stdin.write(word)
                assert read_until(attachment, word) == word
            del attachment
        assert container.status() == "running"
        container.attach().stdin.close()
        assert container.wait(LIMIT) == 0


def test_a_container_that_does_not_read_is_waited_for(box):
    data = random.Random(3).randbytes(1 << 20)
    script = "while [ ! -e /go ]; do sleep 0.02; done; sha256sum"
    with box.start("sh", "-c", script, stdin=True) as container, container.attach() as attachment:
        stdin = attachment.stdin
        sent = 0
        while count := stdin.offer(data[sent : sent + 4096]):
            sent += count
        assert 0 < sent < len(data)
        assert not select.select([], [stdin], [], 0)[1]
        writer = threading.Thread(target=lambda: (stdin.write(data[sent:]), stdin.close()))
        writer.start()
        container.exec(["touch", "/go"])
        writer.join(LIMIT)
        assert rest(attachment)["stdout"].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_nobody_to_write_to_is_a_broken_pipe(box):
    for tty in (False, True):
        with box.start("sleep", "100", stdin=True, tty=tty) as container, container.attach() as attachment:
            attachment.stdin.write(b"x")
            container.kill()
            assert attachment.wait(LIMIT) == 137
            for _ in range(2):
                with pytest.raises(BrokenPipeError):
                    attachment.stdin.write(b"y")
            attachment.stdin.close()


# -- terminals ---------------------------------------------------------------------------------------------------------


def test_a_terminal_is_typed_on(box):
    with box.start("sh", "-c", "while printf '> '; read x; do eval \"$x\"; done", tty=True, stdin=True) as container:
        with container.attach(logs=True) as attachment:
            assert read_until(attachment, b"> ") == b"> "
            attachment.stdin.write(b"echo $((6 * 7))\n")
            assert read_until(attachment, b"42\r\n> ") == b"echo $((6 * 7))\r\n42\r\n> "
            attachment.stdin.close()  # says nothing
            attachment.resize(30, 90)
        with container.attach(terminal_size=(40, 101)) as attachment:
            attachment.stdin.write(b"stty size\n")
            read_until(attachment, b"40 101\r\n> ")
            attachment.resize(41, 102)
            attachment.stdin.write(b"stty size\n")
            read_until(attachment, b"41 102\r\n> ")
            attachment.stdin.write(b"\x04")
            rest(attachment)
            assert attachment.wait(LIMIT) == 0
            attachment.resize(24, 80)  # it has ended: no error


def test_a_terminal_has_its_size_from_the_beginning(box):
    container = box.create("stty", "size", tty=True)
    with container, container.attach(start=True, terminal_size=(33, 111)) as attachment:
        assert rest(attachment) == {"stdout": b"33 111\r\n"}


def test_each_start_by_the_policy_has_a_new_terminal(box):
    script = "stty -echo; echo ready; read x; echo got $x; stty size; [ $x = end ]"
    container = box.create("sh", "-c", script, tty=True, stdin=True, restart="on-failure")
    with container, container.attach(start=True, terminal_size=(33, 111)) as attachment:
        read_until(attachment, b"ready\r\n")
        attachment.resize(50, 132)
        for word in (b"one", b"two", b"end"):
            attachment.stdin.write(word + b"\n")
            seen = read_until(attachment, b"ready\r\n" if word != b"end" else b"132\r\n")
            assert b"got " + word + b"\r\n50 132\r\n" in seen
        assert attachment.wait(LIMIT) == 0


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_attached_to(box):
    with box.popen("cat") as process, pytest.raises(pylxc.Conflict, match="in the hands of"):
        process.container.attach()
    with box.create("true") as container:
        with pytest.raises(pylxc.Conflict, match=r"is not running \(created\)"):
            container.attach()
        container.start()
        container.wait(LIMIT)
        with pytest.raises(pylxc.Conflict, match=r"is not running \(exited\)"):
            container.attach()
    with pytest.raises(pylxc.ContainerNotFound):
        container.attach()
    with box.create("no-such-program") as container, pytest.raises(pylxc.SpawnError):
        container.attach(start=True)


def test_what_is_not_there(box):
    with box.start("sleep", "100") as container, container.attach() as attachment:
        assert attachment.stdin is None
        with pytest.raises(pylxc.Conflict, match="no terminal"):
            attachment.resize(24, 80)
        with pytest.raises(pylxc.SpecError, match="terminal_size"):
            container.attach(terminal_size=(24, 80))
    with box.start("sleep", "100", tty=True, stdin=True) as container, container.attach(stdin=False) as attachment:
        assert attachment.stdin is None
        with pytest.raises(pylxc.SpecError):
            attachment.resize(24, -1)
