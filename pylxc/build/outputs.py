"""Where a build puts its result beside the store: a tar archive, a directory, an image archive.

Hides how outputs are written down. Invariant: an output is judged before the build begins, and written when the image
is made; into a directory nothing is written that could grant a right there, and no link in it is followed.

Source: https://docs.docker.com/reference/cli/docker/buildx/build/#output
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from attrs import frozen

from pylxc.build.described import fields_of, several
from pylxc.build.sources import LayerSource
from pylxc.build.wholefile import whole_file
from pylxc.errors import SpawnError, SpecError, StoreError, UnsupportedError
from pylxc.reference import check_tag
from pylxc.runtime import plan as p
from pylxc.runtime import rootless, transfer
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pylxc.build.selection import Entry
    from pylxc.build.wholefile import Sink
    from pylxc.engine import Engine
    from pylxc.image import Image

OPTION = "output"
KINDS = ("image", "tar", "local", "oci", "docker")
_FORM = f'give a directory, or "type=TYPE,dest=PATH" with TYPE one of {", ".join(KINDS)}'


@frozen
class Output:
    """One output: its ``kind``, a path or a binary stream as ``dest`` ("" for "image"), the image's ``name`` there."""

    kind: str
    dest: str | IO[bytes] = ""
    name: str | None = None


def outputs_of(given: object) -> tuple[Output, ...]:
    """Read outputs as they are given to a build: one, or several. Raises SpecError."""
    return tuple(map(_output, several(given)))


def _output(given: object) -> Output:
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        fields: dict[str, Any] = {"type": "local", "dest": text}
        if isinstance(given, str) and "=" in text:
            fields = fields_of(text)
    elif isinstance(given, Mapping):
        fields = dict(given)
    else:
        raise SpecError(OPTION, given, _FORM)
    unknown = fields.keys() - {"type", "dest", "name"}
    kind, dest, name = fields.get("type"), fields.get("dest"), fields.get("name")
    if unknown or kind not in KINDS:
        raise SpecError(OPTION, given, _FORM)
    if name is not None:
        check_tag(name)
    if kind == "image":
        return Output(kind, name=name)
    if not dest:
        raise SpecError(OPTION, given, f"say where to: type={kind},dest=PATH")
    if isinstance(dest, (str, os.PathLike)):
        dest = os.path.abspath(os.fspath(dest))  # noqa: PTH100  no links are resolved
        _judge(kind, dest)
    elif kind == "local":
        raise SpecError(OPTION, given, "a stream takes an archive: type=tar")
    return Output(str(kind), dest, name)


def _judge(kind: str, dest: str) -> None:
    """Raise SpecError for a place that cannot be written to, whatever comes out of the build."""
    if kind == "local":
        if os.path.lexists(dest) and not os.path.isdir(dest):  # noqa: PTH112
            raise SpecError(OPTION, dest, "it is not a directory")
    elif os.path.isdir(dest):  # noqa: PTH112
        raise SpecError(OPTION, dest, f"it is a directory; type={kind} writes a file")
    elif not os.path.isdir(os.path.dirname(dest)):  # noqa: PTH112, PTH120
        raise SpecError(OPTION, dest, "the directory for it is not there; make it first")


def refuse_passthrough(engine: Engine, base: Image, outputs: Sequence[Output]) -> None:
    """Raise UnsupportedError where files are wanted that are this machine's, and not the image's."""
    _, passthrough = engine.lowers(base.diff_ids)
    if passthrough and any(output.kind != "image" for output in outputs):
        remedy = "COPY what is wanted into a stage FROM scratch, or begin with another image"
        raise UnsupportedError("an output of an image that lies on this machine's own files", remedy)


def write(engine: Engine, image: Image, outputs: Sequence[Output]) -> None:
    """Write a finished image to where it is wanted. Raises StoreError where that fails."""
    for output in outputs:
        if output.kind == "image":
            if output.name is not None:
                image.tag(output.name)
        elif output.kind in ("oci", "docker"):
            names = engine.store.images.get(image.id).refs if output.name is None else (output.name,)
            image.save_all([(image, names)], output.dest, "oci" if output.kind == "oci" else "docker")
        else:
            source, entries = _tree_of(engine, image)

            def feed(out: Sink, source: LayerSource = source, entries: Sequence[Entry] = entries) -> None:
                source.reading(lambda: source.write_tar(entries, out))

            _WRITERS[output.kind](engine, output.dest, feed)


def _tree_of(engine: Engine, image: Image) -> tuple[LayerSource, Sequence[Entry]]:
    """Return an image's files."""
    source = LayerSource.of(engine, "the image", image.diff_ids)
    return source, source.reading(lambda: source.select(["/"], "/", owner=None)).entries


def _write_tar(_engine: Engine, dest: str | IO[bytes], feed: Callable[[Sink], object]) -> None:
    import tempfile  # noqa: PLC0415  heavy, and only here

    with whole_file(dest) as sink:
        if rootless.is_privileged() or isinstance(dest, str):
            feed(sink)
            return
        # Another process reads the layers: what it writes to a stream of this one's is lost, unless it is a file.
        with tempfile.TemporaryFile() as spool:
            feed(spool)
            spool.seek(0)
            while chunk := spool.read(transfer.CHUNK):
                sink.write(chunk)


def _write_directory(engine: Engine, dest: str, feed: Callable[[Sink], object]) -> None:
    try:
        os.makedirs(dest, exist_ok=True)  # noqa: PTH103
        flags = p.UNPACK_BENEATH | p.UNPACK_OWNER_SELF | p.UNPACK_PLAIN
        transfer.unpack(feed, scaffold=engine.scaffold, directory=dest, flags=flags, subject=dest)
    except SpawnError as error:
        raise StoreError(dest, f"cannot be written: {os.strerror(error.errno)} ({error.subject})") from error
    except OSError as error:
        raise StoreError(dest, f"cannot be written: {explain(error)}") from error


_WRITERS: dict[str, Callable[..., None]] = {"tar": _write_tar, "local": _write_directory}
