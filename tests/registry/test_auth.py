"""Logins: Basic and Bearer, tokens that end, rotate or are lies; credentials that stay with their registry."""

from __future__ import annotations

import base64
import json
import logging
import threading
import traceback
from urllib.parse import parse_qs, urlsplit

import pytest
from fake import IMAGE, digest_of

from pylxc.documents import Descriptor
from pylxc.errors import AuthError, IntegrityError, RegistryError
from pylxc.reference import Reference
from pylxc.registry.client import Client
from pylxc.registry.credentialhelper import Credentials
from pylxc.registry.tokens import _CHALLENGE, Challenge, read_challenges

MANIFESTS = "GET /v2/app/manifests/.*"
TOKENS = r"(GET|POST) /token.*"
PASSWORD = "hunter2-hunter2"  # noqa: S105  of nobody
BASIC = "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()


def log_in(settings, host, **entry) -> None:
    """Write docker's configuration, as docker login does."""
    settings.config.path.parent.mkdir(exist_ok=True)
    entry = entry or {"auth": base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
    settings.config.path.write_text(json.dumps({"auths": {host: entry}}))


class TokenServer:
    """Makes a fake registry one that wants bearer tokens, and give them out itself."""

    def __init__(self, fake, realm: str = "", scope: str = "repository:app:pull") -> None:
        self.fake = fake
        self.good: set[str] = set()
        self.count = 0
        self.challenge = f'Bearer realm="{realm or fake.url + "/token"}",service="the service",scope="{scope}"'
        self.more: dict[str, object] = {}
        fake.guard = self.allows
        fake.always(TOKENS, self.give)

    def allows(self, handler) -> bool:
        if handler.headers.get("Authorization", "").removeprefix("Bearer ") in self.good:
            return True
        handler.fail(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=self.challenge)
        return False

    def give(self, handler) -> None:
        self.count += 1
        token = f"token-{self.count}"
        self.good.add(token)
        handler.answer(200, json.dumps({"token": token, **self.more}).encode())


def test_basic(fake, repository, settings):
    def guard(handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return True
        handler.fail(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
        return False

    fake.guard = guard
    fake.add_manifest("1", IMAGE)
    log_in(settings, fake.host)
    client = repository()
    client.manifest()
    client.manifest()
    assert [seen.headers.get("Authorization") for seen in fake.requests(MANIFESTS)] == [None, BASIC, BASIC]


@pytest.mark.parametrize("has_login", [True, False])
def test_bearer(fake, repository, settings, has_login):
    TokenServer(fake)
    fake.add_manifest("1", IMAGE)
    if has_login:
        log_in(settings, fake.host)
    client = repository()
    client.manifest()
    client.manifest()
    (asked,) = fake.requests(TOKENS)
    query = parse_qs(urlsplit(asked.path).query)
    assert query["service"] == ["the service"]
    assert query["scope"] == ["repository:app:pull"]
    assert asked.headers.get("Authorization") == (BASIC if has_login else None)
    used = [seen.headers.get("Authorization") for seen in fake.requests(MANIFESTS)]
    assert used == [None, "Bearer token-1", "Bearer token-1"]


def test_each_scope_has_its_own_token(fake, repository):
    TokenServer(fake, scope="")
    fake.add_manifest("1", IMAGE)
    client = repository()
    client.manifest()
    client.push_blob(Descriptor("text/plain", digest_of(b"x"), 1), b"x")
    client.manifest()
    scopes = [parse_qs(urlsplit(seen.path).query)["scope"] for seen in fake.requests(TOKENS)]
    assert scopes == [["repository:app:pull"], ["repository:app:pull,push"]]


def test_one_token_serves_all_threads(fake, repository):
    TokenServer(fake)
    blobs = [bytes([number]) * 100 for number in range(8)]
    for each in blobs:
        fake.add(each)
    wanted = [Descriptor("text/plain", digest_of(each), 100) for each in blobs]
    assert repository(downloads=8).download(wanted, lambda _, reader: reader.read()) == blobs
    assert len(fake.requests(TOKENS)) == 1


def test_a_rotated_token_is_renewed_once(fake, repository):
    server = TokenServer(fake)
    fake.add_manifest("1", IMAGE)
    client = repository()
    client.manifest()
    server.good.clear()
    client.manifest()
    assert [seen.headers.get("Authorization") for seen in fake.requests(MANIFESTS)][2:] == [
        "Bearer token-1",
        "Bearer token-2",
    ]


def test_a_token_that_is_never_good_is_asked_for_twice_at_most(fake, repository):
    server = TokenServer(fake)
    fake.guard = lambda handler: server.good.clear() or server.allows(handler)
    client = repository()
    with pytest.raises(AuthError, match=r"pylxc login 127\.0\.0\.1"):
        client.manifest()
    assert (len(fake.requests(MANIFESTS)), len(fake.requests(TOKENS))) == (2, 1)
    with pytest.raises(AuthError):
        client.manifest()
    assert (len(fake.requests(MANIFESTS)), len(fake.requests(TOKENS))) == (4, 2)


def test_a_token_ends_in_the_middle_of_a_blob(fake, repository):
    data = bytes(range(256)) * 100
    server = TokenServer(fake)

    def act(handler) -> None:
        server.good.clear()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:1000])
        handler.hang_up()

    fake.add(data)
    client = repository()
    client._transport.tokens.renew(client._site(), frozenset({"repository:app:pull"}), "", [server.challenge])
    fake.once("GET /v2/app/blobs/.*", act)
    with client.blob(Descriptor("text/plain", digest_of(data), len(data))) as reader:
        assert reader.read() == data
    assert len(fake.requests(TOKENS)) == 2


def test_tokens_are_not_used_beyond_their_time(fake, repository, monkeypatch):
    server = TokenServer(fake)
    server.more = {"expires_in": 100, "issued_at": "1999-01-01T00:00:00Z"}
    fake.add_manifest("1", IMAGE)
    client = repository()
    client.manifest()
    import time

    now = time.monotonic()
    monkeypatch.setattr("pylxc.registry.tokens.time.monotonic", lambda: now + 80)
    client.manifest()
    assert server.count == 1
    monkeypatch.setattr("pylxc.registry.tokens.time.monotonic", lambda: now + 120)
    client.manifest()
    assert server.count == 2


def test_identity_tokens_are_sent_by_post(fake, repository, settings):
    server = TokenServer(fake)
    server.more = {"access_token": "other", "refresh_token": "refreshed"}
    fake.add_manifest("1", IMAGE)
    log_in(settings, fake.host, auth=base64.b64encode(b"anna:").decode(), identitytoken="refresh me")
    client = repository()
    client.manifest()
    server.good.clear()
    client.manifest()
    first, second = fake.requests("POST /token")
    assert parse_qs(first.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh me"],
        "service": ["the service"],
        "client_id": ["pylxc"],
        "scope": ["repository:app:pull"],
    }
    assert parse_qs(second.body.decode())["refresh_token"] == ["refreshed"]
    assert "Authorization" not in first.headers


def test_a_registry_token_is_sent_as_it_is(fake, repository, settings):
    server = TokenServer(fake)
    server.good.add("mine")
    fake.add_manifest("1", IMAGE)
    log_in(settings, fake.host, registrytoken="mine")
    client = repository()
    client.manifest()
    server.good.clear()
    with pytest.raises(AuthError, match="log in with"):
        client.manifest()
    used = [seen.headers.get("Authorization") for seen in fake.requests(MANIFESTS)]
    assert used == [None, "Bearer mine", "Bearer mine"]
    assert fake.requests(TOKENS) == []


def test_passwords_go_by_post_where_get_is_not_served(fake, repository, settings):
    server = TokenServer(fake)
    fake.script.insert(0, ("GET /token.*", lambda handler: handler.answer(405), True))
    fake.add_manifest("1", IMAGE)
    log_in(settings, fake.host)
    repository().manifest()
    (asked,) = fake.requests("POST /token")
    form = parse_qs(asked.body.decode())
    assert (form["grant_type"], form["username"], form["password"]) == (["password"], ["anna"], [PASSWORD])
    assert server.count == 1


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"no json", RegistryError, "no token"),
        (b"[" * 100_000, RegistryError, "no token"),
        (b'{"token": 5}', RegistryError, "no token"),
        (b'{"token": "a\\r\\nX: y"}', RegistryError, "no token"),
        (b'{"token": ""}', RegistryError, "no token"),
        (b'{"token": "' + b"x" * (1 << 20) + b'"}', IntegrityError, "1048576 bytes at most"),
    ],
    ids=["text", "brackets", "number", "two headers", "empty", "huge"],
)
def test_what_is_no_token_is_refused(fake, repository, body, error, words):
    TokenServer(fake)
    fake.script.insert(0, (TOKENS, lambda handler: handler.answer(200, body), True))
    with pytest.raises(error, match=words) as caught:
        repository().manifest()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "realm",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user:x@127.0.0.1/", "http://169.254.169.254/latest",
     "http://registry.example/token", "http://127.0.0.1:99999/", "http://[::1", "gopher://x"],
)  # fmt: skip
def test_a_realm_elsewhere_gets_no_password(fake, repository, settings, realm):
    TokenServer(fake, realm=realm)
    log_in(settings, fake.host)
    with pytest.raises(RegistryError, match="refused") as caught:
        repository().manifest()
    assert caught.value.code == "REDIRECT"


def test_refused_credentials_say_where_to_log_in(fake, repository, settings):
    TokenServer(fake)
    fake.script.insert(0, (TOKENS, lambda handler: handler.fail(401, "UNAUTHORIZED", "who\x1b[2Jare you"), True))
    log_in(settings, fake.host)
    with pytest.raises(AuthError) as caught:
        repository().manifest()
    assert (caught.value.status, caught.value.code) == (401, "UNAUTHORIZED")
    words = f"{fake.host} refuses the credentials (who [2Jare you); log in with: pylxc login {fake.host}"
    assert str(caught.value) == words


def test_a_token_server_that_is_busy_is_asked_again(fake, repository):
    TokenServer(fake)
    fake.add_manifest("1", IMAGE)
    fake.script.insert(0, (TOKENS, lambda handler: handler.fail(503), False))
    repository().manifest()
    assert len(fake.requests(TOKENS)) == 2


def test_secrets_are_in_no_message_no_repr_and_no_log(fake, repository, settings, caplog):
    caplog.set_level(logging.DEBUG)
    server = TokenServer(fake)
    server.more = {"token": "token-secret"}
    log_in(settings, fake.host)
    client = repository()
    with pytest.raises(AuthError) as caught:
        client.manifest()
    transport = client._transport
    told = [caplog.text, str(caught.value), "".join(traceback.format_exception(caught.value))]
    told += map(repr, (client, transport, transport.tokens, transport.settings, settings.config))
    told += [repr(list(transport.tokens._registries.values())), repr(Credentials("anna", PASSWORD, "refresh me"))]
    assert "anna" in told[-1]
    assert "127.0.0.1" in caplog.text
    for secret in (PASSWORD, BASIC.split()[1], "token-secret", "refresh me"):
        assert [text for text in told if secret in text] == []


# Logging in and out.


def stored(settings) -> dict:
    return json.loads(settings.config.path.read_text())


def test_login_is_checked_and_kept(fake, settings):
    def guard(handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return True
        handler.fail(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
        return False

    fake.guard = guard
    with Client(settings) as client:
        with pytest.raises(AuthError, match="refuses this name and password"):
            client.login(fake.host, "anna", "wrong")
        assert not settings.config.path.exists()
        client.login(fake.host, "anna", PASSWORD)
        assert stored(settings) == {"auths": {fake.host: {"auth": BASIC.split()[1]}}}
        assert settings.config.path.stat().st_mode & 0o777 == 0o600
        assert client.logout(fake.host) is True
        assert stored(settings) == {"auths": {}}
        assert client.logout(fake.host) is False


def test_login_keeps_a_token_where_there_is_one(fake, settings):
    server = TokenServer(fake, scope="")
    server.more = {"refresh_token": "in-place-of-it"}
    with Client(settings) as client:
        client.login(fake.host, "anna", PASSWORD)
    (asked,) = fake.requests("GET /token.*")
    assert parse_qs(urlsplit(asked.path).query)["offline_token"] == ["true"]
    assert PASSWORD not in settings.config.path.read_text()
    entry = stored(settings)["auths"][fake.host]
    assert entry == {"auth": base64.b64encode(b"anna:").decode(), "identitytoken": "in-place-of-it"}


def test_a_login_that_is_kept_is_checked(fake, settings):
    server = TokenServer(fake, scope="")
    with Client(settings) as client:
        assert client.login_again(fake.host) is False
        log_in(settings, fake.host, registrytoken="mine")
        server.good.add("mine")
        assert client.login_again(fake.host) is True
        assert stored(settings)["auths"][fake.host] == {"registrytoken": "mine"}
        log_in(settings, fake.host)
        server.more = {"refresh_token": "in-place-of-it"}
        assert client.login_again(fake.host) is True
        assert stored(settings)["auths"][fake.host]["identitytoken"] == "in-place-of-it"
        fake.script.insert(0, (TOKENS, lambda handler: handler.fail(401), True))
        with pytest.raises(AuthError, match="refuses") as caught:
            client.login_again(fake.host)
        assert caught.value.status == 401


def test_a_login_that_cannot_be_checked_is_not_kept(settings):
    with Client(settings) as client, pytest.raises(RegistryError, match="refused"):
        client.login("127.0.0.1:1", "anna", PASSWORD)
    assert not settings.config.path.exists()


def test_challenges():
    header = 'Bearer realm="https://a.example/t?x=\\"1\\"",service="s, t", scope="a:b:c" , Basic realm=plain'
    assert read_challenges([header, "Negotiate", "\x00"]) == [
        Challenge("bearer", {"realm": 'https://a.example/t?x="1"', "service": "s, t", "scope": "a:b:c"}),
        Challenge("basic", {"realm": "plain"}),
    ]


def test_a_server_s_challenges_are_few():
    read = iter([f"Basic realm={number}" for number in range(20)])
    assert [each.parameters["realm"] for each in read_challenges(read)] == list("01234567")
    assert next(read) == "Basic realm=8"


def test_a_challenge_is_looked_for_once_in_a_word():
    word = "a" * 100 + " realm=" + "b" * 100
    assert [at for at in range(len(word)) if _CHALLENGE.match(word, at)] == [0]


def test_an_absurd_challenge_takes_no_time(fake, repository):
    fake.always(MANIFESTS, lambda handler: handler.fail(401, WWW_Authenticate="Bearer " + 'a="\\' * 12_000))
    with pytest.raises(AuthError):
        repository().manifest()


def test_threads_share_a_client_while_tokens_rotate(fake, settings):
    server = TokenServer(fake)
    fake.add_manifest("1", IMAGE)
    failures = []
    with Client(settings) as client:
        place = client.repository(Reference.parse(f"{fake.host}/app:1"))

        def work() -> None:
            for _ in range(10):
                try:
                    place.manifest()
                except RegistryError as error:
                    failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert server.count == 1
