"""What a build came to, in a form that engines can be compared by: the merged tree, the configuration, the history.

A layer is read by Python's tarfile, which neither engine shares.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import posixpath
import re
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from buildkit_cases import BASES, CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_cases import Case, Content

RECORDED = Path(__file__).parent / "recorded" / "buildkit.jsonl"
BUSYBOX = Path("/bin/busybox")
WHITEOUT = ".wh."
STUBS = ("dev", "etc", "proc", "sys")  # what runc makes to mount on, and BuildKit leaves in the layer
_KINDS = {tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "dir", tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char"}


def write_context(path: Path, files: Mapping[str, Content]) -> None:
    """Write the files of a case to an existing directory. "busybox" is this machine's."""
    for name, given in {**CONTEXT, **files}.items():
        content, mode = given, None
        if isinstance(given, tuple):
            content, mode = given
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if mode == "link":
            os.link(path / content, target)
        elif content is None:
            target.mkdir()
            target.chmod(mode or 0o755)
        elif isinstance(content, str) and content.startswith("-> "):
            target.symlink_to(content[3:])
        else:
            data = BUSYBOX.read_bytes() if content == "busybox" else content
            target.write_bytes(data if isinstance(data, bytes) else data.encode())
            target.chmod(0o644 if mode is None else mode)
    for directory in [path, *(one for one in path.rglob("*") if one.is_dir() and not one.is_symlink())]:
        if directory.stat().st_mode & 0o777 == 0o777 & ~_umask():
            directory.chmod(0o755)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fingerprint(case: Case) -> str:
    """Return a digest of all that a case is made of, so that a stale recording shows."""
    text = case.text if isinstance(case.text, bytes) else case.text.encode()
    parts = (text, CONTEXT, case.files, case.args, BASES)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


# -- trees -------------------------------------------------------------------------------------------------------------


def merged(layers: Iterable[IO[bytes]]) -> dict[str, list[Any]]:
    """Return what a stack of layers (open tars, lowest first) shows: path to [kind, mode, uid, gid, what, xattrs]."""
    tree: dict[str, list[Any]] = {}
    for layer in layers:
        _apply(tree, layer)
    return dict(sorted(tree.items()))


def _apply(tree: dict[str, list[Any]], layer: IO[bytes]) -> None:
    own: set[str] = set()
    with tarfile.open(fileobj=layer, mode="r|") as archive:
        for entry in archive:
            path = posixpath.normpath("/" + entry.name).lstrip("/")
            directory, name = posixpath.split(path)
            if name.startswith(WHITEOUT):
                gone = directory if name == ".wh..wh..opq" else posixpath.join(directory, name[len(WHITEOUT) :])
                below = [one for one in tree if one.startswith(f"{gone}/") or (one == gone and gone != directory)]
                for one in below:
                    if one not in own:
                        del tree[one]
            elif path:
                own.add(path)
                _put(tree, path, _entry(tree, archive, entry))


def _put(tree: dict[str, list[Any]], path: str, found: list[Any]) -> None:
    if found[0] != "dir" and tree.get(path, [""])[0] == "dir":
        for one in [one for one in tree if one.startswith(f"{path}/")]:
            del tree[one]
    tree[path] = found


def _entry(tree: dict[str, list[Any]], archive: tarfile.TarFile, entry: tarfile.TarInfo) -> list[Any]:
    if entry.islnk():
        target = posixpath.normpath("/" + entry.linkname).lstrip("/")
        return list(tree[target])
    prefix = "SCHILY.xattr."
    xattrs = {name[len(prefix) :]: v for name, v in entry.pax_headers.items() if name.startswith(prefix)}
    what = entry.linkname if entry.issym() else ""
    if entry.isreg():
        content = archive.extractfile(entry).read()
        digest = hashlib.sha256(content)
        what = "busybox" if digest.digest() == _busybox() else digest.hexdigest()[:16]
        if len(content) < 200:
            what = content.decode("utf-8", "backslashreplace")
    mode = "" if entry.issym() else f"{entry.mode & 0o7777:o}"
    found: list[Any] = [_KINDS.get(entry.type, "file"), mode, entry.uid, entry.gid, what]
    return [*found, xattrs] if xattrs else found


@functools.cache
def _busybox() -> bytes:
    return hashlib.sha256(BUSYBOX.read_bytes()).digest()


def without_stubs(tree: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Leave out what BuildKit's own runtime leaves in a layer whose base has no place for its mounts."""
    empty = [name for name in STUBS if not any(path.startswith(f"{name}/") for path in tree)]
    return {path: entry for path, entry in tree.items() if path not in empty}


def changes(tree: dict[str, list[Any]], base: dict[str, list[Any]]) -> dict[str, list[Any] | None]:
    """Return what is other than in the base; None is what is gone."""
    gone = {path: None for path in base if path not in tree}
    return {**{path: entry for path, entry in tree.items() if base.get(path) != entry}, **gone}


# -- configurations ----------------------------------------------------------------------------------------------------


def told(words: str) -> str:
    """Return the words of a history without what BuildKit tells otherwise since 2021, or did not tell then.

    What EXPOSE and HEALTHCHECK come to is in the configuration, an owner in the tree.
    """
    name, _, rest = words.partition(" ")
    if name in ("EXPOSE", "HEALTHCHECK"):
        return name
    if name == "ARG":
        return f"{name} {rest.partition('=')[0]}"
    count = re.match(r"\|(\d+) ", rest)
    if name == "RUN" and count:  # an ARG that is declared twice was told twice, one of the stage before not at all
        rest = rest.split(" ", 1 + int(count[1]))[-1]
    if name in ("COPY", "ADD"):
        rest = re.sub(r"^(--(chown|from)=\S+ )+", "", rest)
        rest = rest.replace("./ #", " #") if rest.endswith(" ./ # buildkit") else rest
    return f"{name} {rest}"


def document(data: bytes) -> dict[str, Any]:
    """Return what an image's configuration says, times and digests left out; what is empty is as if it was absent."""
    found = json.loads(data)
    config = {name: value for name, value in found["config"].items() if value not in (None, [], {}, "")}
    history = [
        [entry.get("created_by", ""), entry.get("comment", ""), bool(entry.get("empty_layer"))]
        for entry in found["history"]
    ]
    return {
        "config": config,
        "history": history,
        "author": found.get("author", ""),
        "platform": [found["os"], found["architecture"]],
        "layers": len(found["rootfs"]["diff_ids"]),
    }
