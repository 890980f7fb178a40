"""``attach``: a running container's output and input, as if it had been started here.

Invariant: leaving it, by the keys or by a signal, leaves the container as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylxc.cli.foreground import attach_to, keys_option, proxy_option

if TYPE_CHECKING:
    from pylxc.cli.app import Settings
    from pylxc.cli.copying import DetachKeys


@click.command()
@click.option("--no-stdin", "silent", is_flag=True, help="Pass nothing on that is typed or piped in.")
@keys_option
@proxy_option
@click.argument("container")
@click.pass_obj
def attach(settings: Settings, /, *, container: str, silent: bool, keys: DetachKeys, proxy: bool) -> int:
    """Show what a running container writes from now on, and pass on what is typed.

    Ends with the container, and with its exit status. The end of what is piped in is the end of its input.
    """
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    target = pylxc.Container.get(container, engine=settings.engine())
    return attach_to(target, interactive=not silent, keys=keys, proxy=proxy)


VERBS = {"attach": attach}
