"""Pulling and pushing an image, against docker, podman and tar: ``python3 benchmarks/pull.py``.

The image is made of this machine's /usr: about 9,000 files, 395 MB, in five layers compressed by gzip; or, with
``--debian``, Debian's minimal system as mmdebstrap makes it: 7,000 files, 170 MB, in as many layers as that says.
Debian's docker-registry serves it on loopback. Everybody pulls in turns, into an empty store; ``tar`` unpacks the
uncompressed layers, which nobody can be much faster than who writes the same files. Everybody pushes to a registry that
has nothing. Prints medians and their ratios, and how much memory pylxc took with all its processes. Needs root.

pylxc alone has the image on the disk at the end, and not in the kernel's memory only. The *limit* is what nobody can do
without, spread evenly over the processors: what tar does, inflating the layers, and the digests of both their forms.

Each image is removed before the next one comes. An ext4 without a journal passes over the inodes that were freed in the
last minutes one by one (recently_deleted in fs/ext4/ialloc.c), which is then most of what anybody does: use ``--place``
for a directory of a file system that has one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dockerd import Daemon, is_here
from workers import in_turn, timed

import pylxc
from pylxc.build.archives import PIECE, gunzip_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES, BYTES, LARGEST = 9_000, 395 << 20, 24 << 20
PACKED = (".gz", ".xz", ".zst", ".png", ".jpg", ".zip", ".whl")  # there are few of them in images
SHARES = (0.35, 0.25, 0.2, 0.15, 0.05)  # of the layers
OCI = "application/vnd.oci.image."
GZIP = b"\x1f\x8b"  # how its files begin
REST = 2.0  # s before each job: disks are slower for a while after much was written
PATIENCE = 60.0  # s for a daemon to come up
LONGEST = 600.0  # s of one command


# -- the image ---------------------------------------------------------------------------------------------------------


def chosen_files() -> list[Path]:
    """Return files of /usr, the same ones each time on the same machine, of about the wanted number and size."""
    found = []
    for top in ("/usr/bin", "/usr/lib", "/usr/share"):
        for directory, _, names in os.walk(top):
            paths = (Path(directory, name) for name in sorted(names))
            found += [path for path in paths if path.suffix not in PACKED and path.is_file() and not path.is_symlink()]
    random.Random(1).shuffle(found)  # noqa: S311  no secret
    sizes = [(path.stat().st_size, path) for path in found]
    some = [pair for pair in sizes if pair[0] <= LARGEST][:FILES]
    rest = sorted(set(sizes) - set(some), reverse=True)
    total = sum(size for size, _ in some)
    while total < BYTES and rest:  # exchange small ones for larger ones
        size, path = rest.pop(0)
        if size <= LARGEST and total + size <= BYTES + LARGEST:
            total += size - some[0][0]
            some = [*some[1:], (size, path)]
    return sorted(path for _, path in some)


def tars_of_usr(place: Path) -> list[Path]:
    """Write the layers of an image of this machine's files."""
    files, tars, begin = chosen_files(), [], 0
    for number, share in enumerate(SHARES):
        end = begin + int(len(files) * share)
        tars.append(place / f"{number}.tar")
        inside = files[begin:end]
        parents = {parent for path in inside for parent in path.parents if parent.name}
        with tarfile.open(tars[-1], "w") as tar:
            for path in sorted((*parents, *inside)):
                tar.add(path, str(path)[1:], recursive=False)
        begin = end
    return tars


def tars_of_debian(place: Path, layers: int) -> list[Path]:
    """Write the layers of an image of Debian's minimal system, which is cut into pieces of about the same size."""
    whole = place / "debian.tar"
    call("mmdebstrap", "--variant=minbase", "--quiet", "bookworm", whole)
    with tarfile.open(whole) as source:
        members = source.getmembers()
        total, at = sum(member.size for member in members), 0
        tars = [place / f"{number}.tar" for number in range(layers)]
        with ExitStack() as stack:
            targets = [stack.enter_context(tarfile.open(tar, "w", format=tarfile.PAX_FORMAT)) for tar in tars]
            number_of: dict[str, int] = {}  # a hard link goes where the file is
            for member in members:
                number_of[member.name] = number = number_of.get(member.linkname, at * layers // (total + 1))
                targets[number].addfile(member, source.extractfile(member) if member.isreg() else None)
                at += member.size
    whole.unlink()
    return tars


def write_image(place: Path, tars: list[Path]) -> None:
    """Write an OCI image layout of one image of these layers."""
    blobs = place / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digits = hashlib.sha256(data).hexdigest()
        (blobs / digits).write_bytes(data)
        return {"mediaType": OCI + kind, "digest": f"sha256:{digits}", "size": len(data)}

    layers, entries = [], 0
    for tar in tars:
        with tarfile.open(tar) as archive:
            entries += len(archive.getmembers())
        packed = subprocess.run(["gzip", "-n", "-c", tar], check=True, capture_output=True)  # noqa: S607
        layers.append(blob(packed.stdout, "layer.v1.tar+gzip"))
    digests = [f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}" for tar in tars]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
    described = blob(json.dumps(config).encode(), "config.v1+json")
    kind = f"{OCI}manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described, "layers": layers}
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (place / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    total, packed_total = sum(tar.stat().st_size for tar in tars), sum(int(str(each["size"])) for each in layers)
    sizes = f"{total / 1e6:.0f} MB, {packed_total / 1e6:.0f} MB compressed"
    print(f"{entries} files and directories in {len(tars)} layers, {sizes}")


# -- daemons -----------------------------------------------------------------------------------------------------------


@contextmanager
def registry(place: Path) -> Iterator[str]:
    """Run an empty docker-registry for the length of a block; gives ``host:port``."""
    place.mkdir()
    document = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(place / "data")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    (place / "config.yml").write_text(json.dumps(document))  # JSON is YAML
    with (place / "log").open("wb") as log:
        command = ["docker-registry", "serve", place / "config.yml"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"listening on (127\.0\.0\.1:\d+)", (place / "log").read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"docker-registry does not come up: {(place / 'log').read_text()[-500:]}")
            time.sleep(0.02)
        yield found[1]
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place)


def call(*words: object) -> None:
    """Run a command; say what it says when it fails."""
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          timeout=LONGEST)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.decode(errors='replace')[-500:]}")


# -- who takes part ----------------------------------------------------------------------------------------------------


class Pylxc:
    """pylxc in this process, or (``apart``) in a process of its own for each command, as users of a shell have it."""

    def __init__(self, place: Path, *, apart: bool) -> None:
        self._engine = pylxc.Engine(place)
        self._apart = apart
        self.weighed = False  # whether to look at the memory of a command, which takes time from it
        self.most = 0  # bytes of memory of all processes of one command

    def _do(self, what: str, ref: str) -> None:
        code = f"import pylxc; {what.format(ref=ref, engine=f'pylxc.Engine({str(self._engine.root)!r})')}"
        if not self._apart:
            exec(code)  # noqa: S102  one of the two lines below
            return
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as process:
            while self.weighed and process.poll() is None:
                self.most = max(self.most, memory_of(process.pid))
                time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"pylxc failed with {process.returncode}")

    def pull(self, ref: str) -> None:
        """Pull an image."""
        self._do("pylxc.Image.pull({ref!r}, engine={engine})", ref)

    def push(self, ref: str) -> None:
        """Push the only image."""
        self._do("pylxc.Image.list(engine={engine})[0].push({ref!r})", ref)

    def drop(self, _ref: str) -> None:
        """Remove the image."""
        for image in pylxc.Image.list(engine=self._engine):
            image.remove()


def memory_of(pid: int) -> int:
    """Return the resident bytes of a process and its descendants."""
    total = 0
    try:
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory_of(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        pass
    return total


class Docker:
    """Docker, by its command line."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._ref = ""

    def _client(self, *words: str) -> None:
        call(*self._daemon.client(*words))

    def pull(self, ref: str) -> None:
        """Pull an image."""
        self._client("pull", "-q", ref)
        self._ref = ref

    def push(self, ref: str) -> None:
        """Push the image that was pulled last."""
        self._client("push", "-q", ref)

    def tag(self, ref: str) -> None:
        """Give it the name that it is to be pushed to."""
        self._client("tag", self._ref, ref)

    def drop(self, ref: str) -> None:
        """Remove the image."""
        self._client("rmi", "-f", ref)


class Podman:
    """Podman, by its command line, with a store of its own."""

    def __init__(self, place: Path) -> None:
        self._words = ["podman", "--root", place / "root", "--runroot", place / "run", "--cgroup-manager=cgroupfs"]

    def pull(self, ref: str) -> None:
        """Pull an image."""
        call(*self._words, "pull", "-q", "--tls-verify=false", ref)

    def drop(self, ref: str) -> None:
        """Remove the image."""
        call(*self._words, "rmi", "-f", ref)


class Tar:
    """``tar -xf`` of the uncompressed layers."""

    def __init__(self, place: Path, tars: list[Path]) -> None:
        self._place, self._tars = place, tars

    def pull(self, _ref: str) -> None:
        """Unpack the layers."""
        self._place.mkdir()
        for tar in self._tars:
            call("tar", "-C", self._place, "-xf", tar)

    def drop(self, _ref: str) -> None:
        """Remove the tree."""
        shutil.rmtree(self._place)


class Check:
    """Inflating the layers and finding both digests of each, for nothing, on one processor."""

    def __init__(self, layout: Path) -> None:
        blobs = layout / "blobs/sha256"
        self._blobs = [path for path in blobs.iterdir() if path.read_bytes()[:2] == GZIP]

    def pull(self, _ref: str) -> None:
        """Read them."""
        for path in self._blobs:
            packed, content, inflater = hashlib.sha256(), hashlib.sha256(), gunzip_object()
            with path.open("rb") as blob:
                while data := blob.read(PIECE):
                    packed.update(data)
                    while data:
                        content.update(inflater.decompress(data, 16 * PIECE))
                        data = inflater.unconsumed_tail

    def drop(self, _ref: str) -> None:
        """Nothing was kept."""


@contextmanager
def scratch(where: str) -> Iterator[Path]:
    """Give a directory that is gone afterwards, with what engines leave mounted in it."""
    with tempfile.TemporaryDirectory(prefix="pylxc-bench-", dir=where) as name:
        try:
            yield Path(name)
        finally:
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for mount in sorted((mount for mount in mounts if mount.startswith(f"{name}/")), reverse=True):
                subprocess.run(["umount", "-l", mount], check=True)  # noqa: S607


def in_turns(jobs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the times (ms) of jobs that take turns; who fails once is left out, and it is said."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name in in_turn(list(jobs), number):
            os.sync()  # nobody writes what another one left
            time.sleep(REST)
            try:
                times[name].append(jobs[name]())
            except RuntimeError as error:
                print(f"{name:28} left out: {error}")
                del jobs[name], times[name]
    return times


def show(times: dict[str, list[float]], name: str) -> None:
    """Print each one's median, and how many times it is one of them."""
    base = statistics.median(times[name])
    for each, found in times.items():
        median = statistics.median(found)
        print(f"{each:28} median {median / 1e3:7.2f} s   min {min(found) / 1e3:6.2f} s   {median / base:5.2f} x {name}")


def show_limit(times: dict[str, list[float]]) -> None:
    """Print what a pull cannot be faster than on this machine, and what that is to tar's time: medians of both."""
    tar, check = (statistics.median(times[name]) for name in ("tar -xf", "inflating and digests"))
    limit = (tar + check) / (os.cpu_count() or 1)
    print(f"{'the limit':28}        {limit / 1e3:7.2f} s   {limit / tar:.2f} x tar -xf")


def show_memory(shell: Pylxc, job: Callable[[], float]) -> None:
    """Do a job once more, not timed, and print what it took of memory."""
    shell.most, shell.weighed = 0, True
    job()
    shell.weighed = False
    print(f"{'pylxc, all its processes':28} {shell.most / 1e6:.0f} MB of memory at most")


def main() -> None:
    """Run everybody in turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", default="/var/tmp", help="where everything lies: a disk, not tmpfs")  # noqa: S108
    parser.add_argument("--debian", type=int, metavar="LAYERS", help="Debian's minimal system in so many layers")
    parser.add_argument("--alone", action="store_true", help="without other engines")
    options = parser.parse_args()
    with scratch(options.place) as place, ExitStack() as stack:
        tars = tars_of_debian(place, options.debian) if options.debian else tars_of_usr(place)
        write_image(place, tars)
        host = stack.enter_context(registry(place / "registry"))
        ref = f"{host}/app:1"
        own = Pylxc(place / "own", apart=False)
        pylxc.Image.load(place / "layout", engine=own._engine).push(ref)  # noqa: SLF001
        own.drop(ref)
        shell = Pylxc(place / "shell", apart=True)
        all_: dict[str, Pylxc | Docker | Podman | Tar | Check] = {"pylxc": shell, "pylxc, in process": own}
        all_["tar -xf"] = Tar(place / "tar", tars)
        all_["inflating and digests"] = Check(place / "layout")
        if not options.alone and is_here():
            all_["docker"] = Docker(stack.enter_context(Daemon(place)))
        if not options.alone and shutil.which("podman"):
            all_["podman"] = Podman(place / "podman")

        def pulled(who: Pylxc | Docker | Podman | Tar | Check) -> float:
            took = timed(lambda: who.pull(ref))
            who.drop(ref)
            return took

        times = in_turns({name: lambda who=who: pulled(who) for name, who in all_.items()}, options.rounds)
        print("pull:")
        show(times, "pylxc")
        show_limit(times)
        show_memory(shell, lambda: pulled(shell))
        pushers = {name: who for name, who in all_.items() if isinstance(who, (Pylxc, Docker)) and name in times}

        def pushed(who: Pylxc | Docker) -> float:
            with registry(place / "empty") as empty:
                target = f"{empty}/pushed:1"
                if isinstance(who, Docker):
                    who.tag(target)
                return timed(lambda: who.push(target))

        for who in pushers.values():
            who.pull(ref)
        print("push:")
        show(in_turns({name: lambda who=who: pushed(who) for name, who in pushers.items()}, options.rounds), "pylxc")
        show_memory(shell, lambda: pushed(shell))


if __name__ == "__main__":
    main()
