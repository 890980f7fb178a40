"""Attack class 1: the program that enters a container cannot be overwritten (CVE-2019-5736), nor can pylxc's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

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


def digest(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def canary():
    """What is executed on the host must be the same bytes afterwards."""
    fd = f"/proc/self/fd/{native.helper_fd()}"
    before = (digest(native.HELPER_PATH), digest(fd))
    yield
    assert (digest(native.HELPER_PATH), digest(fd)) == before


def test_an_entrypoint_that_is_a_link_to_the_runtime(box, tmp_path, canary):
    script = tmp_path / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    result = box.run("/script", volumes={script: "/script"}, check=False, timeout=20)
    assert not result.ok
    assert (result.stdout, result.stderr) == (b"", b"")
    with box.start("sleep", "100", volumes={script: "/script"}) as container:
        assert not container.exec(["/script"], check=False, timeout=20).ok
        assert container.status() == "running"


def test_a_loop_that_opens_every_program_for_writing(box, canary):
    with box.start("sh", "-c", ATTACK) as container:
        for _ in range(30):
            container.exec(["true"])
        container.exec(["touch", "/stop"])
        container.wait(timeout=60)
        assert [line.data for line in container.logs()] == [b"over\n"]


def test_the_sealed_program_gives_way_to_nobody(canary):
    """The canary bites: even root on the host, with the descriptor in hand, cannot write to it."""
    with pytest.raises(PermissionError), Path(f"/proc/self/fd/{native.helper_fd()}").open("r+b") as file:
        file.write(b"overwritten")
        file.flush()


def test_the_runtime_cannot_be_traced_or_looked_into_from_inside(box):
    """While an exec is under way its process is in the container; nothing of it can be opened there."""
    look = "ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe 2>/dev/null | grep -E 'pidfd|memfd'"
    script = f"while [ ! -e /stop ]; do {look}; done; echo over"
    with box.start("sh", "-c", script) as container:
        for _ in range(60):
            container.exec(["true"])
        container.exec(["touch", "/stop"])
        container.wait(timeout=60)
        found = {line.data for line in container.logs()} - {b"over\n"}
        assert found == set()
