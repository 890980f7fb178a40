"""What users have said already: docker's files, credential helpers, names and addresses of registries."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from pylxc.documents import Descriptor
from pylxc.errors import AuthError, RegistryError, SpecError
from pylxc.reference import Reference
from pylxc.registry.credentialhelper import CredentialHelper, Credentials
from pylxc.registry.dockerconfig import DockerConfig
from pylxc.registry.proxies import is_direct, proxy_of
from pylxc.registry.settings import HostSettings, Settings
from pylxc.registry.sites import followed, host_and_port, is_loopback, known_host, place_of, site_of
from pylxc.untrusted import parse_json

if TYPE_CHECKING:
    from pathlib import Path

HUB = "docker.io"
PAIR = base64.b64encode(b"anna:pass:word").decode()


@pytest.fixture
def config(tmp_path) -> DockerConfig:
    return DockerConfig(tmp_path / "docker/config.json", helper_timeout=10)


def write(config: DockerConfig, document: object) -> None:
    config.path.parent.mkdir(exist_ok=True)
    config.path.write_text(document if isinstance(document, str) else json.dumps(document))


# Names and addresses.


@pytest.mark.parametrize(
    ("text", "host", "repository"),
    [
        ("redis", "registry-1.docker.io", "library/redis"),
        ("team/app:1", "registry-1.docker.io", "team/app"),
        ("docker.io/redis", "registry-1.docker.io", "library/redis"),
        ("localhost/app", "localhost", "app"),
        ("localhost:5000/a/b", "localhost:5000", "a/b"),
        ("registry.example:443/app", "registry.example:443", "app"),
        ("[::1]:5000/app", "[::1]:5000", "app"),
    ],
)
def test_where_an_image_is(text, host, repository):
    assert place_of(Reference.parse(text)) == (host, repository)


@pytest.mark.parametrize("name", [HUB, "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"])
def test_docker_io_has_many_names(name):
    assert known_host(name) == HUB
    assert site_of(name, "https").url("") == "https://registry-1.docker.io/v2/"


@pytest.mark.parametrize(
    "name", ["", "..", ".", "a b", "host:port", "a\n", "[::1", "user@host", "host:65536", "host:0"]
)
def test_what_is_no_host(name):
    with pytest.raises(SpecError):
        known_host(name)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("127.1", True), ("2130706433", True),
     ("0x7f.1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("127.0.0.1.example", False), ("10.0.0.1", False),
     ("localhost.example", False), ("fe80::1", False), ("cafe", False), ("example.com", False)],
)  # fmt: skip
def test_this_machine_by_its_names(host, answer):
    assert is_loopback(host) is answer


@pytest.mark.parametrize(
    ("before", "location"),
    [
        ("https://a.example/x", "http://a.example/y"),
        ("https://a.example/x", "https://169.254.169.254/latest"),
        ("https://a.example/x", "https://2852039166/latest"),
        ("https://a.example/x", "https://[fe80::1]/"),
        ("https://a.example/x", "https://127.1/"),
        ("https://a.example/x", "https://localhost./"),
        ("https://a.example/x", "https://0/"),
        ("http://insecure.example/x", "http://127.0.0.1/"),
        ("https://a.example/x", "https://../certs"),
        ("https://a.example/x", "data:text/plain,x"),
        ("https://a.example/x", "https://b.example/\x01"),
    ],
)
def test_where_nobody_is_sent(before, location):
    with pytest.raises(RegistryError, match="refused"):
        followed(before, location, lambda host: host == "insecure.example")


def test_where_one_may_be_sent():
    assert followed("https://a.example/v2/x", "/y?z=1", lambda _: False) == "https://a.example/y?z=1"
    assert followed("https://a.example/v2/x", "y", lambda _: False) == "https://a.example/v2/y"
    assert followed("http://127.0.0.1:5000/v2/x", "http://127.0.0.1:6000/", lambda _: True) == "http://127.0.0.1:6000/"
    assert host_and_port("https://A.example:443/x") == "a.example"
    assert host_and_port("http://[::1]:5000/") == "[::1]:5000"


# Settings.


def test_docker_s_files_are_read(tmp_path):
    etc, home = tmp_path / "etc", tmp_path / "home"
    (etc / "docker/certs.d/registry.example:5000").mkdir(parents=True)
    (home / ".config/docker").mkdir(parents=True)
    (etc / "docker/daemon.json").write_text(json.dumps({
        "insecure-registries": ["plain.example", "10.1.0.0/16", "odd.example:5000", "http://scheme.example:5000/"],
        "registry-mirrors": ["https://mirror.example"], "other": 1}))  # fmt: skip
    (home / ".config/docker/daemon.json").write_text(json.dumps({"insecure-registries": ["own.example"]}))
    place = etc / "docker/certs.d/registry.example:5000"
    for name in ("a.crt", "b.crt", "client.cert", "client.key"):
        (place / name).write_text("")
    settings = Settings.load({"HOME": str(home)}, etc)
    assert settings.config.path == home / ".docker/config.json"
    insecure = ["plain.example", "10.1.2.3", "10.1.2.3:5000", "odd.example:5000", "scheme.example:5000",
                "own.example"]  # fmt: skip
    assert [host for host in insecure if not settings.is_insecure(host)] == []
    secure = ["10.2.0.1", "odd.example", "odd.example:5001", HUB]
    assert [host for host in secure if settings.is_insecure(host)] == []
    assert settings.host("registry-1.docker.io").mirrors == ("https://mirror.example",)
    found = settings.host("registry.example:5000")
    assert (found.ca, found.client_certificate, found.client_key) == (
        place,
        place / "client.cert",
        place / "client.key",
    )
    assert settings.host("registry.example") == HostSettings()


def test_nothing_said_is_nothing_set(tmp_path):
    settings = Settings.load({"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "d")}, tmp_path)
    assert (dict(settings.hosts), settings.config.path) == ({}, tmp_path / "d/config.json")
    assert settings.config.credentials(HUB) == Credentials()


@pytest.mark.parametrize("text", ["{", "[" * 1000, '{"insecure-registries": ["10.0.0.0/99"]}'])
def test_a_broken_daemon_json_is_named(tmp_path, text):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/daemon.json").write_text(text)
    with pytest.raises(RegistryError, match=r"daemon\.json"):
        Settings.load({"HOME": str(tmp_path)}, tmp_path)


def test_what_is_said_in_the_program_counts_first(tmp_path):
    (tmp_path / "registry.example").mkdir()
    (tmp_path / "registry.example/ca.crt").write_text("")
    said = Settings(hosts={"registry.example": HostSettings(ca="/mine.crt")}, certificate_directories=(tmp_path,))
    assert said.host("registry.example").ca == "/mine.crt"


@pytest.mark.parametrize("written", ["127.0.0.9", "127.0.0.9:443", "Reg.Example:5000", "Reg.Example:443", "[::1]:443"])
def test_a_host_s_settings_are_those_of_its_url(tmp_path, written):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/daemon.json").write_text(json.dumps({"insecure-registries": [written]}))
    (tmp_path / "docker/certs.d" / written.lower()).mkdir(parents=True)
    (tmp_path / "docker/certs.d" / written.lower() / "ca.crt").write_text("")
    said = HostSettings(mirrors=("mirror.example",))
    loaded = Settings.load({"HOME": str(tmp_path / "home")}, tmp_path)
    for host in (written, written.lower(), host_and_port(f"https://{written}/v2/")):
        assert Settings(hosts={written: said}).host(host) == said
        assert loaded.is_insecure(host)
        assert loaded.host(host).ca == tmp_path / "docker/certs.d" / written.lower()


def test_another_port_is_another_host():
    settings = Settings(hosts={"registry.example:443": HostSettings(insecure=True)})
    assert [settings.is_insecure(f"registry.example{port}") for port in (":5443", ":80", ":443")] == [
        False,
        False,
        True,
    ]


# Proxies.


@pytest.mark.parametrize(
    ("entry", "direct", "through"),
    [
        ("*", ["registry.example", "10.1.2.3:5000"], []),
        ("corp.example", ["corp.example", "Reg.Corp.Example.", "corp.example:5000"], ["acorp.example", "example"]),
        (".corp.example", ["reg.corp.example"], ["corp.example"]),
        ("*.corp.example", ["reg.corp.example:5000"], ["corp.example", "corp.example.com"]),
        ("corp.example:5000", ["corp.example:5000", "reg.corp.example:5000"], ["corp.example", "corp.example:5001"]),
        ("corp.example:443", ["corp.example"], ["corp.example:5000"]),
        ("10.0.0.0/8", ["10.1.2.3", "10.1.2.3:5000"], ["11.1.2.3", "10.example", "[fd00::1]"]),
        ("fd00::/8", ["[fd00::1]", "[fd00::1]:5000"], ["10.1.2.3"]),
        ("10.1.2.3", ["10.1.2.3:5000"], ["10.1.2.30", "a.10.1.2.3.example"]),
        ("10.1.2.3:80", [], ["10.1.2.3", "10.1.2.3:5000"]),
        ("fd00::1", ["[fd00::1]:5000"], ["[fd00::2]"]),
        ("[fd00::1]:5000", ["[fd00::1]:5000"], ["[fd00::1]"]),
        ("10.0.0.0/99", [], ["10.1.2.3"]),
        (" , :80 ,., a.example ,B.example", ["a.example", "b.example"], ["c.example:80"]),
        ("", [], ["registry.example"]),
    ],
)
def test_what_goes_through_no_proxy(entry, direct, through):
    assert [host for host in direct if not is_direct("https", host, entry)] == []
    assert [host for host in through if is_direct("https", host, entry)] == []


def test_the_port_of_no_proxy_may_be_the_usual_one():
    assert is_direct("http", "corp.example", "corp.example:80")
    assert not is_direct("http", "corp.example", "corp.example:443")


def test_who_names_a_proxy(config, monkeypatch):
    def found(scheme: str = "https", host: str = "registry.example", **more: object) -> str:
        settings = Settings(config=config, **more)
        return proxy_of(settings, settings.host(host), scheme, host)

    monkeypatch.setenv("ALL_PROXY", "socks5://all")  # docker does not know it
    assert found() == ""
    write(config, {"proxies": {"default": {"httpsProxy": "http://own"}}})
    assert found() == "http://own"
    daemon = {"https": "http://daemon", "no": "10.0.0.0/8"}
    assert (found(proxies=daemon), found(proxies=daemon, host="10.1.2.3")) == ("http://daemon", "")
    monkeypatch.setenv("HTTPS_PROXY", "environment:3128")
    assert (found(proxies=daemon), found("http", proxies=daemon)) == ("http://environment:3128", "")
    assert found(host="127.0.0.1:5000") == ""
    said = {"registry.example": HostSettings(proxy="")}
    assert found(proxies=daemon, hosts=said) == ""


def test_proxies_of_docker_s_daemon(tmp_path):
    for place, document in (
        ("etc/docker", {"http-proxy": "http://u:secret@a", "https-proxy": "http://b", "no-proxy": "c", "other": 1}),
        ("home/.config/docker", {"https-proxy": "http://own", "http-proxy": "", "no-proxy": 5}),
    ):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "daemon.json").write_text(json.dumps({"proxies": document}))
    settings = Settings.load({"HOME": str(tmp_path / "home")}, tmp_path / "etc")
    assert settings.proxies == {"http": "http://u:secret@a", "https": "http://own", "no": "c"}
    assert "secret" not in repr(settings)


# Docker's configuration.


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("https://index.docker.io/v1/", HUB),
        ("docker.io", HUB),
        ("registry.example", "registry.example"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_credentials_by_every_key(config, key, host):
    write(config, {"auths": {"bad host": {"auth": "x"}, "other.example": {"auth": "eDp5"}, key: {"auth": PAIR}}})
    assert config.credentials(host) == Credentials("anna", "pass:word")
    assert not config.credentials("registry.example:5000")


@pytest.mark.parametrize(
    ("keys", "host"),
    [
        (["https://registry.example/v1/", "registry.example"], "registry.example"),
        (["http://registry.example", "https://registry.example/v2/", "registry.example"], "registry.example"),
        (["registry.example/team", "registry.example/v1beta", "https://registry.example"], "registry.example"),
        (["https://registry.example/team/v1/", "registry.example/v1/"], "registry.example"),
        (["index.docker.io", "docker.io", "https://index.docker.io/v1/"], HUB),
        (["registry-1.docker.io", "docker.io/library", "docker.io"], HUB),
    ],
)
def test_the_key_that_says_it_best_counts(config, helpers, keys, host):
    """The last of these: the others are older spellings, or mean a namespace."""
    entries = [base64.b64encode(f"anna-{number}:p".encode()).decode() for number in range(len(keys))]
    write(config, {"auths": {key: {"auth": entry} for key, entry in zip(keys, entries, strict=True)}})
    assert config.credentials(host).username == f"anna-{len(keys) - 1}"
    write(config, {"credHelpers": dict.fromkeys(keys[:-1], "absent") | {keys[-1]: "file"}})
    assert config.credentials(host) == Credentials()


def test_a_namespace_s_login_is_for_nothing_else(config):
    write(
        config,
        {"auths": {"registry.example/team": {"auth": PAIR}}, "credHelpers": {"registry.example/other": "absent"}},
    )
    assert config.credentials("registry.example") == Credentials()
    config.save("registry.example", Credentials("bob", "p"))
    assert config.credentials("registry.example") == Credentials("bob", "p")
    assert config.erase("registry.example") is True
    assert config.erase("registry.example") is False
    assert json.loads(config.path.read_text())["auths"] == {"registry.example/team": {"auth": PAIR}}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "anna", "password": "p"}, Credentials("anna", "p")),
        ({"auth": PAIR, "identitytoken": "t"}, Credentials("anna", "pass:word", "t")),
        ({"registrytoken": "r"}, Credentials("", "", "", "r")),
        ({}, Credentials()),
    ],
)
def test_credentials_in_every_form(config, entry, expected):
    write(config, {"auths": {HUB: entry}})
    assert config.credentials(HUB) == expected


@pytest.mark.parametrize(
    "entry",
    [{"auth": "!!!"}, {"auth": 5}, {"auth": "/////w=="}, {"identitytoken": ["x"]}, {"registrytoken": "a\r\nX: y"}],
)
def test_credentials_that_cannot_be_read(config, entry):
    write(config, {"auths": {HUB: entry}})
    with pytest.raises(AuthError, match="log in again"):
        config.credentials(HUB)


@pytest.mark.parametrize("text", ["{ secret", "[]", "5"])
@pytest.mark.parametrize("is_given", [True, False])
def test_a_broken_configuration_is_not_quoted(config, text, is_given):
    write(config, "{}" if is_given else text)
    named = r"DOCKER_AUTH_CONFIG" if is_given else r"config\.json"
    with pytest.raises(AuthError, match=f"{named} is not .*: repair or remove it") as caught:
        evolve(config, given=text if is_given else "").credentials(HUB)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_configuration_says_nothing(config, tmp_path, text):
    write(config, text)
    assert config.credentials(HUB) == Credentials()
    (tmp_path / "docker/daemon.json").write_text(text)
    assert dict(Settings.load({"HOME": str(tmp_path / "home")}, tmp_path).hosts) == {}


def test_what_the_environment_gives_counts_first(tmp_path):
    given = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": PAIR}}})
    config = Settings.load({"HOME": str(tmp_path), "DOCKER_AUTH_CONFIG": given}, tmp_path).config
    config.path.parent.mkdir()
    write(config, {"auths": {HUB: {"username": "bob"}, "registry.example": {"username": "bob"}}, "credsStore": ""})
    assert config.credentials(HUB) == Credentials("anna", "pass:word")
    assert config.credentials("registry.example") == Credentials("bob")
    assert PAIR not in repr(config)


def test_saving_keeps_the_rest(config):
    write(config, {"auths": {"https://index.docker.io/v1/": {"auth": "old"}, "other": {"auth": PAIR}}, "psFormat": "x"})
    config.save(HUB, Credentials("anna", "p"))
    document = json.loads(config.path.read_text())
    assert document["psFormat"] == "x"
    assert document["auths"] == {
        "other": {"auth": PAIR},
        "https://index.docker.io/v1/": {"auth": base64.b64encode(b"anna:p").decode()},
    }
    assert os.listdir(config.path.parent) == ["config.json"]


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o640), (0o755, 0o640)])
def test_saving_keeps_the_mode_and_keeps_others_out(config, mode, kept):
    write(config, {})
    config.path.chmod(mode)
    config.save(HUB, Credentials("anna", "p"))
    assert config.path.stat().st_mode & 0o777 == kept


@pytest.mark.root
def test_the_file_stays_its_owner_s(config):
    write(config, {})
    os.chown(config.path, 1000, 1001)
    config.save(HUB, Credentials("anna", "p"))
    assert (config.path.stat().st_uid, config.path.stat().st_gid) == (1000, 1001)


def test_another_user_s_file_becomes_the_caller_s(config, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    write(config, {})
    config.path.chmod(0o660)
    monkeypatch.setattr("pylxc.registry.dockerconfig.os.fchown", refuse)
    config.save(HUB, Credentials("anna", "p"))
    assert config.path.stat().st_mode & 0o777 == 0o600
    assert config.credentials(HUB) == Credentials("anna", "p")


def test_a_link_stays_one(config, tmp_path):
    write(config, {})
    (tmp_path / "real.json").write_text("{}")
    config.path.unlink()
    config.path.symlink_to(tmp_path / "real.json")
    config.save(HUB, Credentials("anna", "p"))
    assert config.path.is_symlink()
    assert "auths" in json.loads((tmp_path / "real.json").read_text())


def test_a_write_that_fails_leaves_the_old_one(config, monkeypatch):
    write(config, {"auths": {HUB: {"auth": PAIR}}})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pylxc.registry.dockerconfig.os.fsync", fail)
    with pytest.raises(AuthError, match="cannot be written: No space"):
        config.save(HUB, Credentials("bob", "p"))
    assert config.credentials(HUB).username == "anna"
    assert os.listdir(config.path.parent) == ["config.json"]


def test_several_processes_lose_nothing(config):
    program = (
        "import sys; from pathlib import Path; from pylxc.registry.dockerconfig import *;"
        "[DockerConfig(Path(sys.argv[1])).save(f'h{sys.argv[2]}-{n}', Credentials('a', 'b')) for n in range(20)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, config.path, str(number)]) for number in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert len(json.loads(config.path.read_text())["auths"]) == 60


def test_headers_and_proxies(config):
    write(config, {"HttpHeaders": {"X-Meta": "a", "n": 5},
                   "proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b", "ftpProxy": "x"}}})  # fmt: skip
    assert config.headers() == {"X-Meta": "a"}
    assert config.proxies() == {"http": "http://p:1", "no": "a,b"}


@pytest.mark.parametrize(("name", "value"), [("X-Meta", "secret\r\nX: y"), ("X-\x1bMeta", "secret"), ("", "secret")])
def test_a_header_that_cannot_be_sent_is_named(config, name, value):
    write(config, {"HttpHeaders": {"X-Fine": "a", name: value}})
    with pytest.raises(AuthError, match=rf"config\.json: the header '{name.replace(chr(27), ' ')}' ") as caught:
        config.headers()
    assert "secret" not in str(caught.value)


# Credential helpers.

HELPER = """#!{python}
import json, sys
from pathlib import Path
kept = Path(__file__).parent / "kept.json"
servers = json.loads(kept.read_text()) if kept.exists() else {{}}
verb, given = sys.argv[1], sys.stdin.read()
if verb == "get":
    if given not in servers:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(servers[given]))
elif verb == "store":
    entry = json.loads(given)
    servers[entry["ServerURL"]] = entry
elif servers.pop(given, None) is None:
    print("credentials not found in native keychain")
    sys.exit(1)
kept.write_text(json.dumps(servers))
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch) -> Path:
    """A directory on PATH for helpers, with one that works ("file")."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    add_helper(place, "file", HELPER.format(python=sys.executable))
    return place


def add_helper(place: Path, name: str, text: str) -> None:
    (place / f"docker-credential-{name}").write_text(text)
    (place / f"docker-credential-{name}").chmod(0o755)


@pytest.mark.parametrize("document", [{"credsStore": "file"}, {"credHelpers": {HUB: "file"}, "credsStore": "absent"}])
def test_a_helper_keeps_them(config, helpers, document):
    write(config, document)
    assert config.credentials(HUB) == Credentials()
    config.save(HUB, Credentials("anna", "hunter2"))
    assert config.credentials(HUB) == Credentials("anna", "hunter2")
    assert "hunter2" not in config.path.read_text()
    assert list(json.loads((helpers / "kept.json").read_text())) == ["https://index.docker.io/v1/"]
    config.save(HUB, Credentials("anna", "", "token"))
    assert config.credentials(HUB) == Credentials("", "", "token")
    assert [config.erase(HUB), config.erase(HUB)] == [True, False]
    assert config.credentials(HUB) == Credentials()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho 'locked \033[2J'; exit 1", r"locked \[2J;"),
        ("#!/bin/sh\necho secret", "no Username and Secret"),
        ('#!/bin/sh\necho \'{"Username": "a", "Secret": 5}\'', "no Username and Secret"),
        ("#!/bin/sh\nexec sleep 60", "did not answer within 1 s"),
        ("no program", "cannot be started"),
    ],
)
def test_a_helper_that_fails(helpers, text, words):
    add_helper(helpers, "bad", text)
    with pytest.raises(AuthError, match=words) as caught:
        CredentialHelper("bad", 1.0).get(HUB)
    assert "'bad' failed at 'get'" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_helper_s_name_has_no_path_in_it(name):
    with pytest.raises(AuthError, match=r"its name in docker's config\.json is none"):
        CredentialHelper(name).get(HUB)


def test_a_helper_that_is_not_there(helpers):
    with pytest.raises(AuthError, match="cannot be started"):
        CredentialHelper("absent").get(HUB)


# What strangers nest.


def test_json_of_strangers():
    assert parse_json(b'{"a": "[[[[", "b": [1, {}]}') == {"a": "[[[[", "b": [1, {}]}
    assert parse_json(b"[" * 100 + b"]" * 100)
    assert parse_json(json.dumps({"text": '\\"[' * 500}).encode()) == {"text": '\\"[' * 500}
    assert len(parse_json(json.dumps([{"a": [number]} for number in range(1000)]).encode())) == 1000
    for wrong in (b"[" * 101 + b"]" * 101, b'{"a":' * 5000, b'"\\"' + b'\\"[' * 100_000, b""):
        with pytest.raises(ValueError, match=r"nested|Unterminated|Expecting"):
            parse_json(wrong)


def test_descriptors_are_values():
    one = Descriptor("text/plain", "sha256:" + "0" * 64, 1, annotations={"a": "b"})
    assert Descriptor.parse(one.to_json(), "it") == one
    assert len({one, Descriptor.parse(one.to_json(), "it")}) == 1
