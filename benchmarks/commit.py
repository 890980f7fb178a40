"""diff and commit of a container with many small files and a large one, against docker's, in turns within one run.

``python3 benchmarks/commit.py`` prints the medians, and docker's as a multiple: of the methods of a Python process that
is there already, and of whole commands; commits of the container as it runs, and "at rest", when it has ended, and the
start that comes after such a one. Docker's daemon is started for the run, on a directory and a socket of its own, where
Debian's docker.io is installed. Nothing is removed before the end: where files were removed, ext4 without a journal
makes new ones ten times as slowly for some minutes, for whoever comes next. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dockerd import Daemon, is_here
from workers import in_turn, timed

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

REST = 2.0  # s before each job: disks are slower for a while after much was written
SMALL, SMALL_SIZE, LARGE = 2000, 10240, 100  # files, bytes, MiB
WRITE = (
    f"mkdir /data; i=0; while [ $i -lt {SMALL} ]; do head -c {SMALL_SIZE} /dev/urandom >/data/$i; i=$((i+1)); done;"
    f" head -c {LARGE << 20} /dev/urandom >/data/large; sync"
)
TOUCH = "date +%s.%N >/data/0; head -c 64 /dev/urandom >>/data/0"  # another layer each time
IMAGE = "pylxc-commit"
AT_REST = " at rest"  # of a job: the container has ended


def make_rootfs(directory: Path) -> Path:
    """Make a root file system of a static busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is not installed; Debian's package busybox-static has it")
    rootfs = directory / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    rootfs.chmod(0o755)
    shutil.copy(busybox, rootfs / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (rootfs / "bin" / name).symlink_to("busybox")
    return rootfs


def called(*words: str) -> Callable[[], object]:
    """Return a job that runs a command."""
    return lambda: subprocess.run(words, check=True, capture_output=True)


class Pylxc:
    """A container of pylxc's."""

    name = "pylxc"

    def __init__(self, directory: Path) -> None:
        self._engine = pylxc.Engine(directory / "store")
        pylxc.Image.from_directory(directory / "rootfs", IMAGE, engine=self._engine)
        self._container = pylxc.start(IMAGE, ["sleep", "100000"], engine=self._engine)
        self._container.exec(["sh", "-c", WRITE])
        command = [sys.executable, "-m", "pylxc", "--root", str(self._engine.root)]
        self.jobs = {
            "diff": called(*command, "diff", self._container.name),
            "commit": called(*command, "commit", self._container.name, "committed"),
            "diff()": self._container.diff,
            "commit()": lambda: self._container.commit("committed"),
            "start()": self._container.start,
        }
        self.jobs |= {f"{name}{AT_REST}": self.jobs[name] for name in ("commit", "commit()")}

    def prepare(self) -> None:
        """Let the next commit be one of something new."""
        self._container.start()
        self._container.exec(["sh", "-c", TOUCH])

    def rest(self) -> None:
        """Let the container end."""
        self._container.stop(timeout=0)

    def close(self) -> None:
        """Remove the container."""
        self._container.remove(force=True)


class Docker:
    """A container of docker's, with a daemon of its own."""

    name = "docker"

    def __init__(self, directory: Path) -> None:
        self._daemon = Daemon(directory)
        self._client = self._daemon.client
        try:
            archive = subprocess.run(["tar", "-C", directory / "rootfs", "-c", "."], check=True, capture_output=True)  # noqa: S607
            subprocess.run([*self._client("import", "-", IMAGE)], input=archive.stdout, check=True, capture_output=True)
            called(*self._client("run", "-d", "--network", "none", "--name", "box", IMAGE, "sleep", "100000"))()
            called(*self._client("exec", "box", "sh", "-c", WRITE))()
        except BaseException:
            self.close()
            raise
        commit = called(*self._client("commit", "box", "committed"))
        start = called(*self._client("start", "box"))
        self.jobs = {"diff": called(*self._client("diff", "box")), "commit": commit, "start()": start}
        self.jobs[f"commit{AT_REST}"] = commit

    def rest(self) -> None:
        """Let the container end."""
        called(*self._client("stop", "-t", "0", "box"))()

    def prepare(self) -> None:
        """Let the next commit be one of something new."""
        called(*self._client("start", "box"))()
        called(*self._client("exec", "box", "sh", "-c", TOUCH))()

    def close(self) -> None:
        """Remove the container and stop the daemon."""
        subprocess.run(self._client("rm", "-f", "box"), check=False, capture_output=True)
        self._daemon.close()


def peers(directory: Path) -> list[Pylxc | Docker]:
    """Return those that are here and work; say which are not."""
    found: list[Pylxc | Docker] = [Pylxc(directory)]
    if not is_here():
        return found
    try:
        found.append(Docker(directory))
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"left out: docker ({error} {getattr(error, 'stderr', b'')!r})")
    return found


def measure(found: list[Pylxc | Docker], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of each job of each peer; they take turns, and who comes first changes."""
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        turn = in_turn(found, number)
        for job in ("diff", "commit", "diff()", "commit()", f"commit{AT_REST}", f"commit(){AT_REST}", "start()"):
            for peer in turn:
                if job in peer.jobs:
                    if job != "start()":  # that is the one after a commit at rest
                        peer.prepare()
                    if job.endswith(AT_REST):
                        peer.rest()
                    os.sync()
                    time.sleep(REST)
                    times.setdefault((job, peer.name), []).append(timed(peer.jobs[job]))
    return times


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=7)
    rounds = options.parse_args().rounds
    if os.geteuid() != 0:
        raise SystemExit("this needs root")
    with tempfile.TemporaryDirectory(prefix="pylxc-commit-") as name:
        directory = Path(name)
        make_rootfs(directory)
        found = peers(directory)
        try:
            times = measure(found, rounds)
        finally:
            for peer in found:
                peer.close()
    print(f"a container with {SMALL} files of {SMALL_SIZE} bytes and one of {LARGE} MiB, {rounds} rounds")
    for (job, peer), ms in sorted(times.items()):
        rival = times.get((job.replace("()", ""), "docker")) or times.get((job, "docker"))
        ratio = f"docker's is {statistics.median(rival) / statistics.median(ms):5.1f} x" if rival else ""
        spread = f"min {min(ms):9.1f}   max {max(ms):9.1f}"
        print(f"{job:16} {peer:8} median {statistics.median(ms):9.1f} ms   {spread} ms   {ratio}")


if __name__ == "__main__":
    main()
