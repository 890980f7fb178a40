"""The verbs that carry images as archives, and those about what was before: ``save load history log rollback``."""

import io
import json
import signal
import subprocess
import sys
import tarfile

import pytest


def layer(text: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return out.getvalue()


@pytest.fixture
def images(cli):
    """Two images: one called ``app:1`` and ``app:one``, one called ``other:1``."""
    ids = [cli("import", "-", ref, stdin=layer(ref.encode())).stdout.decode().strip() for ref in ("app:1", "other:1")]
    cli("tag", "app:1", "app:one")
    return ids


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}


def test_saved_to_a_stream_and_loaded_from_one(cli, images):
    data = cli("save", "app:1", "other:1").stdout
    assert [entry["RepoTags"] for entry in json.loads(members(data)["manifest.json"])] == [["app:1"], ["other:1"]]
    cli("rmi", "-f", "app:1", "app:one", "other:1")
    assert cli("load", stdin=data).stdout.decode().splitlines() == ["Loaded image: app:1", "Loaded image: other:1"]
    assert set(cli.text("images", "-q", "--no-trunc").split()) == set(images)
    assert cli("load", "-q", stdin=data).stdout.decode().split() == images


def test_saved_by_a_name_in_full(cli, images):
    data = cli("save", "docker.io/library/app:1").stdout
    assert [entry["RepoTags"] for entry in json.loads(members(data)["manifest.json"])] == [["app:1"]]


def test_files_ids_and_formats(cli, images, tmp_path):
    cli("save", "-o", tmp_path / "a.tar", "--format", "oci", images[0][7:19])
    assert "manifest.json" not in members((tmp_path / "a.tar").read_bytes())
    cli("rmi", "-f", images[0])
    assert cli.text("load", "-i", tmp_path / "a.tar") == f"Loaded image ID: {images[0]}\n"
    assert "linux/s390x" in cli.error("load", "-i", tmp_path / "a.tar", "--platform", "linux/s390x", status=1)
    assert "is no tar archive" in cli.error("load", stdin=b"text", status=1)
    assert "absent" in cli.error("load", "-i", tmp_path / "absent", status=1)
    assert "absent" in cli.error("save", "absent", status=1)
    assert not (tmp_path / "b.tar").exists()


def test_loaded_are_the_tags_of_the_archive(cli, images):
    """Whatever else the image is called here."""
    assert cli("load", stdin=cli("save", "app:one").stdout).stdout == b"Loaded image: app:one\n"
    assert cli("load", stdin=cli("save", images[0]).stdout).stdout.decode() == f"Loaded image ID: {images[0]}\n"


def test_history(cli, images):
    (step,) = [json.loads(line) for line in cli.text("history", "--format", "json", "app:1").splitlines()]
    assert (step["ID"], step["CreatedBy"], step["Size"]) == (images[0][7:19], "import of <stdin>", "2.56kB")
    head = cli.text("history", "app:1").splitlines()[0]
    assert head.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert cli.text("history", "-q", "--no-trunc", "app:1").strip() == images[0]


def test_log_and_rollback(cli, images):
    cli("tag", "other:1", "app:1")
    moves = [json.loads(line) for line in cli.text("log", "--no-trunc", "--format", "json", "app:1").splitlines()]
    assert [(move["Ref"], move["ID"], move["Before"]) for move in moves] == [
        ("app:1@{0}", images[1], images[0]),
        ("app:1@{1}", images[0], "<none>"),
    ]
    assert cli.text("rollback", "app:1").strip() == images[0]
    assert cli.text("images", "-q", "--no-trunc", "app:1").strip() == images[0]
    assert cli.text("rollback", "app:1", 2).strip() == images[0]
    assert cli.text("rollback", "app:1", 1).strip() == images[1]
    assert "has not moved so often" in cli.error("rollback", "app:1", 9, status=1)
    cli.error("rollback", "app:1", 0, status=2)
    assert "no image named 'none:1'" in cli.error("log", "none:1", status=1)
    assert "plain" in cli.error("log", "app:1@{1}", status=1)


HELD = """
import sys, threading
from pylxc.cli import command
from pylxc.exchange import {module}

def hold(*_):
    print("held", flush=True)
    threading.Event().wait(60)

{module}.{name} = hold
sys.exit(command())
"""
STEPS = {"save": "_copy", "load": "_take_layers"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("verb", ["save", "load"])
def test_a_signal_leaves_no_part_of_an_archive(cli, images, tmp_path, verb, number):
    place = tmp_path / "place"
    place.mkdir()
    cli("save", "-o", tmp_path / "whole.tar", "app:1")
    words = ("-o", place / "a.tar", "app:1") if verb == "save" else ("-i", tmp_path / "whole.tar")
    program = HELD.format(module=verb, name=STEPS[verb])
    with subprocess.Popen(
        [sys.executable, "-c", program, verb, *map(str, words)], env=cli.environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        assert bool(list(place.iterdir())) == (verb == "save")
        process.send_signal(number)
    assert process.returncode == 128 + number
    assert list(place.iterdir()) == []
