"""``compose``: docker compose's verbs and flags, over :class:`pylxc.Environment`.

Hides which module has which verb: each is loaded when it is used. Invariant: a verb finds the files as docker compose
does, and one that needs none of them (``down``, ``ps``, ``logs``, ``stop``, …) works with ``-p`` alone, anywhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from pylxc.cli.compose.project import Chosen

if TYPE_CHECKING:
    from pylxc.cli.app import Settings

_MODULES = {
    "working": ("build", "exec", "pull", "push", "run"),
    "looking": ("config", "events", "images", "logs", "ls", "port", "ps", "top", "version"),
    "living": ("cp", "down", "kill", "pause", "restart", "rm", "scale", "start", "stop", "unpause", "wait"),
    "rising": ("create", "up", "watch"),
}
_MODULE_OF = {verb: module for module, verbs in _MODULES.items() for verb in verbs}


class _Verbs(click.Group):
    """The verbs, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return sorted(_MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULE_OF:
            return None
        if cmd_name in {"run", "exec"}:
            settings: Settings = ctx.find_root().obj
            settings.verb = cmd_name  # their exit status is the command's
        module = importlib.import_module(f"pylxc.cli.compose.{_MODULE_OF[cmd_name]}")
        command: click.Command = module.VERBS[cmd_name]
        return command


@click.group(cls=_Verbs)
@click.option("-f", "--file", "files", multiple=True, help="A Compose file; of several each overrides those before it.")
@click.option("-p", "--project-name", "project", help="The project's name.")
@click.option("--profile", "profiles", multiple=True, help='Mean services of this profile, too; "*": of all.')
@click.option("--env-file", "env_files", multiple=True, help="Variables for the files, in place of .env.")
@click.option(
    "--project-directory", "directory", help="What relative paths begin at (default: that of the first file)."
)
@click.pass_context
def compose(  # noqa: PLR0913  one for each flag
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    project: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    directory: str | None,
) -> None:
    """Bring up applications of several containers, described by a Compose file (or a Fig file)."""
    ctx.obj = Chosen(ctx.find_root().obj, files, project, profiles, env_files, directory)


VERBS = {"compose": compose}
