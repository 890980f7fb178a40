"""A picture of an application: its services, and the networks and volumes that join them.

Hides the ways to draw it: an SVG through the graphviz package and its program, the text that they read, and a tree for
a terminal. Invariant: whatever the form, the same services, networks, volumes and dependencies are in it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Literal

from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.compose.model import Model

    Form = Literal["auto", "svg", "dot", "text"]

_CONDITIONS = {"service_healthy": "healthy", "service_completed_successfully": "completed"}
_DRAWN = {"networks": "ellipse", "volumes": "cylinder"}
_INSTALL = 'pip install graphviz, and for "svg" the program dot (apt install graphviz)'


def graph(model: Model, form: Form = "auto") -> str:
    """Return a picture of an application, as text.

    ``form``: "svg", "dot", "text", or "auto": the first of these that can be made here. Raises UnsupportedError where
    a form is asked for and the package or the program that makes it is not installed.

    Example:
        >>> print(graph(model, "text"))     # doctest: +SKIP
        shop
        ├── db (postgres:16)
        └── web (built) :8080 -> 80/tcp
            └── needs db (healthy)

    """
    if form == "text":
        return _tree(model)
    try:
        import graphviz  # noqa: PLC0415  imported where it is used, and only if it is there
    except ImportError:
        if form == "auto":
            return _tree(model)
        raise UnsupportedError(f"a graph as {form}", f'{_INSTALL}; or ask for "text"') from None
    drawing = _drawing(model, graphviz.Digraph(model.name))
    if form == "dot" or (form == "auto" and shutil.which("dot") is None):
        return str(drawing.source)
    try:
        return str(drawing.pipe(format="svg", encoding="utf-8"))
    except graphviz.ExecutableNotFound:
        raise UnsupportedError("a graph as svg", f'{_INSTALL}; or ask for "dot"') from None


# -- what is drawn -----------------------------------------------------------------------------------------------------


def _title(name: str, service: dict[str, Any]) -> str:
    image = service.get("image") or ("built" if "build" in service else "provided")
    count = service.get("scale", (service.get("deploy") or {}).get("replicas", 1))
    return f"{name} ({image})" + (f" x{count}" if count != 1 else "")


def _published(service: dict[str, Any]) -> Iterator[str]:
    for port in service.get("ports") or ():
        if port.get("published"):
            yield f"{port.get('host_ip', '')}:{port['published']} -> {port['target']}/{port['protocol']}"


def _needs(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the services that a service depends on, each with what it waits for ("" = that it is started)."""
    for name, dependency in sorted((service.get("depends_on") or {}).items()):
        yield name, _CONDITIONS.get(dependency["condition"], "")


def _volumes(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the named volumes of a service, each with where it is."""
    for mount in service.get("volumes") or ():
        if mount["type"] == "volume" and mount.get("source"):
            yield mount["source"], mount["target"] + (" (read-only)" if mount.get("read_only") else "")


# -- for graphviz ------------------------------------------------------------------------------------------------------


def _drawing(model: Model, drawing: Any) -> Any:
    from graphviz import escape  # noqa: PLC0415  as above

    drawing.attr(rankdir="LR")
    for kind, shape in _DRAWN.items():
        for name in model.document.get(kind) or {}:
            drawing.node(f"{kind} {name}", escape(name), shape=shape)
    for name, service in model.services.items():
        label = "\n".join([_title(name, service), *_published(service)])
        drawing.node(f"service {name}", escape(label), shape="box")
    for name, service in model.services.items():
        node = f"service {name}"
        for other, condition in _needs(service):
            drawing.edge(node, f"service {other}", label=escape(condition))
        for network in service.get("networks") or ():
            drawing.edge(node, f"networks {network}", style="dashed", dir="none")
        for volume, target in _volumes(service):
            drawing.edge(node, f"volumes {volume}", label=escape(target), style="dotted", dir="none")
    return drawing


# -- for a terminal ----------------------------------------------------------------------------------------------------


def _tree(model: Model) -> str:
    branches = [
        (" ".join([_title(name, service), *_published(service)]), _below(service))
        for name, service in sorted(model.services.items())
    ]
    return "\n".join([model.name, *_branches(branches)]) + "\n"


def _below(service: dict[str, Any]) -> list[str]:
    found = [f"needs {name}" + (f" ({condition})" if condition else "") for name, condition in _needs(service)]
    networks = [name for name in sorted(service.get("networks") or ()) if name != "default"]
    found += [f"on {name}" for name in networks]
    return found + [f"keeps {volume} at {target}" for volume, target in _volumes(service)]


def _branches(branches: list[tuple[str, list[str]]]) -> Iterator[str]:
    for index, (title, leaves) in enumerate(branches):
        is_last = index == len(branches) - 1
        yield ("└── " if is_last else "├── ") + title
        for number, leaf in enumerate(leaves):
            yield ("    " if is_last else "│   ") + ("└── " if number == len(leaves) - 1 else "├── ") + leaf
