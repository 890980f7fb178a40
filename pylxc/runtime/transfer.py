"""Moves trees in and out as tar streams, through the helper: the only code that touches a tree on behalf of an archive.

Invariant: an archive is unpacked by a process whose whole world is the destination (a private mount namespace, pivoted
into it), so no name in it can mean anything outside. Nothing is read into memory as a whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pylxc.errors import SpawnError
from pylxc.runtime import native, process, rootless
from pylxc.runtime import plan as p
from pylxc.runtime.waiting import Wait, drive, steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from pylxc.runtime.isolation import Tree
    from pylxc.runtime.native import Child
    from pylxc.runtime.waiting import Waiting

CHUNK = 1 << 20
UNPACKED_LIMIT = 1 << 40  # bytes of file content that one archive may unpack to
WHITEOUT = ".wh."
# What EINVAL of stage "pack" means.
RESERVED_NAME = 'has a file whose name begins with ".wh.", which in a layer means that something was removed'


def unpack(  # noqa: PLR0913  the operands of one operation
    feed: Callable[[BinaryIO], object],
    *,
    scaffold: str,
    tree: Tree | None = None,
    directory: str = "",
    destination: str = "/",
    flags: int = 0,
    limit: int | None = None,
    subject: str = "the archive",
    keeper: int = -1,
    owner: tuple[int, int] = (0, 0),
) -> None:
    """Unpack what ``feed`` writes (a tar stream) into ``destination`` of a merged tree or of a bare directory.

    With UNPACK_CREATE, what is missing of the way there is made, and is ``owner``'s.

    ``keeper``: a descriptor that stays open for as long as something may still be written, also when this process is
    killed: one that holds a lock. ``limit``: the most bytes of file content, UNPACKED_LIMIT unless given.

    Raises:
        SpawnError: stage "unpack"; the subject names the entry.
    """
    plan = _plan(tree, directory, scaffold)
    if keeper >= 0:
        plan.descriptor(keeper)
    theirs, ours = os.pipe()
    flags |= what_a_user_may()
    if flags & p.UNPACK_CREATE and owner != (0, 0):
        add_directories(plan, destination, owner)
    plan.add(p.UNPACK, destination, flags=flags, a=plan.descriptor(theirs), b=limit or UNPACKED_LIMIT, subject=subject)
    with _owners_explained():
        write(plan, ours, theirs, feed)


def add_directories(plan: p.Plan, path: str, owner: tuple[int, int]) -> None:
    """Have a plan make what is missing of an absolute path: directories of an owner (uid, gid), 0755."""
    uid, gid = owner
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        way = "/" + "/".join(parts[:count])
        plan.add(p.DIRECTORY, way, flags=0o755, a=uid, b=gid, subject=f"directory {way}")


def write(plan: p.Plan, ours: int, theirs: int, feed: Callable[[BinaryIO], object]) -> None:
    """Carry out a plan that reads ``theirs``, of a pipe, what ``feed`` writes to ``ours``. Closes both.

    Raises:
        SpawnError: the plan's operation failed.
    """
    with _ending(_spawn(plan, ours, theirs)):
        try:
            with open(ours, "wb", buffering=CHUNK) as out:
                feed(out)
        except BrokenPipeError:
            # The helper stopped reading: its own report says why.
            pass


def what_a_user_may() -> int:
    """Return the flags that leave out what the caller cannot make: devices, and with a single id owners."""
    if rootless.is_privileged():
        return 0
    flags: int = p.UNPACK_NO_DEVICES
    return flags | (p.UNPACK_OWNER_ROOT if rootless.namespace().is_single() else 0)


@contextmanager
def _owners_explained() -> Iterator[None]:
    """Say what an owner without an id means: the kernel's word for it is "invalid argument" (chown(2))."""
    try:
        yield
    except SpawnError as error:
        name = error.subject.rpartition(": ")[2]
        is_mark = any(part.startswith(WHITEOUT) for part in name.split("/"))  # which may be malformed
        if error.errno != errno.EINVAL or rootless.is_privileged() or is_mark:
            raise
        words = f"{error.subject}: its owner is beyond your ids; /etc/subuid and /etc/subgid must grant more"
        raise SpawnError(error.stage, errno.EOVERFLOW, words) from error


@contextmanager
def packed(  # noqa: PLR0913  the operands of one operation
    directory: str,
    *,
    scaffold: str,
    tree: Tree | None = None,
    flags: int = p.PACK_LAYER,
    path: str = "/",
    latest: int | None = None,
) -> Iterator[BinaryIO]:
    """Yield a stream to read ``path`` of a bare directory (or of a merged tree) from, as a deterministic tar.

    ``latest``: what was modified later (s since the epoch) gets that time, in the tree as in the stream.

    Raises:
        SpawnError: stage "pack"; at once when there is no such directory, else on leaving the block.
    """
    plan = _plan(tree, directory, scaffold)
    ours, theirs = os.pipe()
    flags |= 0 if latest is None else p.PACK_SETTLE
    plan.add(p.PACK, path, flags=flags, a=plan.descriptor(theirs), b=latest or 0, subject=directory or path)
    with read(plan, ours, theirs) as stream:
        yield stream


@contextmanager
def read(plan: p.Plan, ours: int, theirs: int) -> Iterator[BinaryIO]:
    """Carry out a plan that writes to ``theirs``, of a pipe, and yield a stream of what it writes. Closes both ends.

    Raises:
        SpawnError: the plan's operation failed; on leaving the block.
    """
    with _ending(_spawn(plan, ours, theirs)), open(ours, "rb", buffering=0) as stream:
        yield stream


@waits
def carry(source: p.Plan, write_end: int, target: p.Plan, read_end: int) -> Waiting[None]:
    """Carry out two plans at once, of which one writes what the other reads. Closes both ends of their pipe.

    Raises:
        SpawnError: what went wrong first: a stream that broke off is not the reader's fault.
    """
    receiver = _spawn(target, write_end, read_end)
    try:
        sender = _spawn(source, -1, write_end)
        try:
            sent = yield from _failure(sender)
            received = yield from _failure(receiver)
        finally:
            yield from steps_of(process.finish, sender)
    finally:
        yield from steps_of(process.finish, receiver)
    _raise_first(sent, received)


def _raise_first(sent: Exception | None, received: Exception | None) -> None:
    """Raise what went wrong first in two that are joined by a pipe."""
    broken_off = isinstance(received, SpawnError) and received.errno == errno.EBADMSG
    failure = sent or received if broken_off else received or sent
    if failure is not None:
        raise failure


@waits
def copy_layer(
    directory: str, target: str, *, scaffold: str, latest: int | None, left_out: Sequence[str]
) -> Waiting[tuple[str, int]]:
    """Copy a layer's tree into an empty directory, and return the copy's diff id and the size of its tar (bytes).

    The tree may be in use: what vanishes meanwhile is left out. It is read once, and the copy is on disk at the end.
    ``latest``: what was modified later (s since the epoch) gets that time in the copy. ``left_out``: names in the
    directory itself that are passed over.

    Raises:
        SpawnError: what went wrong first; EBUSY where directories of a tree in use were moved.
    """
    plan = _plan(None, directory, scaffold)
    flags = p.UNPACK_LAYER | p.UNPACK_SYNC | what_a_user_may()
    into = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ours, theirs = os.pipe()
        plan.add(p.MIRROR, flags=flags, a=plan.descriptor(into), subject="the new layer")
        flags = p.PACK_LAYER | p.PACK_LIVE | (0 if latest is None else p.PACK_SETTLE)
        subject = "what the container wrote"
        plan.add(p.PACK, "/", *left_out, flags=flags, a=plan.descriptor(theirs), b=latest or 0, subject=subject)
        child = _spawn(plan, ours, theirs)
    finally:
        os.close(into)
    return (yield from _measured(child, ours))


@waits
def digest_to_adopt(tree: Tree, place: str) -> Waiting[tuple[str, int]]:
    """Return the diff id, and the size (bytes) of the tar, of an upper side that is to be the layer itself.

    What overlayfs noted in it for itself is taken off. ``place``: an empty directory on the same file system.

    Raises:
        SpawnError: stage "root", EBUSY, while somebody can write to it; stage "pack" where it is not what unpacking
            the tar would make.
    """
    from pylxc.runtime.isolation import adoption_plan  # noqa: PLC0415  as in _plan

    plan = adoption_plan(tree, place)
    ours, theirs = os.pipe()
    flags = p.PACK_LAYER | p.PACK_ADOPT
    plan.add(p.PACK, "/", flags=flags, a=plan.descriptor(theirs), subject="what the container wrote")
    return (yield from _measured(_spawn(plan, ours, theirs), ours))


def _measured(child: Child, source: int) -> Waiting[tuple[str, int]]:
    """Measure what a transfer writes to a pipe, which is closed, and wait for the transfer's end."""
    try:
        try:
            measured = yield from _measure(source)
        finally:
            os.close(source)
        yield from _end(child)
    finally:
        yield from steps_of(process.finish, child)
    return measured


def _measure(source: int) -> Waiting[tuple[str, int]]:
    """Return the SHA-256 and the size of what comes from a pipe."""
    total, size = hashlib.sha256(), 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while True:
        yield Wait((source,))
        n = os.readv(source, [buffer])
        if not n:
            return f"sha256:{total.hexdigest()}", size
        total.update(view[:n])
        size += n


@waits
def write_from(source: BinaryIO, plan: p.Plan, ours: int, theirs: int) -> Waiting[None]:
    """Carry out a plan that reads ``theirs``, of a pipe, what a stream gives. Closes both ends.

    Raises:
        SpawnError: the plan's operation failed.
    """
    return _stream(plan, ours, theirs, _write_all(source, ours))


@waits
def read_into(target: BinaryIO, plan: p.Plan, ours: int, theirs: int) -> Waiting[None]:
    """Carry out a plan that writes to ``theirs``, of a pipe, and write that to a stream. Closes both ends.

    Raises:
        SpawnError: the plan's operation failed.
    """
    return _stream(plan, ours, theirs, _read_all(ours, target))


def _stream(plan: p.Plan, ours: int, theirs: int, move: Waiting[None]) -> Waiting[None]:
    child = _spawn(plan, ours, theirs)
    try:
        try:
            yield from move
        finally:
            os.close(ours)
        yield from _end(child)
    finally:
        yield from steps_of(process.finish, child)


def _write_all(source: BinaryIO, fd: int) -> Waiting[None]:
    os.set_blocking(fd, False)
    with suppress(BrokenPipeError):  # the helper stopped reading: its own report says why
        while chunk := source.read(CHUNK):
            rest = memoryview(chunk)
            while rest:
                yield Wait(write=(fd,))
                rest = rest[os.write(fd, rest) :]


def _read_all(fd: int, target: BinaryIO) -> Waiting[None]:
    yield Wait((fd,))
    while chunk := os.read(fd, CHUNK):
        target.write(chunk)
        yield Wait((fd,))


def run(plan: p.Plan) -> None:
    """Carry out a plan that neither executes nor streams anything. Raises SpawnError."""
    with _ending(_spawn(plan)):
        pass


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy a stream to its end in large pieces."""
    while chunk := source.read(CHUNK):
        target.write(chunk)


def settle_times(directory: str, *, scaffold: str, latest: int) -> None:
    """Give what was modified after ``latest`` (s since the epoch) that time, in a layer's tree. Raises SpawnError."""
    plan = _plan(None, directory, scaffold)
    flags = p.PACK_LAYER | p.PACK_SETTLE | p.PACK_NOTHING
    plan.add(p.PACK, "/", flags=flags, a=-1, b=latest, subject=directory)
    run(plan)


def digest_of(directory: str, *, scaffold: str, latest: int | None = None) -> tuple[str, int]:
    """Return the diff id of a layer tree ("sha256:…") and the size of its tar (bytes), without keeping the tar.

    ``latest``: see :func:`packed`.
    """
    total, size = hashlib.sha256(), 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with packed(directory, scaffold=scaffold, latest=latest) as stream:
        while n := stream.readinto(buffer):  # type: ignore[attr-defined]
            total.update(view[:n])
            size += n
    return f"sha256:{total.hexdigest()}", size


def _plan(tree: Tree | None, directory: str, scaffold: str) -> p.Plan:
    """Return the beginning of a transfer's plan."""
    from pylxc.runtime.isolation import transfer_plan  # noqa: PLC0415  builds that are cached transfer nothing

    return transfer_plan(tree, directory, scaffold)


def _spawn(plan: p.Plan, ours: int = -1, theirs: int = -1) -> Child:
    """Start a transfer. ``theirs`` is closed here once the helper has it; ``ours`` too, when there is no helper."""
    try:
        return begun(plan)
    except BaseException:
        _close(ours)
        raise
    finally:
        _close(theirs)


def begun(plan: p.Plan) -> Child:
    """Let the helper carry out a plan, with what rights the caller has, and end with it. Raises SpawnError."""
    native.tie_to_caller(plan)
    rootless.apply(plan)
    return native.spawn(plan, (-1, -1, -1))


@contextmanager
def _ending(child: Child) -> Iterator[None]:
    """Wait for a transfer at the end of the block and raises what went wrong in it; kills it when the block failed."""
    try:
        yield
        drive(_end(child))
    finally:
        process.finish(child)


def _end(child: Child) -> Waiting[None]:
    """Wait for a transfer and raise what went wrong in it."""
    failure = yield from _failure(child)
    if failure is not None:
        raise failure


def _failure(child: Child) -> Waiting[Exception | None]:
    """Wait for a transfer and return what went wrong in it."""
    yield Wait((child.control_fd,))
    ending = native.read_ending(child)
    yield from steps_of(process.settle, child)
    if ending is not None and ending.error is not None:
        return ending.error
    return _killed() if ending is None or ending.code else None


def _killed() -> Exception:
    from pylxc.errors import StoreError  # noqa: PLC0415

    return StoreError("the helper", "was killed during a transfer; nothing was kept, try again")


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
