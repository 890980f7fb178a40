"""What runs in a container, and as whom: words, variables, users, signals.

Invariant: what comes out can be handed to execve(2) and kill(2) as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pylxc.errors import SpecError
from pylxc.normalise.forms import items_of, number_in, pairs_of

# What execve(2) takes of arguments and environment however large the stack: bprm_stack_limits, fs/exec.c.
_ENVIRONMENT_LIMIT = 6 << 20
_REALTIME = r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?"
_ID_LIMIT = 2**31 - 1  # beyond it, uid_t reads as negative in many programs; runtimes agree on this bound
_SIGNAL_LIMIT = 64


def words(option: str, value: Any) -> tuple[str, ...]:
    """Return a command. A string is cut into words as a shell would, but nothing in it is expanded."""
    if isinstance(value, str):
        import shlex  # noqa: PLC0415  rarely needed: most commands come as lists

        try:
            value = shlex.split(value)
        except ValueError as error:
            raise SpecError(option, value, f"{error}; give a list of words") from error
    elif isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError(option, value, 'give a list of words, such as ["echo", "hello"]')
    words = []
    for item in value:
        if not isinstance(item, (str, bytes, os.PathLike)):
            raise SpecError(option, item, "each word is a string")
        word = os.fsdecode(item)
        if "\0" in word:
            raise SpecError(option, word, "a NUL byte cannot be passed to a program")
        words.append(word)
    return tuple(words)


def environment(option: str, value: Any) -> dict[str, str]:
    """Return variables by name; the caller's own value of one that has none."""
    env: dict[str, str] = {}
    for name, content in pairs_of(option, value):
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise SpecError(option, name, "a variable's name cannot be empty or hold '=' or NUL")
        if content is None:  # as in docker: inherited, and left out where the caller has none
            if name in os.environ:
                env[name] = os.environ[name]
        elif isinstance(content, bool) or not isinstance(content, (str, int, float)):
            raise SpecError(option, {name: content}, "a variable's value is a string or a number")
        elif isinstance(content, str) and "\0" in content:
            raise SpecError(option, {name: content}, "a variable's value cannot hold a NUL byte")
        else:
            env[name] = str(content)
    size = sum(len(name) + len(content) for name, content in env.items())
    if size > _ENVIRONMENT_LIMIT:
        remedy = f"the kernel hands a program at most {_ENVIRONMENT_LIMIT} bytes; put long values into files"
        raise SpecError(option, f"{len(env)} variables, {size} characters", remedy)
    return env


def read_env_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the variables of a file with lines ``NAME=value`` (taken as it stands), ``NAME`` (inherited) or ``# ...``.

    Raises SpecError: the file cannot be read, or a line names no variable.
    Source: https://docs.docker.com/reference/cli/docker/container/run/#env
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123  pathlib costs a millisecond to import
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecError("env_file", os.fspath(path), f"cannot be read: {reason}") from error
    env: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.lstrip().removesuffix("\r")
        if not text or text.startswith("#"):
            continue
        name = text.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            where = f"line {number} of {os.fspath(path)}"
            raise SpecError("env_file", text, f"{where}: give NAME=value; a name cannot be empty or hold spaces")
        env.update(environment("env_file", [text]))
    return env


def user(option: str, value: Any) -> str | None:
    """Return a user as text: a name or an id, with a group or without; None for the image's."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text == "":
        return None
    if not isinstance(text, str) or any(part == "" for part in text.split(":")) or text.count(":") > 1:
        raise SpecError(option, value, 'give a name, a uid, "user:group" or "uid:gid"')
    if any(not character.isprintable() or character in "/ " for character in text):
        raise SpecError(option, value, "a user's name cannot hold spaces, slashes or control characters")
    for part in text.split(":"):
        if part.lstrip("-").isdigit() and not (part.isascii() and number_in(part, 0, _ID_LIMIT) >= 0):
            raise SpecError(option, value, f"an id lies between 0 and {_ID_LIMIT}")
    return text


def groups(option: str, value: Any) -> tuple[str, ...]:
    """Return additional groups, by name or gid, each once."""
    items = [value] if isinstance(value, int) else items_of(option, value)
    found = dict.fromkeys(user(option, item) for item in items)
    if any(group is None or ":" in group for group in found):
        raise SpecError(option, value, "give names or numbers of groups")
    return tuple(group for group in found if group is not None)


def signal_number(value: int | str, option: str = "signal") -> int:
    """Return a signal's number, from its number or its name: 15, ``"15"``, ``"TERM"``, ``"SIGTERM"``, ``"RTMIN+3"``.

    Raises SpecError: there is no such signal. Source: signal(7).
    """
    import signal  # noqa: PLC0415  not on the path of a start

    name = str(value).upper().removeprefix("SIG")
    realtime = re.fullmatch(_REALTIME, name)
    if name.isdigit():
        number = number_in(name, 1, _SIGNAL_LIMIT)
    elif realtime:
        base, sign, offset = realtime.groups()
        number = int(signal.SIGRTMIN if base == "MIN" else signal.SIGRTMAX) + int(f"{sign or '+'}{offset or 0}")
        number = number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
    else:
        number = int(getattr(signal.Signals, f"SIG{name}", 0)) if name.isalnum() else 0
    if not 1 <= number <= _SIGNAL_LIMIT:
        raise SpecError(option, value, 'give a signal by name or number, such as "TERM" or 15')
    return number


def signal_name(number: int) -> str:
    """Return a signal's name, for example ``"SIGTERM"`` or ``"SIGRTMIN+3"``."""
    import signal  # noqa: PLC0415  not on the path of a start

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def signal_of(option: str, value: Any) -> str:
    """Return a signal's name, from its name or its number."""
    return signal_name(signal_number(value, option))
