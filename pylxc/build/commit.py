"""Makes an image of a container: what it wrote becomes a layer, what it was started with the configuration.

Invariant: what the container shows stays what it is. Its upper directory becomes the layer where it rests
(``adopting.py``), or else is copied as it lies, in the form of a layer, by a process confined to it
(:func:`pylxc.runtime.transfer.copy_layer`), and the copy is named by the very bytes that it was made of; everything
that can be judged without work is judged before it, and what fails leaves nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc import changes as differences
from pylxc import health, sourcedate
from pylxc.build.adopting import adopted
from pylxc.build.reconfigure import reconfigured
from pylxc.errors import Conflict, SpawnError, StoreError, UnsupportedError
from pylxc.image import Image
from pylxc.imageconfig import History, ImageConfig, ImageDocument
from pylxc.launching import RUNS
from pylxc.reference import check_tag
from pylxc.runtime import pausing, transfer
from pylxc.runtime.waiting import steps_of
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.launching import Launching
    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting
    from pylxc.store import Lease

MOVED = "moved directories while it was being copied; commit it with pause=True, or when it rests"
_REASONS = {
    errno.EBUSY: MOVED,
    errno.EINVAL: transfer.RESERVED_NAME,
}


def commit(  # noqa: PLR0913  the operands of one operation
    container: Launching,
    ref: str | None,
    *,
    author: str | None,
    message: str | None,
    changes: Sequence[str],
    pause: bool,
) -> Waiting[Image]:
    """See :meth:`pylxc.Container.commit`."""
    if ref is not None:
        check_tag(ref)
    config = reconfigured(config_of(container), changes)
    latest = sourcedate.latest()
    tree = container._writable()  # noqa: SLF001  its other half
    engine, base = container._engine, container.image  # noqa: SLF001
    words = " ".join(container.spec.argv(base.config.entrypoint, base.config.cmd))
    with engine.store.leases.take() as lease:
        lease.protect(base.diff_ids)
        digest = yield from _layer(container, tree, lease, words, latest, pause=pause)
        now = time.time() if latest is None else min(time.time(), latest)
        own = History(created=now, created_by=words, empty_layer=digest is None, extra=_notes(author, message))
        document = ImageDocument(
            config=config,
            platform=base._document.platform,  # noqa: SLF001  its own half
            created=now,
            diff_ids=(*base.diff_ids, *(() if digest is None else (digest,))),
            history=(*base.history(), own),
            extra={**base._document.handed_on, **_notes(author, None)},  # noqa: SLF001
        )
        return Image.of(engine, engine.store.images.add(document, ref, lease))


def _notes(author: str | None, message: str | None) -> dict[str, Any]:
    """Return the fields of OCI image-spec, config.md, that only people read."""
    return {**({"author": author} if author else {}), **({"comment": message} if message else {})}


def config_of(container: Launching) -> ImageConfig:
    """Return the configuration of an image whose containers are as this one was started."""
    spec, config = container.spec, container.image.config
    cmd = config.cmd if spec.entrypoint is None else None  # an entry point of one's own drops the image's command
    volumes = [mount.target for mount in spec.volumes if not mount.source]
    ports = [f"{port.container}/{port.protocol}" for port in spec.ports]
    return evolve(
        config,
        env={**config.env, **spec.env},
        entrypoint=config.entrypoint if spec.entrypoint is None else spec.entrypoint or None,
        cmd=cmd if spec.command is None else spec.command,
        workdir=spec.workdir or config.workdir,
        user=spec.user or config.user,
        labels={**config.labels, **spec.labels},
        exposed_ports=tuple(dict.fromkeys((*config.exposed_ports, *ports))),
        volumes=tuple(dict.fromkeys((*config.volumes, *volumes))),
        stop_signal=spec.stop_signal or config.stop_signal,
        healthcheck=health.merged(spec.healthcheck, config.healthcheck),
    )


def _layer(  # noqa: PLR0913  the operands of one operation
    container: Launching, tree: Tree, lease: Lease, words: str, latest: int | None, *, pause: bool
) -> Waiting[str | None]:
    """Make what the container wrote a layer; returns its digest, None where it wrote nothing."""
    engine = container._engine  # noqa: SLF001  its other half
    if latest is None:  # else times may have to be others than the container's
        digest = yield from adopted(container, tree, lease, words)
        if digest is not None:
            return digest
    staged = lease.stage()
    copy = f"{staged}/tree"
    try:
        os.mkdir(copy, 0o755)  # noqa: PTH102
        measured = yield from _copied(container, tree, copy, latest, pause=pause)
    except SpawnError as error:
        raise _explained(container, error) from error
    except OSError as error:
        raise StoreError(engine.root, explain(error)) from error
    if measured is None:
        return None
    digest, size = measured
    return engine.store.layers.commit(lease, copy, digest, size, words).digest


def _copied(
    container: Launching, tree: Tree, copy: str, latest: int | None, *, pause: bool
) -> Waiting[tuple[str, int] | None]:
    """Copy the upper side; returns the copy's digest and size, None where there is nothing in it."""
    guard = (yield from _paused(container)) if pause else None
    try:
        names, marks = differences.names_of(tree)
        if not names:
            return None
        scaffold = tree.scaffold
        copying = steps_of(transfer.copy_layer, tree.upper, copy, scaffold=scaffold, latest=latest, left_out=marks)
        return (yield from copying)
    finally:
        if guard is not None:
            yield from steps_of(pausing.release, guard, container.id)


def _paused(container: Launching) -> Waiting[Child | None]:
    """Pause a container that runs, and is not paused already; None: there is nothing to let go on."""
    status = container.status()
    if status not in RUNS or status == "paused":
        return None
    try:
        return (yield from steps_of(pausing.hold, container.id))
    except UnsupportedError as error:
        logging.getLogger("pylxc").warning("container %s is copied as it runs: %s", container.name, error)
    except SpawnError:
        if container.status() in RUNS:
            raise  # else it has ended meanwhile, and its cgroup with it
    return None


def _explained(container: Launching, error: SpawnError) -> Exception:
    """Return what a failed copy means to who asked for the image."""
    if error.stage == "pack" and error.errno in _REASONS:
        return Conflict(container.name, f"{_REASONS[error.errno]} ({error.subject})")
    if error.stage == "unpack":
        return StoreError(error.subject, f"{os.strerror(error.errno)}; nothing was kept")
    return error
