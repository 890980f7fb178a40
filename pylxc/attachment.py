"""What a container writes as it writes it, and its standard input: what ``attach`` gives.

The output is read from the container's log and the input goes straight to the process, so any number of attachments may
be made and left, by any processes, and one that is never read costs the container nothing.

Invariant: an attachment only ever watches; making and leaving one changes nothing for the container.
"""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.errors import Conflict, SpecError, TimeoutExpired
from pylxc.launching import ALIVE
from pylxc.runtime import control
from pylxc.runtime.logs import Pieces, is_there
from pylxc.runtime.process import wait_readable
from pylxc.runtime.waiting import readable, steps_of, waits, writable
from pylxc.runtime.watching import Watch
from pylxc.scoped import Scoped
from pylxc.streams import check_size, set_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.container import Container
    from pylxc.runtime.waiting import Waiting

_NOBODY = (errno.EIO, errno.EPIPE)  # what a terminal, or a pipe, says when nobody has its other end open


@frozen
class Output:
    """A piece of what a container wrote: ``stream`` ("stdout" or "stderr") and ``data``, the very bytes.

    A piece is neither a line nor what one call of the program wrote: only all pieces together are what it wrote.
    """

    stream: str
    data: bytes


class StandardInput:
    r"""The standard input of a container, which several attachments may share: a file to write to, without a buffer.

    ``fileno()`` makes it fit for ``select`` and ``poll``; :meth:`offer` never waits.

    Example:
        >>> attachment.stdin.write(b"ls\n")                                         # doctest: +SKIP
        3

    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._directory = container._directory()  # noqa: SLF001  of one make
        self._has_terminal = container.spec.tty
        self._size: tuple[int, int] | None = None
        self._fd = -1
        self.closed = False

    @waits
    def write(self, data: bytes) -> Waiting[int]:
        """Write all of it; waits for as long as the container does not read. Return its length.

        Raises BrokenPipeError when there is nobody to read it; ValueError when it was closed.
        """
        rest = memoryview(data)
        while rest:
            count = self.offer(rest)
            rest = rest[count:]
            if not count:
                yield from writable(self._fd)
        return len(data)

    def offer(self, data: bytes | memoryview) -> int:
        """Write what is taken without waiting; return how many bytes that is. Errors are those of :meth:`write`."""
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _NOBODY:
                raise
            self._leave()
            raise BrokenPipeError(errno.EPIPE, f"container {self._container.name} does not read any more") from error

    def flush(self) -> None:
        """Do nothing, for files have it: what was written is on its way."""

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal; one that is not there, or not there now, is no error."""
        self._size = (rows, columns)
        with suppress(BrokenPipeError):
            set_size(self._descriptor(), self._size)

    def fileno(self) -> int:
        """Return the descriptor. Raises BrokenPipeError when the container does not run; ValueError when closed."""
        if self.closed:
            raise ValueError("standard input was closed")
        return self._descriptor()

    def close(self) -> None:
        r"""Tell the container that nothing more comes. It knows when every attachment that wrote has closed or ended.

        With a terminal this says nothing, as nothing but a key does: write ``b"\x04"`` at the beginning of a line.
        """
        if not self.closed and not self._has_terminal:
            control.end_input(self._directory)
            self._leave()
        self.closed = True

    def release(self) -> None:
        """Close the descriptor and say nothing to the container; a second time does nothing."""
        self._leave()
        self.closed = True

    def _descriptor(self) -> int:
        if self._has_terminal and self._fd >= 0 and _is_hung_up(self._fd):
            self._leave()  # each start by the restart policy has a terminal of its own
        if self._fd < 0:
            self._fd = self._ask()
            if self._size is not None:
                set_size(self._fd, self._size)
        return self._fd

    def _ask(self) -> int:
        try:
            fd = control.standard_input(self._directory)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            fd = None  # between two starts by the policy there is no terminal
        if fd is None:
            raise BrokenPipeError(errno.EPIPE, f"container {self._container.name} does not run")
        return fd

    def _leave(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close what nobody closed."""
        self._leave()


def _is_hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


class Attachment(Scoped):
    r"""A running container as its terminal, or its pipes, would be seen: what it writes, and its standard input.

    Iterating over it yields :class:`Output` as it comes, until the container has ended for good; a start by the restart
    policy goes on. ``container`` is what it belongs to. ``stdin`` is a file to write to, without a buffer; it is None
    where the container has neither ``stdin=True`` nor a terminal, or none was asked for. As a context manager it is
    closed when the block is left; the container goes on.

    It may be used in one thread at a time; ``stdin`` in another.

    Example:
        >>> with container.attach() as attachment:                                  # doctest: +SKIP
        ...     attachment.stdin.write(b"status\n")
        ...     for output in attachment:
        ...         print(output.stream, output.data)

    """

    def __init__(self, container: Container, pieces: Pieces, watch: Watch, *, stdin: bool) -> None:
        self.container = container
        self._input = StandardInput(container)
        has_input = container.spec.stdin or container.spec.tty
        self.stdin: StandardInput | None = self._input if stdin and has_input else None
        self._pieces = pieces
        self._watch = watch
        self._more_fd = self._monitor_fd = -1
        self._may_be_more = False
        self._over = False
        self._ready = select.epoll()
        try:
            self._monitor, self._monitor_fd = container._monitor()  # noqa: SLF001  of one make
            self._more_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            for fd in (watch.fileno(), self._monitor_fd, self._more_fd):
                self._ready.register(fd, select.EPOLLIN)
        except BaseException:
            self.close()
            raise
        self._tell(may_be_more=True)

    @property
    def lost(self) -> bool:
        """Say whether there is a gap: the log has a limit, and what was not read yet was removed."""
        return self._pieces.lost

    def __iter__(self) -> Iterator[Output]:
        """Yield what comes, to the end."""
        while (output := self.read()) is not None:
            yield output

    @waits
    def read(self, timeout: float | None = None) -> Waiting[Output | None]:
        """Return the next piece of output, as soon as there is one; None when there never will be one.

        Raises TimeoutExpired when ``timeout`` (s) has passed: with 0, when there is nothing now.

        Example:
            >>> attachment.read(timeout=5)                                          # doctest: +SKIP
            Output(stream='stdout', data=b'login: ')

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            piece = self._pieces.take() or self._look()
            if piece is not None:
                return Output(*piece)
            left = None if deadline is None else deadline - time.monotonic()
            if not self._over and not (yield from readable(self.fileno(), left)):
                raise TimeoutExpired(f"output of container {self.container.name}", timeout or 0.0)
        return None

    def _look(self) -> tuple[str, bytes] | None:
        """Look once more after the watch was cleared: what is written from then on makes it readable."""
        ended = wait_readable(self._monitor_fd, 0)  # asked first: it has written everything before it ended
        self._watch.clear()
        piece = self._pieces.take()
        self._tell(may_be_more=piece is not None)
        self._over = ended and piece is None
        return piece

    def _tell(self, *, may_be_more: bool) -> None:
        """Make ``fileno()`` readable for what the watch was cleared of."""
        if may_be_more != self._may_be_more:
            self._may_be_more = may_be_more
            (os.eventfd_write(self._more_fd, 1) if may_be_more else os.eventfd_read(self._more_fd))

    def fileno(self) -> int:
        """Return a descriptor that is readable when there may be more to read, or the end: ``read(0)`` tells.

        It is the attachment's own, not to be read or closed.

        Example:
            >>> asyncio.get_running_loop().add_reader(attachment, take)             # doctest: +SKIP

        """
        return self._ready.fileno()

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the container's terminal; what runs in its foreground gets SIGWINCH.

        One that has ended is no error. Raises Conflict when it has no terminal; SpecError for a size that is none.

        Example:
            >>> attachment.resize(50, 132)                                          # doctest: +SKIP

        """
        size = check_size((rows, columns))
        if not self.container.spec.tty:
            raise Conflict(self.container.name, "has no terminal; make it with tty=True")
        self._input.resize(*size)

    @waits
    def wait(self, timeout: float | None = None) -> Waiting[int]:
        """Wait until the container has ended for good and return its exit status (128 + n for signal n).

        One that was removed meanwhile, or started anew by somebody else, counts as killed: 137. Raises TimeoutExpired
        when ``timeout`` (s) has passed.
        """
        if not (yield from readable(self._monitor_fd, timeout)):
            raise TimeoutExpired(f"container {self.container.name}", timeout or 0.0)
        return (yield from self.container._ending_of(self._monitor))  # noqa: SLF001  of one make

    def close(self) -> None:
        """Leave the container alone: it goes on, and knows nothing of it. A second time does nothing."""
        self._input.release()
        self._stop()

    def _leave(self) -> None:
        self.close()

    def _stop(self) -> None:
        self._over = True
        self._pieces.close()
        self._watch.close()
        self._ready.close()
        for name in ("_monitor_fd", "_more_fd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        """Close what nobody closed; ``stdin`` may still be in somebody's hands, and closes itself."""
        self._stop()


@waits
def attach(
    container: Container, *, logs: bool, stdin: bool, start: bool, terminal_size: tuple[int, int] | None
) -> Waiting[Attachment]:
    """See :meth:`pylxc.Container.attach`."""
    if terminal_size is not None and not container.spec.tty:
        raise SpecError("terminal_size", terminal_size, "there is no terminal; make the container with tty=True")
    status = container.status()
    if not start and status not in ALIVE:
        raise Conflict(container.name, f"is not running ({status}); attach with start=True, or start it first")
    directory = container._directory()  # noqa: SLF001  of one make
    watch = Watch(directory)
    pieces = Pieces(directory, only_new=not logs)
    try:
        if start:
            yield from steps_of(container._start, terminal_size)  # noqa: SLF001
        _check_log(container, directory)
        attachment = Attachment(container, pieces, watch, stdin=stdin)
    except BaseException:
        pieces.close()
        watch.close()
        raise
    if terminal_size is not None:
        attachment.resize(*terminal_size)
    return attachment


def _check_log(container: Container, directory: str) -> None:
    """Refuse a container whose streams are not its monitor's."""
    if not is_there(directory):
        container.status()  # which says so if it is gone
        raise Conflict(container.name, "has its streams in the hands of who started it (popen, or run); see start()")
