"""Flags: every one of the reference as a typed value, and what cannot be one."""

from __future__ import annotations

import pytest

from pylxc.build import instructions as ast
from pylxc.build import mountflag
from pylxc.build.dockerfile import parse
from pylxc.build.instructions import Command, Word
from pylxc.build.mountflag import RunMount
from pylxc.errors import DockerfileError
from pylxc.imageconfig import Healthcheck


def one(text, directives=""):
    (instruction,) = parse(f"{directives}FROM base\n{text}").stages[0].instructions
    return instruction


def mount(text, variables=None):
    run = one(f"RUN --mount={text} x")
    return mountflag.resolve(run.mounts[0], lambda word: (variables or {}).get(word.text, word.text))


# -- RUN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", RunMount(target="/x")),
        ("type=bind,target=/x", RunMount(target="/x")),
        ("type=bind,from=one,src=/a,dst=/x,rw", RunMount(stage="one", source="/a", target="/x", read_only=False)),
        ("destination=/x,readwrite=false", RunMount(target="/x")),
        ("target=/x,ro=0", RunMount(target="/x", read_only=False)),
        ("target=/x,rw,readonly", RunMount(target="/x")),
        ("type=cache,target=/x", RunMount(type="cache", target="/x", read_only=False)),
        (
            "TYPE=Cache,ID=a,target=/x,sharing=LOCKED,mode=0750,uid=1,gid=2,from=b,source=c,ro",
            RunMount(
                type="cache", id="a", target="/x", sharing="locked", mode=0o750, uid=1, gid=2, stage="b", source="c"
            ),
        ),
        ("type=tmpfs,target=/x,size=1m", RunMount(type="tmpfs", target="/x", size=1 << 20, read_only=False)),
        ("type=secret,id=s", RunMount(type="secret", id="s")),
        (
            "type=secret,id=s,target=/x,required,env=S,mode=400",
            RunMount(type="secret", id="s", target="/x", required=True, env="S", mode=0o400),
        ),
        ("type=ssh", RunMount(type="ssh")),
        ("type=ssh,id=k,required=false", RunMount(type="ssh", id="k")),
        ('"target=/a,b",ro', RunMount(target="/a,b")),
        ("'\"target=/a b\"'", RunMount(target="/a b")),
        ('\'"target=/say ""x"""\'', RunMount(target='/say "x"')),
        ("target=/a=b", RunMount(target="/a=b")),
    ],
)
def test_mounts(text, expected):
    # Between its own quotes a flag may hold those of the CSV.
    assert mount(text if text.startswith("'") else text.replace('"', '\\"')) == expected


def test_mounts_with_variables_are_resolved_later():
    run = one("RUN --mount=type=$T,target=/x,id=${I} --mount=target=$B x")
    assert run.mounts[0].fields == (("type", Word("$T")), ("target", Word("/x")), ("id", Word("${I}")))
    assert mount("type=$T,target=/x", {"$T": "cache"}) == RunMount(type="cache", target="/x", read_only=False)
    with pytest.raises(mountflag.MountFlagError, match="unknown type 'nfs'"):
        mount("type=$T,target=/x", {"$T": "nfs"})


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("type=nfs,target=/x", 18, "unknown type 'nfs'"),
        ("target=/x,tagret=/y", 23, "unknown key 'tagret' of --mount: did you mean target?"),
        ("target", 13, "target needs a value"),
        ("target=/x,", 23, "unknown key ''"),
        ("from=$S,target=/x", 13, "takes no variables"),
        ("target=/x,mode=755", 28, "mode does not go with type=bind"),
        ("type=tmpfs,target=/x,uid=0", 38, "uid does not go"),
        ("target=/x,sharing=shared", 31, "sharing does not go"),
        ("type=cache,target=/x,size=1", 39, "size does not go"),
        ("target=/x,required", 13, "required does not go"),
        ("type=secret,id=a,from=b", 35, "from does not go"),
        ("type=secret", 13, "needs an id or a target"),
        ("type=secret,id=a,src=b", 13, "not both"),
        ("type=cache,target=/x,sharing=mine", 42, "sharing=mine"),
        ("type=cache,target=/x,mode=9", 39, "octal"),
        ("type=cache,target=/x,uid=-1", 38, "a number up to"),
        ("type=cache,target=/x,uid=4294967296", 38, "a number up to"),
        ("type=tmpfs,target=/x,size=big", 39, "size=big"),
        ("target=/x,ro=perhaps", 26, "give true or false"),
        ('target=/a\\"b', 22, "stand around a whole"),
    ],
)
def test_bad_mounts(text, column, reason):
    with pytest.raises(DockerfileError) as caught:
        one(f"RUN --mount={text} x")
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (2, column)


def test_run():
    made = one("RUN --network=none --security=insecure --device=a --device=b,required x")
    assert (made.network, made.security, tuple(map(str, made.devices))) == ("none", "insecure", ("a", "b,required"))
    plain = one("RUN x")
    assert (plain.network, plain.security, plain.mounts, plain.devices) == ("default", "sandbox", (), ())


# -- COPY and ADD


def test_copy():
    made = one("COPY --from=Build --chown=u:g --chmod=u+x --link --parents=FALSE --exclude=*.o --exclude=!a.o b c /d")
    assert (str(made.source_stage), str(made.chown), str(made.chmod)) == ("Build", "u:g", "u+x")
    assert (made.link, made.parents, tuple(map(str, made.excludes))) == (True, False, ("*.o", "!a.o"))
    plain = one("COPY b c")
    assert (plain.source_stage, plain.chown, plain.link, plain.parents, plain.excludes) == (
        None,
        None,
        False,
        False,
        (),
    )


def test_add():
    made = one("ADD --checksum=sha256:0 --keep-git-dir=true --unpack --chown=1 --chmod=1 --link=true --exclude=x b c")
    assert isinstance(made, ast.Add)
    assert (str(made.checksum), made.keep_git_dir, made.unpack, made.link) == ("sha256:0", True, True, True)
    plain = one("ADD b c")
    assert (plain.checksum, plain.keep_git_dir, plain.unpack) == (None, False, None)
    assert one("ADD --unpack=false b c").unpack is False


def test_quotes_around_a_flag_s_value_come_off_before_variables_go_in():
    assert str(one('COPY --chown="$U" b c').chown) == "$U"
    assert str(one("COPY --chown='$U' b c").chown) == "$U"
    assert str(one("COPY --exclude=a\\ b b c").excludes[0]) == "a b"
    assert str(one("COPY --exclude=a`b b c", "# escape=`\n").excludes[0]) == "a`b"


def test_two_dashes_end_the_flags():
    assert tuple(map(str, one("COPY --link -- --from=a b").sources)) == ("--from=a",)
    assert one("RUN -- --mount").command == Command(("--mount",), shell=True)  # noqa: S604


# -- FROM, HEALTHCHECK, ONBUILD


def test_from():
    base = parse("FROM --platform=$BUILDPLATFORM a:1@sha256:00 aS Two").stages[0].base
    assert (str(base.platform), str(base.image), base.alias) == ("$BUILDPLATFORM", "a:1@sha256:00", "two")
    assert (str(base.keyword), str(base.alias_word)) == ("aS", "Two")


def test_healthcheck():
    made = one(
        "HEALTHCHECK --interval=1h1m1s --timeout=.5s --start-period=1.5m --start-interval=1ms --retries=7 CMD a b"
    )
    assert made.times == Healthcheck(interval=3661, timeout=0.5, start_period=90, start_interval=0.001, retries=7)
    assert made.command == Command(("a b",), shell=True)  # noqa: S604
    assert one('HEALTHCHECK cmd \\\n ["a"]').command == Command(("a",), shell=False)
    assert one("HEALTHCHECK none").command is None
    assert one("HEALTHCHECK --interval=0s CMD a").times == Healthcheck()


def test_onbuild():
    made = one("ONBUILD  copy --chown=1 a \\\n  b")
    assert isinstance(made.trigger, ast.Copy)
    assert (made.trigger.line, made.trigger.column, str(made.trigger.chown)) == (2, 10, "1")
    assert made.expression == "copy --chown=1 a   b"
    made = one("ONBUILD RUN <<-A cat\n\ta\n\tA")
    assert (made.trigger.command.heredocs[0].text, made.expression) == ("a\n", "RUN <<-A cat\n\ta\nA")


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("HEALTHCHECK NONE x", 18, "takes no operands"),
        ("HEALTHCHECK CMD", 13, "needs a command"),
        ("HEALTHCHECK CMD []", 13, "needs a command"),
        ('HEALTHCHECK CMD ["a", 1]', 17, "must be a string"),
        ("HEALTHCHECK curl x", 13, "write HEALTHCHECK CMD command"),
        ("HEALTHCHECK --interval=5 CMD a", 24, "give a duration"),
        ("HEALTHCHECK --interval=-5s CMD a", 24, "give a duration"),
        ("HEALTHCHECK --timeout=1d CMD a", 23, "give a duration"),
        ("HEALTHCHECK --timeout=999us CMD a", 23, "the shortest is 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", 23, "give a number"),
        ("HEALTHCHECK --retries=2147483648 CMD a", 23, "give a number"),
        ("HEALTHCHECK --retry=1 CMD a", 13, "unknown flag --retry of HEALTHCHECK: did you mean retries?"),
        ("ONBUILD", 1, "needs an instruction"),
        ("ONBUILD ONBUILD RUN a", 9, "within ONBUILD"),
        ("ONBUILD from a", 9, "FROM cannot be put off"),
        ("ONBUILD MAINTAINER a", 9, "MAINTAINER cannot be put off"),
        ("ONBUILD RUNN a", 9, "did you mean RUN?"),
        ("ONBUILD COPY --chmdo=1 a b", 14, "did you mean chmod?"),
        ("COPY --from=$S a b", 13, "takes no variables"),
        ("COPY --link=yes a b", 6, "give true or false"),
        ("COPY --link= a b", 6, "give true or false"),
        ("COPY --link --link a b", 13, "given twice"),
        ("COPY --checksum=x a b", 6, "unknown flag --checksum of COPY"),
        ("ADD --from=x a b", 5, "unknown flag --from of ADD"),
        ("RUN --network=bridge a", 15, "default, none, host"),
        ("RUN --security=no a", 16, "sandbox, insecure"),
        ("RUN --mount a", 5, "needs a value"),
        ("VOLUME /a --x=1", 0, ""),
    ],
)
def test_bad_flags(text, column, reason):
    if not reason:  # only leading words are flags
        assert one(text).name == "VOLUME"
        return
    with pytest.raises(DockerfileError) as caught:
        one(text)
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (2, column)
