"""The tree of exceptions. Every failure of pylxc is one of these, and carries its facts as fields.

::

    PylxcError
    ├── SpecError (ValueError)          an option or an argument cannot be used as given
    ├── NotFound (LookupError)
    │   ├── ImageNotFound
    │   ├── ContainerNotFound
    │   ├── NetworkNotFound
    │   └── VolumeNotFound
    ├── Conflict                        the name is taken, the thing is in use
    ├── ExitError                       a command ended with a non-zero status
    ├── TimeoutExpired (TimeoutError)   a time limit passed
    ├── SpawnError                      the kernel refused a step of starting a process
    ├── BuildError                      a step of a build failed
    ├── DockerfileError                 a Dockerfile cannot be read
    ├── RegistryError
    │   └── AuthError
    ├── IntegrityError                  bytes are not what their digest says
    ├── StoreError                      the store cannot be used, or cannot be written
    ├── UnsupportedError                this host or this version cannot do it
    └── ComposeError

Invariant: facts are read from fields, never parsed out of the message; every error survives pickling.
This module imports nothing of pylxc.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pylxc.build.failed import FailedStep
    from pylxc.container import Container
    from pylxc.result import Result


EXCERPT = 160  # characters of a line that an error shows


class PylxcError(Exception):
    """Base of all errors of pylxc. ``str(error)`` says what failed, where, and what to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields: subclasses take keyword-only arguments, which ``Exception`` would lose."""
        return _rebuild, (type(self), self.args, self._picklable_fields())

    def _picklable_fields(self) -> dict[str, Any]:
        return dict(self.__dict__)


def _rebuild(kind: type[PylxcError], args: tuple[Any, ...], fields: dict[str, Any]) -> PylxcError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class SpecError(PylxcError, ValueError):
    """An option cannot be used as given.

    Fields: ``option`` (its name), ``value`` (as given), ``remedy`` (what would do).
    """

    def __init__(self, option: str, value: object, remedy: str) -> None:
        super().__init__(f"{option}={value!r}: {remedy}")
        self.option = option
        self.value = value
        self.remedy = remedy


class NotFound(PylxcError, LookupError):  # noqa: N818  the public contract fixes the name
    """Something was asked for by a name that nothing bears. Fields: ``kind``, ``name``."""

    kind = "object"

    def __init__(self, name: str, remedy: str = "") -> None:
        super().__init__(f"no {self.kind} named {name!r}" + (f": {remedy}" if remedy else ""))
        self.name = name
        self.remedy = remedy


class ImageNotFound(NotFound):
    """No image bears this reference or id."""

    kind = "image"


class ContainerNotFound(NotFound):
    """No container bears this name or id."""

    kind = "container"


class NetworkNotFound(NotFound):
    """No network bears this name."""

    kind = "network"


class VolumeNotFound(NotFound):
    """No volume bears this name."""

    kind = "volume"


class Conflict(PylxcError):  # noqa: N818  the public contract fixes the name
    """The name is taken or the thing is in use. Fields: ``name``, ``reason``."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class ExitError(PylxcError):
    """A command ended with a non-zero status. Field: ``result``, the whole :class:`~pylxc.Result`."""

    def __init__(self, command: tuple[str, ...], result: Result) -> None:
        ended = f"was ended by signal {result.signal}" if result.signal else f"exited with {result.exit_code}"
        tail = _last_lines(result.stderr or result.stdout)
        super().__init__(f"{' '.join(command)!r} {ended}" + (f"\n{tail}" if tail else ""))
        self.command = command
        self.result = result


class TimeoutExpired(PylxcError, TimeoutError):  # noqa: N818  the public contract fixes the name
    """A time limit passed. Fields: ``timeout`` (s), ``stdout`` and ``stderr`` (bytes captured so far)."""

    def __init__(self, what: str, timeout: float, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(f"{what} did not end within {timeout:g} s")
        self.what = what
        self.timeout = timeout
        self.stdout = stdout
        self.stderr = stderr


class SpawnError(PylxcError):
    """The kernel refused a step of starting a process.

    Fields: ``stage`` (the step's name, for example ``"mount"``, ``"user"`` or ``"exec"``), ``errno``,
    ``subject`` (the mount, user or program in question), ``exit_code`` (what a shell would report: 127 for a
    program that is not there, 126 for one that cannot be executed, 125 otherwise).
    """

    def __init__(self, stage: str, errno: int, subject: str) -> None:
        super().__init__(f"{stage}: {subject}: {os.strerror(errno)}")
        self.stage = stage
        self.errno = errno
        self.subject = subject

    @property
    def exit_code(self) -> int:
        """The status a shell gives for this failure (POSIX.1-2017, XCU 2.8.2)."""
        import errno  # noqa: PLC0415  shadows the field's name at module level

        if self.stage != "exec":
            return 125
        return 127 if self.errno in (errno.ENOENT, errno.ENOTDIR) else 126


class BuildError(PylxcError):
    """A step of a build failed.

    Fields: ``step`` (counted from 1), ``line`` (in the Dockerfile, from 1), ``instruction`` (its text),
    ``exit_code`` (of a RUN, else None), ``output`` (bytes: the last of what the step wrote), ``container`` (the failed
    RUN's root file system as a running container, else None).

    The container is made when it is first asked for, and belongs to this process as others do: it is there until it is
    removed, or the process ends. Until then the step's files are kept for as long as the error is. Asking for it raises
    SpawnError where the file system has no shell to wait in. It does not survive pickling.

    Example:
        >>> try:                                                                    # doctest: +SKIP
        ...     pylxc.Image.build("app")
        ... except pylxc.BuildError as error:
        ...     with error.container as container:
        ...         print(container.exec(["cat", "/app/config.log"]).text)

    """

    def __init__(  # noqa: PLR0913  one field each, fixed by the public contract
        self,
        reason: str,
        *,
        step: int,
        line: int,
        instruction: str,
        exit_code: int | None = None,
        output: bytes = b"",
        container: Container | None = None,
    ) -> None:
        tail = _last_lines(output)
        super().__init__(f"step {step} (line {line}): {instruction}: {reason}" + (f"\n{tail}" if tail else ""))
        self.reason = reason
        self.step = step
        self.line = line
        self.instruction = instruction
        self.exit_code = exit_code
        self.output = output
        self._container = container
        self._kept: FailedStep | None = None

    @property
    def container(self) -> Container | None:
        """The failed step's root file system as a running container, made with the first look at it."""
        if self._container is None and self._kept is not None:
            kept, self._kept = self._kept, None
            self._container = kept.container()
        return self._container

    def keep(self, failed: FailedStep) -> None:
        """Carry what a container can be made of."""
        self._kept = failed

    def _picklable_fields(self) -> dict[str, Any]:
        return {**self.__dict__, "_container": None, "_kept": None}


class DockerfileError(PylxcError):
    """A Dockerfile cannot be read.

    Fields: ``path``, ``line`` and ``column`` (from 1), ``source`` (the offending line's text), ``reason``.
    """

    def __init__(  # noqa: PLR0913  one field each, and how much of the line to mark
        self, reason: str, *, line: int, column: int, source: str = "", path: str = "Dockerfile", width: int = 1
    ) -> None:
        super().__init__(f"{path}:{line}:{column}: {reason}{_excerpt(source, column, width)}")
        self.reason = reason
        self.path = path
        self.line = line
        self.column = column
        self.source = source


class RegistryError(PylxcError):
    """A registry refused or failed. Fields: ``status`` (HTTP, or 0), ``code`` (the registry's own word)."""

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AuthError(RegistryError):
    """A registry refused the credentials."""


class IntegrityError(PylxcError):
    """Bytes are not what their digest says. Fields: ``subject``, ``expected``, ``actual``."""

    def __init__(self, subject: str, expected: str, actual: str) -> None:
        super().__init__(f"{subject}: expected {expected}, found {actual}")
        self.subject = subject
        self.expected = expected
        self.actual = actual


class StoreError(PylxcError):
    """The store cannot be used or written. Fields: ``path``, ``reason``."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason


class UnsupportedError(PylxcError):
    """What is asked for cannot be done by this host, or by this version of pylxc. Fields: ``feature``, ``remedy``."""

    def __init__(self, feature: str, remedy: str) -> None:
        super().__init__(f"{feature}: {remedy}")
        self.feature = feature
        self.remedy = remedy


class ComposeError(PylxcError):
    """An environment file cannot be used. Fields: ``file``, ``line`` (from 1), ``key``."""

    def __init__(self, reason: str, *, file: str, line: int, key: str) -> None:
        super().__init__(f"{file}:{line}: {key}: {reason}")
        self.reason = reason
        self.file = file
        self.line = line
        self.key = key


def _excerpt(source: str, column: int, width: int) -> str:
    """Show a line and mark ``width`` characters of it from ``column`` on; of a long line only what lies around."""
    if not source:
        return ""
    first = max(column - 1 - EXCERPT // 2, 0) if len(source) > EXCERPT else 0
    shown = source[first : first + EXCERPT]
    place = column - 1 - first
    return f"\n  {shown}\n  {' ' * place}{'^' * max(min(width, len(shown) - place), 1)}"


def _last_lines(data: bytes, count: int = 20) -> str:
    return "\n".join(data.decode("utf-8", "replace").rstrip().splitlines()[-count:])
