"""What ``build`` gives to RUN steps beside the image: secrets, agents, rights."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def context(tmp_path):
    """A build context that shows the secrets "a" and "b"."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        "FROM host\nRUN --mount=type=secret,id=a,env=A --mount=type=secret,id=b,required "
        "echo a=$A b=$(cat /run/secrets/b).\n"
    )
    return directory


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "a,secret file"
    path.write_text("of-a-file")
    return path


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (['id=b,"src={path}"'], "a= b=of-a-file."),
        (['type=file,id=b,"source={path}"', "id=a,env=VALUE"], "a=of-the-environment b=of-a-file."),
        (['"src={path}",id=b', "type=env,id=a,src=VALUE"], "a=of-the-environment b=of-a-file."),
        (["id=b,env=VALUE", "id=a,type=env,env=VALUE"], "a=of-the-environment b=of-the-environment."),
        (["id=b"], "a= b=of-its-own-name."),
    ],
)
def test_secrets(cli, context, secret, given, seen):
    cli.environment.update(VALUE="of-the-environment", b="of-its-own-name")
    words = [word for text in given for word in ("--secret", text.format(path=secret))]
    done = cli("build", *words, context)
    assert f" {seen}\n" in done.stderr.decode()


def test_secrets_that_cannot_be(cli, context, tmp_path):
    for text in ("src=x", "id=b,src=x,env=Y", "id=b,other=x", "id=b,type=magic", ""):
        assert (
            "give id=NAME,src=FILE or id=NAME,env=VARIABLE"
            in cli("build", "--secret", text, context, status=2).stderr.decode()
        )
    message = cli.error("build", "--secret", "id=b,src=/nowhere/canary", context, status=1)
    assert "secrets='b': its file cannot be read (No such file or directory)" in message
    assert "canary" not in message
    assert "give secrets=" in cli.error("build", "-q", context, status=1)
    assert "--secret id=b,src=FILE" in cli.error("build", "-q", context, status=1)


def test_agents_and_rights(cli, context, tmp_path):
    (context / "Dockerfile").write_text(
        "FROM host\nRUN --mount=type=ssh --mount=type=ssh,id=x test -S $SSH_AUTH_SOCK && ls /run/buildkit\n"
        "RUN --security=insecure true\n"
    )
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        cli.environment["SSH_AUTH_SOCK"] = str(tmp_path / "agent")
        words = ["build", "--ssh", "default", "--ssh", f"x={tmp_path}/agent"]
        assert "line 3 asks for RUN --security=insecure" in cli.error(*words, context, status=1)
        done = cli(*words, "--allow", "security.insecure", context)
    assert " ssh_agent.0\n" in done.stderr.decode()
    assert " ssh_agent.1\n" in done.stderr.decode()
