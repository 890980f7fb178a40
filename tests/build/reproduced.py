"""A build that has a bit of everything, in a process, a store and a place of its own: the same image wherever that is.

As a program, ``python3 tests/build/reproduced.py PLACE HOST``, it prints the digest of this machine's busybox, which is
in the context, and the image's id.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from building import tar_bytes
from buildkit_results import BUSYBOX, write_context

TEXT = """\
FROM scratch
COPY root/ /
COPY --chown=user dir /srv/new/
COPY a b.txt /srv/
ADD one.tar /opt/one/
WORKDIR /work/deep
RUN mkdir -p /made/z /made/a/b && for f in q c z a; do echo $f > /made/z/$f; done && ln /made/z/q /made/hard && \
    ln -s nowhere /made/soft && mkfifo /made/fifo && chown -R 5:6 /made/a && chmod 2751 /made/a/b && \
    rm -r /data/sub /data/loose /data/here && mv /srv/new/one /srv/moved && chmod 700 /home
RUN cat /proc/sys/kernel/hostname > host; umask > umask; env | sort > env; id > id; pwd > pwd
RUN touch -d @99999999999 /made/late
RUN rm -r /made/z && mkdir /made/z && echo new > /made/z/new
USER user
WORKDIR /work/mine
RUN echo mine > file && mkdir /tmp/mine
RUN true
COPY dir /
LABEL one=1
MAINTAINER somebody
CMD ["x"]
"""
BUILD = """
import os, sys
os.umask(int(sys.argv[1], 8))
import pylxc
engine = pylxc.Engine(sys.argv[2])
print(pylxc.Image.build(sys.argv[3], no_cache=True, engine=engine).id)
"""


def context(path: Path, *, backwards: bool) -> Path:
    """Write the context of the build; ``backwards``: the directories list their files in another order."""
    path.mkdir(parents=True)
    write_context(path, {"one.tar": tar_bytes({"d": "/", "d/f": b"f", "l": "-> d/f"}), "Dockerfile": TEXT})
    if backwards:
        for name in ("root/bin", "dir"):
            found = sorted((path / name).iterdir(), reverse=True)
            away = path.parent / f"away-{name.replace('/', '-')}"
            away.mkdir()
            for one in found:
                one.rename(away / one.name)
            for one in sorted(away.iterdir()):
                one.rename(path / name / one.name)
    return path


def built(place: Path, *, umask: str, zone: str, host: str, backwards: bool = False) -> str:
    """Build in a process, a store and, where that may be had, on a host of its own; returns the image's id."""
    files = context(place / "context", backwards=backwards)
    words = [sys.executable, "-c", BUILD, umask, str(place / "store"), str(files)]
    if os.geteuid() == 0:
        words = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host, *words]
    environment = {**os.environ, "TZ": zone, "HOSTNAME": host, "LC_ALL": "C"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def main() -> None:
    """Build as the command line says, and print."""
    place, host = sys.argv[1:]
    image = built(Path(place), umask="027", zone="UTC", host=host)
    sys.stdout.write(f"{hashlib.sha256(BUSYBOX.read_bytes()).hexdigest()} {image}\n")


if __name__ == "__main__":
    main()
