"""What is mounted into a container, in all the forms in which it can be said.

Hides docker's two syntaxes (``/host:/in:ro`` and ``type=bind,source=/host,target=/in``), docker-py's dicts and pylxc's
mappings. Invariant: a :class:`Mount` has an absolute, normalised target without ``..`` that is neither the root nor
below ``/proc``, and a bind has an absolute source.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import Factory, field, fields_dict, frozen

from pylxc.errors import SpecError, UnsupportedError
from pylxc.units import parse_size

if TYPE_CHECKING:
    MountType = Literal["bind", "volume", "tmpfs"]
    Propagation = Literal["rprivate", "private", "rslave", "slave", "rshared", "shared"]

# Patterns are compiled where they are first used (re keeps them): importing stays cheap.
_VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_TMPFS_KEYS = r"(?:size|mode|uid|gid|nr_inodes|nr_blocks|inode64|inode32|huge)(?:=[a-zA-Z0-9_%]+)?"
_VOLUME_NAME_MAX = 255  # NAME_MAX: a volume is a directory of its name
# Mount options of the short form: name -> (field, value).
_WORDS: dict[str, tuple[str, Any]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "readonly": ("read_only", True),
    "nosuid": ("nosuid", True),
    "suid": ("nosuid", False),
    "nodev": ("nodev", True),
    "dev": ("nodev", False),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
    "idmap": ("idmap", True),
    "noidmap": ("idmap", False),
    "nocopy": ("nocopy", True),
    "rbind": ("recursive", True),
    "bind": ("recursive", False),
    **{word: ("propagation", word) for word in ("private", "rprivate", "slave", "rslave", "shared", "rshared")},
}
PROPAGATIONS = ("rprivate", "private", "rslave", "slave", "rshared", "shared")
# Words that say how docker's virtual machines cache: there is none here.
_NO_MATTER = ("defaults", "consistent", "cached", "delegated")
_LABELS = ("z", "Z")  # SELinux: relabel the source, for many containers or for one
_SYNONYMS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "bind": "target",
    "readonly": "read_only",
    "ro": "read_only",
    "bind-propagation": "propagation",
    "volume-nocopy": "nocopy",
    "volume-subpath": "subpath",
    "no_copy": "nocopy",
}
_FLAGS = ("read_only", "nosuid", "nodev", "noexec", "recursive", "idmap", "nocopy")


def container_path(value: object, option: str) -> str:
    """Return a path inside a container: absolute, normalised, free of ``..`` and NUL.

    A link on the way is the container's affair: it is resolved below its root when it is used. Raises SpecError.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise SpecError(option, value, "give a path inside the container, as a string")
    path = os.fspath(value)
    if not isinstance(path, str) or not path.startswith("/"):
        raise SpecError(option, value, 'a path inside a container is absolute, such as "/data"')
    if "\0" in path:
        raise SpecError(option, value, "a path cannot hold a NUL byte")
    if ".." in path.split("/"):
        raise SpecError(option, value, 'a path inside a container cannot hold ".."; write where it leads')
    return "/" + posixpath.normpath(path).lstrip("/")  # normpath keeps a leading "//" (POSIX.1, 4.13)


def host_path(value: str | os.PathLike[str], option: str) -> str:
    """Return a path of the host, absolute and normalised; a relative one starts at the current directory."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise SpecError(option, value, "give a path of the host; it cannot be empty or hold a NUL byte")
    return os.path.abspath(path)  # noqa: PTH100  pathlib costs a millisecond to import, and does not normalise


def _target(value: object) -> str:
    path = container_path(value, "mounts")
    if path == "/":
        raise SpecError("mounts", value, "the root itself cannot be mounted over; give a directory below it")
    if path == "/proc" or path.startswith("/proc/"):
        raise SpecError("mounts", value, "nothing can be mounted over /proc: programs trust what it says")
    return path


@frozen(kw_only=True)
class Mount:
    """One mount of a container.

    - ``type``: ``"bind"`` (a path of the host), ``"volume"`` (a named volume), ``"tmpfs"`` (memory).
    - ``target``: where it appears in the container.
    - ``source``: the host path or the volume's name; empty for a tmpfs.
    - ``read_only``, ``nosuid``, ``nodev``, ``noexec``: attributes of the mount. The last three are on by default for a
      tmpfs, as in docker, and off for a bind.
    - ``data``: further options of a tmpfs, for example ``"size=67108864,mode=1777"``.

    For a bind:

    - ``recursive``: with what is mounted below the source (the default). ``read_only`` holds for all of that.
    - ``propagation``: whether mounts made later, below the source or in the container, appear on the other side.
      ``"rprivate"`` (the default): neither way. ``"rslave"``: what the host mounts appears in the container.
      ``"rshared"``: both ways; refused in a user namespace of its own, which is not to mount on the host. The source
      must lie on a mount that is shared. ``"private"``, ``"slave"`` and ``"shared"`` mean the same as with the r: what
      is mounted below the source goes with it.
    - ``idmap``: whether the owner of the source is root in the container, so that what the container's root makes there
      belongs to that owner on the host. True: yes, and refused where the file system has no id-mapped mounts. False:
      ids are the same on both sides. None (the default): yes, where it is possible, for a source that is not root's, in
      a container that has ids of its own and runs as root. The source's group is the root group likewise. All other
      ids are the same on both sides, with two exceptions: what belongs to the host's root (or its group, unless that
      is the source's) is shown as nobody's and cannot be written to, and the container's user with the owner's number
      can own nothing there.

    For a volume:

    - ``nocopy``: leave it empty, in place of filling it, when it is first used, with what the image has at the target.
    - ``subpath``: a directory or file of the volume, which must be there at the start, in place of the whole; links in
      the volume do not lead out of it.

    Raises SpecError. Source: mount(8), tmpfs(5), mount_namespaces(7), mount_setattr(2),
    https://docs.docker.com/engine/storage/bind-mounts/, https://docs.docker.com/engine/storage/volumes/.

    Example::

        Mount(type="bind", source="/srv/data", target="/data", read_only=True)
        Mount(type="bind", source="/home/me/project", target="/src", idmap=True)
        Mount(type="volume", source="cache", target="/var/cache", nocopy=True)
    """

    type: MountType
    target: str = field(converter=_target)
    source: str = ""
    read_only: bool = False
    nosuid: bool = field(default=Factory(lambda self: self.type == "tmpfs", takes_self=True))
    nodev: bool = field(default=Factory(lambda self: self.type == "tmpfs", takes_self=True))
    noexec: bool = field(default=Factory(lambda self: self.type == "tmpfs", takes_self=True))
    data: str = ""
    propagation: Propagation = "rprivate"
    recursive: bool = True
    idmap: bool | None = None
    nocopy: bool = False
    subpath: str = ""

    def __attrs_post_init__(self) -> None:
        """Check what depends on the type."""
        if self.propagation not in PROPAGATIONS:
            raise SpecError("mounts", self.propagation, f"a propagation is one of {', '.join(PROPAGATIONS)}")
        if self.type == "bind":
            object.__setattr__(self, "source", host_path(self.source, "mounts"))
        elif self.type == "volume":
            if self.source:
                volume_name(self.source, "mounts")
        elif self.type != "tmpfs":
            raise SpecError("mounts", self.type, 'the type is "bind", "volume" or "tmpfs"')
        elif self.source:
            raise SpecError("mounts", self.source, "a tmpfs has no source")
        self._refuse_others_fields()
        if self.data:
            object.__setattr__(self, "data", _tmpfs_data(self))

    def _refuse_others_fields(self) -> None:
        of_binds = (self.propagation, self.recursive, self.idmap) != ("rprivate", True, None)
        if of_binds and self.type != "bind":
            raise SpecError(
                "mounts", self.target, f"propagation, recursive and idmap are a bind's, not a {self.type}'s"
            )
        if self.nocopy and self.type != "volume":
            raise SpecError("mounts", self.target, f"nocopy is a volume's, not a {self.type}'s")
        if self.subpath:
            self._check_subpath()

    def _check_subpath(self) -> None:
        if self.type != "volume" or not self.source:
            raise SpecError("mounts", self.target, "subpath is for a volume that has a name")
        words = self.subpath.split("/")
        if self.subpath.startswith("/") or ".." in words or "\0" in self.subpath:
            raise SpecError("mounts", self.subpath, 'a subpath is relative to the volume, without ".."')
        object.__setattr__(self, "subpath", posixpath.normpath(self.subpath))
        object.__setattr__(self, "nocopy", True)  # what fills a volume is meant for the whole

    @property
    def is_slave(self) -> bool:
        """Whether mounts of the host made later appear in the container."""
        return self.propagation in ("slave", "rslave")

    @property
    def is_shared(self) -> bool:
        """Whether mounts made later appear on the other side, both ways."""
        return self.propagation in ("shared", "rshared")


def volume_name(value: object, option: str) -> str:
    """Return the name of a volume as it is. Raises SpecError for what cannot be one."""
    if not isinstance(value, str) or not re.fullmatch(_VOLUME_NAME, value) or len(value) > _VOLUME_NAME_MAX:
        remedy = f"a volume's name is 2 to {_VOLUME_NAME_MAX} of [a-zA-Z0-9_.-]; a path of the host starts with / or ./"
        raise SpecError(option, value, remedy)
    return value


def _tmpfs_data(mount: Mount) -> str:
    if mount.type != "tmpfs":
        raise SpecError("mounts", mount.data, f"a {mount.type} takes no file system options")
    parts = []
    for part in mount.data.split(","):
        key, _, value = part.partition("=")
        if not re.fullmatch(_TMPFS_KEYS, part):
            raise SpecError("tmpfs", part, "a tmpfs takes size, mode, uid, gid, nr_inodes, nr_blocks, ro, noexec, ...")
        # The kernel reads its own suffixes (k m g, and %); sizes are given in bytes so that one spelling is left.
        parts.append(f"size={parse_size(value, 'tmpfs')}" if key == "size" and not value.endswith("%") else part)
    return ",".join(parts)


def _make(fields: dict[str, Any], options: Iterable[str], given: object) -> Mount:
    """Make a mount of fields and of options as they stand after the last colon of docker's short form."""
    data: list[str] = []
    for option in options:
        if option in _WORDS:
            field, value = _WORDS[option]
            fields[field] = value
        elif option in _LABELS:
            _refuse_labels(option)
        elif option == "U":
            raise UnsupportedError("mount option 'U'", 'no owners are changed on the host; give "idmap"')
        elif fields["type"] == "tmpfs" and option:
            data.append(option)
        elif option and option not in _NO_MATTER:
            remedy = f'{option!r} is no mount option; give "ro", "nosuid", "noexec", "rslave", "idmap", "nocopy"'
            raise SpecError("volumes", given, remedy)
    if data:
        fields["data"] = ",".join(data)
    return Mount(**fields)


def _refuse_labels(option: str) -> None:
    """Refuse to relabel where there are labels: without SELinux, docker too takes the option for nothing."""
    if os.path.exists("/sys/fs/selinux/enforce"):  # noqa: PTH110
        remedy = "labels of SELinux are not set in this version of pylxc; label the directory with chcon(1)"
        raise UnsupportedError(f"mount option {option!r}", remedy)


def _source(value: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell a path of the host from the name of a volume, by docker's rule: a path starts with ``/`` or ``.``."""
    if not isinstance(value, (str, os.PathLike)):
        raise SpecError("volumes", value, 'give the path of a directory or file of the host, such as "/srv"')
    text = os.fspath(value)
    is_path = not isinstance(value, str) or text.startswith(("/", "."))
    return {"type": "bind" if is_path else "volume", "source": text}


def _volume_item(source: str | os.PathLike[str], target: object) -> Mount:
    if isinstance(target, Mapping):  # docker-py: {"/host": {"bind": "/in", "mode": "ro"}}
        unknown = set(target) - {"bind", "mode"}
        if unknown or "bind" not in target:
            raise SpecError("volumes", dict(target), 'give "/in" or "/in:ro", or {"bind": "/in", "mode": "ro"}')
        return _make({**_source(source), "target": target["bind"]}, str(target.get("mode", "")).split(","), target)
    if not isinstance(target, str):
        target = container_path(target, "volumes")
    path, _, options = target.partition(":")
    return _make({**_source(source), "target": path}, options.split(","), target)


def _volume_text(text: str) -> Mount:
    parts = text.split(":")
    if len(parts) == 1:
        return Mount(type="volume", target=parts[0])
    if len(parts) > 3:  # noqa: PLR2004  source, target, options
        raise SpecError("volumes", text, 'give "/host:/in" or "/host:/in:ro"')
    return _make({**_source(parts[0]), "target": parts[1]}, parts[2].split(",") if len(parts) > 2 else (), text)  # noqa: PLR2004


def to_volumes(value: Any) -> tuple[Mount, ...]:
    """Return the option ``volumes`` as mounts: a mapping source -> target, or a list of ``/host:/in:ro``."""
    if isinstance(value, Mapping):
        return tuple(_volume_item(source, target) for source, target in value.items())
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise SpecError("volumes", value, 'give {"/host": "/in"} or {"/host": "/in:ro"}')
    return tuple(_volume_text(item) if isinstance(item, str) else to_mount(item) for item in value)


def to_tmpfs(value: Any) -> tuple[Mount, ...]:
    """Return the option ``tmpfs`` as mounts: a mapping target -> options, or a list of ``/t`` and ``/t:size=64m``."""
    if isinstance(value, Mapping):
        pairs = [(target, options or "") for target, options in value.items()]
        return tuple(_tmpfs(target, options) for target, options in pairs)
    items = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(items, bytes) or not isinstance(items, Iterable):
        raise SpecError("tmpfs", value, 'give {"/cache": "size=64m"}, or a list of paths')
    return tuple(_tmpfs(*_split(item)) if isinstance(item, (str, os.PathLike)) else to_mount(item) for item in items)


def _split(item: str | os.PathLike[str]) -> tuple[str, str]:
    target, _, options = os.fspath(item).partition(":")
    return target, options


def _tmpfs(target: object, options: object) -> Mount:
    if not isinstance(options, str):
        raise SpecError("tmpfs", options, 'give mount options as text, such as "size=64m,mode=1777"')
    return _make({"type": "tmpfs", "target": target}, options.split(","), options)


def to_mounts(value: Any) -> tuple[Mount, ...]:
    """Return the option ``mounts``: a list of Mounts, of their fields as dicts, or of ``type=bind,source=...,...``."""
    if isinstance(value, (str, Mapping, Mount)):
        value = [value]
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise SpecError("mounts", value, "give a list of mounts")
    return tuple(to_mount(item) for item in value)


def to_mount(item: Any) -> Mount:
    """Return one mount from a Mount, a dict of its fields, or docker's ``--mount`` text."""
    if isinstance(item, Mount):
        return item
    if isinstance(item, str):
        return _mount_text(item)
    if not isinstance(item, Mapping):
        raise SpecError("mounts", item, 'give a Mount, a dict of its fields, or "type=bind,source=/host,target=/in"')
    fields: dict[str, Any] = {_SYNONYMS.get(str(key), str(key)): value for key, value in item.items()}
    fields.setdefault("type", "volume")
    for key in ("source", "target"):
        if isinstance(fields.get(key), os.PathLike):
            fields[key] = os.fspath(fields[key])
    _check_fields(fields, item)
    return Mount(**fields)


def _check_fields(fields: Mapping[str, Any], given: object) -> None:
    names = fields_dict(Mount)
    unknown = sorted(set(fields) - set(names))
    if unknown:
        raise SpecError("mounts", given, f"{unknown[0]!r} is no field of a mount; there are {', '.join(names)}")
    if "target" not in fields:
        raise SpecError("mounts", given, "the target is missing: where in the container it is to appear")
    for name in _FLAGS:
        value = fields.get(name, False)
        if not isinstance(value, bool) and not (name == "idmap" and value is None):
            raise SpecError("mounts", given, f"{name} is True or False")
    for name in ("type", "source", "data", "propagation", "subpath"):
        if not isinstance(fields.get(name, ""), str):
            raise SpecError("mounts", given, f"{name} is a string")


def _mount_text(text: str) -> Mount:
    fields: dict[str, Any] = {"type": "volume"}
    data: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = _SYNONYMS.get(key, key)
        if key in ("type", "source", "target", "propagation", "subpath"):
            fields[key] = value
        elif key in _FLAGS:
            fields[key] = _flag(key, value, text) if equals else True
        elif key == "bind-nonrecursive":
            fields["recursive"] = not (_flag(key, value, text) if equals else True)
        elif key == "bind-recursive":
            fields["recursive"] = _recursive(value, text)
        elif key in ("tmpfs-size", "tmpfs-mode"):
            data.append(f"{key[6:]}={value}")
        elif (key, value) != ("volume-driver", "local") and key != "consistency":
            _refuse_key(key, text)
    if data:
        fields["data"] = ",".join(data)
    _check_fields(fields, text)
    return Mount(**fields)


def _refuse_key(key: str, given: str) -> None:
    if key.startswith(("bind-", "volume-")):
        raise UnsupportedError(f"mount option {key!r}", "not in this version of pylxc; leave it out")
    raise SpecError("mounts", given, f"{key!r} is no key of a mount; there are type, source, target, readonly")


def _recursive(value: str, given: str) -> bool:
    """Return what docker's ``bind-recursive`` says. A read-only bind is read-only all the way down in any case."""
    if value == "writable":
        raise UnsupportedError(
            "bind-recursive=writable", "readonly holds for what is mounted below too; bind that apart"
        )
    if value not in ("enabled", "disabled", "readonly"):
        raise SpecError("mounts", given, f'bind-recursive is "enabled", "disabled" or "readonly", not {value!r}')
    return value != "disabled"


def _flag(key: str, value: str, given: object) -> bool:
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise SpecError("mounts", given, f'{key} is "true" or "false", not {value!r}')
