"""Copies files between this machine and a container, and opens files there: the rules of ``docker cp``, as plans.

Hides which process touches which side. Inside the container it is a helper whose root directory is the container's;
here it is a helper with the caller's own rights (an ordinary user's: over its subordinate ids too), which gets the
descriptor of the directory that the caller named.
Invariant: no path of a container is ever resolved by this process, and no link is followed below a directory that
something is copied to: what a container made, or exchanges meanwhile, cannot lead to anything else of the host.
"""

from __future__ import annotations

import builtins
import errno
import os
import posixpath
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pylxc.errors import SpawnError
from pylxc.runtime import plan as p
from pylxc.runtime import transfer
from pylxc.runtime.waiting import steps_of, waits
from pylxc.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO, Any, BinaryIO

    from _typeshed import StrPath

    from pylxc.runtime.waiting import Waiting

    Inside = Callable[[], AbstractContextManager[p.Plan]]

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TO = p.UNPACK_BENEATH | p.UNPACK_KEEP_DIRECTORIES
_WORDS = {
    errno.EBADMSG: "Not a tar archive, or a damaged one",
    errno.EBUSY: "Changed while it was being copied",
    errno.EOPNOTSUPP: "Not a file that can be copied (a socket, or one that the kernel makes up)",
    errno.EXDEV: 'A name in the archive has a ".." component',
}


@frozen
class _Name:
    """A source as it was written: what it is called, and whether only what is in it is meant."""

    text: str
    name: str

    @property
    def flags(self) -> int:
        contents = self.text == "." or self.text.endswith("/.") or not self.name
        return p.UNPACK_CONTENTS if contents else 0


@waits
def copy_in(
    inside: Inside, source: StrPath | BinaryIO, destination: str, *, archive: bool, follow: bool
) -> Waiting[None]:
    """Carry out :meth:`pylxc.Container.copy_in`; ``inside`` begins a plan on the container's files."""
    _check(destination)
    with _as_os_errors(), inside() as target:
        if not isinstance(source, (str, os.PathLike)):
            yield from _unpack_stream(target, source, destination)
            return
        text = os.fsdecode(source)
        named = _Name(text, os.path.basename(os.path.abspath(text)))  # noqa: PTH100, PTH119  "DIR/." must stay
        flags = _TO | named.flags | (transfer.what_a_user_may() if archive else p.UNPACK_OWNER_ROOT | p.UNPACK_PLAIN)
        with _source_here(text, follow=follow) as (directory, path):
            here = p.Plan()
            end, other = os.pipe()
            a, b = here.descriptor(other), here.descriptor(directory)
            here.add(p.COPY_FROM, path, flags=p.PACK_LIVE, a=a, b=b, subject=text)
            a = target.descriptor(end)
            target.add(p.COPY_TO, destination, named.name, flags=flags, a=a, b=-1, subject=destination)
            yield from steps_of(transfer.carry, here, other, target, end)


@waits
def copy_out(
    inside: Inside, source: str, destination: StrPath | BinaryIO, *, archive: bool, follow: bool
) -> Waiting[None]:
    """Carry out :meth:`pylxc.Container.copy_out`."""
    _check(source)
    named = _Name(source, posixpath.basename(posixpath.normpath("/" + source)))
    pack = p.PACK_LIVE | (p.PACK_FOLLOW if follow else 0)
    with _as_os_errors(), inside() as there:
        if not isinstance(destination, (str, os.PathLike)):
            yield from _pack_stream(there, named, destination, pack)
            return
        owner = transfer.what_a_user_may() if archive else p.UNPACK_OWNER_SELF
        flags = _TO | named.flags | p.UNPACK_PLAIN | owner
        text = os.fsdecode(destination)
        with _destination_here(text) as (directory, path):
            here = p.Plan()
            end, other = os.pipe()
            there.add(p.COPY_FROM, source, flags=pack, a=there.descriptor(other), b=-1, subject=source)
            a, b = here.descriptor(end), here.descriptor(directory)
            here.add(p.COPY_TO, path, named.name, flags=flags, a=a, b=b, subject=text)
            yield from steps_of(transfer.carry, there, other, here, end)


def open_in(  # noqa: PLR0913  the keywords of open
    inside: Inside, path: str, mode: str, *, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """Carry out :meth:`pylxc.Container.open`."""
    _check(path)

    def opener(_: str, flags: int) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, _as_os_errors(), inside() as plan:
            plan.add(p.OPEN, path, flags=flags, a=plan.descriptor(theirs.fileno()), subject=path)
            transfer.run(plan)
            descriptors = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)[1]
            return descriptors[0]

    return builtins.open(path, mode, encoding=encoding, errors=errors, newline=newline, opener=opener)


def _check(path: str) -> None:
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if "\0" in path:
        raise ValueError("embedded null byte")  # as open says it


def _unpack_stream(plan: p.Plan, source: BinaryIO, destination: str) -> Waiting[None]:
    theirs, ours = os.pipe()
    a, limit = plan.descriptor(theirs), transfer.UNPACKED_LIMIT
    flags = p.UNPACK_KEEP_DIRECTORIES | transfer.what_a_user_may()
    plan.add(p.UNPACK, destination, flags=flags, a=a, b=limit, subject=destination)
    yield from steps_of(transfer.write_from, source, plan, ours, theirs)


def _pack_stream(plan: p.Plan, named: _Name, destination: BinaryIO, flags: int) -> Waiting[None]:
    ours, theirs = os.pipe()
    name = "" if named.flags else named.name
    plan.add(p.COPY_FROM, named.text, name, flags=flags, a=plan.descriptor(theirs), b=-1, subject=named.text)
    yield from steps_of(transfer.read_into, destination, plan, ours, theirs)


@contextmanager
def _source_here(text: str, *, follow: bool) -> Iterator[tuple[int, str]]:
    """Yield the directory that holds what is copied, open, and the name in it."""
    through = follow or os.path.basename(text) in ("", ".", "..")  # noqa: PTH119  "link/" is where the link leads
    os.stat(text, follow_symlinks=through)  # noqa: PTH116  for its error: "file/" is none that exists
    if through:
        text = os.path.realpath(text)
    yield from _opened(*os.path.split(text))


@contextmanager
def _destination_here(text: str) -> Iterator[tuple[int, str]]:
    """Yield a directory, open, and the name in it that is to be made, or "/" for the directory itself."""
    bare = text.rstrip("/") or "/"
    if os.path.isdir(text) or os.path.basename(bare) in (".", ".."):  # noqa: PTH112, PTH119  not there: opening says so
        yield from _opened(text, "")
        return
    parent, name = os.path.split(bare)
    yield from _opened(parent, name + text[len(bare) :])


def _opened(directory: str, name: str) -> Iterator[tuple[int, str]]:
    fd = os.open(directory or ".", _DIRECTORY)
    try:
        yield fd, name or "/"
    finally:
        os.close(fd)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Let what went wrong with a file be an OSError with its path, as for files of this machine."""
    try:
        yield
    except SpawnError as error:
        if error.stage not in ("pack", "unpack", "file"):
            raise
        regular = error.stage == "file" and error.errno == errno.EOPNOTSUPP
        words = "Not a regular file" if regular else _WORDS.get(error.errno) or os.strerror(error.errno)
        raise OSError(error.errno, words, error.subject) from error
