"""A host's network of a test's own: a namespace for this thread and all that it starts, and independent readers.

An ordinary user has one already: the stack that its networks are in is there while a container is on one.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from boxes import await_true, is_alive, monitors

from pylxc import linux

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pylxc


@contextmanager
def own_network() -> Iterator[None]:
    """Let this thread be on a host with nothing but a loopback link, and come back from it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CloneFlag.NEWNET)
        try:
            run("ip", "link", "set", "lo", "up")
            yield
        finally:
            linux.setns(before, linux.CloneFlag.NEWNET)
    finally:
        os.close(before)


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host with a loopback link only; what a test leaves on it fails the test. An ordinary user keeps its host."""
    if os.geteuid():
        yield
        await_true(lambda: stacks() == set(), "the end of the network stack")
        return
    with own_network():
        before = links()
        yield
        # The kernel takes a namespace apart, with the links in it, a moment after its last process has ended.
        await_true(lambda: (links() - before, tables()) == (set(), set()), "the end of all links and tables")


def reap_orphans(before: set[int]) -> None:
    """Wait for the monitors of an owner that was killed, and reap them where this is the first process of all."""
    await_true(lambda: monitors() <= before, "the end of a killed owner's monitors")
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run(*command: str, inside: int = 0) -> str:
    """Return what a program writes; ``inside``: in the network of that process."""
    enter = entering(inside) if inside else []
    return subprocess.run([*enter, *command], check=True, capture_output=True, text=True, timeout=60).stdout


def entering(pid: int) -> list[str]:
    """Return the words that let a command run in the network of a process; of the user's own, for an ordinary user."""
    return ["nsenter", "-t", str(pid), "-n", *(["-U", "--preserve-credentials"] if os.geteuid() else [])]


def place(engine: pylxc.Engine) -> int:
    """Return a process that is where the bridges of a store are: 0, which is this one, or that of a user's stack."""
    return int((engine.root / "stack").read_text().split()[0]) if os.geteuid() else 0


def stacks() -> set[int]:
    """Return the pids of the processes that keep the stacks of ordinary users, here and now."""
    found = set()
    for entry in os.listdir("/proc"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if entry.isdigit() and Path(f"/proc/{entry}/comm").read_bytes() == b"pylxc-stack\n":
                found |= {int(entry)} if is_alive(int(entry)) else set()
    return found


def ip(*words: str, inside: int = 0) -> Any:
    """Return what ip(8) says, parsed."""
    return json.loads(run("ip", "-j", *words, inside=inside) or "[]")


def links(inside: int = 0) -> set[str]:
    """Return the names of all links."""
    return {link["ifname"] for link in ip("link", inside=inside)}


def addresses(link: str, inside: int = 0) -> set[str]:
    """Return the addresses of a link that were given to it."""
    found = ip("addr", "show", "dev", link, inside=inside)[0]["addr_info"]
    return {f"{one['local']}/{one['prefixlen']}" for one in found if one["scope"] == "global"}


def ports(network: pylxc.Network, engine: pylxc.Engine) -> int:
    """Return how many links are on a network's bridge."""
    return len(ip("link", "show", "master", network.bridge, inside=place(engine)))


def tables(inside: int = 0) -> set[str]:
    """Return the names of all tables of nftables."""
    listed = json.loads(run("nft", "-j", "list", "tables", inside=inside))["nftables"]
    return {entry["table"]["name"] for entry in listed if "table" in entry}
