"""The verbs: ``run``, ``start``, ``create``, ``popen``.

Invariant: each makes one container through the engine; ``run`` leaves nothing of it behind, however it ends.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pylxc.defaults import engine_of
from pylxc.errors import SpecError
from pylxc.execution import complete
from pylxc.process import Process
from pylxc.runtime.waiting import steps_of, waits
from pylxc.streams import DEVNULL, PIPE, open_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from typing_extensions import Unpack

    from pylxc.container import Container
    from pylxc.engine import Engine
    from pylxc.image import Image
    from pylxc.options import Options
    from pylxc.result import Result
    from pylxc.runtime.waiting import Waiting
    from pylxc.streams import StreamOption

    Command = str | Sequence[str] | None


@waits
def run(  # noqa: PLR0913  the public contract
    image: str | Image,
    command: Command = None,
    *,
    input: bytes | None = None,  # noqa: A002  subprocess's name
    timeout: float | None = None,
    check: bool = True,
    stdout: StreamOption = None,
    stderr: StreamOption = None,
    on_output: Callable[[str, bytes], object] | None = None,
    engine: Engine | None = None,
    **options: Unpack[Options],
) -> Waiting[Result]:
    r"""Run a command in a new container, to its end, and remove the container.

    Args:
        image: a reference, an :class:`~pylxc.Image`, or ``"host"``.
        command: a list of words, or a string that is cut into words; None = the image's own.
        input: bytes for its standard input (None: /dev/null).
        timeout: seconds after which it is killed.
        check: raise ExitError for a non-zero status.
        stdout: None = captured; a file, a descriptor, ``subprocess.DEVNULL`` or ``pylxc.INHERIT``.
        stderr: likewise, or ``subprocess.STDOUT``.
        on_output: called with ("stdout" or "stderr", bytes) for each chunk as it comes.
        engine: the store to use (default: ``Engine.default()``).
        options: the fields of :class:`~pylxc.ContainerSpec`.

    With ``tty=True`` the command has a terminal of 24 rows and 80 columns: all its output is standard output, with
    lines that end in ``\r\n``; ``input`` is typed on it, and echoed. A program that waits for the end of its input
    needs ``input`` to end with ``b"\x04"`` (^D) at the beginning of a line.

    Raises:
        ExitError: the status was not zero; it carries the Result.
        TimeoutExpired: it was killed; it carries what was captured.
        SpawnError: it could not be started; it names the step.
        ImageNotFound, SpecError, UnsupportedError.

    Example:
        >>> pylxc.run("host", ["echo", "hello"]).text                               # doctest: +SKIP
        'hello\n'

    """
    container = yield from _make(engine, image, command, {**options, "remove": True}, listed=False)
    try:
        stdin, tty = PIPE if input is not None else DEVNULL, container.spec.tty
        streams = open_streams(stdin, _captured(stdout), _captured(stderr), tty=tty, seen_through=True)
        child = yield from steps_of(container._spawn, streams, log=False, late=True)  # noqa: SLF001  the verbs are its other half
        argv = child.plan.argv
        forget = container._forget  # noqa: SLF001
        completion = steps_of(
            complete, child, argv, streams, input, timeout, check=check, on_output=on_output, on_end=forget
        )
        return (yield from completion)
    finally:
        yield from steps_of(container._discard)  # noqa: SLF001


@waits
def start(
    image: str | Image, command: Command = None, *, engine: Engine | None = None, **options: Unpack[Options]
) -> Waiting[Container]:
    """Make a container and start it; its output goes to its log.

    It belongs to the calling process, and ends with it, unless ``detach=True``. As a context manager it is removed when
    the block is left. Arguments and errors are those of :func:`run`.

    Example:
        >>> with pylxc.start("redis:seed") as container:                            # doctest: +SKIP
        ...     container.wait_ready(port=6379)

    """
    container = yield from _make(engine, image, command, options)
    try:
        yield from steps_of(container.start)
    except BaseException:
        yield from steps_of(container._discard)  # noqa: SLF001
        raise
    return container


@waits
def create(
    image: str | Image, command: Command = None, *, engine: Engine | None = None, **options: Unpack[Options]
) -> Waiting[Container]:
    """Make a container without starting it. Arguments and errors are those of :func:`run`.

    Example:
        >>> container = pylxc.create("redis:seed", name="cache")                    # doctest: +SKIP
        >>> container.start()

    """
    return (yield from _make(engine, image, command, options))


@waits
def popen(  # type: ignore[misc]  # noqa: PLR0913  the public contract; its stdin stands for the option of that name
    image: str | Image,
    command: Command = None,
    *,
    stdin: StreamOption = PIPE,
    stdout: StreamOption = PIPE,
    stderr: StreamOption = PIPE,
    terminal_size: tuple[int, int] | None = None,
    engine: Engine | None = None,
    **options: Unpack[Options],
) -> Waiting[Process]:
    r"""Start a container whose main process has its streams in the caller's hands, like ``subprocess.Popen``.

    ``stdin``, ``stdout`` and ``stderr`` take what ``subprocess`` takes, and ``pylxc.INHERIT``; by default all are
    pipes. The container is removed when the process has ended, unless ``remove=False``. Errors are those of
    :func:`run`.

    With ``tty=True`` it has a terminal, of ``terminal_size`` (rows, columns; 24 and 80 by default): ``process.stdin``
    and ``process.stdout`` are its other end, ``process.stderr`` is None, and :meth:`Process.resize` changes its size.

    Example:
        >>> with pylxc.popen("host", ["tr", "a-z", "A-Z"]) as process:              # doctest: +SKIP
        ...     process.communicate(b"hello")
        (b'HELLO', b'')
        >>> with pylxc.popen("host", ["sh"], tty=True) as shell:                    # doctest: +SKIP
        ...     shell.communicate(b"tty; exit\n")

    """
    container = yield from _make(engine, image, command, {"remove": True, **options}, listed=False)
    if container.spec.restarts:
        raise SpecError("restart", container.spec.restart, "its streams are the caller's, once; use start")
    try:
        streams = open_streams(stdin, stdout, stderr, tty=container.spec.tty, size=terminal_size)
        child = yield from steps_of(container._spawn, streams, log=False)  # noqa: SLF001
    except BaseException:
        yield from steps_of(container._discard)  # noqa: SLF001
        raise
    on_end = partial(steps_of, container._discard) if container.spec.remove else None  # noqa: SLF001
    return Process(child, child.plan.argv, container, pipes=streams.pipes, on_end=on_end)


def _captured(option: StreamOption) -> StreamOption:
    return PIPE if option is None else option


def _make(
    engine: Engine | None, image: str | Image, command: Command, options: Mapping[str, Any], *, listed: bool = True
) -> Waiting[Container]:
    return steps_of(engine_of(engine).create_container, image, command, options, listed=listed)
