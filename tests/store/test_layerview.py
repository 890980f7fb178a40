"""The view into layers without a mount, compared with what the kernel's overlayfs shows of the same layers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pylxc.errors import StoreError
from pylxc.layerview import OPAQUE, LayerView

if TYPE_CHECKING:
    from pathlib import Path

# Every path is asked for in the view and, inside the mounted overlay, of the kernel.
PATHS = [
    *(
        "/",
        "/plain",
        "/whited",
        "/whited/below",
        "/opaque",
        "/opaque/old",
        "/opaque/new",
        "/merged/low",
        "/merged/high",
    ),
    *(
        "/merged/gone",
        "/merged/../plain",
        "/../../plain",
        "/merged/./low",
        "//merged//low",
        "/plain/..",
        "/plain/below",
    ),
    *(
        "/plain/../plain",
        "/nowhere",
        "/nowhere/../plain",
        "/to-plain",
        "/to-merged",
        "/to-merged/low",
        "/to-merged/high",
    ),
    *("/to-merged/../plain", "/absolute", "/absolute/low", "/dangling", "/dangling/x", "/loop", "/loop/x", "/escape"),
    *(
        "/escape-far",
        "/merged/up",
        "/merged/up-dir/plain",
        "/merged/deep/deeper/link",
        "/file-over-dir",
        "/file-over-dir/x",
    ),
    *(
        "/dir-over-file",
        "/dir-over-file/x",
        "/to-whited",
        "/through-opaque",
        "/chain1",
        "/chain39",
        "/chain40",
        "/chain41",
    ),
    *("/hosts-secret", "/empty", "/whited-then-new", "/whited-then-new/old", "/whited-then-new/new", "/" + "n" * 256),
    *("/to-proc/version", "/fifo", "/device", "merged/low", "", "/dots/...", "/to-slash/plain", "/to-dot/low"),
    *(
        "/plain/",
        "/plain/.",
        "/merged/",
        "/merged/low/",
        "/to-plain/",
        "/to-merged/.",
        "/slashed",
        "/.",
        "/..",
        "/whited/.",
    ),
]


def file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def layers(tmp_path):
    """Three layers, the topmost first, with every way of hiding what lies below."""
    top, middle, bottom = (tmp_path / name for name in ("top", "middle", "bottom"))
    for text, layer in (("bottom", bottom), ("middle", middle), ("top", top)):
        file(layer / "merged" / text, text)
    for name in ("plain", "opaque/old", "merged/low", "merged/gone", "whited/below", "dots/...", "file-over-dir/x"):
        file(bottom / name, f"bottom {name}")
    file(bottom / "dir-over-file", "a file")
    file(bottom / "whited-then-new/old", "old")
    file(middle / "merged/high", "middle")
    file(middle / "opaque/new", "middle")
    file(middle / "file-over-dir", "a file now")
    file(middle / "dir-over-file/x", "a directory now")
    (middle / "empty").mkdir()
    os.setxattr(middle / "opaque", OPAQUE, b"y")
    for name in ("whited", "merged/gone", "whited-then-new"):
        os.mknod(middle / name, 0o600 | 0o020000, 0)
    file(top / "whited-then-new/new", "new")
    os.mkfifo(top / "fifo")
    os.mknod(top / "device", 0o600 | 0o020000, os.makedev(1, 3))
    links = {"to-plain": "plain", "to-merged": "merged", "absolute": "/merged", "dangling": "nowhere", "loop": "loop"}
    links |= {"escape": "../../../../etc/hostname", "escape-far": "/" + "../" * 60 + "plain", "to-whited": "whited"}
    links |= {"through-opaque": "opaque/old", "hosts-secret": str(tmp_path / "secret"), "to-proc": "/proc"}
    links |= {
        "merged/up": "../plain",
        "merged/up-dir": "..",
        "to-slash": "/",
        "to-dot": "./merged/.",
        "slashed": "plain/",
    }
    links |= {f"chain{n}": f"chain{n - 1}" if n > 1 else "plain" for n in range(1, 42)}
    for name, target in links.items():
        (top / name).symlink_to(target)
    (middle / "merged/deep/deeper").mkdir(parents=True)
    (bottom / "merged/deep").mkdir()
    (bottom / "merged/deep/target").write_text("deep")
    (middle / "merged/deep/deeper/link").symlink_to("../target")
    file(tmp_path / "secret", "of the host")
    return [str(top), str(middle), str(bottom)]


def by_the_kernel(lowers: list[str], directory: Path) -> dict[str, tuple[bool, bytes | None]]:
    """Mount the layers in a private namespace, change into them, and ask the kernel for every path."""
    merged = directory / "mounted"
    merged.mkdir()
    program = f"""
import os, stat
os.chroot({str(merged)!r})
os.chdir("/")
def ask(path):
    try:
        mode = os.stat(path or "/").st_mode
    except OSError:
        return False, None
    return stat.S_ISDIR(mode), open(path, "rb").read() if stat.S_ISREG(mode) else None
print({{path: ask(path if path.startswith("/") or not path else "/" + path) for path in {PATHS!r}}})
"""
    mount = f"mount -t overlay overlay -o ro,userxattr,lowerdir={':'.join(lowers)} {merged}"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'{mount}\nexec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, tuple[bool, bytes | None]] = eval(done.stdout)  # noqa: S307  our own child's dict
    return answers


def test_the_view_is_what_the_kernel_shows(layers, tmp_path):
    view = LayerView(layers)
    kernel = by_the_kernel(layers, tmp_path)
    ours = {path: (view.is_directory(path), view.read(path)) for path in PATHS}
    assert ours == kernel
    seen = [answer for answer in kernel.values() if answer != (False, None)]
    assert len(seen) > 25, "the comparison is of something"


def test_nothing_outside_the_layers_is_read(layers):
    view = LayerView(layers)
    for path in ("/hosts-secret", "/escape", "/to-proc/version"):
        assert view.read(path) is None
        assert not view.is_directory(path)


def test_the_hosts_directories_lie_below_all_layers(tmp_path):
    host, top = tmp_path / "usr", tmp_path / "top"
    file(host / "bin/tool", "the host's")
    file(host / "bin/other", "the host's")
    file(top / str(host)[1:] / "bin/tool", "the layer's")
    view = LayerView([str(top)], [str(host)])
    assert view.read(f"{host}/bin/tool") == b"the layer's"
    assert view.read(f"{host}/bin/other") == b"the host's"
    assert LayerView([str(top)]).read(f"{host}/bin/other") is None


def test_a_file_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    with pytest.raises(StoreError, match="larger than"):
        LayerView([str(tmp_path)]).read("/huge")
