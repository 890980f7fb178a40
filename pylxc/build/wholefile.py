"""A file that is there when it is whole: archives are written to it as to any stream.

Invariant: what fails leaves neither the file nor a part of it, and what was there under the name before.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol

from pylxc.errors import SpecError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sink(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""

    def flush(self) -> object:
        """Let nothing of it stay behind."""


@contextmanager
def whole_file(target: str | os.PathLike[str] | IO[bytes]) -> Iterator[Sink]:
    """Give what the archive is written to: a stream as it is; a file that gets its name in the end.

    Raises SpecError when it is neither, StoreError when it cannot be written.
    """
    if not isinstance(target, (str, os.PathLike)):
        if not hasattr(target, "write"):
            raise SpecError("target", type(target), "give a path or a binary stream, such as io.BytesIO()")
        yield _Whole(target)
        return
    path = os.fspath(target)
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH110, PTH116
            with open(path, "wb") as file:  # noqa: PTH123  a pipe or a terminal: nothing to be renamed
                yield file
        else:
            with _named_in_the_end(path) as file:
                yield file
    except OSError as error:
        raise StoreError(path, f"cannot be written: {error.strerror}") from error


@contextmanager
def _named_in_the_end(path: str) -> Iterator[IO[bytes]]:
    directory, name = os.path.split(os.path.realpath(path))
    temporary = f"{directory}/.{name[:64]}.{os.urandom(6).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)  # images may hold secrets
    try:
        with open(fd, "wb") as file:  # noqa: PTH123  a descriptor
            yield file
        os.rename(temporary, f"{directory}/{name}")  # noqa: PTH104
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise


class _Whole:
    """Writes all to a stream, which may take less at once when it is not buffered."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            taken = self._stream.write(view)
            view = view[taken if isinstance(taken, int) else len(view) :]

    def flush(self) -> None:
        self._stream.flush()
