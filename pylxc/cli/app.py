"""The command itself: its verbs, its global options, and how an error becomes one line and an exit status.

Invariant: whatever goes wrong, one clear message goes to standard error, and the exit status is one that docker's users
expect: 130 after an interrupt; for ``run`` and ``exec`` 125, or what a shell gives for a program that cannot be
executed; otherwise 2 for a wrong call and 1 for a failure.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from attrs import define

from pylxc.errors import PylxcError, SpawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pylxc

# Verb -> the module below pylxc.cli that has it.
_VERBS = {
    "attach": "attach",
    "bootstrap": "images",
    "build": "build",
    "commit": "commit",
    "compose": "compose",
    "cp": "copy",
    "diff": "commit",
    "doctor": "about",
    "events": "events",
    "exec": "run",
    "history": "history",
    "images": "images",
    "import": "images",
    "info": "about",
    "inspect": "inspect",
    "kill": "containers",
    "load": "archives",
    "log": "history",
    "login": "registries",
    "logout": "registries",
    "logs": "logs",
    "network": "network",
    "pause": "resources",
    "port": "ports",
    "prune": "care",
    "ps": "ps",
    "pull": "registries",
    "push": "registries",
    "restart": "containers",
    "rm": "containers",
    "rmi": "images",
    "rollback": "history",
    "run": "run",
    "save": "archives",
    "start": "containers",
    "stats": "resources",
    "stop": "containers",
    "store": "care",
    "tag": "images",
    "top": "resources",
    "unpause": "resources",
    "update": "resources",
    "version": "about",
    "volume": "volume",
    "wait": "containers",
}

_INTERRUPTED = 130
_ENGINE_FAILED = 125
_WRONG_CALL = 2
_FAILED = 1


@define
class Settings:
    """What the global options say, and which verb was called."""

    root: str | None = None
    debug: bool = False
    verb: str = ""

    def engine(self) -> pylxc.Engine:
        """Open the store that ``--root``, ``PYLXC_ROOT`` or the default names."""
        import pylxc  # noqa: PLC0415  the verbs that need no engine stay quick

        return pylxc.Engine(self.root)


class _Verbs(click.Group):
    """The verbs, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"pylxc.cli.{_VERBS[cmd_name]}")
        command: click.Command = module.VERBS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _VERBS and not name.startswith("-"):
            import difflib  # noqa: PLC0415  only where there is a mistake to explain

            near = difflib.get_close_matches(name, _VERBS, 1)
            raise click.UsageError(f"there is no verb {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""), ctx)
        ctx.ensure_object(Settings).verb = name
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click's signature
    if wanted and not ctx.resilient_parsing:
        from pylxc.cli.about import version_text  # noqa: PLC0415

        click.echo(version_text())
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", metavar="DIR", help="The directory of the store (default: $PYLXC_ROOT).")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_obj
def app(settings: Settings, /, *, root: str | None, debug: bool) -> None:
    """Run containers, without a daemon."""
    settings.root = root
    settings.debug = debug


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    settings = Settings()
    try:
        status = app.main(
            args=None if arguments is None else list(arguments), prog_name="pylxc", standalone_mode=False, obj=settings
        )
        _flush()
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  the outermost frame: every error ends as one line and a status
        with suppress(OSError):  # click writes at once: then it is this error
            _flush()
        return _explain(error, settings)
    return status if isinstance(status, int) else 0


def _flush() -> None:
    """Write what is buffered now, while a failure (a full disk, a closed pipe) can still be told."""
    if sys.stdout is None:  # closed by the caller
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        # As click does: the interpreter must not try again at its end. A reader that has gone is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def _explain(error: Exception, settings: Settings) -> int:
    if settings.debug:
        from rich.console import Console  # noqa: PLC0415  heavy, and only for a traceback

        Console(stderr=True).print_exception()
    click.echo(f"pylxc: {_message(error)}", err=True)
    if settings.verb in ("run", "exec"):
        return error.exit_code if isinstance(error, SpawnError) else _ENGINE_FAILED
    return _WRONG_CALL if isinstance(error, click.UsageError) else _FAILED


def _message(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        where = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        return error.format_message() + where
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, (PylxcError, OSError)):
        return printable(str(error), keep="\n\t")
    return f"internal error: {type(error).__name__}: {error} (--debug before the verb shows where)"


def printable(text: str, keep: str = "") -> str:
    """Return the text with control characters (but those to ``keep``) and lone surrogates as escapes.

    Names and commands come from containers and images: a terminal must not obey what they hold.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def ask(question: str, *, force: bool) -> None:
    """Ask before something is removed, unless with ``force``; a no ends the command. Raises click.UsageError."""
    if force:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; give --force")
    click.confirm(question, abort=True, err=True)


def each(names: Sequence[str], action: Any) -> int:
    """Do something with each name; an error with one does not keep the others from it. Return the exit status.

    ``action`` takes a name and returns what to print, or None.
    """
    status = 0
    for name in names:
        try:
            text = action(name)
        except PylxcError as error:  # noqa: PERF203  one error must not keep the others from their turn
            click.echo(f"pylxc: {_message(error)}", err=True)
            status = _FAILED
        else:
            if text is not None:
                click.echo(text)
    return status


def describe_each(names: Sequence[str], describe: Callable[[str], object]) -> int:
    """Print what there is to say of each name, as one JSON array; errors and the status are as of :func:`each`."""
    import json  # noqa: PLC0415  few commands show it

    found: list[object] = []
    status = each(names, lambda name: found.append(describe(name)))
    click.echo(json.dumps(found, indent=4))
    return status
