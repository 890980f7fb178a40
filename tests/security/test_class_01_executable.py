"""Attack class 1: the program that enters a container cannot be overwritten (CVE-2019-5736), nor can pylxc's files."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import await_true
from weakening import COMPILER, helper_flags

from pylxc.errors import SpawnError
from pylxc.runtime import native

# Opens every program it can see for writing, over and over, until told to stop; says when one gave way.
ATTACK = """
while [ ! -e /stop ]; do
  for exe in /proc/[0-9]*/exe; do
    target=$(readlink $exe 2>/dev/null)
    case "$target" in *pylxc*) (echo overwritten >$exe) 2>/dev/null && echo "WROTE $target";; esac
  done
done
echo over
"""
LOOK = "readlink /proc/1/exe; head -c 4 /proc/1/exe"


def digest(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def digests() -> tuple[str, str]:
    return digest(native.HELPER_PATH), digest(f"/proc/self/fd/{native.helper_fd()}")


@pytest.fixture
def program():
    """What is executed on the host: it must be the same bytes afterwards."""
    before = digests()
    yield
    assert digests() == before


def stop(container) -> None:
    """End an attack. The container may be faster to end than the command that says so, and it ends with it."""
    container.exec(["touch", "/stop"], check=False)
    container.wait(timeout=60)


def test_an_entrypoint_that_is_a_link_to_the_runtime(cage, tmp_path, program):
    script = tmp_path / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    result = cage.run("/script", volumes={script: "/script"}, check=False, timeout=20)
    assert not result.ok
    assert (result.stdout, result.stderr) == (b"", b"")
    with cage.start("sleep", "100", volumes={script: "/script"}) as container:
        assert not container.exec(["/script"], check=False, timeout=20).ok
        assert container.status() == "running"


def test_a_loop_that_opens_every_program_for_writing(cage, program):
    with cage.start("sh", "-c", ATTACK) as container:
        for _ in range(30):
            container.exec(["true"])
        stop(container)
        assert [line.data for line in container.logs()] == [b"over\n"]


@contextmanager
def a_thief(cage, programs, **options):
    """A container that may trace everything (so it does get at the program), and the lines that it has written."""
    volumes = {str(programs): "/programs:ro"}
    with cage.start("/programs/thief", cap_add=["SYS_PTRACE"], volumes=volumes, **options) as container:
        yield container, lambda: {line.data for line in container.logs()}
        stop(container)


@contextmanager
def suppress_busy():
    """While the thief has the program open for writing, though it cannot write, the kernel does not execute it."""
    try:
        yield
    except SpawnError as error:
        if (error.stage, error.errno) != ("helper", errno.ETXTBSY):
            raise


@pytest.fixture
def one_helper_each(monkeypatch):
    """Let what is executed from now on be another copy than what watches the container: nobody runs it in between."""

    @contextmanager
    def another():
        monkeypatch.setattr(native, "_helper_fd", -1)
        yield
        os.close(native._helper_fd)
        monkeypatch.undo()

    return another


def test_a_thief_with_the_program_in_hand_cannot_write_to_it(cage, programs, program, one_helper_each):
    with a_thief(cage, programs) as (container, said), one_helper_each():
        for number in range(300):
            with suppress_busy():
                container.exec(["true"])
            if number > 30 and b"held\n" in said():
                break
        # In a user namespace of its own it does not even get hold of it: the program is of the host's namespace.
        assert (b"held\n" in said()) == (cage.mode == "host")
        for _ in range(20):
            with suppress_busy():
                container.exec(["true"])
        assert b"wrote\n" not in said()
        assert digest(f"/proc/self/fd/{native.helper_fd()}") == digest(native.HELPER_PATH)


@pytest.mark.root
def test_the_seals_are_what_stops_it(box, programs, weaken):
    """It bites: a helper in a memfd without seals is replaced, and would be executed on the host next."""
    with a_thief(box, programs, userns="host") as (container, said), weaken("SEALS"):
        for _ in range(300):
            container.exec(["true"])
            if b"held\n" in said():
                break
        await_true(lambda: b"wrote\n" in said(), "the theft")
        assert Path(f"/proc/self/fd/{native.helper_fd()}").read_bytes().startswith(b"#!/stolen\n")


def test_the_sealed_program_gives_way_to_nobody(program):
    """Even root on the host, with the descriptor in hand, cannot write to it."""

    def is_overwritten() -> bool:
        try:
            with Path(f"/proc/self/fd/{native.helper_fd()}").open("r+b") as file:
                file.write(b"overwritten")
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            return False
        return True

    with pytest.raises(PermissionError):
        await_true(is_overwritten, "a moment at which nobody executes it")


def test_the_runtime_cannot_be_traced_or_looked_into_from_inside(cage):
    """While an exec is under way its process is in the container; nothing of it can be opened there."""
    look = "ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe 2>/dev/null | grep -E 'pidfd|memfd'"
    script = f"while [ ! -e /stop ]; do {look}; done; echo over"
    with cage.start("sh", "-c", script) as container:
        for _ in range(60):
            container.exec(["true"])
        stop(container)
        found = {line.data for line in container.logs()} - {b"over\n"}
        assert found == set()


@pytest.mark.root
def test_the_small_init_cannot_be_looked_into(cage, weaken):
    """It is pylxc's own program, under the payload's user, for as long as the container runs."""
    assert cage.sh(LOOK, init=True, check=False).stdout == b""
    with weaken("DUMPABLE"):
        found = cage.sh(LOOK, init=True, check=False).stdout
        assert b"pylxc-helper" in found
        assert found.endswith(b"\x7fELF")


@pytest.mark.ordinary_user
def test_the_small_init_of_an_ordinary_user_gives_nothing_away(cage, programs, program, monkeypatch):
    """It can be looked into there (csrc/helper/init.c says why). There is a sealed program to be seen that is running,
    and nothing else: no descriptor, no word of the caller's environment, no directory of the host.
    """
    monkeypatch.setenv("PYLXC_TESTS_SECRET", "of the caller")
    script = "readlink /proc/1/exe; ls -A /proc/1/fd; cat /proc/1/environ; readlink /proc/1/cwd; readlink /proc/1/root"
    lines = cage.sh(script, init=True).text.splitlines()
    assert lines[0].startswith("/memfd:pylxc-helper")
    assert lines[1:] == ["/", "/"]
    assert b"Text file busy" in cage.sh("echo stolen > /proc/1/exe", init=True, check=False).stderr
    with a_thief(cage, programs, init=True) as (container, said):
        await_true(lambda: b"held\n" in said(), "the program in the thief's hand")
        for _ in range(20):
            with suppress_busy():
                container.exec(["true"])
        assert b"wrote\n" not in said()


def test_what_ships_has_every_defence(builds):
    """The helper in use is the one that is built without any switch, byte for byte, and setup.py knows none."""
    assert digest(builds.of("helper", ())) == digest(native.HELPER_PATH)
    assert not [flag for flag in (*COMPILER, *helper_flags()) if "WEAKEN" in flag]
