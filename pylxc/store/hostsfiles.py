"""The hosts files of containers on networks: how they find each other by name.

Hides the form of the file. It is bound into the running container, so that it cannot be replaced, and whoever reads it
there must never see half of a change. So a member's line is padded to a slot, a multiple of 64 bytes, and one single
byte, the first of it, makes it count: a slot that begins with "#" is a comment, whatever follows. Slots lie
so that whoever reads in blocks, as C libraries do, gets each in one piece. Lines at the end
appear by one appending write, for the kernel lets a reader see what was written before the new length.

Invariant: a file is written by one process at a time, whoever holds the lock; what a process that was killed did not
get to is made good by the next change. The container may write to its file, too: it can only mislead itself.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pylxc.store.layout import locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pylxc.store.layout import Layout
    from pylxc.store.networks import End, Networks

SLOT = 64
PADDING = ord(" ")
LARGEST = 4 << 20  # bytes; a file that its container has let grow beyond that is left alone
MODE = 0o644


def lines_of(end: End) -> list[bytes]:
    """Return what the hosts files of a network say of one of its members."""
    return [_slot(f"{address.ip}\t{' '.join(end.names)}") for address in end.addresses]


def _slot(text: str) -> bytes:
    encoded = text.encode()
    width = (
        (len(encoded) + 1) // SLOT + 1
    ) * SLOT  # a space at least, which tells it from a comment of the container's
    return encoded.ljust(width - 1) + b"\n"


def make(path: str, header: Sequence[str], lines: Iterable[bytes]) -> None:
    """Write a hosts file that nobody has bound yet. Raises OSError."""
    head = "\n".join(header).encode()
    content = head.ljust(-(-(len(head) + 1) // SLOT) * SLOT - 1) + b"\n" + b"".join(lines)
    how = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        _write_new(os.open(path, how | os.O_EXCL, MODE), content)
    except FileExistsError:  # of an earlier start: what its container did to it, owners and attributes, goes with it
        _write_new(os.open(f"{path}.new", how | os.O_TRUNC, MODE), content)
        os.rename(f"{path}.new", path)  # noqa: PTH104


def _write_new(fd: int, content: bytes) -> None:
    with open(fd, "wb") as file:
        os.fchmod(fd, MODE)  # whatever the caller's umask
        file.write(content)


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, bytes]]:
    """Give a hosts file's descriptor, and what is in it. Raises OSError.

    Not blocking: its container may have a lease on it (fcntl(2)), for which an open would wait.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield fd, os.pread(fd, LARGEST + 1, 0)
    finally:
        os.close(fd)


def change(path: str, add: Iterable[bytes], drop: Iterable[bytes]) -> None:
    """Change the members' lines of a file that may be bound. Raises OSError."""
    with _opened(path) as (fd, found):
        content = found
        if len(content) > LARGEST:
            return
        for line in drop:
            content = _drop(fd, content, line)
        for line in add:
            content = _add(fd, content, line)


def make_good(path: str, wanted: Iterable[bytes]) -> None:
    """Let a file have exactly these lines of members. Raises OSError."""
    lines = set(wanted)
    with _opened(path) as (_, content):
        present = {line + b"\n" for line in content.split(b"\n") if _is_member(line)}
    change(path, sorted(lines - present), sorted(present - lines))


def _is_member(line: bytes) -> bool:
    return (len(line) + 1) % SLOT == 0 and not line.startswith((b"#", b"\0"))


def _drop(fd: int, content: bytes, line: bytes) -> bytes:
    at = content.find(b"\n" + line) + 1
    if not at:
        return content
    free = b"#".ljust(len(line) - 1) + b"\n"
    os.pwrite(fd, free[:1], at)  # from now on it does not count
    os.pwrite(fd, free[1:], at + 1)
    return content[:at] + free + content[at + len(line) :]


def _add(fd: int, content: bytes, line: bytes) -> bytes:
    if b"\n" + line in content:
        return content
    at = _find_free(content, len(line))
    if at:
        os.pwrite(fd, line[1:], at + 1)
        os.pwrite(fd, line[:1], at)  # from now on it counts
        return content[:at] + line + content[at + len(line) :]
    ends = b"" if content.endswith(b"\n") else b"\n"  # its container wrote to it
    os.pwrite(fd, ends + line, len(content))
    return content + ends + line


def _find_free(content: bytes, width: int) -> int:
    """Return where a slot of this width begins that does not count; 0: there is none."""
    at = content.find(b"\n#") + 1
    while at:
        if content.find(b"\n", at) == at + width - 1 and content[at + width - 2] == PADDING:
            return at
        at = content.find(b"\n#", at) + 1
    return 0


class HostsFiles:
    """The hosts files of a store's containers."""

    def __init__(self, layout: Layout, networks: Networks) -> None:
        self._layout = layout
        self._networks = networks

    def path(self, container: str) -> str:
        """Return the file of a container."""
        return f"{self._layout.container(container)}/hosts"

    def join(self, container: str, header: Sequence[str], ends: Sequence[End]) -> None:
        """Let a container that is about to start be known on its networks, and know the others. Raises OSError.

        ``ends``: its places. Where all are on the default network nobody is to be told, and nothing to be noted.
        """
        if all(end.network.is_shared for end in ends):
            make(self.path(container), header, (line for end in ends for line in lines_of(end)))
            return
        with locked(f"{self._layout.root}/containers"):
            members, untold = self._networks.change_names(container, up=True)
            mine = [end for end in members if end.container == container]
            make(self.path(container), header, (line for end in members for line in lines_of(end)))
            self._tell(mine, members, untold=untold, add=True)

    def leave(self, container: str) -> None:
        """Let a container that has ended be known no more; one that was not is no error."""
        mine = [end for end in self._networks.ends(container) if end.up]
        if mine:
            with locked(f"{self._layout.root}/containers"):
                self._leave(container, mine)

    @contextmanager
    def leaving(self, container: str) -> Iterator[None]:
        """Let a container be known no more, whose row goes in the block: nobody comes to know it meanwhile."""
        mine = [end for end in self._networks.ends(container) if end.up]
        if not mine:
            yield
            return
        with locked(f"{self._layout.root}/containers"):
            if self._networks.has_others(container):  # else there is nobody to be told
                self._leave(container, mine)
            yield

    def _leave(self, container: str, mine: Sequence[End]) -> None:
        members, untold = self._networks.change_names(container, up=False)
        self._tell(mine, members, untold=untold, add=False)

    def come(self, end: End) -> None:
        """Let a running container be known on one more network. Raises OSError."""
        with locked(f"{self._layout.root}/containers"):
            members, untold = self._networks.change_names(end.container, up=True)
            here = [member for member in members if member.network.id == end.network.id]
            change(self.path(end.container), [line for member in here for line in lines_of(member)], ())
            self._tell([end], here, untold=untold, add=True)

    def go(self, end: End) -> None:
        """Let a container be known on one network less; its place is taken away by that."""
        with locked(f"{self._layout.root}/containers"):
            here = self._networks.known_to(end)
            self._networks.disconnect(end)
            lines = [line for member in here for line in lines_of(member)]
            self._write(end.container, (), lines)
            self._tell([end], here, untold=False, add=False)

    def _tell(self, mine: Sequence[End], members: Sequence[End], *, untold: bool, add: bool) -> None:
        """Tell all other members of what has changed for one."""
        lines = {end.network.id: lines_of(end) for end in mine}
        others = [end for end in members if end.container != (mine[0].container if mine else "")]
        for end in others:
            new = lines.get(end.network.id, [])
            self._write(end.container, *((new, ()) if add else ((), new)))
        if untold:
            self._make_all_good(others)
        if others:
            self._networks.names_are_told(lines)

    def _write(self, container: str, add: Sequence[bytes], drop: Sequence[bytes]) -> None:
        # A container that is just being removed has none; one that holds a lease on it hears nothing.
        with suppress(FileNotFoundError, BlockingIOError):
            change(self.path(container), add, drop)

    def _make_all_good(self, members: Iterable[End]) -> None:
        """Write what somebody who was killed did not get to."""
        known: dict[str, list[bytes]] = {}  # of networks whose members all know the same
        for id in {end.container for end in members}:  # noqa: A001  docker's name
            wanted: list[bytes] = []
            for end in self._networks.ends(id):
                if end.network.is_shared:
                    wanted += lines_of(end)
                    continue
                if end.network.id not in known:
                    here = self._networks.known_to(end)
                    known[end.network.id] = [line for member in here for line in lines_of(member)]
                wanted += known[end.network.id]
            with suppress(FileNotFoundError, BlockingIOError):
                make_good(self.path(id), wanted)
