"""The model of an application: what its files say, in one form.

Invariant: ``document`` has the shape that ``docker compose config --format json`` prints, with every short form spelled
out, every path absolute and every variable filled in; a ``$`` in it is a ``$``.
Source: Compose specification, https://github.com/compose-spec/compose-spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@frozen(kw_only=True)
class Model:
    """What the files of one application say.

    ``name``: the project's. ``working_dir``: what relative paths were resolved against. ``files``: those given or
    found, in their order. ``fig``: it is a file of 2013, without ``services:``. ``document``: the canonical form,
    active services only. ``disabled``: services that no active profile asks for, canonical too. ``environment``: the
    variables that it was read with, those of ``.env`` too. ``warnings``: what a user should hear, a line each.
    """

    name: str
    working_dir: Path
    files: tuple[Path, ...]
    fig: bool
    document: dict[str, Any] = field(repr=False)
    disabled: dict[str, dict[str, Any]] = field(factory=dict, repr=False)
    environment: Mapping[str, str] = field(factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The active services by name."""
        found: dict[str, dict[str, Any]] = self.document.get("services", {})
        return found
