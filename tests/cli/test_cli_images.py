"""The verbs about images: ``build images tag rmi import inspect``."""

import io
import json
import subprocess
import tarfile

import pytest


@pytest.fixture
def context(tmp_path):
    """A build context on the host image."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        "FROM host\nARG WHAT=nothing\nRUN echo building $WHAT && echo $WHAT > /made\n"
        'LABEL tier=web\nEXPOSE 6379\nCMD ["cat", "/made"]\n'
    )
    return directory


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"hi"))
    return out.getvalue()


def test_build_shows_its_steps_and_makes_an_image_that_runs(cli, context):
    done = cli("build", "-t", "made:1", "-t", "made:2", "--build-arg", "WHAT=something", context)
    lines = done.stderr.decode().splitlines()
    assert any("FROM host" in line for line in lines)
    assert any(line.endswith(" building something") for line in lines)
    assert any(" DONE " in line for line in lines)
    assert cli.text("run", "--rm", "made:2") == "something\n"
    again = cli("build", "-t", "made:1", "--build-arg", "WHAT=something", context).stderr
    assert b"CACHED" in again
    assert b"building something" not in again.replace(b"RUN echo building", b"")


def test_quiet_prints_the_id_alone(cli, context):
    done = cli("build", "-q", "-t", "made", context)
    assert done.stderr == b""
    identity = done.stdout.decode().strip()
    assert identity.startswith("sha256:")
    assert cli.text("images", "-q", "--no-trunc", "made").strip() == identity
    assert cli.text("run", "--rm", identity[7:19]) == "nothing\n"


def test_a_dockerfile_elsewhere(cli, context, tmp_path):
    (tmp_path / "Other").write_text("FROM host\nCMD echo other\n")
    cli("build", "-t", "other", "-f", tmp_path / "Other", context)
    assert cli.text("run", "--rm", "other") == "other\n"


STAGES = """
FROM host AS tool
RUN mkdir /out && echo from-tool > /out/f && ln /out/f /out/g && echo working
FROM scratch AS files
COPY --from=tool /out /
COPY --from=more more.txt /
FROM host
COPY --from=files / /files/
RUN cat /files/f
"""


@pytest.fixture
def stages(context, tmp_path):
    """A context with several stages, and another one beside it, "more"."""
    (context / "Dockerfile").write_text(STAGES)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/more.txt").write_text("more")
    return context


def test_stages_are_told_apart(cli, stages, tmp_path):
    done = cli("build", "-t", "made", "--build-context", f"more={tmp_path}/more", stages)
    lines = done.stderr.decode().splitlines()
    steps = [line for line in lines if "] " in line and line.startswith("#")]
    assert sorted(line.split("] ")[0].split("[")[1] for line in steps) == [
        *("files 1/3", "files 2/3", "files 3/3"),
        *("stage-2 1/3", "stage-2 2/3", "stage-2 3/3"),
        *("tool 1/2", "tool 2/2"),
    ]
    numbers = [line.split()[0] for line in steps]
    assert len(set(numbers)) == 8
    of_tool = next(line.split()[0] for line in steps if "mkdir /out" in line)
    assert any(line.startswith(f"{of_tool} ") and line.endswith(" working") for line in lines)


def test_a_target_into_a_directory_and_to_the_standard_output(cli, stages, tmp_path):
    options = ("--build-context", f"more={tmp_path}/more", "--target", "files")
    cli("build", *options, "-o", tmp_path / "out", stages)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "f": "from-tool\n",
        "g": "from-tool\n",
        "more.txt": "more",
    }
    done = cli("build", "--progress=plain", *options, "-o", "-", stages)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == ["f", "g", "more.txt"]
    done = cli("build", *options, "-o", "type=oci,dest=-", stages)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert "oci-layout" in tar.getnames()


def test_outputs_and_contexts_that_cannot_be(cli, stages, tmp_path):
    assert "NAME=directory" in cli.error("build", "--build-context", "more", stages, status=1)
    assert "no such stage" in cli.error("build", "--target", "nowhere", stages, status=1)
    assert "TYPE" in cli.error("build", "-o", "type=nonsense,dest=x", stages, status=1)
    more = ("--build-context", f"more={tmp_path}/more")
    assert "this machine's own files" in cli.error("build", *more, "-o", tmp_path / "out", stages, status=1)
    assert not (tmp_path / "out").exists()


def test_a_build_for_another_platform(cli, context):
    (context / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY Dockerfile /\n")
    cli("build", "-q", "--platform", "linux/s390x", "-t", "made", context)
    (found,) = json.loads(cli("inspect", "made").stdout)
    assert (found["Architecture"], found["Config"]["Labels"]) == ("s390x", {"for": "s390x"})
    assert "platform='a b'" in cli.error("build", "--platform", "a b", context, status=1)


def test_checks_without_a_build(cli, context):
    (context / "Dockerfile").write_text("FROM host AS Base\nWORKDIR x\nCMD echo\n")
    done = cli("build", "--check", "-t", "made", context, status=1)
    lines = done.stdout.decode().splitlines()
    assert [line.partition(": ")[0] for line in lines[::2]] == ["Dockerfile:1:14", "Dockerfile:2:9", "Dockerfile:3:1"]
    assert lines[1] == "  https://docs.docker.com/reference/build-checks/stage-name-casing/"
    assert done.stderr.decode() == "Check complete, 3 warnings have been found.\n"
    (context / "Dockerfile").write_text("FROM host\n")
    assert cli("build", "--check", context).stdout == b""
    assert "made" not in cli.text("images")


def test_a_shell_where_a_build_failed(cli, context):
    (context / "Dockerfile").write_text("FROM host\nENV A=set\nRUN echo half >/half && exit 3\n")
    script = b"cat /half; echo $A; exit 5\n"
    done = cli("build", "--on-error=shell", context, status=1, stdin=script)
    assert done.stdout == b"half\nset\n"
    assert done.stderr.count(b"exited with 3") == 2
    assert b"a shell where it failed" in done.stderr
    assert cli.text("ps", "-aq") == ""
    assert len(cli.text("images", "-aq").split()) <= 1
    (context / "Dockerfile").write_text("FROM host\nCOPY nothing /\n")
    done = cli("build", "--on-error=shell", context, status=1, stdin=script)
    assert b"a shell where it failed" not in done.stderr


@pytest.mark.parametrize(
    ("dockerfile", "named"),
    [
        ("FROM host\nRUN exit 3\n", "RUN exit 3"),
        ("FROM host\nRUM true\n", "Dockerfile:2:1"),
        ("FROM no-such-image:1\n", "no-such-image"),
        ("", "Dockerfile"),
    ],
)
def test_a_build_that_fails_is_explained_and_leaves_no_image(cli, context, dockerfile, named):
    (context / "Dockerfile").write_text(dockerfile)
    done = cli("build", "-t", "made", context, status=1)
    assert named in done.stderr.decode().partition("pylxc: ")[2]
    assert "made" not in cli.text("images")


def test_a_context_that_is_not_there(cli, tmp_path):
    assert "nowhere" in cli.error("build", tmp_path / "nowhere", status=1)
    assert "is empty: give a tar archive" in cli.error("build", "-", status=1)
    assert "standard input cannot be both" in cli.error("build", "-f", "-", "-", status=2)


def test_labels_of_a_build(cli, context):
    cli("build", "-q", "-t", "labelled", "--label", "tier=db", "--label=empty=", context)
    (found,) = json.loads(cli.text("inspect", "labelled"))
    assert {"tier": "db", "empty": ""}.items() <= found["Config"]["Labels"].items()


def test_a_build_from_standard_input(cli, context):
    """A Dockerfile without files, a Dockerfile for a directory, and a tar archive, as docker takes them."""
    (context / "given").write_text("given")
    alone = b"FROM scratch\nLABEL a=alone\n"
    cli("build", "-t", "alone", "-", stdin=alone)
    cli("build", "-t", "beside", "-f", "-", context, stdin=b"FROM scratch\nCOPY given /\nLABEL a=beside\n")
    (context / "Other").write_text("FROM scratch\nCOPY given /other\nLABEL a=archive\n")
    archive = subprocess.run(["tar", "cz", "-C", context, "."], check=True, capture_output=True, timeout=60).stdout
    cli("build", "-t", "archive", "-f", "Other", "-", stdin=archive)
    for name in ("alone", "beside", "archive"):
        (found,) = json.loads(cli.text("inspect", name))
        assert found["Config"]["Labels"] == {"a": name}
    assert "FROM" in cli.error("build", "--check", "-", status=1, stdin=b"RUN true\n")


def test_images_tag_and_rmi(cli, tmp_path):
    (tmp_path / "a.tar").write_bytes(archive())
    identity = cli.text("import", tmp_path / "a.tar", "one:1").strip()
    cli("tag", "one:1", "localhost:5000/two")
    rows = [json.loads(line) for line in cli.text("images", "--format", "json").splitlines()]
    found = {(row["Repository"], row["Tag"]) for row in rows if row["ID"] == identity.removeprefix("sha256:")[:12]}
    assert found == {("one", "1"), ("localhost:5000/two", "latest")}
    head = cli.text("images").splitlines()[0]
    assert head.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert cli.text("rmi", "one:1") == "Untagged: one:1\n"
    assert f"Deleted: {identity}" in cli.text("rmi", "localhost:5000/two")
    assert "one:1" in cli.error("rmi", "one:1", status=1)
    assert cli.text("rmi", "-f", "one:1") == ""


@pytest.fixture
def known(cli, tmp_path):
    """The id of an image called "bb:1" and "prod:live"."""
    (tmp_path / "a.tar").write_bytes(archive())
    identity = cli.text("import", tmp_path / "a.tar", "bb:1").strip()
    cli("tag", "bb:1", "prod:live")
    return identity


@pytest.mark.parametrize("name", ["bb:1", "docker.io/library/bb:1", "index.docker.io/bb:1", "library/bb:1"])
@pytest.mark.parametrize("flags", [(), ("-f",)])
def test_a_name_in_full_is_that_name(cli, known, name, flags):
    assert cli.text("rmi", *flags, name) == "Untagged: bb:1\n"
    assert cli.text("rmi", *flags, "docker.io/prod:live") == f"Untagged: prod:live\nDeleted: {known}\n"


def test_what_is_neither_a_tag_nor_an_id_removes_no_tag(cli, known):
    digest = json.loads(cli.text("images", "--format=json", "bb"))["Digest"]
    for name in ("bb:1@{0}", "bb:1@{1}"):
        assert "give a tag or an id" in cli.error("rmi", "-f", name, status=1)
    assert "has several names" in cli.error("rmi", "-f", f"bb@{digest}", status=1)
    assert "has several names" in cli.error("rmi", known, status=1)
    cli("rmi", "bb:1")
    assert "also called prod:live" in cli.error("rmi", "-f", f"bb@{digest}", status=1)
    cli("tag", known, "bb:1")
    assert cli.text("rmi", "-f", known[7:19]) == f"Untagged: bb:1\nUntagged: prod:live\nDeleted: {known}\n"


@pytest.mark.parametrize("name", ["bb", "bb:1", "docker.io/library/bb", "library/bb:1", "b*", "docker.io/*/bb:?"])
def test_images_of_one_name(cli, known, name):
    for words in ((name,), ("-f", f"reference={name}")):
        rows = [json.loads(line) for line in cli.text("images", "--format=json", "--no-trunc", *words).splitlines()]
        assert {row["ID"] for row in rows} == {known}
    assert [row["Tag"] for row in map(json.loads, cli.text("images", "--format=json", name).splitlines())] == ["1"]
    assert cli.text("images", "-q", "b") == ""


def test_removal_at_the_same_time(cli, known):
    cli("rmi", "prod:live")
    running = [cli.start("rmi", "-f", "bb:1", stderr=subprocess.PIPE) for _ in range(6)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in running] == [(b"", 0)] * 6
    assert cli.text("images", "-q") == ""


def test_images_before_and_since_another(cli):
    for number, name in enumerate(("one", "two", "three")):
        cli.environment["SOURCE_DATE_EPOCH"] = str(1000 + number)
        cli("import", "-", name, stdin=archive())
    for words, names in (
        (("before=two",), ["one"]),
        (("since=two",), ["three"]),
        (("since=one", "before=three"), ["two"]),
    ):
        flags = [word for text in words for word in ("-f", text)]
        rows = [json.loads(line) for line in cli.text("images", "--format=json", *flags).splitlines()]
        assert [row["Repository"] for row in rows] == names
    assert "nowhere" in cli.error("images", "-f", "before=nowhere", status=1)


def test_import_from_standard_input_without_a_name(cli):
    identity = cli("import", "-", stdin=archive()).stdout.decode().strip()
    (image,) = json.loads(cli.text("inspect", identity))
    assert (image["Id"], image["RepoTags"]) == (identity, [])
    assert any("<none>" in line for line in cli.text("images").splitlines())
    assert cli.text("images", "-q", "-f", "dangling=true").strip() == identity[7:19]


def test_import_of_what_is_no_archive(cli, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"this is no archive" * 100)
    cli.error("import", tmp_path / "a.tar", "bad", status=1)
    assert "bad" not in cli.text("images")
    assert "nowhere" in cli.error("import", tmp_path / "nowhere", status=1)


def test_inspect_of_an_image(cli, context):
    cli("build", "-q", "-t", "made", context)
    (image,) = json.loads(cli.text("inspect", "--type", "image", "made"))
    assert image["Config"]["Labels"]["tier"] == "web"
    assert image["Config"]["ExposedPorts"] == {"6379/tcp": {}}
    assert image["Config"]["Cmd"] == ["cat", "/made"]
    assert image["RepoDigests"] == [f"made@{json.loads(cli.text('images', '--format=json', 'made'))['Digest']}"]
    assert (image["Author"], image["Comment"]) == ("", "buildkit.dockerfile.v0")


def test_an_image_in_use_is_not_removed(cli, context):
    cli("build", "-q", "-t", "made", context)
    cli("run", "--name", "user", "made")
    identity = cli.text("images", "-q", "--no-trunc", "made").strip()
    assert "user" in cli.error("rmi", "made", status=1)
    assert "user" in cli.error("rmi", "-f", identity, status=1)
    assert cli.text("rmi", "-f", "made") == "Untagged: made:latest\n"
    assert cli.text("images", "-q", "--no-trunc", "-f", "dangling=true").strip() == identity
    cli("rm", "user")
    cli("rmi", identity)
