"""What ``COPY --parents`` of one source means: files with the directories that lead to them.

Hides the pivot point ("/./" in a source, after which the path is kept) and ``**``. Invariant: no link is followed after
the pivot point, so that a name in the image is the name in the context; what is selected has its directories selected.

Source: Dockerfile reference, "COPY --parents".
"""

from __future__ import annotations

import errno
import posixpath
import stat
from typing import TYPE_CHECKING

from pylxc.build.confined import ContextError
from pylxc.build.ignore import PatternError, compile_glob
from pylxc.build.selection import WILDCARDS, glob, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.build.confined import ConfinedTree
    from pylxc.build.ignore import Ignore
    from pylxc.build.selection import Collector

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def add_with_parents(collector: Collector, tree: ConfinedTree, source: str) -> None:
    """Add all that a source means, under names from the pivot point on. Raises :class:`ContextError` for nothing."""
    before, pivot, after = f"/{source}".partition("/./")
    if not pivot:
        before, after = "", source
    pattern = posixpath.normpath(f"/{after}").lstrip("/")
    try:
        bases = _bases(tree, posixpath.normpath(f"/{before}").lstrip("/"))
        found = [_add(collector, tree, base, pattern) for base in bases]
    except PatternError as error:
        raise ContextError(source, str(error)) from None
    if not any(found) and not _has_wildcard(source):
        raise ContextError(source, "nothing in the context, less what its ignore file keeps out, is or matches this")


def _add(collector: Collector, tree: ConfinedTree, base: str, pattern: str) -> bool:
    """Add what a pattern means below one directory; say whether there is anything."""
    is_anything = not pattern
    try:
        for path in _found(tree, collector.ignore, base, pattern):
            is_anything = True
            name = posixpath.relpath(path, base or ".")
            if not collector.is_excluded(name):
                collector.add(tree, name, path)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    collector.complete(tree, base)
    return is_anything


def _bases(tree: ConfinedTree, before: str) -> list[str]:
    """Return the directories that the part before the pivot point names, without links."""
    try:
        return [tree.resolve(path) for path in (glob(tree, before) if _has_wildcard(before) else [before])]
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return []


def _has_wildcard(path: str) -> bool:
    """Say whether a path is a pattern."""
    return any(char in path for char in WILDCARDS)


def _found(tree: ConfinedTree, ignore: Ignore, base: str, pattern: str) -> Iterator[str]:
    """Yield the included paths below ``base`` that match, and those in directories that match."""
    parts = pattern.split("/")
    plain = next((index for index, part in enumerate(parts) if _has_wildcard(part)), len(parts))
    top = posixpath.join(base, *parts[:plain]).rstrip("/")
    is_directory = stat.S_ISDIR(tree.lstat(top).st_mode)
    if plain == len(parts):
        if top != base and not ignore.excludes(top):
            yield top
        if is_directory:
            yield from (path for path, status in walk(tree, ignore, top) if not stat.S_ISSOCK(status.st_mode))
        return
    expression = compile_glob("/".join(parts[plain:]), recursive=True)
    inside: set[str] = set()
    for path, status in walk(tree, ignore, top) if is_directory else ():
        if posixpath.dirname(path) in inside or expression.fullmatch(posixpath.relpath(path, top or ".")):
            if stat.S_ISDIR(status.st_mode):
                inside.add(path)
            if not stat.S_ISSOCK(status.st_mode):
                yield path
