"""``pylxc.Build``: what is said in Python is what the Dockerfile says, whatever characters it has."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import pylxc
from pylxc import Build, DockerfileError, SpecError
from pylxc.build.dockerfile import parse
from pylxc.build.expand import expand

if TYPE_CHECKING:
    from pylxc.build import instructions as ast

CHARACTERS = "aZ09 .-_=/:,;#<>|&()[]{}*?!@%^~`'\"\\$\té漢😀"
ROUNDS = 400


def text_of(random_source: random.Random, without: str = "") -> str:
    kept = [one for one in CHARACTERS if one not in without]
    while not (text := "".join(random_source.choices(kept, k=random_source.randint(1, 12)))).strip():
        continue
    return text


def only(build: Build) -> ast.Instruction:
    """Return the one instruction after FROM."""
    [stage] = parse(str(build)).stages
    [instruction] = stage.instructions
    return instruction


def value(word: ast.Word) -> str:
    return expand(word.text, {"NAME": "WRONG", "a": "WRONG"}.get)


@pytest.fixture(params=range(3))
def chance(request):
    return random.Random(request.param)


def test_values_are_what_they_are(chance):
    begin = Build().from_("scratch")
    for _ in range(ROUNDS):
        said = text_of(chance)
        for instruction in (only(begin.env({"NAME": said})), only(begin.label({"some.name": said}))):
            assert value(instruction.pairs[0][1]) == said
        assert value(only(begin.label({text_of(chance, "="): said})).pairs[0][1]) == said
        assert value(only(begin.workdir(said)).path) == said
        declared = only(begin.arg("NAME", said)).declarations
        assert value(declared[0][1]) == said


def test_paths_are_what_they_are(chance):
    begin = Build(".").from_("scratch")
    for _ in range(ROUNDS):
        source, destination = text_of(chance), text_of(chance)
        copy = only(begin.copy(source, destination))
        assert [value(word) for word in (*copy.sources, copy.destination)] == [source, destination]
        assert [value(word) for word in only(begin.volume(source, destination)).paths] == [source, destination]


def test_commands_are_what_they_are(chance):
    """A text comes to the shell unchanged but for a line's end; a list stays a list."""
    begin = Build().from_("scratch")
    for _ in range(ROUNDS):
        script = "\n".join(text_of(chance) for _ in range(chance.randint(1, 3)))
        command = only(begin.run(script)).command
        assert command.shell
        if command.heredocs:
            [document] = command.heredocs
            assert command.argv[0].startswith("<<'")
            assert document.text.rstrip("\n") == script.rstrip("\n")
        else:
            assert command.argv == (script,)
        argv = tuple(text_of(chance) for _ in range(chance.randint(1, 4)))
        for instruction in (begin.run(argv), begin.cmd(argv), begin.entrypoint(argv), begin.healthcheck(argv)):
            found = only(instruction).command
            assert not found.shell
            assert found.argv == argv


@pytest.mark.parametrize(
    "script",
    [
        "--mount=type=tmpfs",
        '["a"]',
        "cat <<EOF",
        "a \\",
        "# a comment",
        "EOF\nEOF_\nx",
        "#!/bin/sh\necho",
        " x",
        "[ -e /x ]",
    ],
)
def test_texts_that_a_dockerfile_would_take_for_something_else(script):
    run = only(Build().from_("scratch").run(script))
    assert run.mounts == ()
    assert run.command.heredocs[0].text.rstrip("\n") == script


def test_variables_only_where_they_are_wanted():
    begin = Build().from_("scratch")
    assert value(only(begin.env(PATH="/opt:$NAME")).pairs[0][1]) == "/opt:$NAME"
    assert value(only(begin.env(PATH="/opt:$NAME", expand=True)).pairs[0][1]) == "/opt:WRONG"
    assert value(only(begin.user("$NAME")).user) == "$NAME"
    assert value(only(begin.user("$NAME", expand=True)).user) == "WRONG"


def test_all_of_it():
    build = (
        Build(".")
        .arg("TAG", "12")
        .from_("debian:$TAG", "builder", expand=True, platform="linux/amd64")
        .shell(["/bin/bash", "-c"])
        .run("make", mounts=["type=cache,target=/root/.cache"], network="none")
        .from_("scratch")
        .copy("/out", "/app/", from_="builder", chown="1:1", chmod=0o755, link=True, exclude=["*.o"])
        .add("https://example.com/a.tar", "/", checksum="sha256:" + "0" * 64, unpack=True)
        .workdir("/app")
        .env(A="1")
        .label({"com.example.a": "b"})
        .user("1000:1000")
        .expose(80, "53/udp")
        .volume("/data")
        .stop_signal("SIGINT")
        .healthcheck("true", interval=1.5, timeout=2, start_period=0.25, start_interval=1, retries=3)
        .entrypoint(["/app/run"])
        .cmd(["--help"])
        .instruction("ONBUILD COPY . /app")
    )
    parsed = parse(str(build))
    assert [type(one).__name__ for one in parsed.stages[1].instructions] == [
        *("Copy", "Add", "Workdir", "Env", "Label", "User", "Expose", "Volume", "Stopsignal", "Healthcheck"),
        *("Entrypoint", "Cmd", "Onbuild"),
    ]
    copy, add, check = (parsed.stages[1].instructions[n] for n in (0, 1, 9))
    assert (copy.source_stage.text, copy.chown.text, copy.chmod.text, copy.link) == ("builder", "1:1", "755", True)
    assert add.unpack is True
    assert (check.times.interval, check.times.timeout, check.times.start_period, check.times.retries) == (
        1.5,
        2,
        0.25,
        3,
    )
    assert parsed.stages[0].instructions[1].network == "none"


def test_a_call_leaves_the_value_as_it_was():
    begin = Build().from_("scratch")
    before = str(begin)
    assert str(begin.run("a")) != str(begin.run("b"))
    assert str(begin) == before
    assert begin.run("a") == Build().from_("scratch").run("a")


@pytest.mark.parametrize(
    ("say", "about"),
    [
        (lambda build: build.from_("two words"), "FROM"),
        (lambda build: build.from_(""), "FROM"),
        (lambda build: build.env({"a=b": "c"}), "ENV"),
        (lambda build: build.env(A="two\nlines"), "ENV"),
        (lambda build: build.env(A=5), "ENV"),
        (lambda build: build.env(), "ENV"),
        (lambda build: build.label({"": "x"}), "LABEL"),
        (lambda build: build.copy("one"), "COPY"),
        (lambda build: build.copy("a", "b", chown=""), "COPY"),
        (lambda build: build.copy("a\0", "b"), "COPY"),
        (lambda build: build.run(""), "RUN"),
        (lambda build: build.run("x\0"), "RUN"),
        (lambda build: build.run("\udcff"), "RUN"),
        (lambda build: build.cmd('["a"]'), "CMD"),
        (lambda build: build.cmd("a\nb"), "CMD"),
        (lambda build: build.user("a b"), "USER"),
        (lambda build: build.instruction("# escape=`"), "instruction"),
        (lambda build: build.instruction("RUN a\nRUN b"), "instruction"),
    ],
)
def test_what_no_dockerfile_can_say(say, about):
    with pytest.raises(SpecError, match=about):
        say(Build())


def test_an_instruction_that_is_none():
    with pytest.raises(DockerfileError, match="RUM"):
        Build().instruction("RUM true")


def test_a_build(busybox, engine, tmp_path):
    """The image is that of the same Dockerfile: it is found in the cache, step by step."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context/a file").write_text("content\n")
    build = (
        Build(tmp_path / "context")
        .from_("busybox")
        .env(PRICE="5 $", QUOTE='it\'s "quoted"')
        .workdir("/a place")
        .copy("a file", "copied file")
        .run("cat 'copied file' >both\necho \"$PRICE $QUOTE\" >>both")
        .cmd(["cat", "both"])
    )
    image = build.build("fluent", engine=engine)
    assert pylxc.run("fluent", engine=engine).text == 'content\n5 $ it\'s "quoted"\n'
    kinds = []
    (tmp_path / "Dockerfile").write_text(str(build))
    again = pylxc.Image.build(
        tmp_path / "context", tmp_path / "Dockerfile", engine=engine, on_event=lambda event: kinds.append(event.kind)
    )
    assert again.layers == image.layers
    assert kinds.count("cached") == 3


def test_a_build_without_a_context(busybox, engine):
    image = Build().from_("busybox").run("echo hello >/greeting").cmd(["cat", "/greeting"]).build(engine=engine)
    assert pylxc.run(image, engine=engine).text == "hello\n"
    with pytest.raises(pylxc.BuildError, match="nothing"):
        Build().from_("busybox").copy("nothing", "/").build(engine=engine)
