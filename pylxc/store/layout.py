"""Hides where things lie on disk, and how a file or a directory appears or disappears as a whole.

Invariant: what has a name outside ``staging`` and ``trash`` is complete and on disk. All directories lie on one file
system, so that a rename is enough.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORIES = ("layers", "staging", "trash", "containers", "run", "oci", "oci/blobs", "oci/blobs/sha256")
# File systems whose locks and renames are not what a store needs.
NETWORK_FILESYSTEMS = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "ncpfs", "afs", "ceph", "fuse.sshfs"))
PRIVATE = 0o700


class Layout:
    """The directories of one store. Paths are strings: they go to the kernel as they are."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.database = f"{root}/pylxc.db"

    def make(self) -> None:
        """Make the directories that are missing. Raises StoreError saying why the store cannot be here."""
        try:
            os.makedirs(self.root, mode=PRIVATE, exist_ok=True)  # noqa: PTH103
            self._refuse_network()
            for name in DIRECTORIES:
                os.makedirs(f"{self.root}/{name}", mode=PRIVATE, exist_ok=True)  # noqa: PTH103
            if not os.path.exists(f"{self.root}/oci/oci-layout"):  # noqa: PTH110
                self.write_file(f"{self.root}/oci/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        except FileExistsError as error:
            raise StoreError(self.root, "is not a directory; choose another with PYLXC_ROOT or Engine(root)") from error
        except OSError as error:
            raise StoreError(self.root, explain(error)) from error

    def _refuse_network(self) -> None:
        kind = _filesystem_type(self.root)
        if kind in NETWORK_FILESYSTEMS:
            raise StoreError(self.root, f"lies on {kind}, whose locks cannot be relied upon; choose a local disk")

    def layer(self, digest: str) -> str:
        """Return the directory of a layer's tree."""
        return f"{self.root}/layers/{digest.removeprefix('sha256:')}"

    def blob(self, digest: str) -> str:
        """Return the file of a blob (OCI image-spec, image-layout.md)."""
        return f"{self.root}/oci/blobs/sha256/{digest.removeprefix('sha256:')}"

    def container(self, id: str) -> str:  # noqa: A002  docker's name
        """Return the directory of a container."""
        return f"{self.root}/containers/{id}"

    def write_file(self, path: str, data: bytes) -> None:
        """Make a file appear whole, and on disk, under its name."""
        temporary = f"{self.root}/staging/.{os.path.basename(path)[:64]}.{os.getpid()}.{os.urandom(4).hex()}"  # noqa: PTH119
        try:
            with open(temporary, "xb") as file:  # noqa: PTH123
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)  # noqa: PTH104
        except BaseException:
            try:
                os.unlink(temporary)  # noqa: PTH108
            except FileNotFoundError:
                pass
            raise
        sync_directory(os.path.dirname(path))  # noqa: PTH120

    def discard(self, paths: Sequence[str]) -> None:
        """Make trees disappear at once, then remove them. Those that are gone already are passed over."""
        moved = []
        for path in paths:
            name = f"{os.path.basename(path)[:64]}.{os.urandom(6).hex()}"  # noqa: PTH119
            try:
                os.rename(path, f"{self.root}/trash/{name}")  # noqa: PTH104
            except FileNotFoundError:
                continue
            moved.append(name)
        self._empty(moved)

    def empty_trash(self) -> None:
        """Remove what a process that was killed left in the trash."""
        self._empty(os.listdir(f"{self.root}/trash"))  # noqa: PTH208

    def _empty(self, names: Sequence[str]) -> None:
        self.remove_below(f"{self.root}/trash", names)

    def remove_below(self, directory: str, names: Sequence[str]) -> None:
        """Remove trees at once, entry by entry: for what is known as rubbish while it goes."""
        if not names:
            return
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                try:
                    native.remove_tree(parent, name)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):  # another process removes it as well
                        raise StoreError(f"{directory}/{name}", explain(error)) from error
        finally:
            os.close(parent)


def sync_directory(path: str) -> None:
    """Put a directory's entries on disk (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> None:
    """Put everything that was written to a path's file system on disk (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        native.syncfs(fd)
    finally:
        os.close(fd)


def explain(error: OSError) -> str:
    """Return what a failure means for the user, and what would do."""
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot be written ({error.strerror}); choose another store with PYLXC_ROOT or Engine(root)"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}); free some space, for example by removing images"
    if error.errno == errno.ENOTDIR:
        return "a part of the path is not a directory; choose another store with PYLXC_ROOT or Engine(root)"
    return str(error)


def _filesystem_type(path: str) -> str:
    """Return the type of the file system that a path lies on (proc_pid_mountinfo(5))."""
    device = os.stat(path).st_dev  # noqa: PTH116
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as mounts:  # noqa: PTH123
        for line in mounts:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    return ""
