"""Hides where the ids of an ordinary user's containers come from: two files, and the two programs that hand them out.

Invariant: nothing is mapped that the machine's administrator has not given to the user; whatever is missing comes back
as words that say how to get it.

Source: subuid(5), subgid(5), newuidmap(1), user_namespaces(7).
"""

from __future__ import annotations

import os

from attrs import frozen

PROGRAMS = ("newuidmap", "newgidmap")
FILES = ("/etc/subuid", "/etc/subgid")
PATIENCE = 10.0  # s for a program that writes one line
WANTED = 65536


@frozen
class Extent:
    """A line of an id map: ``inside`` is the first id there, ``outside`` on the host, ``count`` how many follow."""

    inside: int
    outside: int
    count: int


def own_only(id: int) -> tuple[Extent, ...]:  # noqa: A002  what it is
    """Return the map that everybody may have: the user itself, called 0."""
    return (Extent(0, id, 1),)


def extents(path: str, own: int, names: tuple[str, ...]) -> tuple[Extent, ...]:
    """Return the map of user ``own`` with all that a file grants to one of its ``names``: from 1 on, without a gap."""
    found = list(own_only(own))
    for first, count in granted(path, names):
        last = found[-1]
        found.append(Extent(last.inside + last.count, first, count))
    return tuple(found)


def granted(path: str, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the ranges (first, count) that a file grants. Lines that say nothing are passed over."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except (FileNotFoundError, PermissionError):
        return []
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in names and first.isdigit() and count.isdigit() and int(count):
            found.append((int(first), int(count)))
    return found


def names_of(uid: int) -> tuple[str, ...]:
    """Return how the files may call a user: by name, or by number."""
    import pwd  # noqa: PLC0415  once per process

    try:
        return (pwd.getpwuid(uid).pw_name, str(uid))
    except KeyError:
        return (str(uid),)


def lack(uid: int) -> str:
    """Say what a user lacks to have more ids than its own, and how to get it; "" when nothing is lacking."""
    import shutil  # noqa: PLC0415  once per process

    names = names_of(uid)
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not found: install them (Debian and Ubuntu: apt-get install uidmap)"
    for path in FILES:
        if not granted(path, names):
            return (
                f"{path} grants {names[0]} nothing: as root, "
                f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {names[0]}"
            )
    return ""


def write_maps(pid: int, uids: tuple[Extent, ...], gids: tuple[Extent, ...]) -> str:
    """Write the maps of a process in a new user namespace through newuidmap and newgidmap.

    Returns "" or, when they refuse, why.
    """
    import subprocess  # noqa: PLC0415  not for root

    for program, chosen in zip(PROGRAMS, (uids, gids), strict=True):
        numbers = [str(n) for extent in chosen for n in (extent.inside, extent.outside, extent.count)]
        try:
            done = subprocess.run(
                [program, str(pid), *numbers],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program}: {error}"
        if done.returncode:
            return done.stderr.decode("utf-8", "replace").strip() or f"{program} ended with {done.returncode}"
    return ""


def write_own(pid: int) -> None:
    """Write the maps of a process in a new user namespace so that 0 is the calling user. Raises OSError."""
    for name, words in (
        ("setgroups", "deny"),  # else the group's map is refused (user_namespaces(7), "Defining user and group ID")
        ("uid_map", f"0 {os.geteuid()} 1"),
        ("gid_map", f"0 {os.getegid()} 1"),
    ):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, words.encode())
        finally:
            os.close(fd)
