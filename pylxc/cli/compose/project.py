"""Which environment is meant, by the flags before the verb; and how what happens is shown.

Invariant: warnings and progress go to standard error; standard output is the verb's own.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import click
from attrs import frozen

from pylxc.cli.app import printable

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings
    from pylxc.cli.buildprogress import Plain

# Colours of names, as docker compose has them.
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


class _Warnings(logging.Handler):
    """Shows warnings of pylxc as lines."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"pylxc: warning: {printable(record.getMessage())}", err=True)


def show_warnings() -> None:
    """Show pylxc's warnings on standard error from now on."""
    logger = logging.getLogger("pylxc")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings())
        logger.propagate = False


@frozen
class Chosen:
    """What the flags before the verb say."""

    settings: Settings
    files: tuple[str, ...]
    project: str | None
    profiles: tuple[str, ...]
    env_files: tuple[str, ...]
    directory: str | None

    def engine(self) -> pylxc.Engine:
        """Open the store."""
        return self.settings.engine()

    def load(self) -> pylxc.Environment:
        """Read the files. Raises ComposeError."""
        import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

        show_warnings()
        environment = pylxc.Environment.load(
            list(self.files),
            project=self.project,
            profiles=self.profiles,
            env_files=self.env_files or None,
            working_dir=self.directory,
            engine=self.engine(),
        )
        for warning in environment.warnings:
            click.echo(f"pylxc: warning: {printable(warning)}", err=True)
        return environment

    def find(self) -> pylxc.Environment:
        """Return the environment for a verb that needs no file: with a name alone it is found by what there is."""
        import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

        if self.project is None or self.files:
            return self.load()
        show_warnings()
        try:
            return self.load()
        except (pylxc.ComposeError, pylxc.SpecError) as error:
            try:
                return pylxc.Environment.get(self.project, engine=self.engine())
            except pylxc.NotFound:
                raise error from None


def tell(kind: str, name: str, what: str) -> None:
    """Show what has happened to a thing."""
    click.echo(f" {kind} {name}  {what}", err=True)


class Names:
    """Puts the name of who wrote a line before it, in a colour of its own where that is wanted."""

    def __init__(self, *, coloured: bool, prefixed: bool = True) -> None:
        self.coloured, self.prefixed = coloured, prefixed
        self._colours: dict[str, str] = {}
        self._width = 0

    def show(self, line: pylxc.ServiceLine) -> None:
        """Write a line to standard output."""
        if not self.prefixed:
            click.echo(line.log.data, nl=not line.log.data.endswith(b"\n"))
            return
        name = printable(line.container)
        self._width = max(self._width, len(name))
        head = f"{name.ljust(self._width)} | "
        if self.coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            head = click.style(head, fg=colour)
        click.echo(head.encode() + line.log.data, nl=not line.log.data.endswith(b"\n"))


class Builds:
    """Shows builds that go on side by side: lines, each with its service before it."""

    def __init__(self) -> None:
        self._shown: dict[str, Plain] = {}
        self._lock = threading.Lock()

    def show(self, service: str, event: pylxc.BuildEvent) -> None:
        """Show one event of a build."""
        from pylxc.cli import buildprogress  # noqa: PLC0415  only where something is built

        with self._lock:
            shown = self._shown.setdefault(service, buildprogress.Plain(f"{service} "))
            shown.show(event)
