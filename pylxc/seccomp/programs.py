"""Keeps compiled filters: in memory for this process, on disk for all that use the store.

Invariant: what comes out was made by this version's compiler from exactly the profile asked for; a file that was
damaged, or cut short by a crash, is noticed by its digest and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from pylxc.spec import ContainerSpec

UNCONFINED, DEFAULT = "unconfined", "default"
DIGEST_SIZE = 32


def normalise(option: str, value: Any) -> str:
    """Return the option ``seccomp`` in its one form: "unconfined", "default", or a profile as JSON text.

    A path is read here: what the container gets does not depend on what becomes of the file. Raises SpecError.
    """
    if value in (UNCONFINED, DEFAULT):
        return str(value)
    if isinstance(value, dict):
        document = value
    elif isinstance(value, (str, os.PathLike)):
        document = _decode(
            option, _read(option, value) if not str(value).lstrip().startswith("{") else str(value), value
        )
    else:
        raise SpecError(option, value, 'give "unconfined", or a profile as a path, a JSON text or a dict')
    try:
        text = json.dumps(document, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise SpecError(option, value, f"is no JSON: {error}") from error
    _compile(text, 0)  # so that a mistake in it is found now
    return text


def _read(option: str, path: str | os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        raise SpecError(option, os.fspath(path), f"cannot be read as a profile: {error}") from error


def _decode(option: str, text: str, value: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SpecError(option, value, f"is not JSON: {error}") from error


def program_for(spec: ContainerSpec, directory: str) -> bytes:
    """Return the filter of a container, b"" for none. ``directory`` is where compiled ones are kept."""
    if spec.seccomp == UNCONFINED or (spec.privileged and spec.seccomp is None):
        return b""
    text = spec.seccomp if spec.seccomp not in (None, DEFAULT) else ""
    return _program(text or "", spec.capability_mask(), directory)


@lru_cache(maxsize=64)
def _program(text: str, capabilities: int, directory: str) -> bytes:
    path = f"{directory}/{_key(text, capabilities)}.bpf"
    program = _load(path)
    if program is None:
        program = _compile(text, capabilities)
        _keep(path, program)
    return program


def _key(text: str, capabilities: int) -> str:
    from pylxc.seccomp.compiler import VERSION  # noqa: PLC0415

    host = os.uname()
    with open(__file__.replace("programs.py", "default.py"), "rb") as file:  # noqa: PTH123
        profile = text.encode() if text else file.read()
    words = f"{VERSION} {capabilities} {host.machine} {host.release}".encode()
    return hashlib.sha256(words + b"\0" + profile).hexdigest()


def _compile(text: str, capabilities: int) -> bytes:
    from pylxc.capabilities import CAPABILITIES  # noqa: PLC0415  needed for the first container of a kind only
    from pylxc.seccomp.compiler import compile_profile  # noqa: PLC0415
    from pylxc.seccomp.default import default_profile  # noqa: PLC0415
    from pylxc.seccomp.profile import Host, parse  # noqa: PLC0415

    names = frozenset(name for number, name in enumerate(CAPABILITIES) if capabilities >> number & 1)
    host = os.uname()
    major, minor = host.release.split(".")[:2]
    kernel = (int(major), int("".join(character for character in minor if character.isdigit())))
    document = json.loads(text) if text else default_profile()
    return compile_profile(parse(document, Host(names, host.machine, kernel)))


def _load(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    digest, program = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    return program if program and hashlib.sha256(program).digest() == digest else None


def _keep(path: str, program: bytes) -> None:
    """Write a program down, whole or not at all. A disk that is full or read-only costs the time of the next one."""
    temporary = f"{path}.{os.urandom(6).hex()}"
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        try:
            with open(temporary, "xb") as file:  # noqa: PTH123
                file.write(hashlib.sha256(program).digest() + program)
            os.rename(temporary, path)  # noqa: PTH104
        except OSError:
            os.unlink(temporary)  # noqa: PTH108
            raise
