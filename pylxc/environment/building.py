"""The images of an environment's services: built, pulled, pushed, and made anew when their sources change.

Invariant: each service has its image from one place: a recipe, or a registry.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pylxc.environment.aside import each_aside
from pylxc.environment.rising import Rising
from pylxc.errors import SpecError
from pylxc.runtime.waiting import iterates, steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.build.events import BuildEvent
    from pylxc.compose.running.syncing import Synced
    from pylxc.image import Image
    from pylxc.runtime.waiting import Stream, Waiting


class Building(Rising):
    """A project whose images can be built and fetched."""

    @waits
    def build(
        self,
        *services: str,
        no_cache: bool = False,
        pull: bool = False,
        args: Mapping[str, str] | None = None,
        on_build: Callable[[str, BuildEvent], object] | None = None,
    ) -> Waiting[dict[str, Image]]:
        """Build the images of services that have a recipe, side by side, and return them by service.

        The keywords and errors are those of :meth:`Image.build`; ``args`` go before those of the file.

        Example:
            >>> environment.build(no_cache=True)["web"].refs                        # doctest: +SKIP
            ('shop-web:latest',)

        """
        from pylxc.compose.parts import images  # noqa: PLC0415  only here

        model, chosen = self._known(), self._chosen_services(services)
        built = {name: service for name, service in chosen.items() if service.get("build")}

        def work(name: str) -> Image:
            return images.build_one(
                self._engine,
                model,
                name,
                built[name],
                no_cache=no_cache,
                pull=pull,
                args=args,
                on_event=None if on_build is None else partial(on_build, name),
            )

        return (yield from each_aside(built, work))

    @waits
    def pull(self, *services: str, policy: str = "always") -> Waiting[dict[str, Image]]:
        """Pull the images of services that are not built here, side by side, and return them by service.

        ``policy``: "always" or "missing". Raises ImageNotFound, AuthError, RegistryError.

        Example:
            >>> environment.pull("db")["db"].digest                                 # doctest: +SKIP
            'sha256:…'

        """
        from pylxc.compose.parts import images  # noqa: PLC0415  only here

        model, chosen = self._known(), self._chosen_services(services)
        pulled = {name: one for name, one in chosen.items() if one.get("image") and not one.get("build")}

        def work(name: str) -> Image:
            return images.obtain(self._engine, model, name, pulled[name], pull=policy)

        return (yield from each_aside(pulled, work))

    @waits
    def push(self, *services: str) -> Waiting[Sequence[str]]:
        """Push the images of services that are built here and have a name of their own; return their names.

        Raises ImageNotFound, AuthError, RegistryError.

        Example:
            >>> environment.push()                                                  # doctest: +SKIP
            ['registry.example/shop/web:1']

        """
        chosen = self._chosen_services(services)
        pushed = {str(one["image"]): name for name, one in chosen.items() if one.get("image") and one.get("build")}
        yield from each_aside(pushed, lambda reference: self._engine.image(reference).push(reference))
        return sorted(pushed)

    @iterates
    def watch(self, *services: str, up: bool = True, detach: bool = False) -> Stream[Synced]:
        """Bring services up and then bring changes of their sources into them, as ``develop.watch`` says, for ever.

        Yields what was done about each change. ``up``: False only watches. Raises SpecError where nothing is to
        be watched; UnsupportedError where the kernel watches no more.

        Example:
            >>> for change in environment.watch():                                  # doctest: +SKIP
            ...     print(change.service, change.action, change.paths)

        """
        from pylxc.compose.running import syncing  # noqa: PLC0415  only here
        from pylxc.runtime.waiting import Wait  # noqa: PLC0415

        rules = syncing.rules_of(self._known(), self._chosen_services(services))
        if not rules:
            raise SpecError("develop", None, "no service says what is to be watched; give it develop.watch")
        if up:
            yield from steps_of(self.up, *services, detach=detach)
        found = self._found()
        rebuild = partial(self._rebuild, detach=detach)
        watcher = syncing.Watcher(rules, found.of_service, rebuild)
        try:
            yield from watcher.initial()
            while True:
                yield Wait((watcher.fileno(),))
                yield from watcher.act()
        finally:
            watcher.close()

    def _rebuild(self, service: str, *, detach: bool) -> None:
        self.up(service, build=True, deps=False, detach=detach)
