"""Looks into a stack of layers without mounting it: what overlayfs would show at a path.

Hides whiteouts, opaque directories and symbolic links between layers (Documentation/filesystems/overlayfs.rst).
Invariant: only ``lstat``, ``readlink`` and reading of regular files below the layers' own directories; links are
resolved against the image's root, so nothing outside the layers is ever opened.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

LINKS_LIMIT = 40  # as the kernel (path_resolution(7))
READ_LIMIT = 8 << 20
OPAQUE = "user.overlay.opaque"


class LayerView:
    """A read-only view of layers, the topmost first. ``passthrough`` directories of the host lie below all of them."""

    def __init__(self, lowers: Sequence[str], passthrough: Sequence[str] = ()) -> None:
        self._lowers = tuple(lowers)
        self._passthrough = frozenset(passthrough)

    def is_directory(self, path: str) -> bool:
        """Say whether an absolute path of the image is a directory, links followed."""
        return _as_owner(self._is_directory, path)

    def _is_directory(self, path: str) -> bool:
        found = self._resolve(path)
        return found is not None and stat.S_ISDIR(os.lstat(found[0]).st_mode)

    def resolve(self, path: str) -> str | None:
        """Return an absolute path of the image without symbolic links; None when there is nothing."""
        way = self._walk(path)
        return None if way is None else "/" + "/".join(name for name, _ in way)

    def place(self, path: str) -> str:
        """Return where an absolute path of the image is, or would be made: links followed, those to nothing too."""
        way = _as_owner(lambda path: self._walk(path, whole=True), path)
        return path if way is None else "/" + "/".join(name for name, _ in way)

    def locate(self, path: str) -> str | None:
        """Return where an absolute path of the image lies in its topmost layer, links followed; None for nothing."""
        found = self._resolve(path)
        return found[0] if found else None

    def read(self, path: str) -> bytes | None:
        """Return the content of a regular file of the image; None when there is none at that path.

        Raises:
            StoreError: it is larger than 8 MiB.
        """
        return _as_owner(self._read, path)

    def _read(self, path: str) -> bytes | None:
        found = self._resolve(path)
        if found is None or not stat.S_ISREG(os.lstat(found[0]).st_mode):
            return None
        fd = os.open(found[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:  # noqa: PTH123  a descriptor
            content = file.read(READ_LIMIT + 1)
        if len(content) > READ_LIMIT:
            raise StoreError(path, f"this file of the image is larger than {READ_LIMIT} bytes")
        return content

    def _resolve(self, path: str) -> tuple[str, ...] | None:
        """Return where a path lies: for a directory, in every layer that adds to it (topmost first)."""
        way = self._walk(path)
        return None if way is None else way[-1][1] if way else self._lowers

    def _walk(self, path: str, *, whole: bool = False) -> list[tuple[str, tuple[str, ...]]] | None:
        """Return the components of a path, links followed, each with where it lies; ``whole``: () where it does not."""
        todo = _backwards(path)
        done: list[tuple[str, tuple[str, ...]]] = []  # components that were taken, and where each lies
        links = 0
        while todo:
            name = todo.pop()
            if name in (".", ".."):
                if done and done[-1][1] and not stat.S_ISDIR(os.lstat(done[-1][1][0]).st_mode):
                    return None  # as the kernel: only directories have these entries
                del done[len(done) - (name == "..") :]
                continue
            here = done[-1][1] if done else self._lowers
            found = self.child(here, name, "/".join(["", *(part for part, _ in done), name]))
            if not found and not whole:
                return None
            if found and stat.S_ISLNK(os.lstat(found[0]).st_mode):
                links += 1
                if links > LINKS_LIMIT:
                    return None
                target = os.readlink(found[0])  # noqa: PTH115
                if target.startswith("/"):
                    done.clear()
                todo += _backwards(target)
                continue
            done.append((name, found))
        return done

    @staticmethod
    def names(directories: tuple[str, ...]) -> set[str]:
        """Return the names in a merged directory; ``directories`` are where it lies, the topmost first."""
        found: set[str] = set()
        hidden: set[str] = set()
        for directory in directories:
            with os.scandir(directory) as entries:
                new = [entry for entry in entries if entry.name not in found and entry.name not in hidden]
            for entry in new:
                (hidden if _is_whiteout(entry) else found).add(entry.name)
        return found

    def child(self, directories: tuple[str, ...], name: str, path: str) -> tuple[str, ...]:
        """Return where an entry of a merged directory lies; () when it is not there."""
        found: list[str] = []
        candidates = [f"{directory}/{name}" for directory in directories]
        if path in self._passthrough:
            candidates.append(path)
        for candidate in candidates:
            try:
                status = os.lstat(candidate)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    return ()
                raise
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                break  # a whiteout
            if not stat.S_ISDIR(status.st_mode):
                return tuple(found) or (candidate,)
            found.append(candidate)
            if _is_opaque(candidate):
                break
        return tuple(found)


def _as_owner(look: Callable[[str], T], path: str) -> T:
    """Look at a path; one that the caller may not go to belongs to an id of its user namespace."""
    try:
        return look(path)
    except PermissionError:
        return rootless.as_owner(look, path)


def _backwards(path: str) -> list[str]:
    """Return a path's components, the last one first; a slash at the end asks for a directory (path_resolution(7))."""
    parts = [part for part in path.split("/") if part]
    return [*(["."] if parts and path.endswith("/") else ()), *reversed(parts)]


def _is_whiteout(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(directory: str) -> bool:
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
