"""RUN with mounts of the context, of stages and images, and of memory; and what else a RUN may ask for."""

from __future__ import annotations

import os
import re
import tarfile

import pytest
from building import contents, members, names

import pylxc


def lines_of(build):
    return build.output().splitlines()


# -- the context


def test_the_context_is_there_for_the_step_only(on_busybox):
    on_busybox.write({"src/a": "A\n", "src/deep/b": "B\n", "c": "C\n"})
    image = on_busybox(
        "FROM busybox\nWORKDIR /w\nRUN --mount=target=/ctx cp -r /ctx/src /w && cat /ctx/c\n"
        "RUN --mount=type=bind,source=src,target=in ls /w/in\nRUN --mount=src=src/a,dst=/one cat /one\nRUN ls /",
    )
    assert lines_of(on_busybox)[:4] == ["C", "a", "deep", "A"]
    assert "ctx" not in on_busybox.output()
    assert contents(image.layers[2]) == {"w/src/a": b"A\n", "w/src/deep/b": b"B\n"}
    assert [names(layer) for layer in image.layers[3:]] == [[], [], []]


def test_what_the_ignore_file_keeps_out_is_not_there(on_busybox):
    on_busybox.write({".dockerignore": "secret\nd/*\n!d/in\n", "secret": "s", "d/in": "i", "d/out": "o"})
    on_busybox("FROM busybox\nRUN --mount=target=/ctx cd /ctx && find . | sort")
    assert lines_of(on_busybox) == [".", "./.dockerignore", "./Dockerfile", "./d", "./d/in"]
    with pytest.raises(pylxc.BuildError, match="excluded from the context"):
        on_busybox("FROM busybox\nRUN --mount=source=secret,target=/s cat /s")
    with pytest.raises(pylxc.BuildError, match=r"/\[s\]ecret: no file in the context matches"):
        on_busybox("FROM busybox\nRUN --mount=source=[s]ecret,target=/s cat /s")


def test_files_belong_to_root_and_keep_their_modes(on_busybox):
    path = on_busybox.write({"tool": "#!/bin/sh\necho ran\n", "d/f": "x"})
    (path / "tool").chmod(0o755)
    (path / "d").chmod(0o700)
    on_busybox("FROM busybox\nUSER nobody\nRUN --mount=target=/ctx stat -c '%n %u %g %a' /ctx /ctx/*; /ctx/tool")
    assert lines_of(on_busybox) == [
        "/ctx 0 0 755",
        "/ctx/Dockerfile 0 0 644",
        "/ctx/d 0 0 700",
        "/ctx/tool 0 0 755",
        "ran",
    ]


def test_it_is_read_only_and_with_rw_what_is_written_is_thrown_away(on_busybox):
    path = on_busybox.write({"f": "before\n"})
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox("FROM busybox\nRUN --mount=target=/ctx echo x > /ctx/f")
    assert b"Read-only file system" in caught.value.output
    step = "RUN --mount=target=/ctx,rw cat /ctx/f; echo after > /ctx/f; rm /ctx/Dockerfile; mkdir /ctx/new; cat /ctx/f"
    image = on_busybox(f"FROM busybox\n{step}\n{step}; true\nRUN --mount=target=/ctx cat /ctx/f; ls /ctx")
    assert lines_of(on_busybox) == ["before", "after", "before", "after", "before", "Dockerfile", "f"]
    assert (path / "f").read_text() == "before\n"
    assert [names(layer) for layer in image.layers[1:]] == [[], [], []]


def test_the_step_is_made_anew_when_what_it_sees_has_changed(on_busybox):
    on_busybox.write({"src/a": "1", "other": "1"})
    text = "FROM busybox\nRUN --mount=source=src,target=/in cat /in/a > /out"
    on_busybox(text)
    (on_busybox.files.path / "other").write_text("2")
    on_busybox(text)
    assert on_busybox.cached() == [2]
    (on_busybox.files.path / "src/a").write_text("2")
    image = on_busybox(text)
    assert on_busybox.cached() == []
    assert contents(image.layers[1]) == {"out": b"2"}
    (on_busybox.files.path / "src/a").chmod(0o600)
    on_busybox(text)
    assert on_busybox.cached() == []
    on_busybox(text.replace("/in", "/input"))
    assert on_busybox.cached() == []


def test_a_hostile_context_shows_nothing_of_the_host(on_busybox, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("canary")
    on_busybox.write({"link": f"-> {outside}", "up": "-> ../outside", "d/file": f"-> {outside}/canary"})
    for source in ("link", "up", "link/canary", "up/canary", "../outside", "../../outside/canary", "d/file"):
        with pytest.raises(pylxc.BuildError, match="no such file in the context"):
            on_busybox(f"FROM busybox\nRUN --mount=source={source},target=/x true")
    on_busybox(
        "FROM busybox\nRUN --mount=target=/x readlink /x/link; readlink /x/up; cat /x/link/canary /x/d/file 2>&1; true"
    )
    assert "can't open" in on_busybox.output()
    assert f"{outside}\n../outside\n" in on_busybox.output()
    assert (outside / "canary").read_text() == "canary"
    assert "canary: canary" not in on_busybox.output()


def test_a_link_within_the_context_is_followed(on_busybox):
    on_busybox.write({"real/a": "A\n", "link": "-> real", "absolute": "-> /real/a"})
    on_busybox("FROM busybox\nRUN --mount=source=link,target=/x cat /x/a\nRUN --mount=source=absolute,target=/x cat /x")
    assert on_busybox.output() == "A\nA\n"


# -- stages, images, named contexts


def test_from_a_stage(on_busybox):
    image = on_busybox(
        "FROM busybox AS made\nRUN mkdir /out && echo built > /out/f && ln -s out /link && ln -s / /root\n"
        "RUN chown 7:9 /out/f && chmod 640 /out/f\n"
        "FROM busybox\n"
        "RUN --mount=from=made,source=/out,target=/in cat /in/f && stat -c '%u %g %a' /in/f\n"
        "RUN --mount=from=0,source=/link/f,target=/one cat /one\n"
        "RUN --mount=from=made,source=/root/root/out,target=/in,rw echo x >> /in/f && cat /in/f\n"
        "RUN --mount=from=made,target=/all test -x /all/bin/busybox && cat /all/link/f"
    )
    assert on_busybox.output() == "built\n7 9 640\nbuilt\nbuilt\nx\nbuilt\n"
    assert [names(layer) for layer in image.layers[1:]] == [[], [], [], []]


def test_what_changes_in_a_stage_makes_the_step_anew(on_busybox):
    text = "FROM busybox AS made\nRUN echo {} > /f\nFROM busybox\nRUN --mount=from=made,source=/f,target=/g cp /g /h"
    on_busybox(text.format("one"))
    image = on_busybox(text.format("two"))
    assert contents(image.layers[1]) == {"h": b"two\n"}
    again = on_busybox(text.format("two").replace("made", "renamed"))
    assert again.id == image.id
    assert [event.step for event in on_busybox.events if event.kind == "cached"] == [2, 2]


def test_from_an_image_and_from_nothing(on_busybox, busybox_root):
    other = busybox_root.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "f").write_text("of the image\n")
    pylxc.Image.from_directory(other, "other:1", engine=on_busybox.engine)
    on_busybox(
        "FROM busybox\nRUN --mount=from=other:1,target=/in cat /in/f\n"
        "RUN --mount=from=scratch,target=/in,rw ls -A /in; echo x > /in/y; cat /in/y\n"
        "RUN --mount=from=scratch,target=/in ls -A /in; stat -c %a /in"
    )
    assert lines_of(on_busybox)[:2] == ["of the image", "x"]
    with pytest.raises(pylxc.ImageNotFound):
        on_busybox("FROM busybox\nRUN --mount=from=nowhere.invalid/x,target=/in true")


def test_from_a_named_context(on_busybox, tmp_path):
    (tmp_path / "named").mkdir()
    (tmp_path / "named/f").write_text("named\n")
    text = "FROM busybox\nRUN --mount=from=more,target=/in cat /in/f"
    on_busybox(text, contexts={"more": tmp_path / "named"})
    assert on_busybox.output() == "named\n"


def test_a_source_that_is_missing_or_leads_out_of_a_stage(on_busybox, tmp_path):
    (tmp_path / "canary").write_text("canary")
    text = f"FROM busybox AS made\nRUN ln -s {tmp_path}/canary /link\nFROM busybox\n"
    text += "RUN --mount=from=made,source={},target=/x cat /x"
    for source in ("/link", "/nowhere", f"../../..{tmp_path}/canary", "/proc/self/root/etc/hostname"):
        with pytest.raises(pylxc.BuildError) as caught:
            on_busybox(text.format(source))
        assert "mount: --mount=type=bind from=made," in str(caught.value)
        assert "canary\n" not in on_busybox.output()


def test_the_hosts_own_files_are_not_mounted(build):
    text = "FROM host AS h\nRUN mkdir /mine && echo mine > /mine/f\nFROM host\n"
    text += "RUN --mount=from=h,source={},target=/x cat /x/f"
    build(text.format("/mine"))
    assert build.output() == "mine\n"
    for source in ("/", "/usr", "/usr/lib"):
        with pytest.raises(pylxc.BuildError, match="name a directory that the image brings"):
            build(text.format(source))


# -- memory


def test_memory_with_a_size(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m stat -c %a /t && df -k /t | tail -n 1; echo x > /t/x\n"
        "RUN --mount=type=tmpfs,target=/t,size=64k ls -A /t; ! dd if=/dev/zero of=/t/x bs=1k count=65 2> /dev/null\n"
        "RUN --mount=type=tmpfs,target=/dev/shm,size=2m df -k /dev/shm | tail -n 1\n"
        "RUN --mount=type=tmpfs,target=/t,ro ! touch /t/x"
    )
    assert re.match(r"1777\ntmpfs +1024 ", on_busybox.output())
    assert "tmpfs                     2048" in on_busybox.output()
    assert [names(layer) for layer in image.layers[1:]] == [[], [], [], []]


# -- targets


def test_what_is_below_comes_on_top(on_busybox):
    on_busybox.write({"src/cache/x": "from the context\n"})
    on_busybox(
        "FROM busybox\n"
        "RUN --mount=type=tmpfs,target=/src/cache/deep --mount=type=cache,target=/src/cache "
        "--mount=source=src,target=/src ls -A /src/cache; touch /src/cache/kept\n"
        "RUN --mount=type=cache,target=/src/cache ls -A /src/cache"
    )
    assert lines_of(on_busybox) == ["deep", "deep", "kept"]


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("type=bind", "type=bind needs a target"),
        ("type=cache", "type=cache needs a target"),
        ("type=tmpfs", "type=tmpfs needs a target"),
        ("target=/", "is the root"),
        ("target=../..", "is the root"),
        ("target=$NOTHING", "type=bind needs a target"),
        ("type=tmpfs,target=/proc", "nothing can be mounted over /proc"),
        ("type=tmpfs,target=/x/../proc/sys", "nothing can be mounted over /proc"),
        ("type=cache,target=/x,source=y", "give that too"),
    ],
)
def test_targets_that_cannot_be(on_busybox, mount, reason):
    with pytest.raises(pylxc.DockerfileError, match=reason) as caught:
        on_busybox(f"FROM busybox\nRUN true\nRUN --mount={mount} true")
    assert (caught.value.line, caught.value.column) == (3, 13)
    assert on_busybox.events == []


def test_a_link_to_proc_is_not_mounted_over(on_busybox):
    with pytest.raises(pylxc.BuildError, match="Operation not permitted"):
        on_busybox("FROM busybox\nRUN ln -s /proc /p\nRUN --mount=type=tmpfs,target=/p/sys true")


def test_variables(on_busybox):
    on_busybox.write({"one/f": "1\n", "two/f": "2\n"})
    text = "FROM busybox\nARG D=one\nENV T=/in\nRUN --mount=source=$D,target=${T} cat $T/f"
    on_busybox(text)
    on_busybox(text, args={"D": "two"})
    assert on_busybox.output() == "2\n"


def test_nothing_of_a_mount_point_is_left(on_busybox):
    """Not of one that was missing, of one below what an earlier step removed, of one that the step fills around."""
    on_busybox.write({"f": "f"})
    image = on_busybox(
        "FROM busybox\nRUN mkdir -p /have/d && touch -d @1000000000 /have/d /have\n"
        "RUN --mount=type=cache,target=/have/d/a/b/c --mount=source=f,target=/have/file "
        "--mount=type=tmpfs,target=/new/t true\n"
        "RUN rm -r /have/d\n"
        "RUN --mount=type=cache,target=/have/d/e true\n"
        "RUN --mount=type=cache,target=/a/b/c touch /a/b/mine\n"
        "RUN --mount=type=cache,target=/home/u/.cache/x chown -R 7:7 /home/u && chmod 700 /home/u\n"
        "RUN --mount=type=tmpfs,target=/have/t touch /have/x && rm /have/x\n"
        "RUN --mount=type=tmpfs,target=/have/t chmod 700 /have\n"
        "RUN find / -xdev -name '.wh*'"
    )
    left = [names(layer) for layer in image.layers[2:]]
    assert left == [[], ["have", "have/.wh.d"], [], ["a", "a/b", "a/b/mine"], [], [], ["have"], []]
    assert members(image.layers[2 + 6])["have"].mode == 0o700
    assert on_busybox.output() == ""
    digests = {layer.digest for layer in image.layers if not names(layer)}
    assert len(digests) == 1, "a layer in which nothing is, is the same whatever was mounted"


def test_nothing_is_left_of_the_runtimes_own_files(on_busybox, busybox_root, tmp_path):
    """Where an image's /etc hides what lies below it, their mount points are made in the step's own layer."""
    with tarfile.open(tmp_path / "opaque.tar", "w") as archive:
        for name in ("bin", "etc"):
            archive.add(busybox_root / name, name)
        archive.addfile(tarfile.TarInfo("etc/.wh..wh..opq"))
    pylxc.Image.from_tar(tmp_path / "opaque.tar", "opaque", engine=on_busybox.engine)
    image = on_busybox("FROM opaque\nRUN ls /etc\nRUN echo > /etc/mine")
    assert on_busybox.output().split() == ["group", "hostname", "hosts", "passwd", "resolv.conf"]
    assert [names(layer) for layer in image.layers[1:]] == [[], ["etc", "etc/mine"]]


@pytest.mark.parametrize("kernel", ["this one's", "one without lowerdir+"])
def test_views_on_older_kernels(on_busybox, monkeypatch, kernel):
    if kernel != "this one's":
        monkeypatch.setattr("pylxc.engine.kernel_is", lambda *_: False)
    on_busybox.write({"f": "context\n"})
    on_busybox(
        "FROM busybox AS made\nRUN echo one > /f\nRUN echo two > /g\nFROM busybox\n"
        "RUN --mount=from=made,target=/m --mount=target=/c,rw cat /m/f /m/g /c/f; echo > /c/x; ! touch /m/x"
    )
    assert on_busybox.output().startswith("one\ntwo\ncontext\ntouch: /m/x: Read-only")


def test_a_step_cannot_lead_the_clearing_away_astray(on_busybox, tmp_path):
    """The way to a mount point becomes a link to the host's files, which look like what would be removed."""
    outside = tmp_path / "outside"
    (outside / "b/c").mkdir(parents=True)
    (outside / "e").touch()
    outside.chmod(0o777)
    (outside / "b").chmod(0o777)
    image = on_busybox(
        f"FROM busybox\nRUN --mount=type=tmpfs,target=/a/b/c --mount=type=secret,id=s,target=/d/e "
        f"mv /a /moved 2> /dev/null; ln -s {outside} /x; cp -r /a /y; true\n"
        f"RUN ln -s {outside} /a\nRUN --mount=type=tmpfs,target=/a/b/c true\n"
        f"RUN rm /a && mkdir /a && ln -s {outside}/b /a/b\nRUN --mount=type=tmpfs,target=/a/b/c true",
        secrets={"s": b"s"},
    )
    assert sorted(os.listdir(outside)) == ["b", "e"]
    assert os.listdir(outside / "b") == ["c"]
    assert "a" not in names(image.layers[1])


def test_the_way_is_exchanged_in_the_layer_before_it_is_cleared(tmp_path):
    from pylxc.build.stubs import Stubs
    from pylxc.layerview import LayerView

    lower, upper, outside = (tmp_path / name for name in ("lower", "upper", "outside"))
    (lower / "have").mkdir(parents=True)
    (outside / "b").mkdir(parents=True)
    upper.mkdir()
    view = LayerView([str(lower)])
    stubs = Stubs.of(view, ["/have/b/c", "/a/b"])
    assert stubs.missing == ("/a", "/a/b", "/have/b", "/have/b/c")
    assert stubs.ways == ("/have",)
    (upper / "a").symlink_to(outside)
    (upper / "have").symlink_to(outside)
    stubs.remove(str(upper), view)
    assert os.listdir(outside) == ["b"]
    assert sorted(os.listdir(upper)) == ["a", "have"]


# -- rights


def test_more_rights_only_where_the_caller_allows_them(on_busybox):
    text = "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status"
    with pytest.raises(pylxc.SpecError) as caught:
        on_busybox(text)
    assert caught.value.option == "allow"
    assert "line 2 asks for RUN --security=insecure" in str(caught.value)
    assert on_busybox.events == []
    with pytest.raises(pylxc.SpecError, match=r"security\.insecure"):
        on_busybox(text, allow="security.insecure")
    with pytest.raises(pylxc.SpecError, match="give a list"):
        on_busybox(text, allow=["everything"])
    on_busybox(text, allow=["security.insecure", "network.host"])
    insecure = int(on_busybox.output().split()[1], 16)
    on_busybox(text.replace("insecure", "sandbox"))
    assert on_busybox.cached() == []
    sandboxed = int(on_busybox.output().split()[1], 16)
    assert insecure & sandboxed == sandboxed != insecure
    assert insecure & 1 << 21, "CAP_SYS_ADMIN"


# -- a program of its own


def test_a_document_with_an_interpreter_is_run_by_it(on_busybox):
    image = on_busybox(
        'FROM busybox\nENV WHO=env\nRUN <<EOF\n#!/bin/sed s/^/>/\nfirst "$WHO" \\n\nEOF\n'
        "RUN <<-'EOT'\n\t#!/bin/sh -eu\n\techo $0 $WHO; exit 0\n\tEOT\nUSER nobody\nRUN <<EOF\n#!/bin/cat\nEOF"
    )
    assert on_busybox.output() == '>#!/bin/sed s/^/>/\n>first "$WHO" \\n\n/dev/pipes/EOT env\n#!/bin/cat\n'
    assert [names(layer) for layer in image.layers[1:]] == [[], [], []]
    assert [line.created_by for line in image.history()][-1] == "RUN /dev/pipes/EOF"


def test_the_document_is_part_of_the_key(on_busybox):
    text = "FROM busybox\nRUN <<EOF\n#!/bin/sh\necho {} > /f\nEOF"
    on_busybox(text.format(1))
    on_busybox(text.format(1))
    assert on_busybox.cached() == [2]
    assert contents(on_busybox(text.format(2)).layers[1]) == {"f": b"2\n"}


def test_a_documents_name_is_no_path(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN <<../../../bin/x\n#!/bin/sh\necho $0\n../../../bin/x\nRUN <<..\n#!/bin/sh\necho $0\n.."
    )
    assert on_busybox.output() == "/dev/pipes/x\n/dev/pipes/script\n"
    assert [names(layer) for layer in image.layers[1:]] == [[], []]


def test_an_interpreter_that_is_not_there(on_busybox):
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox("FROM busybox\nRUN <<EOF\n#!/nowhere\nEOF")
    assert caught.value.exit_code == 127
