"""Compose and Fig files, loaded into a :class:`~pylxc.compose.model.Model`.

Puts the steps in order. Invariant: nothing is started, fetched or written; what the environment says is read once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pylxc.compose.files import completing, consistency, projects
from pylxc.compose.files.fig import is_fig
from pylxc.compose.files.layers import Layers
from pylxc.compose.model import Model
from pylxc.compose.syntax.interpolation import interpolate
from pylxc.compose.syntax.tree import At, Map, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def load(  # noqa: PLR0913  what the command line of docker compose has
    files: Sequence[Path],
    *,
    project: str | None = None,
    profiles: Sequence[str] = (),
    env_files: Sequence[Path] | None = None,
    environment: Mapping[str, str] | None = None,
    working_dir: Path | None = None,
) -> Model:
    """Return what the files of an application say.

    ``files``: none means those of COMPOSE_FILE, or with a default name, in the working directory or above; "-" is the
    standard input. ``project``: its name. ``profiles``: those that are active, instead of COMPOSE_PROFILES; "*" is all.
    ``env_files``: instead of ``.env``. ``environment``: instead of this process's. ``working_dir``: what relative paths
    are resolved against (default: the directory of the first file).

    Raises ComposeError, which names file, line and key.

    Example:
        >>> model = load([Path("compose.yaml")], profiles=["debug"])    # doctest: +SKIP
        >>> model.services["web"]["image"]                              # doctest: +SKIP
        'nginx:latest'

    """
    told: dict[str, None] = {}
    warn = told.setdefault
    given = dict(os.environ if environment is None else environment)
    found = projects.find(files, env_files=env_files, environment=given, working_dir=working_dir, warn=warn)
    layers = Layers(str(found.directory), found.variables, warn)
    trees = [(str(file), tree) for file in found.files for tree in layers.parse(str(file))]
    said = _said_name(trees, found.variables.get)
    name = projects.project_name(project, found.variables, said, found.directory)
    found.variables["COMPOSE_PROJECT_NAME"] = name
    tree = layers.laid(trees, str(found.files[0]))
    consistency.check_shapes(tree)
    completing.complete(tree, name)
    named = found.variables.get("COMPOSE_PROFILES", "").split(",")
    active = set(profiles) or {one.strip() for one in named if one.strip()}
    disabled = _take_disabled(tree, active)
    consistency.check(tree, disabled)
    for service_name, service in tree["services"].items():
        _read_env_files(service, At(("services", service_name), service.place), found.variables, warn)
    _prune(tree)
    tree.put("name", name)
    return Model(
        name=name,
        working_dir=found.directory,
        files=found.files,
        fig=is_fig(trees[0][1]),
        document=_document(tree),
        disabled=completing.canonical(_only(disabled))["services"],
        environment=found.variables,
        warnings=tuple(told),
    )


def _said_name(trees: Sequence[tuple[str, Any]], lookup: Callable[[str], str | None]) -> str:
    """Return what the last file that says it calls the project."""
    names = [(tree["name"], At(("name",), tree.place_of("name"))) for _, tree in trees if _is_named(tree)]
    return str(interpolate(*names[-1], lookup, lambda _: None)) if names else ""


def _is_named(tree: Any) -> bool:
    return isinstance(tree, Map) and isinstance(tree.get("name"), str)


def _take_disabled(tree: Map, active: set[str]) -> dict[str, Map]:
    """Take the services that no active profile asks for out of a tree, and return them."""
    if "*" in active:
        return {}
    services = tree["services"]
    names = [name for name, one in services.items() if one.get("profiles") and not active & set(one["profiles"])]
    return {name: services.pop(name) for name in names}


def _read_env_files(service: Map, at: At, variables: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Put what the files of a service say below its own environment and labels."""
    found: dict[str, str] = {}
    for entry in service.pop("env_file", ()):
        kind = entry.get("format", "")
        shown = {"shown": entry.place.file, "key": f"{at.key}.env_file", "line": entry.place.line}
        if kind not in projects.FORMATS:
            raise At((*at.path, "env_file"), entry.place).error(f"the format {kind!r} is not known: only 'raw' is")
        if not entry.get("required", True) and not os.path.exists(entry["path"]):  # noqa: PTH110  text in
            continue
        found |= projects.read_variables(entry["path"], variables.get, warn, earlier=found, kind=kind, **shown)
    if found:
        service.put("environment", _below(found, service, "environment"))
    labels: dict[str, str] = {}
    for path in service.pop("label_file", ()):
        place = service.place_of("label_file")
        shown = {"shown": place.file, "key": f"{at.key}.label_file", "line": place.line}
        labels |= projects.read_variables(path, variables.get, warn, earlier=labels, **shown)
    if labels:
        service.put("labels", _below(labels, service, "labels"))


def _below(values: Mapping[str, str], service: Map, key: str) -> Map:
    found = Map(service.place_of(key))
    found.update(values)
    found.update(service.get(key) or {})
    return found


def _prune(tree: Map) -> None:
    """Leave out the resources that no active service refers to: nobody makes them."""
    used = completing.used_resources(tree["services"])
    for kind, names in used.items():
        if kind in tree:
            for name in [name for name in tree[kind] if name not in names]:
                del tree[kind][name]
            if not tree[kind]:
                del tree[kind]


def _document(tree: Map) -> dict[str, Any]:
    return completing.canonical(tree)


def _only(services: Mapping[str, Map]) -> Map:
    found = Map(Place("", 0))
    several = Map(found.place)
    several.update(services)
    found.put("services", several)
    return found
