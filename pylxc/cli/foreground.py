"""What runs in the foreground: a command, or a container that is attached to.

Invariant: the signals that would end this process go where they are meant to go, the user's terminal is as before
however this is left, and the exit status is the command's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.copying import DETACH, STDIN, Copying, DetachKeys, GoneError, ShownAttachment, ShownProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    import pylxc

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
HUNG_UP = 128 + signal.SIGHUP
_PATIENCE = 3  # so many interrupts, and a container that does not mind them is killed, or left


def _parse_keys(_: click.Context, __: click.Parameter, text: str) -> DetachKeys:
    return DetachKeys(text)


keys_option = click.option(
    "--detach-keys",
    "keys",
    metavar="KEYS",
    callback=_parse_keys,
    default=DETACH,
    show_default=True,
    help='With a terminal: the keys that leave the container running, such as "ctrl-x,x"; "" for none.',
)
exec_keys_option = click.option(
    "--detach-keys",
    "keys",
    metavar="KEYS",
    callback=_parse_keys,
    default="",
    help="With a terminal: keys that end it, such as ctrl-p,ctrl-q (none).",
)
proxy_option = click.option(
    "--sig-proxy",
    "proxy",
    metavar="BOOL",
    type=bool,
    default=True,
    show_default=True,
    help="Without a terminal: pass signals on; after the third interrupt this command ends, and the container goes on.",
)


class Forwarding:
    """While it is entered, signals that would end this process go to the container's.

    A third interrupt kills what is ``own``; what is not is left to itself.
    """

    def __init__(self, *, own: bool = True) -> None:
        self._own = own
        self._target: Callable[[int], object] | None = None
        self._pending: list[int] = []
        self._interrupts = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Forwarding:  # noqa: PYI034  typing.Self is newer than the oldest Python in use
        self._previous = _handle(self._forward)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            # Who had to interrupt so often may do it once more while this process ends: its status counts.
            signal.signal(number, signal.SIG_IGN if self._interrupts >= _PATIENCE else previous)

    def to(self, send: Callable[[int], object]) -> None:
        """Forward signals by calling this, first those that came while it was being started."""
        self._target = send
        while self._pending:
            self._send(self._pending.pop(0))

    def _forward(self, number: int, _: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self._interrupts += 1
        if self._interrupts >= _PATIENCE and not self._own:
            raise click.exceptions.Exit(128 + number)
        self._send(signal.SIGKILL if self._interrupts >= _PATIENCE else number)

    def _send(self, number: int) -> None:
        from pylxc.errors import Conflict, ContainerNotFound  # noqa: PLC0415

        if self._target is None:
            self._pending.append(number)
            return
        with contextlib.suppress(ProcessLookupError, Conflict, ContainerNotFound):  # it has just ended; wait() says so
            self._target(number)


def _handle(handler: Callable[[int, FrameType | None], object]) -> dict[int, Any]:
    """Set the handler of the signals that would end this process; return the ones before."""
    wanted = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]  # nohup wants it so
    return {number: signal.signal(number, handler) for number in wanted}


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """While it is entered, signals that would end this process unwind it: the terminal must be as before."""

    def leave(number: int, _: FrameType | None) -> None:
        raise click.exceptions.Exit(128 + number)

    previous = _handle(leave)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def wait_for(start: Callable[[], pylxc.Process]) -> int:
    """Start a process that has our own streams, wait for it and return its exit status as a shell counts it."""
    with Forwarding() as forwarding:
        process = start()
        forwarding.to(process.send_signal)
        status = process.wait()
    return status if status >= 0 else 128 - status


def show_process(
    start: Callable[[tuple[int, int] | None], pylxc.Process], *, interactive: bool, keys: DetachKeys
) -> int:
    """Start a process on a terminal, show that on the user's, and return its exit status.

    It is not to outlive the user's terminal, or the ``keys`` that end it.
    """
    from pylxc.cli import terminal  # noqa: PLC0415  termios is not everywhere wanted

    if interactive:
        terminal.check_input()
    with Forwarding() as forwarding:
        process = start(terminal.size())
        forwarding.to(process.send_signal)
        try:
            if not terminal.show(ShownProcess(process), process.resize, keys if interactive else None):
                process.kill()
            return process.wait()
        except GoneError:
            process.kill()
            process.wait()
            return HUNG_UP


def run_attached(create: Callable[[], pylxc.Container], *, interactive: bool, keys: DetachKeys) -> int:
    """Make a container, see it through from its first byte, and return its exit status; 0 when the keys left it.

    One with ``remove`` is removed when it has ended, and does not outlive the user's terminal; nor does one that could
    not be started.
    """
    container = create()
    keep = False
    try:
        with Forwarding() as forwarding:
            attachment = container.attach(start=True, stdin=interactive, terminal_size=_size_for(container))
            keep = not container.spec.remove
            forwarding.to(container.kill)
            with attachment:
                if _see(attachment, keys, interactive=interactive):
                    return attachment.wait()
            container.detach()
            keep = True
            return _left()
    except GoneError:
        return _gone(container)
    finally:
        if not keep:
            container.remove(force=True)


def attach_to(
    container: pylxc.Container, *, interactive: bool, keys: DetachKeys, proxy: bool, start: bool = False
) -> int:
    """Show a container, that others may see too, and return its exit status; 0 when the keys left it.

    With ``start`` it is started if it does not run, and then outlives this process when the keys leave it.
    """
    start = start and container.status() in {"created", "exited"}
    forwarding = Forwarding(own=False)
    if container.spec.tty and interactive:
        from pylxc.cli import terminal  # noqa: PLC0415  termios is not everywhere wanted

        interactive = container.spec.stdin or os.isatty(STDIN)  # docker types on those with -i only
        if interactive:
            terminal.check_input()
    with leaving() if container.spec.tty else forwarding if proxy else contextlib.nullcontext():
        with container.attach(start=start, stdin=interactive, terminal_size=_size_for(container)) as attachment:
            forwarding.to(container.kill)
            if not start:
                _redraw(attachment)
            try:
                if _see(attachment, keys, interactive=interactive):
                    return attachment.wait()
            except GoneError:
                return _gone(container)
        if start:
            container.detach()
        return _left()


def _see(attachment: pylxc.Attachment, keys: DetachKeys, *, interactive: bool) -> bool:
    """Show what is attached to; False: it was left by the keys."""
    shown = ShownAttachment(attachment)
    if attachment.container.spec.tty:
        from pylxc.cli import terminal  # noqa: PLC0415  termios is not everywhere wanted

        return terminal.show(shown, attachment.resize, keys if interactive else None)
    if interactive and attachment.stdin is not None and _has_input():
        return Copying(shown, DetachKeys(""), attachment.stdin.close).run()
    return Copying(shown, None).run()


def _size_for(container: pylxc.Container) -> tuple[int, int] | None:
    from pylxc.cli import terminal  # noqa: PLC0415  termios is not everywhere wanted

    return terminal.size() if container.spec.tty else None


def _redraw(attachment: pylxc.Attachment) -> None:
    """Have a program show itself anew: it does when its terminal's size has changed, and nobody shows the past."""
    size = _size_for(attachment.container)
    if size is not None:
        attachment.resize(size[0] + 1, size[1])  # and back, when it is shown


def _has_input() -> bool:
    """Say whether there is anything to pass on: /dev/null is nothing, and not the end of anything."""
    try:
        kind = os.fstat(STDIN).st_mode
    except OSError:  # closed
        return False
    return os.isatty(STDIN) or not stat.S_ISCHR(kind)


def _left() -> int:
    click.echo("read escape sequence", err=True)  # docker's words
    return 0


def _gone(container: pylxc.Container) -> int:
    """Return the exit status of who has nobody to show anything to."""
    return HUNG_UP if container.spec.tty else 128 + signal.SIGPIPE
