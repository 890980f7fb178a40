"""Several stages: which are built, what one has of another, and what the names after FROM and --from mean."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest
from building import contents, members

import pylxc
from pylxc.build.dockerfile import parse
from pylxc.build.plan import plan
from pylxc.imageconfig import ImageConfig


@pytest.fixture
def build(on_busybox):
    return on_busybox


def unfolded(text, target=None, contexts=(), base=None, **args):
    made = plan(parse(text), args, target, contexts)
    return made.unfold(lambda _stage: base or ImageConfig())


def env(works):
    """Return the environment of the last stage, without the PATH that every image has."""
    return {name: value for name, value in works[-1].state.config.env.items() if name != "PATH"}


def needed(text, target=None, contexts=()):
    return [work.stage.name for work in unfolded(text, target, contexts)]


# -- the graph


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (None, ["b", "c", "stage-4"]),
        ("4", ["b", "c", "stage-4"]),
        ("a", ["a"]),
        ("A", ["a"]),
        ("c", ["b", "c"]),
        ("3", ["a", "d"]),
    ],
)
def test_only_what_the_target_needs_and_each_after_what_it_needs(target, names):
    text = """
        FROM x AS a
        FROM y AS b
        FROM b AS c
        FROM scratch AS d
        COPY --from=a x y
        FROM c
        COPY --from=1 x y
    """
    assert needed(text, target) == names


def test_no_such_target():
    with pytest.raises(pylxc.SpecError, match="'a', '1'") as caught:
        plan(parse("FROM x AS a\nFROM y"), target="b")
    assert caught.value.option == "target"


def test_a_name_means_the_latest_stage_before_it_or_else_an_image():
    works = unfolded("FROM a AS a\nFROM a AS a\nFROM a\nCOPY --from=A . /\nCOPY --from=b . /")
    assert [work.stage.parent.kind for work in works] == ["image", "stage", "stage"]
    assert [work.stage.index for work in works] == [0, 1, 2]
    assert [origin.index for origin in works[-1].sources.values()] == [1, -1]


def test_a_stage_may_copy_from_a_later_one():
    assert needed("FROM x AS a\nCOPY --from=b . /\nFROM y AS b\nFROM a") == ["b", "a", "stage-2"]


@pytest.mark.parametrize(
    "text",
    [
        "FROM x AS a\nCOPY --from=a . /",
        "FROM x AS a\nCOPY --from=0 . /",
        "FROM x AS a\nCOPY --from=b . /\nFROM a AS b\nFROM b",
    ],
)
def test_a_round_trip_is_an_error(text):
    with pytest.raises(pylxc.DockerfileError, match=r"cannot need itself: .*a") as caught:
        unfolded(text)
    assert caught.value.line in (2, 3)


def test_there_is_no_stage_of_that_number():
    with pytest.raises(pylxc.DockerfileError, match="no stage 7: the last one is 1") as caught:
        unfolded("FROM x\nFROM y\nCOPY --from=7 a b")
    assert (caught.value.line, caught.value.column) == (3, 13)


def test_what_is_wrong_in_a_stage_that_nobody_needs_is_nobodys_affair():
    text = "FROM x AS a\nSTOPSIGNAL nonsense\nFROM y"
    assert needed(text) == ["stage-1"]
    with pytest.raises(pylxc.DockerfileError, match="unknown signal"):
        needed(text, "a")


def test_a_thousand_stages_in_a_row():
    text = "FROM x AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(2000))
    assert len(needed(text)) == 2001
    text = "FROM x AS s0\n" + "".join(f"FROM x AS s{n + 1}\nCOPY --from=s{n} . /\n" for n in range(2000))
    assert len(needed(text)) == 2001


# -- what a stage has of the one it begins with


def test_a_stage_begins_where_its_base_ends():
    text = """
        FROM x AS a
        ARG A=1 B=2 C=3
        ENV B=env
        ARG B=4
        USER u
        WORKDIR /w
        SHELL ["sh"]
        FROM a
        RUN $A
        COPY f $A/$B
    """
    run, copy = unfolded(text)[-1].steps
    assert run.argv == ("sh", "$A")
    assert (run.user, run.workdir) == ("u", "/w")
    assert {name: run.env[name] for name in "ABC"} == {"A": "1", "B": "env", "C": "3"}  # ENV is the image's: it wins
    assert copy.destination == "1/env"


@pytest.mark.parametrize(
    ("before", "after", "cmd"),
    [
        ("CMD a", "ENTRYPOINT b", None),
        ("CMD a", "CMD c\nENTRYPOINT b", ("/bin/sh", "-c", "c")),
        ("CMD a", "ENTRYPOINT b\nCMD c", ("/bin/sh", "-c", "c")),
        ("CMD a", "ENV A=1", ("/bin/sh", "-c", "a")),
        ("ENTRYPOINT b\nCMD a", "ENV A=1", ("/bin/sh", "-c", "a")),
    ],
)
def test_an_entry_point_clears_an_inherited_command(before, after, cmd):
    assert unfolded(f"FROM x AS a\n{before}\nFROM a\n{after}")[-1].state.config.cmd == cmd


def test_what_a_stage_has_waiting_fires_in_its_children_and_may_need_others():
    text = """
        FROM x AS tool
        FROM x AS a
        ONBUILD ENV A=1
        ONBUILD COPY --from=tool f /f
        FROM a AS b
        ENV B=$A
        FROM b
    """
    works = unfolded(text)
    assert [work.stage.name for work in works] == ["a", "tool", "b", "stage-3"]
    assert env(works[:3]) == {"A": "1", "B": "1"}
    assert [step.instruction.name for step in works[2].steps] == ["ENV", "COPY", "ENV"]
    assert works[2].state.config.onbuild == ()
    assert works[3].steps == ()


def test_global_arguments_know_the_target():
    text = "FROM x AS a\nARG TARGETSTAGE\nENV S=$TARGETSTAGE\nFROM a AS b"
    assert env(unfolded(text, "a")) == {"S": "a"}
    assert env(unfolded(text)) == {"S": "b"}
    assert env(unfolded("FROM x\nARG TARGETSTAGE\nENV S=$TARGETSTAGE")) == {"S": "default"}


# -- copying


def test_copy_from_a_stage_by_name_and_number(build):
    image = build(
        "FROM busybox AS a\nRUN echo one > /f && mkdir /d && echo two > /d/g\n"
        "FROM scratch\nCOPY --from=a /f /by-name\nCOPY --from=0 d /d/"
    )
    assert [contents(layer) for layer in image.layers] == [{"by-name": b"one\n"}, {"d/g": b"two\n"}]


def test_owner_mode_kind_and_attributes_are_the_sources(build):
    image = build(
        "FROM busybox AS a\n"
        "RUN mkdir /t && cd /t && echo x > f && chown 7:8 f && chmod 4751 f && ln -s f l && mkdir -m 700 d && chown 9 d"
        " && mkfifo p && ln f h\n"
        "FROM scratch\nCOPY --from=a /t /t\nCOPY --from=a --chown=3:4 --chmod=600 /t/f /g"
    )
    found = members(image.layers[0])
    assert {name: (entry.uid, entry.gid, entry.mode) for name, entry in found.items() if name != "t"} == {
        "t/f": (7, 8, 0o4751),
        "t/h": (7, 8, 0o4751),
        "t/l": (0, 0, 0o777),
        "t/d": (9, 0, 0o700),
        "t/p": (0, 0, 0o644),
    }
    assert found["t/l"].linkname == "f"
    assert found["t/p"].isfifo()
    assert (found["t/h"].type, found["t/h"].linkname) == (b"1", "t/f")
    other = members(image.layers[1])["g"]
    assert (other.uid, other.gid, other.mode) == (3, 4, 0o600)


def test_extended_attributes_come_along_and_count(build, tmp_path):
    (tmp_path / "root").mkdir()
    file = tmp_path / "root/f"
    file.write_text("f")
    texts = []
    for value in (b"one", b"two"):
        os.setxattr(file, "user.kept", value)
        pylxc.Image.from_directory(tmp_path / "root", "with:attributes", engine=build.engine)
        image = build("FROM scratch\nCOPY --from=with:attributes /f /g")
        assert build.cached() == []
        texts.append(members(image.layers[0])["g"].pax_headers["SCHILY.xattr.user.kept"])
    assert texts == ["one", "two"]


@pytest.mark.root
def test_devices_come_along_from_a_stage(build, tmp_path):
    (tmp_path / "root").mkdir()
    os.mknod(tmp_path / "root/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    pylxc.Image.from_directory(tmp_path / "root", "with:devices", engine=build.engine)
    found = members(build("FROM scratch\nCOPY --from=with:devices / /dev/").layers[0])["dev/null"]
    assert (found.ischr(), found.devmajor, found.devminor) == (True, 1, 3)


def test_copy_from_this_machine(build):
    """Of the image "host" what it shows is copied, and nothing else."""
    image = build("FROM scratch\nCOPY --from=host /usr/bin/env /env\nCOPY --from=host /etc/os-release /")
    assert contents(image.layers[0])["env"] == Path("/usr/bin/env").read_bytes()
    assert len(image.layers) == 2
    with pytest.raises(pylxc.BuildError, match="no such file in image host"):
        build("FROM scratch\nCOPY --from=host /etc/shadow /")
    with pytest.raises(pylxc.BuildError, match="no such file in image host"):
        build("FROM scratch\nCOPY --from=host /root/.bashrc /")


def test_the_layers_of_a_stage_are_one_tree(build):
    """What a later layer removed, replaced or emptied is not there any more."""
    image = build(
        "FROM busybox AS a\n"
        "RUN mkdir -p /t/d/e /t/o /t/k && touch /t/gone /t/d/e/x /t/o/old /t/k/kept && echo 1 > /t/f\n"
        "RUN rm /t/gone && rm -r /t/o && mkdir /t/o && touch /t/o/new && echo 2 > /t/f && rm -r /t/d && touch /t/d\n"
        "RUN touch /t/k/more\n"
        "FROM scratch\nCOPY --from=a /t /"
    )
    assert contents(image.layers[0]) == {"d": b"", "f": b"2\n", "o/new": b"", "k/kept": b"", "k/more": b""}


def test_wildcards_and_excludes(build):
    image = build(
        "FROM busybox AS a\nRUN mkdir /t && touch /t/a.c /t/b.c /t/c.h\n"
        "FROM scratch\nCOPY --from=a /t/*.c /one/\nCOPY --from=a --exclude=*.h /t /two"
    )
    assert sorted(contents(image.layers[0])) == ["one/a.c", "one/b.c"]
    assert sorted(contents(image.layers[1])) == ["two/a.c", "two/b.c"]


def test_the_ignore_file_is_the_contexts_only(build):
    build.write({".dockerignore": "*"})
    image = build("FROM busybox AS a\nRUN echo 1 > /f\nFROM scratch\nCOPY --from=a /f /")
    assert contents(image.layers[0]) == {"f": b"1\n"}


def test_copy_from_an_image(build):
    build("FROM busybox\nRUN echo tool > /tool", tag="tools:1")
    image = build("FROM scratch\nCOPY --from=tools:1 /tool /t")
    assert contents(image.layers[0]) == {"t": b"tool\n"}
    with pytest.raises(pylxc.ImageNotFound, match="--from names it"):
        build("FROM scratch\nCOPY --from=localhost:1/absent:1 /tool /t")


def test_all_of_nothing(build):
    image = build("FROM scratch AS a\nENV A=1\nFROM busybox\nCOPY --from=a / /x")
    assert list(members(image.layers[-1])) == ["x"]


def test_copy_from_scratch_finds_nothing(build):
    with pytest.raises(pylxc.BuildError, match="no such file in image scratch") as caught:
        build("FROM busybox\nCOPY --from=scratch /x /t")
    assert (caught.value.step, caught.value.line) == (2, 2)


def test_what_is_not_there_names_the_stage(build):
    with pytest.raises(pylxc.BuildError, match="/x: no such file in stage a") as caught:
        build("FROM busybox AS a\nFROM busybox\nENV A=1\nCOPY --from=a /x /t")
    assert (caught.value.step, caught.value.line) == (3, 4)


# -- links in a source: they stay in it


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    path.write_text("secret of the host")
    return path


@pytest.mark.parametrize(
    ("make", "source"),
    [
        ("ln -s {canary} /l", "/l"),
        ("ln -s ../../../../../../../..{canary} /l", "/l"),
        ("ln -s {parent} /l", "/l/canary"),
        ("ln -s / /r && ln -s r{parent} /l", "/l/canary"),
        ("ln -s {parent} /l", "/l/can*"),
        ("ln -s {parent} /l", "/l/../l/./canary"),
        ("true", "/../../../../../../../..{canary}"),
    ],
)
def test_no_link_leads_out_of_a_stage(build, canary, make, source):
    names = {"canary": canary, "parent": canary.parent}
    with pytest.raises(pylxc.BuildError, match="in stage a"):
        build(f"FROM busybox AS a\nRUN {make.format(**names)}\nFROM scratch\nCOPY --from=a {source.format(**names)} /t")


def test_links_are_followed_inside_the_stage(build, canary):
    """The path of the host's canary is there in the stage, too, and is what counts."""
    image = build(
        f"FROM busybox AS a\nRUN mkdir -p {canary.parent} && echo inner > {canary} && ln -s {canary} /l\n"
        f"RUN mkdir /t && ln -s {canary} /t/link\nFROM scratch\nCOPY --from=a /l /f\nCOPY --from=a /t /"
    )
    assert contents(image.layers[0]) == {"f": b"inner\n"}
    assert members(image.layers[1])["link"].linkname == str(canary)


def test_a_link_in_the_way_of_a_walk_is_copied_and_not_entered(build, canary):
    image = build(
        f"FROM busybox AS a\nRUN mkdir -p /t/d && touch /t/d/f\nRUN rm -r /t/d && ln -s {canary.parent} /t/d\n"
        "FROM scratch\nCOPY --from=a /t /t"
    )
    assert [(name, entry.issym()) for name, entry in members(image.layers[0]).items()] == [("t", False), ("t/d", True)]


# -- named contexts


def test_a_directory_by_name(build, tmp_path):
    (tmp_path / "other/sub").mkdir(parents=True)
    (tmp_path / "other/f").write_text("other")
    (tmp_path / "other/ignored").write_text("x")
    (tmp_path / "other/.dockerignore").write_text("ignored\n.dockerignore\n")
    (tmp_path / "other/f").chmod(0o640)
    image = build("FROM scratch\nCOPY --from=more . /t/", contexts={"more": tmp_path / "other"})
    assert contents(image.layers[0]) == {"t/f": b"other"}
    found = members(image.layers[0])["t/f"]
    assert (found.uid, found.mode) == (0, 0o640)


def test_a_named_context_wins_over_a_stage_and_an_image(build):
    build("FROM busybox\nRUN echo tool > /tool", tag="tools:1")
    text = (
        "FROM absent AS a\nRUN false\nFROM scratch AS b\nCOPY --from=a /tool /t\nFROM other:latest\nCOPY --from=b /t /"
    )
    contexts = {"a": "docker-image://tools:1", "other": "docker-image://tools:1"}
    image = build(text, contexts=contexts)
    assert contents(image.layers[-1]) == {"t": b"tool\n"}
    assert [layer.digest for layer in image.layers[:-1]] == [
        layer.digest for layer in pylxc.Image.get("tools:1", engine=build.engine).layers
    ]


def test_a_directory_to_begin_with(build, tmp_path):
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "root/sub/f").write_text("f")
    text = "FROM base AS a\nFROM a\nCOPY --from=base sub/f /g\nENV A=1"
    image = build(text, contexts={"base": tmp_path / "root"})
    assert [contents(layer) for layer in image.layers] == [{"sub/f": b"f"}, {"g": b"f"}]
    assert len(image.history()) == 3
    build(text, contexts={"base": tmp_path / "root"})
    assert begun(build, "cached") == [("a", 1), ("stage-1", 2)]
    assert len(build("FROM absent AS base\nRUN false\nFROM base", contexts={"base": tmp_path / "root"}).layers) == 1
    (tmp_path / "root/sub/f").write_text("changed")
    image = build(text, contexts={"base": tmp_path / "root"})
    assert contents(image.layers[0]) == {"sub/f": b"changed"}


@pytest.mark.parametrize(
    ("contexts", "kind"),
    [
        ({"a": "/does/not/exist"}, pylxc.SpecError),
        ({"scratch": "."}, pylxc.SpecError),
        ({"a": "docker-image://NOT A REF"}, pylxc.SpecError),
        ({"a": "oci-layout:///x"}, pylxc.UnsupportedError),
        ({"a": "https://example.org/x.git#", "b": "/does/not/exist"}, pylxc.SpecError),
    ],
)
def test_what_is_no_context(build, contexts, kind):
    with pytest.raises(kind):
        build("FROM scratch\nCOPY --from=a . /", contexts=contexts)


# -- the cache


def test_a_stage_made_anew_with_the_same_files_leaves_what_copies_them_cached(build):
    text = "FROM busybox AS a\nRUN echo {} > /other && echo 1 > /f\nFROM scratch\nCOPY --from=a /f /\n"
    first = build(text.format(1))
    second = build(text.format(2))
    assert [(event.stage, event.step) for event in build.events if event.kind == "cached"] == [("stage-1", 2)]
    assert first.layers == second.layers
    build(text.format(2))
    assert [(event.stage, event.step) for event in build.events if event.kind == "cached"] == [("a", 2), ("stage-1", 2)]


@pytest.mark.parametrize(
    "change", ["echo 2 > /t/f", "chmod 600 /t/f", "chown 1 /t/f", "chown 0:1 /t/f", "rm /t/f && mkdir /t/f"]
)
def test_what_is_copied_counts(build, change):
    text = "FROM busybox AS a\nRUN mkdir /t && echo 1 > /t/f && {}\nFROM scratch\nCOPY --from=a /t /\n"
    build(text.format("true"))
    build(text.format(change))
    assert [event.step for event in build.events if event.kind == "cached"] == []


def test_times_do_not_count(build):
    text = "FROM busybox AS a\nRUN touch -d {} /f\nFROM scratch\nCOPY --from=a /f /\n"
    build(text.format("2001-01-01"))
    build(text.format("2002-02-02"))
    assert [(event.stage, event.step) for event in build.events if event.kind == "cached"] == [("stage-1", 2)]


# -- side by side


def begun(build, kind="step"):
    return [(event.stage, event.step) for event in build.events if event.kind == kind]


DIAMOND = "FROM busybox AS base\nRUN date +%s%N > /base\n" + "".join(
    f"FROM base AS s{n}\nRUN sleep 0.5 && echo {n} > /f{n}\n" for n in range(28)
)
JOIN = "FROM scratch\n" + "".join(f"COPY --from=s{n} /f{n} /\n" for n in range(28))


def test_a_diamond_of_thirty_stages_builds_each_once_and_side_by_side(build):
    times = {}
    lock = threading.Lock()

    def tell(event):
        if event.stage.startswith("s") and event.step == 2 and event.kind in ("step", "done"):
            with lock:
                times.setdefault(event.stage, []).append(time.monotonic())

    build.tell = tell
    image = build(DIAMOND + JOIN)
    steps = begun(build)
    assert len(steps) == len(set(steps)) == 2 + 2 * 28 + 29
    assert len({event.stage for event in build.events}) == 30
    assert [contents(layer) for layer in image.layers] == [{f"f{n}": f"{n}\n".encode()} for n in range(28)]
    spans = [times[f"s{n}"] for n in range(28)]
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert most >= 20, "so many ran at the same time"


def test_a_stage_goes_on_until_it_needs_the_other(build):
    """RUN before a COPY --from waits for nobody."""
    build(
        "FROM busybox AS a\nRUN echo a && sleep 1 && touch /f\n"
        "FROM busybox AS b\nRUN echo b && sleep 1\nCOPY --from=a /f /"
    )
    kinds = [(event.kind, event.stage) for event in build.events if event.step == 2]
    first_end = min(index for index, (kind, _) in enumerate(kinds) if kind == "done")
    assert {("output", "a"), ("output", "b")} <= set(kinds[:first_end])


def test_a_step_that_two_stages_share_is_made_once(build):
    image = build(
        "FROM busybox AS a\nRUN sleep 0.3 && date +%s%N > /now && echo made\n"
        "FROM busybox AS b\nRUN sleep 0.3 && date +%s%N > /now && echo made\n"
        "FROM scratch\nCOPY --from=a /now /a\nCOPY --from=b /now /b"
    )
    assert build.output() == "made\n"
    assert contents(image.layers[0])["a"] == contents(image.layers[1])["b"]


def test_a_failing_stage_ends_the_others_at_once(build):
    begin = time.monotonic()
    with pytest.raises(pylxc.BuildError) as caught:
        build(
            "FROM busybox AS a\nRUN sleep 100 && touch /f\nFROM busybox AS b\nRUN sleep 0.2; exit 7\n"
            "FROM a AS c\nFROM scratch\nCOPY --from=b / /b\nCOPY --from=c / /c"
        )
    assert time.monotonic() - begin < 50
    assert (caught.value.exit_code, caught.value.line, caught.value.step) == (7, 4, 2)
    assert ("c", 1) not in begun(build)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pylxc-build")]


def test_an_error_of_the_callers_own_ends_all(build):
    def tell(event):
        if event.kind == "output":
            raise KeyboardInterrupt

    build.tell = tell
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build("FROM busybox AS a\nRUN sleep 100\nFROM busybox AS b\nRUN echo x\nFROM a\nCOPY --from=b / /")
    assert time.monotonic() - begin < 50


def test_events_come_one_at_a_time(build):
    inside = []
    most = []

    def tell(_event):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    build.tell = tell
    build(
        "".join(f"FROM busybox AS s{n}\nRUN echo {n}\n" for n in range(8))
        + "FROM scratch\n"
        + "".join(f"COPY --from=s{n} /bin/true /{n}\n" for n in range(8))
    )
    assert max(most) == 1
