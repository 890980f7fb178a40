"""Secrets and configs: read when an environment comes up, kept in a volume of the project, mounted as files.

Hides where they lie: files of one volume, named by the digest of what they are (bytes, owner, mode), so that a change
gives a new name and the container that has it is made anew. They are in no image and no layer. Invariant: what is read
is a regular file of at most :data:`LARGEST` bytes, or nothing is; a file of the volume is whole.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pylxc.compose.parts import labels
from pylxc.compose.parts.refusals import unsupported
from pylxc.errors import Conflict, SpecError, StoreError
from pylxc.mounts import Mount
from pylxc.runtime import rootless
from pylxc.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pylxc.compose.model import Model
    from pylxc.engine import Engine

LARGEST = 1 << 20  # bytes
_DEFAULT_MODE = 0o444
_KINDS = {"secrets": "/run/secrets/", "configs": "/"}


@frozen
class Content:
    """A secret or config as a service has it: where it is mounted, and what is there then."""

    target: str
    data: bytes = field(repr=False)
    uid: int
    gid: int
    mode: int

    @property
    def name(self) -> str:
        """What it is called in the volume."""
        head = f"{self.uid}:{self.gid}:{self.mode:o}:".encode()
        return hashlib.sha256(head + self.data).hexdigest()

    def mount(self, project: str) -> Mount:
        """Return its mount."""
        return Mount(
            type="volume",
            source=labels.contents_name(project),
            subpath=self.name,
            target=self.target,
            read_only=True,
        )


def contents_of(model: Model, name: str, service: Mapping[str, Any]) -> list[Content]:
    """Return the secrets and configs of a service. Raises SpecError, UnsupportedError."""
    return [_content(model, f"services.{name}.{kind}", kind, use) for kind in _KINDS for use in service.get(kind) or ()]


def _content(model: Model, path: str, kind: str, use: Mapping[str, Any]) -> Content:
    source = use["source"]
    given = (model.document.get(kind) or {}).get(source) or {}
    target = str(use.get("target") or source)
    if not target.startswith("/"):
        target = _KINDS[kind] + target
    data = _read(model, f"{kind}.{source}", given)
    mode = use.get("mode")
    uid, gid = (_number(path, key, use.get(key)) for key in ("uid", "gid"))
    return Content(target, data, uid, gid, _DEFAULT_MODE if mode is None else _mode(path, mode))


def _number(path: str, key: str, value: Any) -> int:
    if not value:
        return 0
    if not str(value).isdecimal() or int(value) >= 1 << 31:
        raise SpecError(f"{path}.{key}", value, "give a number; the names of users are the image's")
    return int(value)


def _mode(path: str, value: Any) -> int:
    try:
        mode = value if isinstance(value, int) else int(str(value), 8)
    except ValueError as error:
        raise SpecError(f"{path}.mode", value, "give it in octal, such as 0440") from error
    if not 0 <= mode <= 0o777:  # noqa: PLR2004
        raise SpecError(f"{path}.mode", value, "give it in octal, from 0 to 0777")
    return mode


def _read(model: Model, path: str, given: Mapping[str, Any]) -> bytes:
    if given.get("external"):
        raise unsupported(model, f"{path}.external", "there is no store of them apart from files: give file")
    if given.get("content") is not None:
        data = str(given["content"]).encode()
    elif given.get("environment"):
        name = str(given["environment"])
        if name not in model.environment:
            raise SpecError(path, name, "this variable is not set in the environment")
        data = model.environment[name].encode("utf-8", "surrogateescape")
    elif given.get("file"):
        data = _read_file(path, str(model.working_dir / given["file"]))
    else:
        raise SpecError(path, dict(given), "say where it comes from: file, environment or content")
    if len(data) > LARGEST:
        raise SpecError(path, f"{len(data)} bytes", f"it may have {LARGEST} bytes at the most; mount a file in volumes")
    return data


def _read_file(path: str, name: str) -> bytes:
    """Read a regular file, and no more of it than may be: a FIFO would keep us waiting for ever."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(fd, "rb") as file:  # noqa: PTH123  a descriptor
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SpecError(path, name, "is no regular file")
            return file.read(LARGEST + 1)
    except OSError as error:
        raise SpecError(path, name, f"cannot be read: {error.strerror}") from error


# -- the volume --------------------------------------------------------------------------------------------------------


def keep(engine: Engine, project: str, contents: Iterable[Content]) -> None:
    """Put contents into the project's volume. Raises Conflict where a volume of that name is not ours; StoreError."""
    wanted = {content.name: content for content in contents}
    if not wanted:
        return
    name = labels.contents_name(project)
    marks = {labels.PROJECT: project, labels.CONTENTS: "true"}
    volume = Volume.create(name, labels=marks, engine=engine)
    files = [(one.name, one.data, one.uid, one.gid, one.mode) for one in wanted.values()]
    try:
        rootless.as_owner(_put, str(volume.path), files)
    except OSError as error:  # a full disk; an owner that an ordinary user has not among its ids
        raise StoreError(volume.path, f"secrets and configs cannot be written: {error.strerror}") from error


def _put(directory: str, contents: list[tuple[str, bytes, int, int, int]]) -> None:
    """Write the files that are not there yet, each whole or not at all, and let nobody else look in."""
    os.chmod(directory, 0o700)  # noqa: PTH101  a mount of one file needs no way to it
    for name, data, uid, gid, mode in contents:
        path = f"{directory}/{name}"
        if os.path.exists(path):  # noqa: PTH110
            continue
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123  a descriptor
            file.write(data)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        os.rename(temporary, path)  # noqa: PTH104


def sweep(engine: Engine, project: str, used: Iterable[str]) -> None:
    """Remove from the project's volume what no container has any more; ``used`` are the names that some have."""
    with suppress(LookupError):
        volume = Volume.get(labels.contents_name(project), engine=engine)
        if volume.labels.get(labels.CONTENTS):
            rootless.as_owner(_drop, str(volume.path), sorted(used))


def _drop(directory: str, used: list[str]) -> None:
    for name in set(os.listdir(directory)) - set(used):  # noqa: PTH208
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")  # noqa: PTH108


def remove(engine: Engine, project: str) -> None:
    """Remove the project's volume, if nobody has it any more."""
    with suppress(LookupError, Conflict):
        volume = Volume.get(labels.contents_name(project), engine=engine)
        if volume.labels.get(labels.CONTENTS):
            volume.remove(force=True)


def used_by(mounts: Iterable[Mount], project: str) -> Iterator[str]:
    """Yield the names of the contents among mounts."""
    name = labels.contents_name(project)
    return (mount.subpath for mount in mounts if mount.type == "volume" and mount.source == name)
