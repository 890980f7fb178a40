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

import attrs

from pylxc.errors import SpecError, UnsupportedError
from pylxc.units import parse_size

if TYPE_CHECKING:
    MountType = Literal["bind", "volume", "tmpfs"]

# Patterns are compiled where they are first used (re keeps them): importing stays cheap.
_VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_TMPFS_KEYS = r"(?:size|mode|uid|gid|nr_inodes|nr_blocks|inode64|inode32|huge)(?:=[a-zA-Z0-9_%]+)?"
# Mount options that are attributes of the mount itself: name -> (field, value).
_ATTRIBUTES = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "readonly": ("read_only", True),
    "nosuid": ("nosuid", True),
    "suid": ("nosuid", False),
    "nodev": ("nodev", True),
    "dev": ("nodev", False),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
}
_PRIVATE = ("private", "rprivate", "defaults", "nocopy", "consistent", "cached", "delegated")
_LATER = ("z", "Z", "U", "shared", "rshared", "slave", "rslave", "idmap")
_SYNONYMS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "bind": "target",
    "readonly": "read_only",
    "ro": "read_only",
}


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


@attrs.frozen(kw_only=True)
class Mount:
    """One mount of a container.

    - ``type``: ``"bind"`` (a path of the host), ``"volume"`` (a named volume), ``"tmpfs"`` (memory).
    - ``target``: where it appears in the container.
    - ``source``: the host path or the volume's name; empty for a tmpfs.
    - ``read_only``, ``nosuid``, ``nodev``, ``noexec``: attributes of the mount. The last three are on by default for a
      tmpfs, as in docker, and off for a bind.
    - ``data``: further options of a tmpfs, for example ``"size=67108864,mode=1777"``.

    Raises SpecError. Source: mount(8), tmpfs(5).

    Example::

        Mount(type="bind", source="/srv/data", target="/data", read_only=True)
    """

    type: MountType
    target: str = attrs.field(converter=_target)
    source: str = ""
    read_only: bool = False
    nosuid: bool = attrs.field(default=attrs.Factory(lambda self: self.type == "tmpfs", takes_self=True))
    nodev: bool = attrs.field(default=attrs.Factory(lambda self: self.type == "tmpfs", takes_self=True))
    noexec: bool = attrs.field(default=attrs.Factory(lambda self: self.type == "tmpfs", takes_self=True))
    data: str = ""

    def __attrs_post_init__(self) -> None:
        """Check what depends on the type."""
        if self.type == "bind":
            object.__setattr__(self, "source", host_path(self.source, "mounts"))
        elif self.type == "volume":
            if self.source and not re.fullmatch(_VOLUME_NAME, self.source):
                raise SpecError(
                    "mounts", self.source, "a path of the host starts with / or ./; a volume's name is [a-zA-Z0-9_.-]"
                )
        elif self.type != "tmpfs":
            raise SpecError("mounts", self.type, 'the type is "bind", "volume" or "tmpfs"')
        elif self.source:
            raise SpecError("mounts", self.source, "a tmpfs has no source")
        if self.data:
            object.__setattr__(self, "data", _tmpfs_data(self))


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
        if option in _ATTRIBUTES:
            field, value = _ATTRIBUTES[option]
            fields[field] = value
        elif option in _LATER:
            raise UnsupportedError(f"mount option {option!r}", "comes in a later version of pylxc; leave it out")
        elif fields["type"] == "tmpfs" and option:
            data.append(option)
        elif option and option not in _PRIVATE:
            raise SpecError("volumes", given, f'{option!r} is no mount option; give "ro", "rw", "nosuid", "noexec"')
    if data:
        fields["data"] = ",".join(data)
    return Mount(**fields)


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
    names = attrs.fields_dict(Mount)
    unknown = sorted(set(fields) - set(names))
    if unknown:
        raise SpecError("mounts", given, f"{unknown[0]!r} is no field of a mount; there are {', '.join(names)}")
    if "target" not in fields:
        raise SpecError("mounts", given, "the target is missing: where in the container it is to appear")
    for name in ("read_only", "nosuid", "nodev", "noexec"):
        if not isinstance(fields.get(name, False), bool):
            raise SpecError("mounts", given, f"{name} is True or False")
    for name in ("type", "source", "data"):
        if not isinstance(fields.get(name, ""), str):
            raise SpecError("mounts", given, f"{name} is a string")


def _mount_text(text: str) -> Mount:
    fields: dict[str, Any] = {"type": "volume"}
    data: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = _SYNONYMS.get(key, key)
        if key == "read_only":
            fields[key] = _flag(value, text) if equals else True
        elif key in ("type", "source", "target"):
            fields[key] = value
        elif key in ("tmpfs-size", "tmpfs-mode"):
            data.append(f"{key[6:]}={value}")
        elif key == "bind-propagation" and value in _PRIVATE:
            pass
        elif key.startswith(("bind-", "volume-")) or key == "consistency":
            raise UnsupportedError(f"mount option {key!r}", "comes in a later version of pylxc; leave it out")
        else:
            raise SpecError("mounts", text, f"{key!r} is no key of a mount; there are type, source, target, readonly")
    if data:
        fields["data"] = ",".join(data)
    _check_fields(fields, text)
    return Mount(**fields)


def _flag(value: str, given: object) -> bool:
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise SpecError("mounts", given, f'readonly is "true" or "false", not {value!r}')
