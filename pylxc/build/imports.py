"""Makes images of one layer from what others made: archives and directories.

Invariant: a layer's tree is written by the unpacker alone, from a directory as from an archive, so that both are held
to the same rules; what fails leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from pylxc import sourcedate
from pylxc.build.archives import open_archive
from pylxc.errors import SpawnError, StoreError
from pylxc.image import Image
from pylxc.imageconfig import History, ImageConfig, ImageDocument
from pylxc.platforms import this_platform
from pylxc.reference import check_tag
from pylxc.runtime import plan, transfer
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.engine import Engine

# What the unpacker reports as an errno (csrc/helper/tar.h), in words.
_REASONS = {
    errno.EBADMSG: "is not a tar archive, is damaged, or ends too early; nothing was kept",
    errno.EXDEV: "a name leads out of the archive with '..'; nothing was kept",
    errno.EOPNOTSUPP: "an entry is of a kind that is not supported; nothing was kept",
    errno.EFBIG: "unpacks to more than is allowed; nothing was kept",
    errno.E2BIG: "has more names, attributes or headers than are allowed; nothing was kept",
    errno.EOVERFLOW: "has an owner, a time or a device number out of range; nothing was kept",
    errno.EPERM: (
        "cannot be made: it is overlayfs's own, a hard link to a directory, "
        "or has an attribute that a file of its kind cannot have; nothing was kept"
    ),
    errno.EINVAL: "has a name (a whiteout's, '.wh.') or an attribute that is not valid; nothing was kept",
    errno.ENOENT: "is a hard link to what is not in the archive; nothing was kept",
    errno.ENOSPC: "the disk is full, or has no room for attributes as large as these; nothing was kept",
}


def unpacking_error(error: SpawnError) -> StoreError:
    """Return what the unpacker's report means for who gave it the archive, or the directory."""
    if error.stage == "root" and error.errno == errno.EINVAL:
        reason = "cannot be read from here: it is in another mount namespace, such as a view of Image.mount; copy it"
        return StoreError(error.subject, reason)
    reason = _REASONS.get(error.errno, f"cannot be unpacked ({os.strerror(error.errno)}); nothing was kept")
    return StoreError(error.subject, reason)


def from_tar(
    engine: Engine,
    source: str | os.PathLike[str] | IO[bytes],
    ref: str | None,
    config: ImageConfig | None,
    message: str | None,
) -> Image:
    """See :meth:`pylxc.Image.from_tar`."""
    given = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else "a stream"  # of a pipe it is a number

    def fill(directory: str) -> None:
        try:
            archive = open_archive(source, name)
        except OSError as error:
            raise StoreError(name, f"cannot be read: {error.strerror}") from error
        with archive:
            if not archive.peek(1):
                raise StoreError(name, "is empty; give a tar archive of a root file system")
            unpack_layer(engine, lambda out: transfer.copy(cast("BinaryIO", archive), out), directory, name)

    return _make(engine, fill, ref, message or f"import of {os.path.basename(name)}", config)  # noqa: PTH119


def from_directory(engine: Engine, path: str | os.PathLike[str], ref: str | None, config: ImageConfig | None) -> Image:
    """See :meth:`pylxc.Image.from_directory`."""
    source = os.path.abspath(path)  # noqa: PTH100
    if not os.path.isdir(source):  # noqa: PTH112
        raise StoreError(source, "is not a directory; give the one that holds the root file system")

    def fill(directory: str) -> None:
        with transfer.packed(source, scaffold=engine.scaffold, flags=0) as stream:
            unpack_layer(engine, lambda out: transfer.copy(stream, out), directory, source)

    return _make(engine, fill, ref, f"import of {os.path.basename(source)}", config)  # noqa: PTH119


def unpack_layer(engine: Engine, feed: Callable[[BinaryIO], object], tree: str, subject: str) -> None:
    """Unpack what ``feed`` writes, the tar of a layer, into a new directory. Raises StoreError, OSError."""
    os.mkdir(tree, 0o755)  # noqa: PTH102
    os.chmod(tree, 0o755)  # noqa: PTH101, S103  a root directory, whatever the umask
    try:
        transfer.unpack(feed, scaffold=engine.scaffold, directory=tree, flags=plan.UNPACK_LAYER, subject=subject)
    except SpawnError as error:
        raise unpacking_error(error) from error


def _make(
    engine: Engine, fill: Callable[[str], None], ref: str | None, words: str, config: ImageConfig | None
) -> Image:
    """Make an image of one layer, whose tree ``fill`` makes."""
    if ref is not None:
        check_tag(ref)
    with engine.store.leases.take() as lease:
        tree = f"{lease.stage()}/tree"
        try:
            fill(tree)
            layer = engine.commit_layer(lease, tree, words)
        except SpawnError as error:
            raise unpacking_error(error) from error
        except OSError as error:
            raise StoreError(tree, f"{explain(error)}; nothing was kept") from error
        latest = sourcedate.latest()
        created = layer.created if latest is None else float(latest)
        document = ImageDocument(
            config=config or ImageConfig(),
            platform=this_platform(),
            created=created,
            diff_ids=(layer.digest,),
            history=(History(created=created, created_by=words),),
        )
        return Image.of(engine, engine.store.images.add(document, ref, lease))
