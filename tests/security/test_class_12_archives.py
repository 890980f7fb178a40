"""Attack class 12: an archive changes nothing but its own tree, whatever its names, links, marks and attributes say."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from archives import END, block, directory, file, pax

import pylxc
from pylxc.runtime import transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAD = b"overwritten"


def link(name: bytes, to: bytes, kind: bytes = b"2") -> bytes:
    """Make an entry for a link of any length."""
    return pax((b"linkpath", to)) + block(name, kind)


def chain(out: bytes) -> bytes:
    """Go to ``out`` by a link to a link to a link, each in a directory of its own."""
    steps = [directory(b"d0"), link(b"d0/l", out)]
    for i in range(1, 6):
        steps += [directory(b"d%d" % i), link(b"d%d/l" % i, b"../d%d/l" % (i - 1))]
    return b"".join(steps) + file(b"d5/l/secret", BAD)


# Each gets the path of a directory of the host that everybody may write to, with a file "secret" in it.
ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "a file through a link": lambda out: link(b"l", out) + file(b"l/secret", BAD),
    "a file through a link upwards": lambda out: link(b"l", b"../" * 40 + out[1:]) + file(b"l/secret", BAD),
    "a file through a link in the middle": lambda out: (
        link(b"a/b", out[: out.rindex(b"/")]) + file(b"a/b/%b/secret" % out[out.rindex(b"/") + 1 :], BAD)
    ),
    "a new file through a link": lambda out: link(b"l", out) + file(b"l/new", BAD),
    "a directory through a link": lambda out: link(b"l", out) + directory(b"l/made"),
    "parents through a link": lambda out: link(b"l", out) + file(b"l/made/on/the/way"),
    "a link through a link": lambda out: link(b"l", out) + link(b"l/secret", b"/etc/passwd"),
    "a FIFO through a link": lambda out: link(b"l", out) + block(b"l/fifo", b"6"),
    "a hard link through a link": lambda out: link(b"l", out) + file(b"mine", BAD) + link(b"l/secret", b"mine", b"1"),
    "a whiteout through a link": lambda out: link(b"l", out) + file(b"l/.wh.gone"),
    "links in a chain": chain,
    "a link exchanged for its directory": lambda out: (
        directory(b"d") + file(b"d/first") + link(b"d", out) + file(b"d/secret", BAD)
    ),
    "the parent that was just used": lambda out: directory(b"d") + link(b"d/up", out) + file(b"d/up/secret", BAD),
}
# The answer of a layer whose root is no directory, of one whose files lead into another one's, and others like them.
REFUSED = {
    "its root is a link": lambda out: link(b".", out) + file(b"secret", BAD),
    "its root is a file": lambda _out: file(b".", BAD),
    "dots": lambda out: file(b"../" * 20 + out[1:] + b"/secret", BAD),
    "dots in the middle": lambda out: directory(b"a") + file(b"a/" + b"../" * 20 + out[1:] + b"/secret", BAD),
    "dots in a record": lambda out: pax((b"path", b"../" * 20 + out[1:] + b"/secret")) + file(b"x", BAD),
    "a hard link by dots": lambda out: link(b"h", b"../" * 20 + out[1:] + b"/secret", b"1") + file(b"h", BAD),
    "a hard link through a link": lambda out: link(b"l", out) + link(b"h", b"l/secret", b"1") + file(b"h", BAD),
    "a whiteout of dots": lambda _out: file(b".wh..."),
    "an opaque mark through a link": lambda out: link(b"l", out) + file(b"l/.wh..wh..opq"),
    "an overlay's redirection": lambda out: pax((b"SCHILY.xattr.user.overlay.redirect", out)) + directory(b"d"),
    "the same, as libarchive writes it": lambda _out: (
        pax((b"LIBARCHIVE.xattr.user.overlay%2Eredirect", b"L2V0Yw")) + directory(b"d")
    ),
    "a whiteout as a device": lambda _out: block(b"secret", b"3"),
    "a hard link to a whiteout": lambda _out: file(b".wh.x") + block(b"h", b"1", link=b"x"),
    "an attribute's name with a NUL": lambda _out: pax((b"SCHILY.xattr.user.\0x", b"v")) + file(b"f"),
    "the same, encoded": lambda _out: pax((b"LIBARCHIVE.xattr.user.%00x", b"dg")) + file(b"f"),
    "an attribute's name too long": lambda _out: pax((b"SCHILY.xattr.user." + b"n" * 300, b"v")) + file(b"f"),
    "a capability that is none": lambda _out: pax((b"SCHILY.xattr.security.capability", b"")) + file(b"f"),
    "an owner out of range": lambda _out: file(b"f", uid=(1 << 63 | 1 << 32).to_bytes(8, "big")),
    "an owner that means nobody": lambda _out: pax((b"uid", b"%d" % (2**32 - 1))) + file(b"f"),
    "a negative owner": lambda _out: file(b"f", gid=b"\xff" * 8),
    "a path longer than any": lambda _out: pax((b"path", b"d/" * 2048 + b"f")) + file(b"x"),
}


def take(engine: pylxc.Engine, data: bytes) -> pylxc.Image:
    return pylxc.Image.from_tar(io.BytesIO(data + END), engine=engine)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_leads_out_leads_nowhere(engine, canary, attack):
    """Refused, since the place is not in the archive; or carried out there, when the archive has the place as well."""
    out = os.fsencode(canary.place)
    with pytest.raises(pylxc.StoreError) as caught:
        take(engine, ATTACKS[attack](out))
    assert caught.value.path
    assert not canary.is_hurt()
    image = take(engine, directory(out[1:]) + ATTACKS[attack](out))
    assert any(image.layers[0].entries())
    assert not canary.is_hurt()
    image.remove()


# Upwards there is only the memory that the root lies on, even then.
@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - {"a file through a link upwards"}))
def test_it_bites(engine, canary, weaken, attack):
    """In a process that sees the host, with links that end where the host's root does, each of them hits."""
    with weaken("PIVOT", "ARCHIVE_RESOLVE"):
        try:
            image = take(engine, ATTACKS[attack](os.fsencode(canary.place)))
        except pylxc.StoreError:
            pass  # some end in an error after the harm is done: there is no directory that is the place's own
        else:
            image.remove()
    assert canary.is_hurt()
    canary.heal()


DEVICE = "a whiteout as a device"  # passed over where nobody may make devices


@pytest.mark.parametrize(
    "attack", [*(name for name in REFUSED if name != DEVICE), pytest.param(DEVICE, marks=pytest.mark.root)]
)
def test_what_is_refused_names_the_entry(engine, canary, attack):
    with pytest.raises(pylxc.StoreError) as caught:
        take(engine, file(b"before", b"good") + REFUSED[attack](os.fsencode(canary.place)))
    assert caught.value.path
    assert "nothing was kept" in str(caught.value)
    assert pylxc.Image.list(engine=engine) == []
    assert not canary.is_hurt()


def test_nothing_is_written_through(engine, canary, weaken):
    """A file in the place of a link replaces the link; it bites, for one that is only opened writes to the host."""
    data = link(b"l", os.fsencode(canary.secret)) + file(b"l", BAD)
    take(engine, data).remove()
    assert not canary.is_hurt()
    with weaken("PIVOT", "ARCHIVE_MADE_ANEW"):
        take(engine, data).remove()
    assert canary.secret.read_bytes().startswith(BAD)
    canary.heal()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root file system with a file beside the directory that an archive is unpacked into."""
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "secret").write_bytes(b"kept")
    return root


def unpack(engine: pylxc.Engine, data: bytes, tree: Path) -> None:
    def feed(out: io.BufferedIOBase) -> None:
        out.write(data + END)

    assert engine.store  # which makes the scaffold
    transfer.unpack(feed, scaffold=engine.scaffold, directory=str(tree), destination="/opt", flags=0)


@pytest.mark.root  # an ordinary user's files belong to other ids than the tree's
@pytest.mark.parametrize("name", [b"../secret", b"/../secret", b"x/../../secret"])
def test_dots_do_not_leave_the_destination(engine, tree, weaken, name):
    data = directory(b"x") + file(name, BAD)
    with pytest.raises(pylxc.SpawnError) as caught:
        unpack(engine, data, tree)
    assert caught.value.stage == "unpack"
    assert (tree / "secret").read_bytes() == b"kept"
    with weaken("DOT_DOT"):
        unpack(engine, data, tree)
    assert (tree / "secret").read_bytes() == BAD


def test_an_overlay_attribute_bites(engine, weaken):
    """Left in, it is the layer's own: overlayfs would take it for its word."""
    forged = pax((b"SCHILY.xattr.user.overlay.opaque", b"y")) + directory(b"d")
    with pytest.raises(pylxc.StoreError, match="overlayfs"):
        take(engine, forged)
    with weaken("OVERLAY_ATTRIBUTES"):
        image = take(engine, forged)
    place = engine.layer_directory(image.layers[0].digest)
    assert os.getxattr(f"{place}/d", "user.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    "name",
    [
        "sha256:../../../../etc",
        "sha256:" + "../" * 21 + "f",
        "../../etc/passwd",
        "/etc/passwd",
        "sha256:",
        "x@sha256:../y",
    ],
)
def test_a_digest_is_no_path(engine, canary, name):
    with pytest.raises((pylxc.NotFound, pylxc.SpecError)):
        pylxc.Image.get(name, engine=engine)


def test_a_chain_of_directories(engine):
    """Deeper than Python recurses; and deeper than any path, by links: that is an error, and nothing of it stays."""
    deep = b"d/" * 1500
    take(engine, pax((b"path", deep)) + directory(b"x") + pax((b"path", deep + b"f")) + file(b"x")).remove()
    longer = b"".join(
        pax((b"path", b"l%d/" % i + deep)) + directory(b"x") + link(b"l%d" % (i + 1), b"l%d/" % i + deep)
        for i in range(3)
    )
    with pytest.raises(pylxc.StoreError):
        take(engine, directory(b"t") + link(b"l0", b"t") + longer)
    for part in ("layers", "staging"):
        assert os.listdir(engine.root / part) == []
