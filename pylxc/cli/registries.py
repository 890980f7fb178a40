"""The verbs that talk to registries: ``pull push login logout``.

Invariant: a password is never shown, and never taken from where others can see it without a warning; what a script
wants to know (a name, a digest) is on standard output, progress is not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pylxc.cli.foreground import leaving
from pylxc.reference import DEFAULT_HOST, Reference

if TYPE_CHECKING:
    import pylxc
    from pylxc.cli.app import Settings

_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress, only the outcome.")
_all_tags = click.option("-a", "--all-tags", "everything", is_flag=True, help="All tags of the repository.")


def _parse(name: str, *, everything: bool) -> tuple[Reference, bool]:
    """Return the reference that a name means, and whether it named a tag or a digest itself."""
    reference = Reference.parse(name)
    if reference.before:
        raise click.UsageError(f"{name}: registries have no moves of tags; give the tag, or a digest")
    is_exact = name.endswith((f":{reference.tag}", f"@{reference.digest}"))
    if everything and is_exact:
        raise click.UsageError("a tag or a digest cannot be given with --all-tags: leave one of them out")
    return reference, is_exact


# -- pull --------------------------------------------------------------------------------------------------------------


@click.command()
@_all_tags
@_quiet
@click.option("--platform", metavar="OS/ARCH", help="Choose this platform where there are several (default: this one).")
@click.argument("name", metavar="NAME[:TAG|@DIGEST]")
@click.pass_obj
def pull(settings: Settings, /, *, name: str, everything: bool, quiet: bool, platform: str | None) -> None:
    """Fetch an image from a registry."""
    from pylxc.cli.pulling import Puller  # noqa: PLC0415  it loads what the other verbs do not need

    reference, is_exact = _parse(name, everything=everything)
    puller = Puller(settings.engine(), platform, quiet)
    if everything:
        puller.pull_all(reference)
    else:
        if not is_exact:
            puller.say(f"Using default tag: {reference.tag}")
        puller.pull(reference)
    click.echo(_repository(reference, familiar=False) if everything else reference.canonical)


def _repository(reference: Reference, *, familiar: bool) -> str:
    """Return a reference's name without tag and digest."""
    from attrs import evolve  # noqa: PLC0415

    bare = evolve(reference, tag="", digest="")
    return bare.familiar if familiar else bare.canonical


# -- push --------------------------------------------------------------------------------------------------------------


@click.command()
@_all_tags
@_quiet
@click.argument("name", metavar="NAME[:TAG]")
@click.pass_obj
def push(settings: Settings, /, *, name: str, everything: bool, quiet: bool) -> None:
    """Send an image to a registry."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    reference, is_exact = _parse(name, everything=everything)
    engine = settings.engine()
    tagged = _tags(reference, engine) if everything else [reference]
    images = [pylxc.Image.get(each.familiar, engine=engine) for each in tagged]
    if not quiet:
        if not (everything or is_exact):
            click.echo(f"Using default tag: {reference.tag}")
        click.echo(f"The push refers to repository [{_repository(reference, familiar=False)}]")
    for image, each in zip(images, tagged, strict=True):
        _push(image, each, quiet=quiet)


def _tags(reference: Reference, engine: pylxc.Engine) -> list[Reference]:
    """Return all tags that images here have in a repository."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    refs = {Reference.parse(ref) for image in pylxc.Image.list(engine=engine) for ref in image.refs}
    place = (reference.host, reference.path)
    found = [ref for ref in refs if (ref.host, ref.path) == place and ref.tag and not ref.digest]
    if not found:
        raise pylxc.ImageNotFound(_repository(reference, familiar=True), "no image has a tag in this repository")
    return sorted(found, key=lambda ref: ref.tag)


def _push(image: pylxc.Image, reference: Reference, *, quiet: bool) -> None:
    """Push an image under one tag, and print what the registry has now."""
    from pylxc.cli.progress import PUSH, showing  # noqa: PLC0415

    size = 0

    def heed(event: pylxc.Progress) -> None:
        nonlocal size
        if event.what == "pushed":
            size = event.total
        show(event)

    with leaving(), showing(PUSH, quiet=quiet) as show:
        digest = image.push(reference.familiar, on_progress=heed)
    if quiet:
        click.echo(reference.canonical)
    else:
        click.echo(f"{reference.tag}: digest: {digest} size: {size}")


# -- login and logout --------------------------------------------------------------------------------------------------


@click.command()
@click.option("-u", "--username", help="The user's name (default: it is asked for).")
@click.option("-p", "--password", help="The password, for all to see; better leave it out, or use --password-stdin.")
@click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
@click.argument("host", default=DEFAULT_HOST)
def login(*, username: str | None, password: str | None, from_stdin: bool, host: str) -> None:
    """Log in to a registry (HOST; docker.io by default), and keep the credentials where docker does."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    if from_stdin:
        if password is not None:
            raise click.UsageError("--password and --password-stdin exclude each other; give one of them")
        if username is None:
            raise click.UsageError("--password-stdin: give --username as well")
        password = _read_password()
    elif password is not None:
        click.echo("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", err=True)
    with leaving():  # a terminal that does not echo must not be left so
        if username is None and password is None and _login_again(host):
            return
        username, password = _ask("Username", username), _ask("Password", password, is_hidden=True)
        pylxc.login(host, username, password)
    click.echo("Login Succeeded")


def _login_again(host: str) -> bool:
    """Log in with the credentials that are kept; say whether there are any, and they are good."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.registry.access import login_again  # noqa: PLC0415

    try:
        is_known = login_again(host)
    except pylxc.AuthError as error:
        if not error.status:  # they could not be read
            raise
        click.echo(f"The credentials that are kept did not do: {error}", err=True)
        return False
    if is_known:
        click.echo("Authenticating with existing credentials...\nLogin Succeeded")
    return is_known


def _read_password() -> str:
    """Return what standard input has, without the end of its line."""
    text = sys.stdin.buffer.read().decode()
    return text.removesuffix("\n").removesuffix("\r")


def _ask(what: str, given: str | None, *, is_hidden: bool = False) -> str:
    """Return what was given, or what the user at the terminal says."""
    if given is None:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask at: give --username and --password-stdin")
        try:
            given = str(click.prompt(what, default="", show_default=False, err=True, hide_input=is_hidden))
        except click.Abort:  # the end of input
            given = ""
            if not is_hidden:  # then click has ended the line
                click.echo(err=True)
        except click.exceptions.Exit:
            click.echo(err=True)
            raise
    if not given:
        raise click.UsageError(f"{what.lower()}: give one that is not empty")
    return given


@click.command()
@click.argument("host", default=DEFAULT_HOST)
def logout(*, host: str) -> None:
    """Forget the credentials for a registry (HOST; docker.io by default)."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    was_in = pylxc.logout(host)
    click.echo(f"Removing login credentials for {host}" if was_in else f"Not logged in to {host}")


VERBS = {"pull": pull, "push": push, "login": login, "logout": logout}
