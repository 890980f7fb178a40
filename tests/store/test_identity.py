"""Which process is which: across forks, reuse of numbers and reboots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from pylxc.identity import boot_id, own_identity, process_start_time


@pytest.fixture(autouse=True)
def as_root() -> None:
    """No test here needs root."""


def test_a_process_knows_itself():
    own = own_identity()
    assert own.pid == os.getpid()
    assert own.is_alive()
    assert own.start_time == int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert own_identity() == own


def test_a_fork_is_another_process():
    own = own_identity()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if own_identity().pid == os.getpid() and own_identity() != own else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_process_of_the_same_number_is_another_one():
    own = own_identity()
    assert not evolve(own, start_time=own.start_time + 1).is_alive()
    assert not evolve(own, boot_id="another boot").is_alive()


def test_of_a_process_of_another_pid_namespace_nothing_is_known_before_a_boot():
    own = own_identity()
    assert not own.is_gone()
    assert evolve(own, start_time=own.start_time + 1).is_gone()
    elsewhere = evolve(own, boot_id=f"{boot_id()}/1", start_time=own.start_time + 1)
    assert not elsewhere.is_alive()
    assert not elsewhere.is_gone()
    assert evolve(elsewhere, boot_id="another boot/1").is_gone()


@pytest.mark.root
def test_a_process_knows_its_pid_namespace():
    program = "from pylxc.identity import own_identity; print(own_identity().boot_id)"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert told.startswith(f"{boot_id()}/")
    assert told != own_identity().boot_id


def test_a_name_with_brackets_and_spaces_is_no_trouble(tmp_path):
    program = tmp_path / ") Z 1 (x"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        expected = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        assert process_start_time(process.pid) == expected > 0
        process.stdin.close()


def test_nobody_has_started_at_no_time():
    assert process_start_time(2**22 + 1) == 0
    assert process_start_time(0) == 0
    assert len(boot_id()) == 36
