"""Images: a configuration over layers, named by content and by tags.

Invariant: an :class:`Image` is a value; its properties were read when it was made, and two with one id are equal.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.defaults import engine_of
from pylxc.errors import SpecError
from pylxc.imageconfig import ImageConfig, ImageDocument
from pylxc.layer import Layer
from pylxc.platforms import normal, this_platform
from pylxc.reference import check_tag

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO, Literal

    from pylxc.build.agents import AgentSource
    from pylxc.build.events import BuildEvent
    from pylxc.build.secrets import SecretSource
    from pylxc.engine import Engine
    from pylxc.imageconfig import History
    from pylxc.registry.progress import Progress
    from pylxc.registry.settings import Settings
    from pylxc.store import ImageRow, LayerRow, TagMove

    Output = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str] | IO[bytes]]
    CachePlace = str | os.PathLike[str]


@frozen
class Image:
    """An image.

    ``id`` ("sha256:…" of its configuration), ``digest`` (of its manifest), ``refs`` (the tags that named it when it was
    asked for), ``config``, ``layers`` (the lowest first), ``created`` (s since the epoch), ``size`` (bytes, the sum of
    its layers), ``platform`` ("linux/amd64").

    Example:
        >>> image = pylxc.Image.build(".", tag="app:1")                             # doctest: +SKIP
        >>> image.config.cmd
        ('/usr/bin/app',)

    """

    id: str
    digest: str = field(eq=False)
    refs: tuple[str, ...] = field(eq=False)
    config: ImageConfig = field(eq=False, repr=False)
    created: float = field(eq=False)
    platform: str = field(eq=False)
    _layers: tuple[LayerRow, ...] = field(eq=False, repr=False)
    _document: ImageDocument = field(eq=False, repr=False)
    _engine: Engine = field(eq=False, repr=False)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of its layers' tars, the lowest first (OCI image-spec, config.md, "rootfs")."""
        return self._document.diff_ids

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, the lowest first."""
        return tuple(Layer(layer.digest, layer.size, layer.created_by, self._engine) for layer in self._layers)

    @property
    def size(self) -> int:
        """The sum of its layers' sizes, in bytes."""
        return sum(layer.size for layer in self._layers)

    @property
    def author(self) -> str:
        """Who made it, as it says itself; "" where it does not."""
        return str(self._document.extra.get("author", ""))

    @classmethod
    def of(cls, engine: Engine, row: ImageRow) -> Image:
        """Return the image that a row of the index describes."""
        document = row.document
        return cls(
            row.id,
            row.manifest,
            row.refs,
            document.config,
            document.created,
            normal(document.platform),
            row.layers,
            document,
            engine,
        )

    # -- finding ----------------------------------------------------------------------------------------------------

    @classmethod
    def get(cls, ref: str, *, engine: Engine | None = None) -> Image:
        """Return the image that a reference, an id, the beginning of one, ``ref@{n}`` or "host" means.

        Raises ImageNotFound, naming what is near; Conflict when several ids begin so; SpecError for a malformed one.
        """
        return engine_of(engine).image(ref)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> list[Image]:
        """Return all images, the newest first."""
        chosen = engine_of(engine)
        return [cls.of(chosen, row) for row in chosen.store.images.list()]

    @classmethod
    def host(cls, *, engine: Engine | None = None) -> Image:
        """Return the embedded image: this machine's own operating system, read-only, without a download or a copy.

        It shows ``/usr`` and the part of ``/etc`` that programs need; never home directories, keys, shadow files,
        sockets or other users' data. The word ``"host"`` means it wherever a reference may stand.
        """
        return engine_of(engine).host_image()

    @classmethod
    def log(cls, ref: str, *, engine: Engine | None = None) -> Sequence[TagMove]:
        """Return every move of a tag, the latest first.

        Each says what the tag named before (``old``) and after (``new``; ids, "" = nothing), and the ``time`` (s since
        the epoch). Raises ImageNotFound for a tag that never was; SpecError for what is no plain name:tag.
        """
        return engine_of(engine).store.images.log(ref)

    @classmethod
    def rollback(cls, ref: str, steps: int = 1, *, engine: Engine | None = None) -> Image:
        """Let a tag name again what it named ``steps`` moves ago (``ref@{steps}``), and return that image.

        This is a move like others, and in the log: the same once more brings the tag back. It restores a tag that was
        taken away, too. Raises ImageNotFound when the tag has not moved so often, or the image was removed; SpecError.

        Example:
            >>> pylxc.Image.rollback("app:1") == pylxc.Image.get("app:1")           # doctest: +SKIP
            True

        """
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise SpecError("steps", steps, "give how many moves to go back, at least 1")
        check_tag(ref)
        images = engine_of(engine).store.images
        images.tag(images.find(f"{ref}@{{{steps}}}").id, ref)
        return cls.get(ref, engine=engine)

    # -- making -----------------------------------------------------------------------------------------------------

    @classmethod
    def scratch(cls, *, engine: Engine | None = None) -> Image:
        """Return the empty image: no layer, no configuration. It is what ``FROM scratch`` starts from."""
        chosen = engine_of(engine)
        document = ImageDocument(config=ImageConfig(), platform=this_platform(), created=0.0, diff_ids=())
        with chosen.store.leases.take() as lease:
            return cls.of(chosen, chosen.store.images.add(document, None, lease))

    @classmethod
    def build(  # noqa: PLR0913  the public contract
        cls,
        context: str | os.PathLike[str] | IO[bytes],
        dockerfile: str | os.PathLike[str] | IO[bytes] = "Dockerfile",
        tag: str | Sequence[str] | None = None,
        args: Mapping[str, str] | None = None,
        target: str | None = None,
        *,
        secrets: Mapping[str, SecretSource] | None = None,
        ssh: AgentSource | None = None,
        allow: Sequence[str] = (),
        no_cache: bool = False,
        network: str | None = None,
        extra_hosts: Mapping[str, str] | Sequence[str] = (),
        labels: Mapping[str, str] | Sequence[str] = (),
        contexts: Mapping[str, str | os.PathLike[str]] | None = None,
        platform: str | None = None,
        pull: bool = False,
        output: Output | Sequence[Output] | None = None,
        cache_from: CachePlace | Sequence[CachePlace] | None = None,
        cache_to: CachePlace | Sequence[CachePlace] | None = None,
        on_event: Callable[[BuildEvent], object] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Build an image from a Dockerfile and the files of its context.

        Args:
            context: what COPY and ADD take files from; its ``.dockerignore`` is heeded. A directory; a stream or an
                http URL, of a tar archive or of a Dockerfile without files; a repository
                ("https://example.org/x.git#branch:directory").
            dockerfile: the Dockerfile, relative to the context or absolute, or a stream of its text.
            tag: a reference, or several, for the result.
            args: values of ARGs.
            target: the stage to build, by name or number (default: the last one). Only what it needs is built, what is
                independent side by side, and what two stages have in common once.
            secrets: what ``RUN --mount=type=secret`` shows, by its id: the content as bytes, the path of a file, or
                ``"env:NAME"``. It is never in the image, its history, the cache or an error.
            ssh: agents for ``RUN --mount=type=ssh``: True or "default" for that of SSH_AUTH_SOCK, "id=/socket", a list
                of these, or a mapping.
            allow: "security.insecure" lets ``RUN --security=insecure`` do all that the caller can, "network.host" lets
                ``RUN --network=host`` have the host's network.
            no_cache: carry out every step anew.
            network: of RUN steps: "none", "host" or a network's name; by default that of containers, "bridge", and the
                host's where there is none. ``RUN --network=host`` needs "host" here, or "network.host" allowed.
            extra_hosts: name -> address, or "host-gateway", for /etc/hosts of RUN steps; in docker's words, too
                ("name:address").
            labels: of the result, over those of the Dockerfile; a mapping, or "name=value". What is cached stays so.
            contexts: further contexts by name, for ``FROM name``, ``COPY --from=name`` and ``RUN --mount=from=name``:
                a directory, a URL as ``context`` takes it (but of no Dockerfile), or
                ``"docker-image://debian:bookworm"``. They win over stages and images of that name.
            platform: what the image is to be for, such as "linux/arm64" (default: this machine): that of the images
                after FROM, where that names none itself, and of TARGETPLATFORM. A RUN needs a machine, or an emulator
                that the kernel knows (binfmt_misc), that runs the platform's programs.
            output: where the result is wanted beside the store, or several such places: a directory, which gets the
                image's files (as the caller's, without set-id bits and devices); ``{"type": "tar", "dest": "fs.tar"}``
                for a tar of them as they are; likewise "oci" and "docker" for what :meth:`save` writes, and
                ``{"type": "image", "name": "app:1"}`` for a further tag. ``dest`` may be a binary stream, and the text
                ``"type=tar,dest=fs.tar"`` says the same as the mapping. With outputs alone the image has no tag.
            pull: ask the registry for the images even where they are here.
            cache_from: build caches of elsewhere, whose steps need not be carried out: directories as pathlib.Path, or
                names in a registry ("registry.example/app:cache"); ``"type=local,src=DIRECTORY"`` and
                ``"type=registry,ref=NAME"`` say the same. Its layers are believed: take caches only from those whose
                images you would run. One that is not there is a warning.
            cache_to: where this build's steps go, all of them, likewise (``"type=local,dest=DIRECTORY"``).
            on_event: called with a :class:`~pylxc.BuildEvent` for everything that happens, one at a time, by whichever
                thread works.
            on_progress: called with a :class:`~pylxc.Progress` for what is pulled; see :meth:`pull`.
            engine: the store to use.

        Raises:
            BuildError: a step failed; it names the step, and for a RUN its exit code and the end of its output. Nothing
                is tagged or added then; layers of the steps before it stay as cache.
            DockerfileError: the Dockerfile is missing or malformed; line and column.
            ImageNotFound: an image after FROM or ``--from`` is not there, and cannot be pulled.
            SpecError: there is no such stage or context directory. NetworkNotFound.
            AuthError, RegistryError: its registry wants another login, or, with ``pull``, cannot be asked.

        Example:
            >>> pylxc.Image.build("examples/redis", tag="redis:seed")               # doctest: +SKIP

        """
        from pylxc.build.build import build  # noqa: PLC0415  only for builds
        from pylxc.build.request import Request  # noqa: PLC0415

        request = Request(
            tag=tag,
            args=args,
            target=target,
            secrets=secrets,
            ssh=ssh,
            allow=allow,
            no_cache=no_cache,
            network=network,
            extra_hosts=extra_hosts,
            labels=labels,
            contexts=contexts,
            platform=platform,
            pull=pull,
            output=output,
            cache_from=cache_from,
            cache_to=cache_to,
            on_event=on_event,
            on_progress=on_progress,
        )
        return build(engine_of(engine), context, dockerfile, request)

    @classmethod
    def from_tar(
        cls,
        source: str | os.PathLike[str] | IO[bytes],
        ref: str | None = None,
        *,
        config: ImageConfig | None = None,
        message: str | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Make an image of one layer from a tar archive of a root file system (plain, gzip, bzip2, xz or zstd).

        ``source`` is a path, or a binary stream (which stays open); ``config`` is the image's configuration (default:
        empty); ``message`` is its history (default: "import of" the file). Raises StoreError for what is no archive, is
        damaged or ends early, naming the entry; nothing is kept then. Raises SpecError for what is neither.
        """
        from pylxc.build.imports import from_tar  # noqa: PLC0415  only for imports

        return from_tar(engine_of(engine), source, ref, config, message)

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
        from pylxc.build.imports import from_directory  # noqa: PLC0415  only for imports

        return from_directory(engine_of(engine), path, ref, config)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        platform: str | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Load the image of an archive that ``save``, docker, podman, skopeo or buildah wrote; its tags come along.

        ``source`` is a file, a directory (an OCI image layout), or a binary stream that need not be able to seek and
        stays open; any of them may be compressed. ``platform``, such as ``"linux/arm64"``, chooses among the images
        that an archive has for one name (default: this machine's). All images of the archive are loaded; the first one
        is returned, :meth:`load_all` returns them all.

        What came is kept byte for byte: the image has the digest it had, and :meth:`save` gives the same again.

        Raises StoreError when it is no such archive, is damaged or ends early; IntegrityError when something in it is
        not what its digest says; UnsupportedError when no image in it is for the platform; SpecError when the source is
        nothing that can be read so. Nothing is kept then.

        Example:
            >>> pylxc.Image.load("redis.tar").refs                                  # doctest: +SKIP
            ('redis:7',)

        """
        return cls.load_all(source, platform=platform, engine=engine)[0]

    @classmethod
    def load_all(
        cls,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        platform: str | None = None,
        engine: Engine | None = None,
    ) -> Sequence[Image]:
        """Load all images of an archive and return them, in the archive's order; see :meth:`load`."""
        from pylxc.exchange.load import load  # noqa: PLC0415  only for archives

        return load(engine_of(engine), source, platform or "")

    @classmethod
    def pull(
        cls,
        ref: str,
        *,
        platform: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        settings: Settings | None = None,
        engine: Engine | None = None,
    ) -> Image:
        """Pull an image from its registry; what is here already is not fetched again.

        Args:
            ref: ``"debian:bookworm"``, ``"registry.example/app:1"``, or one with a digest, ``"app@sha256:…"``: that
                moves no tag, and the image is found again by the same reference.
            platform: such as ``"linux/arm64"``; which of the images of one name to take (default: this machine's).
            on_progress: called with a :class:`~pylxc.Progress` for everything that happens, one at a time, by whichever
                thread works; what it raises ends the pull.
            settings: how to talk to registries (:class:`pylxc.registry.settings.Settings`; default: what the files of
                docker and podman say).
            engine: the store to use.

        What comes is verified, unpacked as it comes, and kept byte for byte: the image has the digest that it has
        there. Nothing of an image is kept when it cannot be had as a whole, and the same call again may succeed.

        Raises:
            ImageNotFound: the registry does not have it.
            AuthError: the registry wants another login, or none may have it; see :func:`pylxc.login`.
            RegistryError: the registry cannot be reached, or fails.
            IntegrityError: something is not what its digest says, or no image.
            UnsupportedError: there is none for the platform, or it is in a format of before 2017.

        Example:
            >>> pylxc.Image.pull("debian:bookworm").platform                        # doctest: +SKIP
            'linux/amd64'

        """
        from pylxc.exchange.pull import pull  # noqa: PLC0415  only for registries

        return pull(engine_of(engine), ref, platform=platform or "", on_progress=on_progress, settings=settings)

    @classmethod
    def pull_all(
        cls,
        ref: str,
        *,
        platform: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        settings: Settings | None = None,
        engine: Engine | None = None,
    ) -> Sequence[Image]:
        """Pull the images of all tags of a name without a tag, in the registry's order; see :meth:`pull`.

        Tags that name something else, charts or signatures for instance, are passed over if there is an image at all.
        """
        from pylxc.exchange.pull import pull_all  # noqa: PLC0415  only for registries

        return pull_all(engine_of(engine), ref, platform=platform or "", on_progress=on_progress, settings=settings)

    @staticmethod
    def search_tags(ref: str, *, settings: Settings | None = None) -> Sequence[str]:
        """Return the tags that a name has in its registry, in the registry's order; a tag in ``ref`` is passed over.

        Raises ImageNotFound when the registry does not have the name; AuthError, RegistryError.

        Example:
            >>> pylxc.Image.search_tags("debian")                                   # doctest: +SKIP
            ['bookworm', 'bullseye']

        """
        from pylxc.exchange.pull import search_tags  # noqa: PLC0415  only for registries

        return search_tags(ref, settings)

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

        ``ref`` is by default ``"debian:bookworm"`` for ``("debian", "bookworm")``. It needs root and the network.

        Raises UnsupportedError when neither tool is installed, StoreError with the tool's last words when it fails.
        """
        from pylxc.bootstrap import bootstrap  # noqa: PLC0415  only here

        chosen = ref or f"{distribution}:{suite}"
        return bootstrap(engine_of(engine), distribution, suite, tuple(packages), mirror, chosen)

    # -- using ------------------------------------------------------------------------------------------------------

    def tag(self, ref: str) -> None:
        """Let a reference name this image, wherever it pointed before.

        Raises SpecError for a malformed one; ImageNotFound when the image was removed meanwhile.
        """
        check_tag(ref)
        self._engine.store.images.get(self.id)
        self._engine.store.images.tag(self.id, ref)

    def untag(self, ref: str) -> None:
        """Take a reference away from this image, which stays.

        Raises ImageNotFound when nothing bears it; Conflict when it names another image; SpecError for a malformed one.
        """
        self._engine.store.images.untag(self.id, ref)

    def push(
        self,
        ref: str | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
        settings: Settings | None = None,
    ) -> str:
        """Push the image into a registry, and return the digest that its manifest has there, and here from now on.

        ``ref`` says where, such as ``"registry.example/app:1"``; by default it is the image's only tag, or the only one
        that names another registry than docker.io. What the registry has is not sent, or taken from another of its
        repositories; layers that were made here are compressed with gzip, what came from elsewhere goes as it came.
        Layers that may not be distributed stay. ``on_progress`` and ``settings`` are those of :meth:`pull`.

        Raises SpecError when it is not clear where to; AuthError, RegistryError; IntegrityError when an archive of a
        layer is damaged and cannot be made again; UnsupportedError for images that lie on the machine's own files.

        Example:
            >>> image.push("localhost:5000/app:1")                                  # doctest: +SKIP
            'sha256:…'

        """
        from pylxc.exchange.push import push  # noqa: PLC0415  only for registries

        return push(self._engine, self, ref, on_progress=on_progress, settings=settings)

    def save(
        self,
        target: str | os.PathLike[str] | IO[bytes],
        format: Literal["oci", "docker"] = "oci",  # noqa: A002  docker's name
    ) -> None:
        """Write the image, under the tags it has now, into an archive for :meth:`load`, docker, podman or skopeo.

        ``target`` is a path (the file appears when it is whole, readable by its owner only) or a binary stream.
        ``format`` "oci" is an OCI image layout with the digests that the image has here; "docker" is one that docker
        from 20 on reads too. The same image under the same tags gives the same bytes.

        Raises StoreError when the archive cannot be written; IntegrityError when an archive of a layer is damaged and
        cannot be made again; UnsupportedError for images that lie on the machine's own files, as ``"host"`` does.

        Example:
            >>> pylxc.Image.get("redis:7").save("redis.tar")                        # doctest: +SKIP

        """
        from pylxc.exchange.save import save  # noqa: PLC0415  only for archives

        save(self._engine, [(self, self._engine.store.images.get(self.id).refs)], target, format)

    @staticmethod
    def save_all(
        images: Sequence[tuple[Image, Sequence[str]]],
        target: str | os.PathLike[str] | IO[bytes],
        format: Literal["oci", "docker"] = "oci",  # noqa: A002  docker's name
    ) -> None:
        """Write several images of one store, each with the references it is to have there, into one archive.

        See :meth:`save`. Raises SpecError when there is none.
        """
        from pylxc.exchange.save import save  # noqa: PLC0415  only for archives

        if not images:
            raise SpecError("images", images, "give one image at least")
        save(images[0][0]._engine, images, target, format)  # noqa: SLF001  its own class

    def history(self) -> Sequence[History]:
        """Return the steps that made the image, the first one first."""
        return self._document.history

    @contextmanager
    def mount(self) -> Iterator[Path]:
        """Give the image's files as a directory, read-only, while a ``with`` block lasts.

        Nothing is copied, and the host has no mount more: a process of pylxc's has them, which ends with the block, or
        with this process however that ends. The path (below ``/proc``) is for this process and those that it starts; it
        means something as it is only, so neither resolve it nor make it a working directory. The kernel follows
        absolute links from the root of the host, as in any mounted directory: ``(path / "etc/mtab").readlink()`` looks
        at one without following it.

        Owners are those of the image; an ordinary user sees its subordinate ids in their place (subuid(5)), and may
        read what the modes of the files allow.

        Raises ImageNotFound when it was removed; SpawnError where the layers cannot be mounted.

        Example:
            >>> with pylxc.Image.host().mount() as root:                            # doctest: +SKIP
            ...     (root / "etc/passwd").read_text().splitlines()[0]
            'root:x:0:0:root:/root:/bin/bash'

        """
        from pathlib import Path  # noqa: PLC0415  slow to load, and for this only

        from pylxc.runtime.viewing import view  # noqa: PLC0415  only here

        with self._engine.store.leases.take(freeing=True) as lease:  # what is rescued from a full disk, for one
            self._engine.store.images.get(self.id)
            lease.protect(self.diff_ids)
            with view(self._engine.tree_of(self.diff_ids, "", ""), f"pylxc-{self.id[7:19]}") as path:
                yield Path(path)

    def verify(self) -> None:
        """Compare all that the image consists of with its digests: documents, archives, and every file of its layers.

        A layer's tree is packed, or compared with what its archive unpacks to: content, names, owners, modes, times and
        attributes. Of the image "host" the part of its own is verified; the directories of this machine that it passes
        through have no digest, and are the machine's package manager's to verify.

        Raises IntegrityError naming the first thing that is not what its digest says (``subject``, ``expected``,
        ``actual``) and what to do; StoreError when a tree has nothing left to be compared with; ImageNotFound.

        Example:
            >>> pylxc.Image.get("app:1").verify()                                   # doctest: +SKIP

        """
        from pylxc.care.inspection import verify  # noqa: PLC0415  only here

        verify(self._engine, self.id)

    def remove(self, refs: Sequence[str] | None = None) -> None:
        """Remove the image, its tags, and the layers that no other image needs.

        ``refs``: the only tags that it may have, such as those in ``image.refs``, for they may be more by now.

        Raises Conflict when a container uses it, or it has another tag; ImageNotFound when it was removed already.
        """
        self._engine.store.images.remove(self.id, refs)
