"""What the language says, carried out: here-documents, health checks, ONBUILD, exclusions."""

from __future__ import annotations

import pytest
from building import contents, members, names

import pylxc


def test_here_documents_are_run(on_busybox):
    on_busybox('FROM busybox\nRUN <<EOF\nset -e\nx=one\necho "$x"\nEOF\nRUN cat <<A - <<-B\nno\nA\n\ttwo\n\tB\n')
    assert on_busybox.output() == "one\ntwo\n"


def test_here_documents_are_copied(build):
    image = build(
        'FROM scratch\nENV V=v\nCOPY <<one /file\n$V \\$V "q"\none\n'
        "COPY --chmod=600 --chown=7:8 <<'a' <<-b /dir/\n$V\na\n\ttab\nb\n"
    )
    first, second = image.layers
    assert contents(first) == {"file": b'v $V "q"\n'}
    assert contents(second) == {"dir/a": b"$V\n", "dir/b": b"tab\n"}
    entry = members(second)["dir/a"]
    assert (entry.mode, entry.uid, entry.gid) == (0o600, 7, 8)
    assert members(first)["file"].mode == 0o644
    assert image.history()[-1].created_by == "COPY --chown=7:8 --chmod=600 <<a <<b /dir/ # buildkit"


def test_a_here_document_counts_for_the_cache(build):
    text = "FROM scratch\nENV V={}\nCOPY <<one two /d/\n$V\none\n"
    build.write({"two": "2"})
    first = build(text.format("a"))
    assert build(text.format("a")).layers == first.layers
    assert build.cached() == [3]
    assert contents(build(text.format("b")).layers[0]) == {"d/one": b"b\n", "d/two": b"2"}
    assert build.cached() == []


def test_exclude(build):
    build.write({"s/a.c": "", "s/a.o": "", "s/d/b.o": "", "s/d/keep.o": "", "s/e/x": "", "top.o": "", "top.c": ""})
    assert names(build("FROM scratch\nCOPY --exclude=**/*.o --exclude=!d/keep.o s /s/").layers[0]) == [
        *("s", "s/a.c", "s/d", "s/d/keep.o", "s/e", "s/e/x"),
    ]
    assert "s/d" not in names(build("FROM scratch\nCOPY --exclude=d --exclude=e/x s /s/").layers[0])
    assert names(build("FROM scratch\nCOPY --exclude=*.o top* /t/").layers[0]) == ["t", "t/top.c"]
    image = build("FROM scratch\nARG E=d\nADD --exclude=$E --exclude=!d/keep.o s /s/")
    assert {"s/d", "s/d/keep.o"} <= set(names(image.layers[0]))
    with pytest.raises(pylxc.BuildError, match=r"--exclude: bad pattern '\['"):
        build("FROM scratch\nCOPY --exclude=[ s /s/")


def test_symbolic_modes(build):
    build.write({"s/run": "", "s/d/f": ""})
    (build.files.path / "s/run").chmod(0o700)
    (build.files.path / "s/d").chmod(0o700)
    (layer,) = build("FROM scratch\nARG M=u=rwX,go=rX\nCOPY --chmod=$M s <<doc /s/\nx\ndoc\n").layers
    found = {name: entry.mode for name, entry in members(layer).items() if name != "s"}
    assert found == {"s/run": 0o755, "s/d": 0o755, "s/d/f": 0o644, "s/doc": 0o644}


def test_link_and_add_without_unpacking(build, tmp_path):
    build.write({"f": "1"})
    assert contents(build("FROM scratch\nCOPY --link --chmod=0700 f /a/b").layers[0]) == {"a/b": b"1"}
    import tarfile

    with tarfile.open(build.files.path / "x.tar", "w") as archive:
        archive.add(build.files.path / "f", "inside")
    assert names(build("FROM scratch\nADD --unpack=false x.tar /").layers[0]) == ["x.tar"]
    assert names(build("FROM scratch\nADD --unpack=true x.tar /").layers[0]) == ["inside"]


def test_a_health_check_of_the_image(build):
    image = build("FROM scratch\nHEALTHCHECK --interval=1m --retries=2 CMD a $b")
    assert image.config.healthcheck == pylxc.Healthcheck(test=("CMD-SHELL", "a $b"), interval=60, retries=2)
    build.engine.store  # noqa: B018  the image is read back
    assert build("FROM scratch\nHEALTHCHECK NONE").config.healthcheck.test == ("NONE",)


def test_what_a_base_image_has_waiting_is_carried_out(build):
    build.write({"f": "1"})
    base = build("FROM scratch\nENV A=1\nONBUILD ENV B=$A\nONBUILD COPY <<x f /on/\n$B\nx\n", tag="base:1")
    assert (base.config.onbuild, base.layers) == (("ENV B=$A", "COPY <<x f /on/\n$B\nx"), ())
    child = build("FROM base:1\nENV C=$B")
    assert [child.config.env[name] for name in "ABC"] == ["1", "1", "1"]
    assert child.config.onbuild == ()
    assert contents(child.layers[0]) == {"on/f": b"1", "on/x": b"1\n"}
    assert build.events[-1].total == 4


def test_a_command_without_a_network(on_busybox):
    on_busybox("FROM busybox\nRUN --network=none ls /sys/class/net; cat /proc/net/route | wc -l")
    assert on_busybox.output().split() == ["lo", "1"]
    with pytest.raises(pylxc.SpecError, match="line 2 asks for RUN --network=host"):
        on_busybox("FROM busybox\nRUN --network=host true", network="none")


def test_arguments_and_the_environment(on_busybox):
    on_busybox(
        "ARG G=g\nFROM busybox\nENV A=e B=e\nARG A=a G C=$B\nENV B=later\nRUN echo $A $B $C $G", args={"C": "given"}
    )
    assert on_busybox.output() == "a later given g\n"


def test_mistakes_late_in_the_file_show_before_anything_runs(on_busybox):
    with pytest.raises(pylxc.DockerfileError, match="'\\$NONE' expands to nothing"):
        on_busybox("FROM busybox\nRUN echo ran\nUSER $NONE")
    assert on_busybox.events == []
