"""Hides what the embedded "host" image shows of this machine, and what it never does.

The image is the machine's own operating system: its ``/usr`` (and ``/bin``, ``/lib``… where those are directories of
their own) as a read-only lower layer of every container, and a skeleton beside it: the empty directories that programs
expect and the part of ``/etc`` that they need.

Invariant: ``/etc`` is copied by a list of what may be shown, and only files that any user of the machine can read; home
directories, /root, keys, shadow files, sockets and other users' data are never in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pylxc.errors import ImageNotFound

if TYPE_CHECKING:
    from pylxc.engine import Engine
    from pylxc.image import Image

# Directories of the operating system. Where they are symbolic links (merged /usr) the links are kept.
SYSTEM_DIRECTORIES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
EMPTY_DIRECTORIES = (
    *("dev", "etc", "home", "media", "mnt", "opt", "proc", "run", "srv", "sys", "var", "var/cache", "var/lib"),
    *("var/log", "var/spool"),
)
SHARED_DIRECTORIES = ("tmp", "var/tmp")  # for all users: mode 1777
ETC = (
    *("alpine-release", "alternatives", "bash.bashrc", "bashrc", "ca-certificates", "ca-certificates.conf"),
    *("crypto-policies", "debian_version", "dpkg", "fonts", "gai.conf", "host.conf", "inputrc", "iproute2", "java-*"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "login.defs"),
    *("lsb-release", "magic", "magic.mime", "mime.types", "networks", "nsswitch.conf", "os-release", "perl"),
    *("pki/ca-trust", "pki/tls/certs", "profile", "profile.d", "protocols", "python3*", "redhat-release", "rpc"),
    *("services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "xml"),
)
NEVER = (".key", "shadow", "shadow-", "auth.conf", ".netrc")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----")
# What changes whenever packages are installed or removed.
WITNESSES = (
    *("var/lib/dpkg/status", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "lib/apk/db/installed"),
    *("var/lib/pacman/local", "etc/ld.so.cache", "usr", "usr/bin", "usr/lib", "usr/local/bin", "usr/local/lib"),
)
SYSTEM_ID_LIMIT = 1000  # ids from here on are people's (login.defs(5), UID_MIN)
NOBODY = 65534
LISTABLE = stat.S_IROTH | stat.S_IXOTH
LABEL = "pylxc.host.fingerprint"
FINGERPRINT = "usr/.pylxc-host"  # lies under the host's own /usr in a container, so it is never seen there


def passthrough(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the directories of the host that are shown: ``("/usr",)`` on a merged-/usr system."""
    return tuple(f"/{name}" for name in SYSTEM_DIRECTORIES if (root / name).is_dir() and not (root / name).is_symlink())


def witnesses(root: str = "/") -> tuple[tuple[int, int, int], ...]:
    """Return what changes whenever packages do, at the price of a few lstat(2): asked for before every start."""
    return tuple(_stamp(root + path) for path in WITNESSES)


def fingerprint(root: Path = Path("/")) -> str:
    """Return a digest that changes when the machine's packages or skeleton do (no file's content is read)."""
    etc = [*_etc_entries(root), root / "etc/passwd", root / "etc/group"]
    stamps = [(str(path), *_stamp(str(path))) for path in etc]
    return hashlib.sha256(repr((witnesses(f"{root}/"), stamps)).encode()).hexdigest()


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def find_or_make(engine: Engine, mark: str) -> Image:
    """Return the host image with a fingerprint from the store, or add it. It is tagged "host"."""
    from pylxc.image import Image  # noqa: PLC0415  it imports the engine, which imports this

    try:
        row = engine.store.images.find("host")
        is_damaged = row.layers[0].digest in engine.store.layers.damaged()
        is_this = row.document.config.labels.get(LABEL) == mark and row.layers[0].passthrough == passthrough()
        if is_this and not is_damaged:
            return Image.of(engine, row)
    except ImageNotFound:
        pass  # the first use of this store
    from pylxc.imageconfig import History, ImageConfig, ImageDocument  # noqa: PLC0415
    from pylxc.platforms import this_platform  # noqa: PLC0415

    words = "this machine's operating system"
    with engine.store.leases.take() as lease:
        tree = Path(lease.stage())
        write_skeleton(tree, mark)
        layer = engine.commit_layer(lease, str(tree), words, passthrough())
        created = Path("/usr").stat().st_mtime
        shell = next(path for path in ("/bin/bash", "/bin/sh") if Path(path).exists())
        document = ImageDocument(
            config=ImageConfig(cmd=(shell,), labels={LABEL: mark}),
            platform=this_platform(),
            created=created,
            diff_ids=(layer.digest,),
            history=(History(created=created, created_by=words),),
        )
        return Image.of(engine, engine.store.images.add(document, "host", lease))


def write_skeleton(target: Path, mark: str, root: Path = Path("/")) -> None:
    """Write the skeleton into an empty directory, with fixed times: the same machine gives the same tree."""
    target.chmod(0o755)
    for name in EMPTY_DIRECTORIES:
        _directory(target / name, 0o755)
    for name in SHARED_DIRECTORIES:
        _directory(target / name, 0o1777)
    _directory(target / "root", 0o700)
    (target / "var/run").symlink_to("/run")
    for name in SYSTEM_DIRECTORIES:
        source = root / name
        if source.is_symlink():
            (target / name).symlink_to(source.readlink())
        elif source.is_dir():
            _directory(target / name, 0o755)
    _file(target / FINGERPRINT, mark.encode(), 0o644)
    for path in _etc_entries(root):
        _copy(path, target / path.relative_to(root))
    for name in ("passwd", "group"):
        _file(target / "etc" / name, _system_accounts(root / "etc" / name).encode(), 0o644)
    _settle(target)


def _directory(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)  # whatever the caller's umask


def _file(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def _etc_entries(root: Path) -> list[Path]:
    etc = root / "etc"
    return sorted({path for pattern in ETC for path in etc.glob(pattern) if _is_reachable(etc, path)})


def _is_reachable(etc: Path, path: Path) -> bool:
    """Say whether anybody may go to a path below /etc, through real directories only."""
    between = [parent.lstat().st_mode for parent in path.parents if etc in parent.parents]
    return all(stat.S_ISDIR(mode) and mode & stat.S_IXOTH for mode in between)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, link or directory, leaving out what others may not read."""
    status = source.lstat()
    if source.name.lower().endswith(NEVER) or status.st_uid != 0:
        return
    for parent in reversed(target.parents):
        if not parent.exists():
            _directory(parent, 0o755)
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & LISTABLE == LISTABLE:
        _directory(target, 0o755)
        for name in sorted(os.listdir(source)):  # noqa: PTH208  names are enough
            _copy(source / name, target / name)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        content = source.read_bytes()
        if not PRIVATE_KEY.search(content):
            _file(target, content, status.st_mode & 0o755)


def _system_accounts(database: Path) -> str:
    """Return passwd or group without people, and without anything in the password field."""
    kept = []
    for line in database.read_text(errors="replace").split("\n"):
        name, _, number, *rest = [*line.split(":"), "", "", ""][: max(4, line.count(":") + 1)]
        if number.isascii() and number.isdigit() and (int(number) < SYSTEM_ID_LIMIT or int(number) == NOBODY):
            members_or_rest = [""] if len(rest) == 1 else rest  # group(5) has four fields, the last names people
            kept.append(":".join((name, "x", number, *members_or_rest)))
    return "".join(f"{line}\n" for line in kept)


def _settle(target: Path) -> None:
    """Give every entry the time 0, directories 0755 unless said otherwise, children before parents."""
    for directory, names, files in os.walk(target, topdown=False):
        for name in [*files, *names]:
            os.utime(os.path.join(directory, name), ns=(0, 0), follow_symlinks=False)  # noqa: PTH118
    os.utime(target, ns=(0, 0))
