"""Lets a piece of work die, or its calls fail, at one call of its own choosing (strace -e inject).

Hides strace: the work runs in a fork that waits, warm, until strace has it; what is counted are its own calls only.
Invariant: what is reported of a call was seen to happen; a fault that never came is told, too.
Source: strace(1), "Tampering".
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from attrs import frozen

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 60.0  # s; the machine does other things meanwhile
# What changes something on disk, or says that it is there: being killed between two of them is all the same.
# Those of them that need space come first.
TAKING = frozenset(
    (
        *("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mknod"),
        *("mknodat", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs", "write", "writev", "pwrite64"),
        *("pwritev", "setxattr", "fsetxattr", "lsetxattr", "copy_file_range", "sendfile", "splice", "creat"),
    )
)
CHANGES = TAKING | {
    *("unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat"),
    *("utimensat", "truncate"),
}
OPENS = frozenset(("open", "openat", "openat2"))
READS = frozenset(("read", "pread64", "getdents64", "flock"))
ALL = CHANGES | OPENS | READS
KINDS = {"KILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
_CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(\(.*)")
_ELSEWHERE = re.compile(
    r"(?:pipe|socket|anon_inode):|</(?:dev|proc|sys|memfd)|\"/(?:dev|proc|sys|usr|etc)/|\"/(?:dev|proc)\""
)


@frozen
class Fault:
    """``kind`` at the ``number``-th ``call`` of the process; ``everywhere``: of the processes that it starts, too."""

    kind: str
    call: str
    number: int
    everywhere: bool = False

    def __str__(self) -> str:
        return f"{self.kind} at {self.call} {self.number}{' (of any)' if self.everywhere else ''}"


@frozen
class Outcome:
    """How the work ended: "done", "refused" (by an error of pylxc), "failed" (by another) or "killed"."""

    how: str
    words: str = ""
    struck: bool = False


def run_in_child(work: Callable[[], object]) -> object:
    """Run a function in a fork, as a process of its own; return its value, which JSON can hold."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"value": work()}
        except BaseException:  # noqa: BLE001  raised in the parent
            answer = {"error": traceback.format_exc()}
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    data = _read(out, pid)
    os.waitpid(pid, 0)
    answer = json.loads(data)
    if "error" in answer:
        raise AssertionError(answer["error"])
    return answer["value"]


def _read(fd: int, pid: int) -> bytes:
    """Read what a process says until it ends. One that never does is killed."""
    data, deadline = b"", time.monotonic() + PATIENCE
    with open(fd, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"it hangs; until then it said {data!r}")
            chunk = pipe.read(65536)
            if not chunk:
                return data
            data += chunk


def faults(work: Callable[[], Callable[[], object]], root: Path, log: Path) -> list[Fault]:
    """Return all that can happen to a piece of work at its calls that have to do with files of ``root``.

    ``work`` prepares, and returns what is to be watched.
    """
    found = []
    for call, number, everywhere, changes in _recorded(work, root, log):
        if changes:
            found.append(Fault("KILL", call, number, everywhere))
        if call in TAKING or (call in OPENS and changes):
            found.append(Fault("ENOSPC", call, number, everywhere))
        found.append(Fault("EIO", call, number, everywhere))
    return found


def _recorded(work: Callable[[], Callable[[], object]], root: Path, log: Path) -> list[tuple[str, int, bool, bool]]:
    """Return the calls of a run without faults: name, the how manieth of its process, of a child, does it change."""
    outcome = run(work, None, log)
    assert outcome.how == "done", outcome
    found: dict[tuple[str, int, bool], bool] = {}
    counts: Counter[tuple[str, str]] = Counter()
    lines = log.read_text(errors="replace").splitlines()
    main = lines[0].split()[0]
    for line in lines:
        match = _CALL.match(line)
        if match is None or "resumed>" in line:
            continue
        pid, call, rest = match.groups()
        counts[pid, call] += 1
        if _ELSEWHERE.search(rest) or (pid == main and str(root) not in rest):
            continue
        key = (call, counts[pid, call], pid != main)
        found[key] = found.get(key, False) or call in CHANGES or (call in OPENS and "O_CREAT" in rest)
    # A process that is started counts anew: where its starter comes to that number as well, they cannot be told apart.
    return [(*key, changes) for key, changes in found.items() if not key[2] or counts[main, key[0]] < key[1]]


def run(work: Callable[[], Callable[[], object]], fault: Fault | None, log: Path) -> Outcome:
    """Run a piece of work in a fork, with a fault or, without one, writing down its calls."""
    out, into = os.pipe()
    waiting, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        _be_watched(work, waiting, into)
    os.close(into)
    os.close(waiting)
    try:
        assert os.read(out, 1) == b"r", "it was not ready"
        tracer = _attach(pid, fault, log)
        os.write(go, b"!")
        said = _read(out, pid)
        _, status = os.waitpid(pid, 0)
        tracer.communicate(timeout=PATIENCE)
    finally:
        os.close(go)
    seen = log.read_text(errors="replace")
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        assert fault is not None
        assert fault.kind == "KILL"
        return Outcome("killed", struck=True)
    answer = json.loads(said)
    return Outcome(answer["how"], answer["words"], struck="INJECTED" in seen or "killed by SIGKILL" in seen)


def _attach(pid: int, fault: Fault | None, log: Path) -> subprocess.Popen[str]:
    """Let strace have a process: from its next call on, it does what is to be done."""
    command = ["strace", "-p", str(pid), "-o", str(log)]
    if fault is None:
        command += ["-f", "-y", "-s", "0", "-e", f"trace={','.join(f'?{name}' for name in sorted(ALL))}"]
    else:
        command += ["-f"] if fault.everywhere else []
        inject = f"inject={fault.call}:{KINDS[fault.kind]}:when={fault.number}"
        command += ["-e", f"trace={fault.call}", "-e", inject]
    tracer = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    words = tracer.stderr.readline()
    assert "attached" in words, words
    return tracer


def _be_watched(work: Callable[[], Callable[[], object]], waiting: int, into: int) -> None:
    """In the fork: prepare, wait, work, tell. Never returns."""
    answer = {"how": "failed", "words": "it did not begin"}
    try:
        watched = work()
        os.write(into, b"r")
        os.read(waiting, 1)
        watched()
        answer = {"how": "done", "words": ""}
    except pylxc.PylxcError as error:
        answer = {"how": "refused", "words": f"{type(error).__name__}: {error}"}
    except BaseException:  # noqa: BLE001  told in the parent
        answer = {"how": "failed", "words": "".join(traceback.format_exc().splitlines(keepends=True)[-8:])}
    finally:
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
