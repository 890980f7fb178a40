"""A host whose mounts are shared, as systemd leaves them: nothing that is mounted in a container shows outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pylxc

# In a mount namespace of its own, so that a failure spoils nothing of this machine's.
HOST = """
import sys
from pathlib import Path
import pylxc
from pylxc.linux import CloneFlag, MountFlag, mount, unshare

unshare(CloneFlag.NEWNS)
mount(None, Path("/"), None, MountFlag.REC | MountFlag.PRIVATE)
mount(None, Path("/"), None, MountFlag.REC | MountFlag.SHARED)
before = Path("/proc/self/mountinfo").read_text().splitlines()
options = eval(sys.argv[3])
with pylxc.popen(sys.argv[2], ["sh", "-c", sys.argv[4]], engine=pylxc.Engine(sys.argv[1]), **options) as inside:
    assert inside.stdout.readline() == b"mounted\\n"
    during = Path("/proc/self/mountinfo").read_text().splitlines()
    inside.communicate(b"")
for line in sorted({*during, *Path("/proc/self/mountinfo").read_text().splitlines()} - {*before}):
    print(line)
"""


@pytest.mark.root
@pytest.mark.parametrize("image", ["busybox", "host"])
@pytest.mark.parametrize("options", [{}, {"network": "host"}, {"userns": "host"}])
def test_what_is_mounted_inside_is_not_mounted_outside(box, tmp_path, image, options):
    """Neither a mount of the payload's own on what is the host's too, nor the runtime's (masks over its /sys)."""
    (tmp_path / "below").mkdir()
    chosen = {"volumes": {str(tmp_path): "/in"}, "cap_add": ["SYS_ADMIN"], **options}
    script = "mount -t tmpfs none /in && mkdir /in/x && echo mounted; mount -t tmpfs none /usr/bin; read line"
    done = subprocess.run(
        [sys.executable, "-c", HOST, box.engine.root, image, repr(chosen), script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(pylxc.__file__).parent.parent)},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert os.listdir(tmp_path) == ["below"]
