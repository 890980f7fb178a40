"""``RUN --mount=...``: read where it stands, and resolved once its variables have values.

Hides the CSV form, the keys with their other names, and which key goes with which type. Invariant: a
:class:`RunMount` is sound: every field is one that its type has.

Source: Dockerfile reference, "RUN --mount"; RFC 4180 for the quotes.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pylxc.build.instructions import MountFlag, Word
from pylxc.build.words import WordError
from pylxc.errors import SpecError
from pylxc.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_OTHER_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
# Every type takes these, used or not; what goes with some types only is refused with the others.
_COMMON = {"source", "target", "readonly", "readwrite", "id"}
_OF_TYPE = {
    "bind": _COMMON | {"from"},
    "cache": _COMMON | {"from", "sharing", "mode", "uid", "gid"},
    "tmpfs": _COMMON | {"from", "size"},
    "secret": _COMMON | {"env", "required", "mode", "uid", "gid"},
    "ssh": _COMMON | {"from", "required", "mode", "uid", "gid"},
}
_KEYS = {"type"}.union(*_OF_TYPE.values())
_ALONE = ("readonly", "readwrite", "required")  # keys that mean "true" without a value
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_FIELD = re.compile(r'"([^"]*(?:""[^"]*)*)"|([^",]*)')
_ID_LIMIT = 2**32 - 1


class MountFlagError(WordError):
    """A mount cannot be read. ``offset`` is in the logical line."""


@frozen(kw_only=True)
class RunMount:
    """One mount of a RUN. What is not given is None (or ""); the defaults are those of the reference.

    ``type`` is one of "bind", "cache", "tmpfs", "secret", "ssh"; ``stage`` is what ``from`` names; ``size`` bytes;
    ``mode`` permission bits; ``env`` the variable that a secret is given in.
    """

    type: str = "bind"
    target: str = ""
    source: str = ""
    stage: str = ""
    read_only: bool = True
    id: str = ""
    sharing: str = ""
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    env: str = ""


def read(word: Word) -> MountFlag:
    """Read the value of ``--mount``. Raises :class:`MountFlagError` for what no variable can make right."""
    fields: list[tuple[str, Word | None]] = []
    for field in _csv(word):
        key, equals, value = field.text.partition("=")
        name = key.lower()
        name = _OTHER_NAMES.get(name, name)
        if name not in _KEYS:
            raise MountFlagError(f"unknown key {key!r} of --mount{_suggestion(name)}", field.offset)
        if not equals and name not in _ALONE:
            raise MountFlagError(f"--mount: {key} needs a value: {key}=...", field.offset)
        if name == "from" and "$" in value[:-1]:
            reason = "--mount: from takes no variables; name a stage that is FROM the variable"
            raise MountFlagError(reason, field.offset)
        fields.append((name, Word(value, field.offset + len(key) + 1) if equals else None))
    flag = MountFlag(tuple(fields), word.offset)
    if not any(value is not None and "$" in value.text for _, value in fields):
        resolve(flag, lambda value: value.text)  # what is wrong shows at once
    return flag


def resolve(flag: MountFlag, expand: Callable[[Word], str]) -> RunMount:
    """Give the mount once ``expand`` has put the variables in. Raises :class:`MountFlagError`."""
    values: dict[str, tuple[str, Word]] = {}
    for name, word in flag.fields:
        place = word or Word("", flag.offset)
        values[name] = ("true" if word is None else expand(word), place)
    kind, place = values.pop("type", ("bind", Word("", flag.offset)))
    kind = kind.lower()
    if kind not in TYPES:
        raise MountFlagError(f"unknown type {kind!r} of --mount: there are {', '.join(TYPES)}", place.offset)
    for name, (_, where) in values.items():
        if name not in _OF_TYPE[kind]:
            raise MountFlagError(f"--mount: {name} does not go with type={kind}", where.offset)
    made = RunMount(
        type=kind,
        read_only=_read_only(kind, values),
        required=_boolean(values, "required", default=False),
        sharing=_sharing(values),
        stage=_text(values, "from"),
        size=_size(values),
        mode=_number(values, "mode", 8),
        uid=_number(values, "uid", 10),
        gid=_number(values, "gid", 10),
        **{name: _text(values, name) for name in ("target", "source", "id", "env")},
    )
    if kind == "secret":
        _check_secret(made, flag)
    return made


def complete(made: RunMount, workdir: str, agents: int, offset: int) -> RunMount:
    """Give a mount with its defaults: absolute paths, and the id of what has one.

    ``workdir`` is where a relative target begins, ``agents`` how many ssh mounts come before. A secret for a variable
    may be without a target. Raises :class:`MountFlagError`, with ``offset``.
    """
    name, target = made.id, made.target
    if made.type == "secret":
        name = made.source or made.id or posixpath.basename(target.rstrip("/"))
        if not target and not made.env:
            target = f"/run/secrets/{posixpath.basename(name)}"
    elif made.type == "ssh":
        name = name or "default"
        target = target or f"/run/buildkit/ssh_agent.{agents}"
    elif not target:
        raise MountFlagError(f"--mount: type={made.type} needs a target", offset)
    elif made.type == "cache":
        name = name or posixpath.normpath(target)
        if made.source and not made.stage:
            raise MountFlagError("--mount: the source of a cache is a path of what from= names; give that too", offset)
    target = target and _inside(target, workdir, offset)
    source = _absolute(made.source, "/") if made.type in ("bind", "cache") else ""
    sharing = (made.sharing or "shared") if made.type == "cache" else ""
    return evolve(made, id=name, target=target, source=source, sharing=sharing)


def _inside(target: str, workdir: str, offset: int) -> str:
    path = _absolute(target, workdir)
    if path == "/":
        raise MountFlagError(f"--mount: target {target!r} is the root; give a path below it", offset)
    if path == "/proc" or path.startswith("/proc/"):
        reason = "nothing can be mounted over /proc: programs trust what it says"
        raise MountFlagError(f"--mount: target {target!r}: {reason}", offset)
    return path


def _absolute(path: str, workdir: str) -> str:
    return "/" + posixpath.normpath(posixpath.join("/", workdir, path)).lstrip("/")


def _check_secret(made: RunMount, flag: MountFlag) -> None:
    if not (made.source or made.target or made.id):
        raise MountFlagError("--mount: a secret needs an id or a target", flag.offset)
    if made.source and made.id:
        raise MountFlagError("--mount: a secret has a source or an id, not both", flag.offset)


def _text(values: dict[str, tuple[str, Word]], name: str) -> str:
    return values[name][0] if name in values else ""


def _boolean(values: dict[str, tuple[str, Word]], name: str, *, default: bool) -> bool:
    if name not in values:
        return default
    text, word = values[name]
    if text not in (*_TRUE, *_FALSE):
        raise MountFlagError(f"--mount: {name}={text}: give true or false", word.offset)
    return text in _TRUE


def _read_only(kind: str, values: dict[str, tuple[str, Word]]) -> bool:
    answer = kind not in ("cache", "tmpfs")
    for name in values:  # of several the last counts
        if name == "readonly":
            answer = _boolean(values, name, default=True)
        elif name == "readwrite":
            answer = not _boolean(values, name, default=True)
    return answer


def _sharing(values: dict[str, tuple[str, Word]]) -> str:
    text = _text(values, "sharing").lower()
    if text and text not in SHARINGS:
        reason = f"--mount: sharing={text}: give one of {', '.join(SHARINGS)}"
        raise MountFlagError(reason, values["sharing"][1].offset)
    return text


def _number(values: dict[str, tuple[str, Word]], name: str, base: int) -> int | None:
    if name not in values:
        return None
    text, word = values[name]
    digits = "[0-7]{1,12}" if base == 8 else "[0-9]{1,12}"  # noqa: PLR2004  octal
    if not re.fullmatch(digits, text) or int(text, base) > _ID_LIMIT:
        what = "octal digits" if base == 8 else f"a number up to {_ID_LIMIT}"  # noqa: PLR2004
        raise MountFlagError(f"--mount: {name}={text}: give {what}", word.offset)
    return int(text, base)


def _size(values: dict[str, tuple[str, Word]]) -> int | None:
    if "size" not in values:
        return None
    text, word = values["size"]
    try:
        return parse_size(text, "size")
    except SpecError as error:
        raise MountFlagError(f"--mount: size={text}: {error.remedy}", word.offset) from None


def _csv(word: Word) -> list[Word]:
    """Split one record of comma-separated values."""
    text, at, fields = word.text, 0, []
    while True:
        match = _FIELD.match(text, at)
        end = match.end() if match else at
        if match is None or (end < len(text) and text[end] != ","):
            reason = "--mount: a '\"' may only stand around a whole key=value, and is written twice inside"
            raise MountFlagError(reason, word.offset + end)
        quoted = match[1]
        value = match[2] if quoted is None else quoted.replace('""', '"')
        fields.append(Word(value, word.offset + at + (quoted is not None)))
        if end == len(text):
            return fields
        at = end + 1


def _suggestion(name: str) -> str:
    import difflib  # noqa: PLC0415  only for the error

    near = difflib.get_close_matches(name, _KEYS, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(sorted(_KEYS))}"
