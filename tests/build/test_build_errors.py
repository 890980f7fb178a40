"""Builds that fail: one clear error each, and a store that is as it was."""

from __future__ import annotations

import pickle

import pytest
from building import noise, snapshot, tar_bytes

import pylxc


@pytest.fixture
def failing(on_busybox):
    """Builds, expects an error of a kind, and checks that the store is as it was before."""
    on_busybox.write({"f": "f"})
    on_busybox("FROM busybox\nRUN true", tag="mine:1")

    def build(kind, text, **options):
        before = snapshot(on_busybox.engine, staging=False)
        with pytest.raises(kind) as caught:
            on_busybox(text, **{"tag": "mine:1", **options})
        assert snapshot(on_busybox.engine, staging=False) == before
        assert len(pylxc.Image.log("mine:1", engine=on_busybox.engine)) == 1
        return caught.value

    build.write = on_busybox.write
    build.builder = on_busybox
    return build


def test_a_failing_run(failing):
    command = "RUN echo to out; \\\n  echo to err >&2; \\\n  exit 3"
    text = f"FROM busybox\n# comment\nRUN touch /a\nENV A=1\n{command}\nRUN never"
    error = failing(pylxc.BuildError, text)
    assert (error.step, error.line, error.exit_code) == (4, 5, 3)
    assert error.instruction == "RUN echo to out;   echo to err >&2;   exit 3"
    assert sorted(error.output.split(b"\n")) == [b"", b"to err", b"to out"]
    assert str(error).startswith(f"step 4 (line 5): {error.instruction}: the command exited with 3\n")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  its own
    assert (again.step, again.exit_code, again.output, str(again)) == (4, 3, error.output, str(error))
    assert failing.builder.events[-1].kind == "output"


@pytest.mark.parametrize(
    ("command", "exit_code", "words"),
    [
        ('["/no/such/program"]', 127, "No such file or directory"),
        ('["/etc/passwd"]', 126, "Permission denied"),
        ("no-such-command", 127, "exited with 127"),
        ("sh -c 'kill -9 $$'; exit $?", 137, "exited with 137"),
        ("exit 255", 255, "exited with 255"),
    ],
)
def test_how_a_run_can_end(failing, command, exit_code, words):
    error = failing(pylxc.BuildError, f"FROM busybox\nRUN {command}")
    assert error.exit_code == exit_code
    assert words in str(error)


def test_the_error_carries_the_end_of_much_output(failing):
    error = failing(pylxc.BuildError, "FROM busybox\nRUN seq 1 200000; exit 1")
    assert len(error.output) == 64 << 10
    assert error.output.endswith(b"199999\n200000\n")
    assert str(error).endswith("\n199999\n200000")
    total = sum(len(event.data) for event in failing.builder.events)
    assert total == sum(len(f"{n}\n") for n in range(1, 200_001))


def test_users_that_do_not_exist(failing):
    error = failing(pylxc.BuildError, "FROM busybox\nUSER ghost\nRUN true")
    assert (error.step, error.exit_code) == (3, 125)
    assert "ghost" in str(error)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("FROM busybox\nRUM true", 2, 1, "unknown instruction 'RUM': did you mean RUN?"),
        ("FROM busybox\n  COPPY a b", 2, 3, "did you mean COPY?"),
        ("FROM busybox\nRUN a \\\n b\nXYZZY", 4, 1, "known are ADD, ARG"),
        ("FROM busybox\nCOPY --chwon=1 f /f", 2, 6, "unknown flag --chwon of COPY: did you mean chown?"),
        ("FROM busybox\nENV A", 2, 5, "ENV needs a value"),
        ("FROM busybox\nRUN true\nEXPOSE 70000", 3, 8, "bad port '70000'"),
        ("FROM busybox\nCOPY f", 2, 6, "at least one source and a destination"),
        ("RUN true", 1, 1, "RUN before FROM"),
        ("", 1, 1, "the file is empty"),
        ("FROM busybox\nENV A=${B:?needed}", 2, 7, "needed"),
    ],
)
def test_a_malformed_dockerfile(failing, text, line, column, words):
    error = failing(pylxc.DockerfileError, text)
    assert (error.path, error.line, error.column) == ("Dockerfile", line, column)
    assert words in str(error)
    assert str(error).startswith(f"Dockerfile:{line}:{column}: ")


def test_nothing_runs_before_the_whole_file_is_read(failing):
    failing(pylxc.DockerfileError, "FROM busybox\nRUN echo ran\nNONSENSE")
    assert failing.builder.events == []


def test_no_dockerfile(build):
    with pytest.raises(pylxc.DockerfileError, match=r"no such file in .*: create it, or name another one") as caught:
        pylxc.Image.build(build.files.path, engine=build.engine)
    assert caught.value.path == "Dockerfile"
    with pytest.raises(pylxc.DockerfileError, match="x/Other"):
        pylxc.Image.build(build.files.path, "x/Other", engine=build.engine)


def test_no_context(build, tmp_path):
    with pytest.raises(pylxc.SpecError, match="no such directory"):
        pylxc.Image.build(tmp_path / "nowhere", engine=build.engine)
    (tmp_path / "file").touch()
    with pytest.raises(pylxc.SpecError, match="not a directory"):
        pylxc.Image.build(tmp_path / "file", engine=build.engine)


@pytest.mark.usefixtures("no_registry")
def test_no_base_image(failing):
    error = failing(pylxc.ImageNotFound, "FROM busybix:latest\nRUN true")
    assert error.name == "busybix:latest"
    assert "FROM names it" in str(error)
    assert "did you mean 'busybox" in str(error)
    assert "pulling it failed: docker.io/library/busybix:latest" in str(error)
    assert failing(pylxc.ImageNotFound, "ARG T\nFROM busybox:$T", args={"T": "9"}).name == "busybox:9"


@pytest.mark.parametrize("base", ["UPPER", "busy box", "a//b", "busybox:", "-x"])
def test_a_base_that_is_no_reference(failing, base):
    failing((pylxc.SpecError, pylxc.DockerfileError), f"FROM {base}\nRUN true")


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        ("COPY nothing /x", "nothing: no such file in the context"),
        ("COPY f nothing /x/", "nothing: no such file in the context"),
        ("COPY f f /x", "the destination of several sources must end in '/'"),
        ("COPY f/below /x", "no such file in the context"),
        ("COPY ../outside /x", "outside: no such file in the context"),
        ("COPY /../../etc/passwd /x", "no such file in the context"),
        ("COPY link /x", "no such file in the context"),
        ("COPY dirlink/passwd /x", "no such file in the context"),
        ("COPY ignored /x", "excluded from the context by the ignore file"),
        ("ADD ../outside /x", "no such file in the context"),
    ],
)
def test_a_source_that_is_not_there(failing, copy, words):
    """Of what lies outside the context nothing is ever copied, whatever leads there."""
    path = failing.write({"link": "-> ../outside", "dirlink": "-> /etc", "ignored": "x", ".dockerignore": "ignored\n"})
    (path.parent / "outside").write_text("secret")
    error = failing(pylxc.BuildError, f"FROM busybox\nRUN true\n{copy}")
    assert (error.step, error.line, error.exit_code, error.output) == (3, 3, None, b"")
    with pytest.raises(pylxc.BuildError, match=words):
        raise error


@pytest.mark.parametrize("form", ["w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_that_ends_early(failing, form):
    whole = tar_bytes({"first": b"first", "noise": noise(2_000_000), "z": b"z"}, mode=form)
    failing.write({"a": whole[: len(whole) // 2]})
    error = failing(pylxc.BuildError, "FROM busybox\nADD a /x/")
    assert (error.step, error.line) == (2, 2)
    assert "a: " in str(error)


def test_an_archive_with_damage_in_the_middle(failing):
    whole = bytearray(tar_bytes({"first": b"first", "noise": noise(2_000_000), "z": b"z"}, mode="w:gz"))
    whole[len(whole) // 2] ^= 0xFF
    failing.write({"a.tar.gz": bytes(whole)})
    error = failing(pylxc.BuildError, "FROM busybox\nADD a.tar.gz /x/")
    assert "a.tar.gz: damaged gzip data" in str(error)
    tar = bytearray(tar_bytes({"one": b"1" * 512, "two": b"2"}))
    tar[1024 + 100] ^= 0xFF  # in the second header
    failing.write({"b.tar": bytes(tar)})
    assert "b.tar" in str(failing(pylxc.BuildError, "FROM busybox\nADD b.tar /x/"))


def test_a_name_that_a_layer_cannot_hold(failing):
    failing.write({".wh.secret": "x"})
    error = failing(pylxc.BuildError, "FROM busybox\nCOPY .wh.secret /d/")
    assert (error.step, ".wh.secret" in str(error)) == (2, True)


def test_a_file_in_the_place_of_a_mount_point(failing):
    error = failing(pylxc.BuildError, "FROM busybox\nRUN echo > /proc\nRUN true")
    assert error.step == 2


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"tag": "Not A Tag"}, "image"),
        ({"tag": ["fine:1", "bad tag"]}, "image"),
        ({"tag": f"x@sha256:{'0' * 64}"}, "tag"),
        ({"tag": "x@{1}"}, "tag"),
        ({"network": "container:x"}, "network"),
        ({"target": "other"}, "target"),
    ],
)
def test_bad_options_are_told_of_before_the_work(failing, options, option):
    error = failing(pylxc.SpecError, "FROM busybox\nRUN echo ran", **options)
    assert error.option == option
    assert failing.builder.events == []


def test_an_error_of_the_listener_ends_the_build(failing):
    """KeyboardInterrupt and the like, too: they come up as they are, and nothing is left behind."""

    def interrupt(event):
        if event.kind == "output":
            raise KeyboardInterrupt

    before = snapshot(failing.builder.engine)
    path = failing.write({})
    (path / "Dockerfile").write_text("FROM busybox\nRUN echo out; sleep 1000")
    with pytest.raises(KeyboardInterrupt):
        pylxc.Image.build(path, engine=failing.builder.engine, on_event=interrupt)
    assert snapshot(failing.builder.engine) == before


def test_the_context_changes_while_it_is_copied(failing):
    """What a RUN's listener wrote before the COPY begins is what is copied, and never a mixture."""
    path = failing.write({"a": "a", "z": "z" * 100})

    def disturb(event):
        if event.kind == "output":
            (path / "z").write_text("other")

    (path / "Dockerfile").write_text("FROM busybox\nRUN echo now\nCOPY a z /d/\nRUN cat /d/z")
    failing.builder.tell = disturb
    failing.builder((path / "Dockerfile").read_text())
    assert failing.builder.output() == "now\nother"
