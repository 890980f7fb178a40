"""Manifests and lists: what is one, what could be two, what is too large; tags, referrers, deletion, pushing."""

from __future__ import annotations

import json

import pytest
from fake import CONFIG, OCI_MANIFEST, digest_of
from fake import IMAGE as PLAIN

from pylxc.documents import Descriptor, Index
from pylxc.errors import IntegrityError, RegistryError, SpecError, UnsupportedError
from pylxc.registry.settings import HostSettings

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
IMAGE = {**PLAIN, "unknown": {"kept": [1, 2]}}
INDEX = {"schemaVersion": 2, "manifests": []}
MANIFESTS = "GET /v2/app/manifests/.*"


@pytest.mark.parametrize(
    ("document", "kind", "is_index"),
    [
        (IMAGE, OCI_MANIFEST, False),
        (IMAGE, DOCKER_MANIFEST, False),
        (INDEX, OCI_INDEX, True),
        (INDEX, DOCKER_LIST, True),
    ],
)
def test_the_four_kinds(fake, repository, document, kind, is_index):
    digest = fake.add_manifest("1", document, kind)
    found = repository().manifest()
    assert (found.descriptor.media_type, found.digest, isinstance(found, Index)) == (kind, digest, is_index)
    assert (found.descriptor.size, found.data) == (len(found.data), json.dumps(document).encode())
    assert found.document == document
    accepted = fake.requests(MANIFESTS)[0].headers["Accept"].split(", ")
    assert sorted(accepted) == sorted([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])
    assert repository().resolve() == found.descriptor
    assert repository().manifest(found.descriptor) == found
    assert repository(f"app@{digest}").manifest() == found
    assert repository().manifest(digest) == found


def test_resolving_fetches_nothing(fake, repository):
    fake.add_manifest("1", IMAGE)
    repository().resolve()
    assert [seen.method for seen in fake.seen if "manifests" in seen.path] == ["HEAD"]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_registry_without_head(fake, repository, status):
    digest = fake.add_manifest("1", IMAGE)
    fake.always("HEAD .*manifests.*", lambda handler: handler.fail(status))
    assert repository().resolve().digest == digest


def test_a_registry_that_fails_is_not_taken_for_one_without_head(fake, repository):
    fake.always(".*manifests.*", lambda handler: handler.fail(500))
    with pytest.raises(RegistryError, match="status 500"):
        repository().resolve()
    assert fake.requests(MANIFESTS) == []


def test_a_registry_that_says_nothing_in_its_headers(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    data = json.dumps(IMAGE).encode()
    fake.always("(GET|HEAD) .*manifests.*", lambda handler: handler.answer(200, data, Content_Type=OCI_MANIFEST))
    assert repository().resolve() == Descriptor(OCI_MANIFEST, digest, len(data))


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", None])
def test_a_plain_file_server_may_have_manifests(fake, repository, content_type):
    data = json.dumps({**IMAGE, "mediaType": DOCKER_MANIFEST}).encode()
    fake.always(MANIFESTS, lambda handler: handler.answer(200, data, Content_Type=content_type))
    assert repository().manifest().descriptor.media_type == DOCKER_MANIFEST


def test_encoded_manifests_are_refused(fake, repository):
    data = json.dumps(IMAGE).encode()
    for encoding in ("gzip", "br", "deflate", "zstd", "compress"):
        fake.once(MANIFESTS, lambda handler, encoding=encoding: handler.answer(200, data, Content_Encoding=encoding))
        with pytest.raises(RegistryError, match=f"'{encoding}' encoded bodies") as caught:
            repository().manifest()
        assert caught.value.code == "ENCODING"
    for encoding in ("aws-chunked", "none", "identity"):
        fake.once(MANIFESTS, lambda handler, encoding=encoding: handler.answer(200, data, Content_Encoding=encoding))
        assert repository().manifest().document == IMAGE


def test_a_length_of_thousands_of_digits(fake, repository):
    data = json.dumps(IMAGE).encode()
    fake.always(".*manifests.*", lambda handler: handler.answer(200, data, Content_Length="9" * 5000))
    for ask in (repository().manifest, repository().resolve):
        with pytest.raises(IntegrityError, match="bytes at most"):
            ask()


@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        ({**IMAGE, "mediaType": OCI_INDEX}, OCI_MANIFEST, "a document that calls itself"),
        ({**IMAGE, "manifests": []}, OCI_MANIFEST, "a manifest or an index, found JSON"),
        ({**INDEX, "layers": []}, OCI_INDEX, "a manifest or an index, found JSON"),
        ({**INDEX, "config": {}}, DOCKER_LIST, "a manifest or an index, found JSON"),
        (IMAGE, "application/vnd.example+json", "which pylxc does not know"),
        ({**IMAGE, "mediaType": ["x"]}, "", "which pylxc does not know"),
        (INDEX, OCI_MANIFEST, "a manifest or an index, found JSON"),
        ({"schemaVersion": 2}, OCI_INDEX, "a manifest or an index, found JSON"),
        ({"schemaVersion": 2, "config": CONFIG, "layers": {"a": 1}}, OCI_MANIFEST, "descriptors"),
        ({"schemaVersion": 2, "config": [], "layers": []}, OCI_MANIFEST, "a descriptor"),
        (b"[]", OCI_MANIFEST, "not an object"),
        (b"\xff\xfe", OCI_MANIFEST, "JSON in UTF-8"),
        (b"[" * 1_000_000, OCI_MANIFEST, "more than 500000 values"),
        (b'{"a": ' + b"1" * 100_000 + b"}", OCI_MANIFEST, "JSON in UTF-8"),
        (b"", OCI_MANIFEST, "JSON in UTF-8"),
    ],
)
def test_what_is_no_manifest_is_refused(fake, repository, document, kind, words):
    fake.add_manifest("1", document, kind)
    with pytest.raises(IntegrityError, match=words) as caught:
        repository().manifest()
    assert caught.value.subject.startswith(f"{fake.host}/app@sha256:")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+json"),
        ({"schemaVersion": 1}, "application/json"),
    ],
)
def test_schema_1_is_refused_clearly(fake, repository, document, kind):
    fake.add_manifest("1", document, kind)
    with pytest.raises(UnsupportedError, match="schema 1") as caught:
        repository().manifest()
    assert caught.value.remedy


def test_bytes_are_checked_against_the_digest_that_was_asked_for(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    other = json.dumps({**IMAGE, "evil": True}).encode()
    fake.manifests[digest] = (OCI_MANIFEST, other)
    with pytest.raises(IntegrityError) as caught:
        repository().manifest(digest)
    assert (caught.value.expected, caught.value.actual) == (digest, digest_of(other))


def test_and_against_the_one_that_the_registry_says(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    fake.once(
        MANIFESTS, lambda handler: handler.answer(200, b"{}", Content_Type=OCI_MANIFEST, Docker_Content_Digest=digest)
    )
    with pytest.raises(IntegrityError) as caught:
        repository().manifest()
    assert (caught.value.expected, caught.value.actual) == (digest, digest_of(b"{}"))


def test_a_head_that_lies_about_the_digest(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    fake.once("HEAD .*", lambda handler: handler.answer(200, Docker_Content_Digest=digest_of(b"x"), Content_Length=5))
    with pytest.raises(IntegrityError):
        repository().resolve(digest)


def test_a_descriptor_s_size_counts(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    with pytest.raises(IntegrityError, match="expected 7 bytes"):
        repository().manifest(Descriptor(OCI_MANIFEST, digest, 7))


@pytest.mark.parametrize("is_said", [True, False])
def test_a_huge_manifest_is_not_read(fake, repository, is_said):
    sent = []

    def act(handler) -> None:
        handler.send_response(200)
        handler.send_header(*(("Content-Length", "5000000000") if is_said else ("Transfer-Encoding", "chunked")))
        handler.end_headers()
        piece = bytes(0x10000)
        try:
            for _ in range(1000):
                handler.wfile.write(piece if is_said else b"10000\r\n%s\r\n" % piece)
                sent.append(len(piece))
        except OSError:
            handler.close_connection = True

    fake.always(MANIFESTS, act)
    with pytest.raises(IntegrityError, match="4194304 bytes at most") as caught:
        repository().manifest()
    assert caught.value.actual == ("5000000000 bytes" if is_said else "more")
    assert sum(sent) < 40 << 20
    with pytest.raises(IntegrityError, match="4194304 bytes at most"):
        repository().manifest(Descriptor(OCI_MANIFEST, digest_of(b""), 1 << 40))


def test_a_manifest_that_breaks_is_asked_for_again(fake, repository):
    def act(handler) -> None:
        handler.answer(200, b"{", Content_Length=100)
        handler.hang_up()

    fake.add_manifest("1", IMAGE)
    fake.once(MANIFESTS, act)
    assert repository().manifest().document == IMAGE


def test_names_are_checked_before_they_are_in_a_url(fake, repository):
    for wrong in ("../../x", "a b", "", "sha256:12", "x" * 200, "-x"):
        with pytest.raises(SpecError):
            repository().delete(wrong) if wrong else repository().referrers(wrong)
    assert [seen for seen in fake.seen if seen.path != "/v2/"] == []


# Lists.


def give(fake, pattern: str, document: object, **headers: object) -> None:
    fake.always(pattern, lambda handler: handler.answer(200, json.dumps(document).encode(), **headers))


def test_tags_come_in_pages(fake, repository):
    give(
        fake, r"GET /v2/app/tags/list\?n=1000", {"tags": ["a", "b"]}, Link='</v2/app/tags/list?n=2&last=b>; rel="next"'
    )
    give(fake, r"GET /v2/app/tags/list\?n=2&last=b", {"tags": ["c"]}, Link="<list?last=c>; rel=next")
    give(fake, r"GET /v2/app/tags/list\?last=c", {"tags": None})
    assert list(repository().tags()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "link",
    [
        '<list?last=a>; title="x, y"; rel="next"',
        '<list?last=a>; Rel="Next"',
        '<list?last=a>; rel="last next"',
        '<list?first>; rel="prev", <list?last=a>; rel = next',
        '<list?first>; title="; rel=next"; rel=prev, <list?last=a>; rel=next',
        "<http://internal:5000/v2/app/tags/list?last=a>; rel=next",
        "<https://internal/v2/app/tags/list?last=a>; rel=next",
    ],
)
def test_links_in_their_many_forms(fake, repository, link):
    give(fake, r"GET /v2/app/tags/list\?n=1000", {"tags": ["a"]}, Link=link)
    give(fake, r"GET /v2/app/tags/list\?last=a", {"tags": ["b"]})
    assert list(repository().tags()) == ["a", "b"]


@pytest.mark.parametrize(
    "link", ["<list?last=a>", "<list?last=a>; rel=nextish", '<list?last=a>; rev="next"', "list; rel=next"]
)
def test_links_to_something_else(fake, repository, link):
    give(fake, "GET /v2/app/tags.*", {"tags": ["a"]}, Link=link)
    assert list(repository().tags()) == ["a"]


@pytest.mark.parametrize(
    "link",
    ["</v2/app/tags/list?n=1000>; rel=next", "<http://evil.example/x>; rel=next", "<file:///etc/passwd>; rel=next",
     "<http://[::1>; rel=next", "<list?a b>; rel=next"],
)  # fmt: skip
def test_links_that_lead_nowhere(fake, repository, link):
    give(fake, "GET /v2/app/tags.*", {"tags": ["a"]}, Link=link)
    with pytest.raises(RegistryError, match=r"no end|no URL|refused|does not have it"):
        list(repository().tags())
    assert len(fake.requests("GET /v2/app/tags.*")) == 1


def test_a_list_that_goes_on_at_another_host(fake, elsewhere, repository):
    """The registry may have another name behind a proxy; nobody else is asked."""
    give(fake, "GET /v2/app/tags.*n=1000", {"tags": ["a"]}, Link=f"<{elsewhere.url}/v2/app/tags/list>; rel=next")
    give(fake, "GET /v2/app/tags/list", {"tags": ["b"]})
    assert list(repository().tags()) == ["a", "b"]
    assert elsewhere.seen == []


def test_a_registry_that_has_smaller_pages(fake, repository):
    refusal = ("PAGINATION_NUMBER_INVALID", "invalid number of results requested")
    fake.always(r"GET /v2/app/tags/list\?n=1000", lambda handler: handler.fail(400, *refusal))
    give(fake, "GET /v2/app/tags/list", {"tags": ["a"]}, Link="<list?n=1&last=a>; rel=next")
    give(fake, r"GET /v2/app/tags/list\?n=1&last=a", {"tags": ["b"]})
    assert list(repository().tags()) == ["a", "b"]


def test_a_page_that_fails_is_no_end(fake, repository):
    give(fake, r"GET /v2/app/tags/list\?n=1000", {"tags": ["a"]}, Link="<list?last=a>; rel=next")
    fake.always("GET /v2/app/tags.*last=a", lambda handler: handler.fail(400))
    with pytest.raises(RegistryError, match="status 400"):
        list(repository().tags())


def test_ever_new_links_end(fake, repository):
    def act(handler) -> None:
        number = len(fake.seen)
        handler.answer(200, b'{"tags": ["a"]}', Link=f"</v2/app/tags/list?last={number}>; rel=next")

    fake.always("GET /v2/app/tags.*", act)
    with pytest.raises(RegistryError, match="no end"):
        list(repository(pages=20).tags())
    assert len(fake.requests("GET /v2/app/tags.*")) == 20


@pytest.mark.parametrize("document", [{"tags": ["\x1b[2J"]}, {"tags": [5]}, {"tags": "abc"}, [], {"tags": {"a": 1}}])
def test_what_is_no_list_of_tags_is_refused(fake, repository, document):
    give(fake, "GET /v2/app/tags.*", document)
    with pytest.raises(RegistryError) as caught:
        list(repository().tags())
    assert str(caught.value).isprintable()


SUBJECT = digest_of(json.dumps(IMAGE).encode())
SIGNATURE = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"s"), "size": 1, "artifactType": "example/signature"}
SBOM = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"b"), "size": 1, "artifactType": "example/sbom"}


def test_referrers(fake, repository):
    give(fake, f"GET /v2/app/referrers/{SUBJECT}", {**INDEX, "mediaType": OCI_INDEX, "manifests": [SIGNATURE, SBOM]})
    found = repository().referrers(SUBJECT)
    assert [each.to_json() for each in found] == [SIGNATURE, SBOM]
    assert repository().referrers(SUBJECT, "example/sbom") == found[1:]


def test_referrers_of_a_registry_without_that_list(fake, repository):
    assert repository().referrers(SUBJECT) == []
    fake.add_manifest(SUBJECT.replace(":", "-"), {**INDEX, "manifests": [SIGNATURE]}, OCI_INDEX)
    assert [each.artifact_type for each in repository().referrers(SUBJECT)] == ["example/signature"]


@pytest.mark.parametrize(
    "entry",
    [5, {}, {**SBOM, "digest": "x"}, {**SBOM, "size": -1}, {**SBOM, "size": "1"}, {**SBOM, "mediaType": "a\x1bb"},
     {**SBOM, "annotations": {"a": 5}}, {**SBOM, "artifactType": 5}, {**SBOM, "size": True}, {**SBOM, "size": 2**63}],
)  # fmt: skip
def test_referrers_that_are_none(fake, repository, entry):
    give(fake, "GET /v2/app/referrers/.*", {**INDEX, "manifests": [entry]})
    with pytest.raises(IntegrityError, match="descriptor"):
        repository().referrers(SUBJECT)


def test_pushing_a_manifest(fake, repository):
    data = json.dumps(IMAGE, indent=3).encode()
    assert repository().push_manifest(data, OCI_MANIFEST) == Descriptor(OCI_MANIFEST, digest_of(data), len(data))
    assert fake.manifests["1"] == (OCI_MANIFEST, data)
    fake.once("PUT .*", lambda handler: handler.answer(201, Docker_Content_Digest=digest_of(b"other")))
    with pytest.raises(IntegrityError):
        repository().push_manifest(data, OCI_MANIFEST, "2")
    with pytest.raises(IntegrityError, match="JSON"):
        repository().push_manifest(b"nonsense", OCI_MANIFEST)


def test_what_refers_to_another_manifest_is_listed(fake, repository):
    subject = {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 5}
    signature = {**IMAGE, "artifactType": "example/signature", "subject": subject, "annotations": {"a": "b"}}
    sbom = {**IMAGE, "config": {**CONFIG, "mediaType": "example/sbom"}, "subject": subject}
    for each in (signature, sbom, signature):
        repository().push_manifest(json.dumps(each).encode(), OCI_MANIFEST, digest_of(json.dumps(each).encode()))
    found = repository().referrers(SUBJECT)
    assert [(each.artifact_type, dict(each.annotations)) for each in found] == [
        ("example/signature", {"a": "b"}),
        ("example/sbom", {}),
    ]


def test_a_mirror_knows_nothing_of_referrers(fake, elsewhere, repository):
    """It may have an old list, which would take the place of the registry's."""
    place = repository(hosts={fake.host: HostSettings(mirrors=(elsewhere.url,))})
    subject = {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 5}
    elsewhere.add_manifest(SUBJECT.replace(":", "-"), {**INDEX, "manifests": [SIGNATURE]}, OCI_INDEX)
    for kind in ("example/a", "example/b"):
        data = json.dumps({**IMAGE, "artifactType": kind, "subject": subject}).encode()
        place.push_manifest(data, OCI_MANIFEST, digest_of(data))
    assert [each.artifact_type for each in place.referrers(SUBJECT)] == ["example/a", "example/b"]
    assert elsewhere.requests(MANIFESTS) == []


def test_deleting(fake, repository):
    digest = fake.add_manifest("1", IMAGE)
    repository().delete(digest)
    assert list(fake.manifests) == ["1"]
    repository().delete("1")
    fake.always("DELETE .*", lambda handler: handler.fail(405, "UNSUPPORTED"))
    with pytest.raises(RegistryError, match="does not allow this") as caught:
        repository().delete("1")
    assert (caught.value.status, caught.value.code) == (405, "UNSUPPORTED")
