"""``pull push login logout``, and the verbs that pull what they lack: against Debian's docker-registry, and a fake."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest
from daemon import docker_registry
from emulator import Emulator
from fake import Fake, running
from pictures import Layout, at, layer_tar
from screens import at_terminal

import pylxc
from pylxc.cli import main
from pylxc.documents import Descriptor
from pylxc.platforms import this_platform
from pylxc.reference import Reference
from pylxc.registry.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

# The password "sesame" of "anna", as htpasswd -B writes it.
PATIENCE = 20.0  # s; on whatever machine
USERS = "anna:$2y$05$tdvX9Vsvla2GmOAkH7Ole.C1xZPXIvFNc.lzjGUwuGCK/LlqWB/y2\n"
DIGEST = r"sha256:[0-9a-f]{64}"


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[str]:
    """A registry for all: each test has a repository of its own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def repository(host, request) -> str:
    return f"{host}/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


@pytest.fixture(autouse=True)
def own_docker_configuration(monkeypatch, tmp_path):
    """No proxy of the machine's, no credentials of the user's."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("TERM", "xterm")


class Said(NamedTuple):
    """What a command wrote."""

    out: list[str]
    err: list[str]

    def events(self) -> list[str]:
        """Return what was said of layers, without their names."""
        found = [re.fullmatch(r"[0-9a-f]{12}: (.*)", line) for line in self.err]
        return [match[1] for match in found if match]


@pytest.fixture
def call(engine, capfd):
    """Return a function that calls the command in this process: to start Python takes the longest of it all."""

    def call(*words: str, status: int = 0) -> Said:
        got = main(["--root", str(engine.root), *words])
        out, err = capfd.readouterr()
        assert got == status, (words, out, err)
        return Said(out.splitlines(), err.splitlines())

    return call


@pytest.fixture
def shell(cli):
    """The command as a process of its own, with the environment of this test."""
    cli.environment = {**os.environ, "PYLXC_ROOT": str(cli.root)}
    return cli


@pytest.fixture
def box(engine, busybox_root):
    """Return a function that makes an image which can be run, and gives its id."""

    def make(name: str, words: str = "hello") -> str:
        config = pylxc.ImageConfig(cmd=("echo", words))
        return pylxc.Image.from_directory(busybox_root, name, config=config, engine=engine).id

    return make


@pytest.fixture
def forget(engine):
    """Return a function that removes all images."""

    def forget() -> None:
        for image in pylxc.Image.list(engine=engine):
            image.remove()

    return forget


# -- push and pull -----------------------------------------------------------------------------------------------------


def test_there_and_back_in_dockers_words(call, box, forget, repository):
    identity = box(f"{repository}:1")
    pushed = call("push", f"{repository}:1")
    assert pushed.out[0] == f"The push refers to repository [{repository}]"
    digest, size = re.fullmatch(rf"1: digest: ({DIGEST}) size: ([0-9]+)", pushed.out[1]).groups()
    assert 200 < int(size) < 2000
    assert pushed.events() == ["Preparing", "Pushed"]
    assert call("push", f"{repository}:1").events() == ["Layer already exists"]

    forget()
    pulled = call("pull", f"{repository}:1")
    assert pulled.out == [
        f"1: Pulling from {repository.partition('/')[2]}",
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {repository}:1",
        f"{repository}:1",
    ]
    assert pulled.events() == ["Pulling fs layer", "Download complete", "Pull complete"]
    assert call("images", "-q", "--no-trunc").out == [identity]
    assert call("run", "--rm", f"{repository}:1").out == ["hello"]

    again = call("pull", f"{repository}:1")
    assert again.out[1:3] == [f"Digest: {digest}", f"Status: Image is up to date for {repository}:1"]
    assert again.err == []


def test_a_tag_that_moved_there(call, box, repository):
    for words in ("first", "second"):
        box(f"{repository}:1", words)
        call("push", f"{repository}:1")
    call("rollback", f"{repository}:1")
    assert call("run", "--rm", f"{repository}:1").out == ["first"]
    pulled = call("pull", f"{repository}:1")
    assert pulled.out[-2] == f"Status: Downloaded newer image for {repository}:1"
    assert pulled.events() == []
    assert call("run", "--rm", f"{repository}:1").out == ["second"]


def test_the_default_tag(call, box, repository):
    box(repository)
    assert call("push", repository).out[0] == "Using default tag: latest"
    said = call("pull", repository).out
    assert (said[0], said[-1]) == ("Using default tag: latest", f"{repository}:latest")


def test_quiet_says_the_name_alone(call, box, repository):
    box(repository)
    for verb in ("push", "pull"):
        assert call(verb, "-q", repository) == ([f"{repository}:latest"], [])


def test_all_tags(call, box, forget, repository):
    box(f"{repository}:b", "bee")
    call("tag", f"{repository}:b", f"{repository}:c")
    box(f"{repository}:a", "ay")
    pushed = call("push", "-a", repository).out
    assert [line.partition(":")[0] for line in pushed[1:]] == ["a", "b", "c"]
    forget()
    pulled = call("pull", "-a", repository).out
    path = repository.partition("/")[2]
    assert sorted(line for line in pulled if "Pulling" in line) == [f"{tag}: Pulling from {path}" for tag in "abc"]
    assert pulled[-2:] == [f"Status: Downloaded newer image for {repository}", repository]
    assert call("run", "--rm", f"{repository}:c").out == ["bee"]
    assert call("pull", "-a", repository).out[-2] == f"Status: Image is up to date for {repository}"
    assert call("pull", "-a", "-q", repository) == ([repository], [])
    for verb in ("pull", "push"):
        assert "--all-tags" in call(verb, "-a", f"{repository}:b", status=2).err[0]
    assert "no image has a tag" in call("push", "-a", f"{repository}2", status=1).err[0]


def test_by_digest(call, box, forget, repository):
    box(f"{repository}:1")
    digest = re.search(DIGEST, call("push", f"{repository}:1").out[-1])[0]
    assert json.loads(call("images", "--format", "json", repository).out[0])["Digest"] == digest
    head, line = call("images", "--digests", repository).out
    assert (head.split()[2], line.split()[2]) == ("DIGEST", digest)
    assert "DIGEST" not in call("images").out[0]
    assert call("images", f"{repository}@{digest}").out == call("images", repository).out
    assert call("history", "-q", f"{repository}@{digest}") == call("history", "-q", f"{repository}:1")
    forget()
    said = call("pull", f"{repository}@{digest}").out
    assert said[0] == f"{digest}: Pulling from {repository.partition('/')[2]}"
    assert said[-2:] == [f"Status: Downloaded newer image for {repository}@{digest}", f"{repository}@{digest}"]
    assert call("run", "--rm", "--pull", "never", f"{repository}@{digest}").out == ["hello"]


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_what_cannot_be_asked_for(call, verb):
    assert "'Upper'" in call(verb, "Upper", status=1).err[0]
    assert "moves of tags" in call(verb, "app@{1}", status=2).err[0]
    assert call(verb, status=2).out == []


def test_all_tags_that_name_images(call, box, repository):
    box(f"{repository}:a")
    call("push", f"{repository}:a")
    kind, config = "application/vnd.oci.image.manifest.v1+json", {"mediaType": "application/vnd.example.chart+json"}
    config |= {"digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "size": 2}
    with Client() as client:
        place = client.repository(Reference.parse(f"{repository}:chart"))
        place.push_blob(Descriptor.parse(config, "the chart"), b"{}")
        place.push_manifest(json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode(), kind)
    assert call("pull", "-a", repository).out[-2:] == [f"Status: Image is up to date for {repository}", repository]
    assert "is no image" in call("pull", f"{repository}:chart", status=1).err[0]


def test_what_the_registry_does_not_have(call, repository):
    host = repository.partition("/")[0]
    assert call("pull", f"{repository}:9", status=1).err == [
        f"pylxc: no image named '{repository}:9': {host} does not have it; check the name and the tag"
    ]
    (line,) = call("push", f"{repository}:9", status=1).err
    assert f"no image named '{repository}:9'" in line


def test_an_index_is_told_by_its_own_digest(call):
    made = Layout()
    leaf = made.image(layer_tar({"f": b"x"}), platform=this_platform())
    entry = made.index(at(leaf, this_platform()))
    with running(Fake()) as fake:
        fake.add_layout(made, entry)
        assert call("pull", f"{fake.host}/app:1").out[1] == f"Digest: {entry['digest']}"
        (said,) = json.loads("".join(call("inspect", f"{fake.host}/app:1").out))
    assert said["RepoDigests"] == sorted(f"{fake.host}/app@{each['digest']}" for each in (entry, leaf))


def test_a_registry_that_is_not_there(call):
    with running(Fake()) as fake:
        host = fake.host
    (line,) = call("pull", f"{host}/app:1", status=1).err
    assert line.startswith("pylxc: ")
    assert host in line


# -- commands that lack their image ------------------------------------------------------------------------------------


@pytest.fixture
def away(call, box, forget, repository) -> str:
    """The name of an image that the registry has, and nothing here."""
    name = f"{repository}:1"
    box(name)
    call("push", name)
    forget()
    return name


def test_run_pulls_what_is_missing_and_says_so_beside_its_output(call, away):
    ran = call("run", "--rm", away)
    assert ran.out == ["hello"]
    assert ran.err[0] == f"Unable to find image '{away}' locally"
    assert ran.err[1] == f"1: Pulling from {away.partition('/')[2].removesuffix(':1')}"
    assert ran.events() == ["Pulling fs layer", "Download complete", "Pull complete"]
    assert re.fullmatch(f"Digest: {DIGEST}", ran.err[-2])
    assert ran.err[-1] == f"Status: Downloaded newer image for {away}"
    assert call("run", "--rm", away) == (["hello"], [])


def test_run_in_the_background_prints_its_id_alone(call, away):
    ran = call("run", "-d", away, "sleep", "60")
    assert [len(line) for line in ran.out] == [64]
    assert ran.events() != []
    call("rm", "-f", *ran.out)
    call("run", "--rm", away)  # with the next start this process reaps the monitor


def test_run_quietly(call, away):
    assert call("run", "-q", "--rm", away) == (["hello"], [])


def test_run_pull_never(call, away):
    ran = call("run", "--rm", "--pull", "never", away, status=125)
    assert ran.out == []
    assert len(ran.err) == 1
    assert f"no image named '{away}'" in ran.err[0]


def test_run_pull_always(call, away, engine):
    call("pull", away)
    assert call("run", "--rm", "--pull", "always", away).err[-1] == f"Status: Image is up to date for {away}"
    pylxc.Image.get(away, engine=engine).untag(away)
    ran = call("run", "--rm", "--pull", "always", away)
    assert (ran.out, ran.events(), ran.err[-1]) == (["hello"], [], f"Status: Downloaded newer image for {away}")


def test_what_is_wrong_with_the_command_is_said_before_the_pull(call, away):
    ran = call("run", "--rm", "--memory", "much", away, status=125)
    assert len(ran.err) == 1
    assert "memory" in ran.err[0]
    assert call("images", "-q").out == []


def test_run_of_what_nobody_has(call, repository):
    ran = call("run", "--rm", f"{repository}:9", status=125)
    assert ran.err[0] == f"Unable to find image '{repository}:9' locally"
    assert ran.err[-1].startswith(f"pylxc: no image named '{repository}:9': ")
    for name in ("sha256:" + "0" * 64, f"{repository}@{{3}}"):
        assert len(call("run", "--rm", name, status=125).err) == 1


def test_another_platform(call, away):
    call("pull", "-q", away)
    for words in (("pull",), ("run", "--rm")):
        done = call(*words, "--platform", "linux/s390x", away, status=1 if words == ("pull",) else 125)
        assert "linux/s390x" in done.err[-1]
    assert call("run", "--rm", "--platform", this_platform(), away) == (["hello"], [])


def test_build_pulls_what_its_first_line_names(call, away, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {away}\nRUN echo built > /made\n")
    built = call("build", "-t", "made", str(tmp_path))
    assert built.out == []
    assert built.events() == ["Pulling fs layer", "Download complete", "Pull complete"]
    assert built.err[3].endswith(f"FROM {away}")
    assert call("run", "--rm", "made", "cat", "/made").out == ["built"]
    assert call("build", "-t", "made", str(tmp_path)).events() == []
    assert call("build", "--pull", "-t", "made", str(tmp_path)).events() == []
    assert call("build", "--pull", "-q", "-t", "made", str(tmp_path)).err == []
    call("rmi", away)
    (tmp_path / "Dockerfile").write_text(f"FROM {away}9\n")
    assert f"no image named '{away}9'" in call("build", str(tmp_path), status=1).err[-1]


# -- logging in --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[str]:
    """A registry for anna, whose password is sesame."""
    place = tmp_path_factory.mktemp("guarded")
    (place / "users").write_text(USERS)
    with docker_registry(place, auth={"htpasswd": {"realm": "test", "path": str(place / "users")}}) as found:
        yield found


@pytest.fixture
def typed(monkeypatch):
    """Return a function that makes bytes the standard input."""

    def type_(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return type_


def known(tmp_path) -> dict[str, object]:
    path = tmp_path / "docker/config.json"
    return json.loads(path.read_text())["auths"] if path.exists() else {}


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_password_from_standard_input(call, typed, guarded, tmp_path, end):
    typed(b"sesame" + end)
    assert call("login", "-u", "anna", "--password-stdin", guarded) == (["Login Succeeded"], [])
    assert list(known(tmp_path)) == [guarded]


def test_the_life_of_a_login(call, box, guarded, tmp_path):
    box(f"{guarded}/app:1")
    (line,) = call("push", "-q", f"{guarded}/app:1", status=1).err
    assert f"pylxc login {guarded}" in line
    said = call("login", "-u", "anna", "-p", "sesame", guarded)
    assert said.out == ["Login Succeeded"]
    assert said.err == ["WARNING! Using --password via the CLI is insecure. Use --password-stdin."]
    call("push", "-q", f"{guarded}/app:1")
    assert call("logout", guarded).out == [f"Removing login credentials for {guarded}"]
    assert call("logout", guarded).out == [f"Not logged in to {guarded}"]
    assert known(tmp_path) == {}
    (line,) = call("pull", "-q", f"{guarded}/app:1", status=1).err
    assert f"pylxc login {guarded}" in line


def test_a_login_that_is_kept_is_checked(call, guarded, tmp_path):
    call("login", "-u", "anna", "-p", "sesame", guarded)
    kept = known(tmp_path)
    assert call("login", guarded) == (["Authenticating with existing credentials...", "Login Succeeded"], [])
    assert known(tmp_path) == kept


def test_a_login_that_is_good_no_more_is_asked_for(shell, screen, guarded, tmp_path):
    (tmp_path / "docker").mkdir(exist_ok=True)
    (tmp_path / "docker/config.json").write_text(
        json.dumps({"auths": {guarded: {"username": "anna", "password": "x"}}})
    )
    with at_terminal(shell, screen, "login", guarded) as process:
        seen = screen.read_until(b"Username: ")
        assert b"refuses this name and password" in seen
        screen.type(b"anna\r")
        screen.read_until(b"Password: ")
        screen.type(b"sesame\r")
    assert process.returncode == 0
    assert b"Login Succeeded" in screen.rest()
    assert "password" not in known(tmp_path)[guarded]


def test_a_wrong_password_is_not_kept_nor_shown(call, typed, guarded, tmp_path):
    typed(b"guessed\n")
    (line,) = call("login", "-u", "anna", "--password-stdin", guarded, status=1).err
    assert line == f"pylxc: {guarded} refuses this name and password: check them"
    assert known(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--password-stdin"], "--username"),
        (["-u", "anna", "-p", "x", "--password-stdin"], "exclude"),
        (["-u", "anna"], "--password-stdin"),
        ([], "--username"),
        (["-u", "anna", "--password-stdin"], "password"),
    ],
)
def test_how_not_to_log_in(call, typed, guarded, words, named):
    typed(b"")
    said = call("login", *words, guarded, status=2)
    assert named in said.err[-1]


def test_what_is_typed_at_a_terminal_is_not_shown(shell, screen, guarded, tmp_path):
    with at_terminal(shell, screen, "login", guarded) as process:
        screen.read_until(b"Username: ")
        screen.type(b"anna\r")
        seen = screen.read_until(b"Password: ")
        assert b"anna" in seen
        screen.type(b"sesame\r")
    assert process.returncode == 0
    seen = screen.rest()
    assert b"Login Succeeded" in seen
    assert b"sesame" not in seen
    assert screen.is_as_before()
    assert list(known(tmp_path)) == [guarded]


@pytest.mark.parametrize("how", ["^C", "SIGTERM"])
@pytest.mark.parametrize("asked", [b"Username: ", b"Password: "])
def test_a_login_that_is_given_up(shell, screen, guarded, how, asked):
    words = ("login", guarded) if asked == b"Username: " else ("login", "-u", "anna", guarded)
    with at_terminal(shell, screen, *words) as process:
        screen.read_until(asked)
        while process.poll() is None:  # again: input() does not hear what comes just before it begins to wait
            screen.type(b"\x03") if how == "^C" else process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
    assert process.returncode == (130 if how == "^C" else 143)
    assert screen.is_as_before()
    assert screen.rest().endswith(b"\r\n")


def test_the_end_of_input_is_no_name(shell, screen, guarded):
    with at_terminal(shell, screen, "login", guarded) as process:
        screen.read_until(b"Username: ")
        screen.type(b"\x04")
    assert process.returncode == 2
    assert screen.rest().endswith(b"\r\npylxc: username: give one that is not empty (see 'pylxc login --help')\r\n")


# -- at a terminal, and given up ---------------------------------------------------------------------------------------


@pytest.fixture
def slow() -> Iterator[Fake]:
    """A registry that has ``app:1``, and gives half of its layer, and then no more."""
    layer = gzip.compress(random.Random(1).randbytes(1_000_000), 1)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    with running(Fake()) as fake:
        data = json.dumps(config).encode()
        kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        documents = [
            {"mediaType": kind, "digest": fake.add(blob), "size": len(blob)}
            for kind, blob in zip(kinds, (data, layer), strict=True)
        ]
        fake.add_manifest("1", {"schemaVersion": 2, "config": documents[0], "layers": documents[1:]})

        def half(request) -> None:
            request.answer(200, Content_Length=len(layer))
            request.wfile.write(layer[: len(layer) // 2])
            fake.over.wait()

        fake.always(f"GET /v2/app/blobs/{documents[1]['digest']}", half)
        yield fake


@pytest.mark.parametrize("verb", ["pull", "run"])
@pytest.mark.parametrize("how", ["^C", "SIGTERM"])
def test_a_pull_that_is_given_up_leaves_nothing(shell, screen, slow, verb, how):
    with at_terminal(shell, screen, verb, f"{slow.host}/app:1") as process:
        seen = screen.read_until(b"Downloading")
        began = time.monotonic()
        screen.type(b"\x03") if how == "^C" else process.send_signal(signal.SIGTERM)
    assert process.returncode == (130 if how == "^C" else 143)
    assert time.monotonic() - began < PATIENCE
    picture = Emulator(33, 111)
    picture.feed(seen + screen.rest())
    assert picture.lines()[-1][13:].startswith("Downloading")
    assert "Traceback" not in picture.text()
    assert picture.is_cursor_shown
    assert picture.column == 0
    assert screen.is_as_before()
    assert shell.text("images", "-q") == ""
    places = [shell.root / name for name in ("staging", "trash", "oci/blobs")]
    assert [path for place in places for path in place.rglob("*") if path.is_file()] == []


def test_bars_at_a_terminal_and_the_outcome_elsewhere(shell, screen, away, engine):
    shell.environment["PYLXC_ROOT"] = str(engine.root)
    with open(shell.directory / "out", "wb") as out, at_terminal(shell, screen, "pull", away, stdout=out) as process:
        pass
    assert process.returncode == 0
    assert (shell.directory / "out").read_text().splitlines()[-1] == away
    picture = Emulator(33, 111)
    picture.feed(screen.rest())
    assert [line[13:] for line in picture.lines()] == ["Pull complete"]


def test_bars_of_a_run(shell, screen, away, engine):
    shell.environment["PYLXC_ROOT"] = str(engine.root)
    with at_terminal(shell, screen, "run", "--rm", away) as process:
        pass
    assert process.returncode == 0
    picture = Emulator(33, 111)
    picture.feed(screen.rest())
    assert picture.lines()[0] == f"Unable to find image '{away}' locally"
    assert picture.lines()[2][13:] == "Pull complete"
    assert picture.lines()[-1] == "hello"


def test_bars_of_a_build(shell, screen, away, engine, tmp_path):
    shell.environment["PYLXC_ROOT"] = str(engine.root)
    (tmp_path / "Dockerfile").write_text(f"FROM {away}\n")
    with at_terminal(shell, screen, "build", tmp_path) as process:
        pass
    assert process.returncode == 0
    picture = Emulator(33, 111)
    picture.feed(screen.rest())
    assert picture.lines()[0][13:] == "Pull complete"
    assert picture.lines()[1].startswith("[+] Building ")  # the picture of the pull stays above it
