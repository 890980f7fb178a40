"""Images: a configuration over layers, named by content and by tags.

Invariant: an :class:`Image` is a value; its properties were read when it was made, and two with one id are equal.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from pylxc.errors import DockerfileError, SpecError, StoreError, UnsupportedError
from pylxc.imageconfig import History, ImageConfig, ImageDocument
from pylxc.layer import Layer
from pylxc.spec import this_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, BinaryIO

    from pylxc.build.events import BuildEvent
    from pylxc.engine import Engine
    from pylxc.store import ImageRow, Lease, TagMove

BOOTSTRAP_TIMEOUT = 1800.0  # s
MESSAGE_LINES = 15  # of a failed tool's output that its error carries


@frozen
class Image:
    """An image.

    ``id`` ("sha256:…" of its configuration), ``digest`` (of its manifest), ``refs`` (the tags that named it when it was
    asked for), ``config``, ``layers`` (the lowest first), ``created`` (s since the epoch), ``size`` (bytes, the sum of its
    layers), ``platform`` ("linux/amd64").

    Example:
        >>> image = pylxc.Image.build(".", tag="app:1")                             # doctest: +SKIP
        >>> image.config.cmd
        ('/usr/bin/app',)

    """

    id: str
    digest: str = field(eq=False)
    refs: tuple[str, ...] = field(eq=False)
    config: ImageConfig = field(eq=False, repr=False)
    layers: tuple[Layer, ...] = field(eq=False, repr=False)
    created: float = field(eq=False)
    platform: str = field(eq=False)
    _document: ImageDocument = field(eq=False, repr=False)
    _engine: Engine = field(eq=False, repr=False)

    @property
    def size(self) -> int:
        """The sum of its layers' sizes, in bytes."""
        return sum(layer.size for layer in self.layers)

    @classmethod
    def of(cls, engine: Engine, row: ImageRow) -> Image:
        """Return the image that a row of the index describes."""
        document = row.document
        layers = tuple(Layer(layer.digest, layer.size, layer.created_by, engine) for layer in row.layers)
        return cls(
            row.id, row.manifest, row.refs, document.config, layers, document.created, document.platform, document, engine
        )

    # -- finding ----------------------------------------------------------------------------------------------------

    @classmethod
    def get(cls, ref: str, *, engine: Engine | None = None) -> Image:
        """Return the image that a reference, an id, the beginning of one, ``ref@{n}`` or "host" means.

        Raises ImageNotFound, naming what is near; Conflict when several ids begin so; SpecError for a malformed one.
        """
        return _engine(engine).image(ref)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> list[Image]:
        """Return all images, the newest first."""
        chosen = _engine(engine)
        return [cls.of(chosen, row) for row in chosen.store.images.list()]

    @classmethod
    def host(cls, *, engine: Engine | None = None) -> Image:
        """Return the embedded image: this machine's own operating system, read-only, without a download or a copy.

        It shows ``/usr`` and the part of ``/etc`` that programs need; never home directories, keys, shadow files, sockets or
        other users' data. The word ``"host"`` means it wherever a reference may stand.
        """
        return _engine(engine).host_image()

    @classmethod
    def log(cls, ref: str, *, engine: Engine | None = None) -> Sequence[TagMove]:
        """Return every move of a tag, the latest first: what it named (``old``), then (``new``), and when (``time``)."""
        return _engine(engine).store.images.log(ref)

    # -- making -----------------------------------------------------------------------------------------------------

    @classmethod
    def scratch(cls, *, engine: Engine | None = None) -> Image:
        """Return the empty image: no layer, no configuration. It is what ``FROM scratch`` starts from."""
        chosen = _engine(engine)
        document = ImageDocument(config=ImageConfig(), platform=this_platform(), created=0.0, diff_ids=())
        with chosen.store.leases.take() as lease:
            return cls.of(chosen, chosen.store.images.add(document, None, lease))

    @classmethod
    def build(  # noqa: PLR0913  the public contract
        cls,
        context: str | os.PathLike[str],
        dockerfile: str | os.PathLike[str] = "Dockerfile",
        tag: str | Sequence[str] | None = None,
        args: Mapping[str, str] | None = None,
        target: str | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        no_cache: bool = False,
        network: str = "host",
        on_event: Callable[[BuildEvent], object] | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Build an image from a directory with a Dockerfile.

        Args:
            context: the directory that COPY and ADD take files from; its ``.dockerignore`` is heeded.
            dockerfile: the Dockerfile, relative to the context or absolute.
            tag: a reference, or several, for the result.
            args: values of ARGs.
            target: the stage to build; only the last one so far.
            secrets: not in this version.
            no_cache: carry out every step anew.
            network: of RUN steps, "host" or "none".
            on_event: called with a :class:`~pylxc.BuildEvent` for everything that happens.
            engine: the store to use.

        Raises:
            BuildError: a step failed; it names the step, and for a RUN its exit code and the end of its output. Nothing is
                tagged or added then; layers of the steps before it stay as cache.
            DockerfileError: the Dockerfile is missing or malformed; line and column.
            ImageNotFound: the image after FROM is not there.

        Example:
            >>> pylxc.Image.build("examples/redis", tag="redis:seed")               # doctest: +SKIP

        """
        from pylxc.build.build import build  # noqa: PLC0415  only for builds

        if secrets:
            raise UnsupportedError("secrets", "not in this version of pylxc; give build arguments for what is no secret")
        return build(
            _engine(engine),
            context,
            dockerfile,
            tags=(tag,) if isinstance(tag, str) else tuple(tag or ()),
            args=dict(args or {}),
            target=target,
            no_cache=no_cache,
            network=network,
            on_event=on_event,
        )

    @classmethod
    def from_tar(
        cls,
        source: str | os.PathLike[str] | IO[bytes],
        ref: str | None = None,
        *,
        config: ImageConfig | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Make an image of one layer from a tar archive of a root file system (plain, gzip, bzip2 or xz).

        ``source`` is a path or a binary stream; ``config`` is the image's configuration (default: empty). Raises StoreError
        for what is no archive, is damaged or ends early, naming the entry; nothing is kept then.
        """
        from pylxc.build.context import open_archive  # noqa: PLC0415  only for imports
        from pylxc.runtime import plan, transfer  # noqa: PLC0415

        def fill(directory: str, scaffold: str) -> None:
            try:
                archive = open_archive(source)
            except OSError as error:
                raise StoreError(_name(source), f"cannot be read: {error.strerror}") from error
            with archive:
                flags = plan.UNPACK_LAYER
                transfer.unpack(
                    lambda out: transfer.copy(archive, out),  # type: ignore[arg-type]
                    scaffold=scaffold,
                    directory=directory,
                    flags=flags,
                    subject=_name(source),
                )

        return cls._import(fill, ref, f"import of {os.path.basename(_name(source))}", config, engine)  # noqa: PTH119

    @classmethod
    def from_directory(
        cls,
        path: str | os.PathLike[str],
        ref: str | None = None,
        *,
        config: ImageConfig | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Make an image of one layer from a directory: its files, owners, modes, links and extended attributes.

        Raises StoreError when the directory cannot be read; nothing is kept then.
        """
        from pylxc.runtime import plan, transfer  # noqa: PLC0415  only for imports

        source = os.path.abspath(path)  # noqa: PTH100
        if not os.path.isdir(source):  # noqa: PTH112
            raise StoreError(source, "is not a directory; give the one that holds the root file system")

        def fill(directory: str, scaffold: str) -> None:
            with transfer.packed(source, scaffold=scaffold, flags=0) as stream:
                transfer.unpack(
                    lambda out: transfer.copy(stream, out),
                    scaffold=scaffold,
                    directory=directory,
                    flags=plan.UNPACK_LAYER,
                    subject=source,
                )

        return cls._import(fill, ref, f"import of {os.path.basename(source)}", config, engine)  # noqa: PTH119

    @classmethod
    def bootstrap(  # noqa: PLR0913  the public contract
        cls,
        distribution: str,
        suite: str,
        packages: Sequence[str] = (),
        mirror: str | None = None,
        ref: str | None = None,
        *,
        engine: Engine | None = None,
    ) -> Image:
        """Make a base image from a distribution's own mirror, by mmdebstrap or debootstrap.

        ``ref`` is by default ``"debian:bookworm"`` for ``("debian", "bookworm")``. It needs root and the network. Raises
        UnsupportedError when neither tool is installed, StoreError with the tool's last words when it fails.
        """
        from pylxc.bootstrap import bootstrap  # noqa: PLC0415  only here

        return bootstrap(_engine(engine), distribution, suite, tuple(packages), mirror, ref or f"{distribution}:{suite}")

    @classmethod
    def _import(
        cls,
        fill: Callable[[str, str], None],
        ref: str | None,
        words: str,
        config: ImageConfig | None,
        engine: Engine | None,
    ) -> Image:
        """Make an image of one layer, which ``fill(directory, scaffold)`` writes."""
        from pylxc.errors import SpawnError  # noqa: PLC0415

        chosen = _engine(engine)
        with chosen.store.leases.take() as lease:
            tree = f"{lease.stage()}/tree"
            os.mkdir(tree, 0o755)  # noqa: PTH102
            os.chmod(tree, 0o755)  # noqa: PTH101  whatever the umask
            try:
                fill(tree, chosen.scaffold)
                layer = chosen.commit_layer(lease, tree, words)
            except SpawnError as error:
                raise StoreError(error.subject, _unpack_reason(error)) from error
            created = layer.created
            document = ImageDocument(
                config=config or ImageConfig(),
                platform=this_platform(),
                created=created,
                diff_ids=(layer.digest,),
                history=(History(created=created, created_by=words),),
            )
            return cls.of(chosen, chosen.store.images.add(document, ref, lease))

    # -- using ------------------------------------------------------------------------------------------------------

    def tag(self, ref: str) -> None:
        """Let a reference name this image, wherever it pointed before. Raises SpecError for a malformed one."""
        self._engine.store.images.tag(self.id, ref)

    def untag(self, ref: str) -> None:
        """Take a reference away; the image stays. Raises ImageNotFound when nothing bears it."""
        self._engine.store.images.untag(ref)

    def history(self) -> Sequence[History]:
        """Return the steps that made the image, the first one first."""
        return self._document.history

    def remove(self) -> None:
        """Remove the image, its tags, and the layers that no other image needs. Raises Conflict when a container uses it."""
        self._engine.store.images.remove(self.id)


def _engine(engine: Engine | None) -> Engine:
    from pylxc.engine import Engine as EngineClass  # noqa: PLC0415  `import pylxc` stays cheap

    return engine if engine is not None else EngineClass.default()


def _name(source: str | os.PathLike[str] | IO[bytes]) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(getattr(source, "name", "the stream"))


def _unpack_reason(error: object) -> str:
    """Return the words for what the unpacker reports as an errno; see csrc/helper/tar.h."""
    import errno  # noqa: PLC0415

    reasons = {
        errno.EBADMSG: "is not a tar archive, is damaged, or ends too early; nothing was kept",
        errno.EXDEV: "a name leads out of the archive with '..'; nothing was kept",
        errno.EOPNOTSUPP: "an entry is of a kind that is not supported; nothing was kept",
        errno.EFBIG: "unpacks to more than is allowed; nothing was kept",
    }
    number: int = error.errno  # type: ignore[attr-defined]
    return reasons.get(number, f"cannot be unpacked ({os.strerror(number)}); nothing was kept")
