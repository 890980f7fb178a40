"""What is done to a store while it dies: small operations, and the store that each begins with.

Invariant: an operation comes to the same, whenever and wherever it is done; so what it leaves can be compared.
"""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import tarfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pictures
from attrs import frozen
from fake import Fake

import pylxc
from pylxc.documents import Descriptor
from pylxc.exchange.incoming import Incoming
from pylxc.registry.dockerconfig import DockerConfig
from pylxc.registry.settings import Settings
from pylxc.runtime import rootless
from pylxc.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCKERFILE = "FROM base:1\nWORKDIR /srv\nCOPY one two /srv/\nLABEL made=here\nCOPY three /three\n"


@frozen
class Operation:
    """``prepare`` gives what is to be watched, on an opened store; ``again``: it may be refused, the second time."""

    name: str
    prepare: Callable[[Path, Path], Callable[[], object]]
    again: tuple[type[Exception], ...] = ()
    template: str = "plain"


# -- layers ------------------------------------------------------------------------------------------------------------


def layer(name: str, *, without: str = "") -> bytes:
    """A small layer with something of every kind that an ordinary user may unpack, and marks for what is below."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(path: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object) -> None:
            member = tarfile.TarInfo(path)
            member.type, member.size, member.mode, member.mtime = kind, len(content), 0o644, 1_000_000_000
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))

        add(f"{name}", tarfile.DIRTYPE, mode=0o755, uid=3, gid=4)
        add(f"{name}/file", content=name.encode() * 600, mode=0o4711, uid=1, mtime=1_000_000_000.25)
        add(f"{name}/again", tarfile.LNKTYPE, linkname=f"{name}/file")
        add(f"{name}/link", tarfile.SYMTYPE, linkname="/nowhere", mode=0o777)
        add(f"{name}/fifo", tarfile.FIFOTYPE, mode=0o600)
        add(f"{name}/noted", content=b"", pax_headers={"SCHILY.xattr.user.note": f"of {name}"})
        add(f"{name}/closed", tarfile.DIRTYPE, mode=0o700, uid=5)
        add(f"{name}/closed/{'long' * 30}", content=b"deep", mode=0o600, uid=5)
        if without:
            add(f".wh.{without}")
            add(f"{name}/opaque", tarfile.DIRTYPE, mode=0o755)
            add(f"{name}/opaque/.wh..wh..opq")
            add(f"{name}/opaque/.wh.gone")
    return out.getvalue()


def archive(path: Path, *images: tuple[tuple[str, ...], tuple[bytes, ...], str]) -> None:
    """Write an archive: of each image its names, its layers and how those are compressed."""
    layout = pictures.Layout()
    entries = []
    for names, layers, form in images:
        made = layout.image(*layers, form=form)
        entries += [pictures.named(made, name) for name in names]
    path.write_bytes(pictures.packed(layout.top(*entries)))


@contextmanager
def registry(material: Path) -> Iterator[None]:
    """Serve an image under several tags for the length of a block, in a process without threads of ours."""
    server = Fake()
    layout = pictures.Layout()
    layers = {name: layer(name) for name in ("below", "pulled", "lifted")}
    for tag, names in {"1": ("below", "pulled", "lifted"), "2": ("below", "lifted")}.items():
        made = layout.image(*(layers[name] for name in names), form="gzip")
        server.add_manifest(tag, layout[f"blobs/sha256/{made['digest'][7:]}"])
    for data in layout.values():
        server.add(data)
    (material / "registry").write_text(server.host)
    pid = os.fork()
    if pid == 0:
        server.serve_forever()
    server.server_close()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def make_material(directory: Path) -> None:
    """Write what the operations work with."""
    below, other, new, third = layer("below"), layer("other", without="below"), layer("new"), layer("third")
    archive(directory / "base.tar", (("docker.io/library/base:1",), (below, layer("above", without="below")), "gzip"))
    archive(directory / "other.tar", (("docker.io/library/other:1",), (below, other), "zstd"))
    archive(directory / "new.tar", (("docker.io/library/new:1", "docker.io/library/app:1"), (below, new), "gzip"))
    archive(
        directory / "two.tar",
        (("docker.io/library/new:1",), (below, new, third), "gzip"),
        (("docker.io/library/new:2",), (below, layer("fourth", without="below")), ""),
    )
    context = directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (directory / "Another").write_text(DOCKERFILE.replace("/srv", "/opt"))
    (context / "three").mkdir()
    for name in ("one", "two", "three/four"):
        (context / name).write_text(name)
        (context / name).chmod(0o644)
    for path in (*context.rglob("*"), context):
        os.utime(path, (1_000_000_000, 1_000_000_000))


# -- templates ---------------------------------------------------------------------------------------------------------


def make_template(material: Path, root: Path) -> None:
    """Make the store that the operations begin with."""
    engine = pylxc.Engine(root)
    base = pylxc.Image.load(material / "base.tar", engine=engine)
    pylxc.Image.load(material / "other.tar", engine=engine)
    base.tag("app:1")
    base.tag("app:2")
    context = material / "context"
    pylxc.Image.build(context, tag="made:1", engine=engine)
    close(engine)


def leave_rubbish(material: Path, root: Path) -> None:
    """Make that store, and let a process be killed in the middle of its work on it: all kinds of rubbish are left."""
    make_template(material, root)
    engine = pylxc.Engine(root)
    layers = {name: layer(name) for name in ("rubbish", "wreck")}
    with engine.store.leases.take() as lease:
        for name, data in layers.items():
            packed = gzip.compress(data, mtime=0)
            kind = f"{pictures.LAYER}+gzip"
            descriptor = Descriptor(digest=pictures.digest_of(packed), size=len(packed), media_type=kind)
            Incoming(engine, lease).layer(descriptor, pictures.digest_of(data), io.BytesIO(packed), name)
        half = Path(lease.stage(), "tree")
        half.mkdir()
        (half / "half").write_text("half")
        (root / "staging" / ".index.json.0123456789ab").write_text("half")
        for place in ("trash/one", "layers/" + "0" * 64):
            (root / place / "below").mkdir(parents=True)
            (root / place / "below/file").write_text("rubbish")
        (root / "oci/blobs/sha256" / ("1" * 64)).write_text("rubbish")
        (root / "oci/index.json").write_text("{}")
        os._exit(0)


TEMPLATES = {"plain": make_template, "rubbish": leave_rubbish}


def close(engine: pylxc.Engine) -> None:
    """Close a store's connection, which writes its journal back."""
    database = engine.store.leases._database
    connection, database._connection = database._connection, None
    if connection is not None:
        connection.close()


def copy(template: Path, target: Path) -> None:
    """Copy a store with all that its files are."""
    rootless.as_owner(subprocess.check_call, ["cp", "-a", str(template), str(target)])


def remove(root: Path) -> None:
    """Remove a store."""
    rootless.as_owner(subprocess.check_call, ["rm", "-rf", str(root)])


def clear(engine: pylxc.Engine) -> None:
    """Remove every image, and what builds remember."""
    for image in pylxc.Image.list(engine=engine):
        image.remove()
    engine.prune(all=True)


# -- operations --------------------------------------------------------------------------------------------------------


def _opened(root: Path) -> pylxc.Engine:
    engine = pylxc.Engine(root)
    assert engine.store.images.list()
    return engine


def _load(name: str, material: Path, root: Path) -> Callable[[], object]:
    return partial(pylxc.Image.load_all, material / name, engine=_opened(root))


def _build(material: Path, root: Path) -> Callable[[], object]:
    engine = _opened(root)
    tags = ["fresh:1", "app:1", "fresh:2"]
    return partial(pylxc.Image.build, material / "context", tag=tags, no_cache=True, engine=engine)


def _build_anew(material: Path, root: Path) -> Callable[[], object]:
    """Build what was not built before: the layers are new, too."""
    engine = _opened(root)
    tags = ["fresh:1", "app:1"]
    return partial(pylxc.Image.build, material / "context", dockerfile=material / "Another", tag=tags, engine=engine)


def _tag(material: Path, root: Path) -> Callable[[], object]:
    return partial(pylxc.Image.get("other:1", engine=_opened(root)).tag, "app:1")


def _untag(material: Path, root: Path) -> Callable[[], object]:
    return partial(pylxc.Image.get("base:1", engine=_opened(root)).untag, "app:2")


def _remove(name: str, material: Path, root: Path) -> Callable[[], object]:
    engine = _opened(root)
    return lambda: pylxc.Image.get(name, engine=engine).remove()


def _save(material: Path, root: Path) -> Callable[[], object]:
    image = pylxc.Image.get("made:1", engine=_opened(root))
    return partial(image.save, f"{root}.tar", "docker")


def _import(material: Path, root: Path) -> Callable[[], object]:
    engine = _opened(root)
    return partial(pylxc.Image.from_directory, material / "context", "imported:1", engine=engine)


def pull(material: Path, engine: pylxc.Engine, tag: str) -> pylxc.Image:
    """Pull from that registry."""
    settings = Settings(config=DockerConfig(material / "config.json"), retries=0)
    return pylxc.Image.pull(f"{(material / 'registry').read_text()}/app:{tag}", settings=settings, engine=engine)


def _pull(material: Path, root: Path) -> Callable[[], object]:
    return partial(pull, material, _opened(root), "1")


def _open(material: Path, root: Path) -> Callable[[], object]:
    return partial(Store, root)


OPERATIONS = (
    Operation("load", partial(_load, "new.tar")),
    Operation("load-two", partial(_load, "two.tar")),
    Operation("pull", _pull),
    Operation("build", _build_anew),
    Operation("build-again", _build),
    Operation("import", _import),
    Operation("tag", _tag),
    Operation("untag", _untag, again=(pylxc.ImageNotFound,)),
    Operation("remove", partial(_remove, "other:1"), again=(pylxc.ImageNotFound,)),
    Operation("remove-made", partial(_remove, "made:1"), again=(pylxc.ImageNotFound,)),
    Operation("save", _save),
    Operation("gc", _open, template="rubbish"),
)
