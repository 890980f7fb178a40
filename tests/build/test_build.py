"""Builds end to end: every instruction, the configuration that comes of it, and what a container made from it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from building import Builder, Files, contents, members, names

import pylxc
from pylxc.imageconfig import DEFAULT_PATH as PATH


def run(image, command=None, **options):
    return pylxc.run(image, command, engine=image._engine, **options)


def document(image):
    """Return the image's configuration as it lies on disk."""
    digits = image.id.removeprefix("sha256:")
    return json.loads((image._engine.root / "oci/blobs/sha256" / digits).read_bytes())


EVERYTHING = r"""# syntax=docker/dockerfile:1
# every instruction there is
ARG BASE=nothing
FROM ${BASE} AS final
ARG GREETING="hello there"
ENV A=1 B="two words" \
    # a comment between continued lines
    C=$A-x
ENV OLD the older form
LABEL org.example.name="a b" plain=yes
WORKDIR /srv
WORKDIR data
COPY one.txt .
ADD two.txt /srv/
RUN echo "$GREETING|$A|$B|$C|$OLD|$PWD|$(id -u)" \
    > /srv/shell; \
    echo done
RUN ["/bin/sh", "-c", "printf %s \"$B\" > /srv/exec"]
SHELL ["/bin/sh", "-e", "-c"]
RUN echo $- > /srv/flags
USER nobody
RUN id -un > /tmp/who && pwd >> /tmp/who
EXPOSE 80 53/udp 8000-8002
VOLUME /data other
VOLUME ["/more"]
STOPSIGNAL SIGQUIT
ENTRYPOINT ["cat"]
CMD ["/srv/shell"]
"""


def test_every_instruction(on_busybox):
    on_busybox.write({"one.txt": "1\n", "two.txt": "2\n"})
    image = on_busybox(EVERYTHING, args={"BASE": "busybox"}, tag=["all:1", "all:latest"])
    assert image.refs == ("all:1", "all:latest")
    config = image.config
    assert config.env == {"PATH": PATH, "A": "1", "B": "two words", "C": "-x", "OLD": "the older form"}
    assert config.labels == {"org.example.name": "a b", "plain": "yes"}
    assert (config.workdir, config.user, config.stop_signal) == ("/srv/data", "nobody", "SIGQUIT")
    assert config.exposed_ports == ("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")
    assert set(config.volumes) == {"/data", "other", "/more"}
    assert (config.entrypoint, config.cmd) == (("cat",), ("/srv/shell",))
    assert config.shell == ("/bin/sh", "-e", "-c")
    assert run(image).text == "hello there|1|two words|-x|the older form|/srv/data|0\n"
    assert run(image, ["/srv/exec", "/tmp/who", "/srv/data/one.txt", "/srv/two.txt"]).text == (
        "two wordsnobody\n/srv/data\n1\n2\n"
    )
    assert "e" in run(image, ["/srv/flags"]).text  # of "sh -e"


def test_configuration_on_disk_is_exact(on_busybox):
    image = on_busybox(
        "FROM busybox\nENV A=1\nLABEL l=v\nEXPOSE 80\nVOLUME /d\nUSER 7:8\nWORKDIR /tmp\n"
        'STOPSIGNAL 9\nSHELL ["/bin/sh","-c"]\nENTRYPOINT true\nCMD ["x"]\n'
    )
    found = document(image)
    assert found["config"] == {
        "Env": [f"PATH={PATH}", "A=1"],
        "Labels": {"l": "v"},
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/d": {}},
        "User": "7:8",
        "WorkingDir": "/tmp",
        "StopSignal": "9",
        "Shell": ["/bin/sh", "-c"],
        "Entrypoint": ["/bin/sh", "-c", "true"],
        "Cmd": ["x"],
        "ArgsEscaped": True,
    }
    assert found["os"] == "linux"
    assert found["rootfs"] == {"type": "layers", "diff_ids": [layer.digest for layer in image.layers]}
    steps = [(entry["created_by"], entry.get("empty_layer", False)) for entry in found["history"][1:]]
    assert steps == [
        ("ENV A=1", True),
        ("LABEL l=v", True),
        ("EXPOSE [80/tcp]", True),
        ("VOLUME [/d]", True),
        ("USER 7:8", True),
        ("WORKDIR /tmp", False),
        ("STOPSIGNAL 9", True),
        ("SHELL [/bin/sh -c]", True),
        ('ENTRYPOINT ["/bin/sh" "-c" "true"]', True),
        ('CMD ["x"]', True),
    ]
    filled = [entry for entry in found["history"] if not entry.get("empty_layer")]
    assert len(filled) == len(image.layers)
    assert [entry.created_by for entry in image.history()] == [entry["created_by"] for entry in found["history"]]


def test_config_of_the_base_is_inherited_and_overridden(on_busybox):
    text = 'FROM busybox\nENV A=1 P=$PATH\nUSER nobody\nENTRYPOINT ["echo"]\nCMD ["base"]\nLABEL a=1 b=1'
    on_busybox(text, tag="base")
    image = on_busybox("FROM base\nENV A=2 B=$A\nLABEL b=2\nUSER root\nRUN echo $A $B > /out")
    assert (image.config.env["A"], image.config.env["B"]) == ("2", "1")
    assert image.config.env["P"].endswith("/usr/bin:/sbin:/bin")
    assert image.config.labels == {"a": "1", "b": "2"}
    assert (image.config.entrypoint, image.config.cmd) == (("echo",), ("base",))
    assert run(image, entrypoint=["cat", "/out"], command=[]).text == "2 1\n"
    assert on_busybox('FROM base\nENTRYPOINT ["cat"]').config.cmd is None  # the base's CMD was for its entry point


def test_arg_scopes(on_busybox):
    show = "\nRUN echo [$V]\n"
    text = f"ARG V=outer\nFROM busybox{show}ARG V{show}ARG V=inner{show}ENV V=env{show}"
    image = on_busybox(text)
    assert on_busybox.output() == "[]\n[outer]\n[inner]\n[env]\n"
    assert image.config.env == {"PATH": PATH, "V": "env"}
    on_busybox(text, args={"V": "given"})
    assert on_busybox.output() == "[given]\n[given]\n"  # the first and the last are in the cache


def test_unused_argument_warns(on_busybox):
    on_busybox("FROM busybox\nRUN true", args={"NEVER": "1"})
    assert [event.instruction for event in on_busybox.events if event.kind == "warning"] == [
        "build argument 'NEVER' has no effect: no ARG declares it"
    ]


def test_scratch_with_nothing_is_the_empty_image(build):
    image = build("FROM scratch\nLABEL only=this")
    assert (image.layers, image.config.labels) == ((), {"only": "this"})


def test_scratch_with_one_static_program(build, busybox_root):
    build.write({"bb": (busybox_root / "bin/busybox").read_bytes()})
    image = build('FROM scratch\nCOPY --chmod=755 bb /bin/busybox\nENTRYPOINT ["/bin/busybox"]\nCMD ["echo", "alone"]')
    assert names(image.layers[0]) == ["bin", "bin/busybox"]
    assert run(image).text == "alone\n"
    # The directories that a container needs for its mounts are there, and not the image's.
    assert run(image, ["ls", "/"]).text.split() == ["bin", "dev", "etc", "proc", "sys"]


def test_crlf_tabs_and_the_other_escape(on_busybox):
    image = on_busybox('# escape=`\r\nfrom busybox\r\n\trun echo a `\r\n\r\n  b > /out\r\ncmd ["cat", "/out"]\r\n')
    assert run(image).text == "a b\n"


def test_dockerfile_elsewhere_and_ignored_files(on_busybox, tmp_path):
    path = on_busybox.write(
        {".dockerignore": "*.log\n!keep.log\nsecret/\n", "a.log": "a", "keep.log": "k", "secret/key": "s", "x/y": "y"}
    )
    other = tmp_path / "Other.Dockerfile"
    other.write_text("FROM busybox\nCOPY . /all/\nRUN cd /all && find . -type f | sort")
    events = []
    pylxc.Image.build(path, other, engine=on_busybox.engine, on_event=events.append)
    output = b"".join(event.data for event in events).decode()
    assert output.split() == ["./.dockerignore", "./keep.log", "./x/y"]


def test_run_has_a_clean_world(on_busybox):
    """A step sees neither the builder's environment nor its descriptors, and an empty standard input."""
    look = "env | sort; ls /proc/self/fd | wc -l; cat; hostname; umask; grep CapEff /proc/self/status"
    on_busybox(f"FROM busybox\nRUN {look}")
    lines = on_busybox.output().splitlines()
    names_ = {line.split("=")[0] for line in lines if "=" in line}
    assert names_ == {"HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"}
    assert lines[-4:] == ["4", "build", "0022", "CapEff:\t00000000a80425fb"]


def test_network_none(on_busybox):
    on_busybox("FROM busybox\nRUN ls /sys/class/net; cat /proc/net/dev", network="none")
    assert on_busybox.output().split()[0] == "lo"
    assert "eth0" not in on_busybox.output()


def test_run_without_output_streams_its_events(on_busybox):
    on_busybox("FROM busybox\nRUN echo out; echo err >&2")
    kinds = [(event.kind, event.step, event.total) for event in on_busybox.events if event.kind != "output"]
    assert kinds == [("step", 1, 2), ("done", 1, 2), ("step", 2, 2), ("done", 2, 2)]
    output = {event.stream: event.data for event in on_busybox.events if event.kind == "output"}
    assert output == {"stdout": b"out\n", "stderr": b"err\n"}


def test_background_process_of_a_run_ends_with_it(on_busybox):
    image = on_busybox("FROM busybox\nRUN sleep 1000 & echo started")
    assert on_busybox.output() == "started\n"
    assert len(image.layers) == 2


@pytest.mark.parametrize("user", ["nobody", "65534", "nobody:nogroup", "65534:65534"])
def test_user_of_a_run(on_busybox, user):
    image = on_busybox(f"FROM busybox\nUSER {user}\nRUN echo mine > /tmp/file")
    entry = members(image.layers[1])["tmp/file"]
    assert (entry.uid, entry.gid) == (65534, 65534)


def test_user_of_its_own_id(on_busybox):
    image = on_busybox("FROM busybox\nUSER 1234:77\nRUN touch /tmp/file\nUSER 9\nRUN touch /tmp/other")
    assert (members(image.layers[1])["tmp/file"].uid, members(image.layers[1])["tmp/file"].gid) == (1234, 77)
    assert (members(image.layers[2])["tmp/other"].uid, members(image.layers[2])["tmp/other"].gid) == (9, 0)


# -- on the host image


@pytest.mark.root
def test_build_on_the_host(build):
    build.write({"greet": "#!/bin/sh\nexec cat /usr/share/greeting\n"})
    image = build(
        "FROM host\nRUN echo from the image > /usr/share/greeting && mkdir -p /usr/local/lib/mine\n"
        'COPY --chmod=755 greet /usr/local/bin/greet\nRUN greet\nCMD ["greet"]'
    )
    assert build.output() == "from the image\n"
    assert run(image).text == "from the image\n"
    assert names(image.layers[1]) == [
        "usr",
        "usr/local",
        "usr/local/lib",
        "usr/local/lib/mine",
        "usr/share",
        "usr/share/greeting",
    ]
    assert names(image.layers[2]) == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/greet"]
    # The machine's own /usr has neither.
    assert not Path("/usr/local/bin/greet").exists()
    assert not Path("/usr/share/greeting").exists()


@pytest.mark.root
def test_a_removal_in_the_hosts_usr(build):
    image = build("FROM host\nRUN rm -rf /usr/share/doc && mkdir /usr/share/doc && echo new > /usr/share/doc/only")
    assert run(image, ["ls", "/usr/share/doc"]).text == "only\n"
    again = build("FROM host\nRUN rm -rf /usr/share/doc\nRUN test ! -e /usr/share/doc && echo gone")
    assert build.output() == "gone\n"
    assert "usr/share/.wh.doc" in names(again.layers[1])


# -- reproducibility


def test_copy_and_workdir_layers_are_the_same_in_every_store(build, tmp_path, busybox_root):
    files = {"a/b": "content", "bb": (busybox_root / "bin/busybox").read_bytes(), ".dockerignore": "Dockerfile"}
    build.write(files)
    copies = "COPY . /x/y/\nCOPY a/b /made/\nADD bb /bin/busybox\nCOPY a/b /etc/new/deep/"
    text = f"FROM scratch\nWORKDIR /made/here\n{copies}"
    first = build(text)
    other = Builder(build.files, pylxc.Engine(tmp_path / "other"))
    second = other(text)
    assert other.cached() == []
    assert [layer.digest for layer in first.layers] == [layer.digest for layer in second.layers]
    assert first.id == second.id


@pytest.mark.root
def test_copy_on_the_host_is_the_same_in_every_store(build, tmp_path):
    build.write({"a": "content"})
    text = "FROM host\nCOPY a /usr/local/lib/deep/er/\nCOPY a /etc/\nWORKDIR /usr/share/made"
    first = build(text)
    second = Builder(build.files, pylxc.Engine(tmp_path / "other"))(text)
    assert [layer.digest for layer in first.layers] == [layer.digest for layer in second.layers]


# -- several builders at once

_CHILD = """
import sys, pylxc
image = pylxc.Image.build(sys.argv[1], tag="both:1", engine=pylxc.Engine(sys.argv[2]))
print(image.id)
"""


def test_two_processes_build_one_dockerfile(on_busybox):
    text = "FROM busybox\nCOPY f /f\nRUN seq 1 20000 > /numbers\nRUN ls -l /\n"
    path = on_busybox.write({"Dockerfile": text, "f": "f"})
    root = str(on_busybox.engine.root)
    children = [
        subprocess.Popen([sys.executable, "-c", _CHILD, path, root], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    results = [(*child.communicate(timeout=60), child.returncode) for child in children]
    assert [code for _, _, code in results] == [0, 0], results
    ids = {out.decode().strip() for out, _, _ in results}
    image = pylxc.Image.get("both:1", engine=on_busybox.engine)
    assert image.id in ids
    assert run(image, ["tail", "-n", "1", "/numbers"]).text == "20000\n"
    assert contents(image.layers[1]) == {"f": b"f"}


def test_a_killed_builder_leaves_nothing(on_busybox):
    """kill -9 in the middle of a RUN: the container ends with it, and the next open clears the staging."""
    path = on_busybox.write({"Dockerfile": "FROM busybox\nCOPY f /f\nRUN echo ready; sleep 1000.123\n", "f": "f"})
    root = on_busybox.engine.root
    before = [image.id for image in pylxc.Image.list(engine=on_busybox.engine)]
    code = (
        "import sys, pylxc\n"
        "tell = lambda event: event.data and (sys.stdout.write(event.data.decode()), sys.stdout.flush())\n"
        "pylxc.Image.build(sys.argv[1], engine=pylxc.Engine(sys.argv[2]), on_event=tell)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, path, root], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        assert len(list((root / "staging").iterdir())) == 1
        child.kill()
    pylxc.Engine(root).store  # noqa: B018  opening sweeps
    assert list((root / "staging").iterdir()) == []
    assert list((root / "trash").iterdir()) == []
    assert [image.id for image in pylxc.Image.list(engine=on_busybox.engine)] == before


def test_context_is_left_as_it_was(on_busybox):
    path = on_busybox.write({"f": "f"})
    before = {p.name: p.stat().st_mtime_ns for p in path.iterdir()}
    on_busybox("FROM busybox\nCOPY . /c/\nRUN rm -rf /c")
    after = {p.name: p.stat().st_mtime_ns for p in path.iterdir() if p.name != "Dockerfile"}
    assert after == before


def test_relative_context(on_busybox, monkeypatch):
    path = on_busybox.write({"f": "here"})
    (path / "Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
    monkeypatch.chdir(path.parent)
    image = pylxc.Image.build("context", engine=on_busybox.engine)
    assert contents(image.layers[1]) == {"f": b"here"}


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_the_umask_of_the_builder_does_not_matter(tmp_path: Path, mask):
    """The store, too, is made under it."""
    files = Files(tmp_path / "context").write({"f": "f"})
    build = Builder(files, pylxc.Engine(tmp_path / "store"))
    before = os.umask(mask)
    try:
        image = build("FROM scratch\nCOPY f /etc/f\nWORKDIR /w/x\nCOPY f /n/e/w/")
    finally:
        os.umask(before)
    modes = [{name: entry.mode for name, entry in members(layer).items()} for layer in image.layers]
    assert modes == [
        {"etc": 0o755, "etc/f": 0o644},
        {"w": 0o755, "w/x": 0o755},
        {"n": 0o755, "n/e": 0o755, "n/e/w": 0o755, "n/e/w/f": 0o644},
    ]
