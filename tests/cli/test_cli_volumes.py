"""The verb ``volume``, and volumes among the flags of ``run``."""

import json
import os

import pytest


def test_a_volume_from_its_making_to_its_end(cli):
    assert cli.text("volume", "ls") == "DRIVER    VOLUME NAME\n"
    assert cli.text("volume", "create", "--label", "tier=db", "--label", "kept", "shelf") == "shelf\n"
    assert cli.text("volume", "create", "shelf") == "shelf\n"
    unnamed = cli.text("volume", "create").strip()
    assert len(unnamed) == 64
    lines = cli.text("volume", "ls").splitlines()[1:]
    assert [line.split() for line in lines] == sorted([["local", "shelf"], ["local", unnamed]])
    cli("run", "--rm", "-v", "shelf:/data", "host", "sh", "-c", "echo kept >/data/file")
    assert cli.text("run", "--rm", "-v", "shelf:/data:ro", "host", "cat", "/data/file") == "kept\n"
    [found] = json.loads(cli.text("volume", "inspect", "shelf"))
    assert found["Name"] == "shelf"
    assert found["Driver"] == found["Scope"] == "local"
    assert found["Labels"] == {"tier": "db", "kept": ""}
    assert found["CreatedAt"].endswith(" UTC")
    assert os.listdir(found["Mountpoint"]) == ["file"]
    assert cli.text("volume", "rm", "shelf", unnamed) == f"shelf\n{unnamed}\n"
    assert not os.path.exists(found["Mountpoint"])
    assert cli.text("volume", "ls", "-q") == ""


def test_what_is_not_there(cli):
    assert "no volume named 'none'" in cli.error("volume", "rm", "none", status=1)
    assert cli.text("volume", "rm", "-f", "none") == "none\n"
    done = cli("volume", "inspect", "none", status=1)
    assert json.loads(done.stdout) == []
    assert b"no volume named 'none'" in done.stderr


def test_a_volume_in_use(cli):
    identity = cli.text("run", "-d", "-v", "shelf:/data", "host", "sleep", "300").strip()
    assert identity[:12] in cli.error("volume", "rm", "shelf", status=1)
    assert identity[:12] in cli.error("volume", "rm", "-f", "shelf", status=1)
    [found] = json.loads(cli.text("inspect", identity))
    [mount] = found["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == ("volume", "shelf", "/data", True)
    cli("rm", "-f", "-v", identity)
    assert cli.text("volume", "ls", "-q") == "shelf\n"
    cli("volume", "rm", "shelf")


def test_without_a_name(cli):
    identity = cli.text("run", "-d", "-v", "/data", "host", "sleep", "300").strip()
    [name] = cli.text("volume", "ls", "-q").split()
    assert len(name) == 64
    cli("rm", "-f", identity)
    assert cli.text("volume", "ls", "-q") == ""


def test_filters_and_formats(cli):
    cli("volume", "create", "--label", "tier=db", "alpha")
    cli("volume", "create", "beta")
    cli("run", "-d", "-v", "beta:/data", "host", "sleep", "300")

    def names(*words):
        return cli.text("volume", "ls", "-q", *words).split()

    assert names() == ["alpha", "beta"]
    assert names("-f", "name=alp") == names("-f", "label=tier=db") == names("-f", "label=tier") == ["alpha"]
    assert names("-f", "dangling=true") == ["alpha"]
    assert names("-f", "dangling=false") == ["beta"]
    assert names("-f", "name=alpha", "-f", "name=beta") == ["alpha", "beta"]
    assert names("-f", "driver=nfs") == []
    [row] = map(json.loads, cli.text("volume", "ls", "-f", "name=alpha", "--format", "json").splitlines())
    assert (row["Driver"], row["Name"], row["Labels"]) == ("local", "alpha", "tier=db")
    assert "give name=value" in cli.error("volume", "ls", "-f", "colour=red", status=2)
    assert "give true or false" in cli.error("volume", "ls", "-f", "dangling=maybe", status=2)


@pytest.mark.parametrize("words", [["a"], ["-x-"], ["a/b"], ["a" * 256]])
def test_names_that_cannot_be(cli, words):
    assert "a volume's name" in cli.error("volume", "create", "--", *words, status=1)


def test_a_driver_that_there_is_not(cli):
    assert "--driver" in cli.error("volume", "create", "-d", "nfs", "shelf", status=2)


def test_mounts_by_flags(cli, tmp_path):
    (tmp_path / "file").write_text("bound\n")
    mounts = ["--mount", "type=volume,source=shelf,target=/data,volume-nocopy"]
    mounts += ["--mount", f"type=bind,source={tmp_path},target=/in,readonly,bind-propagation=rprivate"]
    mounts += ["-v", f"{tmp_path}:/again:ro,idmap"]
    script = "cat /in/file /again/file; touch /data/made; touch /in/x 2>/dev/null || echo ro"
    assert cli.text("run", "--rm", *mounts, "host", "sh", "-c", script) == "bound\nbound\nro\n"
    [found] = json.loads(cli.text("volume", "inspect", "shelf"))
    assert os.listdir(found["Mountpoint"]) == ["made"]


def test_the_verb_explains_itself(cli):
    listed = cli.text("volume", "--help").partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == ["create", "inspect", "ls", "prune", "rm", "snapshot"]
    for verb in ("create", "inspect", "ls", "rm"):
        assert cli.text("volume", verb, "--help").startswith(f"Usage: pylxc volume {verb} ")
    assert "No such command" in cli.error("volume", "colour", status=2)


def test_snapshots_and_prune(cli):
    cli("run", "--rm", "-v", "shelf:/data", "host", "sh", "-c", "echo kept >/data/file")
    assert cli.text("volume", "snapshot", "shelf", "before") == "before\n"
    assert cli.text("volume", "snapshot", "--label", "keep=", "shelf", "kept") == "kept\n"
    assert cli.text("run", "--rm", "-v", "before:/data:ro", "host", "cat", "/data/file") == "kept\n"
    assert "before: there is a volume of this name" in cli.error("volume", "snapshot", "shelf", "before", status=1)
    cli("run", "-d", "--name", "user", "-v", "shelf:/data", "host", "sleep", "300")
    assert cli.text("volume", "prune", "-f") == "Total reclaimed space: 0B\n"  # none of them is anonymous
    assert "until" in cli.error("volume", "prune", "-f", "--filter", "until=1h", status=2)
    lines = cli.text("volume", "prune", "-f", "-a", "--filter", "label!=keep").splitlines()
    assert lines[:3] == ["Deleted Volumes:", "before", ""]
    assert lines[3].startswith("Total reclaimed space: ")
    assert cli.text("volume", "ls", "-q").split() == ["kept", "shelf"]
    cli("rm", "-f", "user")
    assert cli.text("volume", "prune", "-fa").split()[2:4] == ["kept", "shelf"]
