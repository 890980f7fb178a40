"""A shell in the root file system that the failed step of a build left (``build --on-error=shell``).

Invariant: nothing of it is left when the shell has ended; the build stays a failure.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pylxc.cli.app import printable

if TYPE_CHECKING:
    import pylxc


def look_into(error: pylxc.BuildError) -> None:
    """Say what failed, and give the user a shell in what it left; on a terminal, if there is one.

    Raises SpawnError when there is no shell in it.
    """
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.cli.copying import DetachKeys  # noqa: PLC0415
    from pylxc.cli.foreground import show_process, wait_for  # noqa: PLC0415

    container = error.container
    if container is None:
        return  # it ran nothing
    with container:
        click.echo(f"pylxc: {printable(str(error), keep=chr(10))}", err=True)
        click.echo("a shell where it failed; its end is the end of the build", err=True)
        words = ["/bin/sh"]
        if sys.stdin.isatty():
            show_process(
                lambda size: container.popen(words, tty=True, terminal_size=size), interactive=True, keys=DetachKeys("")
            )
        else:
            wait_for(lambda: container.popen(words, stdin=pylxc.INHERIT, stdout=pylxc.INHERIT, stderr=pylxc.INHERIT))
