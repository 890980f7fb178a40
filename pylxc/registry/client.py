"""The door to registries: a client, and its repositories.

Hides which requests each verb takes. Invariant: a client holds connections and tokens, nothing else; leaving its block
ends them, and no thread of it is left after any call.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from pylxc import documents
from pylxc.digests import Hasher, digest_of, is_digest
from pylxc.documents import OCI_INDEX, Descriptor, Index, Manifest
from pylxc.errors import AuthError, IntegrityError, RegistryError, SpecError
from pylxc.registry.credentialhelper import Credentials
from pylxc.registry.download import BlobReader, Download
from pylxc.registry.listings import TAG, Listings
from pylxc.registry.progress import Progress, Reporter
from pylxc.registry.settings import Settings
from pylxc.registry.sites import known_host, place_of
from pylxc.registry.stopping import share
from pylxc.registry.transport import ACCEPTED, TRANSIENT, Question, Transport
from pylxc.registry.upload import Content, Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Self

    from pylxc.reference import Reference
    from pylxc.registry.connections import Answer
    from pylxc.registry.sites import Site
    from pylxc.registry.stopping import Stop

T = TypeVar("T")
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _NOT_FOUND = 200, 201, 202, 204, 404


class Client:
    """Talks to registries; threads may share it.

    ``on_progress`` is called with :class:`~pylxc.registry.progress.Progress` events, one at a time, from whichever
    thread works. ``stop`` ends what is under way, from another thread.

    Example:
        >>> from pylxc.reference import Reference
        >>> with Client() as client:
        ...     repository = client.repository(Reference.parse("localhost:5000/app"))

    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.reporter = Reporter(on_progress)
        self._transport = Transport(self.settings, stop=stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def repository(self, reference: Reference) -> Repository:
        """Return the repository that a reference is in; asks nothing yet."""
        return Repository(self._transport, self.reporter, reference)

    def login(self, host: str, username: str, password: str) -> None:
        """Check a name and a password with a registry, and keep them as docker does (config.json, or its helper).

        Where the registry gives a token in their place, that is kept. Raises AuthError where they are refused.
        """
        if not username or ":" in username:
            raise SpecError("username", username, "give a name that is not empty and has no colon")
        name = known_host(host)
        self.settings.config.save(name, self._identity(name, Credentials(username, password)))

    def login_again(self, host: str) -> bool:
        """Check the credentials that are kept for a registry; say whether there are any.

        Raises AuthError where they are refused.
        """
        name = known_host(host)
        kept = self.settings.config.credentials(name)
        if kept:
            identity = self._identity(name, kept)
            if identity != kept:
                self.settings.config.save(name, identity)
        return bool(kept)

    def _identity(self, name: str, given: Credentials) -> Credentials:
        """Return what is to be kept of credentials, once the registry has taken them. Raises AuthError."""
        transport = Transport(self.settings, {name: given}, is_login=True)
        try:
            site = transport.site(name)
            transport.ask(
                Question(what=f"logging in to {name}", site=site, method="GET", url=site.url("")), (_OK,)
            ).close()
            return transport.tokens.identity(site)
        except AuthError as error:
            if error.status:
                reason = f"{name} refuses this name and password"
                raise AuthError(f"{reason}: check them", status=error.status, code=error.code) from error
            raise
        finally:
            transport.close()

    def logout(self, host: str) -> bool:
        """Forget the credentials for a registry; say whether there were any. Raises AuthError."""
        return self.settings.config.erase(known_host(host))


class Repository:
    """One repository of one registry: what can be asked of it; ``mirrors``: of its mirrors, too."""

    def __init__(self, transport: Transport, reporter: Reporter, reference: Reference, *, mirrors: bool = True) -> None:
        self.reference = reference
        self._transport = transport
        self._reporter = reporter
        self._mirrors = mirrors
        self._host, self.name = place_of(reference)

    # Reading. Mirrors are asked first.

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return what a tag or a digest names (default: the reference's), without fetching it.

        Raises RegistryError (``status`` 404 where there is none), AuthError.
        """
        wanted = self._wanted(name)
        try:
            answer, _ = self._first(lambda site: self._asked("HEAD", wanted, site))
        except RegistryError as error:
            if not error.status or error.status in TRANSIENT:
                raise
            return self.manifest(wanted).descriptor  # there are registries that answer to GET only
        digest, length = answer.header("Docker-Content-Digest"), answer.length
        if (not is_digest(digest) and not is_digest(wanted)) or length is None:
            return self.manifest(wanted).descriptor  # a registry that does not say it in the headers
        if is_digest(wanted) and digest not in ("", wanted):
            raise IntegrityError(self._named(wanted), wanted, digest if is_digest(digest) else "another digest")
        kind = answer.header("Content-Type").partition(";")[0].strip().lower()
        return Descriptor(kind, digest if is_digest(digest) else wanted, length)

    def manifest(self, name: str | Descriptor | None = None) -> Manifest | Index:
        """Return a manifest, checked: by a tag, a digest, a descriptor (whose size must be right, too).

        Raises RegistryError (``status`` 404 where there is none), IntegrityError, UnsupportedError (schema 1).
        """
        wanted = name.digest if isinstance(name, Descriptor) else self._wanted(name)
        limit = self._transport.settings.manifest_limit
        if isinstance(name, Descriptor) and name.size > limit:
            raise IntegrityError(self._named(wanted), f"{limit} bytes at most", f"{name.size} bytes")

        found = self._first(lambda site: self._manifest_of(site, wanted))
        if isinstance(name, Descriptor) and found.descriptor.size != name.size:
            raise IntegrityError(self._named(wanted), f"{name.size} bytes", f"{found.descriptor.size} bytes")
        return found

    def blob(self, descriptor: Descriptor, *, spool: int | None = None, stop: Stop | None = None) -> BlobReader:
        """Return a blob as it comes, verified; large ones over several connections.

        ``spool`` is a descriptor of an empty file, open for reading and writing: what comes early waits there instead
        of in memory, and at the end it has the whole blob.
        """
        download = Download(self._transport, self._sites, self.name, descriptor, self._reporter, spool=spool, stop=stop)
        return BlobReader(descriptor, download.chunks())

    def despite_mirrors(self, fetch: Callable[[Repository], T]) -> T:
        """Return ``fetch(self)``; where that gets wrong bytes and there are mirrors, ``fetch`` of the registry alone.

        For blobs: what is wrong with one is known at its end, when what came before was given out.
        """
        try:
            return fetch(self)
        except IntegrityError:
            if not (self._mirrors and self._transport.settings.host(self._host).mirrors):
                raise
        return fetch(Repository(self._transport, self._reporter, self.reference, mirrors=False))

    def download(self, blobs: Sequence[Descriptor], receive: Callable[[Descriptor, BlobReader], T]) -> list[T]:
        """Fetch several blobs at once; return what ``receive`` returned for each.

        ``receive(descriptor, reader)`` is called in threads of this call, and reads the blob to its end. The first
        failure, or an interrupt of the caller, ends the others, and is raised when no thread is left.
        """

        def fetch(descriptor: Descriptor, stop: Stop) -> T:
            with self.blob(descriptor, stop=stop) as reader:
                return receive(descriptor, reader)

        return share(blobs, fetch, self._transport.settings.downloads)

    def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob that has no business to be large, verified; nothing is told of it. Raises IntegrityError."""
        if descriptor.size > limit:
            raise IntegrityError(self._named(descriptor.digest), f"{limit} bytes at most", f"{descriptor.size} bytes")
        quiet = Repository(self._transport, Reporter(None), self.reference, mirrors=self._mirrors)

        def read(repository: Repository) -> bytes:
            with repository.blob(descriptor, stop=self._transport.stop) as reader:
                return reader.read()

        return quiet.despite_mirrors(read)

    def tags(self) -> Iterator[str]:
        """Yield the repository's tags. Raises RegistryError."""
        return Listings(self._transport, self._site(), self.name).tags()

    def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Return what refers to a manifest (signatures, SBOMs), of one type or all. Raises RegistryError."""
        self._check_digest(digest)
        found = Listings(self._transport, self._site(), self.name).referrers(digest)
        if found is None:
            found = self._fallback(digest)
        return [each for each in found if artifact_type in ("", each.artifact_type)]

    # Writing: the registry itself.

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether the repository has a blob."""
        return self._uploads().has(descriptor)

    def push_blob(
        self,
        descriptor: Descriptor,
        source: Content | bytes,
        *,
        mount_from: Iterable[str] = (),
        stop: Stop | None = None,
        told_as: str | None = None,
    ) -> str:
        """Send a blob; ``source`` is bytes or a binary file that can be sought: touched only where it has to be sent.

        ``mount_from`` are repositories of the same registry that may have it; ``told_as`` is the digest that progress
        names it by (default: its own; "" for no progress). Returns "present", "mounted" or "uploaded". Raises
        RegistryError, AuthError, IntegrityError (the source has another length).
        """
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        reporter = self._reporter if told_as is None else self._reporter.naming(told_as)
        return Uploads(self._transport, self._site(), self.name, reporter, stop).push(descriptor, file, mount_from)

    def push_stream(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send a blob whose digest is not known before its end; return what it was."""
        return self._uploads().push_stream(chunks, media_type)

    def push_manifest(self, data: bytes, media_type: str, name: str | None = None) -> Descriptor:
        """Send a manifest under a tag (default: the reference's) or its digest; return what the registry has now.

        What it names must be there. Where it has a ``subject`` and the registry keeps no referrers, the index that
        stands for them is brought up to date. Raises RegistryError, IntegrityError.
        """
        document = documents.read(data, media_type, self._named(digest_of(data)))
        descriptor = document.descriptor
        answer = self._put(data, media_type, name or self.reference.tag or descriptor.digest)
        said = answer.header("Docker-Content-Digest")
        if said and said != descriptor.digest:
            raise IntegrityError(
                self._named(descriptor.digest), descriptor.digest, said if is_digest(said) else "another"
            )
        if document.subject is not None and not answer.header("OCI-Subject"):
            self._refer(document.subject, _as_referrer(document))
        return descriptor

    def delete(self, name: str) -> None:
        """Delete a manifest by its digest, or a tag. Raises RegistryError (405: the registry does not allow it)."""
        question = evolve(
            self._question("DELETE", self._wanted(name), self._site()),
            scopes=frozenset({f"repository:{self.name}:delete,pull,push"}),
        )
        self._transport.ask(question, (_ACCEPTED, _OK, _NO_CONTENT)).close()

    # How.

    def _site(self) -> Site:
        return self._transport.site(self._host)

    def _sites(self) -> list[Site]:
        return self._transport.sites(self._host) if self._mirrors else [self._site()]

    def _uploads(self) -> Uploads:
        return Uploads(self._transport, self._site(), self.name, self._reporter)

    def _wanted(self, name: str | None) -> str:
        wanted = name or self.reference.digest or self.reference.tag
        if not is_digest(wanted) and not TAG.fullmatch(wanted):
            raise SpecError("name", name, 'give a tag such as "latest", or a digest')
        return wanted

    def _check_digest(self, digest: str) -> None:
        if not is_digest(digest):
            raise SpecError("digest", digest, 'a digest is "sha256:" and 64 hexadecimal digits')

    def _named(self, wanted: str) -> str:
        """Return a manifest's name for messages."""
        path = evolve(self.reference, tag="", digest="").canonical
        return f"{path}@{wanted}" if is_digest(wanted) else f"{path}:{wanted}"

    def _question(self, method: str, wanted: str, site: Site) -> Question:
        return Question(
            what=self._named(wanted),
            site=site,
            method=method,
            url=site.url(f"{self.name}/manifests/{wanted}"),
            scopes=frozenset({f"repository:{self.name}:pull"}),
            headers={"Accept": ACCEPTED},
            is_repeatable=site == self._site(),
        )

    def _first(self, ask: Callable[[Site], T]) -> T:
        """Return what ``ask`` has of the first site that gives it: the mirrors, then the registry."""
        *mirrors, registry = self._sites()
        for mirror in mirrors:
            try:
                return ask(mirror)
            except (RegistryError, IntegrityError) as problem:  # noqa: PERF203  there are one or two
                self._transport.leave_out(mirror, problem)
        return ask(registry)

    def _asked(self, method: str, wanted: str, site: Site) -> tuple[Answer, bytes]:
        question = self._question(method, wanted, site)
        return self._transport.fetch(question, (_OK,), self._transport.settings.manifest_limit)

    def _manifest_of(self, site: Site, wanted: str) -> Manifest | Index:
        answer, data = self._asked("GET", wanted, site)
        return self._checked(data, wanted, answer)

    def _checked(self, data: bytes, wanted: str, answer: Answer) -> Manifest | Index:
        """Return the manifest in these bytes, if they have the digest that was asked for, and the one that was said."""
        said = answer.header("Docker-Content-Digest")
        for digest in (wanted, said):
            if is_digest(digest):
                hasher = Hasher(digest)
                hasher.update(data)
                hasher.check(self._named(wanted))
        digest = wanted if is_digest(wanted) else digest_of(data)
        return documents.read(data, answer.header("Content-Type"), self._named(digest), digest)

    def _put(self, data: bytes, media_type: str, wanted: str) -> Answer:
        question = evolve(
            self._question("PUT", self._wanted(wanted), self._site()),
            scopes=frozenset({f"repository:{self.name}:pull,push"}),
            headers={"Content-Type": media_type},
            body=lambda: [data],
            length=len(data),
        )
        answer = self._transport.ask(question, (_CREATED, _OK, _ACCEPTED))
        answer.close()
        return answer

    def _fallback(self, digest: str) -> list[Descriptor]:
        """Return what the referrers tag lists: the index that stands for a list which the registry does not keep."""
        try:
            index = self._manifest_of(self._site(), _referrers_tag(digest))
        except RegistryError as error:
            if error.status == _NOT_FOUND:
                return []
            raise
        return list(index.manifests) if isinstance(index, Index) else []

    def _refer(self, subject: Descriptor, referrer: Descriptor) -> None:
        known = self._fallback(subject.digest)
        if referrer.digest in {each.digest for each in known}:
            return
        entries = [each.to_json() for each in (*known, referrer)]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self._put(json.dumps(index).encode(), OCI_INDEX, _referrers_tag(subject.digest))


def _referrers_tag(digest: str) -> str:
    """Return the tag that stands for a list of referrers (distribution-spec, "Referrers Tag Schema")."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


def _as_referrer(document: Manifest | Index) -> Descriptor:
    """Return a manifest's descriptor as lists of referrers have it."""
    said = document.document
    kind = said.get("artifactType") or (document.config.media_type if isinstance(document, Manifest) else "")
    about = {**document.descriptor.to_json(), "artifactType": kind, "annotations": said.get("annotations")}
    return Descriptor.parse(about, document.descriptor.digest)
