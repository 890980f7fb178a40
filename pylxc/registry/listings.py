"""What registries list: tags, and what refers to a manifest.

Hides pages. Invariant: lists are read page by page from the registry itself, each page once, so many of them at most.
Sources: distribution-spec, "Listing Tags", "Listing Referrers"; RFC 8288 for Link.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pylxc.documents import OCI_INDEX, Descriptor
from pylxc.errors import RegistryError
from pylxc.registry.sites import followed
from pylxc.registry.transport import ACCEPTED, Question
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pylxc.registry.connections import Answer
    from pylxc.registry.sites import Site
    from pylxc.registry.transport import Transport

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LINK = re.compile(r'<([^<>]*)>|;\s*([^\s=;,"<>]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')  # a target, or a parameter of it
_PAGE = 1000
_OK, _NOT_FOUND, _BAD_REQUEST, _NOT_ALLOWED = 200, 404, 400, 405


class Listings:
    """The lists of one repository."""

    def __init__(self, transport: Transport, site: Site, repository: str) -> None:
        self._transport = transport
        self._site = site
        self._repository = repository

    def tags(self) -> Iterator[str]:
        """Yield the tags as the registry orders them. Raises RegistryError."""
        url = self._site.url(f"{self._repository}/tags/list")
        pages = self._pages(f"{url}?n={_PAGE}", "its tags", (_OK,))
        try:
            first = next(pages)
        except RegistryError as error:
            if error.status != _BAD_REQUEST:
                raise
            pages = self._pages(url, "its tags", (_OK,))  # with pages as large as the registry likes them
            first = next(pages)
        for _, document in chain([first], pages):
            for tag in document.get("tags") or []:
                if not isinstance(tag, str) or not TAG.fullmatch(tag):
                    raise self._strange("a list of tags with something in it that is none")
                yield tag

    def referrers(self, digest: str) -> list[Descriptor] | None:
        """Return what refers to a manifest; None where the registry has no such list."""
        found: list[Descriptor] = []
        url = self._site.url(f"{self._repository}/referrers/{digest}")
        for answer, document in self._pages(url, "its referrers", (_OK, _NOT_FOUND, _BAD_REQUEST, _NOT_ALLOWED)):
            if answer.status != _OK:
                return None
            if document.get("mediaType", OCI_INDEX) != OCI_INDEX:
                raise self._strange("something else than an index of referrers")
            found += [Descriptor.parse(each, f"referrers of {digest[:19]}") for each in document.get("manifests") or []]
        return found

    def _pages(self, url: str, what: str, expected: Collection[int]) -> Iterator[tuple[Answer, dict[str, Any]]]:
        settings = self._transport.settings
        seen: set[str] = set()
        while url:
            if url in seen or len(seen) >= settings.pages:
                raise self._strange("a list that has no end")
            seen.add(url)
            question = Question(
                what=f"{self._site.name}/{self._repository}: {what}",
                site=self._site,
                method="GET",
                url=url,
                scopes=frozenset({f"repository:{self._repository}:pull"}),
                headers={"Accept": f"application/json, {ACCEPTED}"},
            )
            answer, body = self._transport.fetch(question, expected, settings.manifest_limit)
            yield answer, _document(body) if answer.status == _OK else {}
            url = self._next(answer)

    def _next(self, answer: Answer) -> str:
        """Return the URL of the next page, "" for none: at this registry, by whatever name it knows itself."""
        link = _next_of(answer.header("Link"))
        if not link:
            return ""
        try:
            target = urlsplit(urljoin(answer.url, link))
        except ValueError as error:
            raise self._strange("a list that goes on at something that is no URL") from error
        url = self._site.base + target.path + (f"?{target.query}" if target.query else "")
        return followed(self._site.base, url, self._transport.settings.may_be_plain)

    def _strange(self, what: str) -> RegistryError:
        return RegistryError(f"{self._site.name}/{self._repository}: the registry sends {what}")


def _next_of(header: str) -> str:
    """Return the target of rel="next" in a Link, "" where there is none."""
    target = ""
    for found, name, quoted, bare in _LINK.findall(header):
        target = found or target
        if name.lower() == "rel" and "next" in (quoted or bare).lower().split():
            return str(target)
    return ""


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = parse_json(body)
    except ValueError as error:
        raise RegistryError("the registry sends a list that is not JSON") from error
    lists = (document.get("tags"), document.get("manifests")) if isinstance(document, dict) else ("",)
    if not all(isinstance(each, (list, type(None))) for each in lists):
        raise RegistryError("the registry sends something else than a list")
    return dict(document)
