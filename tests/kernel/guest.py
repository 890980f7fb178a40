"""Hides QEMU: boots the guest, has it run a script or tests, and says what came of it.

By hand, from the checkout (KVM is not needed):

    .venv/bin/python tests/kernel/guest.py tests/runtime/test_limits.py -k pausing
    .venv/bin/python tests/kernel/guest.py --user tester --script 'id; cat /proc/self/cgroup'

Invariant: a machine that hangs is ended; nothing that it writes outlives it; it has no network.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

import guest_disks
from attrs import frozen

USERS = ("root", "tester")
PATIENCE = 1500  # s that a machine may take
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off"
LAST_LINES = 60  # of the console that a failure shows

# The exit status goes before the report, for a crash of pytest itself leaves a report without a fault.
TESTS = """
python3 -m pytest -p no:cacheprovider --junit-xml=/tmp/report-$$.xml {words}
echo $? >&3
cat /tmp/report-$$.xml >&3
"""


@frozen
class Answer:
    """What came out of a guest: the second serial port, and the console."""

    said: str
    console: str

    def tail(self) -> str:
        """Return the end of what the console showed."""
        return "\n".join(self.console.splitlines()[-LAST_LINES:])


@frozen
class Verdict:
    """What pytest told in the guest. ``wrong``: what did not pass, skips included, each with its words."""

    status: int
    passed: int
    wrong: tuple[str, ...]


def run(script: str, *, user: str = "root", show: bool = False) -> Answer:
    """Boot a guest that runs a shell script as a user. ``show``: the console is this process's output, not kept.

    Raises:
        TimeoutError: the machine did not end by itself; with the end of its console.
    """
    base = guest_disks.base()
    with tempfile.TemporaryDirectory(prefix="guest-") as scratch:
        disk, said = Path(scratch, "checkout.ext4"), Path(scratch, "said")
        guest_disks.checkout_disk(disk, script)
        words = _machine(base, disk, said, user)
        output = None if show else subprocess.PIPE
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=PATIENCE, check=True
            )
        except subprocess.TimeoutExpired as error:
            tail = Answer("", (error.stdout or b"").decode(errors="replace")).tail()
            raise TimeoutError(f"the guest did not end within {PATIENCE} s:\n{tail}") from None
        return Answer(said.read_text(errors="replace"), (done.stdout or b"").decode(errors="replace"))


def _machine(base: guest_disks.Base, disk: Path, said: Path, user: str) -> list[str]:
    # Disks are kept as they are: what the guest writes goes to files that are deleted already ("snapshot"), and need
    # not survive anything ("unsafe").
    drives = [f"file={path},format=raw,if=virtio,snapshot=on,cache=unsafe" for path in (base.root, disk)]
    return [
        "qemu-system-x86_64",
        # Many a virtual machine has processors that could be plugged in: to the kernel they are possible ones.
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2,maxcpus=4", "-m", "2G"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
        *("-serial", "stdio", "-serial", f"file:{said}"),
        *(word for drive in drives for word in ("-drive", drive)),
        *("-kernel", str(base.kernel), "-initrd", str(base.initramfs)),
        *("-append", f"{COMMAND_LINE} guest.user={user}"),
    ]


def run_tests(words: list[str], *, user: str = "root") -> Verdict:
    """Run tests of this checkout in a guest; ``words`` are pytest's. Raises as :func:`run` and :func:`judge` do."""
    return judge(run(TESTS.format(words=shlex.join(words)), user=user))


def judge(answer: Answer) -> Verdict:
    """Read what pytest's report says. Raises RuntimeError where it has no end, with that of the console."""
    status, _, xml = answer.said.partition("\n")
    if not xml.rstrip().endswith("</testsuites>"):
        raise RuntimeError(f"the guest brought no report to its end:\n{answer.tail()}")
    passed, wrong = 0, []
    for case in ET.fromstring(xml).iter("testcase"):  # noqa: S314  written by our own pytest
        faults = [child for child in case if child.tag in ("failure", "error", "skipped")]
        passed += not faults
        name = f"{case.get('classname')}::{case.get('name')}"
        wrong += [f"{name}: {fault.tag}: {fault.get('message')}\n{fault.text}" for fault in faults]
    return Verdict(int(status), passed, tuple(wrong))


def main() -> None:
    """Run what the command line says, the console being this one's."""
    parser = argparse.ArgumentParser(description="Runs tests, or a script, on a cgroup v2 host under QEMU.")
    parser.add_argument("--user", choices=USERS, default="root")
    parser.add_argument("--script", help="a shell script in place of tests")
    known, words = parser.parse_known_args()
    run(known.script or TESTS.format(words=shlex.join(words)), user=known.user, show=True)


if __name__ == "__main__":
    main()
