"""``tty=True``: a terminal of the container's own, what goes over it, and attacks on what it is made of."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from boxes import await_true

import pylxc
from pylxc.runtime import kernelfiles, native

SOURCES = Path(__file__).parents[2] / "csrc"


def read_until(file, wanted: bytes, timeout: float = 20.0) -> bytes:
    """Read what comes until it ends with ``wanted``; fails when it does not."""
    seen, deadline = b"", time.monotonic() + timeout
    while not seen.endswith(wanted):
        ready = select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, f"{wanted!r} did not come; {seen!r} did"
        chunk = os.read(file.fileno(), 1)
        assert chunk, f"the end came before {wanted!r}; {seen!r} did"
        seen += chunk
    return seen


def type_in(process: pylxc.Process, data: bytes) -> None:
    process.stdin.write(data)
    process.stdin.flush()


# -- what the payload has ----------------------------------------------------------------------------------------------


def test_the_standard_streams_are_a_terminal(box):
    result = box.sh("for n in 0 1 2; do [ -t $n ] && echo $n; done; tty; stty size; echo err >&2", tty=True)
    assert result.stdout == b"0\r\n1\r\n2\r\n/dev/pts/0\r\n24 80\r\nerr\r\n"
    assert result.stderr == b""
    assert box.sh("[ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo none").text == "none\n"


def test_it_is_the_controlling_terminal(box):
    script = "echo through its name >/dev/tty; cut -d' ' -f7 /proc/self/stat"
    assert box.sh(script, tty=True).text == "through its name\r\n34816\r\n"  # 136:0
    with box.start("sleep", "100") as container:
        assert container.exec(["sh", "-c", script], tty=True).text == "through its name\r\n34816\r\n"
        assert not container.exec(["sh", "-c", "echo >/dev/tty"], check=False).ok


def test_the_kind_of_terminal_is_said_unless_it_is_given(box):
    assert box.sh("echo $TERM", tty=True).text == "xterm\r\n"
    assert box.sh("echo $TERM", tty=True, env={"TERM": "vt100"}).text == "vt100\r\n"
    assert box.sh("echo ${TERM-none}").text == "none\n"
    with box.start("sleep", "100", tty=True) as container:
        assert container.exec(["sh", "-c", "echo ${TERM-none}"]).text == "none\n"
        assert container.exec(["sh", "-c", "echo $TERM"], tty=True).text == "xterm\r\n"
        assert container.inspect()["Config"]["Tty"] is True


@pytest.mark.parametrize("user", ["root", "nobody", "1234:77"])
def test_its_user_can_open_it_by_every_name(box, user):
    script = "for f in /dev/tty /dev/stdin /dev/stdout /dev/stderr /dev/fd/2 $(tty); do echo $f >$f || exit 1; done"
    names = ["/dev/tty", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/2", "/dev/pts/0"]
    assert box.sh(script, tty=True, user=user).text.split() == names
    with box.start("sleep", "100") as container:
        assert container.exec(["sh", "-c", script], tty=True, user=user).text.split() == names


def test_whose_it_is(box):
    script = "stat -c '%u:%g %a' $(tty)"
    assert box.sh(script, tty=True).text == "0:5 620\r\n"
    assert box.sh(script, tty=True, user="nobody").text == "65534:5 620\r\n"
    assert box.sh(script, tty=True, user="nobody", userns="host").text == "65534:5 620\r\n"


def test_the_console_is_the_terminal(box):
    script = "echo there >/dev/console; stat -c '%t:%T' /dev/console $(tty)"
    for options in ({}, {"read_only": True}, {"userns": "host"}, {"privileged": True}, {"init": True}):
        assert box.sh(script, tty=True, **options).text == "there\r\n88:0\r\n88:0\r\n", options
    assert not box.run("ls", "/dev/console", check=False).ok
    assert box.sh("echo mine >/dev/console", tty=True, user="nobody").text == "mine\r\n"


def test_there_are_no_other_descriptors(box):
    ls = ("sh", "-c", "exec ls /proc/self/fd")  # 3 is its own, of the directory that it lists
    assert box.run(*ls, tty=True).text.split() == ["0", "1", "2", "3"]
    for options in ({}, {"init": True}):
        with box.start("sleep", "100", tty=True, **options) as container:
            assert container.exec(ls, tty=True).text.split() == ["0", "1", "2", "3"]
            with container.popen(["sleep", "100"], tty=True) as process:
                assert sorted(os.listdir(f"/proc/{process.pid}/fd")) == ["0", "1", "2"]
                assert os.readlink(f"/proc/{process.pid}/fd/0").startswith("/dev/pts/")


# -- what goes over it -------------------------------------------------------------------------------------------------


def test_input_is_typed_and_echoed(box):
    result = box.sh("read x; echo got $x; cat", tty=True, input=b"hello\nmore\n\x04", timeout=30)
    # The echo comes at once, or when the program is there to read it; what is answered comes after what was typed.
    assert sorted(result.stdout.split()) == [b"got", b"hello", b"hello", b"more", b"more"]
    assert box.run("cat", tty=True, input=b"\x04", timeout=30).stdout == b""


def test_a_dialogue(box):
    with box.popen("sh", "-c", "stty -echo; echo name?; read x; echo hello $x", tty=True) as process:
        assert process.stderr is None
        assert read_until(process.stdout, b"name?\r\n") == b"name?\r\n"
        type_in(process, b"you\n")
        assert process.stdout.read() == b"hello you\r\n"
        assert process.wait() == 0


def test_the_end_of_input_is_a_key(box):
    with box.popen("sh", "-c", "stty -echo; echo ready; cat; echo over", tty=True) as process:
        read_until(process.stdout, b"ready\r\n")
        type_in(process, b"line\n")
        assert read_until(process.stdout, b"line\r\n") == b"line\r\n"
        type_in(process, b"\x04")
        assert process.stdout.read() == b"over\r\n"


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "INT"), (b"\x1c", "QUIT"), (b"\x1a", "TSTP")])
@pytest.mark.parametrize("init", [False, True])
def test_keys_are_signals(box, key, name, init):
    script = f"n=0; trap 'n=$((n+1)); echo {name} $n' {name}; trap 'echo end $n; exit 5' TERM; echo ready; "
    script += "while :; do :; done"  # without a child, which ^Z would stop while the shell waits for it
    with box.popen("sh", "-c", script, tty=True, init=init) as process:
        read_until(process.stdout, b"ready\r\n")
        type_in(process, key)
        read_until(process.stdout, f"{name} 1\r\n".encode())
        process.terminate()
        assert process.stdout.read().endswith(b"end 1\r\n")  # once, with an init that passes signals on as well
        assert process.wait() == 5


def test_its_size_is_given_and_changed(box):
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    with box.popen("sh", "-c", script, tty=True, terminal_size=(50, 132)) as process:
        assert read_until(process.stdout, b"ready\r\n") == b"50 132\r\nready\r\n"
        process.resize(30, 101)
        assert read_until(process.stdout, b"\r\n") == b"30 101\r\n"
        process.resize(2, 999)
        assert read_until(process.stdout, b"\r\n") == b"2 999\r\n"
        process.kill()
        process.wait()
        process.resize(24, 80)  # it has ended: no error


def test_resize_in_exec(box):
    with box.start("sleep", "100") as container:
        script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"
        with container.popen(["sh", "-c", script], tty=True) as process:
            assert read_until(process.stdout, b"ready\r\n") == b"24 80\r\nready\r\n"
            process.resize(2, 3)
            assert process.stdout.read() == b"2 3\r\n"


def test_a_megabyte_of_any_bytes_comes_through(box, tmp_path):
    data = random.Random(5).randbytes(1 << 20)
    (tmp_path / "data").write_bytes(data)
    script = "stty -opost; cat /in/data"
    assert box.sh(script, tty=True, volumes={tmp_path: "/in:ro"}).stdout == data
    text = b"".join(b"%d\n" % number for number in range(150_000))
    (tmp_path / "text").write_bytes(text)
    options = {"tty": True, "volumes": {tmp_path: "/in:ro"}}
    assert box.run("cat", "/in/text", **options).stdout == text.replace(b"\n", b"\r\n")
    with box.start("sleep", "100", volumes={tmp_path: "/in:ro"}) as container:
        assert container.exec(["sh", "-c", script], tty=True).stdout == data
    with box.popen("sh", "-c", script, **options) as process:
        assert process.communicate(timeout=60) == (data, b"")


def test_a_megabyte_of_any_bytes_goes_in(box):
    data = random.Random(6).randbytes(1 << 20)
    with box.popen("sh", "-c", f"stty raw -echo; echo ready; head -c {len(data)} | md5sum", tty=True) as process:
        read_until(process.stdout, b"ready\n")
        out, _ = process.communicate(data, timeout=60)
    digest = subprocess.run(["md5sum"], input=data, capture_output=True, check=True).stdout.split()[0]
    assert out.split()[0] == digest


def test_output_goes_where_it_is_wanted(box, tmp_path):
    with (tmp_path / "out").open("wb") as file:
        assert box.sh("echo a; echo b >&2", tty=True, stdout=file).stdout == b""
    assert (tmp_path / "out").read_bytes() == b"a\r\nb\r\n"
    flood = "head -c 300000 /dev/zero; echo $? >&2"
    assert box.sh(flood, tty=True, stdout=subprocess.DEVNULL, timeout=30).stdout == b""
    chunks = []
    box.sh("echo a", tty=True, on_output=lambda name, data: chunks.append((name, data)))
    assert ({name for name, _ in chunks}, b"".join(data for _, data in chunks)) == ({"stdout"}, b"a\r\n")


def test_what_cannot_be(box):
    for options in ({"stdin": 0}, {"stdout": pylxc.INHERIT}, {"stderr": 2}, {"stdout": io.BytesIO()}):
        with pytest.raises(pylxc.SpecError, match=next(iter(options))):
            box.popen("true", tty=True, **options)
    for size in ((1,), (-1, 80), (24, 65536), (True, 1), "24x80", 24):
        with pytest.raises(pylxc.SpecError, match="terminal_size"):
            box.popen("true", tty=True, terminal_size=size)
    with pytest.raises(pylxc.SpecError, match="tty=True"):
        box.popen("true", terminal_size=(24, 80))
    with box.popen("cat") as process:
        with pytest.raises(pylxc.Conflict, match="tty=True"):
            process.resize(24, 80)
        with pytest.raises(pylxc.SpecError):
            process.resize(24, -1)


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_the_end_of_the_process_is_the_end_of_the_file(box):
    with box.popen("sh", "-c", "echo last; exit 3", tty=True) as process:
        assert process.stdout.read() == b"last\r\n"
        assert process.stdout.read() == b""
        assert process.wait() == 3
    with box.popen("sh", "-c", "echo last; sleep 100", tty=True) as process:
        read_until(process.stdout, b"last\r\n")
        process.kill()
        assert process.stdout.read() == b""
        assert process.wait() == 137


def test_an_end_can_be_waited_for_with_others(box):
    with box.popen("cat", tty=True) as process:
        assert select.select([process], [], [], 0) == ([], [], [])
        type_in(process, b"\x04")
        assert select.select([process], [], [], 20)[0] == [process]
        assert process.wait() == 0
        with pytest.raises(ValueError, match="ended"):
            process.fileno()


def test_a_timeout_keeps_what_was_shown(box):
    with pytest.raises(pylxc.TimeoutExpired) as caught:
        box.sh("echo shown; sleep 100", tty=True, timeout=1)
    assert caught.value.stdout == b"shown\r\n"


def test_a_process_left_in_the_background_holds_nobody_up(box):
    script = "trap '' HUP; (while :; do echo on and on; done) & echo started"
    with box.start("sleep", "100") as container:
        begin = time.monotonic()
        assert b"started" in container.exec(["sh", "-c", script], tty=True, timeout=30).stdout
        assert time.monotonic() - begin < 20


def test_a_payload_may_close_its_terminal_and_open_it_anew(box):
    script = "exec 0<&- 1>&- 2>&-; sleep 0.2; exec >/dev/console 2>&1 </dev/console; echo again; sleep 0.2; echo end"
    assert box.sh(script, tty=True).stdout == b"again\r\nend\r\n"
    with box.start("sh", "-c", script, tty=True) as container:
        container.wait(20)
        assert [line.data for line in container.logs()] == [b"again\r\n", b"end\r\n"]


def test_whoever_shows_it_goes_and_the_payload_is_told(box):
    script = "trap 'exit 9' HUP; echo ready; while :; do sleep 0.01; done"
    for init in (False, True):
        process = box.popen("sh", "-c", script, tty=True, init=init)
        read_until(process.stdout, b"ready\r\n")
        process.stdin.close()
        process.stdout.close()
        os.close(process._child.terminal_fd)
        process._child.terminal_fd = -1
        assert process.wait(20) == 9


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_has_what_the_terminal_showed(box):
    script = "tty; stty size; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x; echo; printf end"
    with box.start("sh", "-c", script, tty=True) as container:
        assert container.wait(30) == 0
        lines = list(container.logs())
    assert {line.stream for line in lines} == {"stdout"}
    shown = b"/dev/pts/0\r\n24 80\r\nerr\r\n" + b"x" * 300_000 + b"\r\nend"
    assert b"".join(line.data for line in lines) == shown


def test_a_detached_container_keeps_its_terminal(box):
    script = "echo ready; read x; echo never"  # nobody types, and nobody hangs up
    container = box.start("sh", "-c", script, tty=True, detach=True)
    try:
        container.wait_ready(log="ready", timeout=20)
        assert container.exec(["sh", "-c", "echo hello >/dev/pts/0; tty"], tty=True).text == "/dev/pts/1\r\n"
        container.wait_ready(log="hello", timeout=20)
        container.restart(timeout=0)
        await_true(lambda: len(list(container.logs())) == 3, "the second start's line", 20)
    finally:
        container.remove(force=True)


# -- job control -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True])
def test_job_control(box, init):
    with box.popen("sh", "-i", tty=True, init=init, env={"PS1": "> "}) as process:
        out = read_until(process.stdout, b"> ")
        assert b"job control turned off" not in out
        type_in(process, b"stty -echo\n")
        read_until(process.stdout, b"> ")
        type_in(process, b"sleep 1000\n")
        await_true(lambda: "sleep" in process.container.exec(["ps", "-o", "args"]).text, "the sleep", 20)
        type_in(process, b"\x1a")  # ^Z
        assert b"Stopped" in read_until(process.stdout, b"> ")
        type_in(process, b"jobs; fg\n")
        assert b"Stopped" in read_until(process.stdout, b"sleep 1000\r\nsleep 1000\r\n")
        type_in(process, b"\x03")  # ^C
        read_until(process.stdout, b"> ")
        type_in(process, b"echo $?; exit 4\n")
        assert process.stdout.read() == b"130\r\n"
        assert process.wait() == 4


# -- attacks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mutated(tmp_path, monkeypatch):
    """Use a helper in which a piece of the source is replaced: a check that is not there."""

    def build(file: str, piece: str, other: str) -> None:
        tree = tmp_path / "csrc"
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(SOURCES, tree)
        text = (tree / "helper" / file).read_text()
        assert text.count(piece) == 1
        (tree / "helper" / file).write_text(text.replace(piece, other))
        helper = tmp_path / "helper"
        sources = sorted(str(path) for path in (tree / "helper").glob("*.c"))
        subprocess.run(["gcc", "-std=gnu11", "-O1", "-DPYLXC_HOSTED", "-o", helper, *sources], check=True)
        monkeypatch.setattr(native, "HELPER_PATH", str(helper))
        monkeypatch.setattr(native, "_helper_fd", -1)

    yield build
    if native._helper_fd >= 0 and Path(native.HELPER_PATH).parent == tmp_path:
        os.close(native._helper_fd)


@pytest.fixture
def canary(tmp_path):
    """A file that must stay what it is."""
    file = tmp_path / "canary"
    file.write_text("host")
    before = file.stat()
    yield file
    after = file.stat()
    assert file.read_text() == "host"
    for name in ("st_uid", "st_gid", "st_mode", "st_mtime_ns", "st_ctime_ns"):
        assert getattr(after, name) == getattr(before, name), name


# What a container's root may put in the place of ptmx, where /dev/pts is a directory that it can write to.
REPLACEMENTS = {
    "absent": "true",
    "link": "ln -s /canary ptmx",
    "link to the console": "ln -s /dev/console ptmx",
    "magic link": "ln -s /proc/1/root/canary ptmx",
    "descriptor": "ln -s /proc/self/fd/0 ptmx",
    "regular file": "echo mine > ptmx",
    "fifo": "mkfifo ptmx",
    "directory": "mkdir ptmx",
    "node": "mknod ptmx c 5 2",
}


@pytest.mark.parametrize("kind", sorted(REPLACEMENTS))
def test_something_else_in_the_place_of_ptmx(box, canary, tmp_path, kind):
    place = tmp_path / "pts"
    place.mkdir(mode=0o777)
    volumes = {place: "/dev/pts", canary: "/canary"}
    with box.start("sleep", "100", volumes=volumes, seccomp="unconfined") as container:
        script = (
            f"cd /dev/pts; {REPLACEMENTS[kind]}; rm -f /dev/ptmx; ln -s /canary /dev/ptmx; ln -s /canary /dev/console"
        )
        container.exec(["sh", "-c", script], check=kind != "node")
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["true"], tty=True)
        assert (caught.value.stage, caught.value.errno) == ("terminal", errno.ENODEV)
        assert "/dev/pts" in str(caught.value)
        assert container.exec(["readlink", "/dev/console"]).text == "/canary\n"
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", tty=True, volumes=volumes)
    assert (caught.value.stage, caught.value.errno) == ("terminal", errno.ENODEV)


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("mount --bind /canary /dev/pts/ptmx", errno.EXDEV),
        ("mount --bind /dev/null /dev/pts/ptmx", errno.EXDEV),
        ("umount /dev/pts", errno.ENODEV),
        ("umount /dev/pts; rmdir /dev/pts; ln -s /dev/shm /dev/pts", errno.ELOOP),
        ("umount /dev/pts; rmdir /dev/pts; ln -s /proc/1/root/dev /dev/pts", errno.ELOOP),
        ("umount /dev/pts; mount -t tmpfs none /dev/pts; ln -s /dev/tty /dev/pts/ptmx", errno.ENODEV),
        ("umount -l /dev; rm -rf /dev; ln -s /proc /dev", errno.ELOOP),
        ("umount -l /dev; rm -rf /dev; echo no directory > /dev", errno.ENOTDIR),
        ("chmod 0 /dev/pts/ptmx /dev/pts; rm -f /dev/ptmx; ln -s /canary /dev/ptmx", 0),
    ],
)
def test_a_root_that_may_mount(box, canary, script, number):
    options = {"cap_add": ["SYS_ADMIN"], "seccomp": "unconfined", "volumes": {canary: "/canary"}}
    with box.start("sleep", "100", **options) as container:
        container.exec(["sh", "-ec", script])
        if not number:  # nothing that matters was changed
            assert container.exec(["tty"], tty=True).text == "/dev/pts/0\r\n"
            return
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["true"], tty=True)
        assert (caught.value.stage, caught.value.errno) == ("terminal", number)


WAIT_FOR_A_READER = "mkfifo /dev/pts/ptmx; (: > /dev/pts/ptmx; touch /dev/pts/opened) & "


def fifo_opened(box, place: Path, attempts: int) -> bool:
    """Whether the helper opens a FIFO that lies in the place of ptmx: then the one who writes to it goes on.

    Several attempts, for the first may come before there is somebody who waits.
    """
    place.mkdir(mode=0o777)
    with box.start("sleep", "100", volumes={place: "/dev/pts"}) as container:
        container.exec(["sh", "-c", WAIT_FOR_A_READER])
        while attempts and not (place / "opened").exists():
            with pytest.raises(pylxc.SpawnError) as caught:
                container.exec(["true"], tty=True)
            assert caught.value.stage == "terminal"
            time.sleep(0.1)
            attempts -= 1
        return (place / "opened").exists()


def test_nothing_is_opened_that_is_no_devpts(box, tmp_path, mutated):
    assert not fifo_opened(box, tmp_path / "first", 5)
    # It bites: without the look at the directory, what lies there is opened.
    mutated("terminal.c", "    if (!is_devpts(directory))\n        return -ENODEV;\n", "")
    assert fifo_opened(box, tmp_path / "second", 100)


@pytest.fixture
def link_in_dev(monkeypatch):
    """Let the container's /dev hold a link in the place of the console, as if somebody had been faster."""

    def make(target: str) -> None:
        monkeypatch.setattr(kernelfiles, "LINKS", (*kernelfiles.LINKS, ("/dev/console", target)))
        kernelfiles.kernel_filesystems.cache_clear()

    yield make
    kernelfiles.kernel_filesystems.cache_clear()


@pytest.mark.parametrize("target", ["/canary", "../canary", "/proc/self/fd/0", "/proc/1/root/canary", "null"])
def test_a_link_in_the_place_of_the_console(box, canary, link_in_dev, target):
    link_in_dev(target)
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run("true", tty=True, volumes={canary: "/canary"})
    assert (caught.value.stage, caught.value.errno) == ("terminal", errno.ELOOP)


def test_the_console_lies_where_it_should(box, link_in_dev, mutated):
    """It bites: where the link is followed, the terminal lies over what it names."""
    link_in_dev("target")
    options = {"tty": True, "devices": ["/dev/zero:/dev/target"]}
    with pytest.raises(pylxc.SpawnError):
        box.run("true", **options)
    mutated("fill.c", "RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS}", "RESOLVE_BENEATH}")
    assert box.run("stat", "-c", "%t", "/dev/target", **options).text == "88\r\n"


def test_terminals_are_the_containers_own(box):
    before = sorted(os.listdir("/dev/pts"))
    with box.start("sleep", "100", tty=True) as one, box.start("sleep", "100", tty=True) as other:
        for container in (one, other):
            assert container.exec(["sh", "-c", "tty; ls /dev/pts"], tty=True).text.split() == [
                "/dev/pts/1", "0", "1", "ptmx",
            ]  # fmt: skip
        assert sorted(os.listdir("/dev/pts")) == before


def test_an_error_names_the_terminal(box):
    with pytest.raises(pylxc.SpawnError, match=re.escape("/dev/pts")) as caught:
        box.run("true", tty=True, tmpfs=["/dev/pts"])
    assert caught.value.exit_code == 125
