"""Hosts files: whole at every moment for whoever reads them, whoever is killed, whatever a container does to one."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, box, box_engine

import pylxc
from pylxc.store import hostsfiles
from pylxc.store.hostsfiles import SLOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boxes import Box

pytestmark = pytest.mark.root
__all__ = ["box", "box_engine"]


def line(address: str, *names: str) -> bytes:
    return hostsfiles._slot(f"{address}\t{' '.join(names)}")


def meaning(path: Path) -> list[str]:
    """Return what a resolver takes from the file."""
    lines = (text.partition("#")[0].split() for text in path.read_text().splitlines())
    return [" ".join(words) for words in lines if words]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    hostsfiles.make(str(path), ["127.0.0.1\tlocalhost"], [line("10.0.0.2", "one")])
    return path


def test_lines_are_added_dropped_and_their_slots_used_again(file: Path) -> None:
    two, three, long = line("10.0.0.3", "two"), line("10.0.0.4", "three"), line("10.0.0.5", "x" * 100)
    assert (len(two), len(long)) == (SLOT, 2 * SLOT)
    inode = file.stat().st_ino
    hostsfiles.change(str(file), [two, long], ())
    size = file.stat().st_size
    assert meaning(file) == ["127.0.0.1 localhost", "10.0.0.2 one", "10.0.0.3 two", "10.0.0.5 " + "x" * 100]
    hostsfiles.change(str(file), [two], [line("10.0.0.2", "one"), line("10.9.9.9", "nobody")])
    assert meaning(file) == ["127.0.0.1 localhost", "10.0.0.3 two", "10.0.0.5 " + "x" * 100]
    hostsfiles.change(str(file), [three], ())
    assert meaning(file) == ["127.0.0.1 localhost", "10.0.0.4 three", "10.0.0.3 two", "10.0.0.5 " + "x" * 100]
    assert (file.stat().st_size, file.stat().st_ino) == (size, inode)


def test_a_file_that_was_half_written_is_made_good(file: Path) -> None:
    wanted = [line("10.0.0.3", "two"), line("10.0.0.4", "three")]
    hostsfiles.make_good(str(file), wanted)
    assert meaning(file) == ["127.0.0.1 localhost", "10.0.0.3 two", "10.0.0.4 three"]
    before = file.read_bytes()
    hostsfiles.make_good(str(file), wanted)
    assert file.read_bytes() == before


class Writes:
    """Lets ``os.pwrite`` be seen, and whoever calls it die after so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.left = most
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, data: bytes, offset: int) -> int:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self._write(fd, data, offset)


@pytest.mark.parametrize("writes", range(7))
def test_every_moment_of_a_change_is_a_whole_file(file: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Whatever the reader sees is the file before, after, or with some of the changes: never half a line."""
    one, two, three, four = (line(f"10.0.0.{n + 2}", name) for n, name in enumerate(("one", "two", "three", "four")))
    hostsfiles.change(str(file), [two], ())
    with monkeypatch.context() as patched:
        Writes(patched, writes)
        try:
            hostsfiles.change(str(file), [three, four], [one, two])
        except KeyboardInterrupt:
            assert writes < 8
    whole = {"127.0.0.1 localhost", *(text.decode().replace("\t", " ").strip() for text in (one, two, three, four))}
    assert set(meaning(file)) <= whole
    hostsfiles.make_good(str(file), [three, four])  # what the next change does
    assert sorted(meaning(file)) == ["10.0.0.4 three", "10.0.0.5 four", "127.0.0.1 localhost"]


@pytest.fixture
def lab(box: Box) -> Iterator[pylxc.Network]:
    with pylxc.Network.create("lab", engine=box.engine) as made:
        yield made


READ = """
while ! test -e /stop; do
    cat /etc/hosts
    echo "# end"
done
"""


def test_a_reader_inside_never_sees_half_a_line(box: Box, lab: pylxc.Network) -> None:
    with box.start("sh", "-c", READ, network="lab", name="reader") as reader:
        for n in range(12):
            box.run("true", network="lab", name=f"member-{n}0", aliases=[f"also-{n}"])
        reader.exec(["touch", "/stop"], check=False)  # the reader may end, and all with it, before touch does
        assert reader.wait(timeout=20) == 0
        lines_read = [line.text.strip() for line in reader.logs()]
        seen = [text.split() for text in lines_read if text and not text.startswith("#")]
        ends = lines_read.count("# end")
    assert ends > 10
    assert sum(words[1:] == ["localhost"] for words in seen) == ends
    lines = {tuple(words[1:3]) for words in seen if words[1].startswith("member")}
    assert lines <= {(f"member-{n}0", f"also-{n}") for n in range(12)}
    assert len(lines) > 1
    assert {len(words) for words in seen if words[1].startswith("member")} == {4}  # with the beginning of its id
    assert {words[1] for words in seen if not words[1].startswith("member")} == {
        "localhost",
        "host.pylxc.internal",
        "reader",
    }


def test_what_a_killed_process_did_not_tell_the_next_one_tells(box: Box, lab: pylxc.Network) -> None:
    def names(container: pylxc.Container) -> str:
        return container.exec(["cat", "/etc/hosts"]).text

    with (
        box.start("sleep", "100", network="lab", name="first") as first,
        box.start("sleep", "100", network="lab", name="second") as second,
    ):
        # Killed between the change of the index and those of the files:
        box.engine.store.networks.change_names(second.id, up=False)
        assert "second" in names(first)
        with box.start("sleep", "100", network="lab", name="third"):
            assert "second" not in names(first)
            assert "third" in names(first)


def test_a_container_that_spoils_its_file_keeps_nobody_from_anything(box: Box, lab: pylxc.Network) -> None:
    spoil = {
        "emptied": ">/etc/hosts",
        "large": "truncate -s 1000000000 /etc/hosts",
        "junk": "head -c 100000 /dev/urandom >/etc/hosts",
        "closed": "chmod 0 /etc/hosts",
        "appended": "echo 192.0.2.7 mine >>/etc/hosts",
        "open-ended": "printf '192.0.2.8 mine' >>/etc/hosts",
    }
    made = [box.start("sleep", "100", network="lab", name=name) for name in spoil]
    try:
        for container in made:
            container.exec(["sh", "-c", spoil[container.name]])
        with box.start("sleep", "100", network="lab", name="last") as last:
            assert len(lab.members()) == len(spoil) + 1
            names = last.exec(["cat", "/etc/hosts"]).text
            assert all(name in names for name in spoil)
            for container in made:
                if container.name in ("emptied", "appended", "open-ended", "closed"):
                    found = container.exec(["grep", "-c", "^10.*last", "/etc/hosts"]).text
                    assert found == "1\n", container.name
            (kept,) = [one for one in made if one.name == "open-ended"]
            assert "192.0.2.8 mine\n" in kept.exec(["cat", "/etc/hosts"]).text
    finally:
        for container in made:
            container.remove(force=True)


def test_a_lease_on_a_file_delays_nobody(box: Box, lab: pylxc.Network) -> None:
    """A container may be told before others open its file, and let them wait for 45 s (fcntl(2), F_SETLEASE)."""
    with box.start("sleep", "100", network="lab", name="first") as first:
        path = box.engine.store.hostsfiles.path(first.id)
        fd = os.open(path, os.O_RDONLY)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the holder is told
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            assert box.run("true", network="lab", name="second", timeout=20).ok
        finally:
            os.close(fd)
            signal.signal(signal.SIGIO, before)
        await_true(lambda: first.status() == "running", "the container")
