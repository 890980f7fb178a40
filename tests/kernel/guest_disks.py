"""Hides what the guest boots from: Debian bookworm's cloud kernel, a disk with Debian, a disk with this checkout.

Kernel and root disk take half a minute to make and change seldom: they are kept in ``build/guest/`` of the checkout,
under the digest of all that they are made from (remove the directory to fetch what the mirror has today). Invariant:
what has its name there is whole. Nothing is installed on this machine. Making them needs root: the files on the root
disk have owners.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import frozen

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
KEPT = CHECKOUT / "build" / "guest"

SUITE = "bookworm"
SECURITY = f"deb http://deb.debian.org/debian-security {SUITE}-security main"
PACKAGES = (
    "python3",
    "kmod",  # the kernel asks for its modules by modprobe
    "uidmap",  # newuidmap: what an ordinary user's containers map their ids with
    "busybox-static",  # the image of the tests, the first program of the guest
    "libcap2-bin",
)
# Run by mmdebstrap while apt's lists are there. The kernel is unpacked, not installed: nothing is to be configured.
KERNEL_HOOK = """chroot "$1" sh -euc '
cd /var/tmp
apt-get -qq -o APT::Sandbox::User=root download "$(
    apt-cache depends linux-image-cloud-amd64 | sed -n "s/^ *Depends: *//p" | grep ^linux-image | head -n 1)"
dpkg-deb -x linux-image-*.deb linux
rm linux-image-*.deb
'"""
DRIVERS = ("virtio_pci", "virtio_blk")  # what the root disk is seen with; the rest of the modules lies on it
ROOT_SIZE = "6G"  # of a file with holes
CHECKED_OUT = ("pylxc", "tests", "csrc", "pyproject.toml", "setup.py")


@frozen
class Base:
    """What every guest boots from, read only."""

    kernel: Path
    initramfs: Path
    root: Path


def base() -> Base:
    """Return kernel, initramfs and root disk, made now where there are none of this recipe."""
    requirements = sorted(python_requirements())
    recipe = repr((SUITE, SECURITY, PACKAGES, KERNEL_HOOK, DRIVERS, ROOT_SIZE, requirements))
    sources = recipe.encode() + Path(__file__).read_bytes() + (INSIDE / "init").read_bytes()
    place = KEPT / hashlib.sha256(sources).hexdigest()[:16]
    if not place.exists():
        _make(place, requirements)
    return Base(place / "vmlinuz", place / "initramfs", place / "root.ext4")


def python_requirements() -> list[str]:
    """Return what this package and its tests need.

    Not what measures coverage, which is not measured in the guest, nor the references, which nobody asks there.
    """
    split = (line.partition(";") for line in importlib.metadata.requires("pylxc") or [])
    wanted = [word.strip() for word, _, when in split if "extra" not in when or "test" in when]
    return [word for word in wanted if "cov" not in word]


def _make(place: Path, requirements: list[str]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT, prefix=".making-") as scratch:
        made, root = Path(scratch, "made"), Path(scratch, "root")
        made.mkdir()
        _bootstrap(root)
        _take_kernel(root, made / "vmlinuz")
        _add_python_packages(root, requirements)
        _make_initramfs(root, made / "initramfs")
        _make_disk(root, made / "root.ext4", ROOT_SIZE)
        try:
            made.rename(place)
        except OSError:
            if not place.exists():  # else another run was quicker
                raise


def _call(*words: str | Path, **options) -> subprocess.CompletedProcess[bytes]:
    """Run a program; what it said is shown when it fails."""
    done = subprocess.run(
        list(map(str, words)),
        stdin=options.pop("stdin", subprocess.DEVNULL),
        capture_output=True,
        check=False,
        **options,
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-4000:]}")
    return done


def _bootstrap(root: Path) -> None:
    _call(
        "mmdebstrap",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
        f"--customize-hook={KERNEL_HOOK}",
        '--customize-hook=chroot "$1" useradd --create-home --shell /bin/sh tester',
        SUITE,
        root,
        "http://deb.debian.org/debian",
        SECURITY,
        timeout=400,
    )
    (root / "checkout").mkdir()


def _take_kernel(root: Path, kernel: Path) -> None:
    """Put the unpacked kernel where it belongs: the image to the caller, the modules, with their index, to the root."""
    unpacked = root / "var/tmp/linux"
    [image] = unpacked.glob("boot/vmlinuz-*")
    shutil.copyfile(image, kernel)
    [modules] = unpacked.glob("lib/modules/*")
    (root / "usr/lib/modules").mkdir(exist_ok=True)
    modules.rename(root / "usr/lib/modules" / modules.name)
    shutil.rmtree(unpacked)
    _call("chroot", root, "depmod", modules.name)


def _add_python_packages(root: Path, requirements: list[str]) -> None:
    """Add wheels for the guest's Python, whichever this one is, where Debian's looks for what is not Debian's."""
    [library] = root.glob("usr/lib/python3.*")
    version = library.name.removeprefix("python")
    target = root / f"usr/local/lib/python{version}/dist-packages"
    choice = ("--only-binary=:all:", f"--python-version={version}", "--no-compile", f"--target={target}")
    _call(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *choice, *requirements)
    _call("chroot", root, "python3", "-m", "compileall", "-q", f"/{target.relative_to(root)}")


def _make_initramfs(root: Path, initramfs: Path) -> None:
    """Pack busybox, the drivers in the order in which they can be loaded, and ``inside/init``."""
    [modules] = root.glob("usr/lib/modules/*")
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    order: dict[str, None] = {}
    for driver in DRIVERS:
        [file] = (name for name in needs if name.endswith(f"/{driver}.ko"))
        # modprobe(8) loads what a module needs from the last to the first (modules.dep(5)).
        order |= dict.fromkeys([*reversed(needs[file].split()), file])
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        for name in ("bin", "dev", "root", "modules"):
            (tree / name).mkdir()
        shutil.copy(root / "bin/busybox", tree / "bin/busybox")
        shutil.copy(INSIDE / "init", tree / "init")
        for number, file in enumerate(order):
            shutil.copy(modules / file, tree / "modules" / f"{number:02}.ko")
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        packed = subprocess.run(
            ["/bin/busybox", "cpio", "-o", "-H", "newc"],
            input=names.encode(),
            cwd=tree,
            capture_output=True,
            check=True,
        )
        initramfs.write_bytes(packed.stdout)


def _make_disk(tree: Path, disk: Path, size: str) -> None:
    _call("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, disk, size)


def checkout_disk(disk: Path, script: str) -> None:
    """Make a disk with this checkout as it is, built parts included, and the script that the guest is to run."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in CHECKED_OUT:
            source, target = CHECKOUT / name, Path(scratch, name)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy2(source, target)
        Path(scratch, "script").write_text(script)
        Path(scratch).chmod(0o755)
        _make_disk(Path(scratch), disk, "512M")
