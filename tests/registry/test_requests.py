"""One request until it succeeds or cannot: retries, redirects, hosts, TLS, proxies, mirrors."""

from __future__ import annotations

import base64
import email.utils
import json
import time

import pytest
from attrs import evolve
from fake import IMAGE, Fake, digest_of, running

from pylxc.documents import Descriptor
from pylxc.errors import RegistryError
from pylxc.reference import Reference
from pylxc.registry.client import Client
from pylxc.registry.settings import HostSettings
from pylxc.registry.sites import Site
from pylxc.registry.transport import Question

MANIFESTS = "GET /v2/app/manifests/.*"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(fake, repository, pauses, status):
    fake.add_manifest("1", IMAGE)
    fake.once(MANIFESTS, lambda handler: handler.fail(status))
    fake.once(MANIFESTS, lambda handler: handler.hang_up())
    repository(backoff=1.0, longest_wait=100).manifest()
    assert len(fake.requests(MANIFESTS)) == 3
    assert [0.5 <= pauses[0] <= 1, 1 <= pauses[1] <= 2] == [True, True]


@pytest.mark.parametrize("status", [400, 404, 405, 410, 418, 501])
def test_what_does_not_pass_is_not(fake, repository, pauses, status):
    fake.always(MANIFESTS, lambda handler: handler.fail(status, "SOME_CODE", "because"))
    with pytest.raises(RegistryError, match=r"\(because\)") as caught:
        repository().manifest()
    assert (caught.value.status, caught.value.code, pauses) == (status, "SOME_CODE", [])


def test_a_missing_manifest_is_named(fake, repository):
    with pytest.raises(RegistryError) as caught:
        repository("team/app:7").manifest()
    assert (caught.value.status, caught.value.code) == (404, "MANIFEST_UNKNOWN")
    words = f"{fake.host}/team/app:7: {fake.host} does not have it (manifest unknown); check the name and the tag"
    assert str(caught.value) == words


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("60", 60.0), ("-5", None), ("soon", None), ("", None)])
def test_retry_after_is_obeyed(fake, repository, pauses, asked, waited):
    fake.add_manifest("1", IMAGE)
    fake.once(MANIFESTS, lambda handler: handler.fail(429, Retry_After=asked))
    repository(backoff=0.5, longest_wait=60).manifest()
    assert len(pauses) == 1
    assert pauses == [waited] if waited is not None else pauses[0] <= 0.5


@pytest.mark.parametrize(("ahead", "bounds"), [(30, (10, 30)), (-3600, (0, 0))])
def test_retry_after_may_be_a_date(fake, repository, pauses, ahead, bounds):
    fake.add_manifest("1", IMAGE)
    date = email.utils.formatdate(time.time() + ahead, usegmt=True)
    fake.once(MANIFESTS, lambda handler: handler.fail(503, Retry_After=date))
    repository(longest_wait=60).manifest()
    assert len(pauses) == 1
    assert bounds[0] <= pauses[0] <= bounds[1]


@pytest.mark.parametrize("asked", ["61", "3600", "9" * 4000, "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_nobody_waits_longer_than_the_settings_say(fake, repository, pauses, asked):
    message = "You have reached your pull rate limit"
    fake.always(MANIFESTS, lambda handler: handler.fail(429, "TOOMANYREQUESTS", message, Retry_After=asked))
    with pytest.raises(RegistryError, match=rf"too many requests \({message}\); try later") as caught:
        repository(longest_wait=60).manifest()
    assert (caught.value.status, len(fake.requests(MANIFESTS)), pauses) == (429, 1, [])


def test_tries_are_counted(fake, repository, pauses):
    fake.always(MANIFESTS, lambda handler: handler.fail(429, "TOOMANYREQUESTS", "slow down"))
    with pytest.raises(RegistryError, match=r"too many requests \(slow down\); try later, or log in") as caught:
        repository(retries=3).manifest()
    assert (caught.value.status, len(fake.requests(MANIFESTS)), len(pauses)) == (429, 4, 3)


def test_a_connection_is_used_again_after_an_answer_without_a_body(fake, repository, pauses):
    fake.add_manifest("1", IMAGE)
    site = Site(fake.host, fake.url)
    question = Question(what="it", site=site, method="HEAD", url=site.url("app/manifests/1"))
    asked = repository()._transport
    first = asked.ask(question, (200,))
    first.close()
    asked.ask(question, (200,)).close()  # while somebody has the first answer still
    assert (first.status, pauses) == (200, [])


def test_nobody_there_is_said_at_once(settings, pauses):
    with Client(settings) as client, pytest.raises(RegistryError) as caught:
        client.repository(Reference.parse("127.0.0.1:1/app")).manifest()
    assert str(caught.value) == "127.0.0.1:1/app:latest: https://127.0.0.1:1: connection refused"
    assert pauses == []
    with Client(settings) as client, pytest.raises(RegistryError, match="name cannot be resolved"):
        client.repository(Reference.parse("registry.invalid/app")).manifest()


def test_what_servers_say_cannot_reach_the_terminal(fake, repository):
    message = "\x1b]0;pwned\x07\x1b[2J\r\n\u202eevil " + "x" * 10_000
    fake.always(MANIFESTS, lambda handler: handler.fail(400, "\x1b[31mCODE", message))
    with pytest.raises(RegistryError) as caught:
        repository().manifest()
    assert str(caught.value).isprintable()
    assert "evil" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.code == ""


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 50_000, b'{"errors": []}', b'{"errors": 5}', b'{"errors":[{"code":[]}]}']
)
def test_errors_without_a_body_that_helps(fake, repository, body):
    fake.always(MANIFESTS, lambda handler: handler.answer(400, body))
    with pytest.raises(RegistryError, match=r"answers with status 400$") as caught:
        repository().manifest()
    assert caught.value.code == ""


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://registry.example/", "http://169.254.169.254/", "//e.example/x",
     "http://user:pw@127.0.0.1/", "http://127.0.0.1:port/", "http://../..", "http://127.0.0.1/a b", "http://[::1",
     "http://127.0.0.1/" + "x" * 9000],
)  # fmt: skip
def test_redirects_that_are_not_followed(fake, repository, location):
    fake.always(MANIFESTS, lambda handler: handler.answer(302, Location=location))
    with pytest.raises(RegistryError, match="refused") as caught:
        repository().manifest()
    assert caught.value.code == "REDIRECT"
    assert "pw" not in str(caught.value)


def test_redirects_end(fake, repository):
    fake.always(MANIFESTS, lambda handler: handler.answer(307, Location=handler.path + "x"))
    with pytest.raises(RegistryError, match="without end"):
        repository().manifest()
    assert len(fake.requests(MANIFESTS)) == 6


# TLS.


@pytest.fixture
def secure(certificate):
    with running(Fake(certificate)) as made:
        made.add_manifest("1", IMAGE)
        yield made


def fetch(settings, fake) -> None:
    with Client(settings) as client:
        client.repository(Reference.parse(f"{fake.host}/app:1")).manifest()


def test_an_unknown_authority_is_refused(secure, settings):
    with pytest.raises(RegistryError, match=r"certificate is not trusted .*: put its authority into .*/ca.crt"):
        fetch(settings, secure)
    assert secure.seen == []


def test_an_authority_in_docker_s_directory(secure, settings, certificate, tmp_path):
    place = tmp_path / "certs.d" / secure.host
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes((certificate.parent / "cert.pem").read_bytes())
    fetch(evolve(settings, certificate_directories=(tmp_path / "certs.d",)), secure)
    assert len(secure.seen) == 1


def test_an_authority_of_the_settings(secure, settings, certificate):
    fetch(evolve(settings, hosts={secure.host: HostSettings(ca=certificate.parent / "cert.pem")}), secure)
    with pytest.raises(RegistryError, match=r"certificates given for .* cannot be read"):
        fetch(evolve(settings, hosts={secure.host: HostSettings(ca="/nowhere.crt")}), secure)


def test_an_insecure_host_may_be_anybody(secure, settings):
    fetch(evolve(settings, hosts={secure.host: HostSettings(insecure=True)}), secure)


def test_a_host_with_an_authority_is_never_asked_in_plain(fake, settings, certificate):
    fake.add_manifest("1", IMAGE)
    said = HostSettings(ca=certificate.parent / "cert.pem", insecure=True)
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1"):
        fetch(evolve(settings, hosts={fake.host: said}, connect_timeout=1.0), fake)
    assert [seen for seen in fake.seen if "manifests" in seen.path] == []


def test_tls_does_not_become_plain_on_the_way(secure, fake, settings, certificate):
    secure.always(MANIFESTS, lambda handler: handler.answer(302, Location=f"{fake.url}/there"))
    with pytest.raises(RegistryError, match="plain HTTP"):
        fetch(evolve(settings, hosts={secure.host: HostSettings(ca=certificate.parent / "cert.pem")}), secure)
    assert fake.seen == []


def test_plain_http_is_for_this_machine(settings):
    with Client(settings) as client:
        assert client._transport.site("registry.example").base == "https://registry.example"
        with pytest.raises(RegistryError, match=r"https://registry\.invalid: its name cannot be resolved"):
            client.login("http://registry.invalid", "anna", "secret")


def test_a_client_s_certificate_is_shown(certificate, settings):
    pair = HostSettings(
        ca=certificate.parent / "cert.pem",
        client_certificate=certificate.parent / "cert.pem",
        client_key=certificate.parent / "key.pem",
    )
    with running(Fake(certificate, clients=certificate.parent / "cert.pem")) as fake:
        fake.add_manifest("1", IMAGE)
        fetch(evolve(settings, hosts={fake.host: pair}), fake)
        with pytest.raises(RegistryError, match=r"TLS failed|ended in the middle|reset"):
            fetch(evolve(settings, hosts={fake.host: HostSettings(ca=pair.ca)}), fake)


def test_headers_of_the_user_s_are_sent_in_utf_8(fake, settings):
    fake.add_manifest("1", IMAGE)
    settings.config.path.parent.mkdir()
    settings.config.path.write_text(json.dumps({"HttpHeaders": {"X-Team": "日本\té"}}))
    fetch(settings, fake)
    assert fake.seen[-1].headers["X-Team"].encode("latin-1").decode() == "日本\té"


# Proxies and mirrors.


def test_a_proxy_of_the_settings_is_used(fake, elsewhere, settings):
    elsewhere.always("GET http://127.0.0.1.*", lambda handler: handler.answer(
        200, json.dumps(IMAGE).encode(), Content_Type="application/vnd.oci.image.manifest.v1+json"))  # fmt: skip
    proxy = elsewhere.url.replace("://", "://anna:s%2Fcret@")
    said = evolve(settings, hosts={fake.host: HostSettings(proxy=proxy)})
    fetch(said, fake)
    assert [seen.path for seen in elsewhere.seen][-1] == f"{fake.url}/v2/app/manifests/1"
    assert fake.seen == []
    assert elsewhere.seen[-1].headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"anna:s/cret").decode()
    assert "cret" not in repr(said)


def test_tls_goes_through_a_proxy_s_tunnel(secure, elsewhere, settings, certificate):
    said = HostSettings(ca=certificate.parent / "cert.pem", proxy=elsewhere.url.replace("://", "://anna:s%2Fcret@"))
    fetch(evolve(settings, hosts={secure.host: said}), secure)
    assert [(seen.method, seen.path) for seen in elsewhere.seen] == [("CONNECT", secure.host)]
    assert elsewhere.seen[0].headers["Proxy-Authorization"].startswith("Basic ")
    assert "Proxy-Authorization" not in secure.seen[0].headers


def test_a_proxy_that_refuses_is_named(secure, elsewhere, settings, certificate):
    elsewhere.always("CONNECT .*", lambda handler: handler.answer(407))
    said = HostSettings(ca=certificate.parent / "cert.pem", proxy=elsewhere.url)
    with pytest.raises(RegistryError, match="the proxy for it failed"):
        fetch(evolve(settings, hosts={secure.host: said}), secure)


def test_loopback_goes_through_no_proxy(fake, elsewhere, settings, monkeypatch):
    fake.add_manifest("1", IMAGE)
    monkeypatch.setenv("http_proxy", elsewhere.url)
    monkeypatch.setenv("https_proxy", elsewhere.url)
    fetch(settings, fake)
    assert elsewhere.seen == []


@pytest.mark.parametrize("place", ["environment", "docker's daemon", "docker's configuration"])
def test_a_proxy_that_is_everybody_s(elsewhere, settings, monkeypatch, place):
    elsewhere.always("GET http://registry.example/.*", lambda handler: handler.answer(
        200, json.dumps(IMAGE).encode(), Content_Type="application/vnd.oci.image.manifest.v1+json"))  # fmt: skip
    if place == "environment":
        monkeypatch.setenv("http_proxy", elsewhere.url)
    elif place == "docker's daemon":
        settings = evolve(settings, proxies={"http": elsewhere.url})
    else:
        settings.config.path.parent.mkdir()
        settings.config.path.write_text(json.dumps({"proxies": {"default": {"httpProxy": elsewhere.url}}}))
    insecure = evolve(settings, hosts={"registry.example": HostSettings(insecure=True)})
    with Client(insecure) as client:
        client._transport._sites["registry.example"] = client._transport.site("http://registry.example")
        client.repository(Reference.parse("registry.example/app:1")).manifest()
        monkeypatch.setenv("no_proxy", "registry.example")
    assert len(elsewhere.seen) == 1


@pytest.mark.parametrize("proxy", ["nonsense://anna:secret@x:y", "socks5://anna:secret@127.0.0.1:1080"])
def test_a_proxy_that_is_none_is_told_without_its_password(fake, settings, proxy):
    said = evolve(settings, hosts={fake.host: HostSettings(proxy=proxy)})
    with pytest.raises(RegistryError, match=r"proxy for .* is no .*: check HTTP_PROXY") as caught:
        fetch(said, fake)
    assert "secret" not in str(caught.value)


def with_mirror(settings, fake, mirror):
    return evolve(settings, hosts={fake.host: HostSettings(mirrors=(mirror.url,))})


def test_mirrors_are_asked_first(fake, elsewhere, settings):
    data = b"blob" * 1000
    elsewhere.add_manifest("1", IMAGE)
    elsewhere.add(data)
    with Client(with_mirror(settings, fake, elsewhere)) as client:
        place = client.repository(Reference.parse(f"{fake.host}/app:1"))
        place.manifest()
        with place.blob(Descriptor("text/plain", digest_of(data), len(data))) as reader:
            assert reader.read() == data
    assert [seen.path for seen in fake.seen] == ["/v2/"]


@pytest.mark.parametrize("way", ["lacks it", "lies", "is down", "has had enough", "hangs up", "is silent"])
def test_a_mirror_that_fails_costs_nothing_and_is_asked_no_more(fake, elsewhere, settings, pauses, way):
    data = b"blob" * 1000
    digest = fake.add_manifest("1", IMAGE)
    fake.add(data)
    actions = {
        "lies": lambda handler: handler.answer(200, b"{}", Docker_Content_Digest=digest),
        "is down": lambda handler: handler.fail(503),
        "has had enough": lambda handler: handler.fail(429, Retry_After=7),
        "hangs up": lambda handler: handler.hang_up(),
        "is silent": lambda handler: handler.server.over.wait(),
    }
    if way in actions:
        elsewhere.always("(GET|HEAD) /v2/app/.*", actions[way])
    patience = 0.5 if way == "is silent" else settings.timeout
    with Client(with_mirror(evolve(settings, timeout=patience), fake, elsewhere)) as client:
        place = client.repository(Reference.parse(f"{fake.host}/app:1"))
        for _ in range(2):
            assert place.resolve().digest == place.manifest().descriptor.digest == digest
        with place.blob(Descriptor("text/plain", digest_of(data), len(data))) as reader:
            assert reader.read() == data
    assert pauses == []
    assert len(elsewhere.requests(".*/app/.*")) == {"lacks it": 5, "lies": 2}.get(way, 1)


def test_the_registry_is_asked_again_though_a_mirror_is_not(fake, elsewhere, settings, pauses):
    fake.add_manifest("1", IMAGE)
    elsewhere.always(MANIFESTS, lambda handler: handler.fail(500))
    fake.once(MANIFESTS, lambda handler: handler.fail(500))
    fetch(with_mirror(settings, fake, elsewhere), fake)
    assert (len(elsewhere.requests(MANIFESTS)), len(fake.requests(MANIFESTS)), len(pauses)) == (1, 2, 1)


def test_a_name_that_no_host_can_have(settings):
    with Client(settings) as client, pytest.raises(RegistryError, match="its name is none that a host can have"):
        client.repository(Reference.parse(f"{'a' * 70}.example/app")).manifest()
