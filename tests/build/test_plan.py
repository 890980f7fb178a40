"""What instructions mean: the configuration they leave, the values variables have, the steps they become."""

# ruff: noqa: S604  "shell" is a field of a value here; no process is started

from __future__ import annotations

import attrs
import pytest

from pylxc.build.dockerfile import parse
from pylxc.build.modes import Mode
from pylxc.build.plan import plan
from pylxc.build.steps import DEFAULT_PATH, CopyStep, MetadataStep, RunStep, WorkdirStep
from pylxc.errors import DockerfileError, UnsupportedError
from pylxc.imageconfig import Healthcheck, ImageConfig


def steps(text, base=None, **args):
    return list(plan(parse(f"FROM base\n{text}"), args).steps(base or ImageConfig()))


def config(text, base=None, **args):
    """Return the configuration; the PATH that every image gets is left out."""
    made = steps(text, base, **args)[-1].state.config
    return attrs.evolve(made, env=without_path(made.env))


def without_path(env):
    return {name: value for name, value in env.items() if (name, value) != ("PATH", DEFAULT_PATH)}


def last(text, base=None, **args):
    return steps(text, base, **args)[-1]


# -- FROM and ARG


@pytest.mark.parametrize(
    ("text", "args", "base"),
    [
        ("FROM debian", {}, "debian"),
        ("FROM scratch", {}, "scratch"),
        ("ARG T=12\nFROM debian:$T", {}, "debian:12"),
        ("ARG T=12\nFROM debian:$T", {"T": "13"}, "debian:13"),
        ("ARG T\nFROM debian:${T:-11}", {}, "debian:11"),
        ("ARG R=r.example\nARG I=$R/debian\nFROM ${I}", {}, "r.example/debian"),
        ("ARG R=r.example I=$R/x\nFROM $I", {}, "r.example/x"),
        ('ARG T="1-2"\nFROM "x"${T%-*}', {}, "x1"),
        ("FROM debian:$T", {"T": "13"}, "debian:"),  # not declared, so not set
    ],
)
def test_base(text, args, base):
    assert plan(parse(text), args).base == base


@pytest.mark.parametrize("text", ["FROM $NONE", "ARG A\nFROM $A", 'ARG A="a b"\nFROM $A'])
def test_base_that_is_no_name(text):
    with pytest.raises(DockerfileError) as caught:
        plan(parse(text))
    assert (caught.value.line, caught.value.column) == (text.count("\n") + 1, 6)


@pytest.mark.parametrize(
    ("before", "after", "args", "expected"),
    [
        ("", "", {"A": "1"}, None),
        ("ARG A=1\n", "", {}, None),  # declared before FROM: for FROM only
        ("ARG A=1\n", "", {"A": "2"}, None),
        ("ARG A=1\n", "ARG A\n", {}, "1"),
        ("ARG A=1\n", "ARG A\n", {"A": "2"}, "2"),
        ("ARG A=1\n", "ARG A=3\n", {}, "3"),
        ("ARG A=1\n", "ARG A=3\n", {"A": "2"}, "2"),
        ("", "ARG A\n", {}, None),
        ("", "ARG A=\n", {}, ""),
        ("", "ARG A\n", {"A": ""}, ""),
        ("", "ARG B=x A=${B}y\n", {}, "xy"),
        ("", "ENV B=e\nARG A=$B\n", {}, "e"),
        ("", "ENV A=e\nARG A=a\n", {}, "a"),  # the later of the two, whichever it is
        ("", "ENV A=e\nARG A=a\n", {"A": "b"}, "b"),
        ("", "ENV A=e\nARG A\n", {}, "e"),
        ("", "ENV A=e\nARG A=a\nENV B=$A A=c\n", {}, "c"),
        ("", "ARG A=a\nENV A=e\n", {}, "e"),
        ("", "ARG A=a\nENV A=e\n", {"A": "b"}, "e"),
        ("", "ARG A=a\nENV A=${A}e\n", {"A": "b"}, "be"),
        ("", "ARG A=a\nARG A=b\n", {}, "b"),
    ],
)
def test_what_run_sees_of_an_arg(before, after, args, expected):
    made = plan(parse(f"{before}FROM base\n{after}RUN true"), args)
    run = list(made.steps(ImageConfig()))[-1]
    assert run.env.get("A") == expected


def test_an_arg_is_not_kept_in_the_image():
    assert config("ARG A=1\nENV B=$A").env == {"B": "1"}


def test_an_arg_wins_over_the_environment_of_the_base_where_run_sees_it():
    made = last("ARG A=1\nENV B=$A\nRUN x", ImageConfig(env={"A": "base"}))
    assert (made.env["A"], made.env["B"]) == ("1", "1")
    assert without_path(made.state.config.env) == {"A": "base", "B": "1"}


def test_several_args_of_a_line_see_each_other():
    made = last('ARG A=1 B="$A 2" C D=${B%?2}\nRUN x', C="c")
    assert {name: made.env[name] for name in "ABCD"} == {"A": "1", "B": "1 2", "C": "c", "D": "1"}
    assert made.describe() == "RUN |4 A=1 B=1 2 C=c D=1 /bin/sh -c x"
    assert last("ARG A\nENV A=e\nRUN x").describe() == "RUN |1 A=e /bin/sh -c x"
    assert last("ARG A\nRUN x").describe() == "RUN |1 A= /bin/sh -c x"


def test_predefined_arguments_can_be_overridden():
    assert last("ARG TARGETARCH\nRUN x", TARGETARCH="z80").env["TARGETARCH"] == "z80"
    assert plan(parse("FROM base:$TARGETARCH"), {"TARGETARCH": "z80"}).base == "base:z80"
    assert plan(parse("ARG TARGETARCH=own\nFROM base:$TARGETARCH")).base == "base:own"


def test_an_arg_is_seen_after_its_line_only():
    assert config("ENV B=$A\nARG A=1\nENV C=$A").env == {"B": "", "C": "1"}


def test_platform_arguments_have_to_be_declared():
    run = last("ARG TARGETOS\nARG TARGETARCH\nRUN x")
    assert run.env["TARGETOS"] == "linux"
    assert run.env["TARGETARCH"]
    assert "TARGETOS" not in last("RUN x").env


def test_unused_build_arguments_are_warned_of():
    made = plan(parse("ARG A\nFROM base\nARG B=1"), {"A": "", "B": "", "C": "", "HTTP_PROXY": "p", "no_proxy": "q"})
    assert made.warnings == ("build argument 'C' has no effect: no ARG declares it",)


def test_a_proxy_reaches_run_but_not_the_cache_key_unless_declared():
    proxied, plain = last("RUN x", HTTP_PROXY="http://p"), last("RUN x")
    assert proxied.env["HTTP_PROXY"] == "http://p"
    assert proxied.definition() == plain.definition()
    declared = last("ARG HTTP_PROXY\nRUN x", HTTP_PROXY="http://p")
    assert declared.definition() != plain.definition()


# -- metadata


def test_env_line_sees_the_values_from_before_it():
    assert config("ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc").env == {
        "abc": "bye",
        "def": "hello",
        "ghi": "bye",
    }


def test_env_values():
    made = config('ENV A=\'$x\' B="a b" C=a\\ b $D=e\nENV L  more   than "one word" ', ImageConfig(env={"D": "key"}))
    assert made.env == {"D": "key", "A": "$x", "B": "a b", "C": "a b", "key": "e", "L": "more   than one word"}


def test_path_has_its_default_where_the_base_sets_none():
    assert config("ENV PATH=$PATH:/x").env == {"PATH": f"{DEFAULT_PATH}:/x"}
    assert config("ENV PATH=$PATH:/x", ImageConfig(env={"PATH": "/y"})).env == {"PATH": "/y:/x"}


def test_labels_add_to_the_base():
    made = config("ENV V=1\nLABEL a=$V \"b c\"='$V'\nLABEL old new", ImageConfig(labels={"a": "0", "z": "9"}))
    assert made.labels == {"a": "1", "z": "9", "b c": "$V", "old": "new"}


SHELL = ("/bin/sh", "-c")


@pytest.mark.parametrize(
    ("text", "cmd", "entrypoint"),
    [
        ("CMD a b", (*SHELL, "a b"), None),
        ('CMD ["a", "$b"]', ("a", "$b"), None),
        ("CMD []", None, None),
        ("CMD a\nCMD b", (*SHELL, "b"), None),
        ("ENTRYPOINT a", None, (*SHELL, "a")),
        ('ENTRYPOINT ["a"]', None, ("a",)),
        ('CMD ["c"]\nENTRYPOINT ["a"]', ("c",), ("a",)),
        ('ENTRYPOINT ["a"]\nCMD ["c"]', ("c",), ("a",)),
        ("ENTRYPOINT []", None, None),
        ('SHELL ["/bin/bash", "-ec"]\nCMD a', ("/bin/bash", "-ec", "a"), None),
    ],
)
def test_command_and_entry_point(text, cmd, entrypoint):
    made = config(text)
    assert (made.cmd, made.entrypoint) == (cmd, entrypoint)


def test_an_entry_point_clears_the_command_of_the_base_only():
    base = ImageConfig(cmd=("base",), entrypoint=("entry",))
    assert config('ENTRYPOINT ["a"]', base).cmd is None
    assert config('CMD ["c"]\nENTRYPOINT ["a"]', base).cmd == ("c",)
    assert config("USER x", base).cmd == ("base",)


def test_shell_is_kept_and_used():
    made = steps('SHELL ["/bin/bash", "-c"]\nRUN a  b\nRUN ["c"]')
    assert made[-1].state.config.shell == ("/bin/bash", "-c")
    assert [step.argv for step in made[1:]] == [("/bin/bash", "-c", "a  b"), ("c",)]
    assert last("RUN a", ImageConfig(shell=("/bin/zsh", "-c"))).argv == ("/bin/zsh", "-c", "a")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("EXPOSE 80", ("80/tcp",)),
        ("EXPOSE 80/TCP 53/udp 5/sctp", ("80/tcp", "53/udp", "5/sctp")),
        ("EXPOSE 80 80\nEXPOSE 80/tcp", ("80/tcp",)),
        ("EXPOSE 8000-8002/udp", ("8000/udp", "8001/udp", "8002/udp")),
        ("ENV P=80\nEXPOSE $P ${Q:-443}/tcp", ("80/tcp", "443/tcp")),
        ('ENV P="80 443/udp"\nEXPOSE $P', ("80/tcp", "443/udp")),
        ("EXPOSE 65535 1", ("65535/tcp", "1/tcp")),
        ("EXPOSE 8080:80 127.0.0.1:90:91/udp [::1]:92:93", ("80/tcp", "91/udp", "93/tcp")),
        ("EXPOSE 80/", ("80/tcp",)),
    ],
)
def test_expose(text, ports):
    assert config(text).exposed_ports == ports


def test_expose_and_volume_add_to_the_base():
    base = ImageConfig(exposed_ports=("1/tcp",), volumes=("/v",))
    made = config('ENV W=/w\nEXPOSE 2\nVOLUME /v $W\nVOLUME ["/x y"]', base)
    assert made.exposed_ports == ("1/tcp", "2/tcp")
    assert made.volumes == ("/v", "/w", "/x y")


def test_user_stopsignal_maintainer():
    made = steps("ENV U=me\nUSER $U:us\nSTOPSIGNAL ${S:-SIGINT}\nMAINTAINER A <a@b>")[-1].state
    assert (made.config.user, made.config.stop_signal, made.author) == ("me:us", "SIGINT", "A <a@b>")


@pytest.mark.parametrize("signal", ["9", "64", "SIGKILL", "KILL", "sigterm", "SIGRTMIN+3", "RTMAX-1"])
def test_signals(signal):
    assert config(f"STOPSIGNAL {signal}").stop_signal == signal


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("EXPOSE 2-1", 8, "0 to 65535"),
        ("EXPOSE 80 65536", 11, "0 to 65535"),
        ("EXPOSE 99999999", 8, "bad port"),
        ("EXPOSE 9-8", 8, "upwards"),
        ("EXPOSE http", 8, "bad port 'http'"),
        ("EXPOSE 8080:80:x", 8, "bad port"),
        ("EXPOSE x:80", 8, "bad port"),
        ("EXPOSE 80/icmp", 8, "tcp, udp or sctp"),
        ("EXPOSE 80-", 8, "bad port"),
        ("EXPOSE 'x", 8, "single quote"),
        ("STOPSIGNAL SIGFOO", 12, "unknown signal"),
        ("STOPSIGNAL 65", 12, "unknown signal"),
        ("STOPSIGNAL 0", 12, "unknown signal"),
        ("USER $NONE", 6, "expands to nothing"),
        ("WORKDIR $NONE", 9, "expands to nothing"),
        ("VOLUME /a $NONE", 11, "expands to nothing"),
        ("COPY $NONE /a", 6, "expands to nothing"),
        ("COPY --chmod=rw a b", 14, "octal"),
        ("COPY --chmod=99999 a b", 14, "octal"),
        ("COPY --chown=${A b c", 14, "missing"),
        ("ENV a=b c='d", 11, "single quote"),
        ("ENV a=b c=xx${d:?needed}", 13, "d: needed"),
        ("ENV $NONE=1", 5, "not a name"),
        ("WORKDIR /a/${b!}", 15, "unsupported modifier"),
        ("LABEL a=${}", 9, "bad substitution"),
    ],
)
def test_bad_operands_have_their_place(text, column, reason):
    with pytest.raises(DockerfileError) as caught:
        steps(text)
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (2, column)
    assert caught.value.source == text


def test_what_the_base_has_waiting_comes_first_and_goes():
    base = ImageConfig(onbuild=("ENV A=1", "RUN  x <<E\none\nE", "COPY a b"))
    made = plan(parse("FROM base\nENV A=$A$A"))
    steps = list(made.steps(base))
    assert [step.instruction.name for step in steps] == ["ENV", "RUN", "COPY", "ENV"]
    assert [step.number for step in steps] == [2, 3, 4, 5]
    assert made.unfold(lambda _stage: base)[-1].total == 5
    assert steps[1].argv == ("/bin/sh", "-c", "x <<E\none\nE")
    assert without_path(steps[-1].state.config.env) == {"A": "11"}
    assert steps[-1].state.config.onbuild == ()


@pytest.mark.parametrize("waiting", ["", "FROM a", "ONBUILD RUN a", "MAINTAINER a", "NONSENSE", "RUN a\nRUN b"])
def test_what_a_base_may_not_have_waiting(waiting):
    with pytest.raises(DockerfileError) as caught:
        list(plan(parse("FROM base")).steps(ImageConfig(onbuild=(waiting,))))
    assert caught.value.path == "ONBUILD of base"


def test_what_a_base_has_waiting_is_refused_when_it_cannot_be_done():
    with pytest.raises(UnsupportedError, match="RUN --device") as caught:
        list(plan(parse("FROM base")).steps(ImageConfig(onbuild=("RUN --device=a b",))))
    assert "ONBUILD of base:1:14" in caught.value.remedy


def test_onbuild_is_kept_for_those_who_build_on_it():
    made = config("ONBUILD  RUN a \\\n  && $b\nONBUILD COPY <<E /to\none\nE\nENV A=1")
    assert made.onbuild == ("RUN a   && $b", "COPY <<E /to\none\nE")


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("HEALTHCHECK NONE", Healthcheck(test=("NONE",))),
        ("HEALTHCHECK CMD a  b", Healthcheck(test=("CMD-SHELL", "a  b"))),
        ('HEALTHCHECK CMD ["a", "$b"]', Healthcheck(test=("CMD", "a", "$b"))),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0 --start-interval=2s --retries=4 cmd a",
            Healthcheck(test=("CMD-SHELL", "a"), interval=90, timeout=0.5, start_interval=2, retries=4),
        ),
        ("HEALTHCHECK CMD a\nHEALTHCHECK --retries=1 CMD b", Healthcheck(test=("CMD-SHELL", "b"), retries=1)),
    ],
)
def test_healthcheck(text, check):
    assert config(text).healthcheck == check


# -- file system steps


def test_run():
    made = last("ARG A=1\nENV B=$A\nUSER me\nWORKDIR /w\nRUN echo $A \\\n && x", ImageConfig(env={"C": "c"}))
    assert isinstance(made, RunStep)
    assert made.argv == ("/bin/sh", "-c", "echo $A  && x")
    assert without_path(made.env) == {"A": "1", "B": "1", "C": "c"}
    assert (made.user, made.workdir) == ("me", "/w")
    assert made.describe() == "RUN |1 A=1 /bin/sh -c echo $A  && x"
    assert (made.number, made.instruction.line, made.instruction.end_line) == (6, 6, 7)
    assert last("RUN a").workdir == "/"
    assert last("RUN a").user == ""


@pytest.mark.parametrize(
    ("text", "base", "path"),
    [
        ("WORKDIR /a", "", "/a"),
        ("WORKDIR a", "", "/a"),
        ("WORKDIR b", "/a", "/a/b"),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR c", "", "/a/b/c"),
        ("WORKDIR /a\nWORKDIR ../..//../b/./c/", "", "/b/c"),
        ("WORKDIR //a", "", "/a"),
        ("ENV D=/d\nWORKDIR $D/$E/x", "", "/d/x"),
        ("WORKDIR /with blank", "", "/with blank"),
    ],
)
def test_workdir(text, base, path):
    made = last(text, ImageConfig(workdir=base))
    assert isinstance(made, WorkdirStep)
    assert made.path == made.state.config.workdir == path


def test_copy_and_add():
    copy, add = steps("ENV S=a O=me\nWORKDIR /w\nCOPY --chown=$O:1 --chmod=0644 $S *.b d/\nADD x.tar /")[2:]
    assert isinstance(copy, CopyStep)
    assert (copy.sources, copy.destination, copy.workdir) == (("a", "*.b"), "d/", "/w")
    assert (copy.chown, copy.chmod, copy.unpack) == ("me:1", Mode.of("644"), False)
    assert (add.chown, add.chmod, add.unpack) == (None, None, True)
    assert copy.describe() == "COPY --chown=me:1 --chmod=644 a *.b d/"
    assert add.describe() == "ADD x.tar /"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("RUN <<EOF\none\n\ttwo $x\nEOF", "one\n\ttwo $x\n"),
        ("RUN <<-'EOF'\n\tone\n\t\ttwo\n\tEOF", "one\ntwo\n"),
        ("RUN cat <<A 3<<-B\na\nA\n\tb\n\tB", "cat <<A 3<<-B\na\nA\n\tb\nB"),
        ("RUN <<A <<B\na\nA\nb\nB", "<<A <<B\na\nA\nb\nB"),
    ],
)
def test_run_of_here_documents(text, script):
    assert last(text).argv == ("/bin/sh", "-c", script)


def test_copy_of_here_documents():
    made = last('ENV V=v\nCOPY <<A file <<"B" <<-C /to/\n$V "\\$V" \\x\nA\n$V\nB\n\t${V}w\n\tC\n')
    assert made.sources == ("file",)
    assert made.documents == (("A", 'v "$V" x\n'), ("B", "$V\n"), ("C", "vw\n"))
    assert made.describe() == "COPY file <<A <<B <<C /to/"


def test_steps_come_in_order_with_their_kinds():
    made = steps('ENV A=1\nRUN a\nCOPY b c\nWORKDIR d\nCMD ["e"]')
    assert [type(step) for step in made] == [MetadataStep, RunStep, CopyStep, WorkdirStep, MetadataStep]
    assert [step.number for step in made] == [2, 3, 4, 5, 6]
    assert plan(parse('FROM base\nENV A=1\nCMD ["e"]')).unfold(lambda _stage: ImageConfig())[-1].total == 3
    assert [step.describe() for step in made] == ["ENV A=1", "RUN /bin/sh -c a", "COPY b c", "WORKDIR /d", 'CMD ["e"]']


def test_all_steps_are_resolved_before_one_is_given():
    with pytest.raises(DockerfileError):
        next(plan(parse("FROM base\nUSER a\nUSER $NONE")).steps(ImageConfig()))


def test_a_walk_leaves_the_base_as_it_was():
    base = ImageConfig(env={"A": "1"}, labels={"l": "1"})
    before = attrs.evolve(base, env=dict(base.env), labels=dict(base.labels))
    config("ENV A=2\nLABEL l=2\nCMD x", base)
    assert base == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RUN a", "RUN b"),
        ("RUN a", 'RUN ["a"]'),
        ("RUN a", 'RUN ["/bin/sh", "-c", "b"]'),
        ("RUN a", "USER x\nRUN a"),
        ("RUN a", "WORKDIR /x\nRUN a"),
        ("RUN a", "ENV x=1\nRUN a"),
        ("RUN a", "ARG x=1\nRUN a"),
        ("ARG x=1\nRUN a", "ARG x=2\nRUN a"),
        ("RUN a", 'SHELL ["b", "-c"]\nRUN a'),
        ("COPY a b", "ADD a b"),
        ("COPY a b", "COPY a b/"),
        ("COPY a b", "COPY --exclude=c a b"),
        ("COPY <<E b\n1\nE", "COPY <<E b\n2\nE"),
        ("COPY <<E b\n1\nE", "COPY <<F b\n1\nF"),
        ("RUN <<E\n1\nE", "RUN <<E\n2\nE"),
        ("RUN a", "RUN --network=none a"),
        ("HEALTHCHECK CMD a", "HEALTHCHECK CMD b"),
        ("ENV x=1\nRUN a", "ENV x=1\nARG x=2\nRUN a"),
        ("COPY a b", "COPY --chown=1 a b"),
        ("COPY --chmod=644 a b", "COPY --chmod=600 a b"),
        ("COPY --chmod=u+x a b", "COPY --chmod=u+w a b"),
        ("COPY a b", "WORKDIR /x\nCOPY a b"),
        ("ENV a=b", "LABEL a=b"),
        ("ENV a=1 b=2", "ENV a='1 b=2'"),
        ("CMD a", "ENTRYPOINT a"),
        ("ENV E=a=b\nLABEL $E=c", "ENV E=a=b\nLABEL a=b=c"),
        ("WORKDIR /a", "WORKDIR /b"),
        ('VOLUME ["/a b"]', "VOLUME /a /b"),
    ],
)
def test_different_steps_have_different_definitions(one, other):
    assert last(one).definition() != last(other).definition()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RUN a", "\n# comment\nRUN  \\\n a"),
        ("RUN a", 'RUN ["/bin/sh", "-c", "a"]'),
        ("ENV a=b", "ENV a 'b'"),
        ("ARG x=1", "ARG x=2"),  # what follows decides: a RUN that sees it has it in its own definition
        ("ENV V=1\nCOPY a$V b", "ENV V=1\nCOPY a1 b"),
        ("ENV a=1 b=2\nRUN x", "ENV b=2 a=1\nRUN x"),
        ("EXPOSE 80", "EXPOSE 80/tcp"),
        ("COPY a b", "COPY --link a b"),
        ("COPY a b", "ADD --unpack=false a b"),
        ("RUN a", "RUN --network=default --security=sandbox a"),
    ],
)
def test_equal_steps_have_equal_definitions(one, other):
    assert last(one).definition() == last(other).definition()
