"""What a start costs with more and more layers: ``python3 benchmarks/layers.py``.

Starts /bin/true on images of 1 to 200 layers in turns within one run, and prints for each the median, the 99th
percentile, and the ratio to the image of one layer. Beside them is the kernel's own share: what it takes to mount an
overlay of as many directories, and to unmount it, from a small C program (overlay.c). Needs root and a C compiler.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from start import in_turns, row
from workers import Worker, make_rootfs, timed

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = (1, 10, 50, 100, 200)
FILES = 10  # of each layer


def _tar(fill: Callable[[tarfile.TarFile], object]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        fill(tar)
    return out.getvalue()


def _layer(number: int) -> bytes:
    """Return the tar of a layer: files of its own, and one that each has."""

    def fill(tar: tarfile.TarFile) -> None:
        for name in (*(f"opt/{number}/{file}" for file in range(FILES)), "opt/last"):
            member = tarfile.TarInfo(name)
            member.size = len(data := f"{number}\n".encode())
            tar.addfile(member, io.BytesIO(data))

    return _tar(fill)


def load_images(directory: Path, engine: pylxc.Engine) -> None:
    """Make images called ``layers:N``, of N layers each; they have them in common."""
    archive = directory / "archive"
    archive.mkdir()
    rootfs = make_rootfs(directory)
    layers = [_tar(lambda tar: tar.add(rootfs, "."))]
    layers += [_layer(number) for number in range(1, max(COUNTS))]
    for number, layer in enumerate(layers):
        (archive / f"{number}.tar").write_bytes(layer)
    entries = []
    for count in COUNTS:
        digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers[:count]]
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
        (archive / f"{count}.json").write_text(json.dumps(config))
        names = [f"{number}.tar" for number in range(count)]
        entries.append({"Config": f"{count}.json", "RepoTags": [f"layers:{count}"], "Layers": names})
    (archive / "manifest.json").write_text(json.dumps(entries))
    pylxc.Image.load_all(archive, engine=engine)


class Overlay(Worker):
    """The C program (overlay.c) for so many directories: "m" mounts an overlay of them and unmounts it."""

    def __init__(self, directory: Path, program: Path, count: int) -> None:
        scratch = directory / f"overlay-{count}"
        for number in range(count):
            (scratch / str(number)).mkdir(parents=True)
        super().__init__([program, scratch, str(count)])


def main() -> None:
    """Run the starts in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = max(5, parser.parse_args().rounds)
    with tempfile.TemporaryDirectory(prefix="pylxc-bench-", dir="/var/tmp") as name:  # a disk, not tmpfs
        directory = Path(name)
        engine = pylxc.Engine(directory / "store")
        load_images(directory, engine)
        program = directory / "overlay"
        source = Path(__file__).with_name("overlay.c")
        subprocess.run(["cc", "-O2", "-Wall", "-o", program, source], check=True)  # noqa: S607
        kernels = {count: Overlay(directory, program, count) for count in COUNTS}
        jobs: dict[str, Callable[[], float]] = {}
        for count in COUNTS:
            run = partial(pylxc.run, f"layers:{count}", ["/bin/true"], engine=engine)
            run()
            jobs[f"run {count}"] = partial(timed, run)
            jobs[f"mount {count}"] = partial(kernels[count].start, "m")
        times = in_turns(jobs, rounds)
        for kind, words in (("run", "pylxc.run, {} layers"), ("mount", "the kernel: mount and unmount {} layers")):
            for count in COUNTS:
                row(words.format(count), times[f"{kind} {count}"], times[f"{kind} 1"], unit="one layer")
        for worker in kernels.values():
            worker.close()


if __name__ == "__main__":
    main()
