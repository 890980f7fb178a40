"""Pulling an image before the eyes of whoever waits for it: for the verb ``pull``, and for those that lack their image.

Hides docker's words around a pull. Invariant: an interrupt unwinds it, so that nothing of it is left; with ``err``
standard output is left to what the caller has to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from attrs import define, evolve

from pylxc.cli.foreground import leaving
from pylxc.cli.progress import showing_pull
from pylxc.errors import ImageNotFound
from pylxc.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    import pylxc


@define
class Puller:
    """Pulls into a store, and says so if not ``quiet``: on standard output as docker does, or with ``err``."""

    engine: pylxc.Engine
    platform: str | None = None
    quiet: bool = False
    err: bool = False

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            click.echo(text, err=self.err)

    def pull(self, reference: Reference, policy: str = "always") -> None:
        """Pull one image, and say what came of it."""
        self._tell(str(reference), is_new=self._fetch(reference, policy))

    def pull_all(self, reference: Reference) -> None:
        """Pull the images of all tags of a repository."""
        import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
        from pylxc.exchange.pull import of_images  # noqa: PLC0415

        with leaving():
            tags = pylxc.Image.search_tags(reference.familiar)
        news = of_images(tags, lambda tag: self._fetch(evolve(reference, tag=tag), "always"))
        self._tell(evolve(reference, tag="").familiar, is_new=any(news))

    def obtain(self, name: str, policy: str, check: Callable[[], object]) -> str:
        """Have the image that a command is to run in, as ``--pull`` has it; return what remains of that policy.

        ``check`` raises what is wrong with the command: it is called before anything is pulled.
        """
        from pylxc.obtaining import has_registry, obtain  # noqa: PLC0415  heavy, as pylxc is

        if policy == "never" or not has_registry(name):
            return policy
        if policy == "missing":
            try:
                obtain(self.engine, name, "never", self.platform)
            except ImageNotFound:
                check()
                self.say(f"Unable to find image '{Reference.parse(name)}' locally")
            else:
                return policy
        else:
            check()
        self.pull(Reference.parse(name), policy)
        return "missing"

    def _fetch(self, reference: Reference, policy: str) -> bool:
        """Pull one image; say whether another one was here by its name, or none."""
        from pylxc.obtaining import obtain  # noqa: PLC0415  heavy, as pylxc is

        before = self._digest(reference)
        is_same, index = False, ""

        def heed(event: pylxc.Progress) -> None:
            nonlocal is_same, index
            if event.what == "found":
                index = event.digest
            elif event.what == "resolved":
                is_same = before == event.digest
            show(event)

        self.say(f"{reference.digest or reference.tag}: Pulling from {reference.path}")
        with leaving(), showing_pull(quiet=self.quiet) as show:
            image = obtain(self.engine, reference.familiar, policy, self.platform, on_progress=heed)
        self.say(f"Digest: {index or image.digest}")
        return not is_same

    def _tell(self, name: str, *, is_new: bool) -> None:
        self.say(f"Status: {'Downloaded newer image' if is_new else 'Image is up to date'} for {name}")

    def _digest(self, reference: Reference) -> str:
        """Return the digest of what a reference names here; "" where that is nothing."""
        import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

        try:
            return pylxc.Image.get(reference.familiar, engine=self.engine).digest
        except ImageNotFound:
            return ""
