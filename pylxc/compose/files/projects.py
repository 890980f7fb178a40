"""Which files an application is made of, what it is called, and what its variables are.

Hides the default names and the variables of the environment that replace options. Invariant: an option goes before the
environment, the environment before ``.env``, and all of them before defaults.
Source: Docker documentation, "Pre-defined environment variables"; Compose specification, 04-version-and-name.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.compose.syntax import dotenv
from pylxc.compose.syntax.reading import read_file
from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pylxc.compose.syntax.interpolation import Lookup, Warn

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "fig.yml", "fig.yaml")
_OVERRIDES = {"compose": ("compose.override.yml", "compose.override.yaml")}
_OVERRIDES["docker-compose"] = ("docker-compose.override.yml", "docker-compose.override.yaml")
FORMATS = frozenset(dotenv.FORMATS)
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@frozen
class Project:
    """``files`` (absolute; "-" is the standard input), ``directory``, ``variables`` (environment and ``.env``)."""

    files: tuple[Path, ...]
    directory: Path
    variables: dict[str, str]


def find(
    files: Sequence[Path],
    *,
    env_files: Sequence[Path] | None,
    environment: Mapping[str, str],
    working_dir: Path | None,
    warn: Warn,
) -> Project:
    """Return what an application is made of. Raises ComposeError.

    ``files``: none means those that COMPOSE_FILE names, or that have a default name, here or in a directory above.
    """
    here = Path.cwd()
    start = _directory(files, working_dir, here)
    variables = with_env_files(environment, env_files, start, warn)
    if not files:
        files = _from_variables(variables, start) or _by_default(start)
    found = tuple(file if str(file) == "-" else here / file for file in files)
    directory = _directory(found, working_dir, here)
    if directory != start:
        variables = with_env_files(environment, env_files, directory, warn)
    return Project(found, directory, variables)


def _directory(files: Sequence[Path], working_dir: Path | None, here: Path) -> Path:
    if working_dir is not None:
        return here / working_dir
    if not files or str(files[0]) == "-":
        return here
    return Path(os.path.normpath(here / files[0])).parent


def with_env_files(
    environment: Mapping[str, str], env_files: Sequence[Path] | None, directory: Path, warn: Warn
) -> dict[str, str]:
    """Return the environment with what its files add: those given, those COMPOSE_ENV_FILES names, or ``.env``."""
    if env_files is None and environment.get("COMPOSE_ENV_FILES"):
        env_files = [Path(name) for name in environment["COMPOSE_ENV_FILES"].split(",")]
    if env_files is None:
        usual, is_off = directory / ".env", environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true")
        env_files = [usual] if usual.is_file() and not is_off else []
    found: dict[str, str] = {}
    for file in env_files:
        found.update(read_variables(str(Path.cwd() / file), environment.get, warn, earlier=found))
    return {**found, **environment}


def read_variables(  # noqa: PLR0913  where it was named, for errors
    path: str,
    lookup: Lookup,
    warn: Warn,
    *,
    earlier: Mapping[str, str] | None = None,
    kind: str = "",
    shown: str = "",
    key: str = "env_file",
    line: int = 0,
) -> dict[str, str]:
    """Return the variables in a file. Raises ComposeError.

    ``earlier``: those of files before it. ``kind``: its format. ``shown``, ``key``, ``line``: where it was named.
    """
    data = read_file(path, shown or path, key, line)
    try:
        return dotenv.FORMATS[kind](data.decode(), lookup, warn, earlier)
    except dotenv.DotenvError as error:
        raise ComposeError(error.reason, file=path, line=error.line, key=key) from None
    except UnicodeDecodeError:
        raise ComposeError("it is not text in UTF-8", file=path, line=1, key=key) from None


def _from_variables(variables: Mapping[str, str], directory: Path) -> list[Path]:
    separator = variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    names = variables.get("COMPOSE_FILE", "")
    return [Path(name) if name == "-" else directory / name for name in names.split(separator)] if names else []


def _by_default(start: Path) -> list[Path]:
    for directory in (start, *start.parents):
        names = [name for name in NAMES if (directory / name).exists()]
        if names:
            overrides = _OVERRIDES.get(names[0].partition(".")[0], ())
            found = [directory / names[0]]
            return found + [directory / name for name in overrides if (directory / name).exists()][:1]
    remedy = f"there is none of {', '.join(NAMES)}, and none above: name one, or go to its directory"
    raise ComposeError(remedy, file=str(start), line=0, key="(the files)")


def project_name(given: str | None, variables: Mapping[str, str], said: str, directory: Path) -> str:
    """Return a project's name: as given, by COMPOSE_PROJECT_NAME, as the files say, or the directory's.

    Raises ComposeError where one that was given is none.
    """
    for name in (given, variables.get("COMPOSE_PROJECT_NAME")):
        if name:
            if not _PROJECT.fullmatch(name):
                reason = f"{name!r} is no project name: small letters, digits, - and _, with a letter or digit first"
                raise ComposeError(reason, file=str(directory), line=0, key="name")
            return name
    return normalised(said) or normalised(directory.resolve().name) or "default"


def normalised(name: str) -> str:
    """Return the nearest thing to a name that a project can have.

    >>> normalised("My App.2")
    'myapp2'
    """
    return re.sub(r"[^-_a-z0-9]", "", name.lower()).lstrip("_-")
