"""The files of an application, laid over each other, with what they extend and include.

Hides in which order that is done: each file is filled in, read, completed with the services that its own extend and the
files that it includes, and then laid over those before it. Invariant: a file that comes to read itself is refused, and
every relative path is resolved against the directory of the file that says it, where the specification wants that.
Source: Compose specification, 13-merge.md, 14-include.md; 05-services.md, "extends".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from pylxc.compose.files.completing import absolute, bare, is_remote, look_up, maps, resolve_paths
from pylxc.compose.files.fig import is_fig, modernised
from pylxc.compose.files.merging import distinct_everywhere, merged
from pylxc.compose.files.projects import read_variables
from pylxc.compose.files.schema import FILE, RESOURCES
from pylxc.compose.files.shorthand import port_count
from pylxc.compose.syntax.interpolation import interpolate
from pylxc.compose.syntax.reading import documents, read_file
from pylxc.compose.syntax.tree import At, List, Map, Override, Place, plain, stripped
from pylxc.compose.syntax.words import split
from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pylxc.compose.syntax.interpolation import Warn

_SERVICE = ("services", "*")
_FIG_NAMES = frozenset({"fig.yml", "fig.yaml"})  # no variable was filled in then
_SHOWN = 60  # characters of what is left out
_MOST_PORTS = 100_000
DEEPEST = 50  # files that include or extend each other
MOST = 1000  # files in all: each may name many


@frozen
class Layers:
    """Where files are read: ``directory`` (of the project), ``variables``, and ``chain``, the files that led here."""

    directory: str
    variables: Mapping[str, str]
    warn: Warn
    chain: tuple[str, ...] = ()
    count: list[int] = field(factory=lambda: [0])  # of files, shared by all that one load reads

    def read(self, files: Sequence[str], at: At | None = None) -> Map:
        """Return what files say, the later ones laid over the earlier. Raises ComposeError."""
        return self.laid([(file, one) for file in files for one in self.parse(file, at)], files[0])

    def laid(self, trees: Sequence[tuple[str, Any]], shown: str) -> Map:
        """Return trees as they were parsed, each with its file, laid over each other."""
        found: Map | None = None
        for file, tree in trees:
            layer = self._layer(file, tree)
            found = layer if found is None else merged(found, layer)
        if found is None:
            raise ComposeError("the file is empty", file=shown, line=1, key="(the whole file)")
        found = distinct_everywhere(stripped(found))
        self._default_contexts(found)
        look_up(found, self.variables.get)
        return found

    def parse(self, file: str, at: At | None = None) -> list[Any]:
        """Return the documents of a file. ``at``: who named it."""
        self.count[0] += 1
        if file in self.chain or len(self.chain) >= DEEPEST or self.count[0] > MOST:
            place = at or At((), Place(file, 1))
            raise place.error(" -> ".join(("these files name each other:", *self.chain, file)))
        named = {"shown": at.place.file, "key": at.key, "line": at.place.line} if at else {"shown": file}
        data = read_file(file, **named)
        trees = [tree for tree in documents(data, file) if tree is not None]
        for tree in trees:
            if not isinstance(tree, Map):
                raise At((), Place(file, 1)).error("a file is a mapping at its top")
        return trees

    def _below(self, file: str, directory: str) -> Layers:
        return evolve(self, chain=(*self.chain, file), directory=directory)

    def _layer(self, file: str, tree: Map) -> Map:
        found = self._long_form(file, tree)
        if "version" in found:
            self.warn(f"{file}: the attribute `version` is obsolete: it is ignored, and can be removed")
            found.pop("version")
        services = found.get("services")
        if isinstance(services, Map):
            for name in list(services):
                services[name] = _Extending(self, file, services).extended(name)
        for entry in found.pop("include", None) or ():
            self._include(file, found, entry)
        return found

    def _long_form(self, file: str, tree: Map) -> Map:
        """Return a file with its variables filled in and its short forms spelled out, paths still relative to it."""
        top = At((), tree.place)
        is_old = is_fig(tree)
        is_literal = is_old and os.path.basename(file) in _FIG_NAMES  # noqa: PTH119  text
        filled = tree if is_literal else interpolate(tree, top, self.variables.get, self.warn)
        filled = modernised(filled) if is_old else filled
        _check_ports(filled)
        found: Map = FILE(filled, top)
        self._warn_of_commands(filled)
        resolve_paths(found, self.directory)
        return found

    def _warn_of_commands(self, tree: Map) -> None:
        """Tell of what a shell would do with a command, and nobody does."""
        for name, service in _services(tree):
            for key in ("command", "entrypoint"):
                command = bare(service.get(key))
                rest = split(command)[1] if isinstance(command, str) else ""
                if rest:
                    at = At(("services", name, key), service.place_of(key))
                    reason = f"no shell reads it: {rest[:_SHOWN]!r} is left out; write [sh, -c, ...] to have one"
                    self.warn(str(at.error(reason)))

    def _default_contexts(self, tree: Map) -> None:
        for service in maps(tree.get("services")):
            build = service.get("build")
            if isinstance(build, Map) and not build.get("context"):
                build.put("context", self.directory)

    # -- include -------------------------------------------------------------------------------------------------------

    def _include(self, file: str, tree: Map, entry: Map) -> None:
        at = At(("include",), entry.place)
        if not entry.get("path"):
            raise at.error("path must be given")
        paths = [absolute(path, self.directory) for path in entry["path"]]
        given = entry.get("project_directory")
        directory = absolute(given, self.directory) if given else os.path.dirname(paths[0])  # noqa: PTH120
        named = [absolute(path, self.directory) for path in entry.get("env_file") or ()]
        if not named and os.path.isfile(os.path.join(directory, ".env")):  # noqa: PTH113, PTH118
            named = [os.path.join(directory, ".env")]  # noqa: PTH118
        variables = dict(self.variables)
        for path in named:
            added = read_variables(path, variables.get, self.warn, shown=file, line=entry.place.line)
            variables = {**added, **variables}
        inner = evolve(self._below(file, directory), variables=variables)
        included = inner.read(paths, at)
        for kind in ("services", *RESOURCES):
            self._import(tree, kind, included)

    @staticmethod
    def _import(tree: Map, kind: str, included: Map) -> None:
        if not included.get(kind):
            return
        if kind not in tree:
            tree.put(kind, Map(tree.place))
        own = tree[kind].value if isinstance(tree[kind], Override) else tree[kind]
        for name, resource in included[kind].items():
            place = included[kind].place_of(name)
            if name in own and plain(own[name]) != plain(resource):
                there = own.place_of(name)
                reason = (
                    f"it is something else in {place.file}, line {place.line}, which is included: rename one of them"
                )
                raise At((kind, name), there).error(reason)
            own.put(name, resource, place)


def _check_ports(tree: Map) -> None:
    """Raise ComposeError where ranges of ports come to more than a file may: one of 8 characters is 65535 mappings."""
    count = 0
    for name, service in _services(tree):
        ports = bare(service.get("ports"))
        for index, item in enumerate(ports if isinstance(ports, List) else ()):
            count += port_count(item)
            if count > _MOST_PORTS:
                at = At(("services", name, "ports", index), ports.place_of(index))
                raise at.error(f"the ports of the file come to more than {_MOST_PORTS}")


def _services(tree: Map) -> Iterator[tuple[str, Map]]:
    """Yield the services of a file that has not been read yet, whatever it may have in their place."""
    services = bare(tree.get("services"))
    for name, service in services.items() if isinstance(services, Map) else ():
        if isinstance(bare(service), Map):
            yield name, bare(service)


# -- extends -----------------------------------------------------------------------------------------------------------


class _Extending:
    """Lays the services of one file over those that they extend. ``_chain``: those that led here."""

    def __init__(self, layers: Layers, file: str, services: Map, chain: tuple[tuple[str, str], ...] = ()) -> None:
        self._layers = layers
        self._file = file
        self._services = services
        self._chain = chain

    def extended(self, name: str) -> Any:
        """Return a service with what it extends below it."""
        service = self._services[name]
        if not isinstance(service, Map) or not isinstance(service.get("extends"), Map):
            return service
        at = At(("services", name, "extends"), service.place_of("extends"))
        if (self._file, name) in self._chain or len(self._chain) >= DEEPEST:
            ring = " -> ".join(f"{service} in {file}" for file, service in (*self._chain, (self._file, name)))
            raise at.error(f"services that extend each other: {ring}")
        base = self._base(service["extends"], at, (*self._chain, (self._file, name)))
        own = service.copied()
        del own["extends"]
        return merged(base, own, _SERVICE) if isinstance(base, Map) else own

    def _base(self, extends: Map, at: At, chain: tuple[tuple[str, str], ...]) -> Any:
        reference = extends.get("service")
        if not reference:
            raise at.error("service must be given")
        layers, file, services = self._layers, self._file, self._services
        if extends.get("file"):
            if is_remote(extends["file"]):
                raise at.error("a file that is fetched from elsewhere cannot be extended: get a copy of it")
            file = absolute(extends["file"], layers.directory)
            layers = evolve(layers, directory=str(Path(file).parent))
            services = self._services_of(layers, file, at)
        if reference not in services:
            raise at.error(f"there is no service {reference!r} in {file}")
        return _Extending(layers, file, services, chain).extended(reference)

    @staticmethod
    def _services_of(layers: Layers, file: str, at: At) -> Map:
        found: Map | None = None
        for tree in layers.parse(file, at):
            layer = layers._long_form(file, tree)  # noqa: SLF001  of one module
            found = layer if found is None else merged(found, layer)
        services = found.get("services") if found is not None else None
        if not isinstance(services, Map):
            raise at.error(f"{file} has no services")
        return services
